# SPDX-License-Identifier: Apache-2.0
"""Cgroups of the real tree as the kernel's tracepoints tell of them."""

import mmap
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_node import Cgroup

from tracer.cgroup_event import CgroupEvent
from tracer.containers.cgroupfs import find_cgroup2_mount
from tracer.kernel.cgroup_events import PATH_BYTES, CgroupEvents

pytestmark = pytest.mark.root

PATIENCE_SECONDS = 10

# Starts and makes a cgroup in argv[1]; prints what is told of it, or the message of the refusal.
WATCH_ONE = """
import sys
from pathlib import Path
from tracer.errors import NodeUnsupportedError
from tracer.kernel.cgroup_events import CgroupEvents
try:
    with CgroupEvents() as events:
        events.start()
        Path(sys.argv[1]).mkdir()
        Path(sys.argv[1]).rmdir()
        told = []
        while len(told) < 2 and (batch := events.read(10)):
            told += [event.kind for event in batch if Path(event.path).name == Path(sys.argv[1]).name]
        print(*told)
except NodeUnsupportedError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def events() -> Iterator[CgroupEvents]:
    with CgroupEvents() as source:
        source.start()
        yield source


@pytest.fixture
def tree(own_cgroup: Path) -> Path:
    """A cgroup of the test's own; what is told of its removal is of no other test."""
    return own_cgroup


def path_of(cgroup: Path) -> str:
    return "/" + str(cgroup.relative_to(find_cgroup2_mount()))


def told_of(source: CgroupEvents, tree: Path, count: int = 0) -> list[CgroupEvent]:
    """Events of cgroups below `tree`: all of what has happened, and what comes until there are `count`."""
    told: list[CgroupEvent] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    # What the kernel did before this call is in the ring already: an empty one has no more to tell.
    while (batch := source.read(0.1)) or (len(told) < count and time.monotonic() < deadline):
        told += [event for event in batch if event.path.startswith(path_of(tree) + "/")]
    return told


@pytest.mark.core
def test_a_cgroup_that_lives_5_ms(events: CgroupEvents, tree: Path) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    (tree / "brief").mkdir()
    between = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    cgroup_id = (tree / "brief").stat().st_ino
    time.sleep(0.005)
    (tree / "brief").rmdir()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    created, removed = told_of(events, tree)
    path = path_of(tree / "brief")
    assert created == CgroupEvent(created.time_ns, "created", cgroup_id, path)
    assert removed == CgroupEvent(removed.time_ns, "removed", cgroup_id, path)
    assert before < created.time_ns < between < removed.time_ns < after


def test_nothing_is_lost_at_1000_a_second(events: CgroupEvents, tree: Path) -> None:
    count = 2000
    lost_before = events.lost
    ids: dict[str, int] = {}

    def churn() -> None:
        begun = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, begun + number / 1000 - time.monotonic()))
            cgroup = tree / f"{number}"
            cgroup.mkdir()
            ids[path_of(cgroup)] = cgroup.stat().st_ino
            cgroup.rmdir()

    thread = threading.Thread(target=churn)
    thread.start()
    told = told_of(events, tree, 2 * count)
    thread.join()
    assert {event.path: event.cgroup_id for event in told if event.kind == "created"} == ids
    assert {event.path: event.cgroup_id for event in told if event.kind == "removed"} == ids
    assert len(told) == 2 * count
    assert events.lost == lost_before
    assert [event.time_ns for event in told] == sorted(event.time_ns for event in told)


@pytest.mark.core
def test_processes_that_come_and_leave_are_told_up_to_the_top(events: CgroupEvents, tree: Path) -> None:
    (tree / "pod").mkdir()
    cgroup = Cgroup(tree / "pod" / "container")
    process = cgroup.start("exec sleep 60")
    told = told_of(events, tree, 4)
    process.kill()
    process.wait()
    told += told_of(events, tree, 2)
    container, pod = path_of(cgroup.path), path_of(tree / "pod")
    assert [(event.kind, event.path) for event in told] == [
        ("created", pod),
        ("created", container),
        ("populated", container),
        ("populated", pod),
        ("emptied", container),
        ("emptied", pod),
    ]
    assert {event.path: event.cgroup_id for event in told} == {
        container: cgroup.id,
        pod: (tree / "pod").stat().st_ino,
    }


def test_a_cgroup_cannot_be_renamed(tree: Path) -> None:
    # Or else a program for cgroup_rename would be missing.
    (tree / "old").mkdir()
    with pytest.raises(PermissionError):
        (tree / "old").rename(tree / "new")


def test_other_hierarchies_are_not_told(events: CgroupEvents, tree: Path, tmp_path: Path) -> None:
    mount = ["mount", "-t", "cgroup", "-o", f"none,name={tree.name}", "cgroup", str(tmp_path)]
    subprocess.run(mount, check=True)
    try:
        (tmp_path / tree.name / "version-1").mkdir(parents=True)
        (tmp_path / tree.name / "version-1").rmdir()
        (tree / "version-2").mkdir()
        assert [event.path for event in told_of(events, tree)] == [path_of(tree / "version-2")]
    finally:
        for made in (tmp_path / tree.name / "version-1", tmp_path / tree.name):
            if made.exists():
                made.rmdir()
        subprocess.run(["umount", str(tmp_path)], check=True)
        # It ends a moment later; one whose cgroups were not wholly gone yet needs another mount that ends.
        for _attempt in range(20):
            time.sleep(0.3)
            if f":name={tree.name}:" not in Path("/proc/self/cgroup").read_text():
                break
            subprocess.run(mount, check=True)
            time.sleep(0.3)
            subprocess.run(["umount", str(tmp_path)], check=True)
        assert f":name={tree.name}:" not in Path("/proc/self/cgroup").read_text()


@pytest.mark.parametrize(
    "name",
    [b"\x1b[31mred\x1b[0m", b"\xff\xfe\x80", b"x" * 255, b" a b ", "é".encode(), b"<img src=x>", b"tab\tand\rreturn"],
    ids=["escape", "not-utf-8", "255-bytes", "blanks", "utf-8", "html", "control"],
)
def test_hostile_names(events: CgroupEvents, tree: Path, name: bytes) -> None:
    cgroup = tree / os.fsdecode(name)
    cgroup.mkdir()
    cgroup_id = cgroup.stat().st_ino
    cgroup.rmdir()
    told = told_of(events, tree)
    assert [(event.kind, event.cgroup_id) for event in told] == [("created", cgroup_id), ("removed", cgroup_id)]
    assert {os.fsencode(event.path) for event in told} == {os.fsencode(path_of(tree)) + b"/" + name}


def test_a_newline_cannot_be_in_a_name(tree: Path) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        (tree / "a\nb").mkdir()


def test_a_path_longer_than_the_kernel_tells_is_marked(events: CgroupEvents, tree: Path) -> None:
    made = []
    cgroup = tree
    for _depth in range(6):
        cgroup /= "d" * 250
        cgroup.mkdir()
        made.append(cgroup)
    told = told_of(events, tree)
    assert [event.cgroup_id for event in told] == [cgroup.stat().st_ino for cgroup in made]
    for event, cgroup in zip(told, made, strict=True):
        assert event.path == path_of(cgroup)[: PATH_BYTES - 1]
        assert event.truncated == (len(path_of(cgroup)) >= PATH_BYTES - 1)
    assert {event.truncated for event in told} == {False, True}


@pytest.mark.core
def test_a_full_ring_counts_what_it_loses_and_goes_on(tree: Path) -> None:
    count = 500
    with CgroupEvents(ring_bytes=2 * mmap.PAGESIZE) as source:
        source.start()
        for number in range(count):
            (tree / f"{number}").mkdir()
        told = told_of(source, tree)
        assert source.lost > 0
        assert 0 < len(told) < count
        # Others on the node may have lost events, too.
        assert len(told) + source.lost >= count
        (tree / "after").mkdir()
        assert [event.path for event in told_of(source, tree)] == [path_of(tree / "after")]
        lost = source.lost
    assert source.lost >= lost


@pytest.mark.core
def test_everything_is_given_back() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    never_started = CgroupEvents()
    never_started.close()
    source = CgroupEvents()
    source.start()
    source.close()
    source.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def watch_elsewhere(tree: Path, prepare: str) -> str:
    """What WATCH_ONE says where a shell has prepared its mounts and its rights."""
    ended = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f'{prepare} "$@"', "sh", sys.executable, "-c", WATCH_ONE, str(tree / "one")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_tracefs_is_not_needed(tree: Path) -> None:
    hide = "for at in /sys/kernel/tracing /sys/kernel/debug; do mount -t tmpfs tracer-test $at || exit; done; exec"
    assert watch_elsewhere(tree, hide) == "created removed"


def test_a_kernel_without_type_information_is_refused(tree: Path) -> None:
    said = watch_elsewhere(tree, "mount -t tmpfs tracer-test /sys/kernel/btf && exec")
    assert said.startswith("the kernel shows no type information (/sys/kernel/btf/vmlinux: ")
    assert said.endswith("use one with CONFIG_DEBUG_INFO_BTF")


def test_without_the_right_to_load_programs_it_is_refused(tree: Path) -> None:
    said = watch_elsewhere(tree, "exec setpriv --bounding-set=-bpf,-sys_admin --inh-caps=-bpf,-sys_admin")
    assert "Operation not permitted" in said
    assert "\n" not in said
