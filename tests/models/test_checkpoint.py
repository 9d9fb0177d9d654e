import errno
import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from models import checkpoint, registry
from models.card import Card
from models.errors import CheckpointDamaged, Fault, UnknownArchitecture
from models.repository import Repository
from models.verification import read_card, read_weights
from tests.models import damages
from tests.models.cards import make_card, publish

CPU = torch.device("cpu")


class FullDisk:
    """An `os.fsync` that reports a full disk, from its `fails_at`-th call on."""

    def __init__(self, *, fails_at: int) -> None:
        self._calls_left = fails_at - 1

    def __call__(self, descriptor: int) -> None:
        os.fstat(descriptor)
        if self._calls_left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._calls_left -= 1


def slow_fsync(_descriptor: int) -> None:
    """An `os.fsync` that leaves a reader time to look at what is written so far."""
    time.sleep(0.002)


class PollingReader:
    """A thread that reads the newest version over and over, as a server does; `seen` is what it found."""

    def __init__(self, repository: Path) -> None:
        self._repository = Repository(repository)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.seen: list[int] = []
        self.failures: list[Exception] = []

    def __enter__(self) -> "PollingReader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if not self._repository.models():
                continue
            folder = self._repository.folder("quick")
            try:
                read_weights(folder, read_card(folder))
            except CheckpointDamaged as exc:
                self.failures.append(exc)
            self.seen.append(int(folder.name))


@pytest.mark.parametrize("architecture", registry.names())
def test_what_was_saved_is_loaded(tmp_path: Path, architecture: str) -> None:
    """A network that was published and loaded gives the same logits, bit for bit, in evaluation mode."""
    network = registry.build(architecture)
    network(torch.randn(8, 3, 32, 32))  # moves the running statistics, where there are any
    inputs = torch.randn(4, 3, 32, 32)

    loaded = checkpoint.load(publish(tmp_path, network=network, architecture=architecture), device=CPU)

    assert not loaded.network.training
    with torch.inference_mode():
        assert torch.equal(loaded.network(inputs), network.eval()(inputs))


def test_version_is_two_files(tmp_path: Path) -> None:
    """A version is a plain state_dict and its card, and the card's digest is the file's SHA-256."""
    folder = publish(tmp_path)

    assert folder == tmp_path / "quick" / "1"
    assert {path.name for path in folder.iterdir()} == {"model.pt", "model.json"}
    assert read_card(folder).digest == hashlib.sha256((folder / "model.pt").read_bytes()).hexdigest()
    state = torch.load(folder / "model.pt", weights_only=True)
    assert state.keys() == registry.build("quick").state_dict().keys()


def test_version_can_be_read_by_others(tmp_path: Path) -> None:
    """A server that runs as another user may read what a trainer published."""
    folder = publish(tmp_path)

    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_versions_count_up(tmp_path: Path) -> None:
    """Each publication gets the next number, and its card says so."""
    folders = [publish(tmp_path) for _ in range(3)]

    assert [folder.name for folder in folders] == ["1", "2", "3"]
    assert [read_card(folder).version for folder in folders] == [1, 2, 3]


def test_repository_is_made_when_missing(tmp_path: Path) -> None:
    """The first publication needs no preparation."""
    folder = publish(tmp_path / "new" / "repository")

    assert checkpoint.load(folder, device=CPU).card.version == 1


def test_file_in_the_place_of_a_number(tmp_path: Path) -> None:
    """A stray file named like the next version is stepped over; publishing does not wait for it to go away."""
    (tmp_path / "quick").mkdir()
    (tmp_path / "quick" / "1").touch()

    assert publish(tmp_path).name == "2"


def test_reader_never_sees_half_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever polls the repository while versions are published finds each one whole."""
    monkeypatch.setattr("os.fsync", slow_fsync)

    with PollingReader(tmp_path) as reader:
        for _ in range(15):
            publish(tmp_path)

    assert reader.failures == []
    assert len(set(reader.seen)) > 3


@pytest.mark.parametrize("fails_at", [1, 2, 3], ids=["weights", "card", "folder"])
def test_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int) -> None:
    """A publication that cannot be written to the disk raises and leaves no version and no hidden folder."""
    publish(tmp_path)
    monkeypatch.setattr("os.fsync", FullDisk(fails_at=fails_at))

    with pytest.raises(OSError, match="No space left on device"):
        publish(tmp_path)

    assert [path.name for path in (tmp_path / "quick").iterdir()] == ["1"]


def test_card_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    """An error of the caller's own is passed on, and nothing is published."""

    def no_card(version: int, digest: str) -> Card:
        raise ValueError(f"no card for version {version} with {len(digest)} digits")

    with pytest.raises(ValueError, match="no card for version 1 with 64 digits"):
        checkpoint.save(tmp_path, model="quick", network=registry.build("quick"), make_card=no_card)

    assert list((tmp_path / "quick").iterdir()) == []


def test_new_card_for_the_same_weights(tmp_path: Path) -> None:
    """A version's card can be replaced; the weights stay, and nothing else is left behind."""
    folder = publish(tmp_path)
    card = read_card(folder).model_copy(update={"temperature": 3.0})

    checkpoint.update_card(folder, card)

    assert checkpoint.load(folder, device=CPU).card == card
    assert {path.name for path in folder.iterdir()} == {"model.pt", "model.json"}


def test_new_card_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new card that cannot be written leaves the old one in its place."""
    folder = publish(tmp_path)
    card = read_card(folder)
    monkeypatch.setattr("os.fsync", FullDisk(fails_at=1))

    with pytest.raises(OSError, match="No space left on device"):
        checkpoint.update_card(folder, card.model_copy(update={"temperature": 3.0}))

    assert read_card(folder) == card
    assert {path.name for path in folder.iterdir()} == {"model.pt", "model.json"}


def test_folder_that_cannot_be_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rename that fails for any reason but a taken number is an error, not a reason to try for ever."""

    def refuse(_path: Path, _target: Path) -> Path:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "rename", refuse)

    with pytest.raises(PermissionError):
        publish(tmp_path)
    assert list((tmp_path / "quick").iterdir()) == []


def test_two_publishers_get_two_numbers(tmp_path: Path) -> None:
    """Publishers that choose the same number at the same moment both succeed: one takes the next number."""
    both_chose = threading.Barrier(2, timeout=20)

    def make_card_together(version: int, digest: str) -> Card:
        if version == 1:
            both_chose.wait()
        return make_card(version, digest)

    def save(_publisher: int) -> Path:
        network = registry.build("quick")
        return checkpoint.save(tmp_path, model="quick", network=network, make_card=make_card_together)

    with ThreadPoolExecutor(2) as threads:
        folders = list(threads.map(save, range(2)))

    assert sorted(folder.name for folder in folders) == ["1", "2"]
    for folder in folders:
        assert checkpoint.load(folder, device=CPU).card.version == int(folder.name)
    assert Repository(tmp_path).versions("quick") == (1, 2)


DAMAGES: list[tuple[Callable[[Path], None], str, Fault]] = [
    (damages.weights_missing, r"model\.pt: No such file", Fault.UNREADABLE),
    (damages.weights_truncated, r"model\.pt: expected SHA-256 .* \(1000 bytes\)", Fault.DIGEST),
    (damages.weights_with_a_flipped_byte, r"model\.pt: expected SHA-256", Fault.DIGEST),
    (damages.weights_that_are_text, r"model\.pt: not a plain state_dict: \w+$", Fault.FORMAT),
    (damages.weights_that_run_code, r"model\.pt: not a plain state_dict: UnpicklingError$", Fault.FORMAT),
    (damages.weights_in_a_wrapper, r"model\.pt: not a plain state_dict: expected tensors by name$", Fault.FORMAT),
    (damages.weights_without_names, r"model\.pt: not a plain state_dict: expected tensors by name$", Fault.FORMAT),
    (
        damages.weights_of_another_architecture,
        r"model\.pt: does not fit architecture 'quick': .*Missing key",
        Fault.ARCHITECTURE,
    ),
    (damages.weights_not_finite, r"model\.pt: holds weights that are not finite numbers$", Fault.NOT_FINITE),
    (damages.card_missing, r"model\.json: No such file", Fault.UNREADABLE),
    (damages.card_that_is_not_json, r"model\.json: the file: Invalid JSON", Fault.CARD),
    (damages.card_with_an_unknown_field, r"model\.json: colour: Extra inputs", Fault.CARD),
    (damages.card_with_foreign_labels, r"model\.json: its preprocessing or labels", Fault.CARD),
]


@pytest.mark.parametrize(("damage", "message", "fault"), DAMAGES, ids=[damage.__name__ for damage, _, _ in DAMAGES])
def test_damaged_version(tmp_path: Path, damage: Callable[[Path], None], message: str, fault: Fault) -> None:
    """A damaged version is refused in one line that names the file and the reason, and in a word for counting."""
    folder = publish(tmp_path)
    damage(folder)

    with pytest.raises(CheckpointDamaged, match=message) as caught:
        checkpoint.load(folder, device=CPU)

    assert "\n" not in str(caught.value)
    assert caught.value.fault is fault


def test_payload_does_not_run(tmp_path: Path) -> None:
    """Code in the weights is not executed, even where the digest fits."""
    folder = publish(tmp_path)
    damages.weights_that_run_code(folder)

    with pytest.raises(CheckpointDamaged):
        checkpoint.load(folder, device=CPU)

    assert not (folder / damages.PAYLOAD_TRACE).exists()


def test_unknown_architecture(tmp_path: Path) -> None:
    """A card that names a network of another release is refused by that name."""
    folder = publish(tmp_path)
    damages.card_of_an_unknown_architecture(folder)

    with pytest.raises(UnknownArchitecture, match="unknown architecture 'resnet9000'"):
        checkpoint.load(folder, device=CPU)
