"""Environments of clients that others wrote, apart from ours: made once, kept in .cache/interop."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

_CACHE = ROOT / ".cache" / "interop"
_INSTALL_SECONDS = 400
_RUN_SECONDS = 60
_FAILED: dict[str, str] = {}  # why an environment could not be made, so that it is tried once


def python_environment(name: str) -> Path:
    """Return the Python of an environment made from requirements/interop-`name`.txt; skips when it cannot be made."""
    lock = ROOT / "requirements" / f"interop-{name}.txt"

    def install(folder: Path) -> None:
        _command(sys.executable, "-m", "venv", str(folder))
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _command(*pip, "--no-compile", "--retries", "1", "--require-hashes", "-r", str(lock))

    return _made(name, lock.read_bytes(), install) / "bin" / "python"


def node_packages(package: Path) -> Path:
    """Return the node_modules that a package's lock names; skips when they cannot be had."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not on this machine")

    def install(folder: Path) -> None:
        folder.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(package / name, folder)
        _command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", cwd=folder)

    return _made("node", (package / "package-lock.json").read_bytes(), install) / "node_modules"


def start(*command: str | Path, environment: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a client to its end in a clean environment, and return how it ended."""
    return subprocess.run(
        [str(word) for word in command],
        env={**_outside_environment(), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=_RUN_SECONDS,
        check=False,
    )


def run_json(*command: str | Path) -> Any:  # noqa: ANN401  # JSON has no one type
    """Run a client that prints JSON, and return it; fails when the client did."""
    ended = start(*command)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def _made(name: str, lock: bytes, install: Callable[[Path], None]) -> Path:
    """Return the folder of an environment that was made from this very lock; made now if it was not yet."""
    folder = _CACHE / f"{name}-{hashlib.sha256(lock).hexdigest()[:12]}"
    complete = folder / "complete"
    if not complete.exists() and name not in _FAILED:
        shutil.rmtree(folder, ignore_errors=True)
        try:
            install(folder)
            complete.touch()
        except (subprocess.SubprocessError, OSError) as exc:
            _FAILED[name] = (str(getattr(exc, "stderr", None) or exc).strip().splitlines() or [repr(exc)])[-1]
    if name in _FAILED:
        pytest.skip(f"the environment of {name} cannot be made: {_FAILED[name]}")
    return folder


def _command(*command: str, cwd: Path | None = None) -> None:
    subprocess.run(
        command,
        cwd=cwd,
        env=_outside_environment(),
        capture_output=True,
        text=True,
        timeout=_INSTALL_SECONDS,
        check=True,
    )


def _outside_environment() -> dict[str, str]:
    """Return the environment without what would make our packages, or the tests' coverage, known to the client."""
    ours = ("PYTHONPATH", "COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START", "VIRTUAL_ENV")
    return {key: value for key, value in os.environ.items() if key not in ours}
