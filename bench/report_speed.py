# SPDX-License-Identifier: Apache-2.0
"""What a report on many rows of `windows` costs.

    python bench/report_speed.py [ROWS [ROUNDS]]

For 20 million rows of 300 containers, in files as `tracer run` writes them: the time of the whole report and its
memory, in a process of its own, beside DuckDB's time for the same group-bys on the same files, in turns in one run,
with as many threads: the sums of every cgroup with its names, the windows of those that are looked at, and by victim,
suspect and stretch of time the sums that a comparison needs.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from uuid import UUID

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from _common import print_machine, print_mark

from tracer.store.layout import file_path
from tracer.store.parquet import conform, encode
from tracer.store.schemas import SCHEMA_VERSION, WINDOWS

RUN = UUID(int=20)
START_NS = 1_795_305_600 * 10**9
WINDOW_NS = 60_000_000
CONTAINERS = 300
FILE_WINDOWS = 1_500  # 90 s
AGGRESSOR, VICTIM = 9, 5
VICTIMS, SUSPECTS = 16, 12
STRETCH_WINDOWS = 50
THREADS = len(os.sched_getaffinity(0))

REPORT = """
import resource, sys, time
from pathlib import Path
from tracer.analysis.recording import open_recording
from tracer.analysis.report import report
began = time.perf_counter()
found = report(open_recording([Path(sys.argv[1])]))
seconds = time.perf_counter() - began
print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, found.headline[0])
"""

TOTALS = """
CREATE OR REPLACE TABLE totals AS
SELECT node_name, cgroup_id, count(*) AS rows, sum(cpu_time_ns) AS cpu_time_ns, sum(cycles) AS cycles,
    sum(instructions) AS instructions, sum(llc_misses) AS llc_misses, avg(counter_coverage) AS coverage,
    last(cgroup_kind) AS cgroup_kind, last(cgroup_path) AS cgroup_path, last(container_id) AS container_id,
    last(container_name) AS container_name, last(pod_name) AS pod_name, last(namespace) AS namespace
FROM read_parquet('{files}') GROUP BY ALL;
CREATE OR REPLACE TABLE victims AS FROM totals WHERE cgroup_id != 0 ORDER BY cycles DESC LIMIT {victims};
CREATE OR REPLACE TABLE suspects AS FROM totals WHERE cgroup_id != 0 ORDER BY llc_misses DESC LIMIT {suspects};
CREATE OR REPLACE TABLE chosen AS
SELECT window_start, cgroup_id, sum(cycles)::DOUBLE AS cycles, sum(instructions)::DOUBLE AS instructions,
    sum(llc_misses)::DOUBLE AS llc_misses, sum(active_ticks)::DOUBLE AS active_ticks,
    sum(neighbour_llc_misses)::DOUBLE AS neighbour_llc_misses
FROM read_parquet('{files}')
WHERE cgroup_id IN (SELECT cgroup_id FROM victims UNION SELECT cgroup_id FROM suspects) GROUP BY ALL;
SELECT victim.cgroup_id AS victim, suspect.cgroup_id AS suspect,
    epoch_ns(victim.window_start) // {stretch_ns} AS stretch, count(*),
    sum(victim.cycles), sum(victim.cycles * ln(victim.cycles / victim.instructions)),
    sum(victim.cycles * suspect.llc_misses), sum(victim.cycles * suspect.llc_misses * suspect.llc_misses),
    sum(victim.cycles * suspect.llc_misses * ln(victim.cycles / victim.instructions))
FROM chosen AS victim JOIN chosen AS suspect USING (window_start)
WHERE victim.cgroup_id IN (SELECT cgroup_id FROM victims) AND suspect.cgroup_id IN (SELECT cgroup_id FROM suspects)
    AND victim.cgroup_id != suspect.cgroup_id
GROUP BY ALL
"""


def strings(values: list[str], codes: npt.NDArray[np.int32]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(values, pa.string()))


def file_of_windows(random: np.random.Generator, first: int, windows: int) -> pa.Table:
    """`windows` windows of all containers; one harms another in 3 of 10 of them."""
    window = np.repeat(np.arange(windows), CONTAINERS)
    container = np.tile(np.arange(CONTAINERS), windows)
    rows = len(window)
    is_burst = (random.random(windows) < 0.3)[window]
    cpu_time_ns = random.integers(10**5, 6 * 10**7, rows) * np.where(np.isin(container, (AGGRESSOR, VICTIM)), 4, 1)
    cpi = (0.7 + container % 13 / 10) * random.lognormal(0, 0.07, rows)
    cpi = np.where((container == VICTIM) & is_burst, cpi * 1.5, cpi)
    cycles = cpu_time_ns * 3
    instructions = (cycles / cpi).astype(np.int64)
    misses = (instructions * np.where((container == AGGRESSOR) & is_burst, 0.02, 0.002)).astype(np.int64)
    active_ticks = random.integers(1, 61, rows)
    # In the ticks in which a container ran, its neighbours are like in all others.
    neighbour_misses = (np.bincount(window, misses)[window] - misses) * active_ticks / 60
    same = np.zeros(rows, np.int32)
    codes = container.astype(np.int32)
    numbers = {
        "cgroup_id": container * 7919 + 1_000,
        "window_start": (START_NS + (first + window) * WINDOW_NS) // 1000,
        "window_tick": (first + window) * 60,
        "ticks": np.full(rows, 60),
        "cpu_time_ns": cpu_time_ns,
        "cycles": cycles,
        "instructions": instructions,
        "llc_misses": misses,
        "context_switches": random.integers(0, 99, rows),
        "active_ticks": active_ticks,
        "cpus": random.integers(1, 9, rows),
        "cpu_time_peak_ns": cpu_time_ns // 10,
        "llc_misses_peak": misses // 10,
        "cpi_min": cpi * 0.8,
        "cpi_median": cpi,
        "cpi_max": cpi * 1.3,
        "neighbour_cpu_time_ns": cpu_time_ns * 9,
        "neighbour_llc_misses": neighbour_misses,
        "counter_coverage": np.ones(rows),
    }
    texts = {
        "node_name": strings(["node-1"], same),
        "cgroup_kind": strings(["container"], same),
        "cgroup_path": strings([f"/kubepods/pod{number:032x}/{number:064x}" for number in range(CONTAINERS)], codes),
        "runtime": strings(["containerd"], same),
        "container_id": strings([f"{number * 7919:064x}" for number in range(CONTAINERS)], codes),
        "container_name": strings([f"app-{number % 7}" for number in range(CONTAINERS)], codes),
        "pod_name": strings([f"pod-{number}" for number in range(CONTAINERS)], codes),
        "pod_uid": strings([f"{number:032x}" for number in range(CONTAINERS)], codes),
        "namespace": strings([f"space-{number % 9}" for number in range(CONTAINERS)], codes),
        "qos_class": strings(["burstable"], same),
    }
    columns = [
        texts[field.name] if field.name in texts else pa.array(numbers[field.name]).cast(field.type, safe=False)
        for field in WINDOWS.schema
    ]
    return conform(WINDOWS, pa.table(columns, names=WINDOWS.schema.names))


def write_windows(output: Path, rows: int) -> None:
    random = np.random.default_rng(20)
    windows = rows // CONTAINERS
    metadata = {"tracer.schema_version": str(SCHEMA_VERSION), "tracer.run_id": str(RUN), "tracer.node_name": "node-1"}
    for number, first in enumerate(range(0, windows, FILE_WINDOWS)):
        table = file_of_windows(random, first, min(FILE_WINDOWS, windows - first))
        path = file_path(output, "windows", "node-1", START_NS + first * WINDOW_NS, RUN, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(WINDOWS, table, metadata))


def report_once(output: Path) -> tuple[float, int, str]:
    """Seconds, greatest memory in bytes with all libraries, first line."""
    environment = {**os.environ, "POLARS_MAX_THREADS": str(THREADS), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", REPORT, output], env=environment, check=True, capture_output=True, text=True
    )
    seconds, memory, line = done.stdout.strip().split(" ", 2)
    return float(seconds), int(memory), line


def duckdb_once(output: Path) -> float:
    sql = TOTALS.format(
        files=output / "windows/*/*/*.parquet",
        victims=VICTIMS,
        suspects=SUSPECTS,
        stretch_ns=STRETCH_WINDOWS * WINDOW_NS,
    )
    began = time.perf_counter()
    with duckdb.connect(config={"threads": THREADS}) as database:
        database.execute("SET enable_progress_bar = false")
        database.sql(sql).to_arrow_table()
    return time.perf_counter() - began


def main() -> None:
    rows = int(float(sys.argv[1])) if len(sys.argv) > 1 else 20_000_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    print_machine()
    with tempfile.TemporaryDirectory(prefix="tracer-bench-") as scratch:
        output = Path(scratch)
        write_windows(output, rows)
        results = [(report_once(output), duckdb_once(output)) for _ in range(rounds)]
    ours = statistics.median(seconds for (seconds, _memory, _line), _theirs in results)
    theirs = statistics.median(seconds for _ours, seconds in results)
    memory = max(memory for (_seconds, memory, _line), _theirs in results)
    print(f"{rows:,} rows of windows, {CONTAINERS} containers, {THREADS} threads, medians of {rounds}")
    print(f"  {results[0][0][2]}")
    print(f"  report  {ours:6.2f} s, {memory / 2**20:,.0f} MiB")
    print(f"  duckdb  {theirs:6.2f} s for the same group-bys")
    print_mark("report, times as long as DuckDB", ours / theirs, at_most=1.2)
    print_mark("report, GiB of memory", memory / 2**30, at_most=1.5)


if __name__ == "__main__":
    main()
