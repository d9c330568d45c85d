# SPDX-License-Identifier: Apache-2.0
"""Checks of perf events: the tick, without which nothing can be measured, and the counters, which may be missing."""

import os
from collections.abc import Sequence

from tracer.kernel.counter_plan import CounterPlan, alike
from tracer.kernel.cpus import format_cpu_list, online_cpus
from tracer.kernel.event_specs import COUNTER_COLUMNS, PERF_TYPE_SOFTWARE, EventSpec
from tracer.kernel.perf_events import open_tick
from tracer.kernel.sample_rate import needed_sample_rate, sample_rate_limit
from tracer.kernel.topology.pmu import read_pmus
from tracer.preflight.checks import Finding
from tracer.preflight.files import SYSCTL, read_integer
from tracer.preflight.node import CAP_PERFMON, CAP_SYS_ADMIN, has, own_capabilities
from tracer.preflight.probes import Examination, Probe, Trial

# The highest level at which the kernels of Debian and Ubuntu, which have more levels than others, heed CAP_PERFMON.
_PERFMON_LEVEL = 2
_CPU_WIDE_LEVEL = 0
# The kernel may lower the limit again.
_PLENTY = 10


def judge_tick(tick_ns: int, highest_rate: int | None) -> Finding:
    """`highest_rate` is kernel.perf_event_max_sample_rate: an event near it is throttled, so that ticks are missing.

    The kernel lowers it by itself where it finds that samples take too long.
    """
    found = f"opens, every {tick_ns / 1_000_000:g} ms on each CPU"
    needed = needed_sample_rate(tick_ns)
    if highest_rate is not None and highest_rate < needed:
        found += f", but kernel.perf_event_max_sample_rate is {highest_rate}, below {needed}, and holds up ticks"
        return Finding("warning", found, f"sysctl kernel.perf_event_max_sample_rate={_PLENTY * needed}")
    return Finding("ok", found)


def judge_paranoia(level: int | None, capabilities: int) -> Finding:
    """Whether kernel.perf_event_paranoid is in the way of events that count whole CPUs."""
    if level is None:
        return Finding("info", "not in this kernel")
    if has(capabilities, CAP_SYS_ADMIN):
        return Finding("ok", f"{level}, which does not matter with CAP_SYS_ADMIN")
    accepted = _PERFMON_LEVEL if has(capabilities, CAP_PERFMON) else _CPU_WIDE_LEVEL
    if level <= accepted:
        return Finding("ok", f"{level}, which allows events of whole CPUs")
    remedy = f"run it as root (sudo), or sysctl kernel.perf_event_paranoid={accepted}"
    return Finding("warning", f"{level}, which may forbid events of whole CPUs", remedy)


def judge_pmu(names: Sequence[str], specs: Sequence[EventSpec], *, watchdog: bool) -> Finding:
    """A PMU is missed only where one of the events is not the kernel's own. The NMI watchdog holds a counter."""
    if names:
        return Finding("ok", ", ".join(names) + (", of which the NMI watchdog holds a counter" if watchdog else ""))
    if all(spec.type == PERF_TYPE_SOFTWARE for spec in specs):
        return Finding("info", "none, and the chosen events need none")
    remedy = "in a virtual machine, have the hypervisor give it a PMU; without one, CPU time is measured all the same"
    return Finding("warning", "this node has no PMU", remedy)


def judge_event(plan: CounterPlan, index: int) -> Finding:
    """How one event of a plan is counted, by CPU where CPUs differ, and where and why it is not."""
    spec, reason = plan.specs[index], plan.reasons[index]
    other = f"name an event that this node counts: --event {spec.column}=SPEC"
    if reason is not None:
        found, _, remedy = reason.partition("; ")
        return Finding("warning", f"{spec.text}: {found}", remedy or f"{spec.column} stays null; {other}")
    groups = [(cpus, of_cpus.events[index], of_cpus) for cpus, of_cpus in alike(plan.cpus, index)]
    counted = [(cpus, event, of_cpus) for cpus, event, of_cpus in groups if of_cpus.reasons[index] is None]
    is_everywhere = len(groups) == len(counted)
    described = ", ".join(
        f"{f'{of_cpus.pmu}, ' if of_cpus.pmu else ''}type {event.type}, config {event.config:#x}"
        + (f" on CPUs {cpus}" if len(groups) > 1 else "")
        for cpus, event, of_cpus in counted
    )
    found = f"{spec.text} ({described})"
    if not is_everywhere:
        missing = ", ".join(
            f"not on CPUs {cpus}: {of_cpus.reasons[index]}"
            for cpus, _event, of_cpus in groups
            if of_cpus.reasons[index]
        )
        remedy = f"{spec.column} is null there, and counter_coverage says so of each row; or {other}"
        return Finding("warning", f"{found}, {missing}", remedy)
    if not any(of_cpus.has_counted[index] for of_cpus in plan.cpus.values()):
        remedy = f"{spec.column} is null until it counts; if it never does, the PMU only pretends to have it: {other}"
        return Finding("warning", f"{found} can be opened, but counted nothing in a short trial", remedy)
    return Finding("ok", found)


def judge_group(*, counted: int, turns: Sequence[int]) -> Finding:
    """`turns`: CPUs on which the events do not fit together, and are counted over different times.

    Ratios such as CPI are less exact there.
    """
    if counted == 0:
        return Finding("info", "there is no event to count")
    if not turns:
        return Finding("ok", "the events count at the same time")
    remedy = "free a counter: sysctl kernel.nmi_watchdog=0, or end what else uses the PMU"
    found = f"the events take turns on CPUs {format_cpu_list(turns)}, since the PMU has too few free counters"
    return Finding("warning", found, remedy)


def _tick_event(trial: Trial) -> Finding:
    os.close(open_tick(online_cpus()[0], trial.tick_ns))
    return judge_tick(trial.tick_ns, sample_rate_limit())


def _paranoia(_trial: Trial) -> Finding:
    return judge_paranoia(read_integer(SYSCTL / "kernel/perf_event_paranoid"), own_capabilities())


def _pmu(trial: Trial) -> Finding:
    return judge_pmu(
        [pmu.name for pmu in read_pmus()], trial.specs, watchdog=read_integer(SYSCTL / "kernel/nmi_watchdog") == 1
    )


def _event(index: int) -> Examination:
    def examine(trial: Trial) -> Finding:
        return judge_event(trial.plan, index)

    return examine


def _group(trial: Trial) -> Finding:
    turns = [cpu for cpu, plan in trial.plan.cpus.items() if not plan.grouped]
    return judge_group(counted=sum(trial.plan.counted), turns=turns)


_ALLOW = "run it as root (sudo); in a container, let the seccomp profile allow perf_event_open"

COUNTER_PROBES = (
    Probe("tick-event", _tick_event, _ALLOW, required=True, quick=True, needs=("machine", "privileges")),
    Probe("perf-event-paranoid", _paranoia, "mount /proc"),
    Probe("pmu", _pmu, "mount /sys"),
    *(
        Probe(f"event-{column.replace('_', '-')}", _event(index), _ALLOW, needs=("tick-event",))
        for index, column in enumerate(COUNTER_COLUMNS)
    ),
    Probe("event-group", _group, _ALLOW, needs=("tick-event",)),
)
