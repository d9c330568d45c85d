# SPDX-License-Identifier: Apache-2.0
"""Mistakes in the call that the command line's library finds, in the one line that all errors have."""

import re
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

import typer

from tracer.errors import UsageError
from tracer.suggestions import close_to, not_among

Value = TypeVar("Value")

_NO_COMMAND: Final = re.compile(r"No such command '(.*?)'\..*", re.DOTALL)
_NO_VALUE: Final = re.compile(r"(.*): (?:Value error, )?'(.*)' is not one of ('.*')\.", re.DOTALL)
_BAD_VALUE: Final = re.compile(r"Invalid value for '(?:-\w' / ')?(\S+?)'(.*)", re.DOTALL)
_NO_NUMBER: Final = re.compile(r"Input should be a valid (?:integer|number).*", re.DOTALL)
_TOO_MANY: Final = re.compile(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", re.DOTALL)
_CHOICES: Final = re.compile(r"(Missing argument .*)\. Choose from:\s+(.*)", re.DOTALL)


def explain(error: typer.TyperException) -> str:
    """What is wrong, what may have been meant, and where to look; without `tracer: error: `, on one line."""
    context: typer.Context | None = getattr(error, "ctx", None)
    said = error.format_message() if hasattr(error, "format_message") else str(error)
    if (option := getattr(error, "option_name", None)) is not None and said.startswith("No such option"):
        said = f"no option {option!r}{close_to(option, _options(context))}"
    elif match := _NO_COMMAND.fullmatch(said):
        said = not_among("command", match[1], _commands(context))
    elif match := _NO_VALUE.fullmatch(said):
        values = re.findall(r"'([^']*)'", match[3])
        said = f"{match[1]}: {not_among('value', match[2], values)}"
    elif match := _TOO_MANY.fullmatch(said):
        said = f"too many arguments: {match[1]!r}"
    elif match := _CHOICES.fullmatch(said):
        said = f"{match[1]}; there are {' '.join(match[2].split())}"
    # As in messages of the commands' own.
    said = _NO_NUMBER.sub("not a number", _BAD_VALUE.sub(r"\1\2", said))
    said = f"{said[:1].lower()}{said[1:]}".rstrip(".")
    path = "tracer" if context is None else context.command_path
    return " ".join(f"{said} (see {path} --help)".split())


def of_option(name: str, text: str, parse: Callable[[str], Value]) -> Value:
    """What `parse` makes of an option's text. Raises UsageError, which names the option."""
    try:
        return parse(text)
    except UsageError as error:
        raise UsageError(f"--{name}: {error}") from error


def _options(context: typer.Context | None) -> Iterable[str]:
    params: list[Any] = [] if context is None else list(context.command.get_params(context))
    return [name for param in params for name in (*param.opts, *param.secondary_opts) if name.startswith("-")]


def _commands(context: typer.Context | None) -> Iterable[str]:
    return () if context is None else sorted(getattr(context.command, "commands", ()))
