# SPDX-License-Identifier: Apache-2.0
"""What a run has counted since its start, as of one moment.

Amounts are in base units and only rise, but for `stolen_time_ns`, which may go back a little: a rate is the difference
of two snapshots, divided by that of `last_tick`. Names are those of the columns of the tables (docs/tables.md). Null is
what was not measured, never zero; in JSON it is left out. A cgroup that has not run or waited yet has no amounts.
"""

import msgspec


class Amounts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Sums of columns of `windows` and `llc` over all rows since the start; null where no row has a value."""

    cpu_time_ns: int | None = None
    cycles: int | None = None
    instructions: int | None = None
    llc_misses: int | None = None
    counted_time_ns: int | None = None
    """Of the CPU time, that in which the counters counted: `counter_coverage` times `cpu_time_ns`."""
    context_switches: int | None = None
    involuntary_switches: int | None = None
    waits: int | None = None
    wait_time_ns: int | None = None
    wait_behind_others_ns: int | None = None
    wait_behind_self_ns: int | None = None
    wait_idle_ns: int | None = None
    wait_throttled_ns: int | None = None
    stolen_time_ns: int | None = None
    mbm_total_bytes: int | None = None
    mbm_local_bytes: int | None = None


class CgroupTotals(Amounts, frozen=True, kw_only=True, omit_defaults=True):
    """One cgroup: who it is, as far as is known by now, its amounts, and the newest values of what is no amount."""

    cgroup_id: int
    cgroup_kind: str
    cgroup_path: str | None = None
    runtime: str | None = None
    container_id: str | None = None
    container_name: str | None = None
    pod_name: str | None = None
    pod_uid: str | None = None
    namespace: str | None = None
    qos_class: str | None = None
    last_tick: int | None = None
    """The last tick of the newest window in which it ran or waited; null if it has not yet."""
    removed_ns: int | None = None
    """When the cgroup was removed, in ns since the epoch; null while it exists."""
    llc_occupancy_bytes: int | None = None
    memory_current_bytes: int | None = None
    memory_max_bytes: int | None = None
    cpu_quota_usec: int | None = None
    cpu_period_usec: int | None = None
    cpu_weight: int | None = None
    cpu_nr_throttled: int | None = None
    cpu_throttled_usec: int | None = None
    cpu_pressure_some_total_usec: int | None = None
    memory_pressure_some_total_usec: int | None = None
    io_pressure_some_total_usec: int | None = None
    memory_events_oom_kill: int | None = None
    pids_current: int | None = None


class Pair(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """For how long tasks of a cgroup were ready while this holder held the CPU: the sum of `waits`."""

    cgroup_id: int
    holder_cgroup_id: int | None = None
    """Null where `holder_cgroup_kind` is `rest` (its smaller holders), `throttled` or `unknown`."""
    holder_cgroup_kind: str
    wait_time_ns: int


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All of it. Sums over `cgroups` and `others`, and over `pairs` and `other_pairs_ns`, are those of the tables."""

    run_id: str
    node_name: str
    tick_ns: int
    first_tick: int
    last_tick: int | None = None
    """The last tick of the newest window that came; null before the first."""
    time_ns: int | None = None
    """The end of that window, in ns since the epoch."""
    cgroups: list[CgroupTotals] = []
    others: Amounts = Amounts()
    """Of cgroups that are not in the list: long removed, or beyond the bound."""
    cgroups_left_out: int = 0
    """How often one went there."""
    pairs: list[Pair] = []
    other_pairs_ns: int = 0
    health: dict[str, float] = {}
    """Sums of those columns of `health` that are of its second; of the others the newest value. Without nulls."""

    @property
    def covered_ns(self) -> int:
        """The time of which there are windows."""
        return 0 if self.last_tick is None else (self.last_tick + 1 - self.first_tick) * self.tick_ns
