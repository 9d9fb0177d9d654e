"""The exit statuses of `cifarserve`: what each means, and which error ends with which."""

import enum

from client.errors import (
    AccessDenied,
    BadCredentials,
    ClientError,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    NotPossible,
    NotTrusted,
    OutputNotWritten,
    Overloaded,
    PictureMissing,
    ServerFailed,
    ServerUnavailable,
    UnexpectedStatus,
)


class Exit(enum.IntEnum):
    """How a command ended. The same command may succeed later after `NOT_NOW`, and will not after `REFUSED`."""

    meaning: str

    def __new__(cls, status: int, meaning: str) -> "Exit":
        """Return a status that knows its meaning."""
        member = int.__new__(cls, status)
        member._value_ = status
        member.meaning = meaning
        return member

    OK = 0, "everything was classified or answered; the server is healthy"
    SOME_FAILED = 1, "some pictures could not be read or classified, or some requests failed; the others were answered"
    WRONG_USAGE = 2, "the command line is wrong, or a file is not there"
    NOT_NOW = 3, "the server is not there, not ready, overloaded or too slow: try again later"
    REFUSED = 4, "the server refused the request or failed: its message says why"
    NO_OUTPUT = 5, "the output could not be written"
    INTERRUPTED = 130, "interrupted"  # 128 + SIGINT, as shells count
    NOBODY_READS = 141, "the program that reads the output went away"  # 128 + SIGPIPE


EXIT_OF: dict[type[ClientError], Exit] = {
    PictureMissing: Exit.WRONG_USAGE,
    BadCredentials: Exit.WRONG_USAGE,
    OutputNotWritten: Exit.NO_OUTPUT,
    Overloaded: Exit.NOT_NOW,
    ServerUnavailable: Exit.NOT_NOW,
    DeadlineExceeded: Exit.NOT_NOW,
    InvalidRequest: Exit.REFUSED,
    NotFound: Exit.REFUSED,
    AccessDenied: Exit.REFUSED,
    NotTrusted: Exit.REFUSED,
    NotPossible: Exit.REFUSED,
    ServerFailed: Exit.REFUSED,
    UnexpectedStatus: Exit.REFUSED,
}


def describe_exits() -> str:
    """Return the table for --help, a line for each status."""
    return "\n".join(f"  {status.value:<4} {status.meaning}" for status in Exit)
