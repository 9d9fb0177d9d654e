import pytest

from cifarserve.v1 import classifier_pb2 as pb
from client.results import (
    ImageResult,
    ModelIdentity,
    ModelState,
    Prediction,
    Timings,
    to_answer,
    to_details,
    to_summaries,
)

IDENTITY = pb.ModelIdentity(name="whitened", version=3, digest="ab" * 32)


def test_answer() -> None:
    """Every field of a response arrives in the value, predictions in their order."""
    response = pb.PredictResponse(
        results=[
            pb.Result(
                predictions=[
                    pb.Prediction(label="cat", index=3, probability=0.5),
                    pb.Prediction(label="dog", index=5, probability=0.25),
                ]
            ),
            pb.Result(error=pb.Error(code=3, message="not a\npicture")),
        ],
        model=IDENTITY,
        timings=pb.Timings(decode_ms=1, queue_ms=2, compute_ms=3, total_ms=6.5, batch_size=9),
    )

    answer = to_answer(response)

    assert answer.results == (
        ImageResult((Prediction("cat", 3, 0.5), Prediction("dog", 5, 0.25))),
        ImageResult((), error="not a picture"),
    )
    assert answer.model == ModelIdentity("whitened", 3, "ab" * 32)
    assert answer.timings == Timings(decode_ms=1, queue_ms=2, compute_ms=3, total_ms=6.5, batch_size=9)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (pb.MODEL_STATE_UNSPECIFIED, ModelState.UNKNOWN),
        (pb.MODEL_STATE_LOADING, ModelState.LOADING),
        (pb.MODEL_STATE_READY, ModelState.READY),
        (pb.MODEL_STATE_UNAVAILABLE, ModelState.UNAVAILABLE),
        (17, ModelState.UNKNOWN),
    ],
)
def test_model_states(state: pb.ModelState.ValueType, expected: ModelState) -> None:
    """Each state has its word, and one that a newer server invents does not break this client."""
    [summary] = to_summaries(pb.ListModelsResponse(models=[pb.ModelSummary(name="x", state=state)]))

    assert summary.state is expected


def test_summary_without_weights() -> None:
    """A model that does not answer has no identity, not an empty one."""
    response = pb.ListModelsResponse(
        models=[pb.ModelSummary(name="a", versions=[1, 2], reason="damaged"), pb.ModelSummary(serving=IDENTITY)]
    )

    damaged, serving = to_summaries(response)

    assert (damaged.versions, damaged.reason, damaged.serving) == ((1, 2), "damaged", None)
    assert serving.serving == ModelIdentity("whitened", 3, "ab" * 32)


def test_details() -> None:
    """Every field of a model's description arrives in the value."""
    fields = {
        "architecture": "whitened",
        "parameters": 2_000_000,
        "labels": ("cat", "dog"),
        "test_accuracy": 0.94,
        "test_ece": 0.01,
        "temperature": 1.2,
        "device": "cuda:0",
        "precision": "bf16",
        "card_json": "{}",
    }

    details = to_details(pb.GetModelResponse(model=IDENTITY, **fields))  # type: ignore[arg-type]

    assert {name: getattr(details, name) for name in fields} == fields
