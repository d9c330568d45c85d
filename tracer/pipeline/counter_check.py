# SPDX-License-Identifier: Apache-2.0
"""Values of counters that cannot be true: of one that stays 0, and those that no processor reaches.

Virtual machines have PMUs that can be opened and never count, or count some events only; a counter can stop, too. Its
values would be zeros that nobody can tell from true ones. So a counter has values only from when it was first seen to
count, and has none any more while it stays 0 for longer than it can.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tracer.kernel.counter_plan import CpuPlan
from tracer.kernel.event_specs import EventSpec, is_processors_own, is_steady
from tracer.kernel.record_block import RecordBlock
from tracer.pipeline.frames import is_unread
from tracer.pipeline.judging import CYCLES_ARE_SUCH, INSTRUCTIONS_ARE_SUCH, OF_THE_SAME_TIME, judge_values

HAS_NOT_COUNTED = "it can be opened, but has not counted anything yet; null until it does"
HAS_STOPPED = "it has stopped counting"
HAS_NO_TURN = "it gets no turn: another user of the PMU, such as a hypervisor or a debugger, has its counters"

# CPU time in a row in which a steady event can count nothing: none that is measured from one event of the CPU to the
# next, but where that is shared out among ticks, a sliver of time can be left without.
_STEADY_ZERO_NS = 100_000
# In which another one can, on a CPU where it did count before.
_OTHER_ZERO_NS = 10_000_000_000
# Where the PMU is shared by turns, an event waits for its turn: some rotations of perf_event_mux_interval_ms, 4.
_TURN_NS = 100_000_000
_TURN_SECONDS = 1.0
# Faster than any processor runs, for those whose highest frequency is not known, as in most virtual machines.
_ANY_KHZ = 10_000_000


class CounterCheck:
    """Goes over the records of a run as they come. Any thread may call any method."""

    def __init__(self, specs: Sequence[EventSpec], cpus: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`cpus`: possible ones, by the highest number; `clock` gives monotonic seconds."""
        self.refused = 0
        """Values so far that were not to be believed."""
        self.cpus = cpus
        self._specs = tuple(specs)
        self._plans: Mapping[int, CpuPlan] = {}
        # By counter and CPU.
        self._zero_ns = np.full((len(specs), cpus), np.inf)
        self._limit_ns = np.zeros((len(specs), cpus))
        self._stopped = np.zeros((len(specs), cpus), np.uint8)
        # Events that are encoded alike on several CPUs are of one kind.
        self._kind = np.zeros((len(specs), cpus), np.int64)
        self._kinds: list[dict[EventSpec, int]] = [{} for _ in specs]
        self._has_counted: list[set[int]] = [set() for _ in specs]
        self._clock = clock
        self._is_open = np.zeros((len(specs), cpus), np.bool_)
        # When each last had a turn, or was looked at first.
        self._turn_at = np.full((len(specs), cpus), np.inf)
        self._has_no_turn = np.zeros((len(specs), cpus), np.bool_)
        self._is_such = [is_processors_own(specs[0], "cycles"), is_processors_own(specs[1], "instructions")]
        self._highest_khz = np.full(cpus, _ANY_KHZ, np.float64)
        # CPUs come and go while records are looked at.
        self._lock = threading.Lock()

    def follow(self, plans: Mapping[int, CpuPlan], highest_khz: Mapping[int, int]) -> None:
        """Takes how the events of each CPU were opened, and the highest frequency of those of which it is known."""
        with self._lock:
            self._follow(plans, highest_khz)

    def _follow(self, plans: Mapping[int, CpuPlan], highest_khz: Mapping[int, int]) -> None:
        for cpu, plan in plans.items():
            if self._plans.get(cpu) is plan:
                continue
            for index, event in enumerate(plan.events):
                kinds = self._kinds[index]
                kind = kinds.setdefault(event, len(kinds))
                self._kind[index, cpu] = kind
                if plan.has_counted[index]:
                    self._has_counted[index].add(kind)
                self._zero_ns[index, cpu] = np.inf
                self._is_open[index, cpu] = plan.reasons[index] is None
                self._turn_at[index, cpu] = np.inf
                self._limit_ns[index, cpu] = _STEADY_ZERO_NS if is_steady(event) else _OTHER_ZERO_NS
        self._plans = plans
        self._forgive()
        self._highest_khz[:] = _ANY_KHZ
        for cpu, khz in highest_khz.items():
            self._highest_khz[cpu] = khz

    def refuse(self, block: RecordBlock, rows: int, shares: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_] | None:
        """The values of these rows, as [counter, row], that cannot be true; None if there are none.

        `shares` are those of `counter_shares`, of all possible CPUs.
        """
        with self._lock:
            return self._refuse(block, rows, shares)

    def _refuse(self, block: RecordBlock, rows: int, shares: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_] | None:
        ran = shares > 0
        self._look_for_turns(ran)
        for index, kinds in enumerate(self._has_counted):
            if len(kinds) < len(self._kinds[index]):
                self._look_for_counts(index, block, rows, ran[index])
        by_turns = ran & (shares < 1)
        limit_ns = self._limit_ns.copy()
        limit_ns[by_turns] += _TURN_NS / shares[by_turns]
        cycles, instructions = self._is_such
        bounds = np.full(self.cpus, CYCLES_ARE_SUCH * cycles | INSTRUCTIONS_ARE_SUCH * instructions, np.uint8)
        if cycles and instructions:
            bounds[(shares[:2] >= 1).all(axis=0)] |= OF_THE_SAME_TIME
        refused = np.zeros((len(self._specs), rows), np.uint8)
        count = judge_values(
            rows, block.cpu, block.cgroup_id, block.cpu_time_ns, block.counters, block.unread, ran.astype(np.uint8),
            limit_ns, self._zero_ns, self._stopped, bounds, self._highest_khz, refused,
        )  # fmt: skip
        self.refused += count
        return refused.astype(np.bool_) if count else None

    def reasons(self) -> dict[int, tuple[str | None, ...]]:
        """By CPU and counter, why an event that is open has no values now."""
        return {
            cpu: tuple(
                None if plan.reasons[index] is not None else self._reason(index, cpu)
                for index in range(len(self._specs))
            )
            for cpu, plan in self._plans.items()
        }

    def stops(self, index: int) -> list[int]:
        """CPUs on which a counter stopped at any time, whether it counts again by now or not."""
        return [int(cpu) for cpu in np.flatnonzero(self._stopped[index])]

    def _reason(self, index: int, cpu: int) -> str | None:
        if self._has_no_turn[index, cpu]:
            return HAS_NO_TURN
        zero_ns = self._zero_ns[index, cpu]
        if np.isinf(zero_ns):
            return HAS_NOT_COUNTED
        return HAS_STOPPED if zero_ns >= self._limit_ns[index, cpu] else None

    def _look_for_turns(self, ran: npt.NDArray[np.bool_]) -> None:
        """What waits for its turn for long has lost its counter to another user of the PMU."""
        now = self._clock()
        self._turn_at[self._is_open & (ran | np.isinf(self._turn_at))] = now
        self._has_no_turn = self._is_open & (now - self._turn_at > _TURN_SECONDS)
        self._stopped[self._has_no_turn] = 1

    def _look_for_counts(self, index: int, block: RecordBlock, rows: int, ran: npt.NDArray[np.bool_]) -> None:
        """An event that counted on one CPU does so on all of the same kind, until one of them says otherwise."""
        cpu = block.cpu[:rows]
        counted = (block.counters[index, :rows] > 0) & ~is_unread(block, rows, index) & ran[cpu]
        self._has_counted[index] |= set(self._kind[index, np.bincount(cpu[counted]).nonzero()[0]].tolist())
        self._forgive()

    def _forgive(self) -> None:
        for index, kinds in enumerate(self._has_counted):
            never = np.isinf(self._zero_ns[index]) & np.isin(self._kind[index], list(kinds))
            self._zero_ns[index, never] = 0
