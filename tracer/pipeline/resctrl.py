# SPDX-License-Identifier: Apache-2.0
"""The reader of resctrl, where the node has it and the run may use it."""

from collections.abc import Callable
from pathlib import Path

from tracer.errors import NodeUnsupportedError
from tracer.mounts import mounts_of
from tracer.readers.resctrl.mounting import MOUNT_POINT, mount, unmount_if_unused
from tracer.readers.resctrl.reader import ResctrlReader

_MOUNTS = Path("/proc/self/mounts")


def open_resctrl(
    where: str, cgroup_root: Path, note: Callable[[str], None], *, told_to_mount: bool
) -> ResctrlReader | None:
    """Mounts resctrl if it is told to and nobody did, and unmounts it then when the reader is closed.

    where: `auto`, `off` or a path. None if it is off, or cannot be had, which `note` takes then.
    """
    if where == "off":
        return None
    root = _mounted() if where == "auto" else Path(where)
    is_own_mount = False

    def unmount() -> None:
        if is_own_mount:
            try:
                unmount_if_unused()
            except NodeUnsupportedError as error:
                note(str(error))

    try:
        if root is None and told_to_mount:
            mount()
            root, is_own_mount = MOUNT_POINT, True
        if root is None:
            raise NodeUnsupportedError("resctrl is not mounted (tracer run --resctrl-mount does it)")
        return ResctrlReader(root, cgroup_root, on_close=unmount)
    except (NodeUnsupportedError, OSError) as error:
        note(f"llc has no rows: {error}")
        unmount()
        return None


def _mounted() -> Path | None:
    mounts = mounts_of("resctrl", _MOUNTS.read_text(errors="surrogateescape"))
    return Path(mounts[0].mount_point) if mounts else None
