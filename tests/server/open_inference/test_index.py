from dataclasses import replace

from server.following import ModelState, ModelStatus, RefusedVersion
from server.open_inference.index import to_index
from server.served import BatchLimits, serve_version
from tests.conftest import make_card
from tests.fakes import FakeEngine

LOADING = ModelStatus("quick", (1, 2, 3), ModelState.LOADING, is_default=True, loading_version=2)
REFUSED = ModelStatus(
    "other", (1,), ModelState.UNAVAILABLE, is_default=False, reason="all bad", refused=(RefusedVersion(1, "damaged"),)
)
EMPTY = ModelStatus("empty", (), ModelState.UNAVAILABLE, is_default=False, reason="it is not in the repository")


def rows(*statuses: ModelStatus, only_ready: bool = False) -> list[tuple[str, str, str, str]]:
    index = to_index(statuses, only_ready=only_ready)
    return [(model.name, model.version, model.state, model.reason) for model in index.models]


def test_every_version_is_listed_under_both_names() -> None:
    """Each version has its state, under the name for pixels and the one for files."""
    assert rows(LOADING) == [
        ("quick", "1", "UNAVAILABLE", ""),
        ("quick", "2", "LOADING", ""),
        ("quick", "3", "UNAVAILABLE", ""),
        ("quick_encoded", "1", "UNAVAILABLE", ""),
        ("quick_encoded", "2", "LOADING", ""),
        ("quick_encoded", "3", "UNAVAILABLE", ""),
    ]


def test_reasons_are_told() -> None:
    """A version that was refused says why, and so does a model without versions."""
    assert rows(REFUSED, EMPTY) == [
        ("other", "1", "UNAVAILABLE", "damaged"),
        ("other_encoded", "1", "UNAVAILABLE", "damaged"),
        ("empty", "", "UNAVAILABLE", "it is not in the repository"),
        ("empty_encoded", "", "UNAVAILABLE", "it is not in the repository"),
    ]


def test_only_what_answers() -> None:
    """Who asks for what is ready gets nothing else."""
    assert rows(LOADING, REFUSED, EMPTY, only_ready=True) == []


async def test_version_that_is_loaded_afresh_goes_on_answering() -> None:
    """What answers is ready, also while the same version is being loaded again; others say what is served."""
    served = await serve_version(
        make_card("quick", "quick", 2, "0" * 64),
        FakeEngine(),
        limits=BatchLimits(max_batch_size=4, max_queue_delay_seconds=0.0, max_queue_items=8),
        observe=lambda record: None,  # noqa: ARG005
        on_broken=lambda reason: None,  # noqa: ARG005
    )
    told = rows(replace(LOADING, state=ModelState.READY, served=served))
    await served.close()

    assert told[:3] == [
        ("quick", "1", "UNAVAILABLE", "version 2 is served"),
        ("quick", "2", "READY", ""),
        ("quick", "3", "UNAVAILABLE", "version 2 is served"),
    ]
