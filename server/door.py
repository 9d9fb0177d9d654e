"""The gRPC server: its services, its port, its health, and how it drains. Knows servicers, and nothing behind them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
import structlog
from grpc_channelz.v1 import channelz, channelz_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from cifarserve.inference import open_inference_pb2, open_inference_pb2_grpc
from cifarserve.v1 import admin_pb2, admin_pb2_grpc, classifier_pb2, classifier_pb2_grpc
from server.admin import ModelAdminServicer
from server.admission import Admission
from server.grpc_threads import poller_beside_the_loop, without_interruptions
from server.interceptor import StatusInterceptor
from server.metrics import Metrics
from server.open_inference.servicer import OpenInferenceServicer
from server.ports import cannot_listen
from server.roles import Role
from server.security.protection import Protection
from server.servicer import ClassifierServicer
from server.settings import ServerSettings
from server.streams import Streams
from server.telemetry.observer import Observer

SERVICE = classifier_pb2.DESCRIPTOR.services_by_name["ClassifierService"].full_name
ADMIN_SERVICE = admin_pb2.DESCRIPTOR.services_by_name["ModelAdminService"].full_name
OPEN_INFERENCE_SERVICE = open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
CHANNELZ_SERVICE = channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name
_SERVICES = (SERVICE, ADMIN_SERVICE, OPEN_INFERENCE_SERVICE)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_PACKAGES = (classifier_pb2.DESCRIPTOR.package, open_inference_pb2.DESCRIPTOR.package)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Servicers:
    """Who answers the RPCs of each service."""

    classifier: ClassifierServicer
    admin: ModelAdminServicer
    open_inference: OpenInferenceServicer
    health: health_aio.HealthServicer


@dataclass(frozen=True)
class Door:
    """The gRPC server, its port, and its health service."""

    server: grpc.aio.Server
    port: int
    health: health_aio.HealthServicer
    admission: Admission

    async def set_health(self, status: int) -> None:
        """Set the health of the server and of each service; a model's own is set when it begins to answer."""
        for name in ("", *_SERVICES):
            await self.health.set(name, status)

    async def drain(self, streams: Streams, settings: ServerSettings) -> None:
        """Say NOT_SERVING, serve on for the drain delay, then refuse new work and answer what was accepted."""
        delay_seconds, timeout_seconds = settings.drain_delay_seconds, settings.drain_timeout_seconds
        _log.info("draining", delay_seconds=delay_seconds, timeout_seconds=timeout_seconds)
        await self.health.enter_graceful_shutdown()
        await asyncio.sleep(delay_seconds)
        streams.drain()
        if not await self.admission.drain(timeout_seconds=timeout_seconds):
            _log.warning("the drain took too long", cut_off_rpcs=self.admission.inside)


@contextlib.asynccontextmanager
async def listening(
    settings: ServerSettings,
    servicers: Servicers,
    metrics: Metrics,
    *,
    protected: Protection,
    observer: Observer | None,
    role: Role,
) -> AsyncIterator[Door]:
    """Answer RPCs inside; health says NOT_SERVING until it is told otherwise.

    Raises:
        StartError: the port is taken, or the address is not this machine's.
    """
    admission = Admission()
    metrics.watch_rpcs(lambda: admission.inside)
    interceptor = StatusInterceptor(
        metrics,
        admission,
        packages=_PACKAGES,
        gate=protected.gate,
        limit=protected.limit,
        observer=observer,
    )
    options = [
        ("grpc.so_reuseport", int(role.is_shared)),  # alone: a taken port is an error, not a silent share
        ("grpc.max_receive_message_length", settings.max_message_bytes),
    ]
    with without_interruptions():
        server = grpc.aio.server(interceptors=[interceptor], options=options)
        _add_services(server, servicers, with_channelz=settings.channelz)
        door = Door(server, _bind(server, settings, protected), servicers.health, admission)
        await door.set_health(NOT_SERVING)
        await server.start()
    _log.info("listening", address=f"{settings.host}:{door.port}", tls=protected.credentials is not None)
    try:
        async with poller_beside_the_loop():
            yield door
    finally:
        await server.stop(0)


def _add_services(server: grpc.aio.Server, servicers: Servicers, *, with_channelz: bool) -> None:
    classifier_pb2_grpc.add_ClassifierServiceServicer_to_server(servicers.classifier, server)
    admin_pb2_grpc.add_ModelAdminServiceServicer_to_server(servicers.admin, server)
    open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicers.open_inference, server)
    health_pb2_grpc.add_HealthServicer_to_server(servicers.health, server)
    further = [HEALTH_SERVICE, reflection.SERVICE_NAME]
    if with_channelz:
        channelz.add_channelz_servicer(server)
        further.append(CHANNELZ_SERVICE)
    reflection.enable_server_reflection((*_SERVICES, *further), server)


def _bind(server: grpc.aio.Server, settings: ServerSettings, protected: Protection) -> int:
    address = f"{settings.host}:{settings.port}"
    try:
        if protected.credentials:
            return server.add_secure_port(address, protected.credentials)
        return server.add_insecure_port(address)
    except RuntimeError as exc:
        raise cannot_listen(settings.host, settings.port) from exc
