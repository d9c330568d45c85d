# SPDX-License-Identifier: Apache-2.0
"""Which of the three counters each CPU of this node can count, and how.

CPUs differ: a node may have cores of several kinds, each with a PMU of its own, and somebody may hold counters of one
CPU only. So the run's own events are tried on every CPU; extra ones would make the verdict a false one.
"""

import mmap
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from types import MappingProxyType
from typing import NamedTuple

from tracer.kernel.cpus import format_cpu_list, online_cpus, parse_cpu_list
from tracer.kernel.event_specs import EventSpec, is_steady, on_pmu
from tracer.kernel.perf_events import HELD_BY_OTHERS, CpuCounters, CpuOfflineError, open_counters
from tracer.kernel.topology.pmu import Pmu, read_pmus

STAYS_ZERO = "it can be opened, but stays 0 while the CPU works, as in virtual machines that only pretend to have a PMU"

# CPUs whose events are open at the same time, so that few files are.
_CPUS_AT_ONCE = 64
# A group that shares the counters gets its turn within a few rotations of perf_event_mux_interval_ms, 4.
_GROUP_PATIENCE_S = 0.05
# Longer than any counter that counts takes to show it.
_ZERO_PATIENCE_S = 0.005
_TOUCHED_BYTES = 1 << 20
_NONE: Mapping[int, "CpuPlan"] = MappingProxyType({})


class CpuPlan(NamedTuple):
    """The events of one CPU, in the order of the plan's specs.

    `events` have the encoding of the CPU's own PMU, `pmu` is its name where the node has several. `reasons[i]` is None
    where event i can be counted, else why it cannot. `grouped`: all count over the same time. `has_counted[i]`: event i
    was seen to count.
    """

    events: tuple[EventSpec, ...]
    reasons: tuple[str | None, ...]
    grouped: bool
    has_counted: tuple[bool, ...]
    pmu: str | None = None


class CounterPlan(NamedTuple):
    """The events of the counters cycles, instructions and llc_misses, in this order.

    `reasons[i]` is None where event i can be counted on any CPU now, else why it cannot. `grouped`: on no CPU they have
    to take turns.
    """

    specs: tuple[EventSpec, ...]
    reasons: tuple[str | None, ...]
    grouped: bool
    cpus: Mapping[int, CpuPlan] = _NONE

    @property
    def counted(self) -> list[bool]:
        """Per counter, whether it is counted in this run, or may be when somebody gives it back."""
        return [reason in (None, HELD_BY_OTHERS) for reason in self.reasons]

    @property
    def counted_specs(self) -> list[EventSpec]:
        """The events that are counted."""
        return [spec for spec, reason in zip(self.specs, self.reasons, strict=True) if reason is None]


def plan_counters(specs: Sequence[EventSpec]) -> CounterPlan:
    """Tries the run's events on every online CPU and closes them again. Raises NodeUnsupportedError.

    Takes some ms where all is well, and 50 ms for each 64 CPUs on which the events do not fit the PMU together.
    """
    pmus = read_pmus()
    cpus: dict[int, CpuPlan] = {}
    online = online_cpus()
    for first in range(0, len(online), _CPUS_AT_ONCE):
        cpus |= _try(online[first : first + _CPUS_AT_ONCE], specs, pmus)
    reasons = tuple(missing_everywhere(plan.reasons[index] for plan in cpus.values()) for index in range(len(specs)))
    return CounterPlan(tuple(specs), reasons, all(plan.grouped for plan in cpus.values()), cpus)


def plan_cpu(cpu: int, specs: Sequence[EventSpec]) -> CpuPlan:
    """The same for one CPU. Raises CpuOfflineError, and NodeUnsupportedError."""
    plans = _try([cpu], specs, read_pmus())
    if cpu not in plans:
        raise CpuOfflineError(f"CPU {cpu} is offline")
    return plans[cpu]


def alike(plans: Mapping[int, CpuPlan], index: int) -> list[tuple[str, CpuPlan]]:
    """CPUs, as the kernel lists them, on which one event is the same and as well or badly counted; in their order."""
    groups: dict[object, list[int]] = {}
    for cpu, plan in sorted(plans.items()):
        groups.setdefault((plan.events[index], plan.reasons[index], plan.pmu), []).append(cpu)
    return [(format_cpu_list(cpus), plans[cpus[0]]) for cpus in groups.values()]


def missing_everywhere(reasons: Iterable[str | None]) -> str | None:
    """Why an event is counted nowhere, from its reasons by CPU: the most frequent one. None if it is somewhere."""
    counts = Counter(reasons)
    return None if None in counts else counts.most_common(1)[0][0] if counts else "no CPU is online"


def _try(cpus: Iterable[int], specs: Sequence[EventSpec], pmus: Sequence[Pmu]) -> dict[int, CpuPlan]:
    """Plans of those CPUs that are online."""
    with ExitStack() as stack:
        opened = {}
        for cpu in cpus:
            with suppress(CpuOfflineError):
                pmu = _pmu_of(cpu, pmus)
                events, counters = _open(cpu, specs, pmu)
                stack.callback(counters.close)
                opened[cpu] = events, counters, pmu
        _await_counts([(events, counters) for events, counters, _pmu in opened.values()])
        return {cpu: _judge(*of_cpu) for cpu, of_cpu in opened.items()}


def _pmu_of(cpu: int, pmus: Sequence[Pmu]) -> Pmu | None:
    """The CPU's own core PMU where the node has several kinds of cores."""
    kinds = [pmu for pmu in pmus if pmu.cpus is not None and pmu.type is not None]
    if len(kinds) < 2:
        return None
    return next((pmu for pmu in kinds if cpu in parse_cpu_list(pmu.cpus or "")), None)


def _open(cpu: int, specs: Sequence[EventSpec], pmu: Pmu | None) -> tuple[tuple[EventSpec, ...], CpuCounters]:
    """The events as they are on this CPU, open."""
    if pmu is None or pmu.type is None:
        return tuple(specs), open_counters(cpu, specs)
    events = tuple(on_pmu(spec, pmu.type) for spec in specs)
    counters = open_counters(cpu, events)
    if not any(counters.reasons):
        return events, counters
    # Arm's PMUs take the type in `config` only since Linux kernel commit 5c816728651a ("arm_pmu: Add
    # PERF_PMU_CAP_EXTENDED_HW_TYPE capability") (in v6.6). An event of a CPU is that of its own PMU without it, too.
    counters.close()
    plain = tuple(spec if why else event for spec, event, why in zip(specs, events, counters.reasons, strict=True))
    second = open_counters(cpu, plain)
    found = zip(plain, events, second.reasons, strict=True)
    return tuple(event if why else tried for tried, event, why in found), second


def _await_counts(opened: Sequence[tuple[Sequence[EventSpec], CpuCounters]]) -> None:
    """Gives the events time and cause to count: until each group had its turn, and each steady event counted."""
    # What counts faults, switches or misses of a cache has some on this CPU.
    with mmap.mmap(-1, _TOUCHED_BYTES) as memory:
        for place in range(0, _TOUCHED_BYTES, mmap.PAGESIZE):
            memory[place] = 1
    begin = time.monotonic()
    while (passed := time.monotonic() - begin) < _GROUP_PATIENCE_S:
        time.sleep(0.001)
        waits_for_turn = any(
            times is not None and times.running_ns == 0
            for _events, counters in opened
            for times in counters.read_times()
        )
        waits_for_count = any(
            value == 0 and is_steady(event)
            for events, counters in opened
            for event, value in zip(events, counters.read_values(), strict=True)
        )
        if not waits_for_turn and (not waits_for_count or passed > _ZERO_PATIENCE_S):
            return


def _judge(events: tuple[EventSpec, ...], counters: CpuCounters, pmu: Pmu | None) -> CpuPlan:
    times, values = counters.read_times(), counters.read_values()
    had_turn = [one is not None and one.running_ns > 0 for one in times]
    reasons = tuple(
        STAYS_ZERO if why is None and is_steady(event) and ran and value == 0 else why
        for event, why, ran, value in zip(events, counters.reasons, had_turn, values, strict=True)
    )
    return CpuPlan(
        events,
        reasons,
        # A group is scheduled whole or not at all. It passes the check at opening and still never runs where somebody,
        # such as the NMI watchdog, holds a counter for good; then events that take turns are the better choice.
        grouped=all(ran for ran, why in zip(had_turn, counters.reasons, strict=True) if why is None),
        has_counted=tuple(bool(value) for value in values),
        pmu=None if pmu is None else pmu.name,
    )
