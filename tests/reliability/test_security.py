"""Certificates and tokens, shown and not shown, right and wrong, and changed while the server serves. T19."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from cifarserve.v1 import classifier_pb2_grpc
from client import (
    AccessDenied,
    ClassifierClient,
    Credentials,
    ModelAdminClient,
    NotTrusted,
    RawRgb,
    ServerUnavailable,
    Tls,
)
from tests.certificates import EXPIRED, Authority, Pair, replace
from tests.client import commandline
from tests.reliability.conftest import Figure
from tests.reliability.load import ONE_PICTURE, PREDICT, closed_loops, predict_call, soon
from tests.server.process import ServerProcess, running_server

PICTURE = RawRgb(bytes(3072))
STREAM = "/cifarserve.v1.ClassifierService/PredictStream"
VERSIONS = "/cifarserve.v1.ModelAdminService/ListVersions"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
NOTHING = Empty()
SHOP, ALICE, UNKNOWN = "5" * 64, "a" * 64, "0" * 64
TOKENS = f"infer shop {SHOP}\nadmin alice {ALICE}\n"


@dataclass(frozen=True)
class Guarded:
    """A server with TLS, whose files can be replaced.

    Attributes:
        process: the server.
        authority: signed its certificate.
        certificate: where that lies.
        key: where its key lies.
        client_ca: where the authorities of clients lie; only a mutual one looks at them.
        tokens: where the tokens lie.
    """

    process: ServerProcess
    authority: Authority
    certificate: Path
    key: Path
    client_ca: Path
    tokens: Path

    @property
    def target(self) -> str:
        """Where it listens."""
        return self.process.address

    def replace_certificate(self, pair: Pair) -> None:
        """Put another certificate and key in their places."""
        replace(self.key, pair.key)
        replace(self.certificate, pair.certificate)

    async def reads(self, kind: str, outcome: str, times: int) -> None:
        """Return when the server has read its files so often."""
        name = "cifarserve_credential_reads_total"
        await soon(lambda: self.process.metric(name, kind=kind, outcome=outcome) >= times)


@contextlib.asynccontextmanager
async def guarded(
    repository: Path, folder: Path, *, tokens: bool = False, mutual: bool = False
) -> AsyncIterator[Guarded]:
    authority = Authority()
    certificate, key = authority.sign().write(folder, "server")
    client_ca = replace(folder / "clients.crt", authority.pem)
    accepted = replace(folder / "tokens", TOKENS.encode())
    flags: list[str | Path] = ["--repository", repository, "--tls-certificate", certificate, "--tls-key", key]
    flags += ["--tls-client-ca", client_ca] if mutual else []
    flags += ["--accepted-tokens", accepted] if tokens else []
    async with running_server(*flags) as process:
        yield Guarded(process, authority, certificate, key, client_ca, accepted)
        assert await process.stop() == 0


def client_of(
    server: Guarded, *, token: str = "", shown: Pair | None = None, ca: bytes | None = None
) -> ClassifierClient:
    tls = Tls(
        ca=server.authority.pem if ca is None else ca,
        certificate=shown.certificate if shown else None,
        key=shown.key if shown else None,
    )
    return ClassifierClient(server.target, timeout_seconds=60, credentials=Credentials(tls, token))


async def is_answered(client: ClassifierClient) -> bool:
    async with client:
        return len((await client.predict([PICTURE])).results) == 1


async def test_certificates(quick_repository: Path, tmp_path: Path, figure: Figure) -> None:
    """T19. Wrong CA, expired, another host, no TLS: each refused with one line; rotated: no call is lost."""
    stranger = Authority()
    async with guarded(quick_repository, tmp_path) as server:
        assert await is_answered(client_of(server))
        with pytest.raises(NotTrusted, match="is of no authority that is trusted"):
            await is_answered(client_of(server, ca=stranger.pem))
        with pytest.raises(ServerUnavailable, match=r"the server hung up; does it want TLS \(--tls\)"):
            await is_answered(ClassifierClient(server.target, timeout_seconds=60))

        credentials = grpc.ssl_channel_credentials(server.authority.pem)
        async with (
            grpc.aio.secure_channel(server.target, credentials) as channel,
            closed_loops(predict_call(channel, ONE_PICTURE), callers=4) as tally,
        ):
            await soon(lambda: tally.answered >= 10)
            server.replace_certificate(server.authority.sign(expires=EXPIRED))
            await server.reads("certificates", "used", 2)
            with pytest.raises(NotTrusted, match="the server's certificate has expired"):
                await is_answered(client_of(server))
            server.replace_certificate(server.authority.sign("elsewhere.example"))
            await server.reads("certificates", "used", 3)
            with pytest.raises(NotTrusted, match="the server's certificate is for another name"):
                await is_answered(client_of(server))
            replace(server.certificate, b"not a certificate")
            await server.reads("certificates", "refused", 1)
            server.replace_certificate(stranger.sign())
            await server.reads("certificates", "used", 4)
            assert await is_answered(client_of(server, ca=stranger.pem))
            with pytest.raises(NotTrusted):
                await is_answered(client_of(server))
            before = tally.answered
            await soon(lambda: tally.answered >= before + 10)

    assert tally.failed == 0
    figure(
        promise="certificates are replaced without a restart, and no call is lost",
        tested=f"five certificates, among them an expired one, one of another host and a damaged one, under "
        f"{tally.answered:,} calls of 4 callers; wrong CA and missing TLS are told by name",
        value=f"{tally.failed} of {tally.answered:,} calls lost",
    )


async def test_clients_certificates(quick_repository: Path, tmp_path: Path) -> None:
    """T19. Mutual TLS: no certificate, an expired one, or one of a strange authority is refused; authorities rotate."""
    stranger = Authority()
    async with guarded(quick_repository, tmp_path, mutual=True) as server:
        assert await is_answered(client_of(server, shown=server.authority.sign("client")))
        for shown in (None, stranger.sign("client"), server.authority.sign("client", expires=EXPIRED)):
            with pytest.raises(ServerUnavailable, match="does it want a certificate of this client, or another one"):
                await is_answered(client_of(server, shown=shown))

        replace(server.client_ca, stranger.pem)
        await server.reads("certificates", "used", 2)
        assert await is_answered(client_of(server, shown=stranger.sign("client")))
        with pytest.raises(ServerUnavailable):
            await is_answered(client_of(server, shown=server.authority.sign("client")))


async def test_tokens(quick_repository: Path, tmp_path: Path, figure: Figure) -> None:
    """T19. No token, a wrong one, infer on an administrator's method: one status each; tokens rotate at once."""
    async with guarded(quick_repository, tmp_path, tokens=True) as server:
        credentials = grpc.ssl_channel_credentials(server.authority.pem)
        with grpc.secure_channel(server.target, credentials) as channel:
            codes = {
                name: code_of(channel, method, request, metadata)
                for name, method, request, metadata in (
                    ("no token", PREDICT, ONE_PICTURE, ()),
                    ("wrong token", PREDICT, ONE_PICTURE, bearer(UNKNOWN)),
                    ("another scheme", PREDICT, ONE_PICTURE, (("authorization", f"Basic {SHOP}"),)),
                    ("infer token", PREDICT, ONE_PICTURE, bearer(SHOP)),
                    ("no token, administration", VERSIONS, NOTHING, ()),
                    ("infer token, administration", VERSIONS, NOTHING, bearer(SHOP)),
                    ("admin token, administration", VERSIONS, NOTHING, bearer(ALICE)),
                    ("infer token, unknown method", "/nobody.Knows/This", NOTHING, bearer(SHOP)),
                    ("no token, stream", STREAM, ONE_PICTURE, ()),
                    ("no token, health", "/grpc.health.v1.Health/Check", NOTHING, ()),
                    ("no token, reflection", REFLECTION, ServerReflectionRequest(list_services=""), ()),
                    ("infer token, reflection", REFLECTION, ServerReflectionRequest(list_services=""), bearer(SHOP)),
                )
            }
        assert codes == {
            "no token": "UNAUTHENTICATED",
            "wrong token": "UNAUTHENTICATED",
            "another scheme": "UNAUTHENTICATED",
            "infer token": "OK",
            "no token, administration": "UNAUTHENTICATED",
            "infer token, administration": "PERMISSION_DENIED",
            "admin token, administration": "OK",
            "infer token, unknown method": "PERMISSION_DENIED",
            "no token, stream": "UNAUTHENTICATED",
            "no token, health": "OK",
            "no token, reflection": "UNAUTHENTICATED",
            "infer token, reflection": "OK",
        }
        assert server.process.metric("cifarserve_requests_total", code="UNAUTHENTICATED", method="Predict") == 3
        assert server.process.metric("cifarserve_requests_total", code="PERMISSION_DENIED", method="unknown") == 1

        replace(server.tokens, f"infer shop {UNKNOWN}".encode())
        await server.reads("tokens", "used", 2)
        assert await is_answered(client_of(server, token=UNKNOWN))
        with pytest.raises(AccessDenied, match="the token is not one that this server knows"):
            await is_answered(client_of(server, token=SHOP))
        replace(server.tokens, b"rubbish")
        await server.reads("tokens", "refused", 1)
        assert await is_answered(client_of(server, token=UNKNOWN))

    assert not [entry for entry in server.process.log if any(token in str(entry) for token in (SHOP, ALICE, UNKNOWN))]
    figure(
        promise="without the right token nothing but health answers",
        tested=", ".join(codes),
        value=f"{len(codes)} of {len(codes)} as the table of scopes says",
    )


async def test_commands_speak_tls_and_show_tokens(quick_repository: Path, tmp_path: Path) -> None:
    """Options, and the same as environment variables, work for every command; failures are one line."""
    async with guarded(quick_repository, tmp_path, tokens=True) as server:
        ca = ["--ca-file", str(replace(tmp_path / "ca.crt", server.authority.pem))]
        shop = ["--token-file", str(replace(tmp_path / "shop", f"{SHOP}\n".encode()))]
        alice = ["--token-file", str(replace(tmp_path / "alice", ALICE.encode()))]
        strange = ["--ca-file", str(replace(tmp_path / "strange.crt", Authority().pem))]

        health = await commandline.run(*ca, "health", target=server.target)
        models = await commandline.run(*ca, *shop, "models", target=server.target)
        versions = await commandline.run(*ca, *alice, "models", "list", "quick", target=server.target)
        denied = await commandline.run(*ca, *shop, "models", "reload", "quick", target=server.target)
        missing = await commandline.run(*ca, "models", target=server.target)
        distrusted = await commandline.run(*strange, "health", target=server.target)
        plain = await commandline.run("--timeout-seconds", "5", "health", target=server.target)

    assert (health.status, health.stdout) == (0, "SERVING\n")
    assert (models.status, versions.status) == (0, 0)
    assert "refused access: this method needs a token of scope admin" in denied.stderr
    assert "refused access: expected 'authorization: Bearer TOKEN' in the metadata, got none" in missing.stderr
    assert "the server's certificate is of no authority that is trusted (--ca-file)" in distrusted.stderr
    assert "does it want TLS (--tls)?" in plain.stderr
    assert [each.status for each in (denied, missing, distrusted, plain)] == [4, 4, 4, 3]
    for each in (denied, missing, distrusted, plain):  # gRPC may write its own account of a handshake beside ours
        assert [line.startswith("cifarserve: ") for line in each.stderr.splitlines()].count(True) == 1
        assert "Traceback" not in each.stderr


async def test_administration_is_for_this_machine_where_there_are_no_tokens(quick_repository: Path) -> None:
    """From another address than loopback, only what does not change the server is answered; a warning was logged."""
    async with running_server("--repository", quick_repository, "--host", "0.0.0.0") as process:  # noqa: S104
        port = process.address.rpartition(":")[2]
        async with (
            ClassifierClient(f"{own_address()}:{port}") as client,
            ModelAdminClient(f"{own_address()}:{port}") as elsewhere,
            ModelAdminClient(f"127.0.0.1:{port}") as here,
        ):
            assert (await client.predict([PICTURE])).results[0].predictions
            assert (await here.versions()).serving
            with pytest.raises(AccessDenied, match="only callers on the server's own machine"):
                await elsewhere.versions()

    warnings = [entry["missing"] for entry in process.log if "protection is missing" in str(entry["event"])]
    assert warnings == ["TLS (--tls-certificate, --tls-key) and tokens (--accepted-tokens)"]


async def test_client_that_asks_too_often_is_told_when_to_return(quick_repository: Path) -> None:
    """Beyond its rate a client gets RESOURCE_EXHAUSTED with a pushback; its streams are read more slowly instead."""
    flags = ("--rate-limit-per-second", "20", "--rate-limit-burst", "5")
    async with (
        running_server("--repository", quick_repository, *flags) as process,
        grpc.aio.insecure_channel(process.address, options=[("grpc.enable_retries", 0)]) as channel,
    ):
        async with closed_loops(predict_call(channel, ONE_PICTURE), callers=4) as tally:
            await soon(lambda: tally.codes[grpc.StatusCode.RESOURCE_EXHAUSTED] >= 20 and tally.answered >= 8)
        stream = classifier_pb2_grpc.ClassifierServiceStub(channel).PredictStream(iter([ONE_PICTURE] * 20))
        answers = [answer async for answer in stream]

    assert len(answers) == 20
    assert not [answer for answer in answers if answer.HasField("error")]
    assert set(tally.codes) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert set(tally.details) == {"too many requests of this client"}
    assert all(1 <= pushback <= 50 for pushback in tally.pushbacks_ms)


def code_of(channel: grpc.Channel, method: str, request: Message, metadata: tuple[tuple[str, str], ...]) -> str:
    """Send one message to a method of any kind; return the status that it ends with, OK once it answers.

    Blocking: grpc.aio loses the status when a stream ends while it is written to, grpc/grpc#36066.
    """
    open_call: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
    call = open_call(iter([request.SerializeToString()]), metadata=metadata, timeout=60)
    try:
        next(call, None)
    except grpc.RpcError:
        return str(call.code().name)
    finally:
        call.cancel()
    return "OK"


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def own_address() -> str:
    """Return an address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # sends nothing; chooses the address that a packet would leave from
        address = str(probe.getsockname()[0])
        if not address.startswith("127."):
            return address
    pytest.skip("this machine has no other address than loopback")
