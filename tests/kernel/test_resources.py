# SPDX-License-Identifier: Apache-2.0
"""Resources and processes of real cgroups, as a run writes them, against what the kernel's files say."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from live_node import SPIN, Cgroup, Result, Tracer

from tracer.analysis.rates import rates
from tracer.kernel.cpus import online_cpus
from tracer.readers.protocol import Cgroup as ReadCgroup
from tracer.readers.resources import ResourcesReader

pytestmark = pytest.mark.root


def flat(path: Path) -> dict[str, int]:
    return {key: int(value) for key, value in (line.split() for line in path.read_text().splitlines())}


def pressure_total(path: Path, name: str) -> int:
    (line,) = (line for line in path.read_text().splitlines() if line.startswith(name))
    return int(line.rpartition("=")[2])


def seen_by_cat(cgroup: Path) -> dict[str, int]:
    """Counters of files that every cgroup2 tree has."""
    return {
        **{f"cpu_{key}": value for key, value in flat(cgroup / "cpu.stat").items() if key.endswith("_usec")},
        "cpu_pressure_some_total_usec": pressure_total(cgroup / "cpu.pressure", "some"),
        "memory_pressure_full_total_usec": pressure_total(cgroup / "memory.pressure", "full"),
        "io_pressure_some_total_usec": pressure_total(cgroup / "io.pressure", "some"),
        "cgroup_nr_descendants": flat(cgroup / "cgroup.stat")["nr_descendants"],
    }


def of_cgroup(result: Result, table: str, cgroup_id: int) -> pl.DataFrame:
    return result.table(table).filter(pl.col("cgroup_id") == cgroup_id).sort("time")


def test_columns_are_between_what_cat_gives_before_and_after(
    start_tracer: Callable[..., Tracer], new_container: Callable[[], Cgroup]
) -> None:
    container = new_container()
    # More than there are CPUs, so that they wait for each other.
    for _ in range(4):
        container.start(SPIN)
    before = seen_by_cat(container.path)
    tracer = start_tracer("--duration", "5s", "--nri", "off")
    tracer.wait_until_tracing()
    result = tracer.result()
    after = seen_by_cat(container.path)
    container.stop()

    rows = of_cgroup(result, "resources", container.id)
    assert 4 <= rows.height <= 7
    for name, value in before.items():
        assert value <= rows[name].min(), name
        assert rows[name].max() <= after[name], name
        assert rows[name].is_sorted(), name
    assert rows["cpu_usage_usec"][-1] - rows["cpu_usage_usec"][0] > 1_000_000
    assert rows["cpu_pressure_some_total_usec"][-1] > rows["cpu_pressure_some_total_usec"][0]
    assert rows["cgroup_freeze"].unique().to_list() == [0]
    assert rows["container_id"].unique().to_list() == [container.path.name]
    has_memory = (container.path / "memory.current").exists()
    assert rows["memory_current_bytes"].null_count() == (0 if has_memory else rows.height)
    # The rows and the windows are of one clock: what they say of the CPU time in between agrees.
    (first, *_others, last) = rows.select("time", "cpu_usage_usec").rows()
    windows = result.table("windows").filter(
        (pl.col("cgroup_id") == container.id) & pl.col("window_start").is_between(first[0], last[0])
    )
    traced_ns = windows["cpu_time_ns"].sum()
    assert traced_ns == pytest.approx((last[1] - first[1]) * 1000, rel=0.1)
    speeds = rates(rows.lazy(), ["cpu_usage_usec"]).collect()["cpu_usage_usec_per_second"].drop_nulls()
    seconds = rows["time"].diff().drop_nulls().dt.total_nanoseconds() / 1e9
    # The kernel accounts what goes on running a jiffy late, 10 ms at most; the first two rows may be close together.
    assert (speeds * seconds <= len(online_cpus()) * (seconds + 0.01) * 1e6).all()
    assert (speeds.filter(seconds > 0.5) >= 100_000).all()


def test_everything_but_mounts_has_rows_and_the_root_too(
    start_tracer: Callable[..., Tracer], new_container: Callable[[], Cgroup], own_cgroup: Path
) -> None:
    container = new_container()
    inner = Cgroup(container.path / "init")
    unit = Cgroup(own_cgroup / "some.service")
    mount = Cgroup(own_cgroup / "var-lib.mount")
    hostile = Cgroup(own_cgroup / "\x1b[2Jweb.service")
    result = start_tracer("--duration", "3s", "--nri", "off", "--resources-interval", "0.5s").result()
    rows = result.table("resources")
    kinds = dict(rows.select("cgroup_id", "cgroup_kind").unique().iter_rows())
    assert kinds[1] == "other"
    assert kinds[container.id] == "container"
    assert kinds[container.path.parent.stat().st_ino] == "pod"
    assert kinds[unit.id] == kinds[hostile.id] == "unit"
    assert not kinds.keys() & {inner.id, mount.id}
    times = rows.filter(pl.col("cgroup_id") == unit.id)["time"].sort().dt.epoch("ms")
    assert 4 <= len(times) <= 8
    assert times.diff().drop_nulls().median() == pytest.approx(500, abs=100)
    assert result.table("health")["unread_cgroups"].sum() == 0


def test_a_container_that_ends_has_a_last_row_and_no_more(
    start_tracer: Callable[..., Tracer], new_container: Callable[[], Cgroup]
) -> None:
    tracer = start_tracer("--duration", "6s", "--nri", "off", "--resources-interval", "3s")
    tracer.wait_until_tracing()
    container = new_container()
    container.start("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done").wait()
    # As a runtime does it: some time after the last process, which is much less than the interval.
    time.sleep(0.3)
    usage = flat(container.path / "cpu.stat")["usage_usec"]
    container.path.rmdir()
    removed_ns = time.time_ns()
    result = tracer.result()
    rows = of_cgroup(result, "resources", container.id)
    assert rows["cpu_usage_usec"][-1] == usage
    assert usage > 0
    assert rows["time"].dt.epoch("ns").max() <= removed_ns


def test_memory_of_processes_and_of_the_cgroup_they_are_in(
    start_tracer: Callable[..., Tracer], new_container: Callable[[], Cgroup]
) -> None:
    container = new_container()
    sharing = """exec python3 -c '
import mmap, os, time
shared = mmap.mmap(-1, 100 << 20)
os.fork()
shared.write(b"x" * (100 << 20))
time.sleep(1000)'"""
    container.start(sharing)
    time.sleep(1.5)
    tracer = start_tracer("--duration", "10s", "--nri", "off", "--processes", "3s", "--regions")
    tracer.wait_until_tracing()
    result = tracer.result()
    container.stop()

    processes = of_cgroup(result, "processes", container.id)
    assert processes["pid"].n_unique() == 2
    assert processes["pss_shmem_bytes"].is_between(50 << 20, 51 << 20).all()
    assert processes["container_id"].unique().to_list() == [container.path.name]
    assert (processes["start_time"] < processes["time"].min()).all()
    rows = of_cgroup(result, "resources", container.id)
    with_pss = rows.drop_nulls("pss_bytes")
    assert with_pss.height < rows.height
    assert with_pss["processes"].to_list() == [2] * with_pss.height
    # The first pass begins with containers. On a busy machine the budget may end a later one before it is their turn
    # again: the coverage says which sums are of both.
    assert with_pss["pss_coverage"][0] == 1.0
    each_pass = processes.with_columns(number=pl.int_range(pl.len()).over("pid")).group_by("number")
    sums = each_pass.agg(pl.sum("pss_bytes"), coverage=pl.count("pss_bytes") / 2)
    read = with_pss.filter(pl.col("pss_coverage") > 0)
    assert set(read.select("pss_bytes", "pss_coverage").iter_rows()) <= set(
        sums.select("pss_bytes", "coverage").iter_rows()
    )
    regions = of_cgroup(result, "regions", container.id)
    shared = regions.filter((pl.col("kind") == "shared") & (pl.col("size_bytes") >= 100 << 20))
    assert shared["pss_bytes"].is_between(50 << 20, 51 << 20).all()
    assert shared["pid"].n_unique() == 2
    health = result.table("health")
    assert health["process_reads"].sum() >= processes.height
    assert health["process_read_max_ns"].max() > 0


def test_cgroups_that_go_while_they_are_read(own_cgroup: Path) -> None:
    """Files that are open when their cgroup is removed give nothing more; those beside them are not harmed."""
    reader = ResourcesReader(own_cgroup.parent)
    stays = own_cgroup / "stays.service"
    stays.mkdir()
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            for number in range(50):
                (own_cgroup / f"{number}.service").mkdir()
            for number in range(50):
                (own_cgroup / f"{number}.service").rmdir()

    thread = threading.Thread(target=churn)
    thread.start()
    seen: set[int] = set()
    try:
        for _ in range(200):
            cgroups = [read_cgroup(stays)]
            for number in range(50):
                try:
                    cgroups.append(read_cgroup(own_cgroup / f"{number}.service"))
                except FileNotFoundError:
                    continue
            rows = reader.read(cgroups).rows["resources"]
            ids = set(rows["cgroup_id"])
            assert stays.stat().st_ino in ids
            assert ids <= {cgroup.cgroup_id for cgroup in cgroups}
            assert rows["cpu_usage_usec"].null_count() <= rows.height - 1
            seen |= ids
    finally:
        stop.set()
        thread.join()
        reader.close()
    assert len(seen) > 50


def read_cgroup(path: Path) -> Any:
    return ReadCgroup(path.stat().st_ino, f"/{path.parent.name}/{path.name}", "unit", None, False)
