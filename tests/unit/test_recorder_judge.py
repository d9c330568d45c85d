# SPDX-License-Identifier: Apache-2.0
"""Rules are met by what containers did, once by each streak, also where rows come late or in pieces."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from planted_recording import IDLE, START_NS, TICK_NS, WINDOW_NS, WINDOW_TICKS, container, frame, windows_of

from tracer.recorder import container_sums
from tracer.recorder.judge import Judge, Met
from tracer.recorder.rules import parse_rules
from tracer.recorder.window_judge import streaks
from tracer.store.schemas import HEALTH, RESOURCES, WINDOWS, Table

MS = 1_000_000
RAN = 12 * MS  # of 60 ms


def judge_of(*rules: str, window_ticks: int = WINDOW_TICKS) -> Judge:
    return Judge(parse_rules(rules), tick_ns=TICK_NS, window_ticks=window_ticks)


def look(judge: Judge, table: Table, *rows: pl.DataFrame) -> list[Met]:
    together = pl.concat(rows)
    times = pl.from_epoch(table.time_column, "ns").dt.replace_time_zone("UTC")
    return judge.look(table, together.with_columns(times).to_arrow())


def waiting(number: int, windows: Sequence[int], share: float | list[float], **columns: Any) -> pl.DataFrame:
    """Rows of a container that ran 12 ms of each window and waited for `share` of what it ran and waited."""
    shares = np.broadcast_to(np.array(share), len(windows))
    wait_ns = np.round(RAN * shares / (1 - shares)).astype(np.int64)
    given = {"cpu_time_ns": RAN, "wait_time_ns": wait_ns, **columns}
    return windows_of(container(number), windows, **given)


def test_a_wait_is_found_when_it_lasted_and_only_once() -> None:
    judge = judge_of("wait(namespace=shop)>20% for 300ms")
    assert look(judge, WINDOWS, waiting(1, range(10), 0.1)) == []
    assert look(judge, WINDOWS, waiting(1, range(10, 14), 0.5)) == [], "240 ms"
    (met,) = look(judge, WINDOWS, waiting(1, [14], 0.4))
    assert (met.rule, met.name, met.others) == ("wait(namespace=shop)>20% for 300ms", "shop/pod-1/app", 0)
    assert met.who.cgroup_id == 1
    assert met.value == "48.3%"
    assert (met.start_ns, met.end_ns) == (START_NS + 10 * WINDOW_NS, START_NS + 15 * WINDOW_NS)
    assert look(judge, WINDOWS, waiting(1, range(15, 30), 0.5)) == [], "it goes on"
    assert look(judge, WINDOWS, waiting(1, [30], 0.1)) == []
    assert look(judge, WINDOWS, waiting(1, range(31, 35), 0.5)) == []
    (again,) = look(judge, WINDOWS, waiting(1, [35], 0.5))
    assert again.start_ns == START_NS + 31 * WINDOW_NS


@pytest.mark.parametrize("size", [1, 2, 3, 7, 40])
def test_batches_make_no_difference(size: int) -> None:
    rows = waiting(1, range(40), [0.5 if 10 <= window < 20 else 0.1 for window in range(40)])
    judge = judge_of("wait>20% for 500ms")
    found = [met for at in range(0, 40, size) for met in look(judge, WINDOWS, rows[at : at + size])]
    assert [met.start_ns for met in found] == [START_NS + 10 * WINDOW_NS]


def test_rows_that_come_late_add_to_their_window() -> None:
    judge = judge_of("wait>20% for 500ms")
    # A thread of it runs, the other is held up for 6 s: its wait is known at the end.
    assert look(judge, WINDOWS, waiting(1, range(100), 0)) == []
    late = windows_of(container(1), range(100), cpu_time_ns=0, wait_time_ns=WINDOW_NS)
    (met,) = look(judge, WINDOWS, late)
    assert (met.start_ns, met.end_ns) == (START_NS, START_NS + 100 * WINDOW_NS)
    assert met.value == f"{100 * 60 / 72:.3g}%"
    assert look(judge, WINDOWS, late) == []


def test_rows_that_come_late_can_end_a_streak() -> None:
    judge = judge_of("wait>20% for 300ms")
    look(judge, WINDOWS, waiting(1, range(4), 0.3))
    look(judge, WINDOWS, windows_of(container(1), [2], cpu_time_ns=WINDOW_NS, wait_time_ns=0))
    assert look(judge, WINDOWS, waiting(1, [4], 0.3)) == []


def test_cgroups_of_a_container_are_one() -> None:
    within = container(1) | {"cgroup_id": 9, "cgroup_kind": "other"}
    within["cgroup_path"] += "/init"
    judge = judge_of("wait>50%")
    busy = windows_of(within, [0], cpu_time_ns=RAN, wait_time_ns=0)
    assert look(judge, WINDOWS, busy, waiting(1, [0], 0.6)) == []
    (met,) = look(judge, WINDOWS, waiting(1, [1], 0.6))
    assert (met.name, met.who.cgroup_kind) == ("shop/pod-1/app", "container")


def test_who_hardly_ran_says_nothing_and_a_second_of_that_ends_a_streak() -> None:
    judge = judge_of("wait>20% for 300ms")
    little = {"cpu_time_ns": MS, "wait_time_ns": MS}
    assert look(judge, WINDOWS, windows_of(container(1), range(20), **little)) == []
    assert look(judge, WINDOWS, waiting(1, [20, 22, 24], 0.5)) == []
    assert look(judge, WINDOWS, windows_of(container(1), [21, 23], cpu_time_ns=MS, wait_time_ns=0)) == []
    # 16 windows without a row are 960 ms.
    (met,) = look(judge, WINDOWS, waiting(1, [41, 42], 0.5))
    assert (met.start_ns, met.end_ns) == (START_NS + 20 * WINDOW_NS, START_NS + 43 * WINDOW_NS)
    judge = judge_of("wait>20% for 300ms")
    assert look(judge, WINDOWS, waiting(1, [20, 22, 24, 42, 43], 0.5)) == []


def test_others_alone() -> None:
    judge = judge_of("wait-others>20%", "wait>60%")
    assert look(judge, WINDOWS, waiting(1, [0], 0.5, wait_behind_others_ns=4 * MS)) == []
    (met,) = look(judge, WINDOWS, waiting(1, [1], 0.5, wait_behind_others_ns=6 * MS))
    assert (met.rule, met.value) == ("wait-others>20%", "25%")


def test_throttled() -> None:
    judge = judge_of("throttled>=25%")
    assert look(judge, WINDOWS, waiting(1, [0], 0.5)) == [], "null is not known"
    (met,) = look(judge, WINDOWS, waiting(1, [1], 0.5, wait_throttled_ns=6 * MS))
    assert met.value == "25%"


def test_waits_off_is_never_met() -> None:
    assert look(judge_of("wait>0%", "wait-others>0%"), WINDOWS, windows_of(container(1), range(9))) == []


def test_misses() -> None:
    judge = judge_of("misses>10M/s", "misses>20mpki")
    counted = {"llc_misses": 500_000, "instructions": 100_000_000}
    assert look(judge, WINDOWS, waiting(1, [0], 0, **counted)) == []
    assert look(judge, WINDOWS, waiting(1, [1], 0)) == []
    found = look(judge, WINDOWS, waiting(1, [2], 0, **counted | {"llc_misses": 3_000_000}))
    assert [(met.rule, met.value) for met in found] == [("misses>10M/s", "50,000,000/s"), ("misses>20mpki", "30mpki")]


def test_cpi_against_its_own_last_hour() -> None:
    judge = judge_of("cpi>1.5x for 120ms", "cpi>3")
    counted = {"cycles": 10_000_000, "instructions": 10_000_000}
    slow = {"cycles": 10_000_000, "instructions": 5_000_000}
    # Nobody knows what is usual before a minute was counted.
    assert look(judge, WINDOWS, waiting(1, range(990), 0, **counted)) == []
    assert look(judge, WINDOWS, waiting(1, range(990, 994), 0, **slow)) == []
    assert look(judge, WINDOWS, waiting(1, range(994, 1100), 0, **counted)) == []
    assert look(judge, WINDOWS, waiting(1, range(1100, 1110), 0)) == [], "null is not known"
    # Another one is always so.
    assert look(judge, WINDOWS, waiting(2, range(1100), 0, **slow)) == []
    (met,) = look(judge, WINDOWS, waiting(1, range(1110, 1112), 0, **slow))
    assert met.rule == "cpi>1.5x for 120ms"
    assert float(met.value.removesuffix("x")) == pytest.approx(2, rel=0.1)
    (met,) = look(judge, WINDOWS, waiting(2, [1112], 0, cycles=10_000_000, instructions=2_500_000))
    assert (met.rule, met.value) == ("cpi>3", "4")


def test_the_hour_before_is_forgotten() -> None:
    judge = judge_of("cpi>1.5x")
    hour = 60_000
    for begin in range(0, 2 * hour + 3000, 500):
        cycles = 10_000_000 if begin < hour else 20_000_000
        found = look(judge, WINDOWS, waiting(1, range(begin, begin + 500), 0, cycles=cycles, instructions=10_000_000))
        assert bool(found) == (begin == hour)
    assert look(judge, WINDOWS, waiting(1, [130_000], 0, cycles=25_000_000, instructions=10_000_000)) == []


def test_several_at_once_are_one_occasion() -> None:
    judge = judge_of("wait>20%")
    (met,) = look(judge, WINDOWS, *(waiting(number, [0], 0.3 + number / 100) for number in range(1, 6)))
    assert (met.name, met.value, met.others) == ("shop/pod-5/app", "35%", 4)


def test_names_that_come_late_decide_from_then_on() -> None:
    judge = judge_of("wait(namespace=shop)>20%")
    unnamed = container(1) | {"pod_name": None, "container_name": None, "namespace": None}
    assert look(judge, WINDOWS, windows_of(unnamed, [0], cpu_time_ns=RAN, wait_time_ns=RAN)) == []
    assert [met.name for met in look(judge, WINDOWS, waiting(1, [1], 0.5))] == ["shop/pod-1/app"]
    renamed = container(1, namespace="other")
    assert look(judge, WINDOWS, windows_of(renamed, [2, 4], cpu_time_ns=[RAN, 0], wait_time_ns=[0, RAN])) == []


def test_windows_that_an_overloaded_tracer_made_longer() -> None:
    judge = judge_of("wait>20% for 1s")
    long = {"ticks": 4 * WINDOW_TICKS, "cpu_time_ns": 4 * RAN, "wait_time_ns": 4 * RAN}
    assert look(judge, WINDOWS, waiting(1, range(4), 0.5)) == []
    assert look(judge, WINDOWS, windows_of(container(1), [4, 8], **long)) == []
    (met,) = look(judge, WINDOWS, windows_of(container(1), [12, 16], **long))
    assert (met.start_ns, met.end_ns) == (START_NS, START_NS + 20 * WINDOW_NS)


def test_short_windows_are_looked_at_together() -> None:
    judge = judge_of("wait>20% for 100ms", window_ticks=1)
    ticks = {"window_tick": np.arange(200), "window_start": START_NS + np.arange(200) * TICK_NS, "ticks": 1}
    rows = windows_of(container(1), range(200), cpu_time_ns=MS // 5, wait_time_ns=MS // 5, **ticks)
    found = [met for at in range(0, 200, 10) for met in look(judge, WINDOWS, rows[at : at + 10])]
    assert [(met.start_ns, met.value) for met in found] == [(START_NS, "50%")]


def test_many_containers_that_come_and_go_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_sums, "MOST_CONTAINERS", 100)
    judge = judge_of("wait>20% for 120ms")
    assert judge._windows is not None
    for generation in range(8):
        at = generation * 700
        ids = range(1000 * generation, 1000 * generation + 90)
        found = look(judge, WINDOWS, *(waiting(number, [at, at + 1], 0.5) for number in ids))
        assert [met.others for met in found] == [89]
    assert len(judge._windows._sums.who) <= 100
    assert judge.left_out == 0
    found = look(judge, WINDOWS, *(waiting(number, [at + 2], 0.5) for number in range(50_000, 50_090)))
    assert found == []
    assert judge.left_out == 80


def test_cgroups_that_come_and_go_within_a_container_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_sums, "MOST_CGROUPS", 50)
    judge = judge_of("wait>20% for 600ms")
    assert judge._windows is not None
    found = []
    for window in range(30):
        within = [container(1) | {"cgroup_id": 1000 + 10 * window + one, "cgroup_kind": "other"} for one in range(10)]
        rows = [windows_of(who, [window], cpu_time_ns=RAN, wait_time_ns=RAN) for who in within]
        found += look(judge, WINDOWS, *rows, windows_of(IDLE, [window]))
    assert [met.name for met in found] == ["shop/pod-1/app"], "it is one container all the time"
    sums = judge._windows._sums
    assert len(sums._known) <= 50
    assert sum(map(len, sums._cgroups_of)) <= 50


def pressure(number: int, second: float, total_usec: int | None, **columns: Any) -> pl.DataFrame:
    time = {"time": START_NS + round(second * 10**9)}
    totals = {"cpu_pressure_some_total_usec": total_usec}
    return frame(RESOURCES, 1, {"node_name": "node-1", **container(number), **time, **totals, **columns})


def test_pressure_is_what_a_total_rose() -> None:
    judge = judge_of("cpu-pressure(pod=pod-1)>20% for 2s", "memory-pressure>0%")
    for second, total in enumerate((5_000_000, 5_100_000, 5_400_000)):
        assert look(judge, RESOURCES, pressure(1, second, total), pressure(2, second, total * 2)) == []
    (met,) = look(judge, RESOURCES, pressure(1, 3, 5_800_000))
    assert (met.rule, met.name, met.value) == ("cpu-pressure(pod=pod-1)>20% for 2s", "shop/pod-1/app", "35%")
    assert (met.start_ns, met.end_ns) == (START_NS + 10**9, START_NS + 3 * 10**9)
    assert look(judge, RESOURCES, pressure(1, 4, 6_800_000)) == []
    # Null, a total that fell, and the clock set back begin anew.
    assert look(judge, RESOURCES, pressure(1, 5, None), pressure(1, 6, 7_800_000), pressure(1, 7, 8_800_000)) == []
    assert look(judge, RESOURCES, pressure(1, 8, 1_000_000), pressure(1, 9, 2_000_000)) == []
    assert look(judge, RESOURCES, pressure(1, 1, 3_000_000)) == []
    assert look(judge, RESOURCES, pressure(1, 2, 4_000_000)) == []
    (met,) = look(judge, RESOURCES, pressure(1, 3, 5_000_000))
    assert met.value == "100%"


def test_a_reading_a_moment_after_another_waits_for_the_next() -> None:
    judge = judge_of("cpu-pressure>20%")
    assert look(judge, RESOURCES, pressure(1, 0, 0)) == []
    assert look(judge, RESOURCES, pressure(1, 0.01, 10_000)) == []
    assert look(judge, RESOURCES, pressure(1, 1, 100_000)) == []


def health(second: int, **columns: Any) -> pl.DataFrame:
    given = {"node_name": "node-1", "time": START_NS + second * 10**9, "online_cpus": 4, **columns}
    return frame(HEALTH, 1, given)


def test_steal_and_loss_are_of_the_node() -> None:
    judge = judge_of("steal>10% for 2s", "lost>0")
    steals = [0, 500 * MS, 500 * MS, 0]
    found = [look(judge, HEALTH, health(second, steal_time_ns=steal)) for second, steal in enumerate(steals)]
    assert [len(one) for one in found] == [0, 0, 1, 0]
    (met,) = found[2]
    assert (met.name, met.value, met.who.node_name) == ("node-1", "12.5%", "node-1")
    assert (met.start_ns, met.end_ns) == (START_NS, START_NS + 2 * 10**9)
    (met,) = look(judge, HEALTH, health(4, lost_ring_full=3, lost_no_ring=4))
    assert (met.rule, met.value) == ("lost>0", "7/s")
    assert look(judge, HEALTH, health(5, lost_malformed=1)) == []
    assert look(judge, HEALTH, health(6)) == []
    # The clock was set back.
    assert len(look(judge, HEALTH, health(2, lost_malformed=1))) == 1


def plain_streaks(said: Sequence[str], longest_gap: int) -> Iterator[tuple[int, int, int]]:
    """Of each place that holds: its number, where its streak began, and how many held in it so far."""
    begin = count = silent = 0
    for place, one in enumerate(said):
        if one == "broken":
            count = 0
        elif one == "holds":
            count = 1 if count == 0 or silent > longest_gap else count + 1
            begin = place if count == 1 else begin
            yield place, begin, count
        silent = silent + 1 if one == "" else 0


@pytest.mark.parametrize("seed", range(20))
def test_streaks_are_those_of_a_plain_loop(seed: int) -> None:
    random = np.random.default_rng(seed)
    said = random.choice(["holds", "broken", ""], (5, 80), p=[0.5, 0.1, 0.4])
    first, length = streaks(said == "holds", said == "broken", 2)
    for row in range(5):
        for place, begin, count in plain_streaks(said[row], 2):
            assert (first[row, place], length[row, place]) == (begin, count)
    assert (length[said != "holds"] == 0).all()


@pytest.mark.parametrize("seed", range(4))
def test_what_is_met_is_what_a_plain_loop_says(seed: int) -> None:
    random = np.random.default_rng(seed)
    judge = judge_of("wait>20% for 240ms")
    gap = 1_000_000_000 // WINDOW_NS
    said: list[str] = []
    while len(said) < 400:
        said += [str(random.choice(["holds", "broken", ""]))] * int(random.choice([1, 2, 3, 5, gap, gap + 1]))
    starts, at = [], 0
    while at < len(said):
        # In a batch of four windows not more than one streak can become long enough.
        begin, at = at, min(at + int(random.integers(1, 5)), len(said))
        there = [window for window in range(begin, at) if said[window]]
        wait_ns = [RAN * (said[window] == "holds") for window in there]
        if there:
            met = look(judge, WINDOWS, windows_of(container(1), there, cpu_time_ns=RAN, wait_time_ns=wait_ns))
            starts += [(one.start_ns - START_NS) // WINDOW_NS for one in met]
    assert starts == [begin for _place, begin, count in plain_streaks(said, gap) if count == 4]
    assert starts
