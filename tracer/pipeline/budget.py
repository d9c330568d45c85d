# SPDX-License-Identifier: Apache-2.0
"""What a run may take of the node: how `--memory-limit` is shared out, and how much CPU time is too much."""

from typing import NamedTuple

from tracer.kernel.record_block import RecordBlock
from tracer.kernel.rings import default_ring_bytes

_MIB = 1 << 20
# Libraries, compiled queries and what a few containers take, as measured on idle nodes: 210 to 270 MiB.
_BASE_BYTES = 260 * _MIB
_LEAST_SPARE_BYTES = 40 * _MIB

_MOST_BLOCK_ROWS = 1 << 18
_LEAST_BLOCK_ROWS = 1 << 14
_MOST_STORE_BYTES = 128 * _MIB
_MOST_QUEUE_BYTES = 64 * _MIB


class Budget(NamedTuple):
    """Bounds of what grows with the load. What is left is for inventory, windows that are open, and encoding files."""

    ring_bytes: int
    """Of one CPU."""
    block_rows: int
    """Of one batch of records; there are three."""
    store_bytes: int
    """Rows that wait for their file."""
    queue_bytes: int
    """Rows on their way to the store."""
    recorder_bytes: int
    """Compressed rows of the last minutes, where only these are kept."""


def share_out(memory_limit_bytes: int, cpus: int, blocks: int, *, is_recorder: bool = False) -> Budget:
    """For a node with so many CPUs, and so many batches of records that can wait.

    A recorder has half of what rows and files have that wait, and of what is left for encoding files.
    """
    spare = max(_LEAST_SPARE_BYTES, memory_limit_bytes - _BASE_BYTES)
    rows = spare // 6 // (blocks * RecordBlock.ROW_BYTES)
    return Budget(
        ring_bytes=default_ring_bytes(cpus, spare // 4),
        block_rows=max(_LEAST_BLOCK_ROWS, min(_MOST_BLOCK_ROWS, 1 << (rows.bit_length() - 1))),
        store_bytes=min(_MOST_STORE_BYTES, spare // (8 if is_recorder else 4)),
        queue_bytes=min(_MOST_QUEUE_BYTES, spare // (16 if is_recorder else 8)),
        recorder_bytes=spare // 3 if is_recorder else 0,
    )


def default_cpu_limit(cpus: int) -> float:
    """Of one core, for user space: a tenth, and a hundredth for every 8 CPUs."""
    return 0.10 + 0.01 * cpus / 8
