# SPDX-License-Identifier: Apache-2.0
"""Where each container's time went: `docs/analysis.md` has the rules in words."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import polars as pl

from tracer.analysis.findings import Throttling, TimeSpent, WaitCause, WaitHolder
from tracer.analysis.interference.episodes import time_ranges
from tracer.analysis.recording import Recording
from tracer.analysis.roster import Roster
from tracer.analysis.waits.moments import moments
from tracer.analysis.waits.reading import Waits, read_waits
from tracer.analysis.waits.shares import holders
from tracer.analysis.waits.throttling import throttled_by_second
from tracer.analysis.waits.weights import Weights

# Of the time: less is not worth a sentence.
LEAST_WAIT: Final = 0.01
# Of the time: less is what happens on any node that does something, unless it is the doing of one.
_MUCH: Final = 0.05
_MOSTLY: Final = 0.5
_MOST_LOOKED_AT: Final = 16
# Of what a container waited behind others: smaller holders are told together.
_NAMED_SHARE: Final = 0.02
# Where times of most waiting are those of something that is its own or nobody's doing.
_COLUMNS: Final[dict[WaitCause, tuple[str, ...]]] = {
    "own-threads": ("wait_behind_self_ns",),
    "placement": ("wait_idle_ns",),
}


def time_spent(recording: Recording, roster: Roster) -> list[TimeSpent]:
    """Of those that were asked for, what each waited because of others or of its limit decides the order.

    Empty where no waits were recorded. Raises UsageError for a recording that cannot be read.
    """
    waits = read_waits(recording, roster)
    if waits is None:
        return []
    by_bin = _with_throttling(recording, roster, waits)
    by_holder = holders(waits, Weights(recording, roster))
    sums = by_bin.group_by("member").agg(
        pl.exclude("node_name", "bin", "is_told").sum(),
        pl.all("is_told"),
        tells_stolen=pl.col("stolen_time_ns").count() > 0,
    )
    by_second: Throttling = "by-second" if recording.has("resources") else "unknown"
    times = dict(waits.time.select("member", "time_ns").iter_rows())
    wanted = roster.containers.filter("is_wanted")["member"]
    spent = {
        row["member"]: _spent(roster, row, times[row["member"]], by_holder, "measured" if row["is_told"] else by_second)
        for row in sums.filter(pl.col("member").is_in(wanted.implode())).iter_rows(named=True)
    }
    order = sorted(spent, key=lambda member: (is_root(spent[member]), -cost_ns(spent[member]), -spent[member].wait_ns))
    looked_at = [member for member in order if spent[member].cause != "little"][:_MOST_LOOKED_AT]
    for member in looked_at:
        spent[member] = _with_moments(recording, spent[member], waits, by_bin.filter(pl.col("member") == member))
    return [spent[member] for member in order]


def cost_ns(spent: TimeSpent) -> int:
    """What it waited for other reasons than its own demand, as far as it is more than what happens anyway."""
    return (spent.held_back_ns if is_held_back(spent) else 0) + spent.throttled_ns


def is_held_back(spent: TimeSpent) -> bool:
    """Whether it waited much behind those that had more than it, or mostly behind one of them."""
    worst_ns = max((one.held_back_ns for one in spent.holders if one.container is not None), default=0)
    return spent.held_back_ns >= _MUCH * spent.time_ns or (
        worst_ns >= LEAST_WAIT * spent.time_ns and worst_ns >= _MOSTLY * spent.behind_others_ns
    )


def is_root(spent: TimeSpent) -> bool:
    """Whether it is what is in no other cgroup, kernel threads above all: not what people ask about first."""
    return spent.container.name == "/"


def _with_throttling(recording: Recording, roster: Roster, waits: Waits) -> pl.DataFrame:
    """`by_bin` with `wait_throttled_ns` never null, and `is_told`: whether it was measured."""
    by_bin = waits.by_bin.with_columns(is_told=pl.col("wait_throttled_ns").is_not_null())
    if by_bin["is_told"].all() or not recording.has("resources"):
        return by_bin.with_columns(pl.col("wait_throttled_ns").fill_null(0))
    members = pl.concat([roster.members(node).with_columns(node_name=pl.lit(node)) for node in recording.nodes])
    seconds = throttled_by_second(recording, members, waits.bin_length)
    moved = pl.min_horizontal(pl.col("throttled_ns").fill_null(0), "wait_idle_ns")
    return (
        by_bin.join(seconds, on=["node_name", "member", "bin"], how="left")
        .with_columns(
            wait_throttled_ns=pl.col("wait_throttled_ns").fill_null(0) + moved,
            wait_idle_ns=pl.col("wait_idle_ns") - moved,
        )
        .drop("throttled_ns")
    )


def _spent(
    roster: Roster, row: dict[str, Any], time_ns: int, by_holder: pl.DataFrame, throttling: Throttling
) -> TimeSpent:
    others = int(row["wait_behind_others_ns"])
    found = _holders(roster, row["member"], others, by_holder)
    parts = {
        "behind_others_ns": others,
        "behind_self_ns": int(row["wait_behind_self_ns"]),
        "throttled_ns": int(row["wait_throttled_ns"]),
        "idle_ns": int(row["wait_idle_ns"]),
    }
    wait_ns = int(row["wait_time_ns"])
    parts["unknown_ns"] = max(wait_ns - sum(parts.values()), 0)
    held_back_ns = sum(holder.held_back_ns for holder in found)
    stolen_ns = int(row["stolen_time_ns"]) if row["tells_stolen"] else None
    spent = TimeSpent(
        container=roster.container(row["member"]),
        time_ns=max(time_ns, 1),
        ran_ns=int(row["cpu_time_ns"]) - (stolen_ns or 0),
        stolen_ns=stolen_ns,
        held_back_ns=held_back_ns,
        throttling=throttling,
        waits=int(row["waits"]),
        cause="little",
        holders=found,
        bursts=None,
        time_ranges=[],
        cpus=[],
        **parts,
    )
    return msgspec.structs.replace(spent, cause=_cause(spent))


def _holders(roster: Roster, member: int, others_ns: int, by_holder: pl.DataFrame) -> list[WaitHolder]:
    """The most first; those that held little, and those that the table itself put together, as one."""
    of_member = by_holder.filter(pl.col("victim") == member)
    is_large = pl.col("wait_time_ns") >= _NAMED_SHARE * others_ns
    large = of_member.filter(is_large).sort("wait_time_ns", "holder", descending=[True, False])
    found = [
        WaitHolder(container=roster.container(holder), wait_ns=wait_ns, held_back_ns=held_back_ns)
        for holder, wait_ns, held_back_ns in large.select("holder", "wait_time_ns", "held_back_ns").iter_rows()
    ]
    small_ns = others_ns - sum(holder.wait_ns for holder in found)
    if small_ns > 0:
        held_back_ns = int(of_member["held_back_ns"].sum()) - sum(holder.held_back_ns for holder in found)
        found.append(WaitHolder(container=None, wait_ns=small_ns, held_back_ns=min(held_back_ns, small_ns)))
    return found


def _cause(spent: TimeSpent) -> WaitCause:
    if spent.wait_ns < LEAST_WAIT * spent.time_ns:
        return "little"
    behind_others: WaitCause = "fair-share"
    if spent.held_back_ns >= _MOSTLY * spent.behind_others_ns:
        behind_others = "others" if is_held_back(spent) else "several"
    causes: list[tuple[int, WaitCause]] = [
        (spent.behind_others_ns, behind_others),
        (spent.behind_self_ns, "own-threads"),
        (spent.throttled_ns, "own-limit"),
        (spent.idle_ns, "placement"),
        (spent.unknown_ns, "unknown"),
    ]
    return max(causes, key=lambda one: one[0])[1]


def _with_moments(recording: Recording, spent: TimeSpent, waits: Waits, bins: pl.DataFrame) -> TimeSpent:
    found = moments(recording, spent.container.node_name, spent.container.cgroup_ids)
    amounts = np.zeros(int(bins["bin"].max() or 0) + 1)  # type: ignore[arg-type]
    # What can be helped, unless it waited for something else.
    of_cause = _COLUMNS.get(spent.cause, ("wait_behind_others_ns", "wait_throttled_ns"))
    amounts[bins["bin"].to_numpy()] = bins.select(pl.sum_horizontal(of_cause)).to_series()
    start, end = recording.span
    return msgspec.structs.replace(
        spent,
        bursts=found.bursts,
        cpus=found.cpus,
        time_ranges=time_ranges(amounts, lambda number: recording.shown(min(start + number * waits.bin_length, end))),
    )


def waited_most(spent: Sequence[TimeSpent]) -> TimeSpent | None:
    """Who waited the largest part of its time, of those that waited at all worth a sentence."""
    waited = [one for one in spent if one.cause != "little"]
    return max(waited, key=lambda one: one.wait_ns / one.time_ns) if waited else None
