import pytest

from server.errors import AccessDenied, Unauthenticated
from server.security.gate import CALLER, Gate, host_of, is_local
from server.security.tokens import Tokens

PREDICT = "/cifarserve.v1.ClassifierService/Predict"
LOAD = "/cifarserve.v1.ModelAdminService/Load"
CHECK = "/grpc.health.v1.Health/Check"
SHOP, ALICE = "5" * 32, "a" * 32
TOKENS = Tokens.parse(f"infer shop {SHOP}\nadmin alice {ALICE}")


def shows(token: str) -> tuple[tuple[str, str], ...]:
    return (("user-agent", "test"), ("authorization", f"Bearer {token}"))


@pytest.fixture
def gate() -> Gate:
    return Gate(lambda: TOKENS)


@pytest.mark.parametrize(
    ("method", "token", "caller"), [(PREDICT, SHOP, "shop"), (PREDICT, ALICE, "alice"), (LOAD, ALICE, "alice")]
)
def test_good_token_opens_and_is_remembered(gate: Gate, method: str, token: str, caller: str) -> None:
    """Whoever has the right token may go on, and is known by name from then on."""
    gate.check_metadata(method, shows(token))

    assert CALLER.get() == caller


@pytest.mark.parametrize("metadata", [None, (), shows("x" * 32), (("authorization", "Basic x"),)])
@pytest.mark.parametrize("method", [PREDICT, LOAD, "/nobody.Knows/This"])
def test_without_a_known_token_nobody_passes(
    gate: Gate, method: str, metadata: tuple[tuple[str, str], ...] | None
) -> None:
    """A missing token and a wrong one are refused alike, also for methods that do not exist."""
    with pytest.raises(Unauthenticated):
        gate.check_metadata(method, metadata)


@pytest.mark.parametrize("method", [LOAD, "/inference.GRPCInferenceService/RepositoryModelLoad", "/nobody.Knows/This"])
def test_infer_token_is_not_good_for_administration(gate: Gate, method: str) -> None:
    """Scopes differ; what nobody thought of needs the narrowest."""
    with pytest.raises(AccessDenied, match="needs a token of scope admin, got one of scope infer"):
        gate.check_metadata(method, shows(SHOP))


def test_health_needs_no_token(gate: Gate) -> None:
    """Probes pass."""
    gate.check_metadata(CHECK, ())


def test_tokens_of_the_moment_count() -> None:
    """A token that was taken out of the file opens nothing from then on."""
    current = TOKENS
    gate = Gate(lambda: current)
    gate.check_metadata(PREDICT, shows(SHOP))
    current = Tokens.parse(f"infer other {'o' * 32}")

    with pytest.raises(Unauthenticated):
        gate.check_metadata(PREDICT, shows(SHOP))


def test_without_tokens_only_administration_looks_at_the_peer(gate: Gate) -> None:
    """Administration is for this machine; with tokens, the token decides, wherever it comes from."""
    open_gate = Gate()

    assert [open_gate.asks_for_peer(method) for method in (PREDICT, CHECK, LOAD, "/nobody.Knows/This")] == [
        False,
        False,
        True,
        True,
    ]
    assert not gate.asks_for_peer(LOAD)
    with pytest.raises(AccessDenied, match="only callers on the server's own machine"):
        open_gate.check_peer("ipv4:192.168.0.7:5000")


@pytest.mark.parametrize(
    ("peer", "local"),
    [
        ("ipv4:127.0.0.1:5000", True),
        ("ipv4:127.8.9.10:5000", True),
        ("ipv6:%5B::1%5D:5000", True),
        ("ipv6:[::1]:5000", True),
        ("ipv6:%5B::ffff:127.0.0.1%5D:5000", True),
        ("unix:", True),
        ("unix:/run/cifarserve.sock", True),
        ("ipv4:192.168.0.7:5000", False),
        ("ipv4:10.0.0.1:127", False),
        ("ipv6:%5B::ffff:10.0.0.1%5D:5000", False),
        ("ipv6:%5Bfe80::1%25eth0%5D:5000", False),
        ("ipv4:localhost:5000", False),
        ("vsock:2:5000", False),
        ("", False),
    ],
)
def test_only_loopback_is_local(peer: str, local: bool) -> None:  # noqa: FBT001
    """An address that cannot be read is somebody else's."""
    assert is_local(peer) is local


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:10.0.0.1:5000", "10.0.0.1"),
        ("ipv6:%5B::1%5D:5000", "::1"),
        ("ipv6:%5Bfe80::1%25eth0%5D:5000", "fe80::1"),
        ("unix:/run/a", "unix:/run/a"),
    ],
)
def test_host_is_one_for_all_connections_of_a_machine(peer: str, host: str) -> None:
    """The port, which is new for each connection, is left out."""
    assert host_of(peer) == host
