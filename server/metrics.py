"""Prometheus metrics: what is counted, and the page that shows it. Seconds, with buckets from 50 microseconds."""

import bisect
import collections
import contextlib
import errno
import functools
import itertools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from server.batches import BatchRecord
from server.errors import StartError

# A lone picture takes about a millisecond; the usual buckets would put every request into the first.
_SECONDS = (
    0.00005, 0.0001, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075,
    0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
)  # fmt: skip
_LOAD_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0)
_BATCH_SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024, 2048, 4096)


class PredictRecord(NamedTuple):
    """What is counted of one predict request: the best label of each answered picture, and where time went.

    `confidence` is the sum of these labels' probabilities. `invalid` pictures could not be read, on `failed`
    ones the model failed.
    """

    model: str
    version: int
    labels: list[str]
    confidence: float
    invalid: int
    failed: int
    decode_seconds: float
    total_seconds: float
    queue_seconds: float = 0.0
    compute_seconds: float = 0.0


class ServedInfo(NamedTuple):
    """Which version answers, and how it computes."""

    version: int
    digest: str
    device: str
    precision: str
    layout: str


class ManyHistogram(Histogram):
    """A histogram that many durations can be counted in at once; one by one they cost three times as much."""

    def observe_all(self, amounts: Sequence[float]) -> None:
        """Do what `observe` does for each of `amounts`."""
        self._sum.inc(sum(amounts))
        bounds = self._upper_bounds
        for place, count in collections.Counter([bisect.bisect_left(bounds, amount) for amount in amounts]).items():
            self._buckets[place].inc(count)


class Metrics:
    """All metrics of one server process, in a registry of their own.

    When they are shared, several processes write into the files of PROMETHEUS_MULTIPROC_DIR, which must
    be set before this module is imported; see `workers_registry`.
    """

    def __init__(self, *, is_shared: bool = False) -> None:
        self._is_shared = is_shared
        self._watched: dict[Gauge, Callable[[], float]] = {}
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.requests = Counter(
            "cifarserve_requests", "RPCs by method and status code", ("method", "code"), registry=self.registry
        )
        self.request_seconds = ManyHistogram(
            "cifarserve_request_seconds", "Whole RPCs", ("method",), buckets=_SECONDS, registry=self.registry
        )
        self.stage_seconds = ManyHistogram(
            "cifarserve_stage_seconds",
            "Where a predict request's time went: decode, queue, compute, total",
            ("stage",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "cifarserve_batch_size", "Images per forward pass", ("model",), buckets=_BATCH_SIZES, registry=self.registry
        )
        self.batches = Counter(
            "cifarserve_batches",
            "Forward passes by why the batch left: full, idle, delay, deadline, drain, split",
            ("model", "reason"),
            registry=self.registry,
        )
        self.executed_images = Counter(
            "cifarserve_executed_images",
            "Images given to forward passes; those of a batch that failed once more for each part of it",
            ("model",),
            registry=self.registry,
        )
        self.failed_batches = Counter(
            "cifarserve_failed_batches",
            "Forward passes without results by why: error, out_of_memory, lost (the engine's process ended)",
            ("model", "cause"),
            registry=self.registry,
        )
        self.engine_restarts = Counter(
            "cifarserve_engine_restarts",
            "Engines' processes that ended by themselves and were started again",
            ("model",),
            registry=self.registry,
        )
        self.rpcs_inside = Gauge(
            "cifarserve_rpcs_inside",
            "RPCs that were let in and are not finished",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.queue_items = Gauge(
            "cifarserve_queue_items",
            "Images that wait for the engine",
            ("model",),
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.images = Counter(
            "cifarserve_images",
            "Images by outcome: answered, invalid, or failed by the model",
            ("model", "version", "outcome"),
            registry=self.registry,
        )
        self.predictions = Counter(
            "cifarserve_predictions", "Images by most probable label", ("model", "label"), registry=self.registry
        )
        self.confidence = Counter(
            "cifarserve_confidence",
            "Probabilities of the most probable labels, added up; over cifarserve_predictions: the mean confidence",
            ("model",),
            registry=self.registry,
        )
        self.model_info = Gauge(
            "cifarserve_model_info",
            "1 for each model that is being served",
            ("model", "version", "digest", "device", "precision", "layout"),
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self.pass_seconds = Gauge(
            "cifarserve_pass_seconds",
            "What a forward pass cost when the model was loaded, nothing else under way",
            ("model", "batch_size"),
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self.model_loads = Counter(
            "cifarserve_model_loads", "Versions loaded: success, or failure", ("outcome",), registry=self.registry
        )
        self.model_load_failures = Counter(
            "cifarserve_model_load_failures",
            "Versions refused by what is wrong: unreadable, card, digest, format, architecture, not_finite, engine",
            ("model", "reason"),
            registry=self.registry,
        )
        self.model_load_seconds = Histogram(
            "cifarserve_model_load_seconds",
            "From the decision to load a version to its first answer",
            ("model",),
            buckets=_LOAD_SECONDS,
            registry=self.registry,
        )
        self.model_version = Gauge(
            "cifarserve_model_version",
            "The version that answers, of several workers' the lowest; 0: none",
            ("model",),
            registry=self.registry,
            multiprocess_mode="livemin",
        )
        self.model_swaps = Counter(
            "cifarserve_model_swaps",
            "Times that a version took the place of another",
            ("model",),
            registry=self.registry,
        )
        self.certificate_expiry = Gauge(
            "cifarserve_certificate_expiry_timestamp_seconds",
            "When the server's TLS certificate expires, in Unix time; of several workers' the first",
            ("file",),
            registry=self.registry,
            multiprocess_mode="livemin",
        )
        self.credential_reads = Counter(
            "cifarserve_credential_reads",
            "Times that tokens or certificates were read from their files: used, or refused and the last ones kept",
            ("kind", "outcome"),
            registry=self.registry,
        )
        self.lost_access_lines = Counter(
            "cifarserve_lost_access_lines",
            "Lines of the access log that were thrown away: too many waited, or they could not be written",
            registry=self.registry,
        )

        # Looking up a metric by its labels costs more than counting: what every request counts is looked up once.
        self._decode_seconds, self._queue_seconds, self._compute_seconds, self._total_seconds = map(
            self.stage_seconds.labels, ("decode", "queue", "compute", "total")
        )
        self._prediction = functools.cache(self.predictions.labels)
        self._confidence = functools.cache(self.confidence.labels)
        self._image = functools.cache(self.images.labels)

    def observe_predicts(self, records: Sequence[PredictRecord]) -> None:
        """Count answered predict requests."""
        self._decode_seconds.observe_all([record.decode_seconds for record in records])
        self._total_seconds.observe_all([record.total_seconds for record in records])
        for (model, version), group in itertools.groupby(records, operator.attrgetter("model", "version")):
            self._count_images(model, version, list(group))

    def _count_images(self, model: str, version: int, records: Sequence[PredictRecord]) -> None:
        labels = collections.Counter(itertools.chain.from_iterable([record.labels for record in records]))
        for label, count in labels.items():
            self._prediction(model, label).inc(count)
        if labels:
            self._confidence(model).inc(sum([record.confidence for record in records]))
            self._image(model, version, "answered").inc(labels.total())
        if invalid := sum([record.invalid for record in records]):
            self._image(model, version, "invalid").inc(invalid)
        if failed := sum([record.failed for record in records]):
            self._image(model, version, "failed").inc(failed)

    def observe_batch(self, model: str, record: BatchRecord) -> None:
        """Count a forward pass."""
        self.executed_images.labels(model).inc(record.size)
        if record.failure:
            self.failed_batches.labels(model, record.failure).inc()
            return
        self.batch_size.labels(model).observe(record.size)
        self.batches.labels(model, record.reason).inc()
        self._compute_seconds.observe(record.compute_seconds)
        self._queue_seconds.observe_all(record.queue_seconds)

    def observe_credentials(self, kind: str, *, usable: bool) -> None:
        """Count that tokens or certificates were read from their files."""
        self.credential_reads.labels(kind, "used" if usable else "refused").inc()

    def observe_swap(self, model: str, *, old: ServedInfo | None, new: ServedInfo | None) -> None:
        """Show which version answers from now on; None: none."""
        if old:
            self.model_info.labels(model, *old).set(0)
            self._remove(self.model_info, model, *old)
        if new:
            self.model_info.labels(model, *new).set(1)
        self.model_version.labels(model).set(new.version if new else 0)
        self.model_swaps.labels(model).inc(bool(old and new))  # from 0 on, or the first would be no increase

    def show_costs(self, model: str, batch_seconds: Mapping[int, float]) -> None:
        """Show what the version that answers from now on was measured to cost."""
        for size, seconds in batch_seconds.items():
            self.pass_seconds.labels(model, size).set(seconds)

    def forget(self, model: str) -> None:
        """Show nothing more of a model that is gone."""
        self._watched.pop(self.queue_items.labels(model), None)
        for gauge in (self.model_version, self.queue_items):
            gauge.labels(model).set(0)
            self._remove(gauge, model)
        if not self._is_shared:
            self.pass_seconds.remove_by_labels({"model": model})

    def watch_queue(self, model: str, items: Callable[[], float]) -> None:
        """Read the length of a model's queue whenever the page is fetched, or `write_watched` is called."""
        self._watch(self.queue_items.labels(model), items)

    def watch_rpcs(self, inside: Callable[[], float]) -> None:
        """Read the number of RPCs inside whenever the page is fetched, or `write_watched` is called."""
        self._watch(self.rpcs_inside, inside)

    def write_watched(self) -> None:
        """Write what is watched where the other processes' page finds it; needed when metrics are shared."""
        for gauge, read in self._watched.items():
            gauge.set(read())

    def _watch(self, gauge: Gauge, read: Callable[[], float]) -> None:
        if self._is_shared:  # another process serves the page, and cannot call a function of this one
            self._watched[gauge] = read
        else:
            gauge.set_function(read)

    def _remove(self, gauge: Gauge, *labels: object) -> None:
        if not self._is_shared:  # from a file nothing can be removed
            gauge.remove(*labels)


def workers_registry(folder: str) -> CollectorRegistry:
    """Return the metrics of all processes that were started with PROMETHEUS_MULTIPROC_DIR=`folder`, added up."""
    registry = CollectorRegistry()
    registry.register(_WorkersCollector(folder))
    return registry


def forget_worker(folder: str, pid: int) -> None:
    """Leave out the gauges of a process that has ended; what it counted stays."""
    mark_process_dead(pid, path=folder)  # type: ignore[no-untyped-call]


class _WorkersCollector(Collector):
    """Leaves out versions that answer no more, which no process can remove from its file."""

    def __init__(self, folder: str) -> None:
        self._files = MultiProcessCollector(None, path=folder)  # type: ignore[no-untyped-call]

    def collect(self) -> Iterator[Metric]:
        """Return what the page shows."""
        for metric in self._files.collect():  # type: ignore[no-untyped-call]
            if metric.name == "cifarserve_model_info":
                metric.samples = [sample for sample in metric.samples if sample.value]
            yield metric


@contextlib.contextmanager
def metrics_page(registry: CollectorRegistry, *, host: str, port: int) -> Iterator[str]:
    """Serve http://host:port/metrics from a thread of its own; yields the address, also when `port` is 0.

    Raises:
        StartError: the port is taken or the address is not this machine's.
    """
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as exc:
        fix = "; choose another --metrics-port" if exc.errno == errno.EADDRINUSE else ""
        raise StartError(f"metrics address {host}:{port}: {exc.strerror}{fix}") from exc
    try:
        yield f"http://{host}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
