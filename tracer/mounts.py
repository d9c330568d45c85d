# SPDX-License-Identifier: Apache-2.0
"""What is mounted, in the text of `/proc/<pid>/mounts` (fstab(5), as the kernel writes it)."""

import re
from typing import NamedTuple

# The kernel writes blanks, backslashes and `#` so (proc(5), fs/proc_namespace.c mangle()).
_OCTAL_ESCAPE = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """Where a file system is mounted, and its options with commas between them."""

    mount_point: str
    options: str


def mounts_of(file_system: str, mounts: str) -> list[Mount]:
    """The mounts of a type of file system; malformed lines are skipped."""
    # Not splitlines(): a mount point may hold what Python, but not the kernel, takes for a line's end.
    lines = (line.split(" ") for line in mounts.split("\n"))
    return [
        Mount(unescape(fields[1]), unescape(fields[3]))
        for fields in lines
        if len(fields) > 3 and fields[2] == file_system
    ]


def unescape(field: str) -> str:
    """A field of `mounts` or `mountinfo` as it is."""
    return _OCTAL_ESCAPE.sub(lambda match: chr(int(match[1], 8)), field)
