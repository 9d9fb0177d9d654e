"""A version that is not what it should be is refused with its reason, and the old one goes on."""

import asyncio
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import grpc

from client import ClassifierClient
from client.results import ModelSummary
from tests.models import damages
from tests.reliability.conftest import Figure, Scale
from tests.reliability.load import closed_loops, predict_call
from tests.reliability.versions import MODEL, REQUEST, publish_version
from tests.server.process import running_server

_POLL_SECONDS = 0.2
_REFUSED_WITHIN_SECONDS = 90

Damage = Callable[[Path], None]

# What the metric calls it, and whether it is known before an engine looks at the weights.
_DAMAGES: dict[Damage, tuple[str, bool]] = {
    damages.weights_truncated: ("digest", True),
    damages.weights_missing: ("unreadable", True),
    damages.weights_not_finite: ("not_finite", False),
    damages.card_that_is_not_json: ("card", True),
    damages.weights_with_a_flipped_byte: ("digest", True),
    damages.card_missing: ("unreadable", True),
    damages.card_with_foreign_labels: ("card", True),
    damages.card_of_an_unknown_architecture: ("architecture", False),
    damages.weights_of_another_architecture: ("architecture", False),
    damages.weights_that_run_code: ("format", False),
}
_FEW = 3


async def refusal_of(client: ClassifierClient, version: int) -> tuple[ModelSummary, str]:
    """Return what the server lists, and the reason, once it has refused a version."""
    async with asyncio.timeout(_REFUSED_WITHIN_SECONDS):
        while True:
            [model] = await client.list_models()
            reasons = [refused.reason for refused in model.refused if refused.version == version]
            if reasons:
                return model, reasons[0]
            await asyncio.sleep(0.02)  # polled with a deadline


async def test_damaged_versions_are_refused(tmp_path: Path, scale: Scale, figure: Figure) -> None:
    """T4. Whatever is wrong with a version, the old one answers; the list has the reason, the metric counts it."""
    wanted = dict(list(_DAMAGES.items())[: scale.choose(short=_FEW, full=len(_DAMAGES))])
    repository = tmp_path / "repository"
    publish_version(repository, 1)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    flags = ("--repository", repository, "--poll-interval-seconds", str(_POLL_SECONDS))
    async with (
        running_server(*flags) as server,
        ClassifierClient(server.address) as client,
        grpc.aio.insecure_channel(server.address) as channel,
        closed_loops(predict_call(channel, REQUEST), callers=4) as tally,
    ):
        for version, (damage, (fault, at_once)) in enumerate(wanted.items(), start=2):
            counted = server.metric("cifarserve_model_load_failures_total", model=MODEL, reason=fault)
            folder = publish_version(repository, version, damage=damage)
            started = time.monotonic()
            model, reason = await refusal_of(client, version)
            seconds[at_once].append(time.monotonic() - started)

            assert (model.state, model.serving and model.serving.version) == ("ready", 1)
            assert reason.startswith((f"{MODEL}/{version}/model.", "unknown architecture"))
            assert server.metric("cifarserve_model_load_failures_total", model=MODEL, reason=fault) == counted + 1
            assert not (folder / damages.PAYLOAD_TRACE).exists()
            assert (await client.predict([bytes_of_a_picture()])).model.version == 1
        loads = server.metric("cifarserve_model_loads_total", outcome="failure")
    assert loads == len(wanted)  # each was tried once
    assert tally.failed == 0
    if scale.full:
        assert max(seconds[True]) <= _POLL_SECONDS + 1
    figure(
        promise="a damaged version never affects serving",
        tested=f"{len(wanted)} damaged versions ({', '.join(damage.__name__ for damage in wanted)})"
        " published under 4 closed-loop callers",
        value=f"0 errors in {tally.answered:,} requests; each was refused once, with its reason,"
        f" within {max(seconds[True]):.1f} s ({max(seconds[False]):.1f} s where an engine had to look at the weights)",
    )


def bytes_of_a_picture() -> bytes:
    """Return a PNG file of one grey pixel."""
    return bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
        "0000000a49444154789c6368000000820081dd436af40000000049454e44ae426082"
    )


async def test_version_copied_in_place_is_served_when_it_is_whole(tmp_path: Path) -> None:
    """T4. A folder that is filled file by file, as `cp -r` does, is refused until it is whole, and then served."""
    repository = tmp_path / "repository"
    publish_version(repository, 1)
    whole = publish_version(tmp_path / "elsewhere", 2)
    copy = repository / MODEL / "2"
    flags = ("--repository", repository, "--poll-interval-seconds", str(_POLL_SECONDS))
    async with running_server(*flags) as server, ClassifierClient(server.address) as client:
        copy.mkdir()
        shutil.copy(whole / "model.json", copy)
        _, nothing = await refusal_of(client, 2)
        (copy / "model.pt").write_bytes((whole / "model.pt").read_bytes()[:1000])
        half = nothing
        async with asyncio.timeout(_REFUSED_WITHIN_SECONDS):
            while half == nothing:
                _, half = await refusal_of(client, 2)
        shutil.copy(whole / "model.pt", copy)
        async with asyncio.timeout(_REFUSED_WITHIN_SECONDS):
            while (await client.predict([bytes_of_a_picture()])).model.version != 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)  # polled with a deadline
        [model] = await client.list_models()

    assert nothing == f"{MODEL}/2/model.pt: No such file or directory"
    assert "(1000 bytes)" in half
    assert model.refused == ()
