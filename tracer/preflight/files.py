# SPDX-License-Identifier: Apache-2.0
"""The kernel's small text files."""

from pathlib import Path

SYSCTL = Path("/proc/sys")


def read_text(path: Path) -> str | None:
    """What the file holds, without the blanks around it; None where it is missing or unreadable."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def read_integer(path: Path) -> int | None:
    """The number the file holds; None where there is none."""
    try:
        return int(read_text(path) or "")
    except ValueError:
        return None
