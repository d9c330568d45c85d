# SPDX-License-Identifier: Apache-2.0
"""`tracer recover`: what runs that were killed left in journals."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from tracer.analysis.moments import Moment
from tracer.cli.file_or_stdout import require_directory
from tracer.cli.json_output import print_answer
from tracer.errors import UsageError

if TYPE_CHECKING:
    from tracer.store import recovery


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RecoveredRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that ended without closing all its files: `rows` were recovered, by table.

    `id` are the first digits of `run_id`; `was_killed` is false if it ended but had no room for its files; `last` is
    when its last row is from, null if none can be read. `problems` say what could not be recovered, and why.
    """

    id: str
    run_id: str
    node_name: str
    was_killed: bool
    rows: dict[str, int]
    last: Moment | None
    problems: list[str]


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the runs of `directory`.

    `live` are the ids of those that are left alone, `problems` tell of those that cannot be recovered, `unwritten` of
    those that could not be read or written now, as a disk is full, and can be recovered later.
    """

    command: Literal["recover"] = "recover"
    version: int = 1
    directory: str
    runs: list[RecoveredRun]
    live: list[str]
    problems: list[str]
    unwritten: list[str]


_LONGEST_NAME = 64


def recover(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="What `tracer run` wrote to.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, nothing shortened.")] = False,
) -> None:
    """Make files of the rows that killed runs left in their journals. Runs that are live are left alone."""
    from tracer.errors import OutputError
    from tracer.store.recovery import recover

    require_results(directory)
    found = recover(directory.absolute())
    if as_json:
        print_answer(_answer(directory, found))
    else:
        _print(found)
    if found.unwritten:
        raise OutputError(f"not recovered yet: {len(found.unwritten)} of the runs; see above, and try again then")


def require_results(directory: Path) -> None:
    """Raises UsageError for what is no directory in which a run has been."""
    require_directory(directory, option="DIR")
    if not directory.is_dir():
        raise UsageError(f"{str(directory)!r} is not a directory")
    if not (directory / "runs").is_dir():
        raise UsageError(f"{str(directory)!r} holds no run of `tracer run`")


def _answer(directory: Path, found: "recovery.Recovery") -> Recovery:
    return Recovery(
        directory=str(directory),
        runs=[
            RecoveredRun(
                id=str(run.run_id)[:8],
                run_id=str(run.run_id),
                node_name=run.node_name,
                was_killed=run.was_killed,
                rows=run.rows,
                last=None if run.last is None else _EPOCH + timedelta(microseconds=run.last.utc_ns // 1000),
                problems=run.problems,
            )
            for run in found.runs
        ],
        live=[str(run_id) for run_id in found.live],
        problems=found.problems,
        unwritten=found.unwritten,
    )


def _print(found: "recovery.Recovery") -> None:
    from tracer.cli.printing import TextOutput

    output = TextOutput()
    for line in recovery_lines(found):
        output.say(line, further="    ")
    for run_id in found.live:
        output.say(f"run {str(run_id)[:8]} is running, or being recovered: left alone")
    if not found.runs and not found.problems and not found.unwritten:
        output.say("nothing to recover")


def recovery_lines(found: "recovery.Recovery") -> Iterator[str]:
    """What was found of runs that were killed, a line each."""
    from tracer.naming.cutting import shown

    lines = [line for run in found.runs for line in (_of_run(run), *(f"  {problem}" for problem in run.problems))]
    for line in (*lines, *found.problems, *found.unwritten):
        # Names and reasons are from files, which may be anybody's.
        yield shown(line)


def _of_run(run: "recovery.RecoveredRun") -> str:
    from tracer.naming.cutting import cut

    end = "was killed" if run.was_killed else "could not write all its files"
    until = f"; its rows go to {run.last.utc[:19]}Z" if run.last is not None else ""
    rows = ", ".join(f"{count:,} rows of {table}" for table, count in sorted(run.rows.items()))
    node = cut(run.node_name, _LONGEST_NAME, mark="..")
    return f"run {str(run.run_id)[:8]} on {node} {end}: recovered {rows or 'no further rows'}{until}"
