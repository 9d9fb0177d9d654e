import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.batches import BatchRecord, DispatchReason, PassFailure
from server.metrics import Metrics, PredictRecord, forget_worker, metrics_page, workers_registry
from tests.server.process import ROOT

NAMES = (
    "cifarserve_requests_total",
    "cifarserve_request_seconds_bucket",
    'cifarserve_stage_seconds_bucket{le="0.0001",stage="queue"}',
    "cifarserve_batch_size_bucket",
    'cifarserve_batches_total{model="quick",reason="full"} 1.0',
    'cifarserve_executed_images_total{model="quick"} 5.0',
    'cifarserve_failed_batches_total{cause="error",model="quick"} 1.0',
    'cifarserve_engine_restarts_total{model="quick"} 1.0',
    "cifarserve_rpcs_inside 4.0",
    'cifarserve_queue_items{model="quick"} 3.0',
    'cifarserve_images_total{model="quick",outcome="answered",version="2"} 2.0',
    'cifarserve_predictions_total{label="cat",model="quick"} 2.0',
    'cifarserve_confidence_total{model="quick"} 1.5',
    "process_resident_memory_bytes",
)


def test_page_shows_what_was_counted() -> None:
    """The page has every metric under its published name."""
    metrics = Metrics()
    metrics.requests.labels("Predict", "OK").inc()
    metrics.request_seconds.labels("Predict").observe(0.001)
    metrics.observe_batch("quick", BatchRecord(2, DispatchReason.FULL, 0.001, (0.0,)))
    metrics.observe_batch("quick", BatchRecord(3, DispatchReason.FULL, 0.001, (0.0,), PassFailure.ERROR))
    metrics.engine_restarts.labels("quick").inc()
    metrics.rpcs_inside.set(4)
    metrics.observe_predicts(
        [
            PredictRecord(
                "quick", 2, ["cat", "cat"], confidence=1.5, invalid=1, failed=0, decode_seconds=0, total_seconds=0
            )
        ]
    )
    metrics.watch_queue("quick", lambda: 3)
    with metrics_page(metrics.registry, host="127.0.0.1", port=0) as address:
        page = urllib.request.urlopen(address).read().decode()  # noqa: S310  # a page of our own

    for name in NAMES:
        assert name in page


def test_requests_that_are_counted_together_are_all_counted() -> None:
    """Requests of several models and versions count as each of them would alone."""
    records = [
        PredictRecord("quick", 2, ["cat"], 0.5, invalid=0, failed=0, decode_seconds=1e-5, total_seconds=0.01),
        PredictRecord("quick", 3, ["cat", "dog"], 1.5, invalid=0, failed=1, decode_seconds=1e-5, total_seconds=0.02),
        PredictRecord("other", 1, [], 0.0, invalid=2, failed=0, decode_seconds=9.0, total_seconds=9.0),
        PredictRecord("quick", 2, ["dog"], 0.5, invalid=0, failed=0, decode_seconds=1e-5, total_seconds=0.001),
    ]
    together, alone = Metrics(), Metrics()

    together.observe_predicts(records)
    for record in records:
        alone.observe_predicts([record])

    names = ("cifarserve_stage", "cifarserve_images", "cifarserve_predictions", "cifarserve_confidence")
    assert _samples(together, *names) == pytest.approx(_samples(alone, *names))
    assert (
        together.registry.get_sample_value(
            "cifarserve_images_total", {"model": "quick", "version": "2", "outcome": "answered"}
        )
        == 2
    )


@given(st.lists(st.floats(0, 10) | st.sampled_from([0.00005, 0.001, 5.0]), min_size=1, max_size=30))
def test_many_durations_at_once_are_as_many_one_by_one(amounts: list[float]) -> None:
    """Each duration is in the bucket, and in the sum, in which the library would have put it."""
    at_once, one_by_one = Metrics(), Metrics()

    at_once.request_seconds.labels("Predict").observe_all(amounts)
    for amount in amounts:
        one_by_one.request_seconds.labels("Predict").observe(amount)

    name = "cifarserve_request_seconds"
    assert _samples(at_once, name) == pytest.approx(_samples(one_by_one, name))


# What a worker does; it prints its number, and ends when its input does.
WORKER = """
import os, sys
from server.metrics import Metrics, ServedInfo
metrics = Metrics(is_shared=True)
old, new = ServedInfo(1, "aa", "cpu", "bf16", "blocked"), ServedInfo(int(sys.argv[1]), "bb", "cpu", "bf16", "blocked")
metrics.observe_swap("quick", old=None, new=old)
metrics.observe_swap("quick", old=old, new=new)
metrics.requests.labels("Predict", "OK").inc(5)
metrics.request_seconds.labels("Predict").observe_all([0.001, 0.002])
metrics.watch_queue("quick", lambda: 3)
metrics.watch_queue("gone", lambda: 9)
metrics.write_watched()
metrics.forget("gone")
metrics.write_watched()
print(os.getpid(), flush=True)
sys.stdin.read()
"""


def test_page_of_several_processes_adds_up(tmp_path: Path) -> None:
    """What all processes counted is added; gauges are those of processes that live, and of versions that answer."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}", "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, version],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for version in ("2", "3")
    ]  # fmt: skip
    try:
        pids = [int(process.stdout.readline()) for process in processes if process.stdout]
        value = workers_registry(str(tmp_path)).get_sample_value
        both = [
            value("cifarserve_requests_total", {"method": "Predict", "code": "OK"}),
            value("cifarserve_request_seconds_count", {"method": "Predict"}),
            value("cifarserve_queue_items", {"model": "quick"}),
            value("cifarserve_queue_items", {"model": "gone"}),
            value("cifarserve_model_version", {"model": "quick"}),
        ]
        infos = [_info(value, version) for version in ("1", "2", "3")]
    finally:
        for process in processes:
            process.communicate()
    forget_worker(str(tmp_path), pids[0])

    assert both == [10, 4, 6, 0, 2]
    assert infos == [None, 1, 1]
    assert value("cifarserve_queue_items", {"model": "quick"}) == 3
    assert value("cifarserve_requests_total", {"method": "Predict", "code": "OK"}) == 10


def _samples(metrics: Metrics, *names: str) -> dict[tuple[object, ...], float]:
    """Return what the page shows of the metrics whose names begin so, without the time of their making."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for metric in metrics.registry.collect()
        for sample in metric.samples
        if sample.name.startswith(names) and not sample.name.endswith("_created")
    }


def _info(value: Callable[[str, dict[str, str]], float | None], version: str) -> float | None:
    digest = "aa" if version == "1" else "bb"
    labels = {
        "model": "quick",
        "version": version,
        "digest": digest,
        "device": "cpu",
        "precision": "bf16",
        "layout": "blocked",
    }
    return value("cifarserve_model_info", labels)
