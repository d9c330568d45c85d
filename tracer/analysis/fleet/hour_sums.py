# SPDX-License-Identifier: Apache-2.0
"""The sums of an hour of many nodes, kept beside what is compacted: they add up, and are a few thousandths of the rows.

They have the columns of `tracer.analysis.fleet.sums.by_cgroup` and `by_pair`, and `hour`, its start.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import narwhals as nw
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tracer.analysis.engines import Engine, Files, get_engine
from tracer.analysis.fleet.sums import (
    PAIR,
    SUMMED_BY_CGROUP,
    WAIT_COLUMNS,
    WINDOW_COLUMNS,
    by_cgroup,
    by_pair,
    of_nodes,
)
from tracer.analysis.labels import NAMING
from tracer.store.fields import STRING, TIME
from tracer.store.schemas import TABLES, Table

_HOUR: Final = pa.field("hour", TIME)


def _table(name: str, names: Sequence[str], numbers: Sequence[str]) -> Table:
    of_names = [pa.field(one, pa.int64() if one.endswith("cgroup_id") else STRING) for one in names]
    schema = pa.schema([_HOUR, *of_names, *(pa.field(one, pa.int64()) for one in numbers)])
    return Table(name, schema, time_column="hour", sort_columns=("hour",))


CGROUP_SUMS: Final = _table("cgroup_sums", NAMING, ("first_us", "last_us", *SUMMED_BY_CGROUP))
PAIR_SUMS: Final = _table("pair_sums", PAIR, ("wait_time_ns",))
HOUR_SUMS: Final = {table.name: table for table in (CGROUP_SUMS, PAIR_SUMS)}
_OF: Final = {"windows": CGROUP_SUMS, "waits": PAIR_SUMS}


def sums_of(table: str, path: Path, start: datetime, end: datetime) -> pl.DataFrame | None:
    """The sums of a file of compacted rows, of the hour from `start` to `end`; None of a table that has none."""
    polars = get_engine("polars")
    if table == "windows":
        return by_cgroup(polars, Files(TABLES[table], [str(path)], start, end, WINDOW_COLUMNS))
    if table == "waits":
        return by_pair(polars, Files(TABLES[table], [str(path)], start, end, WAIT_COLUMNS))
    return None


def write_sums(table: str, parts: Sequence[pl.DataFrame], hour: datetime, path: Path) -> Table:
    """Writes the sums of an hour's files; gives back which table they are."""
    of = _OF[table]
    rows = pl.concat(parts).with_columns(pl.lit(hour).alias("hour")).select(of.schema.names).to_arrow()
    pq.write_table(rows.cast(of.schema), path, compression="zstd")
    return of


def cgroups_again(engine: Engine, files: Files, nodes: Collection[str] = ()) -> pl.DataFrame:
    """What `by_cgroup` gives, from sums of hours. Raises UsageError for files that cannot be read."""
    rows = of_nodes(engine.scan(files), nodes)
    sums = rows.group_by(*NAMING).agg(
        nw.col("first_us").min(), nw.col("last_us").max(), *(nw.col(name).sum() for name in SUMMED_BY_CGROUP)
    )
    return engine.collect(sums)


def pairs_again(engine: Engine, files: Files, nodes: Collection[str] = ()) -> pl.DataFrame:
    """What `by_pair` gives, from sums of hours. Raises UsageError for files that cannot be read."""
    rows = of_nodes(engine.scan(files), nodes)
    return engine.collect(rows.group_by(*PAIR).agg(nw.col("wait_time_ns").sum()))


def columns_of(table: Table) -> list[str]:
    """What is read of one of these."""
    return [name for name in table.schema.names if name != table.time_column]
