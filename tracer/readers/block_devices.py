# SPDX-License-Identifier: Apache-2.0
"""Which block devices lie on others, so that a byte that passes several of them is counted once.

io.stat has each device that a byte passes: LVM on md on a disk has it three times. What lies on what is in `slaves`
(Documentation/ABI/stable/sysfs-block, Documentation/ABI/testing/sysfs-class-bdi); io.stat speaks of whole disks, where
`slaves` may name a partition.
"""

import os
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tracer.mounts import unescape

UNKNOWN = "(unknown)"
"""What io.stat calls a device that is gone, or one that is hidden: a path of a multipath NVMe disk."""

_LOOK_NS = 10_000_000_000
# The disk of these is hardly read after the start; most disks have them beside a partition for LVM or LUKS.
_BOOT = re.compile(r"/(boot|efi)(/|$)")
# File systems that are on no disk of this node.
_NO_DISK = re.compile(r"(tmpfs|ramfs|hugetlbfs|rootfs|nfs.*|cifs|smb.*|fuse.*|9p|virtiofs|ceph|afs|zfs)$")


class Mounted(NamedTuple):
    """A line of mountinfo."""

    device: str
    mount_point: str
    file_system: str
    source: str


class Disk(NamedTuple):
    """A whole block device."""

    device: str
    """As major:minor."""
    on: frozenset[str]
    """Names of the disks it lies on."""
    is_used: bool
    """Whether a file system or swap space is on it, or on a partition of it, other than for booting."""
    is_on_file: bool
    """A loop device that passes on all that it is asked for, as direct I/O, to a file that is itself on a disk.

    One with a page cache between is no such device: what is written back from there is nobody's, seen on 5.10 to 6.12.
    """
    is_hidden: bool


class Stacks(NamedTuple):
    """How the node's disks lay on each other at a time."""

    left_out: frozenset[str]
    """Devices, as major:minor, whose bytes other devices have as well; UNKNOWN may be one of them."""
    changes: int
    """How often another answer was found for a device that had one already: sums do not go on over such a change."""


class BlockDevices:
    """Looks at the node's disks now and then. Any thread may ask."""

    def __init__(self, *, sysfs: Path = Path("/sys"), proc: Path = Path("/proc")) -> None:
        self._sysfs = sysfs
        self._proc = proc
        self._lock = threading.Lock()
        self._names: list[str] = []
        self._due_ns = 0
        self._summed: dict[str, bool] = {}
        self._stacks = Stacks(frozenset(), 0)

    def stacks(self) -> Stacks:
        """As of now: a new disk is seen at once, a change of an old one within 10 s, or later where there are many."""
        with self._lock:
            now_ns = time.monotonic_ns()
            try:
                names = os.listdir(self._sysfs / "block")  # noqa: PTH208 - each second
            except OSError:
                names = []
            if names != self._names or now_ns >= self._due_ns:
                self._names = names
                self._stacks = self._look()
                self._due_ns = now_ns + max(_LOOK_NS, 100 * (time.monotonic_ns() - now_ns))
            return self._stacks

    def _look(self) -> Stacks:
        disks = read_disks(self._sysfs, self._proc)
        before, self._summed = self._summed, summed(disks)
        left_out = {disk.device for name, disk in disks.items() if not self._summed[name]}
        # Only the paths of disks are hidden, and the disk has the same bytes.
        hidden = {UNKNOWN} if any(disk.is_hidden for disk in disks.values()) else set()
        has_changed = any(before.get(name, is_now) != is_now for name, is_now in self._summed.items())
        return Stacks(frozenset(left_out | hidden), self._stacks.changes + has_changed)


def summed(disks: Mapping[str, Disk]) -> dict[str, bool]:
    """By name, whether a disk's bytes are to be summed up with others'.

    Those of disks that nothing lies on are: what passed them is whose I/O it was, which may be unknown further down. A
    disk that is used directly beside what lies on it (a partition for LVM, another with a file system) is summed
    itself, and then what lies only on such disks is not.
    """
    held = {name for disk in disks.values() for name in disk.on}

    def is_covered(name: str, above: frozenset[str] = frozenset()) -> bool:
        """Whether all that a disk lies on is summed."""
        disk = disks.get(name)
        if disk is None or name in above:
            return False
        below = [(one in disks and disks[one].is_used) or is_covered(one, above | {name}) for one in disk.on]
        return disk.is_on_file or (bool(below) and all(below))

    return {name: disk.is_used if name in held else not is_covered(name) for name, disk in disks.items()}


def read_disks(sysfs: Path, proc: Path) -> dict[str, Disk]:
    """All whole block devices by name; what cannot be read is left out."""
    texts = {_text(proc / name / "mountinfo") for name in ("1", "self")}
    mounted = [line for text in texts for line in _mounted(text)]
    used = _used(sysfs, mounted, _text(proc / "swaps"))
    disks = {}
    try:
        directories = sorted((sysfs / "block").iterdir())
    except OSError:
        return {}
    for directory in directories:
        device = _text(directory / "dev").strip()
        # Without a size it is not set up yet, as a loop device without a file.
        if not device or _text(directory / "size").strip() == "0":
            continue
        try:
            below = frozenset(_disk_of(slave) for slave in (directory / "slaves").iterdir())
        except OSError:
            below = frozenset()
        disks[directory.name] = Disk(
            device=device,
            on=below,
            is_used=directory.name in used,
            is_on_file=_text(directory / "loop" / "dio").strip() == "1"
            and _is_on_disk(_text(directory / "loop" / "backing_file").rstrip("\n"), mounted),
            is_hidden=_text(directory / "hidden").strip() == "1",
        )
    return disks


def _used(sysfs: Path, mounted: list[Mounted], swaps: str) -> set[str]:
    """Names of the disks of which anything is mounted, or swapped to."""
    places = set()
    for mount in mounted:
        if _BOOT.match(mount.mount_point):
            continue
        # Btrfs has devices of its own, and names one of the disks it is on.
        places.add(sysfs / "dev" / "block" / mount.device)
        if mount.source.startswith("/dev/"):
            places.add(sysfs / "class" / "block" / mount.source.removeprefix("/dev/"))
    for line in swaps.splitlines():
        if line.startswith("/dev/"):
            places.add(sysfs / "class" / "block" / unescape(line.split()[0]).removeprefix("/dev/"))
    return {_disk_of(place) for place in places if place.exists()}


def _disk_of(place: Path) -> str:
    """The name of the disk at a place in sysfs, or that a partition there is of."""
    directory = place.resolve()
    return directory.parent.name if (directory / "partition").exists() else directory.name


def _is_on_disk(path: str, mounted: list[Mounted]) -> bool:
    """Whether a file is on a disk; False without a path. The file itself is not asked, since its server may be gone."""
    if not path:
        return False
    found = Mounted("", "", "tmpfs", "")
    for line in mounted:
        # Of several mounts at one place the last one is seen.
        is_above = path == line.mount_point or path.startswith(line.mount_point.rstrip("/") + "/")
        if is_above and len(line.mount_point) >= len(found.mount_point):
            found = line
    return _NO_DISK.match(found.file_system) is None


def _mounted(mountinfo: str) -> list[Mounted]:
    """Malformed lines are left out (proc_pid_mountinfo(5))."""
    found = []
    for line in mountinfo.split("\n"):
        fields, _, rest = line.partition(" - ")
        first, last = fields.split(" "), rest.split(" ")
        if len(first) > 4 and len(last) > 1:
            found.append(Mounted(first[2], unescape(first[4]), last[0], unescape(last[1])))
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="surrogateescape")
    except OSError:
        return ""
