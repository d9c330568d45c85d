# SPDX-License-Identifier: Apache-2.0
"""The first stage: rings to batches of columns."""

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from tracer.kernel.compiler_memory import release_compiler_pages
from tracer.kernel.record_block import RecordBlock
from tracer.kernel.rings import Rings
from tracer.pipeline.channel import Channel
from tracer.pipeline.stage import Stage

BATCH_NS = 500_000_000
# Just after the CPUs closed their tick: they do it at its end, some tens of microseconds late.
_PHASE_NS = 200_000
BLOCKS = 3


class Batch(NamedTuple):
    """What was drained until `drained_ns` (CLOCK_MONOTONIC): `rows` of the block's columns."""

    block: RecordBlock
    rows: int
    drained_ns: int


class Reading(Stage):
    """Drains the rings each millisecond and hands out a batch each half second, or when a block is nearly full.

    There are few blocks. When all of them wait for the next stage, the rings fill, and then the kernel counts what
    it cannot store: memory stays bounded, and a loss is never silent.
    """

    def __init__(
        self,
        rings: Rings,
        stop_run: threading.Event,
        *,
        block_rows: int,
        see_ticks: Callable[[], None] = lambda: None,
    ) -> None:
        """`see_ticks` is called after each batch that has rows."""
        super().__init__("reading", stop_run)
        self.interval_ns = 1_000_000
        """How often the rings are drained."""
        self.rows_abandoned = 0
        """Rows that were read, and that nobody took."""
        self._rings = rings
        self._see_ticks = see_ticks
        self._free: Channel[RecordBlock] = Channel(BLOCKS)
        self._full: Channel[Batch] = Channel(BLOCKS)
        self._finish = threading.Event()
        for _ in range(BLOCKS):
            self._free.put(RecordBlock(block_rows))

    def work(self) -> None:
        """Until `finish`, and then until the rings are empty."""
        release_compiler_pages()
        finishing = False
        while not finishing and (block := self._free.take()) is not None:
            finishing = self._finish.is_set()
            rows = self._rings.follow(
                block,
                0,
                interval_ns=self.interval_ns,
                phase_ns=_PHASE_NS,
                deadline_ns=time.clock_gettime_ns(time.CLOCK_MONOTONIC) + BATCH_NS,
            )
            if rows:
                self._see_ticks()
            finishing = finishing and rows < block.capacity
            if not self._full.put(Batch(block, rows, self._rings.last_drain_ns)):
                self.rows_abandoned += rows

    def end(self) -> None:
        """The batches that are there are the last."""
        self._full.close()

    def finish(self) -> None:
        """Nothing more comes into the rings: drain what is there and end."""
        self._finish.set()
        self._rings.interrupt()

    def drain_each(self, interval_ns: int) -> None:
        """How often the rings are drained from the next batch on."""
        self.interval_ns = interval_ns

    def take(self) -> Batch | None:
        """The next batch; None after the last one."""
        return self._full.take()

    def waiting(self) -> int:
        """Batches that wait to be taken."""
        return len(self._full)

    def give_back(self, block: RecordBlock) -> None:
        """Returns a batch's block once its rows are copied."""
        self._free.put(block)

    def abandon(self) -> None:
        """Nothing is taken any more: ends the stage, with what it has not read left in the rings."""
        self.rows_abandoned += sum(batch.rows for batch in self._full.abandon())
        self._free.abandon()
        self._rings.interrupt()
