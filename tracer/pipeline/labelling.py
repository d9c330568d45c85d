# SPDX-License-Identifier: Apache-2.0
"""From rows with a cgroup id to rows of a table: identity and UTC time are joined, and the sinks get them."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import polars as pl
import pyarrow as pa

from tracer.containers.labels import UNTIL
from tracer.kernel.clock import RunClock
from tracer.pipeline.frames import HOLDER_ID, labelled_rows
from tracer.pipeline.sinks.sink import Sink
from tracer.store.fields import HOLDER_IDENTITY
from tracer.store.schemas import IDENTITY, TABLES, Table

_MONOTONIC = pl.col("monotonic_ns")


class Cgroups(Protocol):
    """Who each cgroup is: the node's `Inventory`, or that of a node that does not exist."""

    def resolve(self, cgroup_ids: Iterable[int]) -> set[int]:
        """Those of these ids for which it is too early to tell."""

    def labels(self, cgroup_ids: Iterable[int]) -> pl.DataFrame:
        """A row for each of these that is known: the columns of `tracer.containers.labels.LABEL_SCHEMA`."""

    def earlier_labels(self, cgroup_ids: Iterable[int]) -> pl.DataFrame:
        """Those that some of them had before, and until when: `tracer.containers.labels.UNTIL`."""


class Labelling:
    """Joins and hands on. Rows of a cgroup that no walk has looked for yet, or whose names may still come, wait.

    They wait for a second or so, and for the next rows of their table. One thread uses it.
    """

    def __init__(self, cgroups: Cgroups, sink: Sink, *, clock: RunClock, node_name: str) -> None:
        self.unknown_rows = 0
        self._cgroups = cgroups
        self._sink = sink
        self._clock = clock
        self._node_name = node_name
        self._held: dict[str, pl.DataFrame] = {}

    def put(
        self, table: Table, rows: pl.DataFrame, monotonic_ns: pl.Expr = _MONOTONIC, *, is_last: bool = False
    ) -> None:
        """Takes rows of `table`, whose CLOCK_MONOTONIC is `monotonic_ns`. With `is_last`, none waits any longer.

        Columns that are left out are null. Further times are Int64, of CLOCK_BOOTTIME.
        """
        self._clock.look()
        held = self._held.pop(table.name, None)
        rows = rows if held is None else pl.concat([held, rows], how="diagonal")
        if rows.is_empty():
            return
        named_by = [name for name in ("cgroup_id", HOLDER_ID) if name in rows.columns]
        cgroup_ids = pl.concat([rows[name].drop_nulls() for name in named_by]).unique().to_list()
        pending = self._cgroups.resolve(cgroup_ids)
        if pending and not is_last:
            is_pending = pl.any_horizontal(pl.col(named_by).is_in(list(pending)).fill_null(False))
            self._held[table.name] = rows.filter(is_pending)
            rows = rows.filter(~is_pending)
        further_times = [
            boot_utc_ns(pl.col(field.name), self._clock).cast(pl.Datetime("ns", "UTC"))
            for field in table.schema
            if pa.types.is_timestamp(field.type) and rows.schema.get(field.name) == pl.Int64
        ]
        identity = [*IDENTITY, *(HOLDER_IDENTITY if HOLDER_ID in named_by else ())]
        given = {*rows.columns, *(field.name for field in identity), table.time_column}
        labelled = labelled_rows(
            rows.with_columns(further_times),
            self._cgroups.labels(cgroup_ids),
            self._cgroups.earlier_labels(cgroup_ids).with_columns(utc_ns(pl.col(UNTIL), self._clock).alias(UNTIL)),
            columns=[name for name in table.schema.names if name in given],
            node_name=self._node_name,
            time_column=table.time_column,
            time_ns=utc_ns(monotonic_ns, self._clock),
        )
        self.unknown_rows += labelled.filter(pl.col("cgroup_kind") == "unknown").height
        self._sink.put(table, _completed(labelled.to_arrow(), table.schema))

    def flush(self) -> None:
        """Hands on what waits, of tables whose rows came with `monotonic_ns`, as far as it is known by now."""
        for name in list(self._held):
            self.put(TABLES[name], self._held.pop(name), is_last=True)


def utc_ns(monotonic_ns: pl.Expr, clock: RunClock) -> pl.Expr:
    """Nanoseconds since the epoch of CLOCK_MONOTONIC times, as `RunClock.utc_ns`."""
    return _through(monotonic_ns, [(after_ns, anchor.utc_ns(0)) for after_ns, anchor in clock.anchors])


def boot_utc_ns(boottime_ns: pl.Expr, clock: RunClock) -> pl.Expr:
    """The same of CLOCK_BOOTTIME times, each of which is the same UTC throughout the run."""
    return _through(boottime_ns, clock.boot_utcs)


def _through(times_ns: pl.Expr, distances: Sequence[tuple[int, int]]) -> pl.Expr:
    """With the distance to UTC that holds at each time; `distances` are those after a time, in order."""
    (_always, distance_ns), *later = distances
    utc = times_ns + distance_ns
    for after_ns, distance_ns in later:
        utc = pl.when(times_ns > after_ns).then(times_ns + distance_ns).otherwise(utc)
    return utc


def _completed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """`rows` with a column of nulls for each that is missing. Polars would take longer to plan that than to do it."""
    present = set(rows.column_names)
    if len(present) == len(schema):
        return rows
    columns = [rows[field.name] if field.name in present else pa.nulls(rows.num_rows, field.type) for field in schema]
    return pa.table(columns, names=schema.names)
