# SPDX-License-Identifier: Apache-2.0
"""What containers did between two snapshots of a run: who ran, who waited, and behind whom."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import msgspec

from tracer.live.snapshot import Amounts, CgroupTotals, Snapshot
from tracer.naming import Named, Who, name_of

TOP_VERSION: Final = 1

_LINE_BYTES: Final = 64
# But for the node's name, which all have.
_WHO: Final = [name for name in Who.__struct_fields__ if name in CgroupTotals.__struct_fields__]
_AMOUNTS: Final = Amounts.__struct_fields__
# Holders that are nobody.
_NOBODY: Final = ("rest", "throttled", "unknown", "idle")


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Behind whom somebody waited, and how much of that it was, 0 to 1."""

    by: Named
    share: float


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """One container, or unit, over `seconds`. Shares are of the time in which its tasks ran or were ready to.

    cpus, lost_tasks: how many of its tasks ran, and waited behind others, on average. ran, lost, self_wait, throttled,
    idle_wait, stolen: shares, 0 to 1; lost is run-queue wait behind others. holders: behind whom, the most first. cpi:
    cycles per instruction. mpki: LLC misses per thousand instructions. traffic: bytes a second that came from memory,
    by LLC misses, or by resctrl where that is there. Null is what is not measured.
    """

    container: Named
    cpus: float
    lost_tasks: float | None
    ran: float | None
    lost: float | None
    self_wait: float | None
    throttled: float | None
    idle_wait: float | None
    stolen: float | None
    holders: list[Holder]
    cpi: float | None
    mpki: float | None
    traffic: float | None
    memory_bytes: int | None
    is_gone: bool

    @property
    def name(self) -> str:
        """What to call it."""
        return self.container.name

    @property
    def by(self) -> str | None:
        """Behind whom most of what is lost was."""
        return self.holders[0].by.name if self.holders else None


class NodeRates(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, up to `time`, and what the tracer lost meanwhile."""

    command: Literal["top"] = "top"
    version: int = TOP_VERSION
    run_id: str
    node_name: str
    time: Annotated[datetime, msgspec.Meta(tz=True)] | None
    seconds: float
    records: int
    records_lost: int
    containers: list[Rates]


def rates_between(before: Snapshot | None, now: Snapshot) -> NodeRates:
    """Of the time between, or since the run's start. Containers that neither ran nor waited are not there."""
    first_tick = now.first_tick if before is None or before.last_tick is None else before.last_tick + 1
    last_tick = now.first_tick - 1 if now.last_tick is None else now.last_tick
    seconds = max(0, last_tick + 1 - first_tick) * now.tick_ns / 1e9
    old = {} if before is None else {one.cgroup_id: one for one in before.cgroups}
    named = {one.cgroup_id: _named(one, now.node_name) for one in now.cgroups}
    sums: defaultdict[str, Counter[str]] = defaultdict(Counter)
    cgroups: defaultdict[str, list[CgroupTotals]] = defaultdict(list)
    for one in now.cgroups:
        if one.cgroup_kind == "idle":
            continue
        amounts = sums[named[one.cgroup_id].name]
        cgroups[named[one.cgroup_id].name].append(one)
        for field in _AMOUNTS:
            if (value := getattr(one, field)) is not None:
                then = (getattr(old[one.cgroup_id], field) if one.cgroup_id in old else None) or 0
                # Who was not among those that are listed for a while begins anew. What was stolen may go back a little.
                amounts[field] += value - then if value >= then or field == "stolen_time_ns" else value
    holders = _holders(before, now, named)
    by_name = {one.name: one for one in named.values()}
    containers = [
        _rates(by_name, name, cgroups[name], amounts, holders[name], seconds)
        for name, amounts in sums.items()
        if amounts["cpu_time_ns"] > 0 or amounts["wait_time_ns"] > 0
    ]
    health = Counter({name: int(value) for name, value in now.health.items()})
    if before is not None:
        health.subtract({name: int(value) for name, value in before.health.items()})
    return NodeRates(
        run_id=now.run_id,
        node_name=now.node_name,
        time=None if now.time_ns is None else datetime.fromtimestamp(now.time_ns / 1e9, UTC),
        seconds=seconds,
        records=max(0, health["records"]),
        records_lost=max(0, sum(health[name] for name in ("lost_ring_full", "lost_no_ring", "lost_malformed"))),
        containers=containers,
    )


def _named(one: CgroupTotals, node_name: str) -> Named:
    fields = {field: getattr(one, field) for field in _WHO}
    return Named(name=name_of(Who(**fields)), node_name=node_name, **fields)


def _holders(before: Snapshot | None, now: Snapshot, named: dict[int, Named]) -> defaultdict[str, Counter[str]]:
    """By who waited and who had the CPU meanwhile, in ns."""
    old = {} if before is None else {(one.cgroup_id, one.holder_cgroup_id): one.wait_time_ns for one in before.pairs}
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for pair in now.pairs:
        if pair.holder_cgroup_kind in _NOBODY or pair.cgroup_id not in named or pair.holder_cgroup_id not in named:
            continue
        victim, holder = named[pair.cgroup_id].name, named[pair.holder_cgroup_id].name
        more = pair.wait_time_ns - old.get((pair.cgroup_id, pair.holder_cgroup_id), 0)
        if holder != victim and more > 0:
            found[victim][holder] += more
    return found


def _rates(
    named: Mapping[str, Named],
    name: str,
    of_it: Sequence[CgroupTotals],
    amounts: Counter[str],
    holders: Counter[str],
    seconds: float,
) -> Rates:
    active = amounts["cpu_time_ns"] + amounts["wait_time_ns"]

    def share(field: str) -> float | None:
        return max(0.0, amounts[field] / active) if field in amounts and active > 0 else None

    cycles, instructions, misses = (amounts.get(field) for field in ("cycles", "instructions", "llc_misses"))
    moved = amounts.get("mbm_total_bytes", None if misses is None else misses * _LINE_BYTES)
    # The rows that say behind whom may be of an earlier second than those that say how long.
    behind = max(amounts["wait_behind_others_ns"], holders.total())
    ranked = [Holder(by=named[by], share=wait / behind) for by, wait in holders.most_common() if behind > 0]
    memory = [one.memory_current_bytes for one in of_it if one.memory_current_bytes is not None]
    return Rates(
        container=named[name],
        cpus=amounts["cpu_time_ns"] / (seconds * 1e9) if seconds else 0.0,
        lost_tasks=amounts["wait_behind_others_ns"] / (seconds * 1e9)
        if seconds and "wait_behind_others_ns" in amounts
        else None,
        ran=share("cpu_time_ns"),
        lost=share("wait_behind_others_ns"),
        self_wait=share("wait_behind_self_ns"),
        throttled=share("wait_throttled_ns"),
        idle_wait=share("wait_idle_ns"),
        stolen=share("stolen_time_ns"),
        holders=ranked,
        cpi=cycles / instructions if cycles is not None and instructions else None,
        mpki=1000 * misses / instructions if misses is not None and instructions else None,
        traffic=moved / seconds if moved is not None and seconds else None,
        memory_bytes=sum(memory) if memory else None,
        is_gone=all(one.removed_ns is not None for one in of_it),
    )
