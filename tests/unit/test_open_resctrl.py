# SPDX-License-Identifier: Apache-2.0
"""Whether a run reads resctrl, and mounts it, as it was told."""

from pathlib import Path

import pytest

from tracer.errors import NodeUnsupportedError
from tracer.pipeline import resctrl

MOUNTED = "resctrl {} resctrl rw 0 0\n"


class Node:
    """What is mounted and what is told, in place of the machine's own."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mount_point = tmp_path / "resctrl"
        self.mounts = tmp_path / "mounts"
        self.mounts.write_text("")
        self.calls: list[str] = []
        self.notes: list[str] = []
        self.unmount_error: NodeUnsupportedError | None = None
        monkeypatch.setattr(resctrl, "_MOUNTS", self.mounts)
        monkeypatch.setattr(resctrl, "MOUNT_POINT", self.mount_point)
        monkeypatch.setattr(resctrl, "mount", self._mount)
        monkeypatch.setattr(resctrl, "unmount_if_unused", self._unmount)

    def make(self) -> None:
        """What a mounted resctrl has at least."""
        info = self.mount_point / "info/L3_MON"
        info.mkdir(parents=True)
        (info / "num_rmids").write_text("16\n")
        (info / "mon_features").write_text("llc_occupancy\n")

    def open(self, where: str = "auto", *, told_to_mount: bool = False) -> resctrl.ResctrlReader | None:
        return resctrl.open_resctrl(where, Path("/"), self.notes.append, told_to_mount=told_to_mount)

    def _mount(self) -> None:
        self.calls.append("mount")

    def _unmount(self) -> None:
        self.calls.append("unmount")
        if self.unmount_error is not None:
            raise self.unmount_error


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(tmp_path, monkeypatch)


def test_what_is_mounted_is_read_and_stays_mounted(node: Node) -> None:
    node.make()
    node.mounts.write_text(MOUNTED.format(node.mount_point))
    for told_to_mount in (False, True):
        reader = node.open(told_to_mount=told_to_mount)
        assert reader is not None
        reader.close()
    elsewhere = node.open(str(node.mount_point))
    assert elsewhere is not None
    elsewhere.close()
    assert (node.calls, node.notes) == ([], [])


def test_nothing_is_mounted_unless_told(node: Node) -> None:
    assert node.open() is None
    assert node.calls == []
    assert node.notes == ["llc has no rows: resctrl is not mounted (tracer run --resctrl-mount does it)"]


def test_what_was_mounted_is_unmounted_when_the_reader_is_closed(node: Node) -> None:
    node.make()
    reader = node.open(told_to_mount=True)
    assert reader is not None
    assert node.calls == ["mount"]
    node.unmount_error = NodeUnsupportedError("it stays mounted")
    reader.close()
    assert node.calls == ["mount", "unmount"]
    assert node.notes == ["it stays mounted"]


def test_what_was_mounted_and_cannot_monitor_is_unmounted(node: Node) -> None:
    assert node.open(told_to_mount=True) is None
    assert node.calls == ["mount", "unmount"]
    assert "cannot monitor" in node.notes[0]


def test_off_is_off(node: Node) -> None:
    node.make()
    node.mounts.write_text(MOUNTED.format(node.mount_point))
    assert node.open("off") is None
    assert (node.calls, node.notes) == ([], [])
