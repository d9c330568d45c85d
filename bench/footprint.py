# SPDX-License-Identifier: Apache-2.0
"""What the tracer costs the node it runs on: time to help and to the first tick, CPU and memory while it traces.

Run it on a node with nothing else to do: an idle one is what the marks speak of.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
from _common import need_root, print_machine, print_mark

from tracer.store.manifest import read_manifest

HELP_RUNS = 7
RUNS = 3
SECONDS = 15
# The first seconds compile queries and touch memory for the first time.
SETTLED_AFTER_ROWS = 3

TRACER = [sys.executable, "-m", "tracer.cli.main"]


def seconds_to_help() -> float:
    times = []
    for _run in range(HELP_RUNS):
        begin = time.perf_counter()
        subprocess.run([*TRACER, "--help"], stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def traced() -> tuple[float, float, float]:
    """One run: seconds to the first tick, share of one core, resident MB at the most."""
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory)
        begun_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        subprocess.run(
            [*TRACER, "run", "--duration", f"{SECONDS}s", "--output", directory], stderr=subprocess.DEVNULL, check=True
        )
        (path,) = output.glob("runs/*/session.json")
        manifest = read_manifest(path)
        assert manifest.first_tick is not None
        health = pl.read_parquet(output / "health/**/*.parquet").sort("time")
    # The last row is of a part of a second.
    settled = health[SETTLED_AFTER_ROWS:-1]
    seconds = settled["time"].diff().drop_nulls().dt.total_nanoseconds().sum() / 1e9
    cpu = settled["own_cpu_time_ns"][1:].sum() / 1e9 / seconds
    first = (manifest.first_tick * manifest.tick_ns - begun_ns) / 1e9
    return first, cpu, health["own_rss_bytes"].max() / 1e6


def main() -> None:
    need_root()
    print_machine()
    help_seconds = seconds_to_help()
    runs = [traced() for _run in range(RUNS)]
    for first, cpu, resident in runs:
        print(f"first tick after {first:.2f} s, {cpu:.1%} of one core, {resident:.0f} MB resident")
    print_mark("tracer --help, s", help_seconds, at_most=0.3)
    for name, values, mark in zip(
        ("first tick, s after start", "CPU, % of one core", "resident memory, MB"),
        zip(*runs, strict=True),
        (3, 6, 260),
        strict=True,
    ):
        scale = 100 if "%" in name else 1
        print_mark(name, statistics.median(values) * scale, at_most=mark)


if __name__ == "__main__":
    main()
