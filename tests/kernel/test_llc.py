# SPDX-License-Identifier: Apache-2.0
"""A whole run with resctrl: rows, lifecycle and notes; the tracer as a process, resctrl as the stand-in."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from live_node import SPIN, Cgroup, Tracer
from resctrl_file_system import FakeResctrl
from resctrl_model import OCCUPANCY, TOTAL, Machine

from tracer.readers.resctrl.ownership import is_of_container
from tracer.readers.resctrl.placing import RESERVED_RMIDS

pytestmark = pytest.mark.root

# This kernel need not say in /proc which groups a thread is in: there is a stand-in for that, too.
TRACER = """
import sys
from pathlib import Path
from tracer.cli.main import main
from tracer.readers.resctrl.file_system import ResctrlFileSystem
begin, proc = ResctrlFileSystem.__init__, Path(sys.argv[1])
ResctrlFileSystem.__init__ = lambda self, root, _proc: begin(self, root, proc)
sys.argv = ["tracer", *sys.argv[2:]]
sys.exit(main())
"""
PATIENCE_SECONDS = 60


@pytest.fixture
def resctrl(tmp_path: Path) -> Iterator[FakeResctrl]:
    top = tmp_path / "mount"
    top.mkdir()
    with FakeResctrl(top, Machine(num_rmids=RESERVED_RMIDS + 3, domains={0: [], 8: []})) as mounted:
        yield mounted


@pytest.fixture
def trace(resctrl: FakeResctrl, tmp_path: Path) -> Iterator[Callable[..., Tracer]]:
    started: list[Tracer] = []

    def start(*options: str) -> Tracer:
        resctrl_options = ("--resctrl", str(resctrl.root), "--nri", "off")
        tracer = Tracer(tmp_path / "results", *resctrl_options, *options, program=("-c", TRACER, str(resctrl.proc)))
        started.append(tracer)
        tracer.wait_until_tracing()
        return tracer

    yield start
    for tracer in started:
        if tracer.process.poll() is None:
            tracer.process.kill()
        tracer.process.communicate()


def group_of(resctrl: FakeResctrl, container: Cgroup) -> str:
    """The group that the tracer made for a container, once it has."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        for group in resctrl.groups():
            if is_of_container(Path(group).name, container.path.name):
                return group
        time.sleep(0.01)
    raise AssertionError("the tracer made no group")


def test_rows_of_containers_and_what_became_of_those_without_a_group(
    resctrl: FakeResctrl, trace: Callable[..., Tracer], new_container: Callable[[], Cgroup]
) -> None:
    before, after, without = new_container(), new_container(), new_container()
    before.start("exec sleep 600")
    tracer = trace()
    group_of(resctrl, before)
    after.start("exec sleep 600")
    group = group_of(resctrl, after)
    resctrl.count(group, 8, TOTAL, 64_000)
    resctrl.count(group, 8, OCCUPANCY, 4096)
    without.start("exec sleep 600")
    time.sleep(3)
    tracer.process.terminate()
    result = tracer.result()

    assert resctrl.groups() == set()
    llc = result.table("llc")
    assert set(llc["cgroup_id"]) == {before.id, after.id}
    assert set(llc["l3_id"]) == {0, 8}
    rows = llc.filter(cgroup_id=after.id, l3_id=8)
    assert rows["mbm_total_bytes"].sum() == 64_000
    assert rows["llc_occupancy_bytes"].max() == 4096
    assert set(rows["container_id"]) == {after.path.name}
    assert set(rows["resctrl_group"]) == {group}
    # One time axis: the rows begin within the windows of the run.
    windows = result.table("windows")
    assert windows["window_start"].min() <= llc["time"].min()
    assert llc["time"].min() <= windows["window_start"].max()
    lifecycle = result.table("lifecycle")
    told = lifecycle.filter(pl.col("event").str.starts_with("llc_")).select("cgroup_id", "event", "source")
    assert told.rows() == [(without.id, "llc_unmonitored", "resctrl")]
    assert any("some containers have no rows in llc" in note for note in result.manifest.notes)


def test_one_container_on_one_time_axis(trace: Callable[..., Tracer], new_container: Callable[[], Cgroup]) -> None:
    container = new_container()
    container.start(SPIN)
    tracer = trace()
    time.sleep(5)
    tracer.process.terminate()
    result = tracer.result()

    identity = ["node_name", "cgroup_id", "cgroup_kind", "cgroup_path", "container_id", "pod_uid", "qos_class"]

    def of_container(table: str, time_column: str) -> pl.DataFrame:
        rows = result.table(table).filter(cgroup_id=container.id)
        return rows.rename({time_column: "time"}).sort("time")

    windows = of_container("windows", "window_start")
    resources = of_container("resources", "time").select("time", *identity, "cpu_usage_usec")
    llc = of_container("llc", "time").filter(l3_id=0).select("time", "mbm_total_bytes", "llc_occupancy_bytes")
    joined = resources.join_asof(llc, on="time", strategy="nearest", tolerance="1500ms")
    assert joined.height >= 4
    assert joined["llc_occupancy_bytes"].null_count() <= 1
    assert resources.select(identity).unique().equals(windows.select(identity).unique())
    # Between two readings of the kernel's files, the windows say the same of the same time; a window is 60 ms.
    first, last = joined.row(0, named=True), joined.row(-1, named=True)
    between = windows.filter(pl.col("time").is_between(first["time"], last["time"], closed="left"))
    used_ns = (last["cpu_usage_usec"] - first["cpu_usage_usec"]) * 1000
    assert abs(between["cpu_time_ns"].sum() - used_ns) < 0.05 * used_ns + 2 * 60_000_000


def test_after_a_kill_the_next_run_removes_the_groups(
    resctrl: FakeResctrl, trace: Callable[..., Tracer], new_container: Callable[[], Cgroup]
) -> None:
    container = new_container()
    container.start("exec sleep 600")
    killed = trace()
    left = group_of(resctrl, container)
    killed.process.kill()
    killed.process.wait()
    assert resctrl.groups() == {left}
    tracer = trace()
    assert group_of(resctrl, container) != left
    assert left not in resctrl.groups()
    tracer.process.terminate()
    assert tracer.end() == 0
    assert resctrl.groups() == set()


def test_without_resctrl_a_run_says_why_there_are_no_rows(start_tracer: Callable[..., Tracer]) -> None:
    result = start_tracer("--duration", "1s", "--nri", "off", "--resctrl", "/nowhere").result()
    assert any("llc has no rows: resctrl at /nowhere cannot monitor" in note for note in result.manifest.notes)
    assert not (result.output / "llc").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--resctrl", "somewhere"), "--resctrl must be auto, off or the absolute path"),
        (("--resctrl", "off", "--resctrl-mount"), "--resctrl-mount needs --resctrl auto"),
    ],
)
def test_options_that_cannot_be_are_mistakes(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    command = [sys.executable, "-m", "tracer.cli.main", "run", "--output", str(tmp_path / "results"), *options]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert said in result.stderr
