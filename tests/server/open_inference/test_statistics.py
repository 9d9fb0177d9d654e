from server.batches import BatchRecord, DispatchReason
from server.open_inference.entries import Entry
from server.open_inference.statistics import to_statistics
from server.served import BatchLimits, serve_version
from tests.conftest import make_card
from tests.fakes import FakeEngine


async def test_counts_and_nanoseconds() -> None:
    """Requests with their stages, pictures, and passes by size, in nanoseconds."""
    served = await serve_version(
        make_card("quick", "quick", 7, "0" * 64),
        FakeEngine(),
        limits=BatchLimits(max_batch_size=4, max_queue_delay_seconds=0.0, max_queue_items=8),
        observe=lambda record: None,  # noqa: ARG005
        on_broken=lambda reason: None,  # noqa: ARG005
    )
    for size in (4, 1):
        served.statistics.observe_pass(BatchRecord(size, DispatchReason.IDLE, 0.001, ()))
    served.statistics.observe_answer(total_seconds=1.0, decode_seconds=0.25, queue_seconds=0.5, compute_seconds=0.125)
    served.statistics.observe_failure(2.0)
    told = to_statistics(Entry("quick", is_encoded=True), served)
    await served.close()

    assert (told.name, told.version, told.inference_count, told.execution_count) == ("quick_encoded", "7", 5, 2)
    stages = told.inference_stats
    assert (stages.success.count, stages.success.ns) == (1, 1_000_000_000)
    assert (stages.fail.count, stages.fail.ns) == (1, 2_000_000_000)
    assert [stages.compute_input.ns, stages.queue.ns, stages.compute_infer.ns, stages.compute_output.ns] == [
        250_000_000,
        500_000_000,
        125_000_000,
        125_000_000,
    ]
    assert [(batch.batch_size, batch.compute_infer.count) for batch in told.batch_stats] == [(1, 1), (4, 1)]
