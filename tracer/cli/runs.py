# SPDX-License-Identifier: Apache-2.0
"""`tracer runs`: the runs of an output directory."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tracer.cli.file_or_stdout import require_directory
from tracer.cli.json_output import print_answer
from tracer.cli.recordings import Local
from tracer.printable import printable

if TYPE_CHECKING:
    from tracer.analysis.run_list import Run

_COUNTERS = 3
_BELOW = " " * 10
_STATUSES = {
    "running": "running now",
    "finished": "finished",
    "failed": "failed",
    "crashed": "killed, and recovered up to its last second",
    "killed": "cut off (killed, or copied while it ran); `tracer recover` has its last rows",
    "unknown": "no manifest",
}


def runs(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="What `tracer run --output` wrote.")],
    local: Local = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, nothing shortened.")] = False,
) -> None:
    """List the runs of a directory, the oldest first: when, for how long, of which node, and what was recorded.

    Wherever a command takes a directory, DIR@RUN is one of its runs, by how its
    id begins, DIR@last the last one and DIR@all all of them as one recording.
    Without that, the newest run of each node is meant.
    """
    from tracer.analysis.run_list import list_runs
    from tracer.cli.printing import TextOutput

    require_directory(directory, option="DIR")
    found = list_runs(directory, local=local)
    if as_json:
        print_answer(found)
        return
    output = TextOutput()
    for run in found.runs:
        first, second = _lines(run)
        if output.width is None:
            output.say(f"{first}  {second}")
        else:
            output.say(first, further=_BELOW)
            output.say(second, first=_BELOW)


def _lines(run: "Run") -> Iterator[str]:
    """Two lines, as one that holds all of it is too long for most terminals."""
    from tracer.analysis.moments import moment_text, seconds_text
    from tracer.units import format_bytes

    recorded = "nothing in a file yet" if run.recorded_seconds is None else seconds_text(run.recorded_seconds)
    when = "time unknown" if run.start is None else moment_text(run.start)
    node = run.node_name or "node unknown"
    if run.identifier not in (None, run.node_name):
        node += f" ({run.identifier})"
    yield f"{run.id}  {when}  {recorded}  {node}"
    status = _STATUSES[run.status] + (f": {run.reason}" if run.reason and run.status != "finished" else "")
    yield f"{'; '.join([status, *_why(run), *_what(run), f'{format_bytes(run.bytes)}', *_loss(run)])}"


def _why(run: "Run") -> Iterator[str]:
    """Of a flight recorder's."""
    if run.recorded_for:
        more = f" and {len(run.recorded_for) - 1} more" if len(run.recorded_for) > 1 else ""
        yield f"recorder: {printable(run.recorded_for[0].encode('utf-8', 'backslashreplace'))}{more}"


def _what(run: "Run") -> Iterator[str]:
    """What was recorded."""
    if run.tick_ns is not None:
        yield f"tick {run.tick_ns / 1e6:g} ms"
        counters = "all counters" if len(run.counters) == _COUNTERS else ", ".join(run.counters) or "no counters"
        yield ", ".join([counters, "waits" if "waits" in run.tables else "no waits"])
    if more := [table for table in run.tables if table not in ("windows", "waits", "health", "lifecycle")]:
        yield f"with {', '.join(more)}"
    if run.source == "simulation":
        yield "simulated"


def _loss(run: "Run") -> Iterator[str]:
    from tracer.analysis.wording import percent

    if run.records_lost is not None and run.records is not None:
        lost = run.records_lost
        yield f"{lost:,} records lost ({percent(lost / (lost + run.records))})" if lost else "nothing lost"
