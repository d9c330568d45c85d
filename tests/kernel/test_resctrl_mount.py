# SPDX-License-Identifier: Apache-2.0
"""Mounting, with another file system in place of resctrl, which this kernel need not have."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tracer.errors import NodeUnsupportedError
from tracer.readers.resctrl import mounting

pytestmark = pytest.mark.root


@pytest.fixture
def mount_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(mounting, "_FILE_SYSTEM", b"tmpfs")
    yield tmp_path
    if tmp_path.is_mount():
        for group in tmp_path.rglob("mon_groups/*"):
            group.rmdir()
        mounting.unmount_if_unused(tmp_path)


def test_what_was_mounted_is_unmounted(mount_point: Path) -> None:
    mounting.mount(mount_point)
    assert mount_point.is_mount()
    mounting.unmount_if_unused(mount_point)
    assert not mount_point.is_mount()


def test_it_stays_mounted_while_somebody_has_a_group(mount_point: Path) -> None:
    mounting.mount(mount_point)
    (mount_point / "mon_groups/theirs").mkdir(parents=True)
    with pytest.raises(NodeUnsupportedError, match="1 groups of others"):
        mounting.unmount_if_unused(mount_point)
    assert mount_point.is_mount()


def test_it_stays_mounted_while_a_file_is_open(mount_point: Path) -> None:
    mounting.mount(mount_point)
    with (mount_point / "file").open("w"), pytest.raises(NodeUnsupportedError, match="busy"):
        mounting.unmount_if_unused(mount_point)
    assert mount_point.is_mount()


def test_a_kernel_without_it_is_told_of_in_one_line(mount_point: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounting, "_FILE_SYSTEM", b"no-such-file-system")
    with pytest.raises(NodeUnsupportedError, match="could not be mounted"):
        mounting.mount(mount_point)
