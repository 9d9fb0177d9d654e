"""The client stands alone: what it exports, and that it needs nothing but its own requirements."""

import hashlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import client
from client import admin, errors, results

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "requirements" / "client.txt"


def _run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'proto'}"}
    return subprocess.run(
        [python, *arguments], capture_output=True, text=True, check=False, cwd=ROOT.anchor, env=environment
    )


def _install(folder: Path) -> Path:
    """Return the Python of a virtual environment that holds the client's requirements and nothing else."""
    python, complete = folder / "bin" / "python", folder / "complete"
    if complete.exists():
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    pip: list[str | Path] = [python, "-m", "pip", "install", "--disable-pip-version-check", "--retries", "1"]
    install = [*pip, "--require-hashes", "-r", REQUIREMENTS]
    installed = subprocess.run(install, capture_output=True, text=True, check=False)
    if "connection broken by" in installed.stderr:  # pip's words for an index that it cannot reach
        pytest.skip("no package index can be reached")
    assert installed.returncode == 0, installed.stderr
    complete.touch()
    return python


@pytest.fixture(scope="session")
def python() -> Path:
    """The Python of an environment made from requirements/client.txt; made once for each version of that file."""
    key = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:16]
    return _install(ROOT / ".cache" / "client-venv" / key)


@pytest.mark.timeout(600)
def test_the_client_needs_only_its_requirements(python: Path) -> None:
    """Where torch, numpy and the server's packages are absent, the client can be imported."""
    absent = ("torch", "numpy", "pydantic", "structlog")

    finished = _run(
        python,
        "-c",
        "import importlib.util, client\n"
        f"print(client.ClassifierClient.__name__, *filter(importlib.util.find_spec, {absent}))",
    )

    assert (finished.stdout, finished.stderr) == ("ClassifierClient\n", "")


@pytest.mark.timeout(600)
def test_the_command_line_needs_only_the_clients_requirements(python: Path) -> None:
    """There, the command line runs too."""
    finished = _run(python, "-m", "client", "--help")

    assert finished.stdout.startswith("Usage: cifarserve [OPTIONS] COMMAND [ARGS]...")
    assert (finished.returncode, finished.stderr) == (0, "")


def test_importing_the_client_is_light() -> None:
    """A program that imports the client does not pay for the command line or for anything heavy."""
    finished = _run(Path(sys.executable), "-c", "import client, sys; print(*sorted(sys.modules))")

    assert not {"click", "PIL", "numpy", "torch", "server", "models", "training"} & set(finished.stdout.split())


def test_everything_that_a_caller_meets_is_exported() -> None:
    """Errors and values of the client's methods can be imported from `client`, and nothing is listed in vain."""
    met = {
        name
        for module in (admin, errors, results)
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__
    }

    assert met <= set(client.__all__)
    assert all(hasattr(client, name) for name in client.__all__)
