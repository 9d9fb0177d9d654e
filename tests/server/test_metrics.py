import urllib.request

from server.batcher import BatchRecord, DispatchReason
from server.metrics import Metrics, PredictRecord, metrics_page

NAMES = (
    "cifarserve_requests_total",
    "cifarserve_request_seconds_bucket",
    'cifarserve_stage_seconds_bucket{le="0.0001",stage="queue"}',
    "cifarserve_batch_size_bucket",
    'cifarserve_batches_total{model="quick",reason="full"} 1.0',
    'cifarserve_queue_items{model="quick"} 3.0',
    'cifarserve_images_total{model="quick",outcome="answered",version="2"} 2.0',
    'cifarserve_predictions_total{label="cat",model="quick"} 2.0',
    "process_resident_memory_bytes",
)


def test_page_shows_what_was_counted() -> None:
    """The page has every metric under its published name."""
    metrics = Metrics()
    metrics.requests.labels("Predict", "OK").inc()
    metrics.request_seconds.labels("Predict").observe(0.001)
    metrics.observe_batch("quick", BatchRecord(2, DispatchReason.FULL, 0.001, (0.0,)))
    metrics.observe_predict(
        PredictRecord("quick", 2, ["cat", "cat"], invalid=1, failed=0, decode_seconds=0, total_seconds=0)
    )
    metrics.watch_queue("quick", lambda: 3)
    with metrics_page(metrics.registry, host="127.0.0.1", port=0) as address:
        page = urllib.request.urlopen(address).read().decode()  # noqa: S310  # a page of our own

    for name in NAMES:
        assert name in page
