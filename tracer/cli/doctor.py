# SPDX-License-Identifier: Apache-2.0
"""`tracer doctor`: whether this node can run the tracer, and what to do about it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tracer.cli.json_output import print_answer
from tracer.cli.printing import printable
from tracer.errors import NodeUnsupportedError
from tracer.kernel.event_specs import parse_events
from tracer.preflight.checks import Check, Status, Verdict, verdict
from tracer.preflight.doctor import run_checks

_TICK_NS = 1_000_000
_STYLES: dict[Status, str] = {
    "ok": "green",
    "info": "cyan",
    "warning": "yellow",
    "failed": "bold red",
    "skipped": "dim",
}


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints: the checks, and what all of them mean together."""

    command: Literal["doctor"] = "doctor"
    version: int = 1
    verdict: Verdict
    checks: list[Check]


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as one JSON object.")] = False,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Check as well whether results can be written there.")
    ] = None,
    event: Annotated[
        list[str] | None, typer.Option(metavar="NAME=SPEC", help="Check this counter event, as given to `run`.")
    ] = None,
) -> None:
    """Check whether this node can run the tracer, and say what is missing; exit code 3 if it cannot."""
    checks = list(run_checks(output, parse_events(event or []), _TICK_NS))
    if as_json:
        print_answer(Diagnosis(verdict=verdict(checks), checks=checks))
    else:
        _print(checks)
    if verdict(checks) == "cannot-run":
        raise typer.Exit(NodeUnsupportedError.exit_code)


def _print(checks: Sequence[Check]) -> None:
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        style = _STYLES[check.status]
        table.add_row(Text(check.status, style), check.id, printable(check.found, console))
        if check.remedy is not None:
            table.add_row("", "", printable(f"-> {check.remedy}", console))
    console.print(table)
    console.print(printable(_conclusion(checks), console), soft_wrap=True)


def _conclusion(checks: Sequence[Check]) -> str:
    match verdict(checks):
        case "ready":
            return "This node is ready."
        case "ready-with-limits":
            return f"This node is ready, with limits: {_named(checks, 'warning')}."
        case "cannot-run":
            return f"This node cannot run the tracer: {_named(checks, 'failed')}."


def _named(checks: Sequence[Check], status: Status) -> str:
    return ", ".join(check.id for check in checks if check.status == status)
