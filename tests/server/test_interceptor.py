from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest
import structlog

from cifarserve.v1 import classifier_pb2 as pb
from cifarserve.v1 import classifier_pb2_grpc
from server.admission import Admission
from server.interceptor import StatusInterceptor
from server.metrics import Metrics
from server.security import gate


class BuggyServicer(classifier_pb2_grpc.ClassifierServiceServicer):
    """Raises what nobody foresaw."""

    async def ListModels(self, request: object, context: object) -> pb.ListModelsResponse:  # noqa: ARG002
        raise KeyError("/etc/secret")


class ForeignService(grpc.GenericRpcHandler):
    """A service of somebody else's, which nobody thought of: answers everything."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        async def answer(request: bytes, context: object) -> bytes:  # noqa: ARG001
            return request

        foreign = handler_call_details.method.startswith("/somebody.Elses/")
        return grpc.unary_unary_rpc_method_handler(answer, lambda body: body) if foreign else None


@pytest.fixture
async def address() -> AsyncIterator[str]:
    interceptor = StatusInterceptor(Metrics(), Admission(), packages=["cifarserve.v1"])
    server = grpc.aio.server(interceptors=[interceptor])
    classifier_pb2_grpc.add_ClassifierServiceServicer_to_server(BuggyServicer(), server)  # type: ignore[abstract]  # one method is enough
    server.add_generic_rpc_handlers((ForeignService(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


async def test_unforeseen_failure_tells_nothing_of_the_inside(address: str) -> None:
    """A bug is INTERNAL with a neutral text for the caller, and a stack trace in the log."""
    with structlog.testing.capture_logs() as log:
        async with grpc.aio.insecure_channel(address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await classifier_pb2_grpc.ClassifierServiceStub(channel).ListModels(pb.ListModelsRequest())

    assert failure.value.code() == grpc.StatusCode.INTERNAL
    assert failure.value.details() == "internal error; the server's log has the details"
    assert [(entry["event"], entry["exc_info"]) for entry in log] == [("unexpected failure", True)]


async def test_unknown_method_is_unimplemented(address: str) -> None:
    """A method that no service has is UNIMPLEMENTED."""
    async with grpc.aio.insecure_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await channel.unary_unary("/cifarserve.v1.ClassifierService/Guess")(b"")  # type: ignore[arg-type]

    assert failure.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("method", ["Predict", "GetModel"])
async def test_bytes_that_are_no_message_are_the_callers_fault(address: str, method: str) -> None:
    """A request that cannot be parsed is INVALID_ARGUMENT, and the method never sees it."""
    async with grpc.aio.insecure_channel(address) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            f"/cifarserve.v1.ClassifierService/{method}"
        )
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await call(b"\xff\xff\xff")

    assert failure.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert failure.value.details() == "the message is not one of this method"


@pytest.mark.parametrize(("is_local", "code"), [(True, grpc.StatusCode.OK), (False, grpc.StatusCode.PERMISSION_DENIED)])
async def test_what_nobody_thought_of_is_for_this_machine(
    address: str,
    is_local: bool,  # noqa: FBT001
    code: grpc.StatusCode,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without tokens, methods that are not in the table of scopes are closed to other machines, whoever's they are."""
    monkeypatch.setattr(gate, "is_local", lambda _: is_local)
    async with grpc.aio.insecure_channel(address) as channel:
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/somebody.Elses/Method")
        call = method(b"x")

        assert await call.code() == code
