# SPDX-License-Identifier: Apache-2.0
"""The stand-in for the kernel's resctrl answers as the kernel does; what the other tests find rests on this."""

import errno
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from resctrl_file_system import FakeResctrl
from resctrl_model import LOCAL, OCCUPANCY, TOTAL, Machine

pytestmark = pytest.mark.root


@pytest.fixture
def resctrl(tmp_path: Path) -> Iterator[FakeResctrl]:
    with FakeResctrl(tmp_path, Machine(num_rmids=4, num_closids=2, domains={0: [], 8: []})) as mounted:
        yield mounted


@pytest.fixture
def sleeper() -> Iterator[int]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process.pid
        process.kill()


def code(call: Callable[[], object]) -> str | None:
    """The name of the error with which a call fails."""
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return None


def value(directory: Path, domain: str, event: str) -> str:
    return (directory / "mon_data" / domain / event).read_text()


def test_the_files_are_where_the_kernel_has_them(resctrl: FakeResctrl) -> None:
    root = resctrl.root
    assert (root / "info/L3_MON/num_rmids").read_text() == "4\n"
    assert (root / "info/L3_MON/mon_features").read_text() == f"{OCCUPANCY}\n{TOTAL}\n{LOCAL}\n"
    assert sorted(entry.name for entry in (root / "mon_data").iterdir()) == ["mon_L3_00", "mon_L3_08"]
    assert value(root, "mon_L3_08", TOTAL) == "0\n"
    assert os.getpid() in resctrl.tasks("/")


def test_groups_end_with_the_rmids(resctrl: FakeResctrl) -> None:
    groups = resctrl.root / "mon_groups"
    for name in ("a", "b", "c"):
        (groups / name).mkdir()
    assert code((groups / "d").mkdir) == "ENOSPC"
    assert (resctrl.root / "info/last_cmd_status").read_text() == "Out of RMIDs\n"
    assert code((groups / "a").mkdir) == "EEXIST"


def test_an_rmid_is_not_free_before_it_left_limbo(resctrl: FakeResctrl) -> None:
    groups = resctrl.root / "mon_groups"
    for name in ("a", "b", "c"):
        (groups / name).mkdir()
    (groups / "a").rmdir()
    assert code((groups / "d").mkdir) == "EBUSY"
    resctrl.release_limbo()
    (groups / "d").mkdir()


def test_groups_cannot_be_made_or_removed_elsewhere(resctrl: FakeResctrl) -> None:
    root = resctrl.root
    (root / "mon_groups/a").mkdir()
    assert code((root / "mon_groups/a/b").mkdir) == "EPERM"
    assert code((root / "mon_groups/mon_groups").mkdir) == "EPERM"
    assert code((root / "info/a").mkdir) == "EPERM"
    assert code((root / "mon_groups/a\nb").mkdir) == "EINVAL"
    assert code((root / "mon_data").rmdir) == "EPERM"
    (root / "control").mkdir()
    assert code((root / "control2").mkdir) == "ENOSPC"


def test_what_is_no_thread_here_or_is_elsewhere_cannot_be_moved(resctrl: FakeResctrl, sleeper: int) -> None:
    (resctrl.root / "mon_groups/a").mkdir()
    (resctrl.root / "control").mkdir()
    assert code(lambda: resctrl.move("/mon_groups/a", 2**22 + 1)) == "ESRCH"
    assert code(lambda: resctrl.move("/mon_groups/a", -1)) == "EINVAL"
    resctrl.move("/control", sleeper)
    assert code(lambda: resctrl.move("/mon_groups/a", sleeper)) == "EINVAL"
    assert (resctrl.proc / str(sleeper) / "cpu_resctrl_groups").read_text() == "res:control\nmon:\n"


def test_a_removed_groups_threads_go_to_the_group_above(resctrl: FakeResctrl, sleeper: int) -> None:
    (resctrl.root / "control").mkdir()
    (resctrl.root / "control/mon_groups/a").mkdir()
    resctrl.move("/control", sleeper)
    resctrl.move("/control/mon_groups/a", sleeper)
    assert sleeper in resctrl.tasks("/control/mon_groups/a")
    assert sleeper in resctrl.tasks("/control")
    (resctrl.root / "control/mon_groups/a").rmdir()
    assert sleeper in resctrl.tasks("/control")
    (resctrl.root / "control").rmdir()
    assert sleeper in resctrl.tasks("/")


def test_zero_is_the_thread_that_writes(resctrl: FakeResctrl) -> None:
    (resctrl.root / "mon_groups/a").mkdir()
    resctrl.move("/mon_groups/a", 0)
    assert resctrl.tasks("/mon_groups/a") == {threading.get_native_id()}


def test_children_of_a_thread_are_in_its_group(resctrl: FakeResctrl) -> None:
    (resctrl.root / "mon_groups/a").mkdir()
    go = "read go; sleep 600 & echo $!; wait"
    with subprocess.Popen(["/bin/sh", "-c", go], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        resctrl.move("/mon_groups/a", shell.pid)
        resctrl.tasks("/")
        shell.stdin.write("go\n")
        shell.stdin.flush()
        child = int(shell.stdout.readline())
        assert resctrl.tasks("/mon_groups/a") == {shell.pid, child}
        os.kill(child, 9)


def test_a_control_groups_counters_hold_those_of_its_monitoring_groups(resctrl: FakeResctrl) -> None:
    (resctrl.root / "mon_groups/a").mkdir()
    resctrl.count("/", 0, TOTAL, 5)
    resctrl.count("/mon_groups/a", 0, TOTAL, 7)
    assert value(resctrl.root, "mon_L3_00", TOTAL) == "12\n"
    assert value(resctrl.root / "mon_groups/a", "mon_L3_00", TOTAL) == "7\n"
    assert value(resctrl.root / "mon_groups/a", "mon_L3_08", TOTAL) == "0\n"


def test_a_domain_under_sub_numa_clustering_is_the_sum_of_its_nodes(tmp_path: Path) -> None:
    with FakeResctrl(tmp_path, Machine(domains={0: [0, 1], 1: [2, 3]})) as resctrl:
        resctrl.count("/", 0, OCCUPANCY, 100, node=0)
        resctrl.count("/", 0, OCCUPANCY, 11, node=1)
        assert value(resctrl.root, "mon_L3_00", OCCUPANCY) == "111\n"
        assert value(resctrl.root, "mon_L3_00/mon_sub_L3_01", OCCUPANCY) == "11\n"
        assert code(lambda: value(resctrl.root, "mon_L3_00/mon_sub_L3_02", OCCUPANCY)) == "ENOENT"


def test_a_directory_held_open_is_not_that_of_a_group_made_anew(resctrl: FakeResctrl) -> None:
    group = resctrl.root / "mon_groups/a"
    group.mkdir()
    descriptor = os.open(group, os.O_RDONLY)
    try:
        group.rmdir()
        group.mkdir()
        assert code(lambda: os.stat("mon_data", dir_fd=descriptor)) == "ENOENT"
    finally:
        os.close(descriptor)
