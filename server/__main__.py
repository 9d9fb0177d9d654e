"""`cifarserve-server`: parse the flags, serve until a signal. What prevents a start is one line and a status."""

import sys
from collections.abc import Coroutine
from typing import NoReturn

import structlog
import uvloop
from pydantic import ValidationError

from server.errors import EngineDied, StartError, WorkerDied
from server.logs import configure_logging
from server.security.exposure import exposure
from server.settings import ServerSettings
from server.workers import supervise

_log = structlog.get_logger(__name__)


def main() -> None:
    """Run the server; exit 0 after a drain, 2 for a bad flag, 1 when it cannot start or go on."""
    try:
        settings = ServerSettings(_cli_parse_args=sys.argv[1:])
    except ValidationError as exc:
        _fail(_first_problem(exc), status=2)
    configure_logging(log_format=settings.log_format, level=settings.log_level)
    _log.info("settings", **settings.model_dump(mode="json"))
    if missing := exposure(settings):
        _log.warning("other machines can connect, and protection is missing", host=settings.host, missing=missing)
    try:
        uvloop.run(_running(settings))
    except (StartError, EngineDied, WorkerDied) as exc:
        _fail(str(exc), status=1)


def _running(settings: ServerSettings) -> Coroutine[None, None, None]:
    if settings.workers > 1:
        return supervise(settings, sys.argv[1:])
    from server.app import serve  # noqa: PLC0415  # a supervisor needs neither gRPC nor Pillow, and no second for them
    from server.roles import Alone  # noqa: PLC0415  # likewise

    return serve(settings, Alone(settings))


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    flag = "".join(f"--{part}: ".replace("_", "-") for part in first["loc"][:1])
    return f"{flag}{first['msg'].removeprefix('Value error, ')}"


def _fail(message: str, *, status: int) -> NoReturn:
    print(f"cifarserve-server: {message}", file=sys.stderr)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
