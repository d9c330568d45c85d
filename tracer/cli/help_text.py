# SPDX-License-Identifier: Apache-2.0
"""`--help`: as wide as the terminal, elsewhere a line for each option; from the same source as the man pages."""

import io
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from tracer.cli.describing import Parameter, describe_command
from tracer.cli.layout import Column
from tracer.cli.printing import TextOutput

_COLUMNS: Final = (Column("", "word"), Column("", "prose"))
_INDENT: Final = 2


def help_text(command: Any, path: str) -> str:
    """How `command` is called, by `path`, what it does, and its subcommands, arguments and options."""
    written = io.TextIOWrapper(io.BytesIO(), encoding=sys.stdout.encoding, newline="\n")
    output = TextOutput(written, width=TextOutput().width)
    # Without a name, as the values that are looked for by name take long.
    described = describe_command("", command)
    commands = [(name, describe_command("", one).summary) for name, one in getattr(command, "commands", {}).items()]
    operands = [one.metavar if one.required else f"[{one.metavar}]" for one in described.arguments]
    output.say(" ".join(["Usage:", path, "[OPTIONS]", *(["COMMAND", "…"] if commands else operands)]), further="  ")
    for paragraph in described.text.split("\n\n"):
        output.say()
        output.say(" ".join(paragraph.split()))
    _print_list("Commands", commands, output)
    _print_list("Arguments", [(one.metavar, one.help) for one in described.arguments], output)
    for group in dict.fromkeys(one.group for one in described.options):
        options = [one for one in described.options if one.group == group]
        _print_list(group, map(_option, options), output)
    written.flush()
    return written.buffer.getvalue().decode(written.encoding).removesuffix("\n")


def _print_list(title: str, rows: Iterable[Sequence[str]], output: TextOutput) -> None:
    if rows := list(rows):
        output.say()
        output.say(f"{title}:")
        output.print_table(_COLUMNS, rows, indent=_INDENT)


def _option(one: Parameter) -> tuple[str, str]:
    names = ", ".join(sorted(one.names, key=lambda name: name.startswith("--")))
    default = f" Default: {one.default}." if one.default else ""
    return f"{names} {one.metavar}".rstrip(), one.help + default
