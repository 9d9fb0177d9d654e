"""Counts and durations in this protocol's words. Pure."""

from cifarserve.inference import open_inference_pb2 as pb
from server.open_inference.entries import Entry
from server.served import ServedModel
from server.statistics import Total


def to_statistics(entry: Entry, served: ServedModel) -> pb.ModelStatistics:
    """Return what one version did since it was loaded, for all doors and both entries together."""
    counted = served.statistics

    def stage(seconds: float) -> pb.StatisticDuration:
        return _duration(Total(counted.answered.count, seconds))

    return pb.ModelStatistics(
        name=entry.name_of(served.card.model),
        version=str(served.card.version),
        last_inference=counted.last_pass_unix_ms,
        inference_count=counted.images,
        execution_count=sum(passes.count for passes in counted.passes.values()),
        inference_stats=pb.InferStatistics(
            success=_duration(counted.answered),
            fail=_duration(counted.failed),
            queue=stage(counted.queue_seconds),
            compute_input=stage(counted.decode_seconds),
            compute_infer=stage(counted.compute_seconds),
            compute_output=stage(counted.handback_seconds),
        ),
        batch_stats=[
            pb.InferBatchStatistics(batch_size=size, compute_infer=_duration(passes))
            for size, passes in sorted(counted.passes.items())
        ],
    )


def _duration(total: Total) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=total.count, ns=round(total.seconds * 1e9))
