# SPDX-License-Identifier: Apache-2.0
"""Times in the files are microseconds, and say all that the ticks' own clock says."""

from collections.abc import Iterable
from itertools import pairwise

import polars as pl
import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from tracer.containers.labels import LABEL_SCHEMA, UNTIL
from tracer.kernel.clock import ClockAnchor, RunClock
from tracer.pipeline.labelling import Labelling
from tracer.pipeline.options import TICK_BOUNDS_NS
from tracer.pipeline.windows import TICKS_SCHEMA, WINDOWS_SCHEMA
from tracer.store.parquet import conform
from tracer.store.schemas import LIFECYCLE, TICKS, WINDOWS, Table


class Nobody:
    """Cgroups of which nothing is known."""

    def resolve(self, _cgroup_ids: Iterable[int]) -> set[int]:
        return set()

    def labels(self, _cgroup_ids: Iterable[int]) -> pl.DataFrame:
        return LABEL_SCHEMA.to_frame()

    def earlier_labels(self, _cgroup_ids: Iterable[int]) -> pl.DataFrame:
        return pl.DataFrame(schema={**LABEL_SCHEMA, UNTIL: pl.Int64})


class Kept:
    """Rows as the store takes them."""

    def __init__(self) -> None:
        self.times_us: dict[str, list[int]] = {}

    def put(self, table: Table, rows: pa.Table) -> None:
        self.times_us[table.name] = conform(table, rows)[table.time_column].cast(pa.int64()).to_pylist()


def blank(schema: pl.Schema, **columns: list[int]) -> pl.DataFrame:
    rows = pl.DataFrame(columns)
    return rows.with_columns(pl.lit(0).alias(name) for name in schema if name not in columns).cast(dict(schema))


@given(
    realtime_ns=st.integers(0, 2**61),
    monotonic_ns=st.integers(0, 2**60),
    tick_us=st.integers(TICK_BOUNDS_NS[0] // 1000, TICK_BOUNDS_NS[1] // 1000),
    window_ticks=st.integers(1, 1000),
    first=st.integers(0, 10**6),
)
@example(realtime_ns=1_795_305_600_123_456_789, monotonic_ns=987_654_321, tick_us=500, window_ticks=1, first=0)
@example(realtime_ns=999, monotonic_ns=0, tick_us=777, window_ticks=60, first=0)
def test_the_same_instant_is_the_same_in_all_tables_and_ticks_keep_their_distance(
    realtime_ns: int, monotonic_ns: int, tick_us: int, window_ticks: int, first: int
) -> None:
    anchor = ClockAnchor(realtime_ns=realtime_ns, monotonic_ns=monotonic_ns, uncertainty_ns=0)
    kept = Kept()
    labelling = Labelling(Nobody(), kept, clock=RunClock(anchor), node_name="node-1")
    numbers = [(first + number) * window_ticks for number in range(20)]
    tick_ns = tick_us * 1000
    labelling.put(WINDOWS, blank(WINDOWS_SCHEMA, window_tick=numbers), pl.col("window_tick").cast(pl.Int64) * tick_ns)
    labelling.put(TICKS, blank(TICKS_SCHEMA, tick=numbers), pl.col("tick").cast(pl.Int64) * tick_ns)
    labelling.put(
        LIFECYCLE,
        pl.DataFrame(
            {"monotonic_ns": [number * tick_ns for number in numbers]},
        ).with_columns(pl.lit(0, pl.UInt64).alias("cgroup_id"), event=pl.lit("created"), source=pl.lit("walk")),
    )
    windows = kept.times_us["windows"]
    assert kept.times_us["ticks"] == windows
    assert kept.times_us["lifecycle"] == windows
    # What the manifest says of the clock gives the exact time, of which the column has the microseconds.
    assert windows == [(realtime_ns - monotonic_ns + number * tick_ns) // 1000 for number in numbers]
    assert {later - earlier for earlier, later in pairwise(windows)} == {window_ticks * tick_us}
