"""`cifarserve-train` as a person meets it: a process with flags, output and an exit status."""

import asyncio
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models import registry
from models.repository import Repository
from tests.polling import eventually
from training.__main__ import main
from training.config import TrainingConfig

CHECKOUT = Path(__file__).parents[2]
TINY_RUN = [
    "--architecture=quick",
    "--validation-images=50",
    "--batch-size=10",
    "--lr=0.005",
    "--device=cpu",
    "--threads=1",
    "--no-tensorboard",
    "--no-report",
]


def trainer(*flags: str) -> list[str]:
    return [sys.executable, "-m", "training", *flags]


def tiny_trainer(data: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "tests.training.train_on_tiny_cifar10", str(data), *TINY_RUN, *flags]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)


def assert_tells_quality(lines: list[str]) -> None:
    accuracy, calibration, precision = lines
    assert re.fullmatch(r"  test accuracy [\d.]+% on 40 images, one forward pass each", accuracy)
    assert re.fullmatch(r"  ECE [\d.]+ \(before temperature [\d.]+: [\d.]+\)", calibration)
    assert re.fullmatch(r"  bf16: accuracy [\d.]+%, fp32's label on [\d.]+% \((may|may not) be served\)", precision)


def test_help_lists_every_flag() -> None:
    """`--help` shows all knobs, and exits without training."""
    finished = run(trainer("--help"))

    flags = {"--" + name.replace("_", "-") for name in TrainingConfig.model_fields}
    assert finished.returncode == 0
    assert flags <= set(finished.stdout.replace(",", " ").split())
    assert finished.stderr == ""


def test_flag_out_of_bounds() -> None:
    """A value that makes no sense is one line that names the flag, and exit status 2."""
    finished = run(trainer("--epochs", "0"))

    assert finished.returncode == 2
    assert finished.stderr == "cifarserve-train: --epochs: Input should be greater than or equal to 1\n"
    assert finished.stdout == ""


def test_missing_data(tmp_path: Path) -> None:
    """Without the data set the run ends within CPU seconds, in one line that names the folder; nothing is published."""
    before = _children_cpu_seconds()

    finished = run(trainer("--data", str(tmp_path), "--repository", str(tmp_path / "models")))

    assert finished.returncode == 1
    assert finished.stderr.startswith(f"cifarserve-train: CIFAR-10 in {tmp_path}/cifar-10-batches-py: No such file")
    assert finished.stderr.count("\n") == 1
    assert list((tmp_path / "models").iterdir()) == []
    assert _children_cpu_seconds() - before < 20  # a busy machine may take longer, but does no more


def _children_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_repository_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A repository that cannot be made is one line with its path."""
    path = tmp_path / "models"
    path.touch()
    monkeypatch.setattr(sys, "argv", ["cifarserve-train", "--repository", str(path)])

    with pytest.raises(SystemExit) as caught:
        main()

    assert caught.value.code == 1
    assert capsys.readouterr().err == f"cifarserve-train: {path}: File exists\n"


def test_successful_run(
    tiny_cifar10: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the end stands what was published, where, how good it is and how long it took."""
    settings = ["--data", str(tiny_cifar10), "--repository", str(tmp_path / "models"), "--epochs", "1"]
    monkeypatch.setattr(sys, "argv", ["cifarserve-train", *TINY_RUN, *settings])

    main()

    output = capsys.readouterr()
    _, *summary = output.out.splitlines()
    assert summary[0] == f"published quick version 1 in {tmp_path}/models/quick/1"
    assert_tells_quality(summary[1:4])
    assert re.fullmatch(r"  trained in [\d.]+ minutes on .+ threads", summary[4])
    assert output.err == ""


def test_evaluation(
    tiny_cifar10: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`evaluate` prints what is found of a published version, in the words of the run that published it."""
    settings = ["--data", str(tiny_cifar10), "--repository", str(tmp_path / "models")]
    run_folder = ["--run-folder", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", ["cifarserve-train", *TINY_RUN, *settings, *run_folder, "--epochs", "1"])
    main()
    _, _, *published, _ = capsys.readouterr().out.splitlines()
    report = ["--report", str(tmp_path / "report")]
    monkeypatch.setattr(sys, "argv", ["cifarserve-train", "evaluate", "quick/1", *settings, "--device", "cpu", *report])

    main()

    title, *found = capsys.readouterr().out.splitlines()
    assert title == "quick version 1"
    assert found == published
    assert (tmp_path / "report" / "report.md").exists()


def test_import(
    tiny_cifar10: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`import FILE` publishes weights that another program saved, and says how good they are."""
    torch.save(registry.build("lenet").state_dict(), tmp_path / "lenet.pth")
    settings = ["--data", str(tiny_cifar10), "--repository", str(tmp_path / "models"), "--validation-images", "50"]
    flags = [str(tmp_path / "lenet.pth"), "--architecture", "lenet", "--device", "cpu", *settings]
    monkeypatch.setattr(sys, "argv", ["cifarserve-train", "import", *flags])

    main()

    title, *summary = capsys.readouterr().out.splitlines()
    assert title == f"imported lenet version 1 into {tmp_path}/models/lenet/1"
    assert_tells_quality(summary)


def test_evaluation_of_an_unknown_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`evaluate` of a model that was never published is one line."""
    monkeypatch.setattr(sys, "argv", ["cifarserve-train", "evaluate", "--repository", str(tmp_path)])

    with pytest.raises(SystemExit) as caught:
        main()

    assert caught.value.code == 1
    assert capsys.readouterr().err == "cifarserve-train: unknown model 'whitened': expected one of none\n"


def test_interrupted_run(tiny_cifar10: Path, tmp_path: Path) -> None:
    """Ctrl-C ends a run in one line and with status 130; nothing is published."""
    flags = ["--repository", str(tmp_path / "models"), "--run-folder", str(tmp_path / "run"), "--epochs", "1000000"]
    command = tiny_trainer(tiny_cifar10, *flags)
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            first_line = process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()  # a failure of this test leaves no trainer behind

    assert first_line.startswith("epoch   1/1000000  loss ")
    assert process.returncode == 130
    expected = (
        r"cifarserve-train: interrupted in epoch \d+ of 1000000; nothing was published, --resume goes on from here\n"
    )
    assert re.fullmatch(expected, errors)
    assert Repository(tmp_path / "models").models() == ()


def test_full_disk(tiny_cifar10: Path, tmp_path: Path) -> None:
    """A disk that fills up is one line with the file's path; no version, and no half of one, is left."""
    flags = ["--repository", str(tmp_path / "models"), "--run-folder", str(tmp_path / "run"), "--epochs", "2"]

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))

    finished = subprocess.run(
        tiny_trainer(tiny_cifar10, *flags),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=small_files,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )

    assert finished.returncode == 1
    assert finished.stderr == f"cifarserve-train: {tmp_path}/run/epoch-0001.pt: File too large\n"
    assert list(tmp_path.glob("models/*")) == []
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_before_it_began(tmp_path: Path, number: signal.Signals) -> None:
    """A signal while the libraries are imported is one line as well."""
    command = trainer("--data", str(tmp_path), "--repository", str(tmp_path / "models"))
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            asyncio.run(eventually(lambda: imports_torch(process.pid), within_seconds=60))
            process.send_signal(number)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()

    assert process.returncode == 130
    assert errors == "cifarserve-train: interrupted; nothing was published\n"


def imports_torch(pid: int) -> bool:
    """Return whether the process has begun to import PyTorch, which takes it two seconds more."""
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (["--architecture", "resnet9000"], 2, "unknown architecture 'resnet9000': expected one of basic_cnn, "),
        (["--model", "../elsewhere"], 2, "--model: String should match pattern"),
        (["--validation-images", "9"], 2, "--validation-images: Input should be greater than or equal to 10"),
        (["--device", "cuda:63"], 1, "device cuda:63: this machine has "),
        (["--lr", "1e30"], 1, "epoch   1/2: the loss is "),
    ],
)
def test_failures_are_one_line(
    tiny_cifar10: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    flags: list[str],
    status: int,
    message: str,
) -> None:
    """Whatever goes wrong is one line, with status 2 for a bad flag and 1 for all else; nothing is published."""
    folders = ["--repository", str(tmp_path / "models"), "--run-folder", str(tmp_path / "run")]
    settings = ["--data", str(tiny_cifar10), *folders, "--epochs", "2"]
    monkeypatch.setattr(sys, "argv", ["cifarserve-train", *TINY_RUN, *settings, *flags])

    with pytest.raises(SystemExit) as caught:
        main()

    errors = capsys.readouterr().err
    assert caught.value.code == status
    assert errors.startswith(f"cifarserve-train: {message}")
    assert errors.count("\n") == 1
    assert list(tmp_path.glob("models/*/*")) == []
