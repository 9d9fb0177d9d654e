"""One server's life: bind, load, serve until a signal, drain. Everything is put together here."""

import asyncio
import contextlib
import gc
import warnings
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import structlog
from grpc_channelz.v1 import channelz, channelz_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection
from PIL import Image

from cifarserve.inference import open_inference_pb2, open_inference_pb2_grpc
from cifarserve.v1 import admin_pb2, admin_pb2_grpc, classifier_pb2, classifier_pb2_grpc
from models.repository import Repository
from server.admin import ModelAdminServicer
from server.admission import Admission
from server.catalog import Catalog
from server.cpus import usable_cpus
from server.decoding import Decoder
from server.engines import EngineInfo
from server.engines.local import Death, LocalEngine, LocalEngineSettings
from server.engines.processes import EngineProcesses
from server.engines.restarting import RestartingEngine
from server.errors import EngineDied
from server.images import ImageLimits
from server.interceptor import StatusInterceptor
from server.metrics import Metrics
from server.open_inference.servicer import OpenInferenceServicer
from server.operations import Operations
from server.ports import cannot_listen
from server.prediction import Predictor
from server.roles import Role
from server.security.protection import Protection, protection
from server.served import BatchLimits
from server.servicer import ClassifierServicer
from server.settings import ServerSettings
from server.stopping import Stop
from server.streams import Streams
from server.telemetry.observer import Observer, observing

SERVICE = classifier_pb2.DESCRIPTOR.services_by_name["ClassifierService"].full_name
ADMIN_SERVICE = admin_pb2.DESCRIPTOR.services_by_name["ModelAdminService"].full_name
OPEN_INFERENCE_SERVICE = open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
CHANNELZ_SERVICE = channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name
_SERVICES = (SERVICE, ADMIN_SERVICE, OPEN_INFERENCE_SERVICE)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_PACKAGES = (classifier_pb2.DESCRIPTOR.package, open_inference_pb2.DESCRIPTOR.package)
_GC_THRESHOLDS = (50_000, 20, 20)  # by default there was a search every 18 requests

_log = structlog.get_logger(__name__)


async def serve(settings: ServerSettings, role: Role) -> None:
    """Serve until the role says that it is time to end, then drain and return.

    Raises:
        StartError: the server cannot start as `settings` say.
        EngineDied: an engine cannot go on; what could be answered was.
    """
    # Pictures with too many pixels are refused by name in `server.images`; Pillow need not warn too.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    stop = Stop()
    role.obey(stop)
    # Files are read one after the other; a pool of more threads would add them at moments that nobody can foresee.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1, thread_name_prefix="files"))
    metrics = Metrics(is_shared=role.is_shared)
    processes = EngineProcesses()
    health = health_aio.HealthServicer()

    async def set_model_health(model: str, ready: bool) -> None:  # noqa: FBT001  # a callback's signature
        await health.set(f"model/{model}", SERVING if ready else NOT_SERVING)

    limits = _limits(settings)
    catalog = Catalog(
        settings.repository,
        default_model=settings.default_model,
        make_engine=_engine_factory(settings, stop, processes, metrics, quiet=False),
        make_quiet_engine=_engine_factory(settings, stop, processes, metrics, quiet=True),
        limits=limits,
        metrics=metrics,
        control=settings.model_control,
        poll_interval_seconds=settings.poll_interval_seconds,
        on_ready=set_model_health,
        on_failure=lambda reason: stop.request(failure=reason),
    )
    with role.showing(metrics) as metrics_address, _decoder(settings) as decoder:
        predictor, streams = Predictor(decoder, metrics), Streams()
        operations = Operations(catalog, Repository(settings.repository))
        max_images = settings.max_images_per_request
        servicers = _Servicers(
            ClassifierServicer(catalog, predictor, streams, max_images=max_images),
            ModelAdminServicer(operations),
            OpenInferenceServicer(
                catalog, operations, predictor, streams, health, limits=limits, max_images=max_images
            ),
            health,
        )
        async with (
            protection(settings, metrics) as protected,
            observing(settings, metrics) as observer,
            _listening(settings, servicers, metrics, protected=protected, observer=observer, role=role) as door,
            processes,
            catalog,
        ):
            await door.set_health(SERVING)
            _collect_garbage_rarely()
            role.say_ready(address=f"{settings.host}:{door.port}", metrics=metrics_address)
            await stop.wait()
            await _drain(door, streams, settings)
    _log.info("stopped")
    if stop.failure:
        raise EngineDied(stop.failure)


@dataclass(frozen=True)
class _Servicers:
    """Who answers the RPCs of each service."""

    classifier: ClassifierServicer
    admin: ModelAdminServicer
    open_inference: OpenInferenceServicer
    health: health_aio.HealthServicer


@dataclass(frozen=True)
class _Door:
    """The gRPC server, its port, and its health service."""

    server: grpc.aio.Server
    port: int
    health: health_aio.HealthServicer
    admission: Admission

    async def set_health(self, status: int) -> None:
        """Set the health of the server and of each service; a model's own is set when it begins to answer."""
        for name in ("", *_SERVICES):
            await self.health.set(name, status)


@contextlib.asynccontextmanager
async def _listening(
    settings: ServerSettings,
    servicers: _Servicers,
    metrics: Metrics,
    *,
    protected: Protection,
    observer: Observer | None,
    role: Role,
) -> AsyncIterator[_Door]:
    """Answer RPCs inside; health says NOT_SERVING until it is told otherwise."""
    admission = Admission()
    metrics.watch_rpcs(lambda: admission.inside)
    server = grpc.aio.server(
        interceptors=[
            StatusInterceptor(
                metrics,
                admission,
                packages=_PACKAGES,
                gate=protected.gate,
                limit=protected.limit,
                observer=observer,
            )
        ],
        options=[
            ("grpc.so_reuseport", int(role.is_shared)),  # alone: a taken port is an error, not a silent share
            ("grpc.max_receive_message_length", settings.max_message_bytes),
        ],
    )
    classifier_pb2_grpc.add_ClassifierServiceServicer_to_server(servicers.classifier, server)
    admin_pb2_grpc.add_ModelAdminServiceServicer_to_server(servicers.admin, server)
    open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicers.open_inference, server)
    health_pb2_grpc.add_HealthServicer_to_server(servicers.health, server)
    further = [HEALTH_SERVICE, reflection.SERVICE_NAME]
    if settings.channelz:
        channelz.add_channelz_servicer(server)
        further.append(CHANNELZ_SERVICE)
    reflection.enable_server_reflection((*_SERVICES, *further), server)
    door = _Door(server, _bind(server, settings, protected), servicers.health, admission)
    await door.set_health(NOT_SERVING)
    await server.start()
    _log.info("listening", address=f"{settings.host}:{door.port}", tls=protected.credentials is not None)
    try:
        yield door
    finally:
        await server.stop(0)


def _bind(server: grpc.aio.Server, settings: ServerSettings, protected: Protection) -> int:
    address = f"{settings.host}:{settings.port}"
    try:
        if protected.credentials:
            return server.add_secure_port(address, protected.credentials)
        return server.add_insecure_port(address)
    except RuntimeError as exc:
        raise cannot_listen(settings.host, settings.port) from exc


async def _drain(door: _Door, streams: Streams, settings: ServerSettings) -> None:
    """Say NOT_SERVING, serve on for the drain delay, then refuse new work and answer what was accepted."""
    _log.info("draining", delay_seconds=settings.drain_delay_seconds, timeout_seconds=settings.drain_timeout_seconds)
    await door.health.enter_graceful_shutdown()
    await asyncio.sleep(settings.drain_delay_seconds)
    streams.drain()
    if not await door.admission.drain(timeout_seconds=settings.drain_timeout_seconds):
        _log.warning("the drain took too long", cut_off_rpcs=door.admission.inside)


def _limits(settings: ServerSettings) -> BatchLimits:
    return BatchLimits(
        max_batch_size=settings.max_batch_size,
        max_queue_delay_seconds=settings.max_queue_delay_ms / 1000,
        max_queue_items=settings.max_queue_items,
        max_queue_bytes=settings.max_queue_mib * 2**20,
        max_stall_seconds=settings.max_stall_seconds,
        lanes=_lanes(settings),
    )


def _decoder(settings: ServerSettings) -> Decoder:
    return Decoder(
        threads=settings.decode_threads or _cpus(settings),
        limits=ImageLimits(max_bytes=settings.max_message_bytes, max_pixels=settings.max_image_pixels),
    )


def _collect_garbage_rarely() -> None:
    """Spare requests the search for cycles: they leave hardly any, and what the start has made stays for good."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def _lanes(settings: ServerSettings) -> int:
    return settings.lanes or _cpus(settings)


def _cpus(settings: ServerSettings) -> int:
    """Return this process's share of the CPUs; `--workers` share them without fighting."""
    return max(1, usable_cpus() // settings.workers)


def _engine_factory(
    settings: ServerSettings, stop: Stop, processes: EngineProcesses, metrics: Metrics, *, quiet: bool
) -> Callable[[Path], RestartingEngine]:
    def make(folder: Path) -> RestartingEngine:
        model = folder.parent.name
        engine_settings = LocalEngineSettings(
            folder=str(folder),
            device=settings.device,
            precision=settings.precision,
            compile=settings.compile,
            lanes=_lanes(settings),
            max_batch_size=settings.max_batch_size,
            log_format=settings.log_format,
            log_level=settings.log_level,
            quiet=quiet,
        )

        def make_one(on_death: Callable[[Death], None], measured: EngineInfo | None) -> LocalEngine:
            again = measured is not None  # callers wait for a process that replaces one that died
            settings_of_one = replace(engine_settings, quiet=quiet and not again)
            return LocalEngine(settings_of_one, processes, on_death=on_death, measured=measured)

        return RestartingEngine(
            make_one,
            on_restart=metrics.engine_restarts.labels(model).inc,
            on_failure=lambda reason: stop.request(failure=f"the engine of model {model!r} failed: {reason}"),
        )

    return make
