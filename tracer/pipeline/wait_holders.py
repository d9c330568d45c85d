# SPDX-License-Identifier: Apache-2.0
"""Who held the CPU while tasks of a cgroup were ready and did not run: waits shared out over those who ran.

A wait is known by tick and by the CPU on which it ended. Within a tick the kernel side says how much of it lay in time
of the task's own cgroup; the rest goes to all others in proportion to their time in that tick on that CPU. Of a tick
that a wait filled from end to end nothing has to be said: everybody's time in it was waited for. Of the tick in which a
long wait began it may be forgotten; then no more of it was the cgroup's own than the others' time leaves. Idle time is
a holder as any other: nobody was in the way then. While a cgroup is throttled by its own limit, whoever runs is not in
its way: of what others held, that part goes to nobody, and is told as throttled.

Shares are whole nanoseconds and add up: what rounding leaves goes to the largest holder. Where nobody is known to have
held the CPU, since records were lost or came too late, the holder is null.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from numba import njit, types

HOLDERS_SCHEMA = pl.Schema(
    {
        "window_tick": pl.UInt64,
        "cgroup_id": pl.UInt64,
        "holder_cgroup_id": pl.UInt64,
        # Then nobody held the CPU, as far as this cgroup is concerned.
        "is_throttled": pl.Boolean,
        "wait_time_ns": pl.UInt64,
    }
)

# No inode: the numbers of kernfs have a generation above 32 bits of a counter.
_UNKNOWN = np.uint64(2**64 - 1)
_THROTTLED = np.uint64(2**64 - 2)
_FIRST_TABLE_ROWS = 1 << 10
# Of a victim in a window: so many holders at the most have rows of their own, and none with a smaller share.
_NAMED_HOLDERS = 5
_NAMED_SHARE = 0.02

_U64 = types.uint64[::1]
_TABLE = types.uint64[:, ::1]


class Times(NamedTuple):
    """Times by tick, CPU and cgroup, in any order, and several rows for one are fine.

    Who held which CPU for how long, or for how long whose tasks were kept from which CPU by a limit.
    """

    tick: npt.NDArray[np.uint64]
    cpu: npt.NDArray[np.uint16]
    cgroup_id: npt.NDArray[np.uint64]
    time_ns: npt.NDArray[np.uint64]

    def since(self, tick: int) -> "Times":
        """What is not older than a tick."""
        recent = self.tick >= tick
        if recent.all():
            return self
        return Times(self.tick[recent], self.cpu[recent], self.cgroup_id[recent], self.time_ns[recent])


def times_of(records: pl.DataFrame) -> Times:
    """The times in `records` (RECORDS_SCHEMA)."""
    ran = records.filter(pl.col("cpu_time_ns") > 0)
    return Times(*(ran[name].to_numpy() for name in ("tick", "cpu", "cgroup_id", "cpu_time_ns")))


def by_window(times: Times, window_ticks: int) -> Times:
    """The same times with a row for all of a window's ticks, which is then the tick of the row."""
    rows = pl.DataFrame(times._asdict()).group_by(pl.col("tick") // window_ticks * window_ticks, "cpu", "cgroup_id")
    return Times(*(column.to_numpy() for column in rows.agg(pl.sum("time_ns"))))


def share_out(
    records: pl.DataFrame,
    times: Sequence[Times],
    throttled: Sequence[Times] = (),
    *,
    tick_ns: int,
    window_ticks: int,
    begun_below_ns: int | None = None,
) -> pl.DataFrame:
    """The waits in `records` by window, victim and holder (HOLDERS_SCHEMA), in no order.

    `times` together have each tick and CPU of which it is known who held it, `throttled` for how long a cgroup was
    throttled there, by its own limit or by one above it. A wait of less than `begun_below_ns`, by default a tick, of
    which the own part is not known, began in its tick.
    """
    waits = records.filter(pl.col("wait_time_ns") > 0)
    if waits.is_empty():
        return HOLDERS_SCHEMA.to_frame()
    wait_ns = waits["wait_time_ns"]
    # Null where the whole tick was waited for.
    own_ns = waits["wait_self_ns"]
    is_open = own_ns.is_null()
    of_waits = Times(
        waits["tick"].to_numpy(), waits["cpu"].to_numpy(), waits["cgroup_id"].to_numpy(), wait_ns.to_numpy()
    )
    parts = [of_waits, *times, *throttled]
    lengths = [len(part.tick) for part in parts]
    tick, cpu, cgroup_id = (np.concatenate([part[column] for part in parts]) for column in range(3))

    def amounts(first: int, last: int, *values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        """A column with values in the rows of these parts."""
        before, after = sum(lengths[:first]), sum(lengths[last:])
        return np.concatenate([np.zeros(before, np.uint64), *values, np.zeros(after, np.uint64)])

    first_throttled = 1 + len(times)
    # Nearly in order already, which this sort knows to use.
    order = np.argsort(tick * np.uint64(1 << 16) + cpu, kind="stable")
    columns = (
        tick, cpu, cgroup_id,
        amounts(1, first_throttled, *(each.time_ns for each in times)),
        amounts(0, 1, wait_ns.set(~is_open, 0).to_numpy()),
        amounts(0, 1, own_ns.fill_null(0).to_numpy()),
        amounts(0, 1, (wait_ns - own_ns).fill_null(0).to_numpy()),
        amounts(first_throttled, len(parts), *(each.time_ns for each in throttled)),
    )  # fmt: skip
    begun_below_ns = tick_ns if begun_below_ns is None else begun_below_ns
    shares = _share_out(*(column[order] for column in columns), tick_ns, window_ticks, begun_below_ns)
    holder = pl.Series(shares[2])
    return pl.DataFrame(
        {
            "window_tick": shares[0],
            "cgroup_id": shares[1],
            "holder_cgroup_id": holder.set(holder >= int(_THROTTLED), None),
            "is_throttled": holder == int(_THROTTLED),
            "wait_time_ns": shares[3],
        },
        schema=HOLDERS_SCHEMA,
    )


def largest_holders(holders: pl.DataFrame) -> pl.DataFrame:
    """Rows of the `waits` table from HOLDERS_SCHEMA: a victim's largest holders of a window, and one row of the rest.

    The holder of that row is null, and `holders_are_several` true. Their sum is what it was.
    """
    victim = ["window_tick", "cgroup_id"]
    wait_ns, holder = pl.col("wait_time_ns"), pl.col("holder_cgroup_id")
    is_small = (wait_ns.rank("ordinal", descending=True).over(victim) > _NAMED_HOLDERS) | (
        wait_ns < _NAMED_SHARE * wait_ns.sum().over(victim)
    )
    rows = holders.with_columns((is_small & holder.is_not_null()).alias("holders_are_several"))
    return (
        rows.with_columns(pl.when(~pl.col("holders_are_several")).then(holder).alias("holder_cgroup_id"))
        .group_by(*victim, "holder_cgroup_id", "holders_are_several", "is_throttled")
        .agg(pl.sum("wait_time_ns"))
    )


@njit(types.uint64(types.uint64, types.uint64, types.uint64), nogil=True, cache=True)
def _hash(window, victim, holder):  # type: ignore[no-untyped-def]
    mixed = (window * np.uint64(0x9E3779B97F4A7C15)) ^ (victim * np.uint64(0xC2B2AE3D27D4EB4F))
    mixed ^= (holder + np.uint64(1)) * np.uint64(0x165667B19E3779F9)
    return mixed ^ mixed >> np.uint64(29)


@njit(types.uint64(_TABLE, types.uint64, types.uint64, types.uint64, types.uint64), nogil=True, cache=True)
def _add(table, window, victim, holder, amount):  # type: ignore[no-untyped-def]
    """Adds to the row of a key; rows whose amount is 0 are free. Returns how many rows that took."""
    mask = np.uint64(table.shape[1] - 1)
    place = _hash(window, victim, holder) & mask
    while table[3, place] != 0:
        if table[0, place] == window and table[1, place] == victim and table[2, place] == holder:
            table[3, place] += amount
            return np.uint64(0)
        place = (place + np.uint64(1)) & mask
    table[0, place] = window
    table[1, place] = victim
    table[2, place] = holder
    table[3, place] = amount
    return np.uint64(1)


@njit(_TABLE(_TABLE), nogil=True, cache=True)
def _larger(table):  # type: ignore[no-untyped-def]
    grown = np.zeros((4, 4 * table.shape[1]), np.uint64)
    for place in range(table.shape[1]):
        if table[3, place] != 0:
            _add(grown, table[0, place], table[1, place], table[2, place], table[3, place])
    return grown


@njit(
    _TABLE(_U64, types.uint16[::1], _U64, _U64, _U64, _U64, _U64, _U64, types.uint64, types.uint64, types.uint64),
    nogil=True, cache=True, error_model="numpy",
)  # fmt: skip
def _share_out(  # type: ignore[no-untyped-def]
    tick, cpu, cgroup_id, held_ns, open_ns, own_ns, others_ns, throttled_ns, tick_ns, window_ticks, begun_below_ns
):
    """Rows in order of tick and CPU; returns [window tick, victim, holder, ns] by row."""
    rows = len(tick)
    table = np.zeros((4, _FIRST_TABLE_ROWS), np.uint64)
    taken = np.uint64(0)
    ids = np.empty(64, np.uint64)
    amounts = np.empty((5, 64), np.uint64)  # held, open, own, others, throttled
    begin = 0
    while begin < rows:
        end = begin
        has_waits = False
        while end < rows and tick[end] == tick[begin] and cpu[end] == cpu[begin]:
            has_waits |= open_ns[end] + own_ns[end] + others_ns[end] > 0
            end += 1
        if not has_waits:
            begin = end
            continue
        if end - begin > len(ids):
            ids = np.empty(2 * (end - begin), np.uint64)
            amounts = np.empty((5, 2 * (end - begin)), np.uint64)
        cgroups = 0
        all_ns = np.uint64(0)
        for row in range(begin, end):
            place = 0
            while place < cgroups and ids[place] != cgroup_id[row]:
                place += 1
            if place == cgroups:
                ids[place] = cgroup_id[row]
                amounts[:, place] = 0
                cgroups += 1
            amounts[0, place] += held_ns[row]
            amounts[1, place] += open_ns[row]
            amounts[2, place] += own_ns[row]
            amounts[3, place] += others_ns[row]
            amounts[4, place] += throttled_ns[row]
            all_ns += held_ns[row]
        for row in range(begin, end):
            if 0 < open_ns[row] < begun_below_ns:
                place = 0
                while ids[place] != cgroup_id[row]:
                    place += 1
                left_ns = tick_ns - min(amounts[0, place], tick_ns)
                others = min(open_ns[row], left_ns)
                amounts[1, place] -= open_ns[row]
                amounts[2, place] += open_ns[row] - others
                amounts[3, place] += others
        window = tick[begin] // window_ticks * window_ticks
        begin = end
        for victim in range(cgroups):
            if amounts[1, victim] + amounts[2, victim] + amounts[3, victim] == 0:
                continue
            if 2 * (taken + np.uint64(cgroups + 1)) > table.shape[1]:
                table = _larger(table)
            if amounts[2, victim] > 0:
                taken += _add(table, window, ids[victim], ids[victim], amounts[2, victim])
            # What is open goes to all of them, what is others' to all but the victim.
            for kind in (1, 3):
                amount = amounts[kind, victim]
                of_ns = all_ns if kind == 1 else all_ns - amounts[0, victim]
                # A cgroup does not run while it is throttled, so that this lies in the others' time.
                apart_ns = max(tick_ns, amounts[0, victim]) - (amounts[0, victim] if kind == 3 else np.uint64(0))
                throttled = amount * min(amounts[4, victim], apart_ns) // max(apart_ns, np.uint64(1))
                if throttled > 0:
                    taken += _add(table, window, ids[victim], _THROTTLED, throttled)
                    amount -= throttled
                if amount == 0:
                    continue
                if of_ns == 0:
                    taken += _add(table, window, ids[victim], _UNKNOWN, amount)
                    continue
                left = amount
                largest = -1
                for holder in range(cgroups):
                    if (kind == 3 and holder == victim) or amounts[0, holder] == 0:
                        continue
                    share = amount * amounts[0, holder] // of_ns
                    if (
                        largest < 0
                        or amounts[0, holder] > amounts[0, largest]
                        or (amounts[0, holder] == amounts[0, largest] and ids[holder] < ids[largest])
                    ):
                        largest = holder
                    if share > 0:
                        taken += _add(table, window, ids[victim], ids[holder], share)
                        left -= share
                if left > 0:
                    taken += _add(table, window, ids[victim], ids[largest], left)
    found = np.empty((4, np.int64(taken)), np.uint64)
    row = 0
    for place in range(table.shape[1]):
        if table[3, place] != 0:
            found[:, row] = table[:, place]
            row += 1
    return found
