# SPDX-License-Identifier: Apache-2.0
"""What it costs to turn the records of half a second into rows of `windows`.

    python bench/windows.py [ROUNDS]

For a small and a large node: milliseconds and CPU time per call, rows per second, and the ratio to DuckDB doing the
same group-bys in one SQL statement on the same records, already in its memory, with as many threads, in turns with
Polars in the same process. Both must come to the same rows. No optional column is left out: all counters are there.

Then the same with who was waited behind, where half of the records have waits: CPU time of one call against the half
second that the records are of.
"""

import statistics
import sys
import time
from collections.abc import Callable

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
from _common import print_mark

from tracer.pipeline.wait_holders import largest_holders, share_out, times_of
from tracer.pipeline.windows import RECORDS_SCHEMA, aggregate_windows, llc_lookup, scale_counters

WINDOW_TICKS = 60
TICKS = 500  # half a second
CPUS_PER_LLC = 16
TICK_NS = 1_000_000

SQL = f"""
WITH rows AS (
    SELECT *, tick - tick % {WINDOW_TICKS} AS window_tick, cpu // {CPUS_PER_LLC} AS llc FROM records
), totals AS (
    SELECT window_tick, cgroup_id, sum(cpu_time_ns) AS cpu_time_ns, sum(cycles) AS cycles,
        sum(instructions) AS instructions, sum(llc_misses) AS llc_misses, sum(context_switches) AS context_switches,
        count(DISTINCT cpu) FILTER (cpu_time_ns > 0) AS cpus,
        sum(coverage * cpu_time_ns) / sum(cpu_time_ns) AS counter_coverage
    FROM rows GROUP BY ALL
), by_llc AS (
    SELECT tick, llc, cgroup_id, sum(cpu_time_ns) AS cpu_time_ns, sum(cycles) AS cycles,
        sum(instructions) AS instructions, sum(llc_misses) AS llc_misses
    FROM rows GROUP BY ALL
), busy AS (
    SELECT tick, llc, sum(cpu_time_ns) AS busy_cpu_time_ns, sum(llc_misses) AS busy_llc_misses
    FROM by_llc WHERE cgroup_id != 0 GROUP BY ALL
), by_tick AS (
    SELECT tick, cgroup_id, sum(cpu_time_ns) AS cpu_time_ns, sum(cycles) / sum(instructions) AS cpi,
        sum(llc_misses) AS llc_misses,
        sum(coalesce(busy_cpu_time_ns, 0) - if(cgroup_id = 0, 0, cpu_time_ns)) AS neighbour_cpu_time_ns,
        sum(coalesce(busy_llc_misses, 0) - if(cgroup_id = 0, 0, llc_misses)) AS neighbour_llc_misses
    FROM by_llc LEFT JOIN busy USING (tick, llc) GROUP BY ALL
), bursts AS (
    SELECT tick - tick % {WINDOW_TICKS} AS window_tick, cgroup_id, count(*) AS active_ticks,
        max(cpu_time_ns) AS cpu_time_peak_ns, max(llc_misses) AS llc_misses_peak, min(cpi) AS cpi_min,
        median(cpi) AS cpi_median, max(cpi) AS cpi_max, sum(neighbour_cpu_time_ns) AS neighbour_cpu_time_ns,
        sum(neighbour_llc_misses) AS neighbour_llc_misses
    FROM by_tick GROUP BY ALL
)
SELECT * FROM totals JOIN bursts USING (window_tick, cgroup_id)
"""
COMPARED = ("cpu_time_ns", "instructions", "active_ticks", "cpus", "neighbour_cpu_time_ns", "neighbour_llc_misses")


def node_records(cpus: int, cgroups_per_tick: int, cgroups: int) -> pl.DataFrame:
    """Half a second of a node: each CPU shares each tick among idle and some of the cgroups that run there."""
    random = np.random.default_rng(cpus)
    rows = TICKS * cpus * cgroups_per_tick
    slot = np.arange(rows) % cgroups_per_tick
    cpu = np.arange(rows) // cgroups_per_tick % cpus
    chosen = 1 + (cpu * 7 + slot * 13 + random.integers(0, 8, rows) * cgroups_per_tick) % cgroups
    ids = np.concatenate(([0], random.integers(1, 2**63, cgroups)))
    cpu_time_ns = random.integers(1, 2 * TICK_NS // cgroups_per_tick, rows)
    wait_ns = np.where((slot > 0) & (random.random(rows) < 0.5), random.integers(1, TICK_NS, rows), 0)
    return pl.DataFrame(
        {
            "tick": 10_000_000 + np.arange(rows) // (cgroups_per_tick * cpus),
            "cpu": cpu,
            "cgroup_id": np.where(slot == 0, 0, ids[chosen]),
            "cpu_time_ns": cpu_time_ns,
            "cycles": cpu_time_ns * 3,
            "instructions": cpu_time_ns * random.integers(1, 8, rows),
            "llc_misses": cpu_time_ns // random.integers(100, 10_000, rows),
            "context_switches": random.integers(0, 5, rows),
            "coverage": np.ones(rows),
            "wait_time_ns": wait_ns,
            "wait_self_ns": wait_ns // 5,
            "waits": wait_ns > 0,
            "involuntary_switches": wait_ns > 0,
            "stolen_time_ns": np.zeros(rows),
        }
    ).cast(dict(RECORDS_SCHEMA))


def seconds(call: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU time (of all threads) of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def compare(name: str, records: pl.DataFrame, rounds: int) -> None:
    cpus = int(records["cpu"].max()) + 1  # type: ignore[arg-type]
    llc_by_cpu = llc_lookup({cpu: cpu // CPUS_PER_LLC for cpu in range(cpus)})
    database = duckdb.connect(config={"threads": pl.thread_pool_size()})
    database.register("arrow", records.to_arrow())
    database.execute("CREATE TABLE records AS FROM arrow")

    def with_polars() -> pl.DataFrame:
        return aggregate_windows(
            scale_counters(records),
            window_ticks=WINDOW_TICKS,
            first_tick=0,
            last_tick=None,
            llc_by_cpu=llc_by_cpu,
        )

    def with_waits() -> tuple[pl.DataFrame, pl.DataFrame]:
        holders = share_out(records, [times_of(records)], tick_ns=TICK_NS, window_ticks=WINDOW_TICKS)
        windows = aggregate_windows(
            scale_counters(records),
            holders,
            window_ticks=WINDOW_TICKS,
            first_tick=0,
            last_tick=None,
            llc_by_cpu=llc_by_cpu,
        )
        return windows, largest_holders(holders)

    def with_duckdb() -> pa.Table:
        return database.sql(SQL).to_arrow_table()

    ours, theirs = (
        rows.sort("window_tick", "cgroup_id").select(pl.col(COMPARED).cast(pl.Int64))
        for rows in (with_polars(), pl.DataFrame(with_duckdb()))
    )
    if not ours.equals(theirs):
        sys.exit(f"{name}: Polars and DuckDB do not agree")

    polars_times, duckdb_times = zip(
        *((seconds(with_polars), seconds(with_duckdb)) for _ in range(rounds)), strict=True
    )
    wall, cpu = (statistics.median(column) for column in zip(*polars_times, strict=True))
    duckdb_wall, duckdb_cpu = (statistics.median(column) for column in zip(*duckdb_times, strict=True))
    print(f"{name}: {records.height:,} records to {ours.height:,} rows, {pl.thread_pool_size()} threads, medians")
    print(f"  polars  {wall * 1e3:8.2f} ms  {cpu * 1e3:8.2f} ms CPU  {records.height / wall / 1e6:6.2f} M records/s")
    print(f"  duckdb  {duckdb_wall * 1e3:8.2f} ms  {duckdb_cpu * 1e3:8.2f} ms CPU")
    held_rows = with_waits()[1].height
    waits_wall, waits_cpu = (
        statistics.median(column) for column in zip(*(seconds(with_waits) for _ in range(rounds)), strict=True)
    )
    print(f"  waits   {waits_wall * 1e3:8.2f} ms  {waits_cpu * 1e3:8.2f} ms CPU  {held_rows:,} rows of holders")
    print(f"  ratio   {duckdb_wall / wall:8.2f} times as fast as DuckDB; {duckdb_cpu / cpu:.2f} by CPU time")
    print_mark(f"windows with waits of {name}, CPU time by time", waits_cpu / (TICKS * TICK_NS / 1e9), at_most=1)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    compare("2 CPUs", node_records(cpus=2, cgroups_per_tick=3, cgroups=40), rounds * 4)
    compare("256 CPUs", node_records(cpus=256, cgroups_per_tick=4, cgroups=1000), rounds)


if __name__ == "__main__":
    main()
