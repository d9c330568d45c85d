# SPDX-License-Identifier: Apache-2.0
"""What the journal costs a run: a minute of 50 containers' rows, as they come, with the journal and without.

    python bench/journal.py

CPU time of the store by second of rows, and how large its process becomes; each way in a process of its own, in turns.
Exits with 1 if a mark is missed.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
from _common import print_machine, print_mark

from tracer.store.schemas import TABLES, Table
from tracer.store.writer import JournalOptions, Store

CONTAINERS, WINDOW_NS, BATCH_NS, SECONDS, TURNS = 50, 60_000_000, 500_000_000, 60, 3
# Each container waited behind three others.
ROWS_BY_WINDOW = {"windows": CONTAINERS + 1, "waits": 3 * CONTAINERS}
START_NS = 1_795_305_600 * 10**9


def rows_of(table: Table, count: int, start_ns: int, random: np.random.Generator) -> pa.Table:
    """As the pipeline has them: names of the containers, numbers at random."""
    columns = []
    for field in table.schema:
        if field.name == table.time_column:
            times = start_ns + np.arange(count) * (BATCH_NS // count) // WINDOW_NS * WINDOW_NS
            columns.append(pa.array(times).cast(pa.timestamp("ns", "UTC")))
        elif pa.types.is_string(field.type):
            names = [f"{field.name}-{number:032x}" for number in random.integers(CONTAINERS, size=count)]
            columns.append(pa.array(names).dictionary_encode())
        elif pa.types.is_floating(field.type):
            columns.append(pa.array(random.random(count), field.type))
        else:
            columns.append(pa.array(random.integers(30_000, size=count), field.type))
    return pa.table(columns, names=table.schema.names)


def store_minute(output: Path, journal: bool) -> None:
    """Prints CPU seconds and the peak of its memory, MB."""
    random = np.random.default_rng(0)
    batches = [
        (TABLES[name], rows_of(TABLES[name], BATCH_NS * rows // WINDOW_NS, START_NS + number * BATCH_NS, random))
        for number in range(SECONDS * 10**9 // BATCH_NS)
        for name, rows in ROWS_BY_WINDOW.items()
    ]
    store = Store(
        output,
        identifier="bench",
        run_id=uuid4(),
        node_name="bench",
        rotate_ns=90 * 10**9,
        keep_bytes=None,
        on_full="stop",
        journal=JournalOptions(sync=False, note=print) if journal else None,
    )
    before = time.process_time()
    for table, rows in batches:
        store.append(table, rows)
    spent = time.process_time() - before
    print(spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)
    store.close()
    store.release()


def main() -> None:
    print_machine()
    found: dict[str, list[list[float]]] = {"with": [], "without": []}
    for _turn in range(TURNS):
        for way, results in found.items():
            with tempfile.TemporaryDirectory(prefix="tracer-bench-") as directory:
                command = [sys.executable, __file__, directory, way]
                said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                results.append([float(word) for word in said.split()])
    with_it, without = (np.median(np.array(results), axis=0) for results in found.values())
    share = (with_it[0] - without[0]) / SECONDS
    print(f"the store takes {without[0] / SECONDS:.2%} of a core, with a journal {with_it[0] / SECONDS:.2%}")
    print(f"its process is {without[1]:.0f} MB at most, with a journal {with_it[1]:.0f} MB")
    sys.exit(
        not all(
            [
                print_mark("of a core, for the journal", share, at_most=0.01),
                print_mark("MB, for the journal", with_it[1] - without[1], at_most=20),
            ]
        )
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        store_minute(Path(sys.argv[1]), sys.argv[2] == "with")
    else:
        main()
