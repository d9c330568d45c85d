# SPDX-License-Identifier: Apache-2.0
"""The kernel's own word on each cgroup that comes, goes, gets its first process or loses its last.

`bpf_programs/cgroup_lifecycle.c` on raw tracepoints needs neither tracefs nor kernel headers, but the kernel's type
information for the offsets of three structs' fields. Nothing is polled, so nothing is too short-lived to be told.

Cgroups of version 2 cannot be renamed: the kernel refuses it, and `cgroup_rename` is fired by version 1 only.
"""

import mmap
import os
import struct
from typing import Self

from tracer.cgroup_event import CgroupEvent, EventKind
from tracer.errors import NodeUnsupportedError
from tracer.kernel import bpf
from tracer.kernel.cgroup_events_load import TRACEPOINTS, load_cgroup_events
from tracer.kernel.event_ring import EventRing
from tracer.kernel.loader import Programs

PATH_BYTES = 1024
"""The kernel's tracepoints give no more of a path than this, with a final NUL (TRACE_CGROUP_PATH_LEN)."""

RECORD = struct.Struct("=QQII")
"""`struct lifecycle_record` of bpf_programs/lifecycle_records.h before the path."""

KINDS: dict[int, EventKind] = {1: "created", 2: "removed", 3: "populated", 4: "emptied"}
"""`enum lifecycle_kind`."""

# About 9,000 events of a pod's containers: four seconds of 1,000 containers a second that come, run and go.
_RING_BYTES = 2 << 20


class CgroupEvents:
    """Events of the whole node in the order in which they happened, in every mount and namespace.

    Paths start at the hierarchy's root, also where the mount that this process sees starts lower. A cgroup is told
    before its directory can be opened, and once more after nothing is left of it.

    One thread calls `read`; it has ended when `close` is called.
    """

    def __init__(self, *, ring_bytes: int = _RING_BYTES) -> None:
        """Begins to compile in a child; `ring_bytes` is a power of two of at least two pages.

        Raises NodeUnsupportedError where the kernel has no type information.
        """
        self._ring_bytes = ring_bytes
        self._load = load_cgroup_events(ring_bytes)
        self._programs: Programs | None = None
        self._ring: EventRing | None = None
        self._state: mmap.mmap | None = None
        self._lost = 0
        self._malformed = 0
        self._links: list[int] = []
        self.clock_offset_ns = 0
        """Added to the kernel's times: what CLOCK_MONOTONIC of this process is ahead, in a time namespace."""

    def start(self) -> None:
        """Waits for the compiler and attaches; what happens from then on is told. Raises NodeUnsupportedError."""
        self._programs = self._load.result()
        try:
            self._ring = EventRing(self._programs["events"], self._ring_bytes)
            self._state = mmap.mmap(self._programs["state"], mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ)
            for name in TRACEPOINTS:
                self._links.append(bpf.attach_raw_tracepoint(name, self._programs[name]))
        except OSError as error:
            raise NodeUnsupportedError(f"the kernel refuses to tell of cgroups: {error.strerror}") from error

    def read(self, timeout_seconds: float) -> list[CgroupEvent]:
        """What happened since the last call; waits up to `timeout_seconds` where that is nothing yet."""
        assert self._ring is not None
        events = []
        for record in self._ring.read(timeout_seconds):
            try:
                events.append(decode(record))
            except ValueError:
                self._malformed += 1
        if not self.clock_offset_ns:
            return events
        return [event._replace(time_ns=event.time_ns + self.clock_offset_ns) for event in events]

    @property
    def lost(self) -> int:
        """Events so far that found no room in the ring: the cgroups they spoke of are to be found by a walk."""
        if self._state is not None:
            # The first field of `struct lifecycle_state`.
            self._lost = int.from_bytes(self._state[:8], "little")
        return self._lost + self._malformed

    def close(self) -> None:
        """Detaches and gives everything back to the kernel. Can be called at any time and twice."""
        while self._links:
            os.close(self._links.pop())
        if self._state is not None:
            self._lost = self.lost - self._malformed
            self._state.close()
            self._state = None
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        if self._programs is None:
            self._load.cancel()
        else:
            self._programs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def decode(record: bytes) -> CgroupEvent:
    """The event in a `struct lifecycle_record`. Raises ValueError for what is none."""
    if len(record) < RECORD.size:
        raise ValueError("shorter than a record")
    time_ns, cgroup_id, kind, path_length = RECORD.unpack_from(record)
    if kind not in KINDS or path_length >= PATH_BYTES:
        raise ValueError("no event that any program tells of")
    path = record[RECORD.size : RECORD.size + path_length]
    # A path of exactly the greatest length may be whole; a walk then gives the same again.
    truncated = path_length in (0, PATH_BYTES - 1)
    return CgroupEvent(time_ns, KINDS[kind], cgroup_id, os.fsdecode(path), truncated)
