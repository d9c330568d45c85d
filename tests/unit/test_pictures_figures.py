# SPDX-License-Identifier: Apache-2.0
"""The pictures as files, and what is read for them."""

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure
from planted_findings import report_of
from planted_recording import IDLE, START_NS, container, frame, windows_of, write_recording

from tracer.analysis.pictures import figures
from tracer.analysis.pictures.cast import Cast, choose_cast
from tracer.analysis.pictures.densities import read_densities
from tracer.analysis.pictures.matrix import matrices_of
from tracer.analysis.pictures.scene import read_whole, read_whole_resources
from tracer.analysis.recording import Recording, open_recording
from tracer.analysis.roster import Roster
from tracer.errors import OutputError
from tracer.store.schemas import TABLES

HOSTILE = '</text><script>alert(1)</script>&"$x^2$\u202e\x07漢'
WINDOWS = 2000


def opened(output: Path) -> tuple[Recording, Cast]:
    recording = open_recording([output])
    return recording, choose_cast(recording, Roster(recording), report_of(recording), "node-1")


@pytest.fixture
def counted(tmp_path: Path) -> Path:
    """The first container's CPI is 1, and 3 in the 5 % of windows in which its neighbour misses much."""
    noisy = np.arange(WINDOWS) % 20 == 7
    victim = windows_of(
        container(1, HOSTILE),
        range(WINDOWS),
        llc_misses=2000,
        cycles=np.where(noisy, 3 * 10**7, 10**7),
        instructions=10**7,
        neighbour_llc_misses=np.where(noisy, 10**6, 100),
    )
    other = windows_of(container(2), range(WINDOWS), llc_misses=np.where(noisy, 10**6, 100))
    return write_recording(tmp_path / "counted", windows=[windows_of(IDLE, range(WINDOWS)), victim, other])


@pytest.fixture
def uncounted(tmp_path: Path) -> Path:
    """Without counters; the first container has half the CPU time when its neighbour runs most."""
    noisy = np.arange(WINDOWS) % 20 == 7
    rows = windows_of(
        container(1),
        range(WINDOWS),
        cpu_time_ns=np.where(noisy, 3 * 10**7, 6 * 10**7),
        neighbour_cpu_time_ns=np.where(noisy, 10**7, 10**5),
    )
    seconds = 100
    resources = frame(
        TABLES["resources"],
        seconds,
        {
            "node_name": "node-1",
            **container(1),
            "time": START_NS + np.arange(seconds) * 10**9 + 123_456,
            "memory_current_bytes": np.where(np.arange(seconds) == 50, 10**9, 10**6).astype(np.uint64),
            "memory_pressure_some_total_usec": np.cumsum(np.where(np.arange(seconds) == 70, 900_000, 10_000)).astype(
                np.uint64
            ),
        },
    )
    return write_recording(tmp_path / "uncounted", windows=[rows], resources=[resources])


def test_cpi_with_noisy_neighbours_is_told_from_that_with_quiet_ones(counted: Path) -> None:
    recording, cast = opened(counted)
    number = next(number for number, one in enumerate(cast.containers) if one.cgroup_ids == [1])
    found = read_densities(recording, cast, shown=2)[number]
    assert found.measure == "cpi"
    assert (found.noisy_mean, found.quiet_mean) == pytest.approx((3, 1))
    assert (found.noisy_windows, found.quiet_windows) == (WINDOWS / 20, WINDOWS / 2)
    step = found.values[1] - found.values[0]
    assert found.noisy.sum() * step == pytest.approx(1, abs=0.02)
    assert found.values[np.argmax(found.noisy)] == pytest.approx(3, abs=0.1)
    assert found.values[np.argmax(found.quiet)] == pytest.approx(1, abs=0.1)


def test_without_counters_its_cpu_time_is_looked_at(uncounted: Path) -> None:
    found = read_densities(*opened(uncounted), shown=5)[0]
    assert found.measure == "cpus"
    assert (found.noisy_mean, found.quiet_mean) == pytest.approx((0.5, 1))


def test_too_few_windows_have_no_density(tmp_path: Path) -> None:
    rows = windows_of(container(1), range(100), cycles=10**7, instructions=10**7, neighbour_llc_misses=5)
    assert read_densities(*opened(write_recording(tmp_path, windows=[rows])), shown=5) == {}


@pytest.mark.parametrize("buckets", [1, 9, 1000])
def test_memory_and_waiting_keep_their_extremes(uncounted: Path, buckets: int) -> None:
    recording, cast = opened(uncounted)
    found = read_whole_resources(recording, cast, buckets=buckets)
    assert found is not None
    assert np.nanmax(found.memory.largest[0]) == 10**9
    assert np.nanmin(found.memory.least[0]) == 10**6
    assert np.nanmax(found.shares["for memory"].largest) == pytest.approx(0.9)
    assert np.nanmin(found.shares["for memory"].least) == pytest.approx(0.01)
    assert np.isnan(found.shares["throttled"].largest).all()


def test_without_the_table_there_is_no_picture_of_it(counted: Path) -> None:
    assert read_whole_resources(*opened(counted), buckets=10) is None


def drawings(counted: Path, uncounted: Path) -> dict[str, Callable[[], Figure]]:
    recording, cast = opened(counted)
    courses = read_whole(recording, cast, buckets=100)
    densities = read_densities(recording, cast, shown=1)[0]
    bare_recording, bare = opened(uncounted)
    bare_courses = read_whole(bare_recording, bare, buckets=100)
    resources = read_whole_resources(bare_recording, bare, buckets=100)
    assert resources is not None
    labels = [one.name for one in cast.containers]
    found = matrices_of(report_of(recording, [(labels[0], labels[1], 0.18)]), "node-1")
    nothing = matrices_of(report_of(recording), "node-1")
    title, note = HOSTILE, HOSTILE
    return {
        "timeline": lambda: figures.timeline(courses, None, cast.names, title, note),
        "timeline-uncounted": lambda: figures.timeline(bare_courses, None, bare.names, title, note),
        "heatmap": lambda: figures.heat_map(courses, cast.names, title, note),
        "heatmap-uncounted": lambda: figures.heat_map(bare_courses, bare.names, title, note),
        "density": lambda: figures.densities(densities, cast.names[0], title, note),
        "matrix": lambda: figures.matrices(found, title, [note]),
        "matrix-nothing": lambda: figures.matrices(nothing, title, [note]),
        "resources": lambda: figures.resources(resources, bare.names, title, note),
    }


def test_in_each_picture_names_are_text(counted: Path, uncounted: Path, tmp_path: Path) -> None:
    for name, draw in drawings(counted, uncounted).items():
        svg = tmp_path / f"{name}.svg"
        figures.save(draw, svg)
        root = ElementTree.parse(svg).getroot()
        assert not [element for element in root.iter() if element.tag.endswith("script")]
        assert any("<script>alert(1)</script>" in (element.text or "") for element in root.iter())


@pytest.mark.parametrize("name", ["timeline", "resources"])
def test_a_png_has_something_on_it(counted: Path, uncounted: Path, tmp_path: Path, name: str) -> None:
    figures.save(drawings(counted, uncounted)[name], tmp_path / "picture.png")
    pixels = matplotlib.image.imread(tmp_path / "picture.png")
    assert pixels.shape[1] == 1650
    assert pixels[..., :3].std() > 0.01


def test_the_same_data_make_the_same_file(counted: Path, tmp_path: Path) -> None:
    recording, cast = opened(counted)
    courses = read_whole(recording, cast, buckets=50)
    for name in ("one.svg", "two.svg"):
        figures.save(lambda: figures.timeline(courses, None, cast.names, "title", None), tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_where_nothing_can_be_written_it_says_so(counted: Path, tmp_path: Path) -> None:
    recording, cast = opened(counted)
    courses = read_whole(recording, cast, buckets=50)
    with pytest.raises(OutputError, match="cannot write"):
        figures.save(lambda: figures.timeline(courses, None, cast.names, "title", None), tmp_path / "no" / "where.png")


def test_long_names_leave_room_for_what_was_found(tmp_path: Path) -> None:
    people = [container(number, "c" * 60, f"{'p' * 200}-{number}") for number in (1, 2)]
    recording = open_recording(
        [write_recording(tmp_path / "long", windows=[windows_of(who, range(10), llc_misses=100) for who in people])]
    )
    roster = Roster(recording)
    victim, aggressor = (roster.container(member).name for member in range(2))
    found = matrices_of(report_of(recording, [(victim, aggressor, 0.2)]), "node-1")
    title = f"Who took from whom · {'a-long-name-of-a-node-' * 6} · 2026-11-22 14:00:00 to 14:00:59 UTC"
    figure = figures.matrices(found, title, [])
    figure.canvas.draw()
    (axes,) = figure.axes
    (text,) = axes.texts
    assert axes.get_window_extent().height > text.get_window_extent().height
    heading = figure.get_suptitle()
    assert "UTC" in heading
    assert figure._suptitle.get_window_extent().x1 <= figure.bbox.x1  # type: ignore[attr-defined]
