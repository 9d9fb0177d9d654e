"""The ceiling of any Python gRPC server: answers Predict and PredictStream with a ready-made response, no model.

    python -m benchmarks.echo

Prints its port and serves until it is told to stop. Same messages, same library, same event loop as
the server; nothing is decoded, queued, computed or counted.
"""

import asyncio
import signal
from collections.abc import AsyncIterable

import grpc
import uvloop

from cifarserve.v1 import classifier_pb2 as pb
from cifarserve.v1 import classifier_pb2_grpc

RESPONSE = pb.PredictResponse(
    results=[pb.Result(predictions=[pb.Prediction(label="automobile", index=1, probability=0.5)])],
    model=pb.ModelIdentity(name="quick", version=1, digest="0" * 64),
    timings=pb.Timings(decode_ms=0.1, queue_ms=0.1, compute_ms=0.1, total_ms=0.3, batch_size=16),
)


class EchoServicer(classifier_pb2_grpc.ClassifierServiceServicer):
    """Answers everything alike."""

    async def Predict(self, request: pb.PredictRequest, context: object) -> pb.PredictResponse:
        """Answer at once."""
        return RESPONSE

    async def PredictStream(  # type: ignore[override]
        self,
        requests: AsyncIterable[pb.PredictRequest],
        context: "grpc.aio.ServicerContext[pb.PredictRequest, pb.PredictResponse]",
    ) -> None:
        """Answer each message at once."""
        async for _ in requests:
            await context.write(RESPONSE)


async def main() -> None:
    """Serve on a free port."""
    server = grpc.aio.server()
    classifier_pb2_grpc.add_ClassifierServiceServicer_to_server(EchoServicer(), server)  # type: ignore[abstract]
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(0)


if __name__ == "__main__":
    uvloop.run(main())
