# SPDX-License-Identifier: Apache-2.0
"""The pictures of waiting, of recordings in which it is known."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from planted_findings import report_of
from planted_recording import IDLE, START_NS, WINDOW_NS, container, frame, windows_of, write_recording
from planted_waits import IDLE_CPU, MS, REST, SELF, UNKNOWN, Load, tables_of

from tracer.analysis.findings import Report
from tracer.analysis.pictures import figures
from tracer.analysis.pictures.axis import TimeAxis
from tracer.analysis.pictures.cast import Cast, choose_cast
from tracer.analysis.pictures.matrix import matrices_of, unseen
from tracer.analysis.pictures.scene import read_whole, read_whole_spent
from tracer.analysis.pictures.time_spent import HOLDERS, LAYERS, read_spent
from tracer.analysis.recording import Recording, open_recording
from tracer.analysis.report import report
from tracer.analysis.roster import Roster
from tracer.store.schemas import TABLES

HOSTILE = '</text><script>alert(1)</script>&"$x^2$\u202e\x07漢'
WEB, ETL, AGAIN = container(1, "app", "web-1"), container(2, HOSTILE, "etl"), container(3, "app", "web-1")
WINDOWS = range(1000)
LOADS = [
    Load(WEB, WINDOWS, 10 * MS, {2: 6 * MS, 3: 1 * MS, SELF: 2 * MS, REST: 3 * MS, IDLE_CPU: 4 * MS}, stolen=1 * MS),
    Load(AGAIN, WINDOWS, 2 * MS, {UNKNOWN: 5 * MS}),
    Load(ETL, WINDOWS[:500], 60 * MS, {1: 12 * MS}),
]


def opened(output: Path, *loads: Load) -> tuple[Recording, Report, Cast]:
    tables = tables_of(loads)
    tables["windows"].append(windows_of(IDLE, WINDOWS, wait_time_ns=0))
    recording = open_recording([write_recording(output, **tables)])
    found = report(recording)
    return recording, found, choose_cast(recording, Roster(recording), found, "node-1")


@pytest.mark.parametrize("buckets", [1, 7, 1000])
def test_the_layers_are_what_was_planted_and_add_up(tmp_path: Path, buckets: int) -> None:
    recording, _found, cast = opened(tmp_path, *LOADS)
    assert [one.name for one in cast.containers][:1] == ["shop/web-1/app"]
    spent = read_whole_spent(recording, cast, buckets=buckets)
    assert spent is not None
    per_window = spent.values[0].mean(axis=1) * 60 if buckets != 7 else spent.values[0][:, 2] * 60
    layers = dict(zip(LAYERS, per_window.round(3).tolist(), strict=True))
    assert {name: value for name, value in layers.items() if value} == {
        "ran": 11,
        "steal, by the hypervisor and interrupts": 1,
        # Behind the other cgroup of the same container, too.
        "waited behind its own threads": 3,
        "waited behind 1": 6,
        "waited behind others": 3,
        "waited while its CPU was idle": 4,
        "waited, nobody knows behind whom": 5,
    }
    assert spent.values[1, HOLDERS - 3].sum() > 0


def test_where_nothing_was_recorded_there_is_nothing(tmp_path: Path) -> None:
    tables = tables_of([Load(WEB, [*range(100), *range(200, 300)], 30 * MS, {SELF: MS})])
    recording = open_recording([write_recording(tmp_path, **tables)])
    cast = choose_cast(recording, Roster(recording), None, "node-1")
    spent = read_whole_spent(recording, cast, buckets=1000)
    assert spent is not None
    assert np.isnan(spent.values[0, 0, 100:200]).all()
    assert spent.values[0, 0, :100] == pytest.approx(0.5)


def test_throttling_by_the_second_is_in_the_picture_as_in_the_report(tmp_path: Path) -> None:
    tables = tables_of([Load(WEB, WINDOWS, 10 * MS, {IDLE_CPU: 20 * MS})], tells_throttled=False)
    time = START_NS + np.arange(61) * 10**9
    throttled = {"time": time, "cpu_nr_throttled": np.minimum(np.arange(61), 30)}
    tables["resources"] = [frame(TABLES["resources"], 61, {"node_name": "node-1", **WEB, **throttled})]
    recording = open_recording([write_recording(tmp_path, **tables)])
    cast = choose_cast(recording, Roster(recording), None, "node-1")
    spent = read_whole_spent(recording, cast, buckets=1000)
    assert spent is not None
    layers = dict(zip(LAYERS, spent.values[0].sum(axis=1) * WINDOW_NS, strict=True))
    (one,) = report(recording).time_spent
    assert layers["throttled by its own limit"] == pytest.approx(one.throttled_ns, rel=1e-4)
    assert layers["waited while its CPU was idle"] == pytest.approx(one.idle_ns, rel=1e-4)
    assert one.throttled_ns > 0


def test_the_matrix_has_victims_holders_and_own_threads(tmp_path: Path) -> None:
    _recording, found, _cast = opened(tmp_path, *LOADS)
    (matrix,) = matrices_of(found, "node-1")
    names = [one.name for one in matrix.rows]
    etl = next(name for name in names if name.startswith("shop/etl/"))
    cells = {
        (row.name, column.name): (cell.text, cell.more)
        for row, row_cells in zip(matrix.rows, matrix.cells, strict=True)
        for column, cell in zip(matrix.victims, row_cells, strict=True)
        if cell is not None
    }
    assert cells["shop/web-1/app", "shop/web-1/app"] == ("5.0 %", "own threads")
    assert cells[etl, "shop/web-1/app"] == ("10 %", "held back")
    assert cells["shop/web-1/app", etl] == ("20 %", "fair share")


def test_names_are_text_in_both(tmp_path: Path) -> None:
    recording, found, cast = opened(tmp_path / "recording", *LOADS)
    spent = read_whole_spent(recording, cast, buckets=100)
    assert spent is not None
    for draw in (
        lambda: figures.time_spent(spent, cast.names, HOSTILE, None),
        lambda: figures.matrices(matrices_of(found, "node-1"), HOSTILE, []),
    ):
        figures.save(draw, tmp_path / "picture.svg")
        root = ElementTree.parse(tmp_path / "picture.svg").getroot()
        assert not [element for element in root.iter() if element.tag.endswith("script")]
        assert any("<script>alert(1)</script>" in (element.text or "") for element in root.iter())


def test_without_waits_there_is_no_picture(tmp_path: Path) -> None:
    recording = open_recording([write_recording(tmp_path, windows=[windows_of(WEB, WINDOWS)])])
    assert read_whole_spent(recording, choose_cast(recording, Roster(recording), None, "node-1"), buckets=10) is None


def test_a_closer_look_has_the_layers_of_its_time(tmp_path: Path) -> None:
    """Throttling by the second too, which is counted from the recording's start on."""
    tables = tables_of([Load(WEB, WINDOWS, 10 * MS, {IDLE_CPU: 20 * MS})], tells_throttled=False)
    time = START_NS + np.arange(61) * 10**9
    throttled = {"time": time, "cpu_nr_throttled": np.minimum(np.arange(61), 30)}
    tables["resources"] = [frame(TABLES["resources"], 61, {"node_name": "node-1", **WEB, **throttled})]
    recording = open_recording([write_recording(tmp_path, **tables)])
    cast = choose_cast(recording, Roster(recording), None, "node-1")
    whole = read_whole_spent(recording, cast, buckets=1000)
    closer = read_spent(recording, cast, TimeAxis(START_NS + 450 * WINDOW_NS, WINDOW_NS, 1, 100), shown=1)
    assert whole is not None
    assert closer is not None
    np.testing.assert_array_equal(closer.values, whole.values[:, :, 450:550])
    assert len(np.unique(closer.values[0, LAYERS.index("throttled by its own limit")])) > 1


@pytest.mark.parametrize("buckets", [1, 7, 1000])
def test_the_longest_waiting_of_a_window_is_there_however_few_buckets(tmp_path: Path, buckets: int) -> None:
    recording, _found, cast = opened(tmp_path, *LOADS)
    courses = read_whole(recording, cast, buckets=buckets)
    number = next(number for number, one in enumerate(cast.containers) if one.name.startswith("shop/etl/"))
    assert courses.has_waits
    assert courses.waiting.peak[number].max() == pytest.approx(12 / 60)
    recorded = np.diff(np.append(np.arange(0, 1000, courses.axis.steps_each), 1000)) * WINDOW_NS
    assert (courses.waiting.mean[number] * recorded).sum() == pytest.approx(500 * 12 * MS, rel=1e-5)
    assert np.nanmax(courses.waiting.total_peak) == pytest.approx((16 + 5 + 12) / 60)


def test_without_waits_waiting_is_not_known(tmp_path: Path) -> None:
    recording = open_recording([write_recording(tmp_path, windows=[windows_of(WEB, WINDOWS)])])
    courses = read_whole(recording, choose_cast(recording, Roster(recording), None, "node-1"), buckets=10)
    assert not courses.has_waits
    assert np.isnan(courses.waiting.mean).all()


ROOT = {"cgroup_id": 99, "cgroup_kind": "other", "cgroup_path": "/"}


def test_the_kernels_threads_hold_a_cpu_but_are_no_victim_unless_asked_for(tmp_path: Path) -> None:
    loads = [Load(WEB, WINDOWS, 10 * MS, {99: 10 * MS}), Load(ROOT, WINDOWS, 10 * MS, {1: 30 * MS, SELF: 20 * MS})]
    _recording, found, _cast = opened(tmp_path, *loads)
    (matrix,) = matrices_of(found, "node-1")
    assert ([one.name for one in matrix.rows], [one.name for one in matrix.victims]) == (["/"], ["shop/web-1/app"])
    (matrix,) = matrices_of(found, "node-1", about_root=True)
    assert {one.name for one in matrix.victims} == {"shop/web-1/app", "/"}


def test_nothing_found_is_told_from_nothing_known(tmp_path: Path) -> None:
    _recording, found, _cast = opened(tmp_path / "calm", Load(WEB, WINDOWS, 10 * MS, {IDLE_CPU: MS // 10}))
    waiting, caches = unseen(found, "node-1", "no PMU")
    assert waiting == "Waiting for a CPU: nobody waited 1 % of the time or more; the most was 0.2 %."
    assert caches.startswith("Caches and memory: could not be told, as cycles, instructions or LLC misses were not")
    assert caches.endswith("counted: no PMU.")

    _recording, found, _cast = opened(tmp_path / "alone", Load(ROOT, WINDOWS, 10 * MS, {SELF: 30 * MS}))
    assert unseen(found, "node-1", None)[0].endswith("everything is in one cgroup, whose parts are not told apart.")

    counted = windows_of(WEB, WINDOWS, llc_misses=100, cycles=10**7, instructions=10**7)
    recording = open_recording([write_recording(tmp_path / "counted", windows=[counted])])
    for given, said in (
        ({"detectable_share": 0.07}, "no loss was found in 12 pairs looked at; a loss of 7.0 % of its cycles or more"),
        ({}, "no loss was found in 12 pairs looked at."),
        ({"pairs_tested": 0}, "could not be told, as nobody ran long enough to be compared with others."),
    ):
        waiting, caches = unseen(report_of(recording, **given), "node-1", None)
        assert waiting.startswith("Waiting for a CPU: could not be told, as waits were not recorded")
        assert caches.startswith(f"Caches and memory: {said}")
    assert len(unseen(report_of(recording, [("shop/web-1/app", "shop/web-1/app", 0.1)]), "node-1", None)) == 1
