# SPDX-License-Identifier: Apache-2.0
"""The frames between the stages: drained columns, records, labelled rows."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from tracer.containers.labels import UNTIL
from tracer.kernel.event_specs import COUNTER_COLUMNS
from tracer.kernel.record_block import OPEN, RecordBlock
from tracer.pipeline.windows import RECORDS_SCHEMA
from tracer.store.fields import HOLDER_PREFIX, IDENTITY

HOLDER_ID = "holder_cgroup_id"
IS_REST = "holders_are_several"
"""Of rows without a holder's id, whether they are of several holders together."""
IS_THROTTLED = "is_throttled"
"""Whether they are of no holder, but of the cgroup's own limit; if neither, the holder is not known."""

_OF_HOLDER = {field.name: f"{HOLDER_PREFIX}{field.name}" for field in IDENTITY if field.name != "node_name"}
_HOLDER_KIND = pl.coalesce(
    "holder_cgroup_kind",
    pl.when(IS_REST).then(pl.lit("rest")).when(IS_THROTTLED).then(pl.lit("throttled")).otherwise(pl.lit("unknown")),
).alias("holder_cgroup_kind")

_AT = "at_ns"


def records_frame(
    block: RecordBlock,
    rows: int,
    *,
    counted: Sequence[bool],
    coverage: Mapping[int, Sequence[float | None]],
    refused: npt.NDArray[np.bool_] | None = None,
    waits: bool = False,
    tells_stolen: bool = False,
) -> pl.DataFrame:
    """The first `rows` rows of a block as a frame of RECORDS_SCHEMA, copied, so that the block can be filled again.

    `counted` says for each of COUNTER_COLUMNS whether it is counted at all, `coverage` gives for each CPU the share
    of the time each of them ran there. Events that share the PMU by turns have different shares: their values are
    brought to the smallest of them, which is then the coverage of the row. A counter that did not run on its CPU is
    null, and has no part in that; a row without any has coverage 0. `refused` marks values, as [counter, row], that are
    not to be believed.

    `waits`: the kernel side follows waits for a CPU; `tells_stolen`: and what was stolen of the CPU time.
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
    if any(counted):
        columns["coverage"] = pl.Series(smallest[cpu])
    if waits:
        columns["wait_time_ns"] = block.wait_ns[:rows].copy()
        own = pl.Series(block.wait_self_ns[:rows].copy())
        columns["wait_self_ns"] = own.set(own == int(OPEN), None)
        columns["waits"] = block.waits[:rows].copy()
        columns["involuntary_switches"] = block.involuntary[:rows].copy()
    if tells_stolen:
        columns["stolen_time_ns"] = block.stolen_ns[:rows].astype(np.int64)
    not_told = {column: dtype for column, dtype in RECORDS_SCHEMA.items() if column not in columns}
    columns |= {column: pl.repeat(None, rows, dtype=dtype, eager=True) for column, dtype in not_told.items()}
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
    `earlier_labels` the first holds whose UNTIL, in ns since the epoch and ascending, is after the row's time. Rows
    with a `holder_cgroup_id` get the holder's identity, too.
    """
    joined = _identified(rows, labels, earlier_labels, time_ns, by="cgroup_id")
    if HOLDER_ID in rows.columns:
        of_holder, earlier_of_holder = (frame.rename(_OF_HOLDER, strict=False) for frame in (labels, earlier_labels))
        joined = _identified(joined, of_holder, earlier_of_holder, time_ns, by=HOLDER_ID).with_columns(_HOLDER_KIND)
    return joined.with_columns(
        pl.col("cgroup_kind").fill_null("unknown"),
        pl.lit(node_name).alias("node_name"),
        time_ns.cast(pl.Datetime("ns", "UTC")).alias(time_column),
    ).select(columns)


def _identified(
    rows: pl.DataFrame, labels: pl.DataFrame, earlier_labels: pl.DataFrame, time_ns: pl.Expr, *, by: str
) -> pl.DataFrame:
    if earlier_labels.is_empty():
        return rows.join(labels, on=by, how="left")
    earlier = (
        rows.with_columns(time_ns.alias(_AT))
        .sort(_AT)
        .join_asof(
            earlier_labels,
            left_on=_AT,
            right_on=UNTIL,
            by=by,
            strategy="forward",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        .drop(_AT)
    )
    is_earlier = pl.col(UNTIL).is_not_null()
    later = earlier.filter(~is_earlier).select(rows.columns).join(labels, on=by, how="left")
    return pl.concat([earlier.filter(is_earlier).select(later.columns), later])
