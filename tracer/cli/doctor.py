# SPDX-License-Identifier: Apache-2.0
"""`tracer doctor`: whether this node can run the tracer, and what to do about it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer

from tracer.cli.file_or_stdout import require_directory
from tracer.cli.json_output import print_answer
from tracer.cli.layout import Column
from tracer.cli.printing import TextOutput
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
    if output is not None:
        require_directory(output, option="--output")
    checks = list(run_checks(output, parse_events(event or []), _TICK_NS))
    if as_json:
        print_answer(Diagnosis(verdict=verdict(checks), checks=checks))
    else:
        print_checks(checks)
    if verdict(checks) == "cannot-run":
        raise typer.Exit(NodeUnsupportedError.exit_code)


def print_checks(checks: Sequence[Check]) -> None:
    """A line each, what to do about it below, and the verdict."""
    output = TextOutput()
    rows, styles = [], []
    for check in checks:
        rows.append([check.status, check.id, check.found])
        styles.append(_STYLES[check.status])
        if check.remedy is not None:
            rows.append(["", "", f"-> {check.remedy}"])
            styles.append("")
    output.print_table([Column("", "word"), Column("", "word"), Column("", "prose")], rows, styles=styles)
    output.say(_conclusion(checks))


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
