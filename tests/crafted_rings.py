# SPDX-License-Identifier: Apache-2.0
"""Rings made by hand in plain memory.

Each lies between pages that cannot be read: a reader that leaves the ring ends the test run.
"""

import ctypes
import mmap
import os
import struct

import numpy as np

from tracer.kernel.records import TICK_RECORD
from tracer.kernel.rings import Rings

PAGE = mmap.PAGESIZE
SIZE = PAGE
HEADER_BYTES = 8
RECORD = TICK_RECORD.itemsize
STEP = HEADER_BYTES + RECORD
BUSY = 1 << 31
DISCARDED = 1 << 30

TICK_NS = 1_000_000
# More rows than a ring of SIZE has records.
ENOUGH = 1000

_PROT_NONE = 0
_libc = ctypes.CDLL(None, use_errno=True)


class CraftedRing:
    """Memory as a ring is mapped: consumer's page, producer's page, the data twice. The producer's side is done here.

    Positions are those of the protocol: they only rise, and count bytes from the ring's making.
    """

    def __init__(self, size: int = SIZE, start: int = 0) -> None:
        self.size = size
        self._memory = mmap.mmap(-1, 4 * PAGE + 2 * size)
        self._bytes = np.frombuffer(self._memory, np.uint8)
        # guard, consumer, producer, data, data, guard
        base = self._bytes.ctypes.data
        for guard in (base, base + len(self._memory) - PAGE):
            if _libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(PAGE), _PROT_NONE):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self.consumer_address = base + PAGE
        self.producer_address = base + 2 * PAGE
        self.data_address = base + 3 * PAGE
        self._positions = self._bytes[PAGE : 3 * PAGE].view(np.uint64)
        self._data = self._bytes[3 * PAGE : -PAGE]
        self.produced = start
        self.consumed = start

    @property
    def consumed(self) -> int:
        """Where the reader is."""
        return int(self._positions[0])

    @consumed.setter
    def consumed(self, position: int) -> None:
        self._positions[0] = position

    @property
    def produced(self) -> int:
        """Up to where the reader may read."""
        return int(self._positions[PAGE // 8])

    @produced.setter
    def produced(self, position: int) -> None:
        self._positions[PAGE // 8] = position

    def write(self, position: int, data: bytes) -> None:
        """Puts bytes at a position, as it shows in both mappings of the data."""
        places = (position % self.size + np.arange(len(data))) % self.size
        values = np.frombuffer(data, np.uint8)
        self._data[places] = values
        self._data[places + self.size] = values

    def content(self) -> np.ndarray:
        """A copy of the data area."""
        return self._data.copy()

    def put(self, data: bytes, flags: int = 0, length: int | None = None) -> int:
        """Sends a record, with another length in its header if one is given; returns its position."""
        position = self.produced
        self.write(position, struct.pack("II", (len(data) if length is None else length) | flags, 0) + data)
        self.produced = position + HEADER_BYTES + (len(data) + 7) // 8 * 8
        return position

    def set_header(self, position: int, length: int) -> None:
        """What bpf_ringbuf_submit and _discard do."""
        self.write(position, struct.pack("I", length))


def rings_of(*crafted: CraftedRing) -> Rings:
    rings = Rings(len(crafted), crafted[0].size, TICK_NS)
    for cpu, ring in enumerate(crafted):
        rings.add_mapping(cpu, ring.consumer_address, ring.producer_address, ring.data_address)
    return rings
