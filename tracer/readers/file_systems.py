# SPDX-License-Identifier: Apache-2.0
"""Which file systems are mounted where a process is, and which files are device nodes."""

import os
from collections.abc import Mapping
from stat import S_ISBLK, S_ISCHR

from tracer.readers.mapping_kinds import Device


class FileSystems:
    """Reads `mountinfo` once for each mount namespace and pass. One thread uses it.

    Nothing here asks a file system that could keep it waiting, such as one of a server that is gone.
    """

    def __init__(self, proc: bytes) -> None:
        self._proc = proc
        self._by_namespace: dict[int, Mapping[Device, str]] = {}
        self._own: Mapping[Device, str] = {}

    def begin_pass(self) -> None:
        """Forgets what may have changed since the last pass."""
        self._by_namespace.clear()
        self._own = self._read(b"self")

    def of(self, pid: int) -> Mapping[Device, str]:
        """Types of file systems by device: those that the process sees, and those that this one does.

        A container sees its overlay, but not what lies below, where the files that it maps are.
        """
        process = b"%d" % pid
        try:
            namespace = os.stat(b"%s/%s/ns/mnt" % (self._proc, process)).st_ino  # noqa: PTH116 - a path of bytes
        except OSError:
            return self._own
        if namespace not in self._by_namespace:
            self._by_namespace[namespace] = {**self._own, **self._read(process)}
        return self._by_namespace[namespace]

    def node(self, pid: int, addresses: bytes) -> Device | None:
        """The device that a mapped file is a node of; None if it is none, or that cannot be known.

        To be asked only of file systems in memory.
        """
        try:
            # The kernel leaves out leading zeros here, and not in smaps.
            first, _, end = addresses.partition(b"-")
            path = b"%s/%d/map_files/%x-%x" % (self._proc, pid, int(first, 16), int(end, 16))
            status = os.stat(path)  # noqa: PTH116 - a path of bytes
        except (OSError, ValueError):
            return None
        is_node = S_ISCHR(status.st_mode) or S_ISBLK(status.st_mode)
        return (os.major(status.st_rdev), os.minor(status.st_rdev)) if is_node else None

    def _read(self, process: bytes) -> Mapping[Device, str]:
        try:
            with open(b"%s/%s/mountinfo" % (self._proc, process), "rb") as file:  # noqa: PTH123 - a path of bytes
                return parse_mountinfo(file.read())
        except OSError:
            return {}


def parse_mountinfo(text: bytes) -> dict[Device, str]:
    """Types of file systems by device (proc_pid_mountinfo(5)); malformed lines are left out."""
    found = {}
    for line in text.split(b"\n"):
        fields, separator, rest = line.partition(b" - ")
        if not separator:
            continue
        try:
            major, minor = fields.split(b" ")[2].split(b":")
            found[int(major), int(minor)] = rest.split(b" ")[0].decode("ascii")
        except (IndexError, ValueError):
            continue
    return found
