# SPDX-License-Identifier: Apache-2.0
"""The ring buffers of all CPUs, mapped into this process, and what was read from each."""

import mmap
import os
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tracer.kernel import bpf
from tracer.kernel.clock import SHORTEST_SLEEP_NS
from tracer.kernel.record_block import RecordBlock
from tracer.kernel.ring_reader import (
    AWAKE,
    BYTES,
    CONSUMER,
    DATA,
    EXPECTED,
    FILL_PEAK,
    FIRST_TICK,
    FURTHER_TICKS,
    LAST_DRAIN,
    LAST_TICK,
    LONGEST_GAP,
    MALFORMED,
    MISSING,
    OUTSIDE,
    PACE_PLACES,
    PRODUCER,
    PROGRESS_COLUMNS,
    RECORDS,
    SIZE,
    SLEPT,
    STOP,
    follow,
)

_TOTAL_BYTES = 128 << 20
_LARGEST_BYTES = 1 << 20
_SMALLEST_BYTES = 1 << 16
_NEVER = np.iinfo(np.uint64).max


def default_ring_bytes(cpus: int, total_bytes: int = _TOTAL_BYTES) -> int:
    """Size of one CPU's ring: 1 MiB (14,000 records), less where many CPUs would make it more than `total_bytes`."""
    share = total_bytes // cpus
    return max(_SMALLEST_BYTES, min(_LARGEST_BYTES, 1 << (share.bit_length() - 1)))


class RingCounts(NamedTuple):
    """What was read from one CPU's ring since the start; `expected` is the next sequence number.

    further_ticks: rows beyond the first of records that speak of a run of ticks. outside: records without a row, as
    their ticks lie outside the bounds.
    """

    expected: int
    records: int
    bytes: int
    missing: int
    malformed: int
    further_ticks: int = 0
    outside: int = 0


class Rings:
    """A ring for each CPU that has one; rings are added while the reader runs and stay until the end.

    One thread calls `follow`; others may add rings, set the bounds and read the counts meanwhile.
    """

    def __init__(self, possible_cpus: int, ring_bytes: int, tick_ns: int = 1_000_000) -> None:
        self.ring_bytes = ring_bytes
        self._table = np.zeros((possible_cpus, 4), np.uint64)
        self._progress = np.zeros((possible_cpus, PROGRESS_COLUMNS), np.uint64)
        self._bounds = np.array([0, _NEVER, tick_ns], np.uint64)
        self._pace = np.zeros(PACE_PLACES, np.int64)
        self._mapped: dict[int, list[mmap.mmap]] = {}

    @property
    def total_bytes(self) -> int:
        """Of all rings."""
        return self.ring_bytes * len(self._mapped)

    def __contains__(self, cpu: int) -> bool:
        return cpu in self._mapped

    def add(self, cpu: int, rings_map_fd: int) -> None:
        """Makes a ring, maps it, and puts it into the array of rings for the CPU's programs to find.

        Layout of the mapping (kernel/bpf/ringbuf.c): a page with the consumer's position, which only the reader
        writes; a page with the producer's position; the data, mapped twice in a row so that no record wraps.
        """
        descriptor = bpf.create_ring(self.ring_bytes)
        try:
            page = mmap.PAGESIZE
            consumer = mmap.mmap(descriptor, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            producer = mmap.mmap(descriptor, page + 2 * self.ring_bytes, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
            bpf.set_descriptor(rings_map_fd, cpu, descriptor)
        finally:
            os.close(descriptor)
        self.add_mapping(cpu, _address(consumer), _address(producer), _address(producer) + page)
        self._mapped[cpu] = [consumer, producer]

    def add_mapping(self, cpu: int, consumer: int, producer: int, data: int) -> None:
        """Lets the reader drain a ring whose parts lie at these addresses."""
        self._table[cpu, PRODUCER] = producer
        self._table[cpu, DATA] = data
        self._table[cpu, SIZE] = self.ring_bytes
        # Last: the reader takes a ring from the moment its consumer's address is there.
        self._table[cpu, CONSUMER] = consumer

    def bound(self, *, first_tick: int | None = None, last_tick: int | None = None) -> None:
        """Only ticks within these bounds, both included, give rows from now on."""
        if first_tick is not None:
            self._bounds[FIRST_TICK] = first_tick
        if last_tick is not None:
            self._bounds[LAST_TICK] = last_tick

    def follow(self, block: RecordBlock, row: int, *, interval_ns: int, phase_ns: int, deadline_ns: int) -> int:
        """Drains all rings into `block` from `row` on, each `interval_ns`, until `deadline_ns` (CLOCK_MONOTONIC).

        Returns the row after the last one written: early when the block is nearly full or after `interrupt`.
        """
        return int(
            follow(
                self._table, self._progress, self._bounds, *block.columns(), row,
                self._pace, interval_ns, phase_ns, deadline_ns,
            )
        )  # fmt: skip

    def interrupt(self) -> None:
        """Makes `follow` return after its next drain, now and from now on."""
        self._pace[STOP] = 1

    @property
    def last_drain_ns(self) -> int:
        """When the last drain began (CLOCK_MONOTONIC); 0 before the first."""
        return int(self._pace[LAST_DRAIN])

    def last_awake_ns(self, slept_ns: int) -> int:
        """When the last drain began before the machine had slept for `slept_ns` in all (CLOCK_MONOTONIC)."""
        has_noticed = int(self._pace[SLEPT]) >= slept_ns - SHORTEST_SLEEP_NS
        return int(self._pace[AWAKE if has_noticed else LAST_DRAIN])

    def counts(self, cpu: int) -> RingCounts:
        """Counts of one CPU's ring since the start."""
        row = self._progress[cpu]
        columns = (EXPECTED, RECORDS, BYTES, MISSING, MALFORMED, FURTHER_TICKS, OUTSIDE)
        return RingCounts(*(int(row[column]) for column in columns))

    def take_peaks(self) -> tuple[float, int]:
        """The fullest a ring was found (0 to 1) and the longest time between two drains in ns, since the last call."""
        fill = float(self._progress[:, FILL_PEAK].max()) / self.ring_bytes
        gap = int(self._pace[LONGEST_GAP])
        self._progress[:, FILL_PEAK] = 0
        self._pace[LONGEST_GAP] = 0
        return fill, gap

    def close(self) -> None:
        """Unmaps all rings; nothing may be in `follow`."""
        self._table[:] = 0
        while self._mapped:
            for mapping in self._mapped.popitem()[1]:
                mapping.close()


def _address(mapping: mmap.mmap) -> int:
    view: npt.NDArray[np.uint8] = np.frombuffer(mapping, np.uint8)
    return int(view.ctypes.data)
