"""Between messages of `cifarserve.v1` and the server's own values. Pure: no call, no clock, no state."""

import functools
from collections.abc import Iterable, Sequence

from cifarserve.v1 import classifier_pb2 as pb
from models.card import Card
from server.batches import Answer
from server.decoding import EncodedPicture, Picture, RawPicture
from server.engines import Pixels, Scores
from server.errors import InvalidArgument, ServingError
from server.following import ModelState, ModelStatus
from server.served import ServedModel
from server.statuses import STATUS

_STATES = {
    ModelState.LOADING: pb.MODEL_STATE_LOADING,
    ModelState.READY: pb.MODEL_STATE_READY,
    ModelState.UNAVAILABLE: pb.MODEL_STATE_UNAVAILABLE,
}


def to_pictures(images: Sequence[pb.Image], *, max_images: int) -> list[Picture]:
    """Return the pictures of a request.

    Raises:
        InvalidArgument: there are none, or more than `max_images`.
    """
    if not 1 <= len(images) <= max_images:
        raise InvalidArgument(f"expected 1 to {max_images} images, got {len(images)}")
    return [_to_picture(image, image.rgb) for image in images]


def _to_picture(image: pb.Image, rgb: bytes) -> Picture:
    # Asking which of the two it is takes as long as copying its bytes: only what is empty leaves it open.
    return RawPicture(rgb) if rgb or image.WhichOneof("content") == "rgb" else EncodedPicture(image.encoded)


def to_top_k(request: pb.PredictRequest, *, labels: int) -> int:
    """Return how many predictions to give for each picture; 1 when the request does not say.

    Raises:
        InvalidArgument: not 1 to `labels`.
    """
    if not request.HasField("top_k"):
        return 1
    if not 1 <= request.top_k <= labels:
        raise InvalidArgument(f"top_k: expected 1 to {labels}, got {request.top_k}")
    return request.top_k


def to_response(
    request: pb.PredictRequest,
    card: Card,
    outcomes: Sequence[Pixels | ServingError],
    answer: Answer[Scores] | None,
    *,
    decode_seconds: float,
    total_seconds: float,
    top_k: int,
) -> pb.PredictResponse:
    """Return the answer to a request: one result per picture, in their order.

    Args:
        request: its id is echoed.
        card: of the model that answered.
        outcomes: pixels or an error for each picture.
        answer: scores for each of those that have pixels; None when nothing had to be computed.
        decode_seconds: bytes to pixels, for all pictures.
        total_seconds: from the request's arrival to this.
        top_k: how many predictions to give for each picture, most probable first.
    """
    # Filled in place: a message that is built first is copied into its parent, and keywords take twice the time.
    response = pb.PredictResponse()
    response.id = request.id
    response.model.CopyFrom(to_identity(card))
    _fill_timings(response.timings, answer, decode_seconds=decode_seconds, total_seconds=total_seconds)
    remaining, labels, ranks = iter(answer.results if answer else ()), card.labels, range(top_k)
    add_result = response.results.add
    for outcome in outcomes:
        if isinstance(outcome, ServingError):
            add_result().error.CopyFrom(_to_error(outcome))
            continue
        indices, probabilities = next(remaining)
        add_prediction = add_result().predictions.add
        for rank in ranks:
            prediction = add_prediction()
            prediction.label = labels[indices[rank]]
            prediction.index = indices[rank]
            prediction.probability = probabilities[rank]
    return response


def _fill_timings(
    timings: pb.Timings, answer: Answer[Scores] | None, *, decode_seconds: float, total_seconds: float
) -> None:
    timings.decode_ms = decode_seconds * 1000
    timings.total_ms = total_seconds * 1000
    if answer:
        timings.queue_ms = answer.queue_seconds * 1000
        timings.compute_ms = answer.compute_seconds * 1000
        timings.batch_size = answer.batch_size


def to_error_response(error: ServingError, *, request_id: str) -> pb.PredictResponse:
    """Return the answer to a request on a stream that failed as a whole."""
    return pb.PredictResponse(error=_to_error(error), id=request_id)


def to_identity(card: Card) -> pb.ModelIdentity:
    """Return the message that says which weights answered; it is shared, do not change it."""
    return _identity(card.model, card.version, card.digest)


@functools.lru_cache(maxsize=64)
def _identity(name: str, version: int, digest: str) -> pb.ModelIdentity:
    return pb.ModelIdentity(name=name, version=version, digest=digest)


def _to_error(error: ServingError) -> pb.Error:
    # grpc's enum members hold (number, text)
    return pb.Error(code=STATUS[type(error)].value[0], message=str(error))


def to_list_models_response(statuses: Iterable[ModelStatus]) -> pb.ListModelsResponse:
    """Return the list of models."""
    return pb.ListModelsResponse(
        models=[
            pb.ModelSummary(
                name=status.name,
                versions=status.versions,
                state=_STATES[status.state],
                reason=status.reason,
                serving=to_identity(status.served.card) if status.served else None,
                is_default=status.is_default,
                refused=[pb.RefusedVersion(version=each.version, reason=each.reason) for each in status.refused],
                pinned_version=status.pinned_version,
                loading_version=status.loading_version,
            )
            for status in statuses
        ]
    )


def to_get_model_response(served: ServedModel) -> pb.GetModelResponse:
    """Return the description of a served model."""
    card = served.card
    return pb.GetModelResponse(
        model=to_identity(card),
        architecture=card.architecture,
        parameters=card.parameters,
        labels=card.labels,
        test_accuracy=card.test.accuracy,
        test_ece=card.test.ece,
        temperature=card.temperature,
        device=served.engine.info.device,
        precision=served.engine.info.precision,
        layout=served.engine.info.layout,
        batch_costs=[
            pb.BatchCost(batch_size=size, milliseconds=seconds * 1000)
            for size, seconds in sorted(served.engine.info.batch_seconds.items())
        ],
        card_json=card.model_dump_json(),
    )
