# SPDX-License-Identifier: Apache-2.0
"""Containers with a CPU limit: what that holds up is nobody else's doing. Run in a guest, with the cpu controller."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from live_node import Cgroup, Tracer
from waiters import SPIN, Waiters, holders_of, measure, waits_of

from tracer.containers.cgroupfs import find_cgroup2_mount
from tracer.kernel.throttling import THROTTLING

pytestmark = [pytest.mark.root, pytest.mark.core]


@pytest.fixture
def limited(own_cgroup: Path) -> Iterator[Callable[[Path], Cgroup]]:
    """Makes cgroups below the test's own one in which limits of CPU time can be set."""
    made: list[Cgroup] = []

    def make(place: Path) -> Cgroup:
        path = own_cgroup / place
        for directory in (find_cgroup2_mount(), own_cgroup, *reversed(path.relative_to(own_cgroup).parents[:-1])):
            directory = own_cgroup / directory
            directory.mkdir(exist_ok=True)
            (directory / "cgroup.subtree_control").write_text("+cpu")
        made.append(Cgroup(path))
        return made[-1]

    yield make
    for cgroup in made:
        cgroup.stop()


def throttled_ns(cgroup: Path) -> int:
    """For how long its limit held it up, over all CPUs, by the kernel's own sum."""
    stat = dict(line.split() for line in (cgroup / "cpu.stat").read_text().splitlines())
    return int(stat["throttled_usec"]) * 1000


@pytest.mark.parametrize(("neighbour", "limit_on"), [(False, "container"), (True, "pod")])
def test_a_limit_is_told_apart_from_neighbours(
    start_tracer: Callable[..., Tracer], limited: Callable[[Path], Cgroup], neighbour: bool, limit_on: str
) -> None:
    waiters, other = Waiters(limited(Path("pod/container"))), Waiters(limited(Path("other")))
    limit = waiters.cgroup.path if limit_on == "container" else waiters.cgroup.path.parent
    cpu = min(os.sched_getaffinity(0))
    try:
        waiters.add(SPIN, cpu)
        (limit / "cpu.max").write_text("20000 100000")
        if neighbour:
            other.add(SPIN, cpu)
        before = throttled_ns(limit)
        result, _truths = measure(start_tracer(), waiters, *([other] if neighbour else []))
        truth_ns = throttled_ns(limit) - before
    finally:
        waiters.end()
        other.end()
    sums, holders = waits_of(result, waiters), holders_of(result, waiters)
    assert not any("wait_throttled_ns" in note for note in result.manifest.notes)
    assert sum(holders.values()) == sums["wait_time_ns"]
    assert holders["throttled"] == sums["wait_throttled_ns"] == pytest.approx(truth_ns, rel=0.02)
    # What is left is behind the neighbour, and behind the tracer and whatever else runs in the root cgroup.
    assert (other.cgroup.id in holders) == neighbour
    assert sums["wait_idle_ns"] < 0.02 * sums["wait_throttled_ns"]
    if not neighbour:
        ran_besides_ns = sum(ns for holder, ns in holders.items() if holder != "throttled")
        assert ran_besides_ns < 0.05 * sums["wait_throttled_ns"] + holders.get(1, 0)
    assert result.table("health")["throttlings_lost"].sum() == 0


def test_the_record_is_as_the_program_has_it() -> None:
    assert THROTTLING.itemsize == 32
