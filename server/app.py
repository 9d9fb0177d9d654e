"""One server's life: load, serve until a signal, drain. Everything is put together here."""

import asyncio
import gc
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import structlog
from grpc_health.v1.health import aio as health_aio
from PIL import Image

from models.repository import Repository
from server.admin import ModelAdminServicer
from server.catalog import Catalog
from server.cpus import usable_cpus
from server.decoding import Decoder
from server.door import NOT_SERVING, SERVING, Servicers, listening
from server.engines import EngineInfo
from server.engines.local import Death, LocalEngine, LocalEngineSettings
from server.engines.processes import EngineProcesses
from server.engines.restarting import RestartingEngine
from server.errors import EngineDied
from server.images import ImageLimits
from server.metrics import Metrics
from server.open_inference.servicer import OpenInferenceServicer
from server.operations import Operations
from server.prediction import Predictor
from server.roles import Role
from server.security.protection import protection
from server.served import BatchLimits
from server.servicer import ClassifierServicer
from server.settings import ServerSettings
from server.stopping import Stop
from server.streams import Streams
from server.telemetry.observer import observing

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
    catalog = _catalog(settings, stop, processes, metrics, health)
    with role.showing(metrics) as metrics_address, _decoder(settings) as decoder:
        streams = Streams()
        servicers = _servicers(settings, catalog, Predictor(decoder, metrics), streams, health)
        async with (
            protection(settings, metrics) as protected,
            observing(settings, metrics) as observer,
            listening(settings, servicers, metrics, protected=protected, observer=observer, role=role) as door,
            processes,
            catalog,
        ):
            await door.set_health(SERVING)
            _collect_garbage_rarely()
            role.say_ready(address=f"{settings.host}:{door.port}", metrics=metrics_address)
            await stop.wait()
            await door.drain(streams, settings)
    _log.info("stopped")
    if stop.failure:
        raise EngineDied(stop.failure)


def _catalog(
    settings: ServerSettings,
    stop: Stop,
    processes: EngineProcesses,
    metrics: Metrics,
    health: health_aio.HealthServicer,
) -> Catalog:
    async def set_model_health(model: str, ready: bool) -> None:  # noqa: FBT001  # a callback's signature
        await health.set(f"model/{model}", SERVING if ready else NOT_SERVING)

    return Catalog(
        settings.repository,
        default_model=settings.default_model,
        make_engine=_engine_factory(settings, stop, processes, metrics, quiet=False),
        make_quiet_engine=_engine_factory(settings, stop, processes, metrics, quiet=True),
        limits=_limits(settings),
        metrics=metrics,
        control=settings.model_control,
        poll_interval_seconds=settings.poll_interval_seconds,
        on_ready=set_model_health,
        on_failure=lambda reason: stop.request(failure=reason),
    )


def _servicers(
    settings: ServerSettings,
    catalog: Catalog,
    predictor: Predictor,
    streams: Streams,
    health: health_aio.HealthServicer,
) -> Servicers:
    operations = Operations(catalog, Repository(settings.repository))
    limits, max_images = _limits(settings), settings.max_images_per_request
    return Servicers(
        ClassifierServicer(catalog, predictor, streams, max_images=max_images),
        ModelAdminServicer(operations),
        OpenInferenceServicer(catalog, operations, predictor, streams, health, limits=limits, max_images=max_images),
        health,
    )


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
