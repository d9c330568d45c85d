# SPDX-License-Identifier: Apache-2.0
"""A block of the simulated node as the columns that a reader of a kernel's records hands over."""

import numpy as np

from tracer.kernel.record_block import RecordBlock
from tracer.simulate.node import TICK_NS, Block
from tracer.simulate.random_times import Floats, Steps
from tracer.simulate.scenario import Scenario
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
        rows = len(block.tick) + len(idle_ns)
        columns = RecordBlock(rows)
        ticks = np.concatenate([block.tick, idle_tick + block.first_tick])
        columns.tick[:] = ticks + self._first_tick
        columns.cpu[:] = np.concatenate([block.cpu, idle_cpu])
        columns.cgroup_id[:] = np.concatenate([self._cgroup_ids[block.container], np.zeros(len(idle_ns), np.uint64)])
        columns.cpu_time_ns[:] = np.concatenate([block.time_ns, idle_ns])
        columns.counters[0] = np.concatenate([block.cycles, idle_ns * _IDLE_CYCLES])
        columns.counters[1] = np.concatenate([block.instructions, idle_ns * _IDLE_INSTRUCTIONS])
        columns.counters[2] = np.concatenate([block.misses, np.zeros(len(idle_ns), np.int64)])
        # A switch to what runs next, idle time or another.
        columns.context_switches[:] = 1 + (columns.cpu_time_ns < TICK_NS)
        columns.unread[:] = 0
        columns.lateness_ns[:] = 0
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
