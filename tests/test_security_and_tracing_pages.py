"""The commands on two pages, `docs/security.md` and `docs/tracing.md`, do what the pages say."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image
from skimage import data

from tests.conftest import ROOT
from tests.server.process import running_server

_SERVER = "cifarserve-server "


def commands_of(page: str) -> list[str]:
    return re.findall(r"^\$ (.*)$", (ROOT / "docs" / page).read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("quick")
    shutil.copytree(ROOT / "models/pretrained/quick", path / "quick")
    return path


async def run(commands: Sequence[str], folder: Path, *, target: str = "") -> str:
    """Run commands in one shell, as they stand on the page; return what they print."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "CIFARSERVE_TARGET": target,
    }
    process = await asyncio.create_subprocess_exec(
        "bash", "-ec", "\n".join(commands), cwd=folder, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


def split(page: str) -> tuple[list[str], list[str], list[str]]:
    """Return the page's commands before its first server, the flags of that, and the commands after it."""
    commands = commands_of(page)
    [first, *_] = [place for place, command in enumerate(commands) if command.startswith(_SERVER)]
    flags = shlex.split(commands[first])[1:]
    after = commands[first + 1 :]
    end = next((place for place, command in enumerate(after) if command.startswith(("pip ", _SERVER))), len(after))
    return commands[:first], flags, after[:end]


async def test_security_page(quick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Certificates are made, a server is started with them, and the client's commands and Python succeed."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not at hand")
    before, flags, after = split("security.md")
    await run(before, tmp_path)
    paths = [str(tmp_path / flag) if (tmp_path / flag).exists() else flag for flag in flags]
    async with running_server("--repository", quick, *paths) as server:
        output = await run(after, tmp_path, target=server.address)
        [snippet] = re.findall(r"```python\n(.*?)```", (ROOT / "docs/security.md").read_text(), re.DOTALL)
        await asyncio.to_thread(_run_python, snippet.replace("127.0.0.1:50051", server.address), tmp_path)
        assert await server.stop() == 0

    assert output.startswith("SERVING\n")
    assert "quick" in output
    assert capsys.readouterr().out == "['quick']\n"


async def test_tracing_page(quick: Path, tmp_path: Path) -> None:
    """The access log has the request that the page makes; a traced picture is classified."""
    commands = commands_of("tracing.md")
    log_flags, trace_flags = (shlex.split(command)[1:] for command in commands if command.startswith(_SERVER))
    [predict] = [command for command in commands if command.startswith("TRACEPARENT=")]
    Image.fromarray(data.chelsea()).save(tmp_path / "cat.jpg")  # type: ignore[no-untyped-call]
    [flags, [output]] = [log_flags[: log_flags.index(">")], log_flags[log_flags.index(">") + 1 :]]
    with (tmp_path / output).open("wb") as access_log:
        async with running_server(
            "--repository", quick, *flags, *trace_flags, stdout=access_log,
            environment={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        ) as server:  # fmt: skip
            await run(["cifarserve models", predict], tmp_path, target=server.address)
            assert await server.stop() == 0

    lines = [json.loads(line) for line in (tmp_path / output).read_text().splitlines()]
    assert [line["method"].rpartition("/")[2] for line in lines] == ["ListModels", "Predict"]
    assert lines[1]["trace_id"] == "0af7651916cd43dd8448eb211c80319c"


def _run_python(snippet: str, folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(snippet, {})  # noqa: S102  # that is the test
