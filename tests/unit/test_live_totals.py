# SPDX-License-Identifier: Apache-2.0
"""What is added up while a run goes on: equal to the sums of its tables, whatever comes when, and bounded."""

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from planted_recording import START_NS, TICK_NS, WINDOW_NS, WINDOW_TICKS, container, frame, windows_of

from tracer.live import totals as totals_module
from tracer.live.snapshot import Amounts, Snapshot
from tracer.live.totals import Totals
from tracer.simulate.run import simulate
from tracer.store.schemas import HEALTH, LIFECYCLE, LLC, RESOURCES, WAITS, WINDOWS, Table
from tracer.store.writer import Store

AMOUNTS = [name for name in Amounts.__struct_fields__ if name in WINDOWS.schema.names]


def new_totals() -> Totals:
    return Totals(run_id="r", node_name="node-1", tick_ns=TICK_NS, first_tick=0)


def put(totals: Totals, table: Table, rows: pl.DataFrame) -> None:
    totals.put(table, rows.with_columns(pl.from_epoch(table.time_column, "ns").dt.replace_time_zone("UTC")).to_arrow())


def waits_of(victim: dict[str, Any], holder: dict[str, Any], window: int, wait_ns: int) -> pl.DataFrame:
    start = START_NS + window * WINDOW_NS
    of_holder = {f"holder_{name}": value for name, value in holder.items()}
    times = {"window_start": start, "window_tick": window * WINDOW_TICKS, "wait_time_ns": wait_ns}
    return frame(WAITS, 1, {"node_name": "node-1", **victim, **of_holder, **times})


def row_at(table: Table, who: dict[str, Any], second: int, **columns: Any) -> pl.DataFrame:
    return frame(table, 1, {"node_name": "node-1", **who, "time": START_NS + second * 10**9, **columns})


def sums(snapshot: Snapshot) -> dict[str, int | None]:
    every = [*snapshot.cgroups, snapshot.others]
    result: dict[str, int | None] = {}
    for name in AMOUNTS:
        values = [value for one in every if (value := getattr(one, name)) is not None]
        result[name] = sum(values) if values else None
    return result


def test_differences_of_two_snapshots_are_what_came_between() -> None:
    totals = new_totals()
    put(totals, WINDOWS, windows_of(container(1), [0, 1], cycles=30, instructions=20))
    before = totals.snapshot()
    assert totals.snapshot() is before
    put(totals, WINDOWS, windows_of(container(1), [2], cycles=5, instructions=7, counter_coverage=0.5))
    # Late.
    put(totals, WINDOWS, windows_of(container(1), [1], cycles=1, cpu_time_ns=10))
    after = totals.snapshot()
    assert before.last_tick == 2 * WINDOW_TICKS - 1
    assert after.last_tick == 3 * WINDOW_TICKS - 1
    assert after.time_ns == START_NS + 3 * WINDOW_NS
    assert after.covered_ns == 3 * WINDOW_NS
    (one,) = after.cgroups
    assert (one.cycles, one.instructions) == (66, 47)
    assert one.cpu_time_ns == 3 * WINDOW_NS // 10 + 10
    assert one.counted_time_ns == WINDOW_NS // 20
    assert one.llc_misses is None, "not counted is not zero"
    assert one.pod_name == "pod-1"


def test_a_name_that_comes_late_is_that_of_all_and_stays() -> None:
    totals = new_totals()
    unnamed = container(1) | {"pod_name": None, "container_name": None, "namespace": None}
    for who in (unnamed, container(1, pod="web"), unnamed):
        put(totals, WINDOWS, windows_of(who, [0]))
    (one,) = totals.snapshot().cgroups
    assert (one.pod_name, one.namespace) == ("web", "shop")


def test_ids_are_those_of_the_files() -> None:
    totals = new_totals()
    rows = windows_of(container(1), [0]).with_columns(cgroup_id=pl.lit(2**64 - 5, pl.UInt64))
    put(totals, WINDOWS, rows)
    assert [one.cgroup_id for one in totals.snapshot().cgroups] == [-5]


def test_values_of_each_second_are_the_newest_also_where_a_limit_went() -> None:
    totals = new_totals()
    put(totals, RESOURCES, row_at(RESOURCES, container(1), 0, memory_max_bytes=100, memory_current_bytes=3))
    put(totals, RESOURCES, row_at(RESOURCES, container(1), 1, memory_max_bytes=None, memory_current_bytes=4))
    put(totals, WINDOWS, windows_of(container(1), [0]))
    for second, l3, total in ((0, 0, 10), (0, 1, 5), (1, 0, 1), (1, 1, 2)):
        put(totals, LLC, row_at(LLC, container(1), second, l3_id=l3, mbm_total_bytes=total, llc_occupancy_bytes=total))
    (one,) = totals.snapshot().cgroups
    assert (one.memory_max_bytes, one.memory_current_bytes) == (None, 4)
    assert one.mbm_total_bytes == 18
    assert one.mbm_local_bytes is None


def test_occupancy_is_the_sum_over_caches_of_the_newest_time() -> None:
    totals = new_totals()
    rows = [
        row_at(LLC, container(1), second, l3_id=l3, llc_occupancy_bytes=1 + second)
        for second in (0, 1)
        for l3 in (0, 1)
    ]
    put(totals, LLC, pl.concat(rows))
    put(totals, WINDOWS, windows_of(container(1), [0]))
    assert totals.snapshot().cgroups[0].llc_occupancy_bytes == 4


def test_health_is_added_up_but_for_what_is_so_now() -> None:
    totals = new_totals()
    for second, rss in ((0, 100), (1, 90)):
        row = frame(
            HEALTH, 1, {"node_name": "n", "time": START_NS + second * 10**9, "records": 7, "own_rss_bytes": rss}
        )
        put(totals, HEALTH, row)
    health = totals.snapshot().health
    assert (health["records"], health["own_rss_bytes"]) == (14, 90)
    assert "kernel_cpu_time_ns" not in health, "not measured is not zero"


def test_the_removed_stay_for_some_minutes_and_are_then_among_the_others() -> None:
    totals = new_totals()
    put(totals, WINDOWS, pl.concat([windows_of(container(1), [0]), windows_of(container(2), [0])]))
    put(totals, WAITS, waits_of(container(1), container(2), 0, 100))
    put(totals, WAITS, waits_of(container(2), container(1), 0, 30))
    put(totals, LIFECYCLE, row_at(LIFECYCLE, container(1), 1, event="removed"))
    soon = totals.snapshot()
    assert [one.removed_ns for one in soon.cgroups] == [START_NS + 10**9, None]
    put(totals, WINDOWS, windows_of(container(2), [310 * 10**9 // WINDOW_NS]))
    later = totals.snapshot()
    assert [one.cgroup_id for one in later.cgroups] == [2]
    assert later.others.cpu_time_ns == WINDOW_NS // 10
    assert [pair.wait_time_ns for pair in later.pairs] == [30]
    assert later.other_pairs_ns == 100
    assert later.cgroups_left_out == 1


def test_cgroups_and_pairs_are_bounded_and_sums_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals_module, "MOST_CGROUPS", 4)
    monkeypatch.setattr(totals_module, "MOST_PAIRS", 3)
    totals = new_totals()
    put(totals, LIFECYCLE, row_at(LIFECYCLE, container(2), 1, event="removed"))
    for number in range(10):
        put(totals, WINDOWS, windows_of(container(number), [number], cycles=number))
        put(totals, WAITS, waits_of(container(number), container(1), number, 10 + number))
    snapshot = totals.snapshot()
    assert len(snapshot.cgroups) == 4
    assert 2 not in {one.cgroup_id for one in snapshot.cgroups}, "the removed go first"
    assert len(snapshot.pairs) == 3
    assert sums(snapshot)["cycles"] == sum(range(10))
    assert sum(pair.wait_time_ns for pair in snapshot.pairs) + snapshot.other_pairs_ns == 100 + sum(range(10))


def test_what_nobody_asks_for_is_added_up_all_the_same() -> None:
    totals = new_totals()
    for number in range(1000):
        put(totals, WINDOWS, windows_of(container(1), [number], cycles=1))
        assert len(totals._waiting) < totals_module._WAITING_BATCHES
    assert totals.snapshot().cgroups[0].cycles == 1000


def test_sums_are_those_of_the_stored_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    totals = new_totals()
    append = Store.append

    def append_and_add(store: Store, table: Table, rows: pa.Table) -> None:
        append(store, table, rows)
        totals.put(table, rows)

    monkeypatch.setattr(Store, "append", append_and_add)
    simulate("cpu-hog", seed=3, duration_ns=3 * 10**9, output=tmp_path)
    snapshot = totals.snapshot()

    def stored(table: str) -> pl.DataFrame:
        return pl.read_parquet([*(tmp_path / table).rglob("*.parquet")])

    windows, health = stored("windows"), stored("health")
    for name, value in sums(snapshot).items():
        assert value == windows[name].sum(), name
    assert {one.cgroup_id: one.cpu_time_ns for one in snapshot.cgroups} == dict(
        windows.group_by("cgroup_id").agg(pl.sum("cpu_time_ns")).iter_rows()
    )
    waits = stored("waits").group_by("cgroup_id", "holder_cgroup_id", "holder_cgroup_kind").agg(pl.sum("wait_time_ns"))
    assert {(p.cgroup_id, p.holder_cgroup_id, p.holder_cgroup_kind, p.wait_time_ns) for p in snapshot.pairs} == set(
        waits.iter_rows()
    )
    assert snapshot.health["records"] == health["records"].sum()
    assert snapshot.last_tick == windows.select(pl.col("window_tick") + pl.col("ticks") - 1).max().item()


@pytest.mark.parametrize("batches", [1, 63, 64, 65, 128])
def test_a_snapshot_has_what_was_added_up_by_who_put_it_aside(batches: int) -> None:
    totals = new_totals()
    for number in range(batches):
        put(totals, WINDOWS, windows_of(container(1), [number], cycles=3))
    assert sums(totals.snapshot())["cycles"] == 3 * batches
    assert totals.snapshot() is totals.snapshot()
