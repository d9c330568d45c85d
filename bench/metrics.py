# SPDX-License-Identifier: Apache-2.0
"""What a scrape of the metrics costs, and whether it holds up the reader.

    python bench/metrics.py [SECONDS]

CPU time of a scrape on a node with 50 and with 200 containers, each of which ran, was counted and waited behind three
others, as share of a core at a scrape each 15 s, for both formats: rows of half seconds go into the running totals in
between, so that what they take is in it too. Then, as root, two tracers one after the other in random order for SECONDS
(20) each, of which one is scraped each second: the longest time between two drains of the rings and how late ticks
fired, by `health`. Exits with 1 if a mark is missed.
"""

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from uuid import uuid4

import numpy as np
import polars as pl
import pyarrow as pa
from _common import print_machine, print_mark

from tracer.live.metrics.exposition import OPENMETRICS, PLAIN, Exposition, Facts
from tracer.live.totals import Totals
from tracer.store.schemas import WAITS, WINDOWS, Table

TICK_NS, WINDOW_TICKS, SCRAPE_SECONDS, SCRAPES = 1_000_000, 60, 15, 12
FIRST_TICK, START_NS = 60_000, 1_795_305_600 * 10**9
WINDOWS_BY_SCRAPE = SCRAPE_SECONDS * 1000 // WINDOW_TICKS
BATCH_WINDOWS = 8
RUNS = 2


def rows_of(table: Table, containers: int, window: int, count: int, random_: np.random.Generator) -> pa.Table:
    """`count` windows of all containers from this one on; of waits, each behind three others."""
    by_container = 3 if table is WAITS else 1
    size = count * containers * by_container
    number = np.tile(np.repeat(np.arange(containers), by_container), count)
    windows = window + np.repeat(np.arange(count), containers * by_container)
    holder = (number + 1 + np.arange(size) % 3) % containers
    columns = {}
    for field in table.schema:
        name, of = field.name, number
        if name.startswith("holder_"):
            name, of = name.removeprefix("holder_"), holder
        if name == "cgroup_id":
            columns[field.name] = pa.array(of + 1000)
        elif name == "cgroup_kind":
            columns[field.name] = pa.array(["container"]).take(pa.array(np.zeros(size, int)))
        elif pa.types.is_string(field.type):
            names = pa.array([f"{name}-{one:04}" for one in range(containers)])
            columns[field.name] = names.dictionary_encode().take(pa.array(of))
        elif name == "window_tick":
            columns[field.name] = pa.array(FIRST_TICK + windows * WINDOW_TICKS)
        elif name == "window_start":
            columns[field.name] = pa.array(START_NS + windows * WINDOW_TICKS * TICK_NS).cast(pa.timestamp("ns", "UTC"))
        elif name == "ticks":
            columns[field.name] = pa.array(np.full(size, WINDOW_TICKS))
        elif pa.types.is_floating(field.type):
            columns[field.name] = pa.array(random_.random(size), field.type)
        else:
            columns[field.name] = pa.array(random_.integers(30_000, size=size), field.type)
    return pa.table(columns)


def scrape_cost(containers: int, accept: str) -> tuple[float, int]:
    """CPU seconds of a scrape with what adding up takes since the last one, and the bytes of its text."""
    random_ = np.random.default_rng(0)
    totals = Totals(run_id=str(uuid4()), node_name="bench", tick_ns=TICK_NS, first_tick=FIRST_TICK)
    facts = Facts(
        version="", python_version="", node_name="", kernel_release="", machine="", cpu_model="", start_ns=START_NS
    )
    exposition = Exposition(
        totals.snapshot, facts, is_ready=lambda: True, is_output_failing=lambda: False, counted=dict
    )
    spent, window, size = [], 0, 0
    for _scrape in range(SCRAPES):
        batches = []
        for first in range(0, WINDOWS_BY_SCRAPE, BATCH_WINDOWS):
            count = min(BATCH_WINDOWS, WINDOWS_BY_SCRAPE - first)
            batches += [
                (table, rows_of(table, containers, window + first, count, random_)) for table in (WINDOWS, WAITS)
            ]
        window += WINDOWS_BY_SCRAPE
        begun = time.process_time()
        for table, rows in batches:
            totals.put(table, rows)
        text, _type = exposition.text(accept)
        spent.append(time.process_time() - begun)
        size = len(text)
    # The first has what is compiled or read once.
    return statistics.median(spent[1:]), size


def lateness(seconds: float, is_scraped: bool) -> dict[str, float]:
    """Of a run of the tracer, without its first seconds: in ms, by column of `health`."""
    columns = {
        "reader_lag_max_ns": pl.median("reader_lag_max_ns"),
        "tick_lateness_p99_ns": pl.median("tick_lateness_p99_ns"),
        "lost_ring_full": pl.sum("lost_ring_full"),
    }
    with tempfile.TemporaryDirectory(prefix="tracer-bench-") as directory:
        output = Path(directory) / "results"
        command = [sys.executable, "-m", "tracer.cli.main", "run", "-d", f"{seconds + 5}s", "-o", str(output)]
        tracer = subprocess.Popen([*command, "--metrics", "0"], stderr=subprocess.PIPE, text=True)
        assert tracer.stderr is not None
        said = ""
        while "metrics at " not in said:
            line = tracer.stderr.readline()
            if not line:
                sys.exit(f"the tracer ended: {said}")
            said += line
        url = said.rpartition("metrics at ")[2].strip()
        end = time.monotonic() + seconds + 3
        while time.monotonic() < end:
            time.sleep(1)
            if is_scraped:
                urllib.request.urlopen(url).read()
        tracer.communicate()
        health = pl.read_parquet(output / "health/**/*.parquet", hive_partitioning=False).sort("time")
        found = health.slice(4, int(seconds)).select(columns.values()).row(0, named=True)
    return {name: value / (1 if name.startswith("lost") else 1e6) for name, value in found.items()}


def main() -> None:
    print_machine()
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    missed = False
    for containers in (50, 200):
        for name, accept in (("text", PLAIN), ("OpenMetrics", OPENMETRICS)):
            cost, size = scrape_cost(containers, accept)
            print(f"{containers} containers, {name}: {1000 * cost:.1f} ms, {size / 1000:.0f} kB")
            share = cost / SCRAPE_SECONDS
            print_mark(f"share of a core, {containers} containers, {name}", share, at_most=0.01)
            missed |= share > 0.01
    if os.geteuid() != 0:
        sys.exit("the second part loads BPF programs: run it as root")
    found: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    for _run in range(RUNS):
        for is_scraped in random.sample([True, False], 2):
            found[is_scraped].append(lateness(seconds, is_scraped))
    for name in found[True][0]:
        scraped, not_ = (", ".join(f"{one[name]:.3g}" for one in found[way]) for way in (True, False))
        print(f"{name}: scraped {scraped}; not {not_}")
    scraped_ms, not_ms = (statistics.median(one["reader_lag_max_ns"] for one in found[way]) for way in (True, False))
    ratio = scraped_ms / not_ms
    print_mark("reader's longest lag, scraped each second to not", ratio, at_most=1.5)
    sys.exit(missed or ratio > 1.5)


if __name__ == "__main__":
    main()
