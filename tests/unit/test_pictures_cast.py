# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_findings import report_of
from planted_recording import IDLE, container, windows_of, write_recording
from rich.cells import cell_len

from tracer.analysis.findings import Container
from tracer.analysis.pictures.cast import Cast, choose_cast, shown_names
from tracer.analysis.pictures.colours import DARK, DARK_OTHER, LIGHT, LIGHT_OTHER
from tracer.analysis.recording import open_recording
from tracer.analysis.roster import Roster


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Of four containers and idle time; each misses more than the one before it."""
    frames = [windows_of(container(1 + row), range(10), llc_misses=100 * (row + 1)) for row in range(4)]
    return write_recording(tmp_path, windows=[windows_of(IDLE, range(10)), *frames])


def cast_of(output: Path, *losses: tuple[str, str, float], container: str | None = None) -> Cast:
    recording = open_recording([output], container=container)
    return choose_cast(recording, Roster(recording), report_of(recording, losses), "node-1")


def test_those_who_miss_most_come_first(output: Path) -> None:
    assert cast_of(output).names == ["shop/pod-4/app", "shop/pod-3/app", "shop/pod-2/app", "shop/pod-1/app"]


def test_a_victim_and_its_aggressors_come_before_all_others(output: Path) -> None:
    losses = [("shop/pod-1/app", "shop/pod-2/app", 0.2), ("shop/pod-1/app", "shop/pod-3/app", 0.1)]
    assert cast_of(output, *losses).names == ["shop/pod-1/app", "shop/pod-2/app", "shop/pod-3/app", "shop/pod-4/app"]


def test_who_was_asked_for_comes_first(output: Path) -> None:
    names = cast_of(output, ("shop/pod-1/app", "shop/pod-2/app", 0.2), container="shop/pod-3/app").names
    assert names == ["shop/pod-3/app", "shop/pod-1/app", "shop/pod-2/app", "shop/pod-4/app"]


def named(name: str, namespace: str | None = None) -> Container:
    return Container(node_name="node-1", name=name, namespace=namespace, kind="container", cgroup_ids=[1])


def test_several_of_one_name_are_told_apart_by_number() -> None:
    containers = [named("shop/web/app"), named("blog/web/app"), named("blog/web/app")]
    assert shown_names(containers) == ["shop/web/app", "blog/web/app", "blog/web/app #2"]


def test_of_a_long_name_both_ends_are_shown() -> None:
    (name,) = shown_names([named("first" + "x" * 5000 + "last")])
    assert len(name) == 48
    assert name.startswith("first")
    assert name.endswith("last")


@given(st.lists(st.tuples(st.text(), st.none() | st.text()), max_size=10))
def test_names_are_harmless_short_and_no_two_alike(given_names: list[tuple[str, str | None]]) -> None:
    names = shown_names([named(name, namespace) for name, namespace in given_names])
    assert len(set(names)) == len(names)
    assert all(name.isprintable() and cell_len(name) <= 48 for name in names)


# Of Machado, Oliveira and Fernandes (2009), at full severity, for linear RGB.
DEFICIENCIES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


def linear(colour: str) -> list[float]:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    return [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]


def oklab(rgb: list[float]) -> list[float]:
    red, green, blue = (min(max(value, 0), 1) for value in rgb)
    long, medium, small = (
        (0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue) ** (1 / 3),
        (0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue) ** (1 / 3),
        (0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue) ** (1 / 3),
    )
    return [
        0.2104542553 * long + 0.793617785 * medium - 0.0040720468 * small,
        1.9779984951 * long - 2.428592205 * medium + 0.4505937099 * small,
        0.0259040371 * long + 0.7827717662 * medium - 0.808675766 * small,
    ]


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
@pytest.mark.parametrize("colours", [(*LIGHT, LIGHT_OTHER), (*DARK, DARK_OTHER)], ids=["light", "dark"])
def test_colours_stay_apart_for_those_who_see_fewer(deficiency: str, colours: tuple[str, ...]) -> None:
    matrix = DEFICIENCIES[deficiency]
    seen = [
        oklab([sum(factor * value for factor, value in zip(row, linear(colour), strict=True)) for row in matrix])
        for colour in colours
    ]
    for number, one in enumerate(seen):
        for other in seen[:number]:
            # About three times what two areas side by side need to be told apart.
            assert sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5 > 0.06


ROOT = {"cgroup_id": 99, "cgroup_kind": "other", "cgroup_path": "/"}


def test_the_kernels_threads_are_first_only_if_asked_for_or_alone(tmp_path: Path) -> None:
    busy = windows_of(ROOT, range(10), llc_misses=10**6, cpu_time_ns=6 * 10**7)
    output = write_recording(tmp_path / "both", windows=[busy, windows_of(container(1), range(10), llc_misses=1)])
    assert cast_of(output).names == ["shop/pod-1/app", "/"]
    assert cast_of(output, container="/").names == ["/", "shop/pod-1/app"]
    assert cast_of(write_recording(tmp_path / "alone", windows=[busy])).names == ["/"]
