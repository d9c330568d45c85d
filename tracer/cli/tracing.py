# SPDX-License-Identifier: Apache-2.0
"""A run on the live node as the user sees it: what is said while it goes on, and at its end."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from tracer.cli.leftovers import restore_leftovers
from tracer.cli.live_line import line_of, live_line
from tracer.cli.recorder_signal import RecorderSignal
from tracer.cli.recover import recovery_lines
from tracer.cli.saying import say
from tracer.cli.stop_signals import StopSignals
from tracer.cli.totals import require_all_accounted, say_recordings, say_totals, say_uploaded
from tracer.errors import OutputError
from tracer.live.service_manager import ServiceManager

if TYPE_CHECKING:
    from uuid import UUID

    from tracer.kernel.counter_plan import CounterPlan
    from tracer.pipeline.options import RunOptions
    from tracer.store.manifest import Manifest


class Traced(NamedTuple):
    """A run that is over. recorded: the recordings that it left, one but for a flight recorder."""

    manifest: "Manifest"
    recorded: "list[UUID]"


def trace(
    options: "RunOptions",
    signals: StopSignals,
    on_failure: ExitStack,
    *,
    quiet: bool = False,
    began: Callable[[], None] = lambda: None,
    own_cgroups: bool = False,
) -> Traced:
    """Checks, starts, waits, ends. `began` is called once the node is traced.

    What is taken is given back by `on_failure`. With `quiet`, only what is wrong is said. `own_cgroups`: see
    `start_run`. Raises TracerError.
    """
    from tracer.kernel.loader import ProgramLoadError
    from tracer.pipeline.stage import StuckError
    from tracer.pipeline.starting import start_run
    from tracer.preflight.doctor import explain_load_failure, require_runnable

    manager = ServiceManager.of_environment()
    recorder_signal = on_failure.enter_context(RecorderSignal(options.recorder is not None))
    require_runnable(options.tick_ns)
    restore_leftovers()
    try:
        started = start_run(options, signals, on_failure, own_cgroups=own_cgroups)
    except ProgramLoadError as error:
        raise explain_load_failure(error) from error
    run, plan = started.run, started.plan
    for line in recovery_lines(started.recovery):
        say(line)
    if started.removed.files:
        say(f"older results removed to make room to begin: {started.removed.files} files, {started.removed.gone.span}")
    if missing := _missing_counters(plan):
        say(f"warning: not counted: {missing}", quiet=quiet)
    results = f"results in {started.output.path}"
    if options.recorder is not None:
        results = f"the last {options.recorder.keep_ns / 1e9:g} s in memory, recordings go to {started.output.path}"
    say(
        f"tracing {len(started.source.online)} CPUs in ticks of {options.tick_ns / 1e6:g} ms, windows of "
        f"{options.window_ticks}; {results}; Ctrl-C to stop",
        quiet=quiet,
    )
    if started.metrics is not None:
        say(f"metrics at {started.metrics}", quiet=quiet)
    began()
    recorder_signal.answer_by(run)

    def look() -> None:
        if run.pulse.what_is_missing() is None:
            manager.is_at_work(lambda: line_of(run.progress()))

    with live_line(run.progress, quiet=quiet):
        run.wait(_warn, look)
    manager.is_stopping()
    try:
        final = run.finish()
    except OutputError:
        if (last := run.last_manifest) is not None and last.end is not None:
            say_totals(last, quiet=quiet)
        raise
    except StuckError as error:
        # What is stuck may still use all that would be given back here. The kernel takes it.
        say(f"error: {error}")
        os._exit(error.exit_code)
    finally:
        run.say_alarms(_warn)
    recorded = [final.run_id]
    if options.recorder is None:
        say_totals(final, quiet=quiet)
    else:
        say_recordings(final, run.recordings, run.incomplete_recordings, quiet=quiet)
        recorded = [one.run_id for one in run.recordings]
    if run.uploaded is not None:
        say_uploaded(run.uploaded, final.totals, options.output, quiet=quiet)
    require_all_accounted(final.totals)
    return Traced(final, recorded)


def _warn(text: str) -> None:
    say(f"warning: {text}")


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
