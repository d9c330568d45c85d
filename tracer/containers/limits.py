# SPDX-License-Identifier: Apache-2.0
"""The limits of a cgroup, as its control files state them now."""

import os
from pathlib import Path
from typing import NamedTuple

_LONGEST_FILE = 4096


class Limits(NamedTuple):
    """None: the node has no such file (its controller is off), there is no limit (`max`), or the cgroup is gone.

    Documentation/admin-guide/cgroup-v2.rst describes the files.
    """

    cpu_quota_usec: int | None = None
    cpu_period_usec: int | None = None
    cpu_weight: int | None = None
    memory_max_bytes: int | None = None
    cpuset_cpus: str | None = None


NO_LIMITS = Limits()


def read_limits(directory: Path) -> Limits:
    """Limits of the cgroup at `directory`; never raises."""
    quota, _, period = (_text(directory, "cpu.max") or "").partition(" ")
    return Limits(
        cpu_quota_usec=_number(quota),
        cpu_period_usec=_number(period),
        cpu_weight=_number(_text(directory, "cpu.weight")),
        memory_max_bytes=_number(_text(directory, "memory.max")),
        cpuset_cpus=_text(directory, "cpuset.cpus") or None,
    )


def _text(directory: Path, name: str) -> str | None:
    try:
        descriptor = os.open(directory / name, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError):
        return None
    try:
        return os.read(descriptor, _LONGEST_FILE).decode(errors="replace").strip()
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 19 else None
