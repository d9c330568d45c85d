# SPDX-License-Identifier: Apache-2.0
"""Processors with sockets, dies, threads and NUMA nodes, and CPUs that are offline and that come and go.

Run in guests; TOPOLOGY says what the guest was made of: sockets:dies:cores:threads:NUMA nodes.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from live_node import SPIN, Cgroup, Result, Tracer

from tracer.kernel.cpus import format_cpu_list, online_cpus, parse_cpu_list

pytestmark = pytest.mark.root

SOCKETS, DIES, CORES, THREADS, NUMA_NODES = map(int, os.environ["TOPOLOGY"].split(":"))
CPUS = range(SOCKETS * DIES * CORES * THREADS)
LAST = Path(f"/sys/devices/system/cpu/cpu{CPUS[-1]}/online")


@pytest.fixture
def last_cpu_is_offline() -> Iterator[None]:
    LAST.write_text("0")
    yield
    LAST.write_text("1")


def assert_conserved(result: Result, went_offline: int = 0) -> None:
    """Every tick that a CPU has rows of adds up to its length, but the one in which it went; no record is lost."""
    per_tick = result.table("ticks").group_by("cpu", "tick").agg(pl.sum("cpu_time_ns"))
    other = per_tick.filter(pl.col("cpu_time_ns") != result.manifest.tick_ns)
    assert set(other["cpu"]) <= {CPUS[-1]}
    assert other.height <= went_offline
    assert (other["cpu_time_ns"] < result.manifest.tick_ns).all()
    assert result.manifest.totals.records_lost == 0


def in_order(lists: list[dict[str, str]]) -> list[list[int]]:
    return [list(parse_cpu_list(group["cpus"])) for group in lists]


def grouped(count: int) -> list[list[int]]:
    """All CPUs in so many groups of neighbouring numbers, which is how QEMU numbers them."""
    size = len(CPUS) // count
    return [list(CPUS[first : first + size]) for first in range(0, len(CPUS), size)]


def perf_events_of(pid: int) -> int:
    """How many perf events a process has open."""
    count = 0
    for file in Path(f"/proc/{pid}/fd").iterdir():
        # It opens and closes files meanwhile.
        with contextlib.suppress(FileNotFoundError):
            count += str(file.readlink()) == "anon_inode:[perf_event]"
    return count


def test_manifest_and_conservation(start_tracer: Callable[..., Tracer]) -> None:
    result = start_tracer("--ticks", "--duration", "5s").result()
    topology = result.manifest.topology
    assert result.manifest.host.online_cpus == list(CPUS)
    assert in_order(topology["packages"]) == grouped(SOCKETS)
    assert in_order(topology["dies"]) == in_order(topology["llc_domains"]) == grouped(SOCKETS * DIES)
    assert in_order(topology["cores"]) == grouped(SOCKETS * DIES * CORES)
    assert in_order(topology["numa_nodes"]) == grouped(NUMA_NODES)
    assert topology["smt_active"] == (THREADS > 1)
    assert_conserved(result)
    ticks = result.manifest.last_tick - result.manifest.first_tick + 1
    whole_run_ns = ticks * result.manifest.tick_ns * len(CPUS)
    assert result.table("windows")["cpu_time_ns"].sum() == whole_run_ns


def test_neighbours_are_on_the_same_cache(
    start_tracer: Callable[..., Tracer], new_container: Callable[[], Cgroup]
) -> None:
    tracer = start_tracer()
    tracer.wait_until_tracing()
    containers = [new_container() for _ in range(2)]
    for cpu, container in zip((CPUS[0], CPUS[-1]), containers, strict=True):
        container.start(f"exec taskset -c {cpu} sh -c '{SPIN}'")
    while any(container.cpu_time_ns() < 2 * 10**9 for container in containers):
        time.sleep(0.1)
    tracer.process.terminate()
    result = tracer.result()
    own = pl.col("cgroup_id").is_in([container.id for container in containers])
    windows = result.table("windows").filter(own, pl.col("cpus") == 1)
    assert windows["cgroup_id"].n_unique() == 2

    # In the ticks in which one runs, it and its neighbours have the CPUs of its cache, and no more.
    cpus_of_cache = len(CPUS) // (SOCKETS * DIES)
    room_ns = pl.col("active_ticks").cast(pl.UInt64) * result.manifest.tick_ns * cpus_of_cache
    assert windows.filter(pl.col("cpu_time_ns") + pl.col("neighbour_cpu_time_ns") > room_ns).is_empty()
    if SOCKETS * DIES > 1:
        # They are on different caches: beside each is only what else the node does.
        busy = windows.filter(pl.col("cpu_time_ns") > 20_000_000)
        assert busy.select(pl.sum("neighbour_cpu_time_ns") < 0.4 * pl.sum("cpu_time_ns")).item()


@pytest.mark.usefixtures("last_cpu_is_offline")
def test_a_cpu_that_was_offline_comes_and_goes(start_tracer: Callable[..., Tracer]) -> None:
    all_cpus, without_last = format_cpu_list(CPUS), format_cpu_list(CPUS[:-1])
    tracer = start_tracer("--ticks")
    tracer.wait_until_tracing()
    time.sleep(2)
    for state in (1, 0, 1, 0):
        LAST.write_text(str(state))
        # One event ticks on each CPU that is measured.
        while perf_events_of(tracer.process.pid) != len(CPUS) - 1 + state:
            time.sleep(0.1)
        time.sleep(3)
    tracer.process.terminate()
    result = tracer.result()
    assert result.manifest.host.online_cpus == list(CPUS[:-1])
    changes = [change.topology["online"] for change in result.manifest.topology_changes]
    assert changes == [all_cpus, without_last, all_cpus, without_last]
    assert_conserved(result, went_offline=2)
    assert set(result.table("ticks")["cpu"]) == set(CPUS)
    assert list(online_cpus()) == list(CPUS[:-1])
