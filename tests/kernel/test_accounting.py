# SPDX-License-Identifier: Apache-2.0
"""Promise 1, conservation: what the tables say is what the kernel's own accounting says."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest
from live_node import SPIN, Cgroup, Result, Tracer, agrees_with_cpu_stat, stolen_ns

from tracer.kernel.cpus import online_cpus

pytestmark = pytest.mark.root

SECONDS = 10
TICK_NS = 1_000_000
# Two clocks, and a count that has a column of its own: what they must be is known without a PMU.
SOFTWARE_EVENTS = (
    "--event=cycles=software:cpu-clock",
    "--event=instructions=software:task-clock",
    "--event=llc_misses=software:context-switches",
)


def context_switches() -> int:
    """Context switches of the whole node since boot."""
    (line,) = (line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("ctxt "))
    return int(line.split()[1])


class Mark(NamedTuple):
    """The node's own counts at a moment."""

    monotonic_ns: int
    context_switches: int
    stolen_ns: int

    @classmethod
    def now(cls) -> "Mark":
        return cls(time.clock_gettime_ns(time.CLOCK_MONOTONIC), context_switches(), stolen_ns())


def within(measured: float, truth: float, share: float) -> bool:
    return abs(measured - truth) <= share * truth


def of_cgroup(table: pl.DataFrame, cgroup: Cgroup) -> pl.DataFrame:
    return table.filter(pl.col("cgroup_id") == cgroup.id)


def assert_complete(result: Result) -> None:
    """Zero lost, each CPU's sequence without a gap, and each CPU's time accounted to the nanosecond."""
    totals = result.manifest.totals
    assert totals.records_lost == 0
    assert totals.lost_by_cpu == {}
    assert "none lost" in result.said
    health = result.table("health")
    assert health.select(pl.sum("^lost_.*$")).row(0) == (0, 0, 0)
    assert health["records"].sum() == totals.records

    assert result.manifest.first_tick is not None
    assert result.manifest.last_tick is not None
    ticks = result.manifest.last_tick - result.manifest.first_tick + 1
    assert result.table("windows")["cpu_time_ns"].sum() == ticks * result.manifest.tick_ns * len(online_cpus())


def assert_windows_hold_their_ticks(result: Result) -> None:
    windows, ticks = result.table("windows"), result.table("ticks")
    first, last = windows["window_tick"].min(), windows["window_tick"].max()
    inner = windows.filter(~pl.col("window_tick").is_in([first, last]))
    assert inner["ticks"].unique().to_list() == [60]
    assert (windows["window_tick"] % 60 == 0).all()
    lengths = windows.select("window_tick", "ticks").unique()
    assert result.manifest.last_tick is not None
    assert result.manifest.first_tick is not None
    assert lengths["ticks"].sum() == result.manifest.last_tick - result.manifest.first_tick + 1
    assert (windows["active_ticks"] <= 60).all()

    busy = pl.col("cgroup_id") != 0
    columns = ["cpu_time_ns", "context_switches", "cycles", "instructions", "llc_misses"]
    of_ticks = (
        ticks.filter(busy)
        .group_by(pl.col("tick") // 60 * 60, "cgroup_id")
        .agg(pl.sum(columns))
        .sort("tick", "cgroup_id")
    )
    of_windows = (
        windows.filter(busy).group_by("window_tick", "cgroup_id").agg(pl.sum(columns)).sort("window_tick", "cgroup_id")
    )
    assert of_windows.rename({"window_tick": "tick"}).equals(of_ticks)
    # All tables go through one clock, and down to its microseconds.
    clock = result.manifest.clock.start
    exact_ns = pl.col("tick") * TICK_NS + clock.anchor_realtime_ns - clock.anchor_monotonic_ns
    for table, start, tick in ((windows, "window_start", "window_tick"), (ticks, "tick_start", "tick")):
        rows = table.select(start=pl.col(start).dt.epoch("us"), tick=tick)
        assert (rows["start"] == rows.select(exact_ns // 1000).to_series()).all()


@pytest.fixture
def busy_node(
    new_container: Callable[[], Cgroup], start_tracer: Callable[..., Tracer]
) -> Callable[..., tuple[Result, list[Cgroup], dict[str, Mark]]]:
    """Traces two busy containers and a sleeping one; their whole life lies within the run."""

    def trace(*options: str) -> tuple[Result, list[Cgroup], dict[str, Mark]]:
        containers = [new_container() for _ in range(3)]
        tracer = start_tracer("--ticks", "--duration", f"{SECONDS + 3}s", *options)
        tracer.wait_until_tracing()
        marks: dict[str, Mark] = {}
        containers[0].start(SPIN)
        # Half busy, and switching all the time.
        containers[1].start("while :; do i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; sleep 0.002; done")
        containers[2].start("sleep 1000")
        marks["begin"] = Mark.now()
        time.sleep(SECONDS)
        for container in containers:
            container.stop()
        # Steal is booked at the CPU's next timer interrupt.
        time.sleep(0.02)
        marks["end"] = Mark.now()
        return tracer.result(), containers, marks

    return trace


def test_cpu_time_switches_and_names(
    busy_node: Callable[..., tuple[Result, list[Cgroup], dict[str, Mark]]],
) -> None:
    result, containers, marks = busy_node()
    assert_complete(result)
    windows, ticks = result.table("windows"), result.table("ticks")
    stolen = marks["end"].stolen_ns - marks["begin"].stolen_ns

    # A container's life is in the tables: its CPU time is the kernel's. The sleeping one ran for a few ms only.
    for container in containers[:2]:
        assert container.cpu_time_ns() > 0.03 * SECONDS * 1e9
        for table in (windows, ticks):
            assert agrees_with_cpu_stat(of_cgroup(table, container)["cpu_time_ns"].sum(), container, stolen)
        held = of_cgroup(windows, container).select(pl.sum("cpu_time_ns", "stolen_time_ns")).row(0, named=True)
        if windows["stolen_time_ns"].null_count() == 0:
            ran_ns = held["cpu_time_ns"] - held["stolen_time_ns"]
            # Of a task that is found where the kernel did not tell of its switch, nothing is known to be stolen.
            unsure_ns = result.table("health")["unseen_time_ns"].sum()
            assert abs(ran_ns - container.cpu_time_ns()) < 0.001 * container.cpu_time_ns() + 1_000_000 + unsure_ns
    sleeping_ns = of_cgroup(windows, containers[2])["cpu_time_ns"].sum()
    assert -1_000_000 < sleeping_ns - containers[2].cpu_time_ns() < 1_000_000 + stolen

    # CPU time of everything, idle too, is CPUs times wall time.
    assert result.manifest.end is not None
    wall_ns = result.manifest.end.utc_ns - result.manifest.start.utc_ns
    assert wall_ns == (SECONDS + 3) * 10**9
    assert within(windows["cpu_time_ns"].sum(), wall_ns * len(online_cpus()), 0.005)

    # Each CPU's tick that has rows adds up to the tick's length.
    per_tick = ticks.filter(pl.col("cpu_time_ns") > 0).group_by("cpu", "tick").agg(pl.sum("cpu_time_ns"))
    assert per_tick.filter((pl.col("cpu_time_ns") - TICK_NS).abs() > 1000).is_empty()

    begin, end = marks["begin"], marks["end"]
    meanwhile = pl.col("tick").is_between(begin.monotonic_ns // TICK_NS, end.monotonic_ns // TICK_NS)
    traced = ticks.filter(meanwhile)["context_switches"].sum()
    uncounted = result.table("health")["uncounted_switches"].sum()
    assert within(traced + uncounted, end.context_switches - begin.context_switches, 0.01)
    # What the kernel counts and tells nobody of is found by who runs where, and then mostly counted all the same.
    assert -20 <= uncounted <= 1.1 * result.table("health")["unseen_switches"].sum() + 20

    for container in containers:
        rows = of_cgroup(windows, container)
        assert rows.select("cgroup_kind", "container_id", "pod_uid", "qos_class", "runtime").unique().rows() == [
            (
                "container",
                container.path.name,
                container.path.parent.name.removeprefix("pod"),
                "burstable",
                None,
            )
        ]
    assert windows.filter(pl.col("cgroup_kind") == "unknown").is_empty()


@pytest.mark.core
def test_windows_hold_their_ticks_and_counters_agree_with_the_time_they_count(
    busy_node: Callable[..., tuple[Result, list[Cgroup], dict[str, Mark]]],
) -> None:
    result, containers, _marks = busy_node(*SOFTWARE_EVENTS)
    assert_complete(result)
    assert_windows_hold_their_ticks(result)
    assert all(event.counted for event in result.manifest.events)
    for name in ("windows", "ticks"):
        table = result.table(name)
        for container in containers[:2]:
            rows = of_cgroup(table, container)
            # Who only waited in a tick counted nothing there.
            rows = rows.filter(pl.col("cpu_time_ns") > 0)
            for column in ("cycles", "instructions"):
                assert rows[column].null_count() == 0
                assert within(rows[column].sum(), rows["cpu_time_ns"].sum(), 0.01)
    windows, ticks = result.table("windows"), result.table("ticks")
    # The event counts what the kernel counts, and that may be more than the kernel tells of.
    uncounted = result.table("health")["uncounted_switches"].sum()
    assert within(windows["llc_misses"].sum(), windows["context_switches"].sum() + uncounted, 0.01)
    # A switch to idle is counted in the idle time that it begins: some of it in ticks that have no row.
    busy = pl.col("cgroup_id") != 0
    assert ticks.filter(busy)["llc_misses"].sum() == windows.filter(busy)["llc_misses"].sum()
    assert ticks["llc_misses"].sum() <= windows["llc_misses"].sum()
    assert (windows["counter_coverage"] == 1).all()
    spinning = of_cgroup(windows, containers[0])
    assert within(spinning["cpi_median"].mean(), 1.0, 0.01)  # ns of one clock by ns of another
