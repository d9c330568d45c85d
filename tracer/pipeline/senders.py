# SPDX-License-Identifier: Apache-2.0
"""Which cgroup the process is in that sent something: by the pid that the kernel vouches for, not by what it says."""

import os
import select
import time
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from tracer.containers.version1 import parse_membership
from tracer.readers.process_stat import parse_stat

_PROC: Final = Path("/proc")
_SECOND_NS: Final = 1_000_000_000
_MOST_KNOWN: Final = 512
# A look takes some 50 us.
_MOST_LOOKS_A_SECOND: Final = 1_000
_MOST_BYTES: Final = 65_536


class _Known(NamedTuple):
    """A process, held by its descriptor (pidfd_open(2)), so that its pid cannot be another's unnoticed."""

    descriptor: int
    start_boottime_ns: int
    cgroup_id: int
    looked_ns: int

    def has_ended(self) -> bool:
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        return bool(poll.poll(0))


class Senders:
    """Remembers who asked lately. One thread uses it; close it."""

    def __init__(self, cgroup_root: Path, proc: Path = _PROC) -> None:
        self._root = cgroup_root
        self._proc = proc
        self._known: OrderedDict[int, _Known] = OrderedDict()
        self._second = 0
        self._looks = 0

    def cgroup_of(self, pid: int, sent_boottime_ns: int) -> int | None:
        """Of the process that had this pid when it sent something (CLOCK_BOOTTIME).

        None where it has ended, was never seen from here (0), or there were too many to look for.
        """
        now_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        if (known := self._known.get(pid)) is not None:
            if now_ns - known.looked_ns < _SECOND_NS and not known.has_ended():
                return known.cgroup_id if known.start_boottime_ns <= sent_boottime_ns else None
            self._forget(pid)
        if pid <= 0 or not self._may_look(now_ns):
            return None
        if (known := self._look(pid, now_ns)) is None:
            return None
        self._known[pid] = known
        if len(self._known) > _MOST_KNOWN:
            self._forget(next(iter(self._known)))
        # Who has begun since then is another one.
        return known.cgroup_id if known.start_boottime_ns <= sent_boottime_ns else None

    def close(self) -> None:
        """Nobody is asked for any more."""
        for pid in list(self._known):
            self._forget(pid)

    def _may_look(self, now_ns: int) -> bool:
        if (second := now_ns // _SECOND_NS) != self._second:
            self._second, self._looks = second, 0
        self._looks += 1
        return self._looks <= _MOST_LOOKS_A_SECOND

    def _look(self, pid: int, now_ns: int) -> _Known | None:
        descriptor = None
        with suppress(OSError, ValueError):
            # Since Linux kernel commit 32fcb426ec00 ("pid: add pidfd_open()") (in v5.3).
            descriptor = os.pidfd_open(pid)
            process = self._proc / str(pid)
            stat = parse_stat(_read(process / "stat"))
            path = parse_membership(os.fsdecode(_read(process / "cgroup"))).version2
            # A process that is outside of what this one sees has a path with `/..`; that of a removed cgroup is gone.
            if stat is not None and path is not None and not path.startswith("/.."):
                cgroup_id = (self._root / path.lstrip("/")).stat().st_ino
                known = _Known(descriptor, stat.start_boottime_ns, cgroup_id, now_ns)
                # As long as it lives, all of this was its own.
                if not known.has_ended():
                    return known
        if descriptor is not None:
            os.close(descriptor)
        return None

    def _forget(self, pid: int) -> None:
        os.close(self._known.pop(pid).descriptor)


def _read(path: Path) -> bytes:
    """Raises OSError."""
    with path.open("rb", buffering=0) as file:
        return file.read(_MOST_BYTES) or b""
