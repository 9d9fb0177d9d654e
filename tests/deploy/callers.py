"""Callers in closed loops, for deploy/smoke.sh: `python -m tests.deploy.callers --target HOST:PORT`.

They call without retries until SIGTERM, or each until its first failure, then print one line of JSON: how many
calls ended with which status, the texts that came with failures, and which versions answered.
"""

import argparse
import asyncio
import collections
import json
import signal
from dataclasses import dataclass, field

import grpc

from cifarserve.v1 import classifier_pb2 as pb
from tests.reliability.load import PICTURE, PREDICT

_CONNECT_SECONDS = 60
_GIVE_UP_SECONDS = 600


@dataclass
class Seen:
    """What the callers saw."""

    codes: collections.Counter[str] = field(default_factory=collections.Counter)
    details: collections.Counter[str] = field(default_factory=collections.Counter)
    versions: collections.Counter[str] = field(default_factory=collections.Counter)

    async def call(self, channel: grpc.aio.Channel, request: pb.PredictRequest) -> bool:
        """Make one call and count it; whether it was answered."""
        predict = channel.unary_unary(
            PREDICT,
            request_serializer=pb.PredictRequest.SerializeToString,
            response_deserializer=pb.PredictResponse.FromString,
        )
        try:
            response = await predict(request, timeout=60)
        except grpc.aio.AioRpcError as exc:
            self.codes[exc.code().name] += 1
            self.details[exc.details() or ""] += 1
            return False
        self.codes["OK"] += 1
        self.versions[f"{response.model.name}/{response.model.version}"] += 1
        return True


async def call_until_told(target: str, model: str, *, callers: int, until_failure: bool) -> Seen:
    """Let `callers` call again and again until SIGTERM; with `until_failure` each until its first."""
    seen = Seen()
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    asyncio.get_running_loop().call_later(_GIVE_UP_SECONDS, over.set)
    request = pb.PredictRequest(model=model, images=[PICTURE])

    async def caller(channel: grpc.aio.Channel) -> None:
        while not over.is_set():
            if not await seen.call(channel, request) and until_failure:
                return

    # Several connections: a balancer spreads requests, a broken connection must not fail them all.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    channels = [grpc.aio.insecure_channel(target, options=options) for _ in range(min(4, callers))]
    async with asyncio.TaskGroup() as group:
        await asyncio.wait_for(
            asyncio.gather(*(channel.channel_ready() for channel in channels)), timeout=_CONNECT_SECONDS
        )
        print("calling", flush=True)
        for number in range(callers):
            group.create_task(caller(channels[number % len(channels)]))
    for channel in channels:
        await channel.close()
    return seen


def main() -> None:
    """Call, then print what was seen."""
    parser = argparse.ArgumentParser(description="callers in closed loops")
    parser.add_argument("--target", required=True)
    parser.add_argument("--model", default="quick")
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--until-failure", action="store_true")
    given = parser.parse_args()
    seen = asyncio.run(
        call_until_told(given.target, given.model, callers=given.callers, until_failure=given.until_failure)
    )
    print(json.dumps({"codes": seen.codes, "details": seen.details, "versions": seen.versions}))


if __name__ == "__main__":
    main()
