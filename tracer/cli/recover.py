# SPDX-License-Identifier: Apache-2.0
"""`tracer recover`: what runs that were killed left in journals."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tracer.store.recovery import RecoveredRun, Recovery


def recover(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="What `tracer run` wrote to.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make files of the rows that killed runs left in their journals. Runs that are live are left alone."""
    import msgspec

    from tracer.errors import OutputError, UsageError
    from tracer.store.recovery import recover

    if not directory.is_dir():
        raise UsageError(f"{str(directory)!r} is not a directory")
    found = recover(directory.absolute())
    if as_json:
        print(msgspec.json.encode(found).decode())
    else:
        _print(found)
    if found.unwritten:
        raise OutputError(f"{len(found.unwritten)} runs are not recovered yet; free space and try again")


def _print(found: "Recovery") -> None:
    for line in recovery_lines(found):
        print(line)
    for run_id in found.live:
        print(f"run {str(run_id)[:8]} is running: left alone")
    if not found.runs and not found.problems and not found.unwritten:
        print("nothing to recover")


def recovery_lines(recovery: "Recovery") -> Iterator[str]:
    """What was found of runs that were killed, a line each."""
    for run in recovery.runs:
        yield _of_run(run)
        yield from (f"  {problem}" for problem in run.problems)
    yield from recovery.problems
    yield from recovery.unwritten


def _of_run(run: "RecoveredRun") -> str:
    end = "was killed" if run.was_killed else "could not write all its files"
    until = f"; its rows go to {run.last.utc[:19]}Z" if run.last is not None else ""
    rows = ", ".join(f"{count:,} rows of {table}" for table, count in sorted(run.rows.items()))
    return f"run {str(run.run_id)[:8]} on {run.node_name} {end}: recovered {rows or 'no further rows'}{until}"
