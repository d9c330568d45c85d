# SPDX-License-Identifier: Apache-2.0
"""What the tracer's ring reader gives, as rows that can be compared."""

from accumulator_model import Row

from tracer.kernel.record_block import RecordBlock
from tracer.kernel.rings import Rings


def take_rows(rings: Rings, capacity: int) -> list[Row]:
    """The rows of one drain of all rings into a block of this capacity."""
    block = RecordBlock(capacity)
    # A deadline that is over: one drain and no wait.
    count = rings.follow(block, 0, interval_ns=1_000_000, phase_ns=0, deadline_ns=0)
    # Counters lie as [counter, row].
    *before, counters, unread, switches, lateness = (column[..., :count].T.tolist() for column in block.columns())
    return [
        Row(*scalars, tuple(values), *rest)
        for *scalars, values, rest in zip(*before, counters, zip(unread, switches, lateness, strict=True), strict=True)
    ]
