# SPDX-License-Identifier: Apache-2.0
"""What a run may do while it goes on, as the kernel shows it of each thread, and that it does its work all the same."""

import os
import pwd
import socket
import stat
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest
from live_node import SPIN, TRACER, Cgroup, Tracer

from tracer.kernel.capabilities import Capabilities, in_thread, permitted
from tracer.preflight.rights import Circumstances, kernel_circumstances, needed_to_the_end

pytestmark = pytest.mark.root

NOBODY = 65534
ROOT = Path(__file__).parents[2]
# Threads that libraries start when they are imported have less: nothing.
LIBRARY_THREADS = ("jemalloc_bg_thd", "polars-ooc-clea")
WITH_TWO = (
    "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all,+bpf,+perfmon",
    "--ambient-caps=-all,+bpf,+perfmon", "--bounding-set=-all,+bpf,+perfmon",
)  # fmt: skip


class Thread(NamedTuple):
    """What `/proc/<pid>/task/<tid>/status` says (proc_pid_status(5)). sets: permitted, effective and bounding."""

    uids: set[int]
    sets: set[int]
    inherited: set[int]
    no_new_privileges: bool


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that all users may reach and write to, unlike those of pytest."""
    with tempfile.TemporaryDirectory(prefix="tracer-test-") as name:
        Path(name).chmod(0o1777)
        yield Path(name)


@pytest.fixture(scope="module")
def nobodys_program() -> Iterator[Path]:
    """A copy of what is tested here: the checkout may lie where only root can look, and keep what is compiled there."""
    with tempfile.TemporaryDirectory(prefix="tracer-test-") as name:
        # With their times, by which it is known whether what was compiled is of the same source.
        subprocess.run(["cp", "-a", ROOT / "tracer", ROOT / "bpf_programs", "-t", name], check=True)
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", name], check=True)
        yield Path(name)


def threads_of(pid: int) -> tuple[list[Thread], list[Thread]]:
    """Those of the tracer, and those that are its libraries'."""
    own, of_libraries = [], []
    for task in Path(f"/proc/{pid}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        status = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
        thread = Thread(
            uids={int(uid) for uid in status["Uid"]},
            sets={int(status[name][0], 16) for name in ("CapPrm", "CapEff", "CapBnd")},
            inherited={int(status[name][0], 16) for name in ("CapInh", "CapAmb")},
            no_new_privileges=status["NoNewPrivs"] == ["1"],
        )
        (of_libraries if status["Name"][0] in LIBRARY_THREADS else own).append(thread)
    return own, of_libraries


def expected(of: Circumstances) -> int:
    return int(needed_to_the_end(kernel_circumstances(of)) & permitted())


def assert_rights(tracer: Tracer, kept: int, uid: int) -> None:
    own, of_libraries = threads_of(tracer.process.pid)
    assert len(own) > 5
    assert {thread.no_new_privileges for thread in own + of_libraries} == {True}
    assert set.union(*(thread.uids for thread in own + of_libraries)) == {uid}
    assert set.union(*(thread.inherited for thread in own + of_libraries)) == {0}
    assert set.union(*(thread.sets for thread in own)) == {kept}
    assert set.union(set(), *(thread.sets for thread in of_libraries)) <= {0}


def modes_and_owners(output: Path) -> tuple[set[str], set[tuple[int, int]]]:
    """Of all that a run left: modes as `ls` shows them, and users with their groups."""
    found = [path.stat() for path in (output, *output.rglob("*"))]
    return {stat.filemode(one.st_mode) for one in found}, {(one.st_uid, one.st_gid) for one in found}


@pytest.mark.core
def test_a_run_of_root_keeps_what_its_options_need(
    start_tracer: Callable[..., Tracer], new_container: Callable[[], Cgroup], tmp_path: Path
):
    container = new_container()
    container.start(SPIN)
    before = os.umask(0)
    try:
        tracer = start_tracer("--duration", "3s", "--event", "cycles=software:cpu-clock")
    finally:
        os.umask(before)
    tracer.wait_until_tracing()
    assert_rights(tracer, expected(Circumstances(nri=True)), uid=0)
    result = tracer.result()
    assert result.manifest.totals.records_lost == 0
    windows = result.table("windows").filter(pl.col("cgroup_id") == container.id)
    assert windows["cycles"].sum() > 0
    assert windows["container_id"].null_count() == 0
    modes, owners = modes_and_owners(tmp_path / "results")
    assert (modes, owners) == ({"drwxr-x---", "-rw-r-----"}, {(0, os.getegid())})


def test_results_belong_to_the_user_that_a_run_turns_into(
    start_tracer: Callable[..., Tracer],
    new_container: Callable[[], Cgroup],
    open_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    nobodys_program: Path,
):
    container = new_container()
    container.start(SPIN)
    nobody = pwd.getpwuid(NOBODY)
    output = open_directory / "new" / "results"
    # Port 1: root's to listen on.
    options = (
        "--user",
        nobody.pw_name,
        "--mode",
        "644",
        "--processes",
        "1s",
        "--nri",
        "off",
        "--metrics",
        "127.0.0.9:1",
        "--ingest",
        str(open_directory / "ingest.sock"),
    )
    monkeypatch.setenv("PYTHONPATH", str(nobodys_program))
    monkeypatch.chdir(open_directory)
    tracer = start_tracer("--duration", "3s", *options, output=output)
    tracer.wait_until_tracing()
    assert_rights(tracer, expected(Circumstances(processes=True)), uid=NOBODY)
    with urllib.request.urlopen("http://127.0.0.9:1/metrics", timeout=60) as metrics:
        assert b"\ntracer_own_cpu_seconds_total " in metrics.read()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as application:
        application.sendto(b"http.request:5|ms", str(open_directory / "ingest.sock"))
        # Its sender is asked for as long as it is there.
        result = tracer.result()
    assert not list(open_directory.glob("ingest.sock*"))
    # Of a process of root's, too, which takes no right.
    external = result.table("external")
    assert external.select("sender_by", "value").rows() == [("credentials", 5.0)]
    assert external["cgroup_id"].null_count() == 0
    assert modes_and_owners(output) == ({"drwxr-xr-x", "-rw-r--r--"}, {(NOBODY, nobody.pw_gid)})
    # Of root's processes too.
    processes = result.table("processes").filter(pl.col("cgroup_id") == container.id)
    assert processes["pss_bytes"].drop_nulls().len()
    resources = result.table("resources").filter(pl.col("cgroup_id") == container.id)
    assert resources["pss_bytes"].drop_nulls().len()
    for table in ("windows", "waits", "lifecycle"):
        assert result.table(table).height


def test_two_capabilities_are_enough(open_directory: Path, nobodys_program: Path):
    output = open_directory / "results"
    environment = {**os.environ, "PYTHONPATH": str(nobodys_program), "HOME": "/nonexistent"}
    run = ("run", "--duration", "2s", "--output", str(output), "--processes", "1s")
    command = [*WITH_TWO, sys.executable, *TRACER, *run]
    finished = subprocess.run(command, cwd=open_directory, env=environment, stderr=subprocess.PIPE, text=True)
    assert finished.returncode == 0, finished.stderr
    assert "none lost" in finished.stderr
    notes = next(output.glob("runs/*/session.json")).read_text()
    assert "without CAP_SYS_PTRACE, which reads the memory of each process (--processes)" in notes
    assert modes_and_owners(output)[1] == {(NOBODY, NOBODY)}
    windows = pl.read_parquet(output / "windows/**/*.parquet", hive_partitioning=False)
    assert windows["cgroup_path"].drop_nulls().len()
    assert windows["wait_behind_others_ns"].drop_nulls().len()


def test_a_user_that_may_not_write_the_output_is_said_before_anything_starts(
    start_tracer: Callable[..., Tracer], open_directory: Path
):
    (open_directory / "roots").mkdir(mode=0o755)
    tracer = start_tracer("--user", str(NOBODY), output=open_directory / "roots")
    assert tracer.end() == 4
    assert tracer.said == (
        f"tracer: error: cannot write to the output '{open_directory / 'roots'}': Permission denied; "
        "choose another --output\n"
    )
    assert not list((open_directory / "roots").iterdir())


def test_only_root_turns_into_others(tmp_path: Path):
    def call() -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, *TRACER, "run", "--user", f"{NOBODY}:{NOBODY}", "--duration", "1s"]
        return subprocess.run(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)

    finished = in_thread(Capabilities.BPF | Capabilities.PERFMON, call)
    assert (finished.returncode, finished.stderr) == (
        2,
        "tracer: error: --user needs root, or CAP_SETUID and CAP_SETGID\n",
    )
    assert not list(tmp_path.iterdir())
