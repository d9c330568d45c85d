# SPDX-License-Identifier: Apache-2.0
"""The sums of waits, of whatever rows and on whatever engine: `tracer.analysis.waits.reading` says of which, and when.

Rows of windows and of waits come as `tracer.analysis.recording.Recording.rows` has them. A window is a node's and a
time's; members are those of the roster.
"""

from collections.abc import Sequence
from typing import Any, Final

import narwhals as nw

from tracer.analysis.engines import TIME_US

Rows = nw.LazyFrame[Any]

WINDOW: Final = ("node_name", TIME_US)
ALWAYS_TOLD: Final = (
    "cpu_time_ns", "wait_time_ns", "waits", "wait_behind_others_ns", "wait_behind_self_ns", "wait_idle_ns",
)  # fmt: skip
SUMS: Final = (*ALWAYS_TOLD, "wait_throttled_ns", "stolen_time_ns")
_USES: Final = ("wait_time_ns", "victim_use", "holder_use")


def with_waits(windows: Rows) -> Rows:
    """The windows in which waits were measured, with 0 for what is always told where the row has none."""
    told = windows.filter(~nw.col("wait_time_ns").is_null())
    return told.with_columns(*(nw.col(name).fill_null(0) for name in ALWAYS_TOLD))


def by_member(windows: Rows, members: Rows) -> Rows:
    """A row for each container and window; late rows added up. Idle time is left out."""
    return summed(windows.join(members, on=["node_name", "cgroup_id"], how="inner"), [*WINDOW, "member"], SUMS)


def holders_of(waits: Rows, members: Rows) -> Rows:
    """By window, victim and holder, both members: only holders that are known by name."""
    victims = members.rename({"member": "victim"})
    holders = members.rename({"member": "holder", "cgroup_id": "holder_cgroup_id"})
    others = waits.filter(
        ~nw.col("holder_cgroup_id").is_null(),
        nw.col("holder_cgroup_id") != 0,
        nw.col("cgroup_id") != nw.col("holder_cgroup_id"),
    )
    both = others.join(victims, on=["node_name", "cgroup_id"], how="inner").join(
        holders, on=["node_name", "holder_cgroup_id"], how="inner"
    )
    return both.group_by(*WINDOW, "victim", "holder").agg(nw.col("wait_time_ns").sum())


def own_in_all(windows: Rows, holders: Rows) -> Rows:
    """What a container waited behind another cgroup of its own is behind itself."""
    own = holders.filter(nw.col("victim") == nw.col("holder")).select(
        *WINDOW, nw.col("victim").alias("member"), nw.col("wait_time_ns").alias("own")
    )
    beside = windows.join(own, on=[*WINDOW, "member"], how="left")
    moved = nw.col("own").fill_null(0)
    others = nw.col("wait_behind_others_ns") - moved
    return beside.with_columns(
        nw.when(others > 0).then(others).otherwise(nw.lit(0)).alias("wait_behind_others_ns"),
        (nw.col("wait_behind_self_ns") + moved).alias("wait_behind_self_ns"),
    ).drop("own")


def pairs_of(windows: Rows, holders: Rows, minute: nw.Expr) -> Sequence[Rows]:
    """By minute, victim and holder: the wait, and the CPU time of both in proportion to how long the two waited.

    Two tables, each of one direction: together they are all.
    """
    rows = holders.filter(nw.col("victim") != nw.col("holder"))
    # Both ways in one row, so that both are looked at in the same windows.
    is_first = nw.col("victim") < nw.col("holder")
    waited = nw.col("wait_time_ns")
    couples = (
        rows.with_columns(
            nw.min_horizontal("victim", "holder").alias("one"),
            nw.max_horizontal("victim", "holder").alias("other"),
            nw.when(is_first).then(waited).otherwise(nw.lit(0)).alias("one_waited"),
            nw.when(is_first).then(nw.lit(0)).otherwise(waited).alias("other_waited"),
        )
        .group_by(*WINDOW, "one", "other")
        .agg(nw.col("one_waited").sum(), nw.col("other_waited").sum())
    )
    use = windows.select(*WINDOW, "member", nw.col("cpu_time_ns").cast(nw.Float64).alias("use"))
    both_waited = (nw.col("one_waited") + nw.col("other_waited")).cast(nw.Float64)
    for who in ("one", "other"):
        used = use.rename({"member": who, "use": f"{who}_use"})
        couples = couples.join(used, on=[*WINDOW, who], how="left").with_columns(
            (nw.col(f"{who}_use").fill_null(0.0) * both_waited).alias(f"{who}_use")
        )
    return [
        couples.select(
            minute.alias("minute"),
            nw.col(victim).alias("victim"),
            nw.col(holder).alias("holder"),
            nw.col(f"{victim}_waited").alias("wait_time_ns"),
            nw.col(f"{victim}_use").alias("victim_use"),
            nw.col(f"{holder}_use").alias("holder_use"),
        )
        .group_by("victim", "holder", "minute")
        .agg(*(nw.col(name).sum() for name in _USES))
        for victim, holder in (("one", "other"), ("other", "one"))
    ]


def summed(rows: Rows, by: Sequence[str], columns: Sequence[str]) -> Rows:
    """Sums of `columns`; null where there are nothing but nulls, of which engines say 0."""
    told = [nw.col(name).count().alias(f"{name}_told") for name in columns]
    sums = rows.group_by(*by).agg(*(nw.col(name).sum() for name in columns), *told)
    return sums.select(*by, *(nw.when(nw.col(f"{name}_told") > 0).then(nw.col(name)).alias(name) for name in columns))
