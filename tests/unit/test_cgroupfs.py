# SPDX-License-Identifier: Apache-2.0
"""The cgroup2 mount: from texts of mountinfo, and as this kernel shows it in a mount namespace of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.containers.cgroupfs import Cgroup2Mount, find_cgroup2_mount, parse_cgroup2_mounts

UNIFIED = "35 24 0:30 / /sys/fs/cgroup rw,nosuid,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = (
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:3 master:4 - cgroup2 cgroup2 rw\n"
)


def test_unified_host() -> None:
    assert parse_cgroup2_mounts(UNIFIED) == [Cgroup2Mount(os.makedev(0, 30), "/", "/sys/fs/cgroup")]


def test_hybrid_host() -> None:
    assert parse_cgroup2_mounts(HYBRID) == [Cgroup2Mount(os.makedev(0, 38), "/", "/sys/fs/cgroup/unified")]


def test_no_cgroup2() -> None:
    assert parse_cgroup2_mounts("") == []
    assert parse_cgroup2_mounts(HYBRID.replace("cgroup2", "cgroup")) == []


def test_escapes_and_strange_characters_in_a_mount_point() -> None:
    line = "5 4 0:30 / /a\\040b\\011c\\012d\\134e\\043\x85\x0b rw - cgroup2 none rw\n"
    assert [mount.mount_point for mount in parse_cgroup2_mounts(line)] == ["/a b\tc\nd\\e#\x85\x0b"]


def test_the_mount_that_shows_most_comes_first() -> None:
    roots = ["/kubepods/pod1", "/../pod2", "/docker", "/", "/..", "/../.."]
    text = "".join(f"5 4 0:30 {root} /mnt/{index} rw - cgroup2 none rw\n" for index, root in enumerate(roots))
    assert [mount.root for mount in parse_cgroup2_mounts(text)] == [
        "/../..",
        "/..",
        "/",
        "/../pod2",
        "/docker",
        "/kubepods/pod1",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "cgroup2",
        " - cgroup2",
        "5 4 0:30 / /mnt rw cgroup2 none rw",
        "5 4 0:30 / /mnt - cgroup2 none rw",
        "5 4 030 / /mnt rw - cgroup2 none rw",
        "5 4 0:x / /mnt rw - cgroup2 none rw",
        "5 4 0:30 / /mnt rw - ",
    ],
)
def test_malformed_lines_are_skipped(line: str) -> None:
    mounts = parse_cgroup2_mounts(f"{line}\n{UNIFIED}")
    assert [mount.mount_point for mount in mounts] == ["/sys/fs/cgroup"]


@given(st.text() | st.text(alphabet=" -/\\:cgroup2\n019"))
def test_any_text_is_parsed(text: str) -> None:
    mounts = parse_cgroup2_mounts(text + "\n" + UNIFIED)
    assert "/sys/fs/cgroup" in [mount.mount_point for mount in mounts]


@pytest.mark.root
def test_mount_on_this_host() -> None:
    assert (find_cgroup2_mount() / "cgroup.procs").is_file()


def find_in_own_mount_namespace(set_up: str) -> str:
    """What find_cgroup2_mount() answers, or the text of its error, after shell commands that mount."""
    program = (
        "from tracer.containers.cgroupfs import find_cgroup2_mount\n"
        "from tracer.errors import NodeUnsupportedError\n"
        "try:\n    print(find_cgroup2_mount())\n"
        "except NodeUnsupportedError as error:\n    print(error)\n"
    )
    command = f'set -e; {set_up}; exec "$0" -c "$1"'
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", command, sys.executable, program],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


@pytest.mark.root
def test_covered_mounts_do_not_count(tmp_path: Path) -> None:
    cover = "mount -t tmpfs none /sys/fs/cgroup"
    message = find_in_own_mount_namespace(cover)
    assert message.startswith("no cgroup2 tree is mounted; ")
    assert "mount -t cgroup2" in message
    tree = tmp_path / "a tree"
    tree.mkdir()
    assert find_in_own_mount_namespace(f"{cover}; mount -t cgroup2 none '{tree}'") == str(tree)
