# SPDX-License-Identifier: Apache-2.0
"""The mount of resctrl, where the tracer was told to make it.

There is one file system for the whole node: to unmount it puts every thread back into the root group and removes all
groups. So it is unmounted by whoever mounted it only, and only while nobody else has a group.
"""

import ctypes
import os
from pathlib import Path

from tracer.errors import NodeUnsupportedError
from tracer.readers.resctrl.file_system import ResctrlFileSystem

MOUNT_POINT = Path("/sys/fs/resctrl")
"""Where everybody expects it; the kernel makes the directory where it has resctrl at all."""

_FILE_SYSTEM = b"resctrl"
# include/uapi/linux/mount.h: nosuid, nodev, noexec
_FLAGS = 2 | 4 | 8

_libc = ctypes.CDLL(None, use_errno=True)


def mount(mount_point: Path = MOUNT_POINT) -> None:
    """Mounts resctrl for the whole node. Raises NodeUnsupportedError."""
    if _libc.mount(_FILE_SYSTEM, os.fsencode(mount_point), _FILE_SYSTEM, ctypes.c_ulong(_FLAGS), None) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise NodeUnsupportedError(f"resctrl could not be mounted at {mount_point}: {reason}")


def unmount_if_unused(mount_point: Path = MOUNT_POINT) -> None:
    """Unmounts what `mount` mounted. Raises NodeUnsupportedError if there is a group, or a file is open."""
    others = ResctrlFileSystem(mount_point).count_groups() - 1
    if others:
        raise NodeUnsupportedError(f"resctrl stays mounted at {mount_point}: {others} groups of others are in use")
    if _libc.umount2(os.fsencode(mount_point), 0) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise NodeUnsupportedError(f"resctrl stays mounted at {mount_point}: {reason}")
