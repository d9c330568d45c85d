# SPDX-License-Identifier: Apache-2.0
"""What is drawn of hours of windows: means that add up, and no peak lost."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_findings import report_of
from planted_recording import IDLE, START_NS, WINDOW_NS, container, frame, windows_of, write_recording

from tracer.analysis.pictures import courses as courses_module
from tracer.analysis.pictures.axis import TimeAxis
from tracer.analysis.pictures.cast import choose_cast
from tracer.analysis.pictures.courses import Courses, read_courses
from tracer.analysis.pictures.scene import read_whole
from tracer.analysis.recording import open_recording
from tracer.analysis.roster import Roster
from tracer.store.schemas import TABLES

SECONDS = WINDOW_NS / 1e9
LINE_BYTES = 64


def courses_of(output: Path, frames: Sequence[pl.DataFrame], *, buckets: int = 1000) -> Courses:
    """Of the whole recording; containers by what they missed, the most first."""
    recording = open_recording([write_recording(output, windows=frames)])
    cast = choose_cast(recording, Roster(recording), report_of(recording), "node-1")
    return read_whole(recording, cast, buckets=buckets)


@settings(max_examples=20)
@given(
    peak_at=st.integers(0, 999),
    buckets=st.integers(1, 1000),
    usual=st.integers(0, 1000),
)
def test_a_peak_of_one_window_is_there_however_few_buckets(peak_at: int, buckets: int, usual: int) -> None:
    misses = np.full(1000, usual)
    misses[peak_at] = 50_000
    cycles = np.full(1000, 10**7)
    cycles[peak_at] = 9 * 10**7
    with TemporaryDirectory() as output:
        rows = windows_of(container(1), range(1000), llc_misses=misses, cycles=cycles, instructions=10**7)
        courses = courses_of(Path(output), [rows], buckets=buckets)
    bucket = peak_at // courses.axis.steps_each
    assert np.argmax(courses.traffic.peak[0]) == np.argmax(courses.traffic.total_peak) == bucket
    assert courses.traffic.peak[0, bucket] == pytest.approx(50_000 * LINE_BYTES / SECONDS)
    assert courses.traffic.total_peak[bucket] == pytest.approx(50_000 * LINE_BYTES / SECONDS)
    assert np.nanargmax(courses.cpi_max[0]) == bucket
    assert courses.cpi_max[0, bucket] == pytest.approx(9)
    assert np.nanmin(courses.cpi_min[0]) == pytest.approx(1)


@pytest.mark.parametrize("buckets", [1, 7, 100, 1000])
def test_means_add_up_to_all_that_was_measured(tmp_path: Path, buckets: int) -> None:
    random = np.random.default_rng(5)
    misses = random.integers(0, 10**6, (3, 1000))
    frames = [windows_of(container(1 + row), range(1000), llc_misses=misses[row]) for row in range(3)]
    courses = courses_of(tmp_path, frames, buckets=buckets)
    assert courses.axis.buckets <= buckets
    recorded = np.diff(np.append(np.arange(0, 1000, courses.axis.steps_each), 1000)) * SECONDS
    assert (courses.traffic.mean * recorded).sum() == pytest.approx(misses.sum() * LINE_BYTES)
    assert (courses.cpus.mean * recorded).sum() == pytest.approx(3 * 1000 * SECONDS / 10)
    assert courses.cpi.shape == (4, courses.axis.buckets)
    assert not courses.has_cpi


def test_nothing_recorded_is_no_value_and_nothing_done_is_zero(tmp_path: Path) -> None:
    courses = courses_of(
        tmp_path,
        [
            windows_of(IDLE, [*range(10), *range(20, 30)]),
            windows_of(container(1), range(5), llc_misses=10),
            windows_of(container(2), [*range(10), *range(20, 30)], llc_misses=5),
        ],
    )
    assert np.isnan(courses.traffic.mean[:, 10:20]).all()
    assert np.isnan(courses.cpus.total_peak[10:20]).all()
    busy = courses.traffic.mean[1]
    assert (busy[:5] > 0).all()
    assert (busy[5:10] == 0).all()
    assert (courses.traffic.peak[1, 20:] == 0).all()


def test_what_was_not_counted_is_no_value_and_the_rest_is(tmp_path: Path) -> None:
    courses = courses_of(tmp_path, [windows_of(container(1), range(10))])
    assert not courses.counted
    assert not courses.has_cpi
    assert np.isnan(courses.traffic.mean).all()
    assert courses.cpus.mean[0] == pytest.approx(0.1)


def test_a_part_without_counters_does_not_thin_the_rest(tmp_path: Path) -> None:
    frames = [windows_of(container(1), range(10), llc_misses=100), windows_of(container(1), range(10, 20))]
    courses = courses_of(tmp_path, frames, buckets=1)
    assert courses.traffic.mean[0, 0] == pytest.approx(100 * LINE_BYTES / SECONDS)


def test_late_rows_and_restarts_of_a_container_add_up(tmp_path: Path) -> None:
    restarted = container(1) | {"cgroup_id": 2, "container_id": "f" * 64}
    courses = courses_of(
        tmp_path,
        [
            windows_of(container(1), range(10), llc_misses=100),
            windows_of(container(1), [3], llc_misses=50),
            windows_of(restarted, [3], llc_misses=7),
        ],
    )
    assert courses.shown == 1
    assert courses.traffic.peak[0, 3] == pytest.approx(157 * LINE_BYTES / SECONDS)
    assert courses.traffic.mean[0, 3] == pytest.approx(157 * LINE_BYTES / SECONDS)


def test_who_is_not_shown_is_among_the_others(tmp_path: Path) -> None:
    frames = [windows_of(container(1 + row), range(4), llc_misses=100 - row) for row in range(20)]
    courses = courses_of(tmp_path, frames)
    assert courses.shown == 15
    assert courses.traffic.mean[15] == pytest.approx(sum(100 - row for row in range(15, 20)) * LINE_BYTES / SECONDS)
    assert courses.traffic.total_peak == pytest.approx(sum(100 - row for row in range(20)) * LINE_BYTES / SECONDS)


def test_cycles_per_instruction_of_a_window_in_which_it_hardly_ran_are_no_peak(tmp_path: Path) -> None:
    cycles = np.full(10, 10**7)
    cpu_time = np.full(10, WINDOW_NS // 2)
    cycles[4], cpu_time[4] = 10**9, 1000
    rows = windows_of(container(1), range(10), cycles=cycles, instructions=10**7, cpu_time_ns=cpu_time)
    courses = courses_of(tmp_path, [rows])
    assert np.isnan(courses.cpi_max[0, 4])
    assert np.nanmax(courses.cpi_max) == pytest.approx(1)


def test_one_stretch_at_a_time_or_all_at_once_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    misses = np.arange(1000) % 13
    frames = [windows_of(container(1), range(1000), llc_misses=misses), windows_of(container(2), range(300, 900))]
    recording = open_recording([write_recording(tmp_path, windows=frames)])
    cast = choose_cast(recording, Roster(recording), report_of(recording), "node-1")
    at_once = read_whole(recording, cast, buckets=90)
    monkeypatch.setattr(courses_module, "_GROUPS_AT_A_TIME", 100)
    in_parts = read_whole(recording, cast, buckets=90)
    np.testing.assert_array_equal(in_parts.traffic.mean, at_once.traffic.mean)
    np.testing.assert_array_equal(in_parts.traffic.peak, at_once.traffic.peak)
    np.testing.assert_array_equal(in_parts.cpus.total_peak, at_once.cpus.total_peak)


def test_ticks_are_windows_of_one_tick_over_all_cpus(tmp_path: Path) -> None:
    ticks = np.repeat(np.arange(50), 2)
    misses = np.full(100, 3)
    misses[60:62] = 500
    rows = frame(
        TABLES["ticks"],
        100,
        {
            "node_name": "node-1",
            **container(1),
            "tick_start": START_NS + ticks * 10**6,
            "tick": ticks.astype(np.uint64),
            "cpu": np.tile([0, 1], 50).astype(np.uint16),
            "cpu_time_ns": 400_000,
            "llc_misses": misses.astype(np.uint64),
        },
    )
    recording = open_recording([write_recording(tmp_path, windows=[windows_of(container(1), [0])], ticks=[rows])])
    cast = choose_cast(recording, Roster(recording), report_of(recording), "node-1")
    axis = TimeAxis.over(START_NS, START_NS + 50 * 10**6, step_ns=10**6, at_most=50)
    courses = read_courses(recording, cast, axis, shown=5, table="ticks")
    assert courses.cpus.mean[0] == pytest.approx(0.8)
    assert np.argmax(courses.traffic.mean[0]) == 30
    assert courses.traffic.mean[0, 30] == pytest.approx(1000 * LINE_BYTES / 1e-3)
    # Nobody ran before and after, which leaves no row.
    longer = TimeAxis.over(START_NS - 10 * 10**6, START_NS + 60 * 10**6, step_ns=10**6, at_most=70)
    courses = read_courses(recording, cast, longer, shown=5, table="ticks")
    assert courses.traffic.mean[0].tolist()[:10] == courses.cpus.mean[0].tolist()[60:] == [0] * 10
    assert courses.cpus.mean[0, 10:60] == pytest.approx(0.8)


@given(st.integers(0, 10**12), st.integers(1, 10**9), st.integers(1, 5000))
def test_an_axis_covers_its_time_in_at_most_so_many_buckets(length: int, step: int, at_most: int) -> None:
    axis = TimeAxis.over(START_NS, START_NS + length, step_ns=step, at_most=at_most)
    assert 1 <= axis.buckets <= at_most
    assert axis.end_ns >= START_NS + length
    assert axis.end_ns - axis.bucket_ns < START_NS + max(length, 1)
    assert axis.bucket_ns % step == 0
    assert len(axis.edges()) == axis.buckets + 1
