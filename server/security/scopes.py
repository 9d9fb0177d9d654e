"""The one table of which right each method needs. Pure; a method that is not in it needs the narrowest right."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Scope(StrEnum):
    """What a method needs; what a token gives is INFER or ADMIN, and ADMIN includes INFER."""

    OPEN = "open"  # everybody who can connect: probes have no token
    INFER = "infer"
    ADMIN = "admin"


_TABLE: Mapping[Scope, Mapping[str, tuple[str, ...]]] = {
    Scope.OPEN: {
        "grpc.health.v1.Health": ("Check", "Watch"),
        "inference.GRPCInferenceService": ("ServerLive", "ServerReady", "ModelReady"),
    },
    Scope.INFER: {
        "cifarserve.v1.ClassifierService": ("Predict", "PredictStream", "ListModels", "GetModel"),
        "grpc.health.v1.Health": ("List",),
        "grpc.reflection.v1.ServerReflection": ("ServerReflectionInfo",),
        "grpc.reflection.v1alpha.ServerReflection": ("ServerReflectionInfo",),
        "inference.GRPCInferenceService": (
            "ServerMetadata",
            "ModelMetadata",
            "ModelInfer",
            "ModelStreamInfer",
            "ModelConfig",
            "ModelStatistics",
            "RepositoryIndex",
        ),
    },
    Scope.ADMIN: {
        "cifarserve.v1.ModelAdminService": ("ListVersions", "Load", "Unload", "Rollback", "Unpin", "Reload"),
        "inference.GRPCInferenceService": ("RepositoryModelLoad", "RepositoryModelUnload"),
    },
}

# By the name that gRPC gives a method: /package.Service/Method.
SCOPES: Mapping[str, Scope] = MappingProxyType(
    {
        f"/{service}/{method}": scope
        for scope, services in _TABLE.items()
        for service, methods in services.items()
        for method in methods
    }
)


def scope_of(method: str) -> Scope:
    """Return what a method needs, by its full name; ADMIN when nobody thought of it."""
    return SCOPES.get(method, Scope.ADMIN)
