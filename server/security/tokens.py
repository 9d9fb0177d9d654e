"""Bearer tokens: the file that lists them, and whose token a caller shows. Pure; keeps digests, never a token.

A line of the file is a scope, a name and a token, with blanks between them:

    # scope  name     token: at least 32 characters, such as `openssl rand -hex 32` prints
    infer    webshop  3f0c…
    admin    alice    a91e…
"""

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Self

from server.security.scopes import Scope

_MIN_CHARACTERS = 32
_FIELDS = 3
_NAME = re.compile(r"[\w.@-]{1,64}", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")  # what may follow "Bearer " (RFC 6750, section 2.1)
_SCHEME = "bearer "  # in any case (RFC 9110, section 11.1)
_SCOPES = {Scope.INFER.value: Scope.INFER, Scope.ADMIN.value: Scope.ADMIN}


class BadTokens(ValueError):
    """The text lists no usable tokens; the message names the line, never the token."""


@dataclass(frozen=True)
class Caller:
    """Somebody with a token: the name beside it, and what it gives."""

    name: str
    scope: Scope

    def may(self, scope: Scope) -> bool:
        """Return whether that is enough for a method that needs `scope`."""
        return self.scope is Scope.ADMIN or scope is not Scope.ADMIN


class Tokens:
    """The tokens that are accepted."""

    def __init__(self, callers: dict[bytes, Caller]) -> None:
        """Take the callers by the SHA-256 digests of their tokens."""
        self._callers = tuple(callers.items())

    def __len__(self) -> int:
        return len(self._callers)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the tokens that the text of a token file lists.

        Raises:
            BadTokens: a line is not of the form, a token is short or twice there, or there is none.
        """
        callers: dict[bytes, Caller] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            digest, caller = _parse_line(line, number)
            if digest in callers:
                raise BadTokens(f"line {number}: the token of {callers[digest].name} again; expected one for each name")
            callers[digest] = caller
        if not callers:
            raise BadTokens("expected at least one line 'SCOPE NAME TOKEN', got none")
        return cls(callers)

    def caller(self, authorization: str) -> Caller | None:
        """Return whose token the value of an `authorization` header holds; None when it is nobody's.

        Every digest is compared, each in constant time: how long it takes tells nothing of the tokens.
        """
        if authorization[: len(_SCHEME)].lower() != _SCHEME:
            return None
        shown = _digest(authorization[len(_SCHEME) :].strip())
        found = None
        for digest, caller in self._callers:
            if hmac.compare_digest(digest, shown):
                found = caller
        return found


def _parse_line(line: str, number: int) -> tuple[bytes, Caller]:
    fields = line.split()
    if len(fields) != _FIELDS:
        raise BadTokens(f"line {number}: expected 'SCOPE NAME TOKEN', got {len(fields)} words")
    scope, name, token = fields
    if scope not in _SCOPES:
        raise BadTokens(f"line {number}: expected infer or admin as its first word")
    if not _NAME.fullmatch(name):
        raise BadTokens(f"line {number}: expected a name of at most 64 letters, digits, dots, dashes, underscores or @")
    if len(token) < _MIN_CHARACTERS or not _TOKEN.fullmatch(token):
        raise BadTokens(
            f"line {number}: expected a token of at least {_MIN_CHARACTERS} letters, digits or -._~+/=,"
            f" got {len(token)} characters; make one with: openssl rand -hex 32"
        )
    return _digest(token), Caller(name, _SCOPES[scope])


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
