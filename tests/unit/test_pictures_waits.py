# SPDX-License-Identifier: Apache-2.0
"""The pictures of waiting, of recordings in which it is known."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from planted_recording import IDLE, START_NS, WINDOW_NS, container, frame, windows_of, write_recording
from planted_waits import IDLE_CPU, MS, REST, SELF, UNKNOWN, Load, tables_of

from tracer.analysis.findings import Report
from tracer.analysis.pictures import figures
from tracer.analysis.pictures.cast import Cast, choose_cast
from tracer.analysis.pictures.matrix import matrices_of
from tracer.analysis.pictures.scene import read_whole_spent
from tracer.analysis.pictures.time_spent import HOLDERS, LAYERS
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
        "stolen by the hypervisor and interrupts": 1,
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
        lambda: figures.matrices(matrices_of(found, "node-1"), HOSTILE, None),
    ):
        figures.save(draw, tmp_path / "picture.svg")
        root = ElementTree.parse(tmp_path / "picture.svg").getroot()
        assert not [element for element in root.iter() if element.tag.endswith("script")]
        assert any("<script>alert(1)</script>" in (element.text or "") for element in root.iter())


def test_without_waits_there_is_no_picture(tmp_path: Path) -> None:
    recording = open_recording([write_recording(tmp_path, windows=[windows_of(WEB, WINDOWS)])])
    assert read_whole_spent(recording, choose_cast(recording, Roster(recording), None, "node-1"), buckets=10) is None
