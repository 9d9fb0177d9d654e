"""What becomes of a request's pictures, whichever door they came through: room, pixels, queue, counts.

Knows no protocol: the doors convert what they were sent, call this, and convert what it returns.
"""

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from server.batches import Answer
from server.decoding import Decoder, Picture
from server.engines import Pixels, Scores
from server.errors import ServingError
from server.metrics import Metrics, PredictRecord
from server.served import ServedModel
from server.statistics import Statistics
from server.telemetry.record import CURRENT
from server.together import Together


class Predicted(NamedTuple):
    """What became of a request's pictures.

    Attributes:
        outcomes: for each picture its pixels, or why it was not answered.
        answer: the scores of those that have pixels, in their order; None when nothing was computed.
        decode_seconds: bytes to pixels, for all pictures.
        total_seconds: from the request's arrival to this.
    """

    outcomes: Sequence[Pixels | ServingError]
    answer: Answer[Scores] | None
    decode_seconds: float
    total_seconds: float


class Predictor:
    """Decodes pictures, has them computed in a model's queue, and counts what became of them."""

    def __init__(self, decoder: Decoder, metrics: Metrics) -> None:
        self._decoder = decoder
        self._metrics = metrics
        self._predicted = Together(self._count)

    async def predict(self, served: ServedModel, pictures: Sequence[Picture], *, deadline: float | None) -> Predicted:
        """Return what became of each picture.

        Args:
            served: who answers; the caller holds it open.
            pictures: at least one.
            deadline: on the clock of `time.monotonic`; what still waits then is never computed.

        Raises:
            ServingError: none of the pictures can be computed: as `Batcher.submit` does.
        """
        started = time.monotonic()
        try:
            held = sum([len(picture.data) for picture in pictures])
            # Refused before anything is decoded, and not any more afterwards.
            with served.batcher.reserve(len(pictures), size_bytes=held) as reservation:
                outcomes: Sequence[Pixels | ServingError] = await self._decoder.decode(pictures)
                readable = [pixels for pixels in outcomes if isinstance(pixels, bytes)]
                decode_seconds = time.monotonic() - started
                answer = (
                    await served.batcher.submit(readable, deadline=deadline, reservation=reservation)
                    if readable
                    else None
                )
        except BaseException:
            served.statistics.observe_failure(time.monotonic() - started)
            raise
        if answer and answer.failures:
            outcomes = _with_failures(outcomes, answer.failures)
        predicted = Predicted(outcomes, answer, decode_seconds, time.monotonic() - started)
        if (request_record := CURRENT.get()) is not None:  # the access log or a trace wants to know
            request_record.note(_record_of(served, predicted))
        self._predicted.add((served, predicted))
        return predicted

    def _count(self, predicted: Sequence[tuple[ServedModel, Predicted]]) -> None:
        self._metrics.observe_predicts([_record_of(*each) for each in predicted])
        for served, each in predicted:
            _observe(served.statistics, each)


def _observe(statistics: Statistics, predicted: Predicted) -> None:
    answer = predicted.answer
    if answer is None or len(answer.results) < len(predicted.outcomes):
        statistics.observe_failure(predicted.total_seconds)
        return
    statistics.observe_answer(
        total_seconds=predicted.total_seconds,
        decode_seconds=predicted.decode_seconds,
        queue_seconds=answer.queue_seconds,
        compute_seconds=answer.compute_seconds,
    )


def _record_of(served: ServedModel, predicted: Predicted) -> PredictRecord:
    card, answer = served.card, predicted.answer
    answered = len(answer.results) if answer else 0
    failed = len(answer.failures) if answer else 0
    return PredictRecord(
        card.model,
        card.version,
        labels=[card.labels[scores.indices[0]] for scores in answer.results] if answer else [],
        confidence=sum([scores.probabilities[0] for scores in answer.results]) if answer else 0.0,
        invalid=len(predicted.outcomes) - answered - failed,
        failed=failed,
        decode_seconds=predicted.decode_seconds,
        total_seconds=predicted.total_seconds,
        queue_seconds=answer.queue_seconds if answer else 0.0,
        compute_seconds=answer.compute_seconds if answer else 0.0,
    )


def _with_failures(
    outcomes: Sequence[Pixels | ServingError], failures: Mapping[int, ServingError]
) -> list[Pixels | ServingError]:
    """Put the model's failures, by position among the readable pictures, in the places of those pictures."""
    places = [place for place, outcome in enumerate(outcomes) if isinstance(outcome, bytes)]
    failed = {places[position]: error for position, error in failures.items()}
    return [failed.get(place, outcome) for place, outcome in enumerate(outcomes)]
