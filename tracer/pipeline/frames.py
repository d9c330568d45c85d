# SPDX-License-Identifier: Apache-2.0
"""The frames between the stages: drained columns, records, labelled rows."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
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
    refused: npt.NDArray[np.bool_] | None = None,
) -> pl.DataFrame:
    """The first `rows` rows of a block as a frame of RECORDS_SCHEMA, copied, so that the block can be filled again.

    `counted` says for each of COUNTER_COLUMNS whether it is counted at all, `coverage` gives for each CPU the share
    of the time each of them ran there. Events that share the PMU by turns have different shares: their values are
    brought to the smallest of them, which is then the coverage of the row. A counter that did not run on its CPU is
    null, and has no part in that; a row without any has coverage 0. `refused` marks values, as [counter, row], that are
    not to be believed.
    """
    cpu = block.cpu[:rows].copy()
    # By CPU, of which there are fewer than rows.
    shares = counter_shares(coverage, int(cpu.max()) + 1 if rows else 0)
    smallest = np.where(shares > 0, shares, np.inf).min(axis=0)
    smallest[np.isinf(smallest)] = 0
    columns: dict[str, pl.Series | np.ndarray[tuple[int], np.dtype[np.generic]]] = {
        "tick": block.tick[:rows].copy(),
        "cpu": cpu,
        "cgroup_id": block.cgroup_id[:rows].copy(),
        "cpu_time_ns": block.cpu_time_ns[:rows].astype(np.uint64),
    }
    for index, name in enumerate(COUNTER_COLUMNS):
        if not counted[index]:
            columns[name] = pl.repeat(None, rows, dtype=pl.UInt64, eager=True)
            continue
        values = block.counters[index, :rows].copy()
        if (shares[index] > smallest).any():
            uneven = (shares[index] > smallest)[cpu]
            of_cpu = cpu[uneven]
            values[uneven] = np.rint(values[uneven] * (smallest[of_cpu] / shares[index, of_cpu]))
        column = pl.Series(name, values)
        missing = is_unread(block, rows, index) | (shares[index] == 0)[cpu]
        if refused is not None:
            missing |= refused[index]
        if missing.any():
            column = column.set(pl.Series(missing), None)
        columns[name] = column
    columns["context_switches"] = block.context_switches[:rows].copy()
    columns["coverage"] = (
        pl.Series(smallest[cpu]) if any(counted) else pl.repeat(None, rows, dtype=pl.Float32, eager=True)
    )
    return pl.DataFrame(columns, schema=RECORDS_SCHEMA)


def is_unread(block: RecordBlock, rows: int, index: int) -> npt.NDArray[np.bool_]:
    """For each row whether that counter could not be read for a part of its time."""
    return (block.unread[:rows] >> index & 1).astype(np.bool_)


def counter_shares(coverage: Mapping[int, Sequence[float | None]], cpus: int) -> npt.NDArray[np.float32]:
    """Shares of `take_coverage` as [counter, cpu], 0 where nothing says that the counter ran."""
    shares = np.zeros((len(COUNTER_COLUMNS), cpus), np.float32)
    for cpu, of_counters in coverage.items():
        if cpu < cpus:
            shares[:, cpu] = [share or 0 for share in of_counters]
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
