# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of `bench/hardware.py`, on counts whose truth is known: what it measures, only hardware can say."""

import sys
from itertools import groupby
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tracer.analysis.labels import container_label
from tracer.analysis.recording import open_recording
from tracer.kernel.cpus import online_cpus

sys.path.append(str(Path(__file__).parents[2] / "bench"))

from _hardware_plan import (
    AGGRESSOR,
    DECOY,
    VICTIM,
    Floats,
    Stretch,
    after_bursts,
    loss,
    recorded,
    schedule,
    spread,
    stretches,
)
from _hardware_recording import write_recording
from _hardware_run import _CELL, _HEADER, Counts, read_counts

GAP_MS = (30, 300)


@pytest.fixture
def parts() -> list[Stretch]:
    return stretches(np.random.default_rng(1), 90_000)


def test_all_stretches_of_a_cycle_have_the_same_bursts_but_for_who_is_away(parts: list[Stretch]) -> None:
    bits = schedule(np.random.default_rng(2), parts, GAP_MS, has_pauses=True)
    orders = set()
    for _cycle, group in groupby(parts, key=lambda part: part.cycle):
        of_cycle = list(group)
        orders.add(tuple(part.present for part in of_cycle))
        assert sorted(part.present for part in of_cycle) == [(1,), (1, 2), (1, 2), (2,)]
        everything = next(bits[part.span] for part in of_cycle if part.is_recorded)
        for part in of_cycle:
            present = sum(1 << who for who in (VICTIM, *part.present))
            np.testing.assert_array_equal(bits[part.span], everything & present)
    assert len(orders) > 1
    for who in (AGGRESSOR, DECOY):
        lengths = [len(list(run)) for is_on, run in groupby(bits & 1 << who) if is_on]
        assert max(lengths) <= 50
        assert len(lengths) > 100


def test_nobody_but_the_victim_works_before_a_stretch(parts: list[Stretch]) -> None:
    bits = schedule(np.random.default_rng(2), parts, GAP_MS, has_pauses=False)
    for part, before in zip(parts, [0, *(part.end for part in parts)], strict=False):
        assert part.first - before >= 150
        assert (bits[before : part.first] == 1 << VICTIM).all()


def course(parts: list[Stretch], per_work: dict[tuple[int, ...], float], drift: float = 0.0) -> tuple[Floats, Floats]:
    """Work and time by ms of one that is busy all the time, and takes so long for the same in each kind of stretch."""
    time = np.full(parts[-1].end, 1e6)
    work = np.full(parts[-1].end, 1e4)
    for part in parts:
        work[part.span] = 1e6 / (per_work[part.present] * (1 + drift * part.cycle))
    return work, time


def test_the_loss_is_what_the_same_work_takes_less_without(parts: list[Stretch]) -> None:
    both, decoy, aggressor = (AGGRESSOR, DECOY), (DECOY,), (AGGRESSOR,)
    work, time = course(parts, {both: 50.0, decoy: 40.0, aggressor: 49.0})
    assert loss(parts, work, time, AGGRESSOR) == pytest.approx((0.2, 0.2, 0.2))
    assert loss(parts, work, time, DECOY) == pytest.approx((0.02, 0.02, 0.02))
    assert spread(parts, work, time) == pytest.approx(0.0, abs=1e-12)


def test_what_changes_in_the_course_of_the_run_is_nobodys_doing(parts: list[Stretch]) -> None:
    both, decoy, aggressor = (AGGRESSOR, DECOY), (DECOY,), (AGGRESSOR,)
    work, time = course(parts, {both: 40.0, decoy: 40.0, aggressor: 40.0}, drift=0.2)
    assert loss(parts, work, time, AGGRESSOR) == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)
    assert spread(parts, work, time) > 0.2


def test_the_interval_tells_how_much_cycles_differ(parts: list[Stretch]) -> None:
    work, time = course(parts, {(AGGRESSOR, DECOY): 50.0, (DECOY,): 40.0, (AGGRESSOR,): 50.0})
    for part in parts:
        if part.is_recorded and part.cycle % 2:
            work[part.span] *= 1.25
    found = loss(parts, work, time, AGGRESSOR)
    assert 0.0 < found.low < found.share < found.high < 0.2


def test_harm_after_bursts_is_told_from_harm_in_them(parts: list[Stretch]) -> None:
    work, time = course(parts, {(AGGRESSOR, DECOY): 40.0, (DECOY,): 40.0, (AGGRESSOR,): 40.0})
    is_burst = np.zeros(len(work), np.bool_)
    for part in parts:
        if part.is_recorded:
            is_burst[part.first : part.first + 10] = True
            # Half as much work for the same time: half of the time is lost, in 10 ms of the burst and 30 ms after.
            work[part.first : part.first + 40] /= 2
    assert after_bursts(parts, work, time, is_burst) == pytest.approx(0.75)


def counted(ticks: int) -> Counts:
    cells = np.zeros((3, ticks), _CELL)
    cells["accesses"] = 6_400
    cells["cpu_time_ns"] = 1_000_000
    cells["timed"][VICTIM] = 200
    cells["slow"][VICTIM] = 50
    cells["steps"][DECOY] = 1_000
    cells["counters"] = [3_000_000, 20_000, 10]
    header = np.array([(1_000_000, ticks, 130, 420, 233)], _HEADER)
    return read_counts(header.tobytes() + cells.tobytes(), is_measured=False)


def test_misses_are_the_share_of_timed_loads_that_were_slow_and_all_lines_of_who_times_none() -> None:
    counts = counted(5)
    assert counts.misses.tolist() == [[1_600.0] * 5, [6_400.0] * 5, [6_400.0] * 5]
    assert (counts.cycles == 2_500_000).all()
    assert counts.instructions[:, 0].tolist() == [25_600, 25_600, 29_600]
    assert counts.is_burst.all()


def test_counters_are_taken_where_there_are_some() -> None:
    header = np.array([(1, 1, 0, 0, 0)], _HEADER)
    cells = np.zeros((3, 1), _CELL)
    cells["counters"] = [3, 2, 1]
    counts = read_counts(header.tobytes() + cells.tobytes(), is_measured=True)
    assert [values[VICTIM, 0] for values in (counts.cycles, counts.instructions, counts.misses)] == [3, 2, 1]


def test_the_recording_has_what_was_counted_in_recorded_stretches_and_nothing_else(tmp_path: Path) -> None:
    parts = stretches(np.random.default_rng(1), 1)
    counts, is_recorded = counted(parts[-1].end), recorded(parts)
    cpus = online_cpus()
    write_recording(tmp_path, counts, is_recorded, (cpus[-1], cpus[0]), write_ticks=True)
    recording = open_recording([tmp_path])
    for table in ("ticks", "windows"):
        sums = recording.collect(
            recording.scan(table)
            .group_by(container_label().alias("name"))
            .agg(pl.sum("cpu_time_ns", "instructions", "llc_misses"))
            .sort("name")
        )
        ms = int(is_recorded.sum())
        assert sums.rows() == [
            ("default/aggressor/load", ms * 1_000_000, ms * 25_600, ms * 6_400),
            ("default/decoy/load", ms * 1_000_000, ms * 29_600, ms * 6_400),
            ("default/victim/load", ms * 1_000_000, ms * 25_600, ms * 1_600),
        ]
    ticks = recording.collect(recording.scan("ticks").select(pl.col("tick").unique().sort())).to_series()
    np.testing.assert_array_equal(ticks.to_numpy() - counts.first_tick, np.flatnonzero(is_recorded))
