"""What the server answers, as values. Pure: messages of `cifarserve.v1` in, frozen dataclasses out."""

import enum
from dataclasses import dataclass

from cifarserve.v1 import classifier_pb2 as pb


@dataclass(frozen=True, slots=True)
class Prediction:
    """One label and how probable it is.

    Attributes:
        label: name of the class, such as "cat".
        index: position of the label in the model's list of labels, from 0.
        probability: calibrated, 0 to 1.
    """

    label: str
    index: int
    probability: float


@dataclass(frozen=True, slots=True)
class ImageResult:
    """The answer for one picture.

    Attributes:
        predictions: the `top_k` most probable labels, most probable first; empty when there is an error.
        error: one line that says why this picture could not be classified; None when it was.
    """

    predictions: tuple[Prediction, ...]
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which weights answered: name, version from 1, and SHA-256 of the weights file in hexadecimal."""

    name: str
    version: int
    digest: str


@dataclass(frozen=True, slots=True)
class Timings:
    """Durations of one request on the server, in milliseconds.

    Attributes:
        decode_ms: bytes to pixels, for all pictures of the request.
        queue_ms: waiting for the engine.
        compute_ms: the forward pass of the batch that held the pictures.
        total_ms: from the request's arrival to the finished response.
        batch_size: how many pictures that batch held, other callers' included.
    """

    decode_ms: float
    queue_ms: float
    compute_ms: float
    total_ms: float
    batch_size: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one request: one result per picture, in their order, who computed them, and for how long."""

    results: tuple[ImageResult, ...]
    model: ModelIdentity
    timings: Timings


class ModelState(enum.StrEnum):
    """Whether a model answers."""

    UNKNOWN = "unknown"
    LOADING = "loading"
    READY = "ready"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class RefusedVersion:
    """A version that is not served, and what is wrong with it in one line."""

    version: int
    reason: str


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """One model in a list.

    Attributes:
        name: name of the model.
        versions: what the server's repository holds, ascending.
        state: whether the model answers.
        reason: why it does not; empty when it does.
        serving: the weights that answer now; None while none do.
        is_default: whether requests that name no model go to this one.
        refused: the versions that were tried and are not served.
        pinned_version: the version that an operator pinned the model to; 0: none.
        loading_version: the version that is being loaded; 0: none.
    """

    name: str
    versions: tuple[int, ...]
    state: ModelState
    reason: str
    serving: ModelIdentity | None
    is_default: bool
    refused: tuple[RefusedVersion, ...] = ()
    pinned_version: int = 0
    loading_version: int = 0


@dataclass(frozen=True, slots=True)
class ModelDetails:
    """One model that is being served.

    Attributes:
        model: which weights these are.
        architecture: name of the network.
        parameters: number of weights.
        labels: in the order of `Prediction.index`.
        test_accuracy: fraction of the CIFAR-10 test pictures that it gets right, 0 to 1.
        test_ece: expected calibration error on the same pictures, 0 to 1.
        temperature: what the logits are divided by.
        device: where it runs, such as "cpu" or "cuda:0".
        precision: floating type of the forward pass, such as "bf16".
        layout: how activations lie in memory, such as "blocked".
        batch_costs_ms: what a forward pass of so many pictures was measured to cost, in milliseconds.
        card_json: the whole card of the checkpoint.
    """

    model: ModelIdentity
    architecture: str
    parameters: int
    labels: tuple[str, ...]
    test_accuracy: float
    test_ece: float
    temperature: float
    device: str
    precision: str
    layout: str
    batch_costs_ms: dict[int, float]
    card_json: str


# A state that a newer server invents is UNKNOWN here.
_STATES = {
    pb.MODEL_STATE_LOADING: ModelState.LOADING,
    pb.MODEL_STATE_READY: ModelState.READY,
    pb.MODEL_STATE_UNAVAILABLE: ModelState.UNAVAILABLE,
}


def to_answer(response: pb.PredictResponse) -> Answer:
    """Return the answer in a response that holds no error."""
    return Answer(
        results=tuple(_to_result(result) for result in response.results),
        model=_to_identity(response.model),
        timings=_to_timings(response.timings),
    )


def to_summaries(response: pb.ListModelsResponse) -> tuple[ModelSummary, ...]:
    """Return the models of a list, in its order."""
    return tuple(_to_summary(model) for model in response.models)


def to_details(response: pb.GetModelResponse) -> ModelDetails:
    """Return the description of one model."""
    return ModelDetails(
        model=_to_identity(response.model),
        architecture=response.architecture,
        parameters=response.parameters,
        labels=tuple(response.labels),
        test_accuracy=response.test_accuracy,
        test_ece=response.test_ece,
        temperature=response.temperature,
        device=response.device,
        precision=response.precision,
        layout=response.layout,
        batch_costs_ms={cost.batch_size: cost.milliseconds for cost in response.batch_costs},
        card_json=response.card_json,
    )


def _to_result(result: pb.Result) -> ImageResult:
    if result.HasField("error"):
        return ImageResult((), error=" ".join(result.error.message.split()))
    return ImageResult(tuple(Prediction(best.label, best.index, best.probability) for best in result.predictions))


def _to_identity(model: pb.ModelIdentity) -> ModelIdentity:
    return ModelIdentity(model.name, model.version, model.digest)


def _to_timings(timings: pb.Timings) -> Timings:
    return Timings(timings.decode_ms, timings.queue_ms, timings.compute_ms, timings.total_ms, timings.batch_size)


def _to_summary(model: pb.ModelSummary) -> ModelSummary:
    return ModelSummary(
        name=model.name,
        versions=tuple(model.versions),
        state=_STATES.get(model.state, ModelState.UNKNOWN),
        reason=model.reason,
        serving=_to_identity(model.serving) if model.HasField("serving") else None,
        is_default=model.is_default,
        refused=tuple(RefusedVersion(each.version, each.reason) for each in model.refused),
        pinned_version=model.pinned_version,
        loading_version=model.loading_version,
    )
