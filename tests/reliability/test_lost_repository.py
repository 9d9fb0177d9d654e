"""What happens to the folder of models does not touch the server that has loaded them."""

import shutil
from pathlib import Path

import grpc

from tests.reliability.conftest import Figure, Scale
from tests.reliability.load import ONE_PICTURE, answers, closed_loops, predict_call
from tests.server.process import running_server


async def test_serving_needs_no_repository(
    quick_repository: Path, tmp_path: Path, scale: Scale, figure: Figure
) -> None:
    """T23. When the repository becomes unreadable or goes away, every request is answered as before."""
    repository = tmp_path / "repository"
    shutil.copytree(quick_repository, repository)
    each = scale.choose(short=50, full=2_000)
    async with running_server("--repository", repository) as server:
        async with (
            grpc.aio.insecure_channel(server.address) as channel,
            closed_loops(predict_call(channel, ONE_PICTURE), callers=4) as tally,
        ):
            await answers(tally, each)
            (repository / "quick/1/model.pt").write_bytes(b"")
            await answers(tally, 2 * each)
            shutil.rmtree(repository)
            await answers(tally, 3 * each)
        assert await server.stop() == 0

    assert tally.failed == 0
    figure(
        promise="serving needs no repository once a model is loaded",
        tested="weights emptied, then the whole repository deleted, under 4 closed-loop callers",
        value=f"0 errors in {tally.answered:,} requests",
    )
