# SPDX-License-Identifier: Apache-2.0
"""The start of a run on the live node. The order keeps it short: what takes long goes on beside the compiler."""

import os
import resource
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tracer.errors import NodeUnsupportedError
from tracer.kernel.compiler_cache import ensure_compiler_cache
from tracer.kernel.counter_plan import CounterPlan, plan_counters
from tracer.kernel.cpus import present_cpus
from tracer.kernel.tick_load import TickLoad
from tracer.pipeline.options import RunOptions
from tracer.store.output import PreparedOutput
from tracer.store.retention import Removed, Retention

if TYPE_CHECKING:
    from tracer.kernel.tick_source import KernelTickSource
    from tracer.pipeline.run import Run
    from tracer.store.recovery import Recovery


class Signals(Protocol):
    """Who hears that the run is to end before its time."""

    def while_importing(self) -> AbstractContextManager[None]:
        """For imports of libraries that take over signals."""

    def stop(self, run: Callable[[], None]) -> None:
        """From now on a signal calls `run`."""


class StartedRun(NamedTuple):
    """A run in progress, what its records come from, where they go, and what killed runs had left there.

    removed: older results that had to go for that, or for there to be any room at all.
    """

    run: "Run"
    source: "KernelTickSource"
    plan: CounterPlan
    output: PreparedOutput
    recovery: "Recovery"
    removed: Removed


def start_run(options: RunOptions, signals: Signals, on_failure: ExitStack) -> StartedRun:
    """Starts a run of options that were checked; what it takes is given back by `on_failure`.

    Raises ProgramLoadError, NodeUnsupportedError and OutputError.
    """
    # Four events, a ring and a few maps for each CPU.
    with suppress(OSError, ValueError):
        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    retention = Retention(
        options.output, options.identifier, options.keep_bytes, options.on_full, node_name=os.uname().nodename
    )
    output = PreparedOutput(options.output)
    on_failure.callback(output.remove_if_empty)
    output.prepare(retention.free_space)
    plan = plan_counters(options.events)
    load = TickLoad(tick_ns=options.tick_ns, counted=plan.counted, waits=options.waits)
    on_failure.callback(load.cancel)
    # Polars' threads are for large nodes; more than two would compete with what is measured.
    os.environ.setdefault("POLARS_MAX_THREADS", "2")
    ensure_compiler_cache()

    with signals.while_importing():
        from tracer.kernel.cgroup_events import CgroupEvents
        from tracer.kernel.throttling import Throttling
        from tracer.kernel.tick_source import KernelTickSource
        from tracer.pipeline.budget import share_out
        from tracer.pipeline.reading import BLOCKS
        from tracer.pipeline.run import Run
        from tracer.store.recovery import recover

    # While the programs are compiled.
    recovery = recover(output.path, retention, identifier=options.identifier)
    budget = share_out(options.memory_limit_bytes, len(present_cpus()), BLOCKS)
    ring_bytes = options.ring_bytes or budget.ring_bytes
    source = on_failure.enter_context(KernelTickSource(load, plan, ring_bytes=ring_bytes))
    try:
        cgroup_events = on_failure.enter_context(CgroupEvents())
    except NodeUnsupportedError:
        cgroup_events = None
    throttling: Throttling | str = "--waits off"
    if options.waits:
        try:
            throttling = on_failure.enter_context(Throttling())
        except NodeUnsupportedError as error:
            throttling = str(error)
    run = Run(options, plan, source, cgroup_events, throttling, output, budget)
    source.await_programs()
    signals.stop(run.stop)
    run.start()
    return StartedRun(run, source, plan, output, recovery, retention.removed)
