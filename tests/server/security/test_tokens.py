import hmac

import pytest

from server.security.scopes import Scope
from server.security.tokens import BadTokens, Caller, Tokens

SHOP, ALICE, UNKNOWN = "5" * 32, "a" * 32, "u" * 32
TEXT = f"# who may\n\ninfer shop {SHOP}\nadmin  alice@home\t{ALICE}\n"


def test_caller_is_known_by_the_token() -> None:
    """A token tells a name and a scope; the scheme's case does not matter."""
    tokens = Tokens.parse(TEXT)

    assert len(tokens) == 2
    assert tokens.caller(f"Bearer {SHOP}") == Caller("shop", Scope.INFER)
    assert tokens.caller(f"bearer {ALICE}") == Caller("alice@home", Scope.ADMIN)


@pytest.mark.parametrize(
    "shown", ["", "Bearer", "Bearer ", f"Bearer {UNKNOWN}", f"Basic {SHOP}", SHOP, f"Bearer {SHOP}x"]
)
def test_other_headers_are_nobodys(shown: str) -> None:
    """Another token, another scheme, or a part of a token is nobody's."""
    assert Tokens.parse(TEXT).caller(shown) is None


def test_admin_includes_infer_and_not_the_other_way_round() -> None:
    """An infer token is not good for what administrators do."""
    assert [Caller("a", Scope.ADMIN).may(scope) for scope in (Scope.INFER, Scope.ADMIN)] == [True, True]
    assert [Caller("b", Scope.INFER).may(scope) for scope in (Scope.INFER, Scope.ADMIN)] == [True, False]


@pytest.mark.parametrize("shown", [SHOP, ALICE, UNKNOWN])
def test_every_token_is_compared_in_constant_time(shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests of equal length are compared by hmac.compare_digest, all of them, whether one fits or not."""
    compared: list[tuple[int, int]] = []

    genuine = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return genuine(one, other)

    tokens = Tokens.parse(TEXT)
    monkeypatch.setattr(hmac, "compare_digest", compare)
    tokens.caller(f"Bearer {shown}")

    assert compared == [(32, 32), (32, 32)]


def test_tokens_are_not_kept() -> None:
    """Nothing that could be printed or dumped holds a token."""
    assert SHOP not in repr(vars(Tokens.parse(TEXT)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected at least one line"),
        ("# nobody", "expected at least one line"),
        (f"infer {SHOP}", "line 1: expected 'SCOPE NAME TOKEN', got 2 words"),
        (f"# fine\nroot shop {SHOP}", "line 2: expected infer or admin"),
        (f"open shop {SHOP}", "line 1: expected infer or admin"),
        ("infer shop short", "expected a token of at least 32 letters.*got 5 characters"),
        (f"infer sh/op {SHOP}", "line 1: expected a name"),
        (f"infer shop {SHOP}\nadmin alice {SHOP}", "line 2: the token of shop again"),
        (f"infer shop {SHOP}ä", "line 1: expected a token"),
    ],
)
def test_bad_files_are_refused_without_telling_a_token(text: str, message: str) -> None:
    """The message names the line and what was expected, and no token."""
    with pytest.raises(BadTokens, match=message) as failure:
        Tokens.parse(text)

    assert SHOP not in str(failure.value)
