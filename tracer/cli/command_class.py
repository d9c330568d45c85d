# SPDX-License-Identifier: Apache-2.0
"""What all commands have beyond the command line's library: the help, names of values, and whose a mistake is."""

from enum import Enum
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from tracer.cli.help_text import help_text


class _Common:
    """For both of the library's classes."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        for parameter in self.params:  # type: ignore[attr-defined]
            name_value(parameter)

    def get_help(self, ctx: typer.Context) -> str:
        """The help, printed as the commands' other text is."""
        return help_text(self, ctx.command_path)

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """As the library does. All of its errors say of which command they are."""
        try:
            parsed: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]
        except typer.TyperException as error:
            if getattr(error, "ctx", ctx) is None:
                error.ctx = ctx  # type: ignore[attr-defined]
            raise
        return parsed


class Command(_Common, TyperCommand):  # type: ignore[misc]
    """A subcommand."""


class Group(_Common, TyperGroup):  # type: ignore[misc]
    """The whole."""


def name_value(parameter: Any) -> None:
    """Gives an option whose value has no name one, for `--help`, completion and man pages: N, TEXT, a|b."""
    if parameter.param_type_name == "argument" or parameter.metavar is not None:
        return
    if parameter.is_flag:
        parameter.metavar = ""
    elif isinstance(parameter.default, Enum):
        parameter.metavar = "|".join(one.value for one in type(parameter.default))
    elif isinstance(parameter.default, int):
        parameter.metavar = "N"
    else:
        parameter.metavar = "TEXT"
