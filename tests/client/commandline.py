"""Runs `python -m client` as a person does: in a process of its own."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Finished:
    """What a command left behind: its exit status, and what it printed."""

    status: int
    stdout: str
    stderr: str


async def start(
    *arguments: str, target: str, stdin: int = PIPE, stdout: int = PIPE, stderr: int = PIPE
) -> asyncio.subprocess.Process:
    """Start a command that talks to `target`."""
    return await start_with({}, *arguments, target=target, stdin=stdin, stdout=stdout, stderr=stderr)


async def start_with(
    variables: Mapping[str, str],
    *arguments: str,
    target: str,
    stdin: int = PIPE,
    stdout: int = PIPE,
    stderr: int = PIPE,
) -> asyncio.subprocess.Process:
    """Start a command in an environment that has some more variables."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "client",
        *arguments,
        cwd=_ROOT,
        # buffered, as it is for people: an output that failed is flushed once more at the end
        env={**os.environ, "CIFARSERVE_TARGET": target, "PYTHONUNBUFFERED": "", **variables},
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
    )


async def finish(process: asyncio.subprocess.Process, stdin: bytes | None = None) -> Finished:
    """Wait for a command that was started."""
    stdout, stderr = await process.communicate(stdin)
    assert process.returncode is not None
    return Finished(process.returncode, (stdout or b"").decode(), (stderr or b"").decode())


async def run(*arguments: str, target: str, stdin: bytes | None = None) -> Finished:
    """Run a command to its end."""
    return await finish(await start(*arguments, target=target), stdin)
