import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from client.commands.completion import SHELLS
from tests.client import commandline, fake_server
from tests.client.fake_server import FakeServer

COMMAND = Path(sys.executable).with_name("cifarserve")


async def complete(line: str, *, target: str) -> list[str]:
    """What bash would offer for a command line whose last word is unfinished."""
    words = line.split(" ")
    process = await commandline.start_with(
        {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_CIFARSERVE_COMPLETE": "bash_complete"},
        target=target,
    )
    finished = await commandline.finish(process)
    assert finished.stderr == ""
    return [offer.split(",", maxsplit=1)[1] for offer in finished.stdout.splitlines() if offer]


async def test_commands_and_options_are_completed() -> None:
    """What was begun is ended with what there is."""
    assert await complete("cifarserve pre", target="127.0.0.1:1") == ["predict"]
    assert await complete("cifarserve predict --out", target="127.0.0.1:1") == ["--output"]
    assert await complete("cifarserve predict --output js", target="127.0.0.1:1") == ["jsonl"]


async def test_models_are_completed(server: FakeServer) -> None:
    """Names of models are the server's."""
    assert await complete("cifarserve predict --model wh", target=server.target) == ["whitened"]
    assert await complete("cifarserve models pin ", target=server.target) == ["broken", "whitened"]


async def test_models_are_asked_for_with_the_credentials(server: FakeServer, tmp_path: Path) -> None:
    """A server that wants a token is shown it, and a file that is not there is no error while somebody types."""
    token = tmp_path / "token"
    token.write_text("s3cret")

    offers = await complete(f"cifarserve --token-file {token} predict --model wh", target=server.target)
    none = await complete("cifarserve --token-file nowhere predict --model wh", target=server.target)

    assert (offers, none) == (["whitened"], [])
    assert server.classifier.metadata[-1]["authorization"] == "Bearer s3cret"


async def test_a_server_that_is_away_offers_nothing() -> None:
    """No error appears in the middle of somebody's command line."""
    with fake_server.nobody_listens() as target:
        assert await complete("cifarserve predict --model wh", target=target) == []


@pytest.mark.parametrize("shell", SHELLS)
async def test_every_shell_gets_its_script(shell: str) -> None:
    """The script names the command that it completes."""
    finished = await commandline.run("completion", shell, target="127.0.0.1:1")

    assert finished.status == 0
    assert f"_CIFARSERVE_COMPLETE={shell}_complete" in finished.stdout


@pytest.mark.skipif(not shutil.which("bash") or not COMMAND.exists(), reason="needs bash and the installed command")
def test_bash_completes() -> None:
    """A real bash that has read the script offers the commands."""
    script = (
        'eval "$(cifarserve completion bash)"; COMP_WORDS=(cifarserve mo); COMP_CWORD=1;'
        ' _cifarserve_completion cifarserve; echo "${COMPREPLY[@]}"'
    )

    finished = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "PATH": f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.stdout.split() == ["models"]
