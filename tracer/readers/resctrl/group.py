# SPDX-License-Identifier: Apache-2.0
"""One group of resctrl: which threads are in it, and what it says of each L3 domain."""

import errno
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from tracer.readers.resctrl.values import Missing, TrafficMeter, parse_value

_LONGEST_VALUE = 64
_MOST_THREADS_BYTES = 1 << 24

Moved = Literal["moved", "ended", "elsewhere"]
"""`elsewhere`: the thread is in another control group than the group, which the kernel does not take it out of."""


class DomainValues(NamedTuple):
    """What a group says of one domain, in the columns of `llc`; None is what it did not say."""

    l3_id: int
    llc_occupancy_bytes: int | None
    mbm_total_bytes: int | None
    mbm_total_interval_ns: int | None
    mbm_local_bytes: int | None
    mbm_local_interval_ns: int | None


class Group:
    """A group with its directory held open, so that one made anew under the same name is never taken for it.

    Closing it, and removing its directory, is the caller's to do.
    """

    def __init__(self, directory: Path, path: str, *, made_ns: int | None) -> None:
        """`path` from the root of the file system; made_ns: when this process made it, None for somebody else's.

        The kernel sets a new group's counters to zero (mon_add_all_files() reads each for the first time). Raises
        OSError if there is no such group.
        """
        self.path = path
        self.is_own = made_ns is not None
        self._made_ns = made_ns
        self._descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._meters: dict[tuple[int, str], TrafficMeter] = {}

    def threads(self) -> set[int]:
        """TIDs in the group, in this process's PID namespace. Raises OSError."""
        descriptor = self._open("tasks", os.O_RDONLY)
        try:
            text = b""
            while len(text) < _MOST_THREADS_BYTES and (more := os.read(descriptor, 1 << 16)):
                text += more
        finally:
            os.close(descriptor)
        return {int(tid) for tid in text.split() if tid.isdigit()}

    def add(self, tids: Iterable[int]) -> dict[int, Moved]:
        """Puts threads into the group, each on its own: the kernel stops a list at the first that has ended.

        Raises OSError if the group is gone or may not be written to.
        """
        moved: dict[int, Moved] = {}
        descriptor = self._open("tasks", os.O_WRONLY)
        try:
            for tid in tids:
                try:
                    os.write(descriptor, b"%d" % tid)
                    moved[tid] = "moved"
                except OSError as error:
                    if error.errno not in (errno.ESRCH, errno.EINVAL):
                        raise
                    moved[tid] = "ended" if error.errno == errno.ESRCH else "elsewhere"
        finally:
            os.close(descriptor)
        return moved

    def read(
        self, domains: Sequence[tuple[int, str]], features: Sequence[str], now_ns: int
    ) -> tuple[list[DomainValues], list[tuple[str, Missing]]]:
        """Values by domain, and which features were missing, why.

        `domains`: id and directory of each that is online now; one that was not at the last call counts from zero.
        Raises OSError with ENOENT when the group is gone.
        """
        os.stat("mon_data", dir_fd=self._descriptor)
        online = frozenset(l3_id for l3_id, _name in domains)
        for key in [key for key in self._meters if key[0] not in online]:
            del self._meters[key]
        rows, missing = [], []
        for l3_id, name in domains:
            values: dict[str, int | None] = {}
            for feature in features:
                value = self._value(f"mon_data/{name}/{feature}")
                if not isinstance(value, int):
                    missing.append((feature, value))
                if feature == "llc_occupancy":
                    values["llc_occupancy_bytes"] = value if isinstance(value, int) else None
                    continue
                traffic = self._meter(l3_id, feature).advance(value, now_ns)
                values[feature] = traffic and traffic.bytes
                values[feature.replace("_bytes", "_interval_ns")] = traffic and traffic.interval_ns
            rows.append(DomainValues(l3_id, *(values.get(column) for column in DomainValues._fields[1:])))
        # A domain that comes online later began at a time that nobody here knows.
        self._made_ns = None
        return rows, missing

    def close(self) -> None:
        """Lets go of the directory, once."""
        os.close(self._descriptor)

    def _meter(self, l3_id: int, feature: str) -> TrafficMeter:
        key = l3_id, feature
        if key not in self._meters:
            self._meters[key] = TrafficMeter(self._made_ns)
        return self._meters[key]

    def _value(self, path: str) -> int | Missing:
        try:
            descriptor = self._open(path, os.O_RDONLY)
        except OSError:
            return "gone"
        try:
            return parse_value(os.read(descriptor, _LONGEST_VALUE))
        except OSError as error:
            return "gone" if error.errno in (errno.ENOENT, errno.ENODEV) else "Error"
        finally:
            os.close(descriptor)

    def _open(self, path: str, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC, dir_fd=self._descriptor)
