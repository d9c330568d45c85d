# SPDX-License-Identifier: Apache-2.0
"""`tracer demo`: real cgroups that compete, the report that names who is to blame, and nothing left of it."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from live_node import TRACER

from tracer.analysis.recording import open_recording
from tracer.analysis.report import report
from tracer.analysis.wording import in_words
from tracer.cli.closing_report import competes
from tracer.containers.cgroupfs import find_cgroup2_mount
from tracer.demo.scene import HOG, PREFIX, SERVICE, Scene, remove_leftovers
from tracer.errors import NodeUnsupportedError

pytestmark = pytest.mark.root


def tasks_of(cgroups: list[Path]) -> list[str]:
    return [pid for cgroup in cgroups for pid in (cgroup / "cgroup.procs").read_text().split()]


def is_at_work(pid: str) -> bool:
    """Whether it is there, and more than what its parent has not waited for yet (proc_pid_stat(5))."""
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def read_all(terminal: int, until: str = "\0") -> str:
    """What is written to a terminal, until it says something or is closed."""
    said = ""
    while until not in said:
        try:
            said += os.read(terminal, 65_536).decode()
        except OSError:
            break
    return said


def test_the_report_names_the_hog_and_nothing_is_left(tmp_path: Path) -> None:
    output = tmp_path / "results"
    controller, terminal = pty.openpty()
    demo = subprocess.Popen(
        [sys.executable, *TRACER, "demo", "--duration", "60s", "--output", output],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
    )
    os.close(terminal)
    said = read_all(controller, "Ctrl-C to stop")
    time.sleep(3)
    (service,) = find_cgroup2_mount().glob(f"{PREFIX}*/{SERVICE}")
    assert tasks_of([service])
    demo.send_signal(signal.SIGINT)
    said += read_all(controller)
    os.close(controller)
    found, _errors = demo.communicate()
    assert demo.returncode == 0, said
    assert not service.parent.exists()
    assert found.startswith(f"{SERVICE} ")
    # On the terminal, one line that is written over and gone at the end.
    live = [part for part in said.split("\r") if "records, none lost  busiest demo-" in part]
    assert live
    assert "% of a CPU" in live[-1]
    assert "demo-service itself has measured" in said
    assert f"report --html demo.html {output}" in said
    windows = pl.read_parquet(output / "windows/**/*.parquet", hive_partitioning=False)
    kinds = dict(windows.select("container_id", "cgroup_kind").unique().iter_rows())
    assert kinds[SERVICE] == kinds[HOG] == "container"
    # Whoever held the CPU most is named first: that is the hog, unless others use this CPU more.
    recording = open_recording([output], container=SERVICE)
    assert recording.notes == []
    (spent,) = report(recording).time_spent
    behind = {one.container.name: one.wait_ns for one in spent.holders if one.container is not None}
    assert f"behind {in_words(max(behind, key=behind.__getitem__))}" in " ".join(
        " ".join(found.splitlines()[:3]).split()
    )
    waits = pl.read_parquet(output / "waits/**/*.parquet", hive_partitioning=False)
    waits = waits.filter(pl.col("container_id") == SERVICE, pl.col("holder_container_id") == HOG)
    # The hog wants half of the CPU, the service a tenth.
    assert (
        waits["wait_time_ns"].sum() > 0.01 * windows.filter(pl.col("container_id") == SERVICE)["cpu_time_ns"].sum() > 0
    )


def test_a_run_can_end_with_its_report(tmp_path: Path) -> None:
    command = ["run", "-d", "1s", "-o", tmp_path, "--report"]
    done = subprocess.run(
        [sys.executable, *TRACER, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
    assert f"node {os.uname().nodename}" in done.stdout
    # In a container that is traced something may compete just then. If not, that comes last, also through a pipe.
    recording = open_recording([tmp_path])
    assert recording.notes == []
    assert competes(report(recording)) != done.stdout.endswith("\ntracer: next: tracer demo\n")


def test_what_a_killed_demo_leaves_is_removed_by_the_next() -> None:
    root = find_cgroup2_mount()
    code = (
        "import sys, time; from pathlib import Path; from tracer.demo.scene import Scene\n"
        "scene = Scene(Path(sys.argv[1]), 60); scene.prepare(); scene.begin(); print(scene._top, flush=True)\n"
        "time.sleep(60)"
    )
    killed = subprocess.Popen([sys.executable, "-c", code, root], stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    left = Path(killed.stdout.readline().strip())
    alive = Scene(root, 60)
    try:
        alive.prepare()
        # The one lives, and the other too.
        assert remove_leftovers(root) == []
        pids = tasks_of([left / SERVICE, left / HOG])
        assert len(pids) >= 2
        killed.kill()
        killed.communicate()
        assert remove_leftovers(root) == [left.name]
        assert not left.exists()
        assert not any(is_at_work(pid) for pid in pids)
    finally:
        alive.end()
    assert not list(root.glob(f"{PREFIX}*/{SERVICE}"))


def test_a_signal_before_anything_is_traced_leaves_nothing() -> None:
    root = find_cgroup2_mount()
    demo = subprocess.Popen([sys.executable, *TRACER, "demo"], stderr=subprocess.PIPE, text=True)
    while not list(root.glob(f"{PREFIX}*/{HOG}")):
        assert demo.poll() is None
        time.sleep(0.01)
    demo.send_signal(signal.SIGTERM)
    _out, errors = demo.communicate()
    assert demo.returncode == -signal.SIGTERM
    assert "SIGTERM came before anything was traced" in errors
    assert not list(root.glob(f"{PREFIX}*"))


def test_a_tree_that_cannot_be_written_to_is_one_line(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "nowhere", 1)
    with pytest.raises(
        NodeUnsupportedError, match=r"cannot make the demo's cgroups: .*No such file or directory; run it as root"
    ):
        scene.prepare()
    scene.end()
