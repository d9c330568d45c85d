# SPDX-License-Identifier: Apache-2.0
"""Writes man pages from what `tracer --help` says: man_pages.py DIR, for DIR/tracer.1, DIR/tracer-run.1, …"""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from tracer import __version__
from tracer.cli.describing import Command, Parameter, describe
from tracer.cli.main import app

EXIT_STATUS = (
    ("0", "Done."),
    ("1", "A defect; of tracer compare, that a limit is exceeded."),
    ("2", "A mistake in the call."),
    ("3", "This node cannot run it; tracer doctor says why."),
    ("4", "The output cannot be written, or is full."),
)


def page(command: Command, commands: Sequence[Command]) -> str:
    """One page as text for man(7)."""
    name = page_name(command)
    return "\n".join(
        [
            f'.TH {name.upper()} 1 "" "tracer {__version__}" "tracer"',
            ".SH NAME",
            f"{roff(name)} \\- {roff(command.summary)}",
            ".SH SYNOPSIS",
            synopsis(command),
            ".SH DESCRIPTION",
            *paragraphs(command.text),
            *(subcommands(commands[1:]) if not command.name else ()),
            *arguments(command.arguments),
            ".SH OPTIONS",
            *options(command.options),
            ".SH EXIT STATUS",
            *(line for code, meaning in EXIT_STATUS for line in (".TP", f".B {code}", roff(meaning))),
            ".SH SEE ALSO",
            see_also(command, commands),
            "",
        ]
    )


def page_name(command: Command) -> str:
    """`tracer-fleet-report`."""
    return "-".join(["tracer", *command.name.split()])


def synopsis(command: Command) -> str:
    """How it is called."""
    called = roff(" ".join(filter(None, ("tracer", command.name))))
    operands = " ".join(one.metavar if one.required else f"[{one.metavar}]" for one in command.arguments)
    return f"\\fB{called}\\fR [\\fIoptions\\fR] {roff(operands if command.name else 'COMMAND ...')}"


def paragraphs(text: str) -> Iterator[str]:
    """Paragraphs of a docstring."""
    for paragraph in text.split("\n\n"):
        yield ".PP"
        yield roff(" ".join(paragraph.split()))


def subcommands(commands: Iterable[Command]) -> Iterator[str]:
    """The list of commands, of the page of the whole."""
    yield ".SH COMMANDS"
    for one in commands:
        yield from (".TP", f".BR {roff(page_name(one))} (1)", roff(one.summary))


def arguments(parameters: Sequence[Parameter]) -> Iterator[str]:
    """What stands on the command line without a name."""
    if parameters:
        yield ".SH ARGUMENTS"
    for one in parameters:
        yield from (".TP", f".I {roff(one.metavar)}", roff(one.help))


def options(parameters: Iterable[Parameter]) -> Iterator[str]:
    """In the groups of `--help`."""
    in_order = list(parameters)
    groups = list(dict.fromkeys(one.group for one in in_order))
    in_order.sort(key=lambda one: groups.index(one.group))
    for group, members in groupby(in_order, lambda one: one.group):
        if len(groups) > 1:
            yield f".SS {roff(group)}"
        for one in members:
            names = ", ".join(f"\\fB{roff(name)}\\fR" for name in one.names)
            yield from (".TP", f"{names} \\fI{roff(one.metavar)}\\fR" if one.metavar else names)
            yield roff(one.help + (f" Default: {one.default}." if one.default else ""))


def see_also(command: Command, commands: Iterable[Command]) -> str:
    """The other pages."""
    names = map(page_name, commands)
    own = page_name(command)
    return ",\n".join(f".BR {roff(name)} (1)" for name in names if name != own).replace(",\n", " ,\n")


def roff(text: str) -> str:
    """Text that groff takes for nothing else; backquotes of the help are left away."""
    text = text.replace("`", "").replace("\\", "\\e").replace("-", "\\-").replace("…", "...")
    return re.sub(r"^(?=[.'])", r"\\&", text, flags=re.MULTILINE)


def main() -> None:
    """Writes all pages."""
    if len(sys.argv) != 2:
        sys.exit("usage: man_pages.py DIR")
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    commands = describe(app)
    for command in commands:
        (directory / f"{page_name(command)}.1").write_text(page(command, commands), encoding="utf-8")


if __name__ == "__main__":
    main()
