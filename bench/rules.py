# SPDX-License-Identifier: Apache-2.0
"""What the rules of the flight recorder cost while rows come.

    python bench/rules.py

CPU time of the judge for a second of rows, at 50 and 200 containers that each ran, waited and were counted in every
window, with five rules: eight batches of some windows a second, `resources` and `health` once. `quiet` is where nothing
holds, `all hold` where each container meets each rule all the time, `all flap` where each does for 120 ms and then does
not, again and again, so that nothing lasts long enough. Exits with 1 if a mark is missed.
"""

import statistics
import sys
import time

import numpy as np
import pyarrow as pa
from _common import print_machine, print_mark

from tracer.recorder.judge import Judge
from tracer.recorder.rules import parse_rules
from tracer.store.schemas import HEALTH, RESOURCES, WINDOWS, Table

TICK_NS, WINDOW_TICKS = 1_000_000, 60
WINDOW_NS = TICK_NS * WINDOW_TICKS
START_NS = 1_795_305_600 * 10**9
SECONDS, WINDOWS_BY_SECOND, BATCH_WINDOWS = 60, 16, 2
RULES = (
    "wait(namespace=shop)>20% for 500ms",
    "wait-others>10% for 1s",
    "cpi>1.5x for 300ms",
    "misses>5M/s",
    "cpu-pressure>30% for 2s",
)


def rows_of(table: Table, containers: int, second: int, windows: range, share: float) -> pa.Table:
    """A row of each container in each of these windows, or of this second; `share` of the time is waited for."""
    count = 1 if table is HEALTH else containers
    size = count * len(windows)
    number = np.tile(np.arange(count), len(windows))
    window = np.repeat(np.array(windows), count)
    columns = {}
    for field in table.schema:
        name = field.name
        if name == "cgroup_id":
            columns[name] = pa.array(number + 1000)
        elif name in ("cgroup_kind", "namespace"):
            columns[name] = pa.repeat(pa.scalar({"cgroup_kind": "container"}.get(name, "shop")), size)
        elif pa.types.is_string(field.type):
            columns[name] = pa.array([f"{name}-{one:04}" for one in range(count)]).take(pa.array(number))
        elif name == table.time_column:
            times = START_NS + (window * WINDOW_NS if table is WINDOWS else np.full(size, second * 10**9))
            columns[name] = pa.array(times).cast(pa.timestamp("ns", "UTC"))
        elif name == "window_tick":
            columns[name] = pa.array(window * WINDOW_TICKS)
        elif name == "ticks":
            columns[name] = pa.array(np.full(size, WINDOW_TICKS))
        elif not pa.types.is_integer(field.type):
            columns[name] = pa.nulls(size, field.type)
        else:
            value = {
                "cpu_time_ns": 12_000_000,
                "cycles": 10_000_000,
                "instructions": round(10_000_000 * (1 - share)),
                "llc_misses": round(600_000 * share),
                "wait_time_ns": round(12_000_000 * share / (1 - share)),
                "wait_behind_others_ns": round(12_000_000 * share / (1 - share)),
                "cpu_pressure_some_total_usec": round(second * 1_000_000 * share),
            }.get(name, 0)
            columns[name] = pa.array(np.full(size, value), field.type)
    return pa.table(columns)


def cost(containers: int, share: float, is_flapping: bool) -> tuple[float, float]:
    """CPU time of the judge, in seconds: of a second of rows, and of a batch of `windows`."""
    judge = Judge(parse_rules(RULES), tick_ns=TICK_NS, window_ticks=WINDOW_TICKS)
    by_second, by_batch = [], []
    for second in range(SECONDS + 5):
        first = second * WINDOWS_BY_SECOND
        batches = [
            rows_of(
                WINDOWS,
                containers,
                second,
                range(at, at + BATCH_WINDOWS),
                0.01 if second < SECONDS - 20 or (is_flapping and at % 4 == 0) else share,
            )
            for at in range(first, first + WINDOWS_BY_SECOND, BATCH_WINDOWS)
        ]
        others = [(table, rows_of(table, containers, second, range(1), share)) for table in (RESOURCES, HEALTH)]
        spent = []
        for rows in batches:
            begun = time.process_time()
            judge.look(WINDOWS, rows)
            spent.append(time.process_time() - begun)
        begun = time.process_time()
        for table, rows in others:
            judge.look(table, rows)
        by_second.append(sum(spent) + time.process_time() - begun)
        by_batch += spent
    return statistics.mean(by_second[-20:]), statistics.mean(by_batch[-20 * len(batches) :])


def main() -> None:
    print_machine()
    missed = False
    for containers in (50, 200):
        for name, share in (("quiet", 0.01), ("all hold", 0.6), ("all flap", 0.6)):
            second, batch = cost(containers, share, name == "all flap")
            print(f"{containers} containers, {len(RULES)} rules, {name}: {1000 * batch:.2f} ms a batch")
            most = 0.02 if name == "quiet" else 0.1
            print_mark(f"share of a core, {containers} containers, {name}", second, at_most=most)
            missed |= second > most
    sys.exit(missed)


if __name__ == "__main__":
    main()
