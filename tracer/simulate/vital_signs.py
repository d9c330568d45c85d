# SPDX-License-Identifier: Apache-2.0
"""Rows of `resources` and `lifecycle`: what the kernel's files of a simulated node's cgroups would say each second."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from tracer.simulate.cgroups import SimulatedCgroups
from tracer.simulate.node import Block
from tracer.simulate.nodes import Node
from tracer.simulate.random_times import Floats
from tracer.simulate.scheduler import QUOTA_PERIOD_TICKS, TICK_NS

_PERIOD_USEC = QUOTA_PERIOD_TICKS * TICK_NS // 1_000
_SYSTEM_SHARE = 0.15
_PAGE_CACHE_SHARE = 0.3
# What happens to memory for which there is always room.
_ZEROS = (
    "memory_events_high", "memory_events_max", "memory_events_oom", "memory_events_oom_kill", "memory_pgscan",
    "memory_pgsteal", "memory_pgmajfault", "memory_workingset_refault_anon", "memory_workingset_refault_file",
    "memory_pressure_some_total_usec", "memory_pressure_full_total_usec", "io_pressure_some_total_usec",
    "io_pressure_full_total_usec", "memory_swap_current_bytes",
)  # fmt: skip


class VitalSigns:
    """Counts up from block to block, as the kernel does from a cgroup's creation on."""

    def __init__(self, node: Node, cgroups: SimulatedCgroups, *, first_tick: int, seed: int) -> None:
        containers = node.scenario.containers
        self._node = node
        self._ids = cgroups.ids
        self._first_tick = first_tick
        self._random = np.random.default_rng([seed, *b"memory"])
        self._memory = np.array([float(c.memory_bytes) for c in containers])
        self._quota_usec: list[int | None] = [
            None if c.cpu_quota is None else round(c.cpu_quota * _PERIOD_USEC) for c in containers
        ]
        self._weights = [c.cpu_weight for c in containers]
        count = len(containers)
        self._usage_ns, self._pressure_ns, self._throttled_ns = (np.zeros(count) for _ in range(3))
        self._periods, self._throttled_periods = (np.zeros(count, np.int64) for _ in range(2))

    def after(self, block: Block) -> pl.DataFrame:
        """The rows at the end of a block, one for each container that lives then."""
        schedule = block.schedule
        ran_ns = block.slots["time_ns"] - block.slots["stolen_ns"]
        self._usage_ns += np.bincount(block.container, ran_ns, len(self._ids))
        self._throttled_ns += schedule.throttled_ns()
        self._periods += schedule.periods
        self._throttled_periods += schedule.throttled_periods
        waited = np.minimum(TICK_NS, schedule.ready_ns).sum(axis=0)
        self._pressure_ns += waited
        self._memory *= np.exp(self._random.normal(0.0, 0.01, len(self._ids)))
        end = block.first_tick + block.ticks
        begin, last = self._node.demand.lives.T
        living = (begin < end) & (end <= last)
        page = self._memory.astype(np.int64) // 4096 * 4096
        file = (page * _PAGE_CACHE_SHARE).astype(np.int64)
        columns: dict[str, object] = {
            "cgroup_id": self._ids,
            "memory_current_bytes": page,
            "memory_working_set_bytes": page - file // 2,
            "memory_anon_bytes": page - file,
            "memory_file_bytes": file,
            "memory_inactive_file_bytes": file // 2,
            **dict.fromkeys(_ZEROS, np.zeros(len(page), np.int64)),
            "cpu_usage_usec": self._usage_ns // 1_000,
            "cpu_user_usec": self._usage_ns * (1 - _SYSTEM_SHARE) // 1_000,
            "cpu_system_usec": self._usage_ns * _SYSTEM_SHARE // 1_000,
            "cpu_nr_periods": self._periods,
            "cpu_nr_throttled": self._throttled_periods,
            "cpu_throttled_usec": self._throttled_ns // 1_000,
            "cpu_pressure_some_total_usec": self._pressure_ns // 1_000,
            "cpu_pressure_full_total_usec": self._throttled_ns // 1_000,
            "cpu_quota_usec": self._quota_usec,
            "cpu_period_usec": np.full(len(page), _PERIOD_USEC),
            "cpu_weight": self._weights,
        }
        pressure = pl.Series(self._share(waited, block), dtype=pl.Float32)
        return (
            pl.DataFrame(columns)
            .with_columns(pl.all().cast(pl.UInt64))
            .with_columns(
                pl.lit((self._first_tick + end) * TICK_NS, pl.Int64).alias("monotonic_ns"),
                cpu_pressure_some_avg10=pressure,
            )
            .filter(pl.Series(living))
        )

    def lifecycle(self) -> pl.DataFrame:
        """Who came and went in the whole run, with limits; those that were there at its beginning, first."""
        return pl.DataFrame(
            list(self._events()),
            schema={
                "monotonic_ns": pl.Int64,
                "event": pl.String,
                "source": pl.String,
                "cgroup_id": pl.UInt64,
                "cpu_quota_usec": pl.UInt64,
                "cpu_period_usec": pl.UInt64,
                "cpu_weight": pl.UInt64,
            },
            orient="row",
        ).sort("monotonic_ns", maintain_order=True)

    def _events(self) -> Iterator[tuple[int, str, str, int, int | None, int, int]]:
        lives = self._node.demand.lives.tolist()
        for index, (begin, end) in enumerate(lives):
            limits = self._quota_usec[index], _PERIOD_USEC, self._weights[index]
            cgroup_id = int(self._ids[index])
            begin_ns, end_ns = (self._first_tick + begin) * TICK_NS, (self._first_tick + end) * TICK_NS
            yield begin_ns, "created", "kernel" if begin else "walk", cgroup_id, *limits
            if self._node.scenario.containers[index].pod is not None:
                yield begin_ns, "named", "runtime", cgroup_id, *limits
            yield begin_ns, "limits", "walk", cgroup_id, *limits
            if end < self._node.ticks:
                yield end_ns, "emptied", "kernel", cgroup_id, *limits
                yield end_ns, "removed", "kernel", cgroup_id, *limits

    def _share(self, waited: Floats, block: Block) -> Floats:
        return 100 * waited / (block.ticks * TICK_NS)
