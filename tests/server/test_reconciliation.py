from collections.abc import Iterable

import pytest

from models.desired import DesiredState
from models.repository import Fingerprint, ModelFolder
from server.reconciliation import Actual, Load, ModelControl, Refusal, Unload, next_step, target

POLL, EXPLICIT = ModelControl.POLL, ModelControl.EXPLICIT

FILES: Fingerprint = ((10, 1, 1), (10, 1, 2))
OTHER_FILES: Fingerprint = ((20, 2, 1), (10, 1, 2))


def holds(*versions: int, **desired: int) -> ModelFolder:
    return ModelFolder(dict.fromkeys(versions, FILES), DesiredState(**desired))


def serves(version: int, *, refused: Iterable[int] = (), generation: int = 0) -> Actual:
    return Actual(version, generation, {number: Refusal("damaged", FILES, generation) for number in refused})


@pytest.mark.parametrize(
    ("folder", "actual", "step"),
    [
        pytest.param(holds(1, 2), serves(0), Load(2), id="the newest is loaded"),
        pytest.param(holds(1, 2), serves(2), None, id="what is served is what is wanted"),
        pytest.param(holds(1, 2, 10), serves(2), Load(10), id="a new version is loaded"),
        pytest.param(holds(1, 2, 3), serves(2, refused=[3]), None, id="a refused version is not tried again"),
        pytest.param(holds(1, 2, 3), serves(0, refused=[3]), Load(2), id="the newest that is sound is loaded"),
        pytest.param(holds(1, 2), serves(0, refused=[1, 2]), None, id="nothing is sound"),
        pytest.param(holds(1, 2), serves(3), Load(2), id="what is served was deleted: back to the newest that is left"),
        pytest.param(holds(1), serves(3, refused=[1]), None, id="deleted, and nothing sound is left: it goes on"),
        pytest.param(holds(), serves(3), Unload(), id="the model was deleted"),
        pytest.param(holds(), serves(0), None, id="the model was deleted, and nothing is served"),
        pytest.param(holds(1, 2, pinned_version=1), serves(2), Load(1), id="a pin goes back"),
        pytest.param(holds(1, 2, 3, pinned_version=1), serves(1), None, id="a pin holds against newer versions"),
        pytest.param(holds(2, pinned_version=1), serves(2), None, id="the pinned version is not there: no other"),
        pytest.param(holds(2, pinned_version=1), serves(0), None, id="the pinned version is not there: none"),
        pytest.param(holds(1, 2, pinned_version=1), serves(2, refused=[1]), None, id="the pinned version is refused"),
        pytest.param(holds(1, unloaded=1), serves(1), Unload(), id="unloaded on request"),
        pytest.param(holds(1, unloaded=1), serves(0), None, id="unloaded, and nothing is served"),
        pytest.param(holds(unloaded=1), serves(1), Unload(), id="unloaded, and deleted"),
        pytest.param(holds(1, unloaded=1, pinned_version=1), serves(1), Unload(), id="unloaded, though pinned"),
        pytest.param(holds(1, generation=1), serves(1), Load(1), id="what is served is loaded afresh on request"),
        pytest.param(holds(1, generation=1), serves(1, generation=1), None, id="and once"),
        pytest.param(
            holds(1, 2, generation=1), serves(1, refused=[2]), Load(2), id="a refused one is tried on request"
        ),
        pytest.param(
            holds(1, 2, generation=1), serves(2, refused=[2], generation=1), None, id="refused when loaded afresh"
        ),
        pytest.param(ModelFolder(fault="Permission denied"), serves(1), None, id="unreadable: what is served goes on"),
    ],
)
def test_poll_follows_the_repository(folder: ModelFolder, actual: Actual, step: Load | Unload | None) -> None:
    """The newest sound version is served, unless operators want otherwise."""
    assert next_step(folder, actual, POLL) == step


@pytest.mark.parametrize(
    ("folder", "actual", "step"),
    [
        pytest.param(holds(1, 2), serves(0), None, id="nobody asked"),
        pytest.param(holds(1, 2, loaded_version=2), serves(0), Load(2), id="asked for"),
        pytest.param(holds(1, 2, 3, loaded_version=2), serves(2), None, id="a new version waits to be asked for"),
        pytest.param(holds(1, loaded_version=2), serves(2), None, id="what is served was deleted: it goes on"),
        pytest.param(holds(), serves(2), None, id="the model was deleted: it goes on"),
        pytest.param(holds(1, 2, loaded_version=2), serves(0, refused=[2]), None, id="refused: no other version"),
        pytest.param(holds(1, 2, loaded_version=2, pinned_version=1), serves(2), Load(1), id="a pin goes back"),
        pytest.param(holds(1, 2, pinned_version=1), serves(0), None, id="a pin alone loads nothing"),
        pytest.param(holds(1, 2, unloaded=1), serves(2), Unload(), id="unloaded on request"),
        pytest.param(holds(1, 2, loaded_version=2, generation=1), serves(2), Load(2), id="loaded afresh on request"),
    ],
)
def test_explicit_follows_requests_alone(folder: ModelFolder, actual: Actual, step: Load | Unload | None) -> None:
    """What happens in the repository changes nothing that operators did not ask for."""
    assert next_step(folder, actual, EXPLICIT) == step


def test_changed_files_are_tried_again() -> None:
    """A refused version whose files have changed since, such as one that was still being copied, is tried again."""
    folder = ModelFolder({1: FILES, 2: OTHER_FILES})

    assert next_step(folder, serves(1, refused=[2]), POLL) == Load(2)


@pytest.mark.parametrize("control", [POLL, EXPLICIT])
def test_every_step_leads_to_rest(control: ModelControl) -> None:
    """From any state, steps that succeed end within two, and the last changes nothing."""
    for folder in (holds(1, 2, loaded_version=2), holds(2, pinned_version=1), holds(), holds(1, unloaded=1)):
        for version in (0, 1, 2, 3):
            actual = serves(version)
            steps = 0
            while step := next_step(folder, actual, control):
                actual = serves(step.version if isinstance(step, Load) else 0)
                steps += 1
            assert steps <= 1


def test_target_is_what_should_answer() -> None:
    """The target is the version that would answer if it were sound, refused or not."""
    assert target(holds(1, 3), POLL) == 3
    assert target(holds(1, 3, pinned_version=1), POLL) == 1
    assert target(holds(1, 3), EXPLICIT) == 0
    assert target(holds(1, 3, loaded_version=1), EXPLICIT) == 1
    assert target(holds(1, 3, unloaded=1), POLL) == 0
