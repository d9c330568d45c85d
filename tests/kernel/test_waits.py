# SPDX-License-Identifier: Apache-2.0
"""Waiting for a CPU on the live kernel: against the kernel's own sums, and who is known to have been in the way."""

import os
from collections.abc import Callable, Iterator

import polars as pl
import pytest
from live_node import Cgroup, Result, Tracer
from waiters import MEASURED_SECONDS, SPIN, Waiters, holders_of, measure, waits_of

pytestmark = pytest.mark.root

BURSTS = """
import time
while True:
    end = time.monotonic() + 0.004
    while time.monotonic() < end: pass
    time.sleep(0.006)
"""
PING_PONG = """
import os
here, there = os.pipe(), os.pipe()
if os.fork() == 0:
    while True: os.read(here[0], 1), os.write(there[1], b"x")
while True: os.write(here[1], b"x"), os.read(there[0], 1)
"""
FOUR_THREADS = """
import os
for _ in range(2): os.fork()
while True: pass
"""
FORKS = """
import os
while True:
    child = os.fork()
    if child == 0: os._exit(0)
    os.waitpid(child, 0)
"""

# Of each wait, beside the kernel's own: it looks at its clock where a switch begins, and programs are told of it later.
OFF_BY_NS = 500


@pytest.fixture
def new_waiters(new_container: Callable[[], Cgroup]) -> Iterator[Callable[[], Waiters]]:
    made: list[Waiters] = []

    def new() -> Waiters:
        made.append(Waiters(new_container()))
        return made[-1]

    try:
        yield new
    finally:
        for waiters in made:
            waiters.end()


@pytest.mark.parametrize("crowd", [pytest.param(0, marks=pytest.mark.core), 2])
def test_waits_agree_with_the_kernels_own(
    start_tracer: Callable[..., Tracer], new_waiters: Callable[[], Waiters], crowd: int
) -> None:
    spinners, bursts, pairs, threads, others = (new_waiters() for _ in range(5))
    for cpu in sorted(os.sched_getaffinity(0))[:2]:
        spinners.add(SPIN, cpu)
    bursts.add(BURSTS)
    pairs.add(PING_PONG)
    threads.add(FOUR_THREADS)
    for _ in range(crowd):
        others.add(SPIN)
    others.go()
    measured = (spinners, bursts, pairs, threads)
    result, truths = measure(start_tracer("--ticks"), *measured)
    for waiters, truth_ns in zip(measured, truths, strict=True):
        sums = waits_of(result, waiters)
        assert truth_ns > 0.2e9
        off_by = 0.01 * truth_ns + sums["waits"] * OFF_BY_NS
        assert sums["wait_time_ns"] == pytest.approx(truth_ns, abs=off_by)
        assert sum(holders_of(result, waiters).values()) == sums["wait_time_ns"]
        parts = ("wait_behind_others_ns", "wait_behind_self_ns", "wait_idle_ns")
        unknown_ns = holders_of(result, waiters).get("unknown", 0) + holders_of(result, waiters).get("throttled", 0)
        assert sum(sums[part] for part in parts) + unknown_ns == sums["wait_time_ns"]
        ticks = result.table("ticks").filter(pl.col("cgroup_id") == waiters.cgroup.id)
        assert ticks["wait_time_ns"].sum() == sums["wait_time_ns"]
    windows = result.table("windows").filter(pl.col("cgroup_id") != 0)
    for name, total in result.manifest.totals.sums.items():
        assert windows[name].sum() == total


def held_meanwhile(result: Result, waiters: Waiters, cpu: int) -> dict[int, int]:
    """For how long each cgroup held a CPU while these tasks, which are always ready, were there."""
    ticks = result.table("ticks").filter(pl.col("cpu") == cpu)
    own = ticks.filter(pl.col("cgroup_id") == waiters.cgroup.id, pl.col("cpu_time_ns") + pl.col("wait_time_ns") > 0)
    meanwhile = ticks.filter(pl.col("tick").is_between(own["tick"].min(), own["tick"].max()))
    return dict(meanwhile.group_by("cgroup_id").agg(pl.sum("cpu_time_ns")).iter_rows())


def test_who_takes_turns_blames_the_other_and_nobody_else(
    start_tracer: Callable[..., Tracer], new_waiters: Callable[[], Waiters]
) -> None:
    one, other, elsewhere = (new_waiters() for _ in range(3))
    cpu, *rest = sorted(os.sched_getaffinity(0))
    one.add(SPIN, cpu)
    other.add(SPIN, cpu)
    for last in rest[-1:]:
        elsewhere.add(SPIN, last)
    result, _truth = measure(start_tracer("--ticks"), one, other, elsewhere)
    for victim, aggressor in ((one, other), (other, one)):
        holders, held = holders_of(result, victim), held_meanwhile(result, victim, cpu)
        # It waits exactly while another runs: here that is the aggressor, and whatever else this machine has to do.
        del held[victim.cgroup.id]
        assert sum(holders.values()) == pytest.approx(sum(held.values()), rel=0.01)
        blamed = {holder: ns / sum(holders.values()) for holder, ns in holders.items()}
        guilty = {holder: ns / sum(held.values()) for holder, ns in held.items()}
        assert blamed[aggressor.cgroup.id] == pytest.approx(guilty[aggressor.cgroup.id], abs=0.01)
        assert elsewhere.cgroup.id not in holders


def test_threads_of_a_container_on_one_cpu_wait_for_themselves(
    start_tracer: Callable[..., Tracer], new_waiters: Callable[[], Waiters]
) -> None:
    waiters = new_waiters()
    cpu = min(os.sched_getaffinity(0))
    waiters.add(FOUR_THREADS, cpu)
    result, (truth_ns,) = measure(start_tracer("--ticks"), waiters)
    sums = waits_of(result, waiters)
    held = held_meanwhile(result, waiters, cpu)
    own_ns = held.pop(waiters.cgroup.id)
    assert sums["wait_time_ns"] == pytest.approx(truth_ns, rel=0.01)
    # While one runs, three wait; while something else of this machine does, all four.
    assert truth_ns == pytest.approx(3 * own_ns + 4 * sum(held.values()), rel=0.02)
    # Which of both it was is known of each tick as long as no more went on in it than is remembered.
    assert sums["wait_behind_self_ns"] == pytest.approx(3 * own_ns, abs=0.03 * truth_ns)
    assert sums["wait_idle_ns"] < 0.001 * truth_ns


def test_a_storm_of_forks_leaves_hardly_a_wait_unknown(
    start_tracer: Callable[..., Tracer], new_waiters: Callable[[], Waiters]
) -> None:
    forking = new_waiters()
    for _ in range(2):
        forking.add(FORKS)
    result, _truth = measure(start_tracer(), forking)
    sums = waits_of(result, forking)
    assert sums["waits"] > 200 * MEASURED_SECONDS
    assert sum(holders_of(result, forking).values()) == sums["wait_time_ns"]
    # Each of them had been woken, as a new task; what is left is of the moment at which the tracer began to look,
    # and of switches that this kernel keeps to itself.
    health = result.table("health").select(pl.sum("waits_unknown", "unseen_switches")).row(0, named=True)
    few = 0.001 * result.table("windows")["waits"].sum() + 20
    assert health["waits_unknown"] < few + 3 * health["unseen_switches"]


def test_waits_can_be_left_out(start_tracer: Callable[..., Tracer], new_waiters: Callable[[], Waiters]) -> None:
    waiters = new_waiters()
    waiters.add(SPIN)
    result, _truth = measure(start_tracer("--waits", "off", "--ticks"), waiters)
    windows = result.table("windows")
    for name in ("wait_time_ns", "waits", "involuntary_switches", "wait_behind_others_ns", "wait_throttled_ns"):
        assert windows[name].null_count() == windows.height
    assert result.table("ticks")["wait_time_ns"].null_count() == result.table("ticks").height
    assert not (result.output / "waits").exists()
    assert any("--waits off" in note for note in result.manifest.notes)
    assert "wait_time_ns" not in result.manifest.totals.sums
