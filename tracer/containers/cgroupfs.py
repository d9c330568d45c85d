# SPDX-License-Identifier: Apache-2.0
"""Where the cgroup2 tree is mounted.

The id that `bpf_get_current_cgroup_id()` gives belongs to the version 2 hierarchy only. Its tree is at
`/sys/fs/cgroup` on most hosts, at `/sys/fs/cgroup/unified` on hybrid ones, and anywhere in a container.
"""

import os
import re
from pathlib import Path

import msgspec

from tracer.errors import NodeUnsupportedError
from tracer.mounts import unescape

_MOUNTINFO = Path("/proc/self/mountinfo")
_NOT_MOUNTED = "no cgroup2 tree is mounted; mount it: mkdir -p /run/cgroup2 && mount -t cgroup2 none /run/cgroup2"


class Cgroup2Mount(msgspec.Struct, frozen=True):
    """One mount of the cgroup2 file system: a line of mountinfo."""

    device: int
    """Device number of the file system, to compare with `st_dev`."""
    root: str
    """The cgroup that is the top of this mount, as seen from the reader's cgroup namespace."""
    mount_point: str


def parse_cgroup2_mounts(mountinfo: str) -> list[Cgroup2Mount]:
    """The cgroup2 mounts in the text of `/proc/<pid>/mountinfo`, those that show most of the tree first.

    In a private cgroup namespace the host's own mount has a root such as `/../..`; it shows more than the
    root `/` of the namespace, and `/` more than any subtree. Malformed lines are skipped.
    """
    # Not splitlines(): a mount point may hold what Python, but not the kernel, takes for a line's end.
    mounts = (_parse_line(line) for line in mountinfo.split("\n"))
    return sorted((mount for mount in mounts if mount is not None), key=_hidden_part)


def find_cgroup2_mount() -> Path:
    """Directory at which this process sees the cgroup2 tree.

    Raises NodeUnsupportedError if no cgroup2 tree is mounted, or all that are lie hidden below other mounts.
    """
    try:
        mountinfo = _MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise NodeUnsupportedError(f"cannot read {_MOUNTINFO}: {error.strerror}; mount /proc") from error
    for mount in parse_cgroup2_mounts(mountinfo):
        if _is_visible(mount):
            return Path(mount.mount_point)
    raise NodeUnsupportedError(_NOT_MOUNTED)


def _parse_line(line: str) -> Cgroup2Mount | None:
    """One mountinfo line; None if it is malformed or of another file system.

    `id parent major:minor root mount-point options [optional…] - type source super-options` (proc(5)).
    """
    mount, separator, file_system = line.partition(" - ")
    fields = mount.split(" ")
    if not separator or file_system.split(" ")[0] != "cgroup2" or len(fields) < 6:
        return None
    device = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,9})", fields[2])
    if device is None:
        return None
    return Cgroup2Mount(
        device=os.makedev(int(device[1]), int(device[2])),
        root=unescape(fields[3]),
        mount_point=unescape(fields[4]),
    )


def _hidden_part(mount: Cgroup2Mount) -> tuple[int, int]:
    """Sort key: how far below the top of the hierarchy the mount's root is."""
    components = [component for component in mount.root.split("/") if component]
    upwards = components.count("..")
    return len(components) - upwards, -upwards


def _is_visible(mount: Cgroup2Mount) -> bool:
    """Whether the mount point leads to this mount; a later mount may cover it or a directory above it."""
    try:
        return Path(mount.mount_point).stat().st_dev == mount.device
    except (OSError, ValueError):
        return False
