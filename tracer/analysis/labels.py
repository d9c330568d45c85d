# SPDX-License-Identifier: Apache-2.0
"""`tracer.naming` as expressions over the identity columns of any table."""

from collections.abc import Callable
from functools import partial
from typing import Final

import polars as pl

from tracer.naming import Selector, Who, name_of, workload_of

NAMING: Final = (
    "node_name", "cgroup_id", "cgroup_kind", "cgroup_path", "container_id", "container_name", "pod_name", "pod_uid",
    "namespace",
)  # fmt: skip
"""The identity columns that make a name: those that the expressions here read."""


def container_label() -> pl.Expr:
    """`tracer.naming.name_of`: a String, never null. Escape it wherever it is shown."""
    return _of_each(name_of, pl.String())


def workload_label(*, keep_index: bool = True) -> pl.Expr:
    """`tracer.naming.workload_of`: a String, never null."""
    return _of_each(partial(workload_of, keep_index=keep_index), pl.String())


def is_taken(selector: Selector) -> pl.Expr:
    """Whether `selector` takes a cgroup: never null."""
    return _of_each(selector.takes, pl.Boolean()) if selector.patterns else pl.lit(True)


def who_is(rows: pl.DataFrame) -> list[Who]:
    """Each row's identity, as far as there are columns of it."""
    columns = [name for name in Who.__struct_fields__ if name in rows.columns]
    return [Who(**dict(zip(columns, row, strict=True))) for row in rows.select(columns).iter_rows()]


def _of_each(tell: Callable[[Who], object], type_: pl.DataType) -> pl.Expr:
    """Asked once for all rows of a cgroup, of which tables have thousands."""

    def of_rows(rows: pl.Series) -> pl.Series:
        identities = rows.struct.unnest()
        different = identities.unique(maintain_order=True)
        answers = pl.Series("answer", [tell(who) for who in who_is(different)], type_)
        if different.height == identities.height:
            return answers
        return identities.join(
            different.with_columns(answers), on=NAMING, how="left", nulls_equal=True, maintain_order="left"
        )["answer"]

    return pl.struct(NAMING).map_batches(of_rows, return_dtype=type_, is_elementwise=True)
