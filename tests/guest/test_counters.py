# SPDX-License-Identifier: Apache-2.0
"""Counters are right: on a processor that counts exactly, the tables against counters that the workloads open.

What a cgroup has counted and its process has not is what the kernel does to start and to end the process: the constant
of a process that does nothing, measured here too.
"""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest
from counted_work import open_counter, read_counter
from live_node import SPIN, Cgroup, Result, Tracer

pytestmark = pytest.mark.root

WORK = Path(__file__).with_name("counted_work.py")
LOOPS = (500_000, 1_000_000, 2_000_000)
TURNS = 2_000
PROCESSES = 20
RAW = 4
INST_RETIRED = 0x08
"""As armv8_pmuv3 numbers it (Arm Architecture Reference Manual, common events)."""
INSTRUCTIONS = 1


class Counts(NamedTuple):
    """Of one process, or of one cgroup."""

    instructions: int
    cycles: int
    context_switches: int = 0


def work(*words: object) -> list[Counts]:
    said = subprocess.run(
        [sys.executable, "-I", "-S", WORK, *map(str, words)], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return [Counts(*map(int, line.split())) for line in said.splitlines()]


class Measured(NamedTuple):
    """One process: what it counted itself, and what its cgroup is said to have counted."""

    own: Counts
    cgroup: Cgroup

    def counted(self, result: Result) -> Counts:
        rows = result.table("windows").filter(pl.col("cgroup_id") == self.cgroup.id)
        return Counts(rows["instructions"].sum(), rows["cycles"].sum(), rows["context_switches"].sum())


def ended(tracer: Tracer) -> Result:
    time.sleep(1.5)
    tracer.process.terminate()
    return tracer.result()


def test_instructions_and_cycles_of_cgroups(
    start_tracer: Callable[..., Tracer], new_container: Callable[[], Cgroup]
) -> None:
    tracer = start_tracer("--ticks", "--tick", "10ms")
    tracer.wait_until_tracing()
    of_cpu = open_counter(INSTRUCTIONS, pid=-1, cpu=0)
    begin_ns, begin = time.monotonic_ns(), read_counter(of_cpu)

    def alone(loops: int) -> Measured:
        cgroup = new_container()
        return Measured(*work("alone", cgroup.path, loops), cgroup)

    def together(first_loops: int, second_loops: int) -> list[Measured]:
        first, second = new_container(), new_container()
        own = work("together", first.path, first_loops, second.path, second_loops, TURNS)
        return [Measured(own[0], first), Measured(own[1], second)]

    def forking(loops: int) -> Measured:
        cgroup = new_container()
        return Measured(*work("forking", cgroup.path, loops, PROCESSES), cgroup)

    nothing = [alone(0) for _ in range(3)]
    sizes = [alone(loops) for loops in LOOPS]
    pairs = [*itertools.pairwise(sizes), (forking(0), forking(LOOPS[2]))]
    only_switching, switching = together(0, 0), together(LOOPS[1], LOOPS[2])

    end_ns, end = time.monotonic_ns(), read_counter(of_cpu)
    os.close(of_cpu)
    result = ended(tracer)
    assert result.manifest.totals.records_lost == 0
    # A processor that counts is believed.
    assert result.manifest.totals.counter_values_refused == 0
    assert [(some.cpus, some.counted) for event in result.manifest.events[:2] for some in event.on_cpus] == [
        ("0", True)
    ] * 2

    constants = [process.counted(result).instructions - process.own.instructions for process in nothing]
    print(f"a process's start and end: {constants} instructions")
    assert max(constants) - min(constants) < 0.1 * max(constants)
    for process in sizes:
        instructions = process.counted(result).instructions - constants[0]
        assert instructions == pytest.approx(process.own.instructions, rel=0.005)

    costs = []
    for process in only_switching:
        counted = process.counted(result)
        costs.append((counted.instructions - process.own.instructions - constants[0]) / counted.context_switches)
    print(f"a switch: {costs} instructions")
    assert max(costs) < 1000

    # Nothing leaks, neither to the other one nor to idle.
    for small, large in [*pairs, *zip(only_switching, switching, strict=True)]:
        counted_small, counted_large = small.counted(result), large.counted(result)
        switches = counted_large.context_switches - counted_small.context_switches
        own = large.own.instructions - small.own.instructions
        difference = counted_large.instructions - counted_small.instructions
        print(f"instructions: own {own}, cgroup {difference}, {difference / own - 1:+.4%}, {switches} switches more")
        # What was measured is the cost of one process handing over to another; being preempted may cost less.
        least, most = sorted((0, round(costs[0] * switches)))
        assert (own + least) * 0.999 <= difference <= (own + most) * 1.001
        cycles = counted_large.cycles - counted_small.cycles
        assert cycles == pytest.approx(large.own.cycles - small.own.cycles, rel=0.01)
    for process in switching:
        assert process.counted(result).context_switches >= TURNS

    # The CPU's own counter was read within the first and the last tick, whose parts outside are counted too.
    tick_ns = result.manifest.tick_ns
    first, last = begin_ns // tick_ns, end_ns // tick_ns
    ticks = result.table("ticks")
    with_both_ends = ticks.filter(pl.col("tick").is_between(first, last))["instructions"].sum()
    without_ends = ticks.filter(pl.col("tick").is_between(first + 1, last - 1))["instructions"].sum()
    print(
        f"the CPU: {end - begin}, all cgroups and idle: {without_ends}, with the first and last tick {with_both_ends}"
    )
    assert without_ends * 0.999 <= end - begin <= with_both_ends * 1.001
    assert with_both_ends == pytest.approx(end - begin, rel=0.01)

    # The processor tells of no last-level cache.
    assert result.table("windows")["llc_misses"].null_count() == result.table("windows").height
    (event,) = [event for event in result.manifest.events if event.column == "llc_misses"]
    assert "no PMU that counts it" in str(event.reason_missing)


def test_more_events_than_counters(start_tracer: Callable[..., Tracer], new_container: Callable[[], Cgroup]) -> None:
    others = [open_counter(INST_RETIRED, type=RAW, pid=-1, cpu=0, flags=0) for _ in range(12)]
    exact = open_counter(INSTRUCTIONS, pid=-1, cpu=0)
    tracer = start_tracer("--ticks")
    tracer.wait_until_tracing()
    busy = new_container()
    busy.start(SPIN)
    time.sleep(2)
    begin_ns, begin = time.monotonic_ns(), read_counter(exact)
    time.sleep(5)
    end_ns, end = time.monotonic_ns(), read_counter(exact)
    busy.stop()
    result = ended(tracer)
    for other in (*others, exact):
        os.close(other)

    tick_ns = result.manifest.tick_ns
    ticks = result.table("ticks").filter(pl.col("tick").is_between(begin_ns // tick_ns, end_ns // tick_ns))
    windows = result.table("windows").filter(pl.col("cgroup_id") == busy.id)
    assert result.manifest.totals.counter_values_refused == 0
    coverage = windows["counter_coverage"].mean()
    print(f"{len(others)} events more: coverage {coverage}, exact {end - begin}, scaled {ticks['instructions'].sum()}")
    assert windows["counter_coverage"].max() < 1
    assert ticks["instructions"].sum() == pytest.approx(end - begin, rel=0.05)


def test_counters_that_another_takes_and_gives_back(
    start_tracer: Callable[..., Tracer], new_container: Callable[[], Cgroup]
) -> None:
    tracer = start_tracer("--ticks")
    tracer.wait_until_tracing()
    busy = new_container()
    busy.start(SPIN)
    time.sleep(2)
    # Pinned ones come before all others; more than there are counters.
    others = [open_counter(INST_RETIRED, type=RAW, pid=-1, cpu=0) for _ in range(12)]
    taken_ns = time.monotonic_ns()
    time.sleep(4)
    given_back_ns = time.monotonic_ns()
    for other in others:
        os.close(other)
    time.sleep(3)
    busy.stop()
    result = ended(tracer)

    tick_ns = result.manifest.tick_ns
    # Where it only waited for the CPU, nothing was counted.
    ticks = result.table("ticks").filter(pl.col("cgroup_id") == busy.id, pl.col("cpu_time_ns") > 0)
    # A batch of records has one share of all of its time.
    batch_ns = 10**9
    before = ticks.filter(pl.col("tick") < (taken_ns - batch_ns) // tick_ns)
    meanwhile = ticks.filter(
        pl.col("tick").is_between((taken_ns + batch_ns) // tick_ns, (given_back_ns - batch_ns) // tick_ns)
    )
    after = ticks.filter(pl.col("tick") > (given_back_ns + batch_ns) // tick_ns)
    for name in ("cycles", "instructions"):
        nulls = [part[name].null_count() / part.height for part in (before, meanwhile, after)]
        print(f"{name}: null before, meanwhile and after: {nulls}")
        assert nulls == [0, 1, 0]
        note = f"{name} did not count for a while on CPUs 0, and is null there meanwhile"
        assert note in result.manifest.notes
    assert [event.counted for event in result.manifest.events] == [True, True, False]
