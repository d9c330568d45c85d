# SPDX-License-Identifier: Apache-2.0
"""Sums of a victim's rows, from which a model of the ways in which neighbours slow it down follows.

A suspects, M memories, C controls, P columns: C controls; A + 1 of who is busy on the sibling; exposure, (A + 1) M; two
pieces of the queue at memory; misses and cycles per instruction. The last of A + 1 is everybody else.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tracer.analysis.interference.regression import Floats, Ints, add_products, without_means
from tracer.analysis.interference.rows import Source, VictimRows

# So many rows at a time, and what is left of their last stretch.
_ROWS_AT_ONCE = 2_048
# What differences of shares are rounded by.
_ROUNDED = 1e-6


class Columns(NamedTuple):
    """Which columns are which; the first `controls` are these."""

    controls: int
    suspects: int
    memories: int
    exposure: slice
    queue: slice
    misses: int
    cycles: int

    @classmethod
    def of(cls, source: Source) -> "Columns":
        """Those of a source's victims."""
        suspects, first = len(source.suspects), source.own_controls + len(source.suspects) + 1
        queue = first + (suspects + 1) * source.memories
        return cls(
            controls=source.own_controls,
            suspects=suspects,
            memories=source.memories,
            exposure=slice(first, queue),
            queue=slice(queue, queue + 2),
            misses=queue + 2,
            cycles=queue + 3,
        )


class ChannelSums:
    """Sums of a victim's rows, from which its model follows."""

    def __init__(self, source: Source, groups: int) -> None:
        self.columns = Columns.of(source)
        suspects = self.columns.suspects
        self.products = np.zeros((groups, self.columns.cycles + 1, self.columns.cycles + 1))
        # By instructions, in all rows that are known.
        self.exposure = np.zeros((suspects, source.memories))
        self.beside = np.zeros(suspects + 1)
        self.queue = np.zeros((suspects, 2))
        self.controls = np.zeros(source.own_controls)
        self.cycles = self.instructions = self.cycles_known = self.misses_known = 0.0
        self.rows = 0

    def add(self, source: Source, rows: VictimRows, group_steps: int) -> None:
        """Takes the rows of a segment."""
        channels = rows.channels
        assert channels is not None
        known = rows.instructions * rows.is_known
        self.rows += int(rows.is_usable.sum())
        self.cycles += float(rows.cycles.sum())
        self.instructions += float(rows.instructions.sum())
        self.cycles_known += float((rows.cycles * rows.is_known).sum())
        self.misses_known += float((rows.misses * rows.is_known).sum())
        self.controls += known @ rows.controls[:, : source.own_controls]
        beside = _beside(source, rows)
        self.beside += known @ beside
        self.queue += np.stack([known @ piece for piece in queue_of_each(rows)], axis=1)
        total = channels.queue.sum(axis=1)
        stretch = rows.step // source.stretch_steps
        for part in _parts(stretch):
            exposure = channels.exposure(part, range(self.columns.suspects + 1))
            self.exposure += np.tensordot(known[part], exposure[:, :-1], axes=1)
            use = rows.is_usable[part]
            weights = rows.instructions[part][use]
            columns = np.column_stack(
                [
                    rows.controls[part, : source.own_controls][use],
                    beside[part][use],
                    exposure[use].reshape(len(weights), exposure[0].size),
                    total[part][use],
                    np.maximum(total[part][use] - channels.queue_knot, 0.0),
                    rows.misses[part][use] / weights,
                    rows.cycles[part][use] / weights,
                ]
            )
            columns = without_means(columns, weights, stretch[part][use])
            add_products(self.products, columns, rows.step[part][use] // group_steps)

    def due_to_others(self, evicted: Floats) -> Floats:
        """[S, A]: the victim's misses that are due to each suspect, of effects [S, (A + 1) M] of exposure on misses."""
        by_suspect = evicted.reshape(len(evicted), -1, self.columns.memories)[:, :-1]
        found: Floats = np.einsum("sam,am->sa", by_suspect, self.exposure)
        return found

    def excess(self, evicted: Floats) -> Floats:
        """[S]: how many times its own misses the victim would have had to have, at least 1."""
        found: Floats = np.maximum(self.due_to_others(evicted).sum(axis=1) / max(self.misses_known, 1e-9), 1.0)
        return found


def _parts(stretch: Ints) -> Iterator[slice]:
    """Rows in whole stretches; `stretch` ascends."""
    first = 0
    while first < len(stretch):
        last = stretch[min(first + _ROWS_AT_ONCE, len(stretch)) - 1]
        after = int(np.searchsorted(stretch, last, side="right"))
        yield slice(first, after)
        first = after


def _beside(source: Source, rows: VictimRows) -> Floats:
    """[N, A + 1]: the share of the tick in which each suspect, and anybody else, ran on the sibling."""
    found = np.zeros((len(rows.step), len(source.suspects) + 1))
    if source.sibling_control is not None and rows.sibling is not None:
        found[:, :-1] = rows.sibling
        rest = rows.controls[:, source.sibling_control] - rows.sibling.sum(axis=1)
        found[:, -1] = np.where(rest > _ROUNDED, rest, 0.0)
    return found


def queue_of_each(rows: VictimRows) -> tuple[Floats, Floats]:
    """Both [N, A]: each suspect's lines at memory, and how many fewer were beyond the knot without them."""
    channels = rows.channels
    assert channels is not None
    total = channels.queue.sum(axis=1, keepdims=True)
    own = channels.queue[:, :-1]
    beyond = np.maximum(total - channels.queue_knot, 0.0) - np.maximum(total - own - channels.queue_knot, 0.0)
    return own, beyond
