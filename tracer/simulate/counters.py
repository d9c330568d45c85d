# SPDX-License-Identifier: Apache-2.0
"""A block of the simulated node as the columns that a reader of a kernel's records hands over."""

import numpy as np

from tracer.kernel.record_block import OPEN, RecordBlock
from tracer.pipeline.wait_holders import Times
from tracer.simulate.node import Block
from tracer.simulate.random_times import Floats, Steps
from tracer.simulate.scenario import Scenario
from tracer.simulate.scheduler import NOT_KNOWN, TICK_NS
from tracer.simulate.shape import NodeShape

# An idle CPU wakes up now and then: cycles and instructions for each ns of idle time.
_IDLE_CYCLES = 0.02
_IDLE_INSTRUCTIONS = 0.01
_LLC_BIT = 1 << 2
_UNREADABLE_TICKS = 400.0
# Counters that take turns are scaled up from what they saw.
_SAMPLING_NOISE = 0.02


class Counters:
    """Fills blocks of columns, with what a scenario's counters lose. Ticks of the columns begin at `first_tick`."""

    def __init__(
        self,
        scenario: Scenario,
        shape: NodeShape,
        cgroup_ids: "np.ndarray[tuple[int], np.dtype[np.uint64]]",
        *,
        first_tick: int,
        ticks: int,
        seed: int,
    ) -> None:
        self._loss = scenario.counter_loss
        self._shape = shape
        self._cgroup_ids = cgroup_ids
        self._first_tick = first_tick
        self._random = np.random.default_rng([seed, *b"counters"])
        self._unreadable = Steps(self._random, ticks, mean_ticks=_UNREADABLE_TICKS, low=0.0, high=1.0)

    def fill(self, block: Block) -> tuple[RecordBlock, int, dict[int, tuple[float | None, ...]]]:
        """The columns, how many rows they have, and by CPU the share of the time in which each event counted."""
        idle_tick, idle_cpu = np.nonzero(block.idle_ns)
        idle_ns = block.idle_ns[idle_tick, idle_cpu]
        slots, earlier = block.slots, block.schedule.earlier
        ran, idle = slice(0, len(slots)), slice(len(slots), len(slots) + len(idle_ns))
        waited = slice(idle.stop, idle.stop + len(earlier))
        rows = waited.stop
        columns = RecordBlock(rows)
        for column in columns.columns():
            column[:] = 0
        ticks = np.concatenate([block.tick, idle_tick + block.first_tick, earlier["tick"]])
        columns.tick[:] = ticks + self._first_tick
        columns.cpu[:] = np.concatenate([block.cpu, idle_cpu, earlier["cpu"]])
        columns.cgroup_id[ran] = self._cgroup_ids[block.container]
        columns.cgroup_id[waited] = self._cgroup_ids[earlier["container"]]
        columns.cpu_time_ns[ran], columns.cpu_time_ns[idle] = slots["time_ns"], idle_ns
        columns.counters[0, ran], columns.counters[0, idle] = block.cycles, idle_ns * _IDLE_CYCLES
        columns.counters[1, ran], columns.counters[1, idle] = block.instructions, idle_ns * _IDLE_INSTRUCTIONS
        columns.counters[2, ran] = block.misses
        columns.context_switches[ran] = slots["switches"]
        columns.context_switches[idle] = block.schedule.idle_switches[idle_tick, idle_cpu]
        columns.involuntary[ran] = slots["involuntary"]
        columns.stolen_ns[ran] = slots["stolen_ns"]
        columns.waits[ran] = slots["waits"]
        columns.wait_ns[ran], columns.wait_ns[waited] = slots["wait_ns"], earlier["wait_ns"]
        columns.wait_self_ns[ran] = slots["wait_self_ns"]
        own_ns = earlier["wait_self_ns"]
        columns.wait_self_ns[waited] = np.where(own_ns == NOT_KNOWN, OPEN, own_ns.astype(np.uint64))
        coverage: Floats = np.ones(self._shape.cpus)
        if self._loss is not None:
            coverage = self._random.uniform(*self._loss.coverage, self._shape.cpus).round(3)
            counted = coverage[columns.cpu] * np.exp(self._random.normal(0.0, _SAMPLING_NOISE, rows))
            columns.counters[:] = np.rint(columns.counters * np.minimum(1.0, counted))
            columns.unread[self._unreadable.at(ticks) < self._loss.llc_missing] = _LLC_BIT
        shares: dict[int, tuple[float | None, ...]] = {
            cpu: (share, share, share) for cpu, share in enumerate(coverage.tolist())
        }
        return columns, rows, shares

    def throttled(self, block: Block) -> Times:
        """For how long in each tick which cgroup was kept from which CPU by its quota."""
        columns: list[tuple[int, int, int, int]] = []
        for container, cpu, begin, end in block.schedule.throttled.tolist():
            for tick in range(begin // TICK_NS, -(-end // TICK_NS)):
                part_ns = min(end, (tick + 1) * TICK_NS) - max(begin, tick * TICK_NS)
                columns.append((tick + self._first_tick, cpu, int(self._cgroup_ids[container]), part_ns))
        by_column = np.array(columns, np.uint64).reshape(-1, 4).T.copy()
        return Times(by_column[0], by_column[1].astype(np.uint16), by_column[2], by_column[3])
