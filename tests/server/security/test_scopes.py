import pytest
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from cifarserve.v1 import admin_pb2, classifier_pb2
from server.security.scopes import SCOPES, Scope, scope_of


@pytest.mark.parametrize(
    "file", [classifier_pb2.DESCRIPTOR, admin_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR]
)
def test_every_method_is_in_the_table(file: FileDescriptor) -> None:
    """A new method of what the server serves cannot be forgotten in the table."""
    for service in file.services_by_name.values():
        for method in service.methods:
            assert f"/{service.full_name}/{method.name}" in SCOPES


def test_whatever_changes_what_is_served_needs_admin() -> None:
    """Both doors' methods for operators are for operators."""
    admin = {method for method, scope in SCOPES.items() if scope is Scope.ADMIN}

    assert {f"/cifarserve.v1.ModelAdminService/{name}" for name in ("Load", "Unload", "Rollback", "Reload")} <= admin
    assert {f"/inference.GRPCInferenceService/RepositoryModel{name}" for name in ("Load", "Unload")} <= admin


@pytest.mark.parametrize("method", ["/grpc.channelz.v1.Channelz/GetServers", "/nobody.Knows/This", ""])
def test_unknown_methods_need_the_narrowest_right(method: str) -> None:
    """What nobody thought of is for administrators alone."""
    assert scope_of(method) is Scope.ADMIN


def test_probes_need_no_token() -> None:
    """Orchestrators that ask for health have none."""
    assert scope_of("/grpc.health.v1.Health/Check") is Scope.OPEN
    assert scope_of("/grpc.health.v1.Health/Watch") is Scope.OPEN
