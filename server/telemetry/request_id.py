"""The id that a request is known by, on both sides. Pure, but for chance."""

import random
import re
from collections.abc import Iterable

REQUEST_ID = "x-request-id"
_GOOD = re.compile(r"[\x21-\x7e]{1,128}")


def request_id(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """Return the caller's id when it has at most 128 printable characters and no blanks, or a new one of 32."""
    shown = value_of(metadata, REQUEST_ID)
    return shown if _GOOD.fullmatch(shown) else f"{random.getrandbits(128):032x}"  # a name, not a secret


def value_of(metadata: Iterable[tuple[str, str | bytes]], key: str) -> str:
    """Return the first text under a key; empty: there is none."""
    return next((value for name, value in metadata if name == key and isinstance(value, str)), "")
