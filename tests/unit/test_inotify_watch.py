# SPDX-License-Identifier: Apache-2.0
"""The watch on ordinary directories, which inotify treats as it treats cgroups; those of the real tree need root."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.cgroup_event import CgroupEvent
from tracer.containers.inotify_watch import InotifyWatch, WatchGap
from tracer.containers.walk import walk
from tracer.errors import NodeUnsupportedError

PATIENCE_SECONDS = 10
MAX_QUEUED_EVENTS = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())

Told = CgroupEvent | WatchGap


def read_all(watch: InotifyWatch, enough: Callable[[list[Told]], bool] = lambda _told: True) -> list[Told]:
    """All that is there to be told, and what comes until it is enough."""
    told: list[Told] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (batch := watch.read(0.05)) or (not enough(told) and time.monotonic() < deadline):
        told += batch
    return told


def events_of(told: list[Told]) -> list[CgroupEvent]:
    return [event for event in told if isinstance(event, CgroupEvent)]


def kinds_and_paths(told: list[Told]) -> list[tuple[str, str]]:
    return [(event.kind, event.path) for event in events_of(told)]


def existing_after(told: list[Told], before: dict[str, int]) -> dict[str, int]:
    """Inodes by path of what exists, as one learns it from events; each must fit what the earlier ones said."""
    known = dict(before)
    for event in events_of(told):
        if event.kind == "created":
            assert event.path not in known
            known[event.path] = event.cgroup_id
        else:
            assert event.kind == "removed"
            assert known.pop(event.path) == event.cgroup_id
    return known


def existing(root: Path) -> dict[str, int]:
    return {path: inode for inode, path in walk(root).items()}


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[InotifyWatch]:
    with InotifyWatch(tmp_path) as watch:
        watch.start()
        yield watch


def test_what_comes_and_goes_is_told_with_its_inode(tmp_path: Path, watch: InotifyWatch) -> None:
    (tmp_path / "a").mkdir()
    inode = (tmp_path / "a").stat().st_ino
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    (created,) = events_of(read_all(watch))
    (tmp_path / "a").rmdir()
    (removed,) = events_of(read_all(watch))
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert before < created.time_ns < removed.time_ns < after
    assert created == CgroupEvent(created.time_ns, "created", inode, "/a")
    assert removed == CgroupEvent(removed.time_ns, "removed", inode, "/a")


def test_what_exists_at_the_start_is_watched_but_not_told(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    with InotifyWatch(tmp_path) as watch:
        watch.start()
        assert read_all(watch) == []
        (tmp_path / "a" / "b" / "c").mkdir()
        assert kinds_and_paths(read_all(watch)) == [("created", "/a/b/c")]


def test_a_branch_made_and_removed_at_once(tmp_path: Path, watch: InotifyWatch) -> None:
    # Only the first directory was watched when the others were made: the listing finds those.
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    created = [("created", "/a"), ("created", "/a/b"), ("created", "/a/b/c")]
    assert kinds_and_paths(read_all(watch)) == created
    for path in ("a/b/c", "a/b", "a"):
        (tmp_path / path).rmdir()
    assert kinds_and_paths(read_all(watch)) == [("removed", path) for _kind, path in reversed(created)]


def test_what_is_gone_before_it_is_read_is_not_told(tmp_path: Path, watch: InotifyWatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a").rmdir()
    assert read_all(watch) == []


def test_files_and_links_are_not_told(tmp_path: Path, watch: InotifyWatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").unlink()
    assert read_all(watch) == []


@pytest.mark.parametrize(
    "name",
    [b"\x1b[31mred\x1b[0m", b"\xff\xfe\x80", b"x" * 255, b"a\nb", b" a b ", b"<img src=x>"],
    ids=["escape", "not-utf-8", "255-bytes", "newline", "blanks", "html"],
)
def test_hostile_names(tmp_path: Path, watch: InotifyWatch, name: bytes) -> None:
    (tmp_path / os.fsdecode(name) / "child").mkdir(parents=True)
    told = kinds_and_paths(read_all(watch))
    assert [os.fsencode(path) for _kind, path in told] == [b"/" + name, b"/" + name + b"/child"]


def test_deeper_than_a_path_can_be(tmp_path: Path, watch: InotifyWatch) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("y" * 250, dir_fd=descriptor)
        child = os.open("y" * 250, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = child
    os.close(descriptor)
    (tmp_path / "z").mkdir()
    paths = {path for _kind, path in kinds_and_paths(read_all(watch))}
    assert "/z" in paths
    assert paths | {"/"} >= {path for path in walk(tmp_path).values() if len(str(tmp_path) + path) < 4000}


PATHS = st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map("/".join)
STEPS = st.one_of(
    st.tuples(st.just("make"), PATHS), st.tuples(st.just("remove"), PATHS), st.tuples(st.just("read"), st.just(""))
)


@given(steps=st.lists(STEPS, max_size=40))
def test_the_events_add_up_to_what_exists(steps: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as directory, InotifyWatch(Path(directory)) as watch:
        root = Path(directory)
        watch.start()
        before, told = existing(root), []
        for step, path in steps:
            if step == "make":
                (root / path).mkdir(parents=True, exist_ok=True)
            elif step == "read":
                told += watch.read(0)
            elif (root / path).is_dir() and not any((root / path).iterdir()):
                (root / path).rmdir()
        told += read_all_now(watch)
        assert existing_after(told, before).keys() == existing(root).keys()


def read_all_now(watch: InotifyWatch) -> list[Told]:
    """Without waiting: for events that are already there."""
    told: list[Told] = []
    # An event that tells nothing new gives an empty batch, so one of those says little.
    for _ in range(10):
        told += watch.read(0)
    return told


def test_a_tree_that_changes_while_it_is_read(tmp_path: Path, watch: InotifyWatch) -> None:
    before = existing(tmp_path)

    def churn() -> None:
        for number in range(300):
            (tmp_path / f"{number}" / "pod" / "container").mkdir(parents=True)
            if number % 3:
                for path in ("pod/container", "pod", ""):
                    (tmp_path / f"{number}" / path).rmdir()

    thread = threading.Thread(target=churn)
    thread.start()
    told = []
    while thread.is_alive():
        told += watch.read(0.01)
    thread.join()
    told += read_all(watch)
    assert existing_after(told, before).keys() == existing(tmp_path).keys()


def test_a_queue_that_overflows_is_told_and_made_good(tmp_path: Path, watch: InotifyWatch) -> None:
    (tmp_path / "old").mkdir()
    assert kinds_and_paths(read_all(watch)) == [("created", "/old")]
    before = existing(tmp_path)
    for number in range(MAX_QUEUED_EVENTS // 2 + 1):
        (tmp_path / f"brief{number}").mkdir()
        (tmp_path / f"brief{number}").rmdir()
    # Nobody can tell of these any more.
    (tmp_path / "old").rmdir()
    (tmp_path / "new" / "pod").mkdir(parents=True)
    told = read_all(watch, lambda told: any(isinstance(item, WatchGap) for item in told))
    gaps = [item for item in told if isinstance(item, WatchGap)]
    assert gaps == [WatchGap(gaps[0].time_ns, "overflow", "/")]
    assert existing_after(told, before) == existing(tmp_path)
    # And it goes on, also where it could not see the beginning.
    (tmp_path / "new" / "pod" / "container").mkdir()
    assert kinds_and_paths(read_all(watch)) == [("created", "/new/pod/container")]


def test_no_more_watches_than_allowed(tmp_path: Path) -> None:
    with InotifyWatch(tmp_path, max_watches=3) as watch:
        watch.start()
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
        assert kinds_and_paths(read_all(watch)) == [("created", "/a"), ("created", "/b")]
        assert watch.unwatched == 0
        for name in ("c", "d"):
            (tmp_path / name).mkdir()
        told = read_all(watch)
        gaps = [item for item in told if isinstance(item, WatchGap)]
        assert gaps == [WatchGap(gaps[0].time_ns, "out of watches", "/c")]
        assert kinds_and_paths(told) == [("created", "/c"), ("created", "/d")]
        assert watch.unwatched == 2
        # What it has goes on, and a scan finds the rest.
        (tmp_path / "a" / "seen").mkdir()
        assert ("created", "/a/seen") in kinds_and_paths(read_all(watch))
        (tmp_path / "d" / "scanned").mkdir()
        told = read_all(watch, lambda told: bool(events_of(told)))
        assert kinds_and_paths(told) == [("created", "/d/scanned")]
        # A watch that has become free is used again.
        for path in ("a/seen", "a", "d/scanned", "d"):
            (tmp_path / path).rmdir()
        read_all(watch, lambda _told: watch.unwatched == 0)
        assert watch.unwatched == 0
        assert kernel_watches() == 3


def kernel_watches() -> int:
    """How many watches this process has, as the kernel counts them."""
    return sum(info.read_text().count("inotify wd:") for info in Path("/proc/self/fdinfo").iterdir() if info.exists())


def test_out_of_watches_from_the_start_is_told_once(tmp_path: Path) -> None:
    for name in "abcde":
        (tmp_path / name).mkdir()
    with InotifyWatch(tmp_path, max_watches=2) as watch:
        watch.start()
        (gap,) = watch.read(0)
        assert isinstance(gap, WatchGap)
        assert gap.cause == "out of watches"
        assert watch.unwatched == 4


@pytest.mark.root
def test_the_kernels_own_bound(tmp_path: Path) -> None:
    """inotify_add_watch(2) says ENOSPC at the bound of the user namespace, which is one of the test's own."""
    for name in "abcde":
        (tmp_path / name).mkdir()
    watch_two = """if True:
        import sys
        from pathlib import Path
        Path("/proc/sys/user/max_inotify_watches").write_text("2")
        from tracer.containers.inotify_watch import InotifyWatch
        with InotifyWatch(Path(sys.argv[1])) as watch:
            watch.start()
            print([told.cause for told in watch.read(0)], watch.unwatched)
    """
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", watch_two, tmp_path]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert said == "['out of watches'] 4\n"


def test_a_tree_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NodeUnsupportedError, match="No such file"):
        InotifyWatch(tmp_path / "missing")


def test_a_tree_that_goes_away_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "top" / "a").mkdir(parents=True)
    with InotifyWatch(tmp_path / "top") as watch:
        watch.start()
        (tmp_path / "top" / "a").rmdir()
        (tmp_path / "top").rmdir()
        assert kinds_and_paths(read_all(watch)) == [("removed", "/a")]


def test_without_a_free_descriptor_it_says_what_to_do(tmp_path: Path) -> None:
    # In a process of its own, which may open no more files than it has.
    script = """
import resource, sys
from pathlib import Path
from tracer.containers.inotify_watch import InotifyWatch
from tracer.errors import NodeUnsupportedError
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
try:
    InotifyWatch(Path(sys.argv[1]))
except NodeUnsupportedError as error:
    print(error)
"""
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("inotify cannot be used: Too many open files; raise fs.inotify.max_user_instances")


@pytest.mark.root
def test_cgroups_are_told_by_their_ids(own_cgroup: Path) -> None:
    with InotifyWatch(own_cgroup) as watch:
        watch.start()
        before = existing(own_cgroup)
        (own_cgroup / "pod" / "container").mkdir(parents=True)
        told = read_all(watch)
        assert kinds_and_paths(told) == [("created", "/pod"), ("created", "/pod/container")]
        assert existing_after(told, before) == existing(own_cgroup)
        (own_cgroup / "pod" / "container").rmdir()
        assert kinds_and_paths(read_all(watch)) == [("removed", "/pod/container")]


@pytest.mark.root
def test_a_cgroup_replaced_by_another_of_its_name(own_cgroup: Path) -> None:
    (own_cgroup / "pod" / "container").mkdir(parents=True)
    with InotifyWatch(own_cgroup) as watch:
        watch.start()
        before = existing(own_cgroup)
        (own_cgroup / "pod" / "container").rmdir()
        (own_cgroup / "pod").rmdir()
        (own_cgroup / "pod").mkdir()
        told = read_all(watch)
        assert existing_after(told, before) == existing(own_cgroup) != before
        (own_cgroup / "pod" / "container").mkdir()
        assert kinds_and_paths(read_all(watch)) == [("created", "/pod/container")]
