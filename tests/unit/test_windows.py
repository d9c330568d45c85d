# SPDX-License-Identifier: Apache-2.0
"""`windows` and `ticks` rows against a reference in dicts and loops, and against figures worked out by hand."""

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.pipeline import windows
from tracer.pipeline.wait_holders import Times, share_out, times_of
from tracer.pipeline.windows import (
    RECORDS_SCHEMA,
    TICKS_SCHEMA,
    WINDOWS_SCHEMA,
    WindowAssembler,
    aggregate_windows,
    llc_lookup,
    scale_counters,
    tick_rows,
)

Row = dict[str, Any]

IDLE = 0
COUNTERS = ("cycles", "instructions", "llc_misses")
SUMMED = ("cpu_time_ns", *COUNTERS, "context_switches", "wait_time_ns")
WAIT_SUMS = ("waits", "involuntary_switches")
TICK_NS = 1_000_000


# --- the reference ------------------------------------------------------------------------------------------------


def total(values: list[int | None]) -> int | None:
    """Sum of what was measured; None if nothing was."""
    measured = [value for value in values if value is not None]
    return sum(measured) if measured else None


def grouped(rows: list[Row], *names: str) -> dict[tuple[Any, ...], list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in names)].append(row)
    return groups


def summed(rows: list[Row]) -> Row:
    return {name: total([row[name] for row in rows]) for name in SUMMED}


def reference_scaled(record: Row) -> Row:
    coverage = record["coverage"]
    scaled = dict(record)
    for name in COUNTERS:
        if record[name] is None or coverage is None or coverage == 0:
            scaled[name] = None
        elif coverage < 1:
            scaled[name] = round(record[name] / coverage)
    return scaled


def reference_ticks(records: list[Row]) -> dict[tuple[int, int, int], Row]:
    """Rows of `ticks` by (tick, cpu, cgroup_id)."""
    rows = {}
    scaled = [reference_scaled(record) for record in records]
    for (tick, cpu), on_cpu in grouped(scaled, "tick", "cpu").items():
        cgroups = {cgroup_id: summed(own) for (cgroup_id,), own in grouped(on_cpu, "cgroup_id").items()}
        if list(cgroups) == [IDLE] and cgroups[IDLE]["cpu_time_ns"] == TICK_NS:
            continue
        for cgroup_id, row in cgroups.items():
            rows[tick, cpu, cgroup_id] = row
    return rows


def reference_neighbours(own_records: list[Row], all_records: list[Row], llc_of_cpu: dict[int, int]) -> Row:
    """What the others did on each LLC in each tick in which this cgroup ran."""
    cgroup_id = own_records[0]["cgroup_id"]
    cpu_time_ns = 0
    misses: list[int | None] = []
    for tick, llc in {(record["tick"], llc_of_cpu.get(record["cpu"])) for record in own_records}:
        here = [record for record in all_records if record["tick"] == tick and llc_of_cpu.get(record["cpu"]) == llc]
        own = [record for record in here if record["cgroup_id"] == cgroup_id]
        by_cgroup = grouped([record for record in here if record["cgroup_id"] not in (cgroup_id, IDLE)], "cgroup_id")
        # Who only waited is nobody's neighbour.
        ran = [records for records in by_cgroup.values() if sum(record["cpu_time_ns"] for record in records)]
        others = [record for records in ran for record in records]
        if sum(record["cpu_time_ns"] for record in own) == 0:
            continue
        cpu_time_ns += sum(record["cpu_time_ns"] for record in others)
        if others:
            misses.append(total([record["llc_misses"] for record in others]))
        elif any(record["llc_misses"] is not None for record in own):
            misses.append(0)
    return {"neighbour_cpu_time_ns": cpu_time_ns, "neighbour_llc_misses": total(misses)}


def reference_coverage(records: list[Row]) -> float | None:
    """The least of the counters that have a value, of all CPU time; None where nothing is counted at all."""
    time_ns = sum(record["cpu_time_ns"] for record in records)
    if not time_ns or all(record["coverage"] is None for record in records):
        return None
    measured = [[record for record in records if record[name] is not None] for name in COUNTERS]
    covered_ns = [sum(record["cpu_time_ns"] * record["coverage"] for record in some) for some in measured if some]
    return min(covered_ns, default=0) / time_ns


def largest_first(held: dict[int, int]) -> list[int]:
    return sorted(held, key=lambda cgroup_id: (-held[cgroup_id], cgroup_id))


def shared_out(amount: int, held: dict[int, int]) -> dict[int | None, int]:
    """In proportion to the time held, in whole ns; the largest holder gets what is left, nobody if there is none."""
    total_ns = sum(held.values())
    if not amount or not total_ns:
        return {None: amount}
    shares: dict[int | None, int] = {holder: amount * ns // total_ns for holder, ns in held.items()}
    shares[largest_first(held)[0]] += amount - sum(shares.values())
    return shares


def reference_behind(
    records: list[Row], ran: list[Row], window_ticks: int
) -> dict[tuple[int, int], dict[int | None, int]]:
    """By window and victim, what it waited by holder; `ran` says who held the CPUs."""
    behind: dict[tuple[int, int], dict[int | None, int]] = defaultdict(lambda: defaultdict(int))
    on_cpu = grouped(ran, "tick", "cpu")
    for (tick, cpu), here in grouped(records, "tick", "cpu").items():
        held = {
            cgroup_id: held_ns
            for (cgroup_id,), own in grouped(on_cpu[tick, cpu], "cgroup_id").items()
            if (held_ns := sum(record["cpu_time_ns"] for record in own))
        }
        for (victim,), own in grouped(here, "cgroup_id").items():
            waited = [record for record in own if record["wait_time_ns"]]
            ended = [record for record in waited if record["wait_self_ns"] is not None]
            open_ns = [record["wait_time_ns"] for record in waited if record["wait_self_ns"] is None]
            # They began in this tick: what the others' time does not hold was behind itself.
            begun = [ns for ns in open_ns if ns < TICK_NS]
            behind_ns = sum(min(ns, TICK_NS - min(held.get(victim, 0), TICK_NS)) for ns in begun)
            whole_ns = sum(open_ns) - sum(begun)
            own_ns = sum(record["wait_self_ns"] for record in ended) + sum(begun) - behind_ns
            others_ns = sum(record["wait_time_ns"] for record in ended) + sum(begun) - own_ns
            others = {holder: ns for holder, ns in held.items() if holder != victim}
            for shares in ({victim: own_ns}, shared_out(whole_ns, held), shared_out(others_ns, others)):
                for holder, ns in shares.items():
                    behind[tick // window_ticks * window_ticks, victim][holder] += ns
    return behind


def reference_waits(own: list[Row], behind: dict[int | None, int], cgroup_id: int) -> Row:
    by_tick = [total([record["wait_time_ns"] for record in in_tick]) for in_tick in grouped(own, "tick").values()]
    followed = [ns for ns in by_tick if ns is not None]
    stolen_ns = total([record["stolen_time_ns"] for record in own])
    parts = {
        "wait_behind_others_ns": sum(ns for holder, ns in behind.items() if holder not in (None, IDLE, cgroup_id)),
        "wait_behind_self_ns": behind.get(cgroup_id, 0),
        "wait_idle_ns": behind.get(IDLE, 0),
    }
    return {
        "wait_time_peak_ns": max(followed, default=None),
        **{name: total([record[name] for record in own]) for name in WAIT_SUMS},
        **(parts if followed else dict.fromkeys(parts)),
        "wait_throttled_ns": None,
        "stolen_time_ns": stolen_ns,
    }


def reference_windows(
    records: list[Row],
    *,
    window_ticks: int,
    first_tick: int,
    last_tick: int | None,
    llc_of_cpu: dict[int, int],
    ran: list[Row] | None = None,
) -> dict[tuple[int, int], Row]:
    """Rows of `windows` by (window_tick, cgroup_id); `ran` are the records that say who held the CPUs, if others."""
    scaled = [reference_scaled(record) for record in records]
    for record in scaled:
        record["window_tick"] = record["tick"] // window_ticks * window_ticks
    behind = reference_behind(records, records if ran is None else ran, window_ticks)
    rows = {}
    for (window_tick, cgroup_id), own in grouped(scaled, "window_tick", "cgroup_id").items():
        ticks = [summed(in_tick) for in_tick in grouped(own, "tick").values()]
        paired = [record for record in own if record["cycles"] is not None and record["instructions"] is not None]
        both = [summed(in_tick) for in_tick in grouped(paired, "tick").values()]
        cpi = [tick["cycles"] / tick["instructions"] for tick in both if tick["instructions"]]
        misses = [tick["llc_misses"] for tick in ticks if tick["llc_misses"] is not None]
        last = window_tick + window_ticks - 1
        if last_tick is not None:
            last = min(last, last_tick)
        row = {
            "records": len(own),
            "ticks": max(0, last - max(window_tick, first_tick) + 1),
            **summed(own),
            "active_ticks": sum(tick["cpu_time_ns"] > 0 for tick in ticks),
            "cpus": max(
                len({record["cpu"] for record in own if record["cpu_time_ns"] > 0}),
                any(record["context_switches"] or record["cpu_time_ns"] for record in own),
            ),
            "cpu_time_peak_ns": max(tick["cpu_time_ns"] for tick in ticks),
            "llc_misses_peak": max(misses, default=None),
            "cpi_min": min(cpi, default=None),
            "cpi_median": statistics.median(cpi) if cpi else None,
            "cpi_max": max(cpi, default=None),
            **reference_neighbours(own, scaled, llc_of_cpu),
            "counter_coverage": reference_coverage(own),
            **reference_waits(own, behind[window_tick, cgroup_id], cgroup_id),
        }
        rows[window_tick, cgroup_id] = row
    return rows


# --- what is fed in -----------------------------------------------------------------------------------------------


def frame(records: list[Row]) -> pl.DataFrame:
    return pl.DataFrame(records, schema=RECORDS_SCHEMA, orient="row")


def record(tick: int, cpu: int, cgroup_id: int, cpu_time_ns: int, **columns: Any) -> Row:
    return {
        "tick": tick,
        "cpu": cpu,
        "cgroup_id": cgroup_id,
        "cpu_time_ns": cpu_time_ns,
        "cycles": None,
        "instructions": None,
        "llc_misses": None,
        "context_switches": 0,
        "coverage": 1.0 if any(name in columns for name in COUNTERS) else None,
        "wait_time_ns": None,
        "wait_self_ns": None,
        "waits": None,
        "involuntary_switches": None,
        "stolen_time_ns": None,
    } | columns


# Half of the counts are small, so that zeros, ties and equal values come up.
counts = st.none() | st.integers(0, 3) | st.integers(0, 2**45)
coverages = st.sampled_from([None, 0.0, 1.0, 1.0]) | st.floats(2**-8, 1, width=32)
waits = st.just({}) | st.builds(
    lambda parts, whole, waits, involuntary: {
        "wait_time_ns": sum(parts), "wait_self_ns": None if whole else parts[0], "waits": waits,
        "involuntary_switches": involuntary,
    },
    parts=st.tuples(st.integers(0, 3) | st.integers(0, 2**30), st.integers(0, 3) | st.integers(0, 2**30)),
    whole=st.booleans(),
    waits=st.integers(0, 9),
    involuntary=st.integers(0, 9),
)  # fmt: skip


def any_record(waited: Row, **columns: Any) -> Row:
    return record(**columns, **waited)


records_strategy = st.builds(
    any_record,
    waited=waits,
    stolen_time_ns=st.none() | st.integers(-100, 2**30),
    tick=st.integers(1000, 1012),
    cpu=st.sampled_from([0, 1, 2, 3, 65535]),
    cgroup_id=st.sampled_from([IDLE, 1, 2**63, 2**64 - 3]),
    cpu_time_ns=st.sampled_from([0, 1, TICK_NS]) | st.integers(0, 2**40),
    cycles=counts,
    instructions=counts,
    llc_misses=counts,
    context_switches=st.integers(0, 2**20),
    coverage=coverages,
)
record_lists = st.lists(records_strategy, max_size=40)
# CPU 65535 is never named, others not always: then they share an LLC.
llc_maps = st.sampled_from([{}, {0: 0, 1: 0, 2: 0, 3: 0}, {0: 0, 1: 0, 2: 1, 3: 1}, {0: 7, 3: 0}])
window_lengths = st.sampled_from([1, 2, 5, 60, 65535])


def by_key(rows: pl.DataFrame, *key: str) -> dict[tuple[Any, ...], Row]:
    """The rows of a frame by their key, which must be unique."""
    result = {tuple(row.pop(name) for name in key): row for row in rows.to_dicts()}
    assert len(result) == rows.height
    return result


def assert_windows(rows: pl.DataFrame, expected: dict[tuple[int, int], Row]) -> None:
    assert rows.schema == WINDOWS_SCHEMA
    actual = by_key(rows, "window_tick", "cgroup_id")
    assert actual.keys() == expected.keys()
    for key, row in expected.items():
        assert actual[key].keys() == row.keys()
        for name, value in row.items():
            if isinstance(value, float):
                value = pytest.approx(value, rel=1e-6)
            assert actual[key][name] == value, (key, name)


def aggregated(records: pl.DataFrame, **options: Any) -> pl.DataFrame:
    """The windows of records, with what they say of holders."""
    holders = share_out(records, [times_of(records)], tick_ns=TICK_NS, window_ticks=options["window_ticks"])
    return aggregate_windows(scale_counters(records), holders, **options)


def windows_of(records: list[Row], llc_of_cpu: dict[int, int] | None = None, **options: Any) -> dict[Any, Row]:
    """Rows of `windows` by (window_tick, cgroup_id), for windows of 10 ticks unless told."""
    options = {"window_ticks": 10, "first_tick": 0, "last_tick": None} | options
    rows = aggregated(frame(records), llc_by_cpu=llc_lookup(llc_of_cpu or {}), **options)
    return by_key(rows, "window_tick", "cgroup_id")


# --- against the reference ----------------------------------------------------------------------------------------


@given(record_lists, window_lengths, st.integers(998, 1005), st.none() | st.integers(1000, 1014), llc_maps)
def test_windows_agree_with_reference(
    records: list[Row], window_ticks: int, first_tick: int, last_tick: int | None, llc_of_cpu: dict[int, int]
) -> None:
    rows = aggregated(
        frame(records),
        window_ticks=window_ticks,
        first_tick=first_tick,
        last_tick=last_tick,
        llc_by_cpu=llc_lookup(llc_of_cpu),
    )
    assert_windows(
        rows,
        reference_windows(
            records,
            window_ticks=window_ticks,
            first_tick=first_tick,
            last_tick=last_tick,
            llc_of_cpu=llc_of_cpu,
        ),
    )


@given(record_lists)
def test_ticks_agree_with_reference(records: list[Row]) -> None:
    rows = tick_rows(scale_counters(frame(records)), tick_ns=TICK_NS)
    assert rows.schema == TICKS_SCHEMA
    assert by_key(rows, "tick", "cpu", "cgroup_id") == reference_ticks(records)


@given(record_lists, window_lengths)
def test_windows_sum_to_ticks_and_peaks_stay_below_sums(records: list[Row], window_ticks: int) -> None:
    scaled = scale_counters(frame(records))
    rows = aggregated(
        frame(records), window_ticks=window_ticks, first_tick=0, last_tick=None, llc_by_cpu=llc_lookup({})
    ).to_dicts()
    ticks = tick_rows(scaled, tick_ns=TICK_NS).to_dicts()
    for cgroup_id in {row["cgroup_id"] for row in rows} - {IDLE}:
        assert summed([row for row in rows if row["cgroup_id"] == cgroup_id]) == summed(
            [row for row in ticks if row["cgroup_id"] == cgroup_id]
        )
    for row in rows:
        assert row["cpu_time_peak_ns"] <= row["cpu_time_ns"] <= row["cpu_time_peak_ns"] * max(1, row["active_ticks"])
        assert (row["llc_misses_peak"] is None) == (row["llc_misses"] is None)
        assert row["llc_misses"] is None or row["llc_misses_peak"] <= row["llc_misses"]
        assert (row["cpi_min"] is None) == (row["cpi_median"] is None) == (row["cpi_max"] is None)
        assert row["cpi_min"] is None or row["cpi_min"] <= row["cpi_median"] <= row["cpi_max"]


# --- the assembler ------------------------------------------------------------------------------------------------

steps = st.lists(
    st.tuples(st.just("add"), record_lists)
    | st.tuples(st.just("close_before"), st.integers(998, 1016))
    | st.tuples(st.just("close_all"), st.integers(1001, 1016)),
    max_size=8,
)


@given(steps, window_lengths, llc_maps)
def test_assembler_agrees_with_reference(
    script: list[tuple[str, Any]], window_ticks: int, llc_of_cpu: dict[int, int]
) -> None:
    """Each close hands out the held records of the windows that ended, once, whatever came before."""
    assembler = WindowAssembler(tick_ns=TICK_NS, window_ticks=window_ticks, first_tick=1001, llc_of_cpu=llc_of_cpu)
    held: list[Row] = []
    # Who ran is remembered, for waits that end later.
    ran: list[Row] = []
    closed_before = 0
    late_rows = added = handed_out = 0
    for action, argument in [*script, ("close_all", 1010)]:
        if action == "add":
            assembler.add(frame(argument))
            held += argument
            added += len(argument)
            continue
        end = argument // window_ticks * window_ticks
        if action == "close_all":
            end += window_ticks
            final = [record for record in held if record["tick"] <= argument]
            held = final
            closed = assembler.close_all(argument)
        else:
            final = [record for record in held if record["tick"] < end and end > closed_before]
            closed = assembler.close_before(argument)
        held = [record for record in held if record not in final]
        if any(record["wait_time_ns"] is not None for record in final):
            ran += final
        expected = reference_windows(
            final,
            window_ticks=window_ticks,
            first_tick=1001,
            last_tick=argument if action == "close_all" else None,
            llc_of_cpu=llc_of_cpu,
            ran=ran,
        )
        assert_windows(closed.windows, expected)
        assert closed.records.schema == RECORDS_SCHEMA
        assert by_key(tick_rows(closed.records, tick_ns=TICK_NS), "tick", "cpu", "cgroup_id") == reference_ticks(final)
        late_rows += sum(window_tick < closed_before for window_tick, _ in expected)
        closed_before = max(closed_before, end)
        assert assembler.late_rows == late_rows
        handed_out += len(expected)
    assert handed_out + assembler.merged + assembler.outside_run == added


def test_a_window_closes_when_its_last_tick_is_over() -> None:
    assembler = WindowAssembler(tick_ns=TICK_NS, window_ticks=60, first_tick=120, llc_of_cpu={})
    assembler.add(frame([record(120, 0, 5, 1), record(179, 0, 5, 2), record(180, 0, 5, 4)]))
    assert assembler.close_before(179).windows.is_empty()
    closed = assembler.close_before(180)
    assert closed.windows.select("window_tick", "ticks", "cpu_time_ns").rows() == [(120, 60, 3)]
    assert closed.records.height == 2
    assert assembler.close_before(239).windows.is_empty()
    assert assembler.close_before(240).windows["cpu_time_ns"].to_list() == [4]


@pytest.mark.parametrize("changes", [{130: 240}, {130: 240, 700: 60}, {10: 240, 20: 60, 400: 240, 401: 60, 900: 240}])
def test_windows_of_another_length_begin_where_one_of_them_does(changes: dict[int, int]) -> None:
    assembler = WindowAssembler(tick_ns=TICK_NS, window_ticks=60, first_tick=0, llc_of_cpu={})
    ticks, closed = range(1200), []
    for tick in ticks:
        if tick in changes:
            assembler.use_length(changes[tick])
        assembler.add(frame([record(tick, 0, 7, 600_000, wait_time_ns=400_000, wait_own_ns=0)]))
        closed.append(assembler.close_before(tick - 20))
    closed.append(assembler.close_all(ticks[-1]))
    rows = pl.concat([some.windows for some in closed]).sort("window_tick")
    assert set(rows["ticks"]) <= {60, 240}
    assert 240 in set(rows["ticks"])
    begins, lengths = rows["window_tick"].to_list(), rows["ticks"].to_list()
    assert all(begin % length == 0 for begin, length in zip(begins, lengths, strict=True))
    # Each tick is in one window.
    assert [*begins[1:], len(ticks)] == [begin + length for begin, length in zip(begins, lengths, strict=True)]
    assert rows["cpu_time_ns"].to_list() == [length * 600_000 for length in lengths]
    assert rows["active_ticks"].to_list() == lengths


def test_a_late_record_becomes_a_further_row_with_the_next_close() -> None:
    assembler = WindowAssembler(tick_ns=TICK_NS, window_ticks=60, first_tick=0, llc_of_cpu={})
    assembler.add(frame([record(0, 0, 5, 10)]))
    assert assembler.close_before(60).windows["cpu_time_ns"].to_list() == [10]
    assert assembler.late_rows == 0
    assembler.add(frame([record(1, 0, 5, 7), record(60, 0, 5, 100)]))
    assert assembler.close_before(119).windows.is_empty()
    rows = assembler.close_before(120).windows.sort("window_tick")
    assert rows.select("window_tick", "cpu_time_ns", "ticks").rows() == [(0, 7, 60), (60, 100, 60)]
    assert assembler.late_rows == 1


def test_only_late_records_at_the_end() -> None:
    assembler = WindowAssembler(tick_ns=TICK_NS, window_ticks=60, first_tick=0, llc_of_cpu={})
    assembler.add(frame([record(70, 0, 5, 10)]))
    assert assembler.close_all(last_tick=70).windows["ticks"].to_list() == [11]
    assembler.add(frame([record(69, 0, 5, 1), record(69, 0, 6, 1)]))
    assert assembler.close_all(last_tick=70).windows["ticks"].to_list() == [11, 11]
    assert assembler.late_rows == 2
    assert assembler.close_all(last_tick=70).windows.is_empty()


def test_an_assembler_that_got_nothing_hands_out_empty_frames() -> None:
    assembler = WindowAssembler(tick_ns=TICK_NS, window_ticks=60, first_tick=0, llc_of_cpu={0: 0})
    for closed in (assembler.close_before(10), assembler.close_before(1000), assembler.close_all(1000)):
        assert closed.records.schema == RECORDS_SCHEMA
        assert closed.windows.schema == WINDOWS_SCHEMA
        assert closed.records.is_empty()
        assert closed.windows.is_empty()
    assert assembler.late_rows == 0


# --- figures by hand ----------------------------------------------------------------------------------------------


def test_one_window_by_hand() -> None:
    """Cgroup 7 runs on two CPUs of one LLC; 8 beside it in tick 21 only, and elsewhere in tick 22."""
    llc_of_cpu = {0: 0, 1: 0, 2: 1}
    rows = windows_of(
        [
            record(
                20,
                0,
                7,
                600_000,
                cycles=1200,
                instructions=600,
                llc_misses=10,
                context_switches=1,
                waits=2,
                wait_time_ns=350_000,
                wait_self_ns=50_000,
                involuntary_switches=1,
                stolen_time_ns=7_000,
            ),
            record(20, 0, 8, 300_000),
            record(20, 0, 0, 100_000),
            record(20, 1, 7, 400_000, cycles=800, instructions=400, llc_misses=5, context_switches=2),
            record(21, 0, 7, 250_000, cycles=900, instructions=300, llc_misses=40),
            record(21, 1, 8, 700_000, cycles=100, instructions=100, llc_misses=9),
            record(22, 0, 7, 100_000, cycles=500, instructions=100, llc_misses=2),
            record(22, 2, 8, 300_000, cycles=100, instructions=100, llc_misses=3),
            record(23, 1, 0, 1_000_000, cycles=0, instructions=0, llc_misses=0),
        ],
        llc_of_cpu,
    )
    assert rows[20, 7] == {
        "records": 4,
        "ticks": 10,
        "cpu_time_ns": 1_350_000,
        "cycles": 3400,
        "instructions": 1400,
        "llc_misses": 57,
        "context_switches": 3,
        "active_ticks": 3,
        "cpus": 2,
        "cpu_time_peak_ns": 1_000_000,  # tick 20, both CPUs
        "llc_misses_peak": 40,  # tick 21
        "cpi_min": 2.0,  # tick 20: 2000 / 1000
        "cpi_median": 3.0,  # tick 21: 900 / 300
        "cpi_max": 5.0,  # tick 22: 500 / 100
        "neighbour_cpu_time_ns": 1_000_000,  # ticks 20 and 21; in tick 22 the other ran on another LLC
        "neighbour_llc_misses": 9,
        "counter_coverage": 1.0,
        "wait_time_ns": 350_000,
        "wait_time_peak_ns": 350_000,
        "waits": 2,
        "involuntary_switches": 1,
        "wait_behind_others_ns": 225_000,  # of 300,000: cgroup 8 ran three times as long as nobody
        "wait_behind_self_ns": 50_000,
        "wait_idle_ns": 75_000,
        "wait_throttled_ns": None,
        "stolen_time_ns": 7_000,
    }
    assert rows[20, 8]["neighbour_cpu_time_ns"] == 1_250_000
    assert rows[20, 8]["neighbour_llc_misses"] == 55
    assert rows[20, 0]["neighbour_cpu_time_ns"] == 1_300_000
    assert rows[20, 0]["cpi_median"] is None


def test_idle_is_nobodys_neighbour_but_has_neighbours() -> None:
    rows = windows_of(
        [
            record(0, 0, 0, 400, llc_misses=1000),
            record(0, 0, 7, 600, llc_misses=10),
            record(0, 1, 8, 1000, llc_misses=20),
        ]
    )
    assert [rows[0, cgroup_id]["neighbour_cpu_time_ns"] for cgroup_id in (0, 7, 8)] == [1600, 1000, 600]
    assert [rows[0, cgroup_id]["neighbour_llc_misses"] for cgroup_id in (0, 7, 8)] == [30, 20, 10]


def test_cpus_of_no_known_llc_share_one() -> None:
    records = [record(0, cpu, 10 + cpu, 100 + cpu) for cpu in range(4)]
    rows = windows_of(records, {0: 0, 1: 0})
    assert [rows[0, cgroup_id]["neighbour_cpu_time_ns"] for cgroup_id in (10, 11, 12, 13)] == [101, 100, 103, 102]


def test_nothing_counted_is_null_and_counted_nothing_is_zero() -> None:
    rows = windows_of(
        [
            record(0, 0, 7, 10),
            record(0, 1, 8, 10),
            record(10, 0, 7, 10, cycles=0, instructions=0, llc_misses=0),
        ]
    )
    counted = [*COUNTERS, "llc_misses_peak", "neighbour_llc_misses", "counter_coverage"]
    assert [rows[0, 7][name] for name in counted] == [None] * 6
    assert [rows[10, 7][name] for name in counted] == [0, 0, 0, 0, 0, 1.0]
    assert rows[10, 7]["cpi_median"] is None


def test_misses_of_uncounted_neighbours_are_null() -> None:
    rows = windows_of([record(0, 0, 7, 10, llc_misses=3), record(0, 1, 8, 10, llc_misses=None, coverage=0.0)])
    assert rows[0, 7]["neighbour_llc_misses"] is None
    assert rows[0, 8]["neighbour_llc_misses"] == 3


@pytest.mark.parametrize(
    ("counted", "coverage", "scaled"),
    [
        (2**64 - 1, 1.0, 2**64 - 1),
        (2**53 + 1, 1.0, 2**53 + 1),
        (100, 0.25, 400),
        (1, 0.75, 1),
        (0, 0.5, 0),
        (0, 0.0, None),
        (5, None, None),
        (None, 1.0, None),
        (2**63, 0.5, None),
    ],
)
def test_scaling(counted: int | None, coverage: float | None, scaled: int | None) -> None:
    records = frame([record(0, 0, 7, 10, cycles=counted, coverage=coverage)])
    assert scale_counters(records)["cycles"].to_list() == [scaled]


def test_each_record_is_rounded_so_that_windows_and_ticks_agree() -> None:
    records = [record(tick, 0, 7, 10, cycles=1, coverage=0.75) for tick in range(3)]
    assert windows_of(records)[0, 7]["cycles"] == 3  # not round(3 / 0.75) = 4
    assert tick_rows(scale_counters(frame(records)), tick_ns=TICK_NS)["cycles"].to_list() == [1, 1, 1]


def test_coverage_is_weighted_by_cpu_time() -> None:
    rows = windows_of(
        [
            record(0, 0, 7, 300, cycles=5, coverage=1.0),
            record(0, 1, 7, 100, cycles=5, coverage=0.5),
            record(10, 0, 7, 300, cycles=5, coverage=1.0),
            record(10, 1, 7, 100, coverage=0.0),
            record(20, 0, 7, 300, cycles=5, coverage=1.0),
            record(20, 1, 7, 100),
            record(30, 0, 7, 100, coverage=0.0),
        ]
    )
    coverage = [rows[window_tick, 7]["counter_coverage"] for window_tick in (0, 10, 20, 30)]
    assert coverage == [0.875, 0.75, 0.75, 0.0]


@pytest.mark.parametrize(
    ("first_tick", "last_tick", "ticks"),
    [(0, None, 60), (60, 119, 60), (119, None, 1), (70, 79, 10), (60, 60, 1), (0, 70, 11), (200, None, 0)],
)
def test_ticks_of_a_partial_window(first_tick: int, last_tick: int | None, ticks: int) -> None:
    rows = windows_of([record(75, 0, 7, 1)], window_ticks=60, first_tick=first_tick, last_tick=last_tick)
    assert rows[60, 7]["ticks"] == ticks


def test_extremes_of_ids_and_lengths_stay_exact() -> None:
    records = [
        record(2**45, 65535, 2**64 - 1, 2**63, cycles=2**63, context_switches=2**31),
        record(2**45, 65535, 2**64 - 1, 2**63 - 1, cycles=2**63 - 1, context_switches=2**31 - 1),
    ]
    ((window_tick, cgroup_id), row), *rest = windows_of(records, window_ticks=65535).items()
    assert not rest
    assert (window_tick, cgroup_id) == (2**45 // 65535 * 65535, 2**64 - 1)
    assert (row["ticks"], row["cpus"], row["active_ticks"]) == (65535, 1, 1)
    assert row["cpu_time_ns"] == row["cpu_time_peak_ns"] == row["cycles"] == 2**64 - 1
    assert row["context_switches"] == 2**32 - 1


def test_a_cgroup_without_cpu_time_keeps_its_row() -> None:
    row = windows_of([record(0, 3, 7, 0, context_switches=2), record(0, 3, 8, 50)])[0, 7]
    assert (row["context_switches"], row["active_ticks"], row["cpus"]) == (2, 0, 1)
    assert (row["neighbour_cpu_time_ns"], row["neighbour_llc_misses"]) == (0, None)


def test_only_ticks_idle_throughout_have_no_row() -> None:
    rows = tick_rows(
        frame(
            [
                record(0, 0, 0, TICK_NS),
                record(0, 1, 0, TICK_NS - 1),
                record(0, 1, 7, 1),
                record(1, 0, 0, TICK_NS // 2),
                record(1, 0, 0, TICK_NS // 2),
                record(1, 1, 0, TICK_NS),
                record(1, 1, 7, 0, context_switches=1),
                record(2, 0, 7, TICK_NS),
            ]
        ),
        tick_ns=TICK_NS,
    )
    keys = rows.select("tick", "cpu", "cgroup_id").rows()
    assert sorted(keys) == [(0, 1, 0), (0, 1, 7), (1, 1, 0), (1, 1, 7), (2, 0, 7)]


def test_many_rows_take_the_other_engine_to_the_same_result() -> None:
    few = [
        record(tick, cpu, cgroup_id, 1 + (7 * tick + 3 * cpu) % 11, **counted)
        for tick in range(4)
        for cpu in range(3)
        for cgroup_id in (0, 1 + tick % 2, 5 + cpu)
        for counted in ({"cycles": 9, "instructions": 4 + tick, "llc_misses": cpu, "coverage": 0.5}, {})
    ]
    repeats = math.ceil(windows._STREAMING_FROM_ROWS / len(few))
    many = frame(few).join(pl.DataFrame({"repeat": range(repeats)}), how="cross")
    many = many.with_columns(pl.col("tick") + pl.col("repeat").cast(pl.UInt64) * 10).drop("repeat")
    assert many.height >= windows._STREAMING_FROM_ROWS
    rows = aggregated(
        many,
        window_ticks=10,
        first_tick=0,
        last_tick=None,
        llc_by_cpu=llc_lookup({0: 0, 1: 0, 2: 1}),
    )
    assert rows.height == repeats * 6
    assert by_key(rows.filter(pl.col("window_tick") == 0), "window_tick", "cgroup_id") == windows_of(
        few, {0: 0, 1: 0, 2: 1}
    )
    assert rows.drop("window_tick").unique().height == 6


# --- who was waited behind ----------------------------------------------------------------------------------------


def holders_of(records: list[Row], throttled: Sequence[tuple[int, int, int, int]] = ()) -> dict[tuple[Any, ...], int]:
    """What was waited by window, victim, holder and whether by a limit, in windows of 10 ticks."""
    rows = frame(records)
    columns = [np.array(column, np.uint64) for column in zip(*throttled, strict=True)]
    limits = [Times(columns[0], columns[1].astype(np.uint16), *columns[2:])] if throttled else []
    shares = share_out(rows, [times_of(rows)], limits, tick_ns=TICK_NS, window_ticks=10)
    return {key: row["wait_time_ns"] for key, row in by_key(shares, *shares.columns[:-1]).items()}


def waited(tick: int, cpu: int, cgroup_id: int, wait_ns: int, own_ns: int | None = 0, held_ns: int = 0) -> Row:
    return record(tick, cpu, cgroup_id, held_ns, wait_time_ns=wait_ns, wait_self_ns=own_ns, waits=1)


def test_a_wait_is_shared_by_the_time_that_others_held_that_cpu() -> None:
    rows = [
        waited(3, 0, 7, 600_000, own_ns=100_000, held_ns=200_000),
        record(3, 0, 8, 600_000),
        record(3, 0, 9, 200_000),
    ]
    elsewhere = [record(3, 1, 10, TICK_NS), record(4, 0, 11, TICK_NS)]
    assert holders_of([*rows, *elsewhere]) == {
        (0, 7, 7, False): 100_000,
        (0, 7, 8, False): 375_000,
        (0, 7, 9, False): 125_000,
    }


def test_a_tick_that_was_waited_for_throughout_is_everybodys() -> None:
    rows = [waited(3, 0, 7, 2 * TICK_NS, own_ns=None, held_ns=250_000), record(3, 0, 8, 750_000)]
    assert holders_of(rows) == {(0, 7, 7, False): 500_000, (0, 7, 8, False): 1_500_000}


@pytest.mark.parametrize(("held_ns", "own_ns"), [(400_000, 0), (700_000, 300_000), (TICK_NS, 600_000)])
def test_of_a_tick_in_which_a_long_wait_began_only_what_must_be_is_its_own(held_ns: int, own_ns: int) -> None:
    rows = [waited(3, 0, 7, 600_000, own_ns=None, held_ns=held_ns)]
    expected = {(0, 7, 7, False): own_ns, (0, 7, 8, False): 600_000 - own_ns}
    if held_ns < TICK_NS:
        rows.append(record(3, 0, 8, TICK_NS - held_ns))
    assert holders_of(rows) == {key: ns for key, ns in expected.items() if ns}


def test_idle_time_is_a_holder_and_a_tick_without_records_has_none() -> None:
    rows = [waited(3, 0, 7, 5_000), record(3, 0, IDLE, TICK_NS), waited(4, 0, 7, 4_000)]
    assert holders_of(rows) == {(0, 7, IDLE, False): 5_000, (0, 7, None, False): 4_000}


@pytest.mark.parametrize("busy", [IDLE, 8])
def test_while_a_cgroup_is_throttled_nobody_else_is_in_its_way(busy: int) -> None:
    ran_out = [waited(3, 0, 7, 600_000, held_ns=400_000), record(3, 0, busy, 600_000)]
    waits_on = [waited(4, 0, 7, 2 * TICK_NS, own_ns=None), record(4, 0, busy, TICK_NS)]
    limit = [(3, 0, 7, 600_000), (4, 0, 7, 400_000), (4, 0, 7, 350_000), (4, 1, 7, TICK_NS), (4, 0, 9, TICK_NS)]
    assert holders_of([*ran_out, *waits_on], limit) == {
        (0, 7, None, True): 600_000 + 1_500_000,
        (0, 7, busy, False): 500_000,
    }


def test_holders_of_a_wait_of_seconds_are_known_by_window() -> None:
    assembler = WindowAssembler(tick_ns=TICK_NS, window_ticks=60, first_tick=0, llc_of_cpu={})
    ticks = range(60, 6000)
    assembler.add(frame([waited(tick, 0, 8, 0, held_ns=750_000) for tick in ticks]))
    assembler.add(frame([record(tick, 0, 9, 250_000, wait_time_ns=0, wait_self_ns=0) for tick in ticks]))
    assembler.add(frame([waited(tick, 1, 10, 0, held_ns=TICK_NS) for tick in ticks]))
    assembler.close_before(6000)
    # All of it ends at once.
    assembler.add(frame([waited(tick, 0, 7, TICK_NS, own_ns=None) for tick in ticks]))
    holders = assembler.close_before(6060).holders
    sums = dict(holders.group_by("holder_cgroup_id").agg(pl.sum("wait_time_ns")).iter_rows())
    assert sums == {8: 0.75 * len(ticks) * TICK_NS, 9: 0.25 * len(ticks) * TICK_NS}


def test_records_of_seconds_that_are_read_at_once_are_shared_out_by_tick() -> None:
    assembler = WindowAssembler(tick_ns=TICK_NS, window_ticks=60, first_tick=0, llc_of_cpu={})
    for begin, end in ((0, 60), (60, 6000)):
        runs, stops = range(begin, end, 2), range(begin + 1, end, 2)
        assembler.add(frame([waited(tick, 0, 7, 0, held_ns=TICK_NS) for tick in runs]))
        assembler.add(frame([waited(tick, 0, 7, TICK_NS, own_ns=None) for tick in stops]))
        assembler.add(frame([record(tick, 0, 8, TICK_NS) for tick in stops]))
        holders = assembler.close_before(end).holders
        assert set(holders.group_by("holder_cgroup_id").agg(pl.sum("wait_time_ns")).iter_rows()) == {
            (8, len(stops) * TICK_NS)
        }


def test_windows_tell_throttling_where_it_is_known() -> None:
    for told, throttled_ns in ((True, 300_000), (False, None)):
        assembler = WindowAssembler(tick_ns=TICK_NS, window_ticks=10, first_tick=0, llc_of_cpu={}, tells_throttled=told)
        assembler.add(frame([waited(3, 0, 7, 300_000, held_ns=700_000), record(3, 0, IDLE, 300_000)]))
        one = np.ones(1, np.uint64)
        assembler.add_throttled(Times(3 * one, np.zeros(1, np.uint16), 7 * one, (300_000 if told else 0) * one))
        (row,) = assembler.close_before(10).windows.filter(cgroup_id=7).to_dicts()
        assert row["wait_time_ns"] == row["wait_idle_ns"] + (row["wait_throttled_ns"] or 0) == 300_000
        assert row["wait_throttled_ns"] == throttled_ns
