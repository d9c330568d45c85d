# SPDX-License-Identifier: Apache-2.0
"""A run on the live node as the user sees it: what is said while it goes on, and at its end."""

import os
import shlex
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from tracer.cli.calling import command_name
from tracer.cli.leftovers import restore_leftovers
from tracer.cli.live_line import live_line
from tracer.cli.recover import recovery_lines
from tracer.cli.stop_signals import StopSignals
from tracer.errors import TracerError

if TYPE_CHECKING:
    from pathlib import Path

    from tracer.kernel.counter_plan import CounterPlan
    from tracer.pipeline.options import RunOptions
    from tracer.store.manifest import Manifest


def trace(
    options: "RunOptions",
    signals: StopSignals,
    on_failure: ExitStack,
    *,
    quiet: bool = False,
    began: Callable[[], None] = lambda: None,
) -> "Manifest":
    """Checks, starts, waits, ends; the final manifest. `began` is called once the node is traced.

    What is taken is given back by `on_failure`. With `quiet`, only what is wrong is said. Raises TracerError.
    """
    from tracer.kernel.loader import ProgramLoadError
    from tracer.pipeline.stage import StuckError
    from tracer.pipeline.starting import start_run
    from tracer.preflight.doctor import explain_load_failure, require_runnable

    require_runnable(options.tick_ns)
    restore_leftovers()
    try:
        started = start_run(options, signals, on_failure)
    except ProgramLoadError as error:
        raise explain_load_failure(error) from error
    run, plan = started.run, started.plan
    for line in recovery_lines(started.recovery):
        say(line)
    if missing := _missing_counters(plan):
        say(f"warning: not counted: {missing}", quiet=quiet)
    say(
        f"tracing {len(started.source.online)} CPUs in ticks of {options.tick_ns / 1e6:g} ms, windows of "
        f"{options.window_ticks}; results in {started.output.path}; Ctrl-C to stop",
        quiet=quiet,
    )
    began()
    with live_line(run.progress, quiet=quiet):
        run.wait(_warn)
    try:
        final = run.finish()
    except StuckError as error:
        # What is stuck may still use all that would be given back here. The kernel takes it.
        say(f"error: {error}")
        os._exit(error.exit_code)
    finally:
        run.say_alarms(_warn)
    _say_totals(final, quiet=quiet)
    if unaccounted := final.totals.records_unaccounted:
        raise TracerError(f"{unaccounted:,} records are in no row and in no count, which is a defect of the tracer")
    return final


def say(text: str, *, quiet: bool = False) -> None:
    """A line on standard error, unless it is to be quiet."""
    # The terminal may be gone; the run goes on.
    with suppress(OSError):
        if not quiet:
            print(f"tracer: {text}", file=sys.stderr, flush=True)


def _warn(text: str) -> None:
    say(f"warning: {text}")


def say_next(subcommand: str, *arguments: "str | Path", as_root: bool = False, quiet: bool = False) -> None:
    """A command to type, that can be copied."""
    sudo = "sudo " if as_root and "SUDO_UID" in os.environ else ""
    say(f"next: {sudo}{command_name()} {shlex.join((subcommand, *map(str, arguments)))}", quiet=quiet)


def _missing_counters(plan: "CounterPlan") -> str:
    """The counters that stay null, or are null on some CPUs, those with the same reason together."""
    from tracer.kernel.counter_plan import alike

    by_reason: dict[str, list[str]] = {}
    for index, (spec, reason) in enumerate(zip(plan.specs, plan.reasons, strict=True)):
        if reason is not None:
            by_reason.setdefault(reason, []).append(spec.column)
            continue
        for cpus, of_cpus in alike(plan.cpus, index):
            if (why := of_cpus.reasons[index]) is not None:
                by_reason.setdefault(why, []).append(f"{spec.column} on CPUs {cpus}")
    return "; ".join(f"{', '.join(columns)}: {reason}" for reason, columns in by_reason.items())


def _say_totals(manifest: "Manifest", *, quiet: bool) -> None:
    totals = manifest.totals
    assert manifest.first_tick is not None
    assert manifest.last_tick is not None
    # Whatever the wall clock did meanwhile.
    seconds = (manifest.last_tick + 1 - manifest.first_tick) * manifest.tick_ns / 1e9
    written = ", ".join(f"{rows:,} rows of {table}" for table, rows in sorted(totals.rows.items()))
    files, size = sum(totals.files.values()), sum(totals.bytes.values())
    say(f"{seconds:g} s traced: {written or 'no rows'} in {files} files, {size / 1e6:.1f} MB", quiet=quiet)
    if not totals.records_lost:
        say(f"{totals.records:,} records, none lost", quiet=quiet)
        return
    causes: dict[str, int] = {}
    for of_cpu in totals.lost_by_cpu.values():
        for cause, count in of_cpu.items():
            causes[cause] = causes.get(cause, 0) + count
    listed = ", ".join(f"{cause} {count:,}" for cause, count in causes.items())
    say(f"{totals.records:,} records, {totals.records_lost:,} LOST ({listed}); by CPU in the manifest")
