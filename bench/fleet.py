# SPDX-License-Identifier: Apache-2.0
"""How a question on many nodes, and putting their files together, grow with the nodes.

    python bench/fleet.py [DIR...]

Of the recordings in DIR, or of four simulated nodes of a minute, an object store of 10 and one of 50 nodes are made in
a temporary directory: each node is one of the recordings, under a name and a run of its own. Then in processes of their
own `tracer fleet report` is asked on Polars and on DuckDB, the files are put together, and it is asked of these. Prints
rows, bytes, seconds, and the most memory that was resident. Exits with 1 if a node costs more than half as much again
among 50 as among 10, or if putting 50 together takes more than twice as much memory as 10.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from _common import print_machine, print_mark

from tracer.simulate import simulate
from tracer.store.hours import hour_of, hour_text
from tracer.store.layout import manifest_path
from tracer.store.manifest import encode_manifest, read_manifest
from tracer.store.parquet import conform, encode
from tracer.store.periods import Period, PeriodFile, encode_period, merged_path, period_path
from tracer.store.schemas import TABLES
from tracer.store.writer import file_metadata

FEW, MANY = 10, 50
MOST_GROWTH = 1.5
MOST_MEMORY = 2.0
SCENARIOS = ("cpu-hog", "cache-thrash", "late-wakeups", "fair-share")
# Its own peak: what the kernel says of a child begins with that of whoever started it.
COMMAND = """
import atexit, pathlib, sys
atexit.register(lambda: sys.stderr.write(pathlib.Path("/proc/self/status").read_text()))
from tracer.cli.main import main
main()
"""


class Cost(NamedTuple):
    """Of one command."""

    seconds: float
    cpu_seconds: float
    memory_mib: float


def main() -> int:
    print_machine()
    with tempfile.TemporaryDirectory(prefix="tracer-bench-") as name:
        directory = Path(name)
        bases = [Path(one) for one in sys.argv[1:]] or simulated(directory / "bases")
        figures = {nodes: measure(bases, directory / str(nodes), nodes) for nodes in (FEW, MANY)}
    growths = {
        what: (many.cpu_seconds / MANY) / (few.cpu_seconds / FEW)
        for (what, few), many in zip(figures[FEW].items(), figures[MANY].values(), strict=True)
    }
    for what, growth in growths.items():
        print_mark(f"{what}: CPU time of a node among {MANY} / among {FEW}", growth, at_most=MOST_GROWTH)
    memory = figures[MANY]["compact"].memory_mib / figures[FEW]["compact"].memory_mib
    print_mark(f"compact: memory for {MANY} / for {FEW}", memory, at_most=MOST_MEMORY)
    return int(max(growths.values()) > MOST_GROWTH or memory > MOST_MEMORY)


def simulated(output: Path) -> list[Path]:
    found = []
    for seed, scenario in enumerate(SCENARIOS, 1):
        found.append(output / scenario)
        found[-1].mkdir(parents=True)
        simulate(scenario, seed=seed, duration_ns=60 * 10**9, output=found[-1])
    return found


def measure(bases: list[Path], directory: Path, nodes: int) -> dict[str, Cost]:
    store, together = directory / "store", directory / "together"
    rows, size = lay_out(bases, store, nodes)
    told = ", ".join(f"{count:,} rows of {table} in {size[table] / 2**20:,.1f} MiB" for table, count in rows.items())
    print(f"{nodes} nodes: {told}")
    report = ("fleet", "report", "--json", "--since", "2000-01-01T00:00Z")
    costs = {
        "report on Polars": run(*report, store.as_uri()),
        "report on DuckDB": run(*report, "--engine", "duckdb", store.as_uri()),
        "compact": run("fleet", "compact", store.as_uri(), "--to", together.as_uri(), "--since", "2000-01-01T00:00Z"),
        "report on what is compacted": run(*report, together.as_uri()),
    }
    for what, cost in costs.items():
        print(
            f"{nodes:>6} {what:<28} {cost.seconds:7.2f} s {cost.cpu_seconds:7.2f} s of CPU {cost.memory_mib:7.0f} MiB"
        )
    files = [path.stat().st_size for path in together.rglob("*.parquet")]
    print(f"{nodes:>6} {'compacted':<28} {len(files)} files, {sum(files) / 2**20:,.1f} MiB")
    return costs


def lay_out(bases: list[Path], store: Path, nodes: int) -> tuple[dict[str, int], dict[str, int]]:
    """An object store of so many nodes; rows and bytes by table."""
    rows: dict[str, int] = {}
    size: dict[str, int] = {}
    for number in range(nodes):
        base = bases[number % len(bases)]
        name, run_id = f"node-{number:05}", uuid4()
        files: dict[int, list[PeriodFile]] = {}
        for table in TABLES.values():
            paths = sorted(base.glob(f"{table.name}/*/*/*.parquet"))
            if not paths:
                continue
            of_node = pa.concat_tables(pq.read_table(path, partitioning=None) for path in paths)
            named = pa.repeat(pa.scalar(name), len(of_node))
            of_node = of_node.set_column(of_node.column_names.index("node_name"), "node_name", named)
            start_us = pa.compute.min(of_node[table.time_column].cast(pa.int64())).as_py()
            end_us = pa.compute.max(of_node[table.time_column].cast(pa.int64())).as_py()
            metadata = {**file_metadata(run_id, name, name), "tracer.table": table.name}
            path = merged_path(table.name, name, start_us, run_id, 0)
            content = encode(table, conform(table, of_node), metadata)
            (store / path).parent.mkdir(parents=True, exist_ok=True)
            (store / path).write_bytes(content)
            files.setdefault(hour_of(start_us), []).append(
                PeriodFile(
                    path=path, table=table.name, rows=len(of_node), bytes=len(content),
                    sha256=sha256(content).hexdigest(), first_time_ns=start_us * 1_000, last_time_ns=end_us * 1_000,
                )
            )  # fmt: skip
            rows[table.name] = rows.get(table.name, 0) + len(of_node)
            size[table.name] = size.get(table.name, 0) + len(content)
        for hour, of_hour in files.items():
            period = Period(
                node_name=name, identifier=name, run_id=run_id, hour=hour_text(hour), files=of_hour, complete=True
            )
            path = period_path(hour, name, run_id)
            (store / path).parent.mkdir(parents=True, exist_ok=True)
            (store / path).write_bytes(encode_period(period))
        (manifest,) = base.glob("runs/*/session.json")
        there = manifest_path(store, run_id)
        there.parent.mkdir(parents=True)
        found = read_manifest(manifest)
        host = msgspec.structs.replace(found.host, node_name=name, identifier=name)
        there.write_bytes(encode_manifest(msgspec.structs.replace(found, run_id=run_id, host=host)))
    return rows, size


def run(*arguments: str) -> Cost:
    """What a command costs."""
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _pid, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    peak = re.search(r"VmHWM:\s*([0-9]+) kB", said)
    if process.returncode or peak is None:
        sys.exit(f"tracer {' '.join(arguments)}: {said}")
    return Cost(time.monotonic() - start, usage.ru_utime + usage.ru_stime, int(peak[1]) / 1024)


if __name__ == "__main__":
    sys.exit(main())
