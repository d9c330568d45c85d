# SPDX-License-Identifier: Apache-2.0
"""The names of the tracer's own groups: whose they are, and for which container.

`trc-<PID namespace>.<pid>.<start time>-<first 16 digits of the container's id>`, or of its hash where it is no number.
A process is named by its start time too, since PIDs are used again, and by the namespace in which its PID holds. No
group outlives a boot.
"""

import hashlib
import os
import re
from pathlib import Path
from typing import NamedTuple

_NAME = re.compile(r"trc-([0-9]{1,20})\.([0-9]{1,20})\.([0-9]{1,20})-([0-9a-f]{1,16})")
_HEXADECIMAL = re.compile("[0-9a-f]+")
_ID_DIGITS = 16


class Owner(NamedTuple):
    """A process that makes groups."""

    pid_namespace: int
    pid: int
    start_time: int

    def group_name(self, container_id: str) -> str:
        """What this process calls the group of a container."""
        return f"trc-{self.pid_namespace}.{self.pid}.{self.start_time}-{_digits(container_id)}"


def this_process(proc: Path = Path("/proc")) -> Owner:
    """The owner of the groups that this process makes. Raises OSError without /proc."""
    pid = os.getpid()
    start_time = _start_time(proc, pid)
    assert start_time is not None
    return Owner((proc / "self/ns/pid").stat().st_ino, pid, start_time)


def owner_of(group_name: str) -> Owner | None:
    """Whose group this is; None if it is none of the tracer's."""
    match = _NAME.fullmatch(group_name)
    return Owner(int(match[1]), int(match[2]), int(match[3])) if match else None


def is_of_container(group_name: str, container_id: str) -> bool:
    """Whether some run of the tracer made this group for the container."""
    match = _NAME.fullmatch(group_name)
    return match is not None and match[4] == _digits(container_id)


def is_dead(owner: Owner, own: Owner, proc: Path = Path("/proc")) -> bool:
    """Whether the owner has ended. Of one in another PID namespace than `own`'s nobody here can tell: False."""
    return owner.pid_namespace == own.pid_namespace and _start_time(proc, owner.pid) != owner.start_time


def _digits(container_id: str) -> str:
    if _HEXADECIMAL.fullmatch(container_id) is None:
        container_id = hashlib.sha256(container_id.encode("utf-8", "surrogatepass")).hexdigest()
    return container_id[:_ID_DIGITS]


def _start_time(proc: Path, pid: int) -> int | None:
    """Of the process, in clock ticks since boot (proc_pid_stat(5), field 22); None if there is no such process."""
    try:
        return int((proc / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
