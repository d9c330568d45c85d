# SPDX-License-Identifier: Apache-2.0
"""On real processes, which the files of a made-up cgroup tree list."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tracer.readers.processes import ProcessesReader
from tracer.readers.protocol import Cgroup, Observation
from tracer.readers.pss import PssSums

MIB = 1 << 20
# Two processes with 100 MiB that they share and 30 MiB that each has for itself.
_SHARERS = """
import mmap, os, sys, time
shared = mmap.mmap(-1, 100 << 20)
child = os.fork()
shared.write(b"x" * (100 << 20))
own = mmap.mmap(-1, 30 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
own.write(b"y" * (30 << 20))
# At once: print may write the number and the end of its line apart.
os.write(1, b"%d\\n" % os.getpid())
sys.stdin.read()
"""


@pytest.fixture
def sharers() -> Iterator[list[int]]:
    process = subprocess.Popen([sys.executable, "-c", _SHARERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    yield [int(process.stdout.readline()) for _ in range(2)]
    process.communicate()


@pytest.fixture
def sleepers() -> Iterator[list[int]]:
    processes = [subprocess.Popen(["sleep", "1000"]) for _ in range(6)]
    # Until each is the program itself.
    for process in processes:
        while Path(f"/proc/{process.pid}/comm").read_text() != "sleep\n":
            time.sleep(0.01)
    yield sorted(process.pid for process in processes)
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def new_cgroup(tmp_path: Path) -> Callable[..., Cgroup]:
    def make(path: str, pids: Sequence[int] = (), kind: str = "container", *, is_inner: bool = False) -> Cgroup:
        directory = tmp_path / path.lstrip("/")
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
        return Cgroup(directory.stat().st_ino, path, kind, None, is_inner)

    return make


def new_reader(root: Path, sums: PssSums | None = None, **options: Any) -> ProcessesReader:
    defaults = {"largest_bytes": 4096 * MIB, "budget_ns": 10**9, "with_regions": False}
    return ProcessesReader(root, sums or PssSums(), **(defaults | options))


def read_pids(observation: Observation) -> list[int]:
    rows = observation.rows["processes"]
    return rows.filter(pl.col("pss_bytes").is_not_null())["pid"].to_list()


def test_memory_that_two_share_is_half_of_each(
    sharers: list[int], new_cgroup: Callable[..., Cgroup], tmp_path: Path
) -> None:
    sums = PssSums()
    cgroup = new_cgroup("/a", sharers)
    rows = new_reader(tmp_path, sums).read([cgroup]).rows["processes"]
    assert sorted(rows["pid"].to_list()) == sorted(sharers)
    for row in rows.to_dicts():
        assert row["rss_bytes"] > 130 * MIB
        assert 80 * MIB <= row["pss_bytes"] < 90 * MIB
        assert 30 * MIB <= row["uss_bytes"] < 40 * MIB
        assert 50 * MIB <= row["pss_shmem_bytes"] < 51 * MIB
        assert row["comm"].startswith("python")
        assert row["read_time_ns"] > 0
    taken = sums.take()
    assert taken is not None
    assert taken.rows() == [(cgroup.cgroup_id, 2, rows["pss_bytes"].sum(), 1.0)]
    assert sums.take() is None


def test_regions_say_what_memory_is_mapped_from(
    sharers: list[int], new_cgroup: Callable[..., Cgroup], tmp_path: Path
) -> None:
    found = new_reader(tmp_path, with_regions=True).read([new_cgroup("/a", sharers)])
    regions = found.rows["regions"]
    shared = regions.filter((pl.col("kind") == "shared") & (pl.col("size_bytes") >= 100 * MIB))
    assert sorted(shared["pid"].to_list()) == sorted(sharers)
    assert shared["pss_bytes"].is_between(50 * MIB, 51 * MIB).all()
    assert regions.filter(pl.col("path").str.contains("libc"))["pid"].n_unique() == 2
    by_pid = regions.group_by("pid").agg(pl.sum("pss_bytes")).join(found.rows["processes"], on="pid")
    # Each mapping's share is cut to whole KB.
    assert by_pid["pss_bytes"].to_list() == pytest.approx(by_pid["pss_bytes_right"].to_list(), rel=0.02)


def test_sums_hold_all_that_is_below(sleepers: list[int], new_cgroup: Callable[..., Cgroup], tmp_path: Path) -> None:
    cgroups = [
        new_cgroup("/", [], "other"),
        new_cgroup("/pod", [], "pod"),
        new_cgroup("/pod/a", sleepers[:1]),
        new_cgroup("/pod/a/init", sleepers[1:3], is_inner=True),
        new_cgroup("/pod/b", sleepers[3:]),
        new_cgroup("/empty", [], "unit"),
    ]
    sums = PssSums()
    rows = new_reader(tmp_path, sums).read(cgroups).rows["processes"]
    pss = dict(rows.select("pid", "pss_bytes").iter_rows())
    taken = sums.take()
    assert taken is not None
    of = {row["cgroup_id"]: row for row in taken.to_dicts()}
    root, pod, a, inner, b, empty = (of.get(cgroup.cgroup_id) for cgroup in cgroups)
    assert inner is None
    assert a is not None
    assert (a["processes"], a["pss_bytes"]) == (3, sum(pss[pid] for pid in sleepers[:3]))
    assert b is not None
    assert (b["processes"], b["pss_bytes"]) == (3, sum(pss[pid] for pid in sleepers[3:]))
    for whole in (root, pod):
        assert whole is not None
        assert (whole["processes"], whole["pss_bytes"], whole["pss_coverage"]) == (6, sum(pss.values()), 1.0)
    assert empty is not None
    assert (empty["processes"], empty["pss_bytes"], empty["pss_coverage"]) == (0, 0, None)


def test_large_processes_are_left_alone_and_counted(
    sharers: list[int], sleepers: list[int], new_cgroup: Callable[..., Cgroup], tmp_path: Path
) -> None:
    sums = PssSums()
    found = new_reader(tmp_path, sums, largest_bytes=50 * MIB).read([new_cgroup("/a", [*sharers, *sleepers])])
    assert found.health["processes_too_large"] == 2
    assert sorted(read_pids(found)) == sleepers
    large = found.rows["processes"].filter(pl.col("pid").is_in(sharers))
    assert large["rss_bytes"].min() > 50 * MIB
    assert large["cpu_user_ns"].null_count() == 0
    taken = sums.take()
    assert taken is not None
    assert taken["pss_coverage"].to_list() == pytest.approx([6 / 8])


def test_nothing_read_is_not_zero(sleepers: list[int], new_cgroup: Callable[..., Cgroup], tmp_path: Path) -> None:
    sums = PssSums()
    new_reader(tmp_path, sums, largest_bytes=0).read([new_cgroup("/a", sleepers)])
    taken = sums.take()
    assert taken is not None
    assert taken["pss_bytes"].to_list() == [None]
    assert taken["pss_coverage"].to_list() == [0.0]


def test_the_budget_ends_a_pass_and_the_next_goes_on(
    sleepers: list[int], new_cgroup: Callable[..., Cgroup], tmp_path: Path
) -> None:
    cgroup = new_cgroup("/a", sleepers)
    # The first read uses up a nanosecond.
    reader = new_reader(tmp_path, budget_ns=1)
    read = []
    for _ in range(2 * len(sleepers)):
        found = reader.read([cgroup])
        assert found.health["process_reads"] == 1
        assert found.health["processes_put_off"] == len(sleepers) - 1
        assert found.rows["processes"].height == len(sleepers)
        read += read_pids(found)
    # Each once before any twice.
    assert sorted(read[: len(sleepers)]) == sorted(read[len(sleepers) :]) == sleepers


def test_containers_are_read_before_the_host(
    sleepers: list[int], new_cgroup: Callable[..., Cgroup], tmp_path: Path
) -> None:
    cgroups = [
        new_cgroup("/", sleepers[:2], "other"),
        new_cgroup("/some.service", sleepers[2:3], "unit"),
        new_cgroup("/pod/a", sleepers[3:4]),
        new_cgroup("/pod/a/init", sleepers[4:5], is_inner=True),
        new_cgroup("/pod/monitor", sleepers[5:], "monitor"),
    ]
    reader = new_reader(tmp_path, budget_ns=1)
    read = [read_pids(reader.read(cgroups)) for _ in sleepers]
    assert sorted(read[:3]) == [[pid] for pid in sleepers[3:]]
    assert sorted(read[3:]) == [[pid] for pid in sleepers[:3]]


def test_a_process_that_comes_between_two_passes_has_its_turn(
    sleepers: list[int], new_cgroup: Callable[..., Cgroup], tmp_path: Path
) -> None:
    reader = new_reader(tmp_path, budget_ns=1)
    host = new_cgroup("/", sleepers[:5], "other")
    assert read_pids(reader.read([host])) != []
    assert read_pids(reader.read([host, new_cgroup("/a", sleepers[5:])])) == sleepers[5:]


def test_processes_that_are_gone_hidden_or_without_memory(
    sleepers: list[int], new_cgroup: Callable[..., Cgroup], tmp_path: Path
) -> None:
    zombie = subprocess.Popen(["true"])
    while " Z " not in Path(f"/proc/{zombie.pid}/stat").read_text():
        time.sleep(0.01)
    kernel_thread = 2
    sums = PssSums()
    cgroup = new_cgroup("/a", [0, 0, kernel_thread, zombie.pid, 2**22 + 1, *sleepers])
    found = new_reader(tmp_path, sums).read([cgroup])
    zombie.wait()
    assert sorted(found.rows["processes"]["pid"].to_list()) == sleepers
    taken = sums.take()
    assert taken is not None
    assert taken["processes"].to_list() == [8]
    assert taken["pss_coverage"].to_list() == pytest.approx([6 / 8])


def test_cgroups_that_cannot_be_read_are_left_out(new_cgroup: Callable[..., Cgroup], tmp_path: Path) -> None:
    threaded = new_cgroup("/threaded")
    (tmp_path / "threaded" / "cgroup.procs").unlink()
    broken = new_cgroup("/broken")
    (tmp_path / "broken" / "cgroup.procs").write_text("not a number\n")
    gone = Cgroup(1, "/gone", "container", None, False)
    found = new_reader(tmp_path, with_regions=True).read([threaded, broken, gone])
    assert found.rows["processes"].is_empty()
    assert found.rows["regions"].is_empty()


def test_a_process_has_the_same_start_in_every_pass(
    sleepers: list[int], new_cgroup: Callable[..., Cgroup], tmp_path: Path
) -> None:
    cgroup = new_cgroup("/a", sleepers)
    reader = new_reader(tmp_path)
    first, second = (reader.read([cgroup]).rows["processes"] for _ in range(2))
    assert first["start_time"].equals(second["start_time"])
    assert (first["monotonic_ns"] - first["start_time"]).min() >= 0
