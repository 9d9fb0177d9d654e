"""Write docs/reference.md from the code: every flag, metric, status code and exit status.

python -m docs.reference
"""

import enum
import inspect
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click
from annotated_types import Ge, Gt, Le, Lt
from prometheus_client import Counter, Gauge, Histogram
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from client.__main__ import main as cifarserve
from client.commands.exits import Exit
from server.errors import ServingError
from server.metrics import Metrics
from server.settings import ServerSettings
from server.statuses import STATUS
from training.config import EvaluationConfig, ImportConfig, TrainingConfig

PAGE = Path(__file__).with_name("reference.md")
_ROOT = Path(__file__).parent.parent

_BOUNDS = {Ge: (">=", "ge"), Gt: (">", "gt"), Le: ("<=", "le"), Lt: ("<", "lt")}
_TITLE = """\
# Reference

Written by `python -m docs.reference` from the code, and compared with it by a test: change the code, not this page.

- [Flags of cifarserve-server](#flags-of-cifarserve-server)
- [Flags of cifarserve-train](#flags-of-cifarserve-train)
- [Commands of cifarserve](#commands-of-cifarserve)
- [Exit statuses of cifarserve](#exit-statuses-of-cifarserve)
- [Metrics](#metrics)
- [Status codes](#status-codes)
"""


def page() -> str:
    """Return the whole page."""
    sections = [
        _TITLE,
        _flags("Flags of cifarserve-server", ServerSettings),
        _flags("Flags of cifarserve-train", TrainingConfig),
        _flags("Flags of cifarserve-train evaluate", EvaluationConfig, level=3),
        _flags("Flags of cifarserve-train import", ImportConfig, level=3),
        _commands(),
        _exits(),
        _metrics(),
        _statuses(),
    ]
    return "\n".join(sections)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _flags(title: str, settings: type[BaseSettings], *, level: int = 2) -> str:
    prefix = settings.model_config.get("env_prefix", "")
    rows = [
        [
            f"`{name.upper()}`" if _is_positional(field) else f"`--{name.replace('_', '-')}`",
            f"`{prefix}{name.upper()}`",
            _values_of(field),
            _default_of(field),
            field.description or "",
        ]
        for name, field in settings.model_fields.items()
    ]
    return f"{'#' * level} {title}\n\n" + _table(("flag", "environment", "values", "default", "what it does"), rows)


def _is_positional(field: FieldInfo) -> bool:
    return any(getattr(each, "__name__", "") == "_CliPositionalArg" for each in field.metadata)


def _values_of(field: FieldInfo) -> str:
    kind, metadata = _unwrapped(field.annotation, list(field.metadata))
    if typing.get_origin(kind) is typing.Literal:
        return ", ".join(f"`{value}`" for value in typing.get_args(kind))
    if inspect.isclass(kind) and issubclass(kind, enum.Enum):
        return ", ".join(f"`{member.value}`" for member in kind)
    pattern = next(filter(None, (getattr(each, "pattern", None) for each in metadata)), None)
    if pattern:
        return f"`{pattern}`"
    bounds = [
        f"{_BOUNDS[type(each)][0]} {getattr(each, _BOUNDS[type(each)][1]):,}"
        for each in metadata
        if type(each) in _BOUNDS
    ]
    return ", ".join([getattr(kind, "__name__", str(kind)).lower(), *bounds])


def _unwrapped(kind: object, metadata: list[object]) -> tuple[object, list[object]]:
    """Take `None` out of a union, and what is annotated out of its annotations."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        [kind] = [each for each in typing.get_args(kind) if each is not type(None)]
    if typing.get_origin(kind) is typing.Annotated:
        kind, *further = typing.get_args(kind)
        metadata = metadata + [item for each in further for item in getattr(each, "metadata", [each])]
    return kind, metadata


def _default_of(field: FieldInfo) -> str:
    default = field.default
    if field.is_required() or default is None or default == "":
        return "required" if field.is_required() else ""
    if isinstance(default, Path) and default.is_absolute():
        default = default.relative_to(_ROOT)
    if isinstance(default, enum.Enum):
        default = default.value
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _commands() -> str:
    sections = "\n".join(_command(path, command) for path, command in _walk(("cifarserve",), cifarserve))
    return f"## Commands of cifarserve\n\n`cifarserve COMMAND --help` has examples.\n\n{sections}"


def _walk(path: tuple[str, ...], command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, sub_command in command.commands.items():
            yield from _walk((*path, name), sub_command)


def _command(path: tuple[str, ...], command: click.Command) -> str:
    context = click.Context(command, info_name=" ".join(path))
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    about = inspect.cleandoc(command.help or "").split("\n\n")[0].replace("\n", " ")
    rows = [
        [f"`{shown[0]}`", shown[1]]
        for option in command.params
        if isinstance(option, click.Option) and (shown := option.get_help_record(context))
    ]
    options = "\n" + _table(("option", "what it does"), rows) if rows else ""
    return f"### {' '.join(path)}\n\n`{usage}`\n\n{about}\n{options}"


def _exits() -> str:
    rows = [[str(each.value), each.meaning] for each in Exit]
    return "## Exit statuses of cifarserve\n\n" + _table(("status", "meaning"), rows)


def _metrics() -> str:
    metrics = [
        value
        for name, value in vars(Metrics()).items()
        if isinstance(value, Counter | Gauge | Histogram) and not name.startswith("_")
    ]
    about = (
        "All durations are in seconds. Beside these, the page has `process_*` and `python_*` of the Prometheus"
        " library, unless there are several `--workers`.\n\n"
    )
    return "## Metrics\n\n" + about + _table(("metric", "type", "labels", "what it says"), map(_metric, metrics))


def _metric(metric: Counter | Gauge | Histogram) -> list[str]:
    [description] = metric.describe()
    name = f"{description.name}_total" if description.type == "counter" else description.name
    labels = ", ".join(f"`{label}`" for label in metric._labelnames)  # noqa: SLF001  # the library has no other way
    return [f"`{name}`", description.type, labels, description.documentation]


def _statuses() -> str:
    rows = [[f"`{STATUS[error].name}`", f"`{error.__name__}`", _first_line(error)] for error in STATUS]
    about = "What the server's own errors look like to a caller; the message of each says more.\n\n"
    return "## Status codes\n\n" + about + _table(("status", "error", "when"), sorted(rows))


def _first_line(error: type[ServingError]) -> str:
    return (error.__doc__ or "").split("\n")[0]


if __name__ == "__main__":
    PAGE.write_text(page())
