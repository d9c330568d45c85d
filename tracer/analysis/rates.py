# SPDX-License-Identifier: Apache-2.0
"""Counters as the kernel counts them, turned into rates."""

from collections.abc import Sequence

import polars as pl

_EPOCH = "__epoch"


def rates(
    rows: pl.LazyFrame,
    counters: Sequence[str],
    *,
    by: Sequence[str] = ("node_name", "cgroup_id"),
    time: str = "time",
) -> pl.LazyFrame:
    """`rows` by ascending `time`, with `<counter>_per_second` (Float64) for each of `counters`.

    A rate is the increase since the last row of the same `by` in which the counter was measured, over the time since
    then: also across a gap, whoever left it, a restart of the tracer too, as counters belong to the cgroup. It is null
    in the first row, where the counter is null, and where any of `counters` has fallen: then all of them began anew
    (the node was restarted and the id is another cgroup's, or the io of a device that is gone is missing in a sum).
    """
    # Of two rows of the same time, which only a copy makes, one says nothing new.
    rows = rows.sort(time, maintain_order=True)
    fell = pl.any_horizontal(pl.col(name) < pl.col(name).forward_fill().shift(1).over(by) for name in counters)
    rows = rows.with_columns(fell.fill_null(False).cum_sum().over(by).alias(_EPOCH))
    return rows.with_columns(_rate(name, [*by, _EPOCH], time).alias(f"{name}_per_second") for name in counters).drop(
        _EPOCH
    )


def _rate(name: str, by: Sequence[str], time: str) -> pl.Expr:
    value = pl.col(name)
    measured_at = pl.when(value.is_not_null()).then(pl.col(time))
    increase = value - value.forward_fill().shift(1).over(by)
    seconds = (pl.col(time) - measured_at.forward_fill().shift(1).over(by)).dt.total_nanoseconds() / 1e9
    return pl.when(seconds > 0).then(increase / seconds)
