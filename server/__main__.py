"""`cifarserve-server`: parse the flags, serve until a signal. What prevents a start is one line and a status."""

import sys
import warnings
from typing import NoReturn

import uvloop
from PIL import Image
from pydantic import ValidationError

from server.app import serve
from server.errors import EngineDied, StartError
from server.logs import configure_logging
from server.settings import ServerSettings


def main() -> None:
    """Run the server; exit 0 after a drain, 2 for a bad flag, 1 when it cannot start or go on."""
    try:
        settings = ServerSettings(_cli_parse_args=sys.argv[1:])
    except ValidationError as exc:
        _fail(_first_problem(exc), status=2)
    configure_logging(log_format=settings.log_format, level=settings.log_level)
    # Pictures with too many pixels are refused by name in `server.images`; Pillow need not warn too.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    try:
        uvloop.run(serve(settings))
    except (StartError, EngineDied) as exc:
        _fail(str(exc), status=1)


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    flag = "".join(f"--{part}: ".replace("_", "-") for part in first["loc"][:1])
    return f"{flag}{first['msg'].removeprefix('Value error, ')}"


def _fail(message: str, *, status: int) -> NoReturn:
    print(f"cifarserve-server: {message}", file=sys.stderr)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
