# SPDX-License-Identifier: Apache-2.0
"""The frames between the stages: drained columns, records, labelled rows."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from tracer.containers.labels import UNTIL
from tracer.kernel.event_specs import COUNTER_COLUMNS
from tracer.kernel.record_block import RecordBlock
from tracer.pipeline.windows import RECORDS_SCHEMA

_AT = "at_ns"


def records_frame(
    block: RecordBlock,
    rows: int,
    *,
    counted: Sequence[bool],
    coverage: Mapping[int, Sequence[float | None]],
) -> pl.DataFrame:
    """The first `rows` rows of a block as a frame of RECORDS_SCHEMA, copied, so that the block can be filled again.

    `counted` says for each of COUNTER_COLUMNS whether it is counted at all, `coverage` gives for each CPU the share
    of the time each *counted* event ran. Events that share the PMU by turns have different shares: their values are
    brought to the smallest of them, which is then the coverage of the row.
    """
    cpu = block.cpu[:rows].copy()
    shares = _shares(coverage, int(cpu.max()) + 1 if rows else 0, sum(counted))
    row_shares = shares[:, cpu]
    smallest = row_shares.min(axis=0) if any(counted) else np.full(rows, np.nan, np.float32)
    columns: dict[str, pl.Series | np.ndarray[tuple[int], np.dtype[np.generic]]] = {
        "tick": block.tick[:rows].copy(),
        "cpu": cpu,
        "cgroup_id": block.cgroup_id[:rows].copy(),
        "cpu_time_ns": block.cpu_time_ns[:rows].astype(np.uint64),
    }
    position = 0
    for index, name in enumerate(COUNTER_COLUMNS):
        if not counted[index]:
            columns[name] = pl.repeat(None, rows, dtype=pl.UInt64, eager=True)
            continue
        values = block.counters[index, :rows].copy()
        uneven = row_shares[position] > smallest
        if uneven.any():
            values[uneven] = np.rint(values[uneven] * (smallest[uneven] / row_shares[position][uneven]))
        column = pl.Series(name, values)
        unread = (block.unread[:rows] >> index & 1).astype(bool)
        if unread.any():
            column = column.set(pl.Series(unread), None)
        columns[name] = column
        position += 1
    columns["context_switches"] = block.context_switches[:rows].copy()
    columns["coverage"] = pl.Series(smallest).fill_nan(None)
    return pl.DataFrame(columns, schema=RECORDS_SCHEMA)


def _shares(
    coverage: Mapping[int, Sequence[float | None]], cpus: int, events: int
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Shares as [event, cpu], NaN where unknown. An unknown CPU went offline: nothing says that its counters ran."""
    shares = np.full((events, cpus), np.nan, np.float32)
    for cpu, of_events in coverage.items():
        if cpu < cpus:
            shares[:, cpu] = [np.nan if share is None else share for share in of_events]
    return shares


def labelled_rows(
    rows: pl.DataFrame,
    labels: pl.DataFrame,
    earlier_labels: pl.DataFrame,
    *,
    columns: Sequence[str],
    node_name: str,
    time_column: str,
    time_ns: pl.Expr,
) -> pl.DataFrame:
    """Rows with the identity of their cgroup and their UTC time, in the order of `columns`.

    `time_ns` gives a row's time in ns since the epoch. A cgroup without a label is of kind `unknown`. Of
    `earlier_labels` the first holds whose UNTIL, in ns since the epoch and ascending, is after the row's time.
    """
    if earlier_labels.is_empty():
        joined = rows.join(labels, on="cgroup_id", how="left")
    else:
        earlier = (
            rows.with_columns(time_ns.alias(_AT))
            .sort(_AT)
            .join_asof(
                earlier_labels,
                left_on=_AT,
                right_on=UNTIL,
                by="cgroup_id",
                strategy="forward",
                allow_exact_matches=False,
                check_sortedness=False,
            )
        )
        is_earlier = pl.col(UNTIL).is_not_null()
        later = earlier.filter(~is_earlier).select(rows.columns).join(labels, on="cgroup_id", how="left")
        joined = pl.concat([earlier.filter(is_earlier).select(later.columns), later])
    return joined.with_columns(
        pl.col("cgroup_kind").fill_null("unknown"),
        pl.lit(node_name).alias("node_name"),
        time_ns.cast(pl.Datetime("ns", "UTC")).alias(time_column),
    ).select(columns)
