import asyncio

from tests.client import commandline, fake_server
from tests.client.fake_server import FakeServer


async def test_health(server: FakeServer) -> None:
    """Health is a word for people and a status for scripts."""
    serving = await commandline.run("health", target=server.target)
    await server.health.serve(serving=False)
    not_serving = await commandline.run("health", target=server.target)

    assert serving == commandline.Finished(0, "SERVING\n", "")
    assert not_serving == commandline.Finished(3, "NOT_SERVING\n", "")


async def test_health_of_an_unknown_service(server: FakeServer) -> None:
    """A name that the server does not know is an error that names it."""
    finished = await commandline.run("health", "--service", "model/nosuch", target=server.target)

    assert finished == commandline.Finished(
        4, "", f"cifarserve: server at {server.target} knows no service 'model/nosuch'\n"
    )


async def test_health_waits_until_the_server_serves(server: FakeServer) -> None:
    """A server that is still starting is asked again until it serves."""
    await server.health.serve(serving=False)

    process = await commandline.start("health", "--wait-seconds", "30", target=server.target)
    await server.health.checked.wait()
    await server.health.serve(serving=True)

    assert await commandline.finish(process) == commandline.Finished(0, "SERVING\n", "")


async def test_health_waits_until_the_service_exists(server: FakeServer) -> None:
    """A model that a starting server does not know yet is asked for again until it is there."""
    service = "model/whitened"

    process = await commandline.start("health", "--service", service, "--wait-seconds", "30", target=server.target)
    await server.health.checked.wait()
    await server.health.serve(service, serving=True)

    assert await commandline.finish(process) == commandline.Finished(0, "SERVING\n", "")


async def test_health_waits_until_there_is_a_server() -> None:
    """A server that is not there yet is found when it comes."""
    tried = asyncio.Event()

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        tried.set()

    closed_door = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = closed_door.sockets[0].getsockname()[1]
    process = await commandline.start("health", "--wait-seconds", "30", target=f"127.0.0.1:{port}")
    await tried.wait()
    closed_door.close()
    async with fake_server.running(port):
        finished = await commandline.finish(process)

    assert finished == commandline.Finished(0, "SERVING\n", "")


async def test_health_gives_up(server: FakeServer) -> None:
    """A server that never serves is reported when the time is over."""
    await server.health.serve(serving=False)

    finished = await commandline.run("health", "--wait-seconds", "0.3", target=server.target)

    assert finished == commandline.Finished(3, "NOT_SERVING\n", "")
