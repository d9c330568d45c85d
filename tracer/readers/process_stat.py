# SPDX-License-Identifier: Apache-2.0
"""What `/proc/<pid>/stat` says of a process (proc_pid_stat(5))."""

import os
from typing import NamedTuple

from tracer.printable import printable

_NS_PER_CLOCK_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
# Positions after the name, which is the second field.
_STATE, _USER_TIME, _SYSTEM_TIME, _THREADS, _START_TIME, _ADDRESS_SPACE, _RESIDENT = 0, 11, 12, 17, 19, 20, 21


class ProcessStat(NamedTuple):
    """Times in steps of 10 ms."""

    comm: str
    has_memory: bool
    """Neither a kernel thread nor a zombie."""
    threads: int
    start_boottime_ns: int
    cpu_user_ns: int
    cpu_system_ns: int
    rss_bytes: int
    """To some hundred KB: the kernel keeps it by CPU."""


def parse_stat(text: bytes) -> ProcessStat | None:
    """None for what is not the whole of such a file, so also for an empty one."""
    # The name may hold blanks and parentheses.
    before, _, after = text.rpartition(b")")
    fields = after.split()
    try:
        resident, address_space = int(fields[_RESIDENT]), int(fields[_ADDRESS_SPACE])
        return ProcessStat(
            comm=printable(before.partition(b"(")[2]),
            has_memory=address_space > 0 and fields[_STATE] not in (b"Z", b"X"),
            threads=_natural(fields[_THREADS]),
            start_boottime_ns=_natural(fields[_START_TIME]) * _NS_PER_CLOCK_TICK,
            cpu_user_ns=_natural(fields[_USER_TIME]) * _NS_PER_CLOCK_TICK,
            cpu_system_ns=_natural(fields[_SYSTEM_TIME]) * _NS_PER_CLOCK_TICK,
            rss_bytes=max(0, resident) * _PAGE,
        )
    except (IndexError, ValueError):
        return None


def _natural(field: bytes) -> int:
    """Raises ValueError for what no such field holds; the columns have 64 and 32 bits."""
    value = int(field)
    if not 0 <= value < 1 << 40:
        raise ValueError(field)
    return value
