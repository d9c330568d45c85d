# SPDX-License-Identifier: Apache-2.0
"""The walk on ordinary directories, which behave like cgroups in all that it looks at."""

import os
import threading
from pathlib import Path

from tracer.containers.walk import walk


def test_every_directory_by_inode(tmp_path: Path) -> None:
    for name in ("a", "a/b", "a/b/c", "d", "a/e", "x" * 255):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "control.file").touch()
    found = walk(tmp_path)
    assert sorted(found.values()) == sorted(["/", "/a", "/a/b", "/a/b/c", "/d", "/a/e", "/" + "x" * 255])
    for inode, path in found.items():
        assert (tmp_path / path.lstrip("/")).stat().st_ino == inode


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert sorted(walk(tmp_path).values()) == ["/", "/a"]


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    os.mkdir(os.fsencode(tmp_path) + b"/\xff\x1b\n")  # noqa: PTH102 - Path takes no bytes
    assert sorted(walk(tmp_path).values()) == ["/", "/\udcff\x1b\n"]


def test_missing_root_holds_nothing(tmp_path: Path) -> None:
    assert walk(tmp_path / "missing") == {}


def test_deeper_than_a_path_can_be(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("y" * 250, dir_fd=descriptor)
        child = os.open("y" * 250, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = child
    os.close(descriptor)
    (tmp_path / "z").mkdir()
    paths = walk(tmp_path).values()
    assert "/z" in paths
    assert max(path.count("/") for path in paths) >= 10


def test_directories_that_come_and_go_meanwhile(tmp_path: Path) -> None:
    lasting = {f"/{number}" for number in range(50)}
    for path in lasting:
        (tmp_path / path[1:]).mkdir()
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            for number in range(20):
                (tmp_path / f"0/brief{number}" / "child").mkdir(parents=True)
            for number in range(20):
                (tmp_path / f"0/brief{number}" / "child").rmdir()
                (tmp_path / f"0/brief{number}").rmdir()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(200):
            paths = set(walk(tmp_path).values())
            assert lasting | {"/"} <= paths
            assert all(path.startswith("/0/brief") for path in paths - lasting - {"/"})
    finally:
        stop.set()
        thread.join()
