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
    columns = (
        block.tick, block.cpu, block.cgroup_id, block.cpu_time_ns, block.counters, block.unread, block.context_switches,
        block.lateness_ns, block.wait_ns, block.wait_self_ns, block.waits, block.involuntary, block.stolen_ns,
    )  # fmt: skip
    tick, cpu, cgroup_id, time, counters, *rest = (column[..., :count].T.tolist() for column in columns)
    # Counters lie as [counter, row].
    return [
        Row(*scalars, tuple(values), *others)
        for *scalars, values, others in zip(tick, cpu, cgroup_id, time, counters, zip(*rest, strict=True), strict=True)
    ]
