# SPDX-License-Identifier: Apache-2.0
"""The reader of one ring, on a file laid out as the kernel lays out a ring."""

import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.kernel.event_ring import EventRing

SIZE = mmap.PAGESIZE
BUSY, DISCARDED = 1 << 31, 1 << 30


class Producer:
    """Writes as the kernel does: the positions only grow, and the data is there twice in a row."""

    def __init__(self, descriptor: int) -> None:
        self.memory = mmap.mmap(descriptor, 2 * mmap.PAGESIZE + 2 * SIZE)
        self.position = 0

    @property
    def free(self) -> int:
        return SIZE - (self.position - struct.unpack_from("=Q", self.memory, 0)[0])

    def write(self, payload: bytes, flags: int = 0) -> int:
        """Adds a record; returns where its header lies."""
        start = self.position % SIZE
        for place, byte in enumerate(struct.pack("=II", len(payload) | flags, 0) + payload, start):
            for copy in (place % SIZE, place % SIZE + SIZE):
                self.memory[2 * mmap.PAGESIZE + copy] = byte
        self.position += (8 + len(payload) + 7) & ~7
        struct.pack_into("=Q", self.memory, mmap.PAGESIZE, self.position)
        return start

    def commit(self, start: int, length: int) -> None:
        for copy in (start, start + SIZE):
            struct.pack_into("=I", self.memory, 2 * mmap.PAGESIZE + copy, length)


@contextmanager
def ring() -> Iterator[tuple[Producer, EventRing]]:
    descriptor = os.memfd_create("ring")
    os.ftruncate(descriptor, 2 * mmap.PAGESIZE + 2 * SIZE)
    producer = Producer(descriptor)
    reader = EventRing(descriptor, SIZE)
    try:
        yield producer, reader
    finally:
        reader.close()
        producer.memory.close()
        os.close(descriptor)


@given(batches=st.lists(st.lists(st.tuples(st.binary(min_size=1, max_size=600), st.booleans()), max_size=6)))
def test_what_is_written_is_read_but_for_the_discarded(batches: list[list[tuple[bytes, bool]]]) -> None:
    with ring() as (producer, reader):
        for batch in batches:
            kept = []
            for payload, discarded in batch:
                producer.write(payload, DISCARDED if discarded else 0)
                if not discarded:
                    kept.append(payload)
            assert reader.read(0) == kept
            assert producer.free == SIZE


def test_a_record_still_being_written_holds_back_what_follows_it() -> None:
    with ring() as (producer, reader):
        producer.write(b"first")
        start = producer.write(b"second", BUSY)
        producer.write(b"third")
        assert reader.read(0) == [b"first"]
        assert reader.read(0) == []
        producer.commit(start, len(b"second"))
        assert reader.read(0) == [b"second", b"third"]


@pytest.mark.parametrize("produced", [SIZE + 8, 1 << 63, (1 << 64) - 8])
def test_a_producer_that_is_further_than_the_ring_is_long_gives_up_what_is_there(produced: int) -> None:
    with ring() as (producer, reader):
        struct.pack_into("=Q", producer.memory, mmap.PAGESIZE, produced)
        assert reader.read_now() == []
        assert struct.unpack_from("=Q", producer.memory, 0)[0] == produced


def test_a_record_that_leads_beyond_the_producer_gives_up_what_is_there() -> None:
    with ring() as (producer, reader):
        producer.write(b"first")
        producer.commit(producer.write(b"second"), DISCARDED - 1)
        assert reader.read_now() == [b"first"]
        producer.write(b"third")
        assert reader.read_now() == [b"third"]
