# SPDX-License-Identifier: Apache-2.0
"""One ring buffer map for events that are rare and differ in length: its reader sleeps until there are some.

The protocol and the layout of the mapping are those of `rings.py`, whose reader is made for millions of records of
one length.
"""

import mmap
import select

import numpy as np
import numpy.typing as npt
from numba import njit, types

from tracer.kernel.atomics import load_acquire_u32, load_acquire_u64, load_u64, store_release_u64

_HEADER_BYTES = 8
_BUSY = 1 << 31
_DISCARDED = 1 << 30
_LENGTH = _DISCARDED - 1


@njit(types.uint64(types.uint64, types.uint64, types.uint64, types.uint64), cache=True)
def _committed(consumer, producer, data, size):  # type: ignore[no-untyped-def]
    """The position up to which records are complete; what lies before it may be read from then on."""
    position = load_u64(consumer)
    end = load_acquire_u64(producer)
    if end - position > size:
        # Only a ring that is not the kernel's looks like this.
        return end
    while position < end:
        header = load_acquire_u32(data + (position & (size - np.uint64(1))))
        if header & np.uint32(_BUSY):
            break
        step = np.uint64((np.int64(header & np.uint32(_LENGTH)) + _HEADER_BYTES + 7) & ~7)
        if step > end - position:
            return end
        position += step
    return position


@njit(types.void(types.uint64, types.uint64), cache=True)
def _release(consumer, position):  # type: ignore[no-untyped-def]
    store_release_u64(consumer, position)


class EventRing:
    """A mapped ring buffer of `size` bytes. One thread reads; it is closed when that thread has ended."""

    def __init__(self, descriptor: int, size: int) -> None:
        """Maps the ring; the descriptor stays the caller's, and is to be open while the ring is read."""
        self._size = size
        self._consumer = mmap.mmap(descriptor, mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._producer = mmap.mmap(
            descriptor, mmap.PAGESIZE + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=mmap.PAGESIZE
        )
        consumer, producer = (_address(mapping) for mapping in (self._consumer, self._producer))
        self._addresses = (consumer, producer, producer + mmap.PAGESIZE)
        self._position = int.from_bytes(self._consumer[:8], "little")
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def read(self, timeout_seconds: float) -> list[bytes]:
        """All records that the ring holds; waits up to `timeout_seconds` for the first."""
        if not self._poll.poll(timeout_seconds * 1000):
            return []
        return self.read_now()

    def read_now(self) -> list[bytes]:
        """All records that the ring holds. One that leads out of it, as no kernel writes any, gives up what is left."""
        end = int(_committed(*self._addresses, self._size))
        records = []
        if end - self._position > self._size:
            self._position = end
        while self._position < end:
            start = mmap.PAGESIZE + (self._position & (self._size - 1))
            header = int.from_bytes(self._producer[start : start + 4], "little")
            length = header & _LENGTH
            start += _HEADER_BYTES
            step = (length + _HEADER_BYTES + 7) & ~7
            if step > end - self._position:
                break
            if not header & _DISCARDED:
                records.append(self._producer[start : start + length])
            self._position += step
        self._position = end
        _release(self._addresses[0], end)
        return records

    def close(self) -> None:
        """Unmaps the ring."""
        self._consumer.close()
        self._producer.close()


def _address(mapping: mmap.mmap) -> int:
    view: npt.NDArray[np.uint8] = np.frombuffer(mapping, np.uint8)
    return int(view.ctypes.data)
