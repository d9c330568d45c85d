# SPDX-License-Identifier: Apache-2.0
"""What a flight recorder takes: memory by CPU and minute, and CPU time beside a store of the same rows.

    python bench/recorder.py

Rows of a simulated node of 8 CPUs, each tick among them, as they come each half second: into the recorder's memory with
five rules that look at them, and into a store with a journal. Exits with 1 if a mark is missed.
"""

import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import polars as pl
import pyarrow as pa
from _common import print_machine, print_mark

from tracer.recorder.judge import Judge
from tracer.recorder.memory import Memory
from tracer.recorder.rules import parse_rules
from tracer.store.schemas import TABLES, Table
from tracer.store.writer import JournalOptions, Store

CPUS, SECONDS, HALF_NS, SECOND_NS = 8, 60, 500_000_000, 10**9
RULES = ["wait>90% for 1s", "wait-others(namespace=a*)>90%", "cpi>3x", "misses>1000mpki", "throttled>90%"]


def batches(directory: Path) -> list[tuple[int, Table, pa.Table]]:
    """All rows by the half second, as the pipeline has them."""
    found = []
    for name, table in TABLES.items():
        files = list((directory / name).rglob("*.parquet"))
        if not files:
            continue
        rows = pl.read_parquet(files, hive_partitioning=False)
        half = (pl.col(table.time_column).dt.epoch("us") // (HALF_NS // 1000)).alias("half")
        for key, part in rows.with_columns(half).partition_by("half", as_dict=True, include_key=False).items():
            found.append((int(key[0]), table, part.to_arrow()))
    return sorted(found, key=lambda one: one[0])


def spent_on(put: Callable[[int, Table, pa.Table], None], given: Iterator[tuple[int, Table, pa.Table]]) -> float:
    """CPU seconds."""
    begun = time.process_time()
    for half, table, rows in given:
        put(half * HALF_NS, table, rows)
    return time.process_time() - begun


def record(given: list[tuple[int, Table, pa.Table]], rules: list[str]) -> tuple[float, int]:
    """CPU seconds, and bytes of all of it."""
    memory: Memory[int] = Memory(3600 * SECOND_NS, 1 << 32, 0)
    judge = Judge(parse_rules(rules), tick_ns=1_000_000, window_ticks=60)

    def put(now_ns: int, table: Table, rows: pa.Table) -> None:
        memory.put(table, rows, now_ns)
        judge.look(table, rows)
        if memory.is_due(now_ns):
            memory.seal(now_ns, 0)

    spent = spent_on(put, iter(given))
    memory.seal(given[-1][0] * HALF_NS, 0)
    return spent, memory.size


def store(given: list[tuple[int, Table, pa.Table]], output: Path) -> float:
    """CPU seconds with a journal."""
    kept = Store(
        output, identifier="bench", run_id=uuid4(), node_name="bench", rotate_ns=90 * SECOND_NS, keep_bytes=None,
        on_full="delete-oldest", journal=JournalOptions(False, print),
    )  # fmt: skip

    def put(now_ns: int, table: Table, rows: pa.Table) -> None:
        kept.append(table, rows)
        kept.rotate_if_due(now_ns)

    spent = spent_on(put, iter(given))
    begun = time.process_time()
    kept.close()
    return spent + time.process_time() - begun


def main() -> None:
    print_machine()
    missed = False
    for containers in (50, 200):
        with tempfile.TemporaryDirectory(prefix="tracer-bench-") as directory:
            node = Path(directory) / "node"
            options = ["--ticks", "--cpus", str(CPUS), "--containers", str(containers), "--duration", f"{SECONDS}s"]
            command = [sys.executable, "-m", "tracer.cli.main", "simulate", *options, node]
            subprocess.run(command, check=True, capture_output=True)
            given = batches(node)
            rows: Counter[str] = Counter()
            for _half, table, part in given:
                rows[table.name] += part.num_rows
            stored = store(given, Path(directory) / "stored")
        recorded, size = record(given, RULES)
        without, _size = record(given, [])
        count, ms = rows.total(), 1000 / SECONDS
        print(f"{containers} containers on {CPUS} CPUs, {SECONDS} s: {count:,} rows, {size / count:.1f} bytes each")
        print(f"  memory of a CPU's minute: {size / CPUS * 60 / SECONDS / 1e6:.2f} MB")
        print(
            f"  CPU time by second: recorder {ms * recorded:.1f} ms, of it rules {ms * (recorded - without):.1f} ms; "
            f"store {ms * stored:.1f} ms"
        )
        ratio = recorded / stored
        print_mark(f"CPU time of the recorder to that of a store, {containers} containers", ratio, at_most=1.0)
        missed |= ratio > 1.0
    sys.exit(missed)


if __name__ == "__main__":
    main()
