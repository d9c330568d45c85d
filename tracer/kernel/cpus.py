# SPDX-License-Identifier: Apache-2.0
"""Lists of CPUs in the kernel's own notation: `0-3,8,10-11`, or nothing.

The notation is what the kernel prints with `%*pbl` (Documentation/core-api/printk-formats.rst); the files are
described in Documentation/admin-guide/cputopology.rst.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from tracer.errors import NodeUnsupportedError, TracerError

_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
# Above every kernel's NR_CPUS, so that a damaged list cannot ask for gigabytes of integers.
_CPU_LIMIT = 1 << 16


def parse_cpu_list(text: str) -> list[int]:
    """CPU numbers of a kernel list, sorted and each once. Raises TracerError on anything else."""
    cpus: set[int] = set()
    for part in text.strip().split(",") if text.strip() else []:
        match = _RANGE.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last or last >= _CPU_LIMIT:
            raise TracerError(f"not a list of CPUs: {text[:80]!r} (a kernel writes 0-3,8)")
        cpus.update(range(first, last + 1))
    return sorted(cpus)


def format_cpu_list(cpus: Iterable[int]) -> str:
    """The kernel's notation for these CPUs; nothing is the empty string."""
    ranges: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if ranges and ranges[-1][1] == cpu - 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in ranges)


def online_cpus(sysfs: Path = Path("/sys")) -> list[int]:
    """CPUs that run now. Raises NodeUnsupportedError where sysfs does not say."""
    return _read_cpus(sysfs / "devices/system/cpu/online")


def present_cpus(sysfs: Path = Path("/sys")) -> list[int]:
    """CPUs that the node has, online or not. Raises NodeUnsupportedError where sysfs does not say."""
    return _read_cpus(sysfs / "devices/system/cpu/present")


def possible_cpus(sysfs: Path = Path("/sys")) -> list[int]:
    """CPUs that could ever come online: what per-CPU maps are sized for. Raises NodeUnsupportedError."""
    return _read_cpus(sysfs / "devices/system/cpu/possible")


def _read_cpus(path: Path) -> list[int]:
    try:
        cpus = parse_cpu_list(path.read_text(errors="replace"))
    except OSError as error:
        raise NodeUnsupportedError(f"cannot read {path}: {error.strerror}; is sysfs mounted?") from error
    except TracerError as error:
        raise NodeUnsupportedError(f"{path}: {error}") from error
    if not cpus:
        raise NodeUnsupportedError(f"{path} names no CPU")
    return cpus
