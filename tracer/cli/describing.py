# SPDX-License-Identifier: Apache-2.0
"""The commands and options as data, from the same source as `--help`: for completion in shells and for man pages."""

import inspect
from collections.abc import Iterator
from enum import Enum
from typing import Any, Final, NamedTuple

import typer
from typer.main import get_command

_PATHS: Final = ("DIR", "DIR...", "FILE", "PATH", "PATH...", "A", "B", "SOURCE...")


class Parameter(NamedTuple):
    """An option or an argument.

    `names` is empty for an argument, `metavar` for an option that takes no value; `values` are those that there are,
    if that is known, and `takes_path` says that a path is (also) one. `group` is the heading in `--help`.
    """

    names: tuple[str, ...]
    metavar: str
    help: str
    default: str
    values: tuple[str, ...]
    takes_path: bool
    group: str
    required: bool


class Command(NamedTuple):
    """A subcommand, or with the name "" the whole; `text` has paragraphs, of which the first is the `summary`.

    One of a group of them is named after both: `fleet report`.
    """

    name: str
    summary: str
    text: str
    options: tuple[Parameter, ...]
    arguments: tuple[Parameter, ...]


def describe(app: typer.Typer) -> list[Command]:
    """The whole first, then each subcommand in the order of the help; a group of them before its own."""
    return list(_described("", get_command(app)))


def _described(name: str, command: Any) -> Iterator[Command]:
    yield describe_command(name, command)
    for word, one in getattr(command, "commands", {}).items():
        yield from _described(f"{name} {word}".strip(), one)


def describe_command(name: str, command: Any) -> Command:
    """What the command line's library knows of a command, called `name` among others."""
    text = inspect.cleandoc(command.help or "")
    parameters = [_parameter(name, one) for one in command.params if not getattr(one, "hidden", False)]
    shown = Parameter(("--help", "-h"), "", "Show this message and exit.", "", (), False, "Options", False)
    return Command(
        name=name,
        summary=" ".join(text.partition("\n\n")[0].split()),
        text=text,
        options=(*(one for one in parameters if one.names), shown),
        arguments=tuple(one for one in parameters if not one.names),
    )


def _parameter(command: str, parameter: Any) -> Parameter:
    is_option = parameter.param_type_name == "option"
    # Underscores stand for "unused" where only the callback of an option counts.
    names = (*parameter.opts, *parameter.secondary_opts) if is_option else ()
    values = _values(command, parameter)
    metavar = parameter.metavar
    return Parameter(
        names=tuple(names),
        metavar=metavar,
        help=parameter.help or "",
        default=_default(parameter),
        values=values,
        takes_path=bool({*metavar.split("|")} & {*_PATHS}),
        group=getattr(parameter, "rich_help_panel", None) or "Options",
        required=bool(parameter.required),
    )


def _values(command: str, parameter: Any) -> tuple[str, ...]:
    if isinstance(parameter.default, Enum):
        return tuple(one.value for one in type(parameter.default))
    if (command, parameter.name) == ("simulate", "scenario"):
        from tracer.simulate.run import MACHINES

        return tuple(name for scenarios in MACHINES.values() for name in scenarios)
    # As in auto|off|PATH: what is written large stands for something else.
    parts = (parameter.metavar or "").split("|")
    return tuple(part for part in parts if part.islower()) if len(parts) > 1 else ()


def _default(parameter: Any) -> str:
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    if isinstance(parameter.default, bool) or parameter.default in (None, ()) or callable(parameter.default):
        return ""
    return str(parameter.default.value if isinstance(parameter.default, Enum) else parameter.default)
