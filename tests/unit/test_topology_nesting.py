# SPDX-License-Identifier: Apache-2.0
"""Which parts of a node lie within which, on trees after real machines and on impossible ones."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sysfs_tree import Node, hybrid, many_caches, one_cache_across_nodes, sub_numa_clusters, two_sockets_of_two_dies

from tracer.kernel.cpus import format_cpu_list
from tracer.kernel.topology.memory import NumaNode
from tracer.kernel.topology.nesting import Llc, Part, Place, nest


def part_name(part: Part) -> str:
    number = part.node if isinstance(part, NumaNode) else part.number
    return f"{type(part).__name__} {number}"


def outline(place: Place, depth: int = 0) -> Iterator[str]:
    """A line for each place within, and for the cores that are in nothing smaller."""
    for inner in place.inner:
        yield "  " * depth + ", ".join(map(part_name, inner.parts))
        yield from outline(inner, depth + 1)
    if place.cores:
        yield "  " * depth + " ".join(map(format_cpu_list, place.cores))


@pytest.mark.parametrize(
    ("make", "lines"),
    [
        (
            two_sockets_of_two_dies,
            [
                "Package 0, NumaNode 0",
                "  Die 0, Llc 0",
                "    0-1 2-3",
                "  Die 1, Llc 1",
                "    4-5 6-7",
                "Package 1, NumaNode 1",
                "  Die 0, Llc 2",
                "    8-9 10-11",
                "  Die 1, Llc 3",
                "    12-13 14-15",
            ],
        ),
        (
            many_caches,
            [
                "Package 0, NumaNode 0",
                "  Llc 0",
                "    0,8 1,9",
                "  Llc 1",
                "    2,10 3,11",
                "  Llc 2",
                "    4,12 5,13",
                "  Llc 3",
                "    6,14 7,15",
            ],
        ),
        (
            one_cache_across_nodes,
            ["Llc 0", "  Package 0, NumaNode 0", "    0 1 2 3", "  Package 1, NumaNode 1", "    4 5 6 7"],
        ),
        (hybrid, ["Package 0", "  Llc 0", "    0-1 2-3 4 5 6 7", "  Llc 1", "    8 9"]),
    ],
)
def test_what_lies_within_what(tmp_path: Path, make: Callable[[Path], Node], lines: list[str]) -> None:
    assert list(outline(nest(make(tmp_path).read()))) == lines


def test_numa_nodes_within_a_cache(tmp_path: Path) -> None:
    lines = list(outline(nest(sub_numa_clusters(tmp_path).read())))
    assert lines[:3] == ["Package 0, Llc 0", "  NumaNode 0", "    0,16 1,17"]
    assert lines[9:12] == ["Package 1, Llc 1", "  NumaNode 4", "    8,24 9,25"]


def test_two_packages_in_one_numa_node(tmp_path: Path) -> None:
    node = Node(tmp_path, "0-3")
    node.groups("package_cpus_list", "physical_package_id", ["0-1", "2-3"])
    node.caches(3, ["0-1", "2-3"])
    node.numa(["0-3"], ["10"], 4)
    assert list(outline(nest(node.read()))) == ["NumaNode 0", "  Package 0, Llc 0", "  Package 1, Llc 1"]


def test_parts_that_overlap_lie_side_by_side(tmp_path: Path) -> None:
    node = Node(tmp_path, "0-5")
    node.caches(3, ["0-3", "4-5"])
    node.numa(["0-1", "2-5"], ["10 20", "20 10"], 4)
    node.groups("core_cpus_list", "core_id", ["0", "1", "2", "3", "4", "5"])
    assert list(outline(nest(node.read()))) == [
        "Llc 0",
        "  NumaNode 0",
        "    0 1",
        "  2 3",
        "NumaNode 1",
        "  Llc 1",
        "    4 5",
    ]


def places(place: Place) -> Iterator[Place]:
    yield place
    for inner in place.inner:
        yield from places(inner)


SETS = st.lists(st.sets(st.integers(0, 7), min_size=1).map(format_cpu_list), max_size=6)


# Each example writes a tree of files, which takes as long as the disk likes.
@settings(max_examples=50)
@given(packages=SETS, dies=SETS, caches=SETS, nodes=SETS, cores=SETS)
def test_every_part_and_core_is_in_one_place(
    tmp_path_factory: pytest.TempPathFactory,
    packages: list[str],
    dies: list[str],
    caches: list[str],
    nodes: list[str],
    cores: list[str],
) -> None:
    node = Node(tmp_path_factory.mktemp("node"), "0-7")
    node.groups("package_cpus_list", "physical_package_id", packages)
    node.groups("die_cpus_list", "die_id", dies)
    node.groups("core_cpus_list", "core_id", cores)
    node.caches(3, caches)
    node.numa(nodes, ["10"] * len(nodes), 4)
    topology = node.read()
    nested = nest(topology)
    found = list(places(nested))
    for place in found:
        assert all(inner.cpus < place.cpus or place is nested for inner in place.inner)
        assert all(set(core) <= place.cpus for core in place.cores)
    parts = [part for place in found for part in place.parts]
    assert sorted(part.number for part in parts if isinstance(part, Llc)) == list(range(len(topology.llc_domains)))
    assert sorted(part.node for part in parts if isinstance(part, NumaNode)) == list(range(len(nodes)))
    assert sum(len(place.cores) for place in found) == len(topology.cores or ())
