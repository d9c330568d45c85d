# SPDX-License-Identifier: Apache-2.0
"""What `tracer top` costs at 200 containers, and the run that it asks.

    python bench/top.py

A terminal of 120 x 40 in which all is painted once a second for SECONDS, with new figures each time: CPU time of that
process as a share of a core. Then what the run spends on a second: adding up its rows, and the answer. Exits with 1 if
a mark is missed.
"""

import asyncio
import sys
import time
from uuid import uuid4

import msgspec
import numpy as np
from _common import print_machine, print_mark
from metrics import BATCH_WINDOWS, FIRST_TICK, TICK_NS, rows_of

from tracer.live.snapshot import Snapshot
from tracer.live.top.app import TopApp
from tracer.live.top.history import History
from tracer.live.totals import Totals
from tracer.store.schemas import WAITS, WINDOWS

CONTAINERS, SECONDS, WARM_SECONDS, WINDOWS_BY_SECOND, MOST = 200, 20, 3, 16, 0.03


def answers() -> tuple[list[bytes], float]:
    """What a run answers second by second, and the CPU time of one."""
    random = np.random.default_rng(0)
    totals = Totals(run_id=str(uuid4()), node_name="bench", tick_ns=TICK_NS, first_tick=FIRST_TICK)
    made, spent = [], []
    for second in range(SECONDS + WARM_SECONDS + 5):
        batches = [
            (table, rows_of(table, CONTAINERS, second * WINDOWS_BY_SECOND + first, BATCH_WINDOWS, random))
            for first in range(0, WINDOWS_BY_SECOND, BATCH_WINDOWS)
            for table in (WINDOWS, WAITS)
        ]
        begun = time.process_time()
        for table, rows in batches:
            totals.put(table, rows)
        made.append(msgspec.json.encode(totals.snapshot()))
        spent.append(time.process_time() - begun)
    return made, float(np.median(spent[1:]))


async def watch(made: list[bytes]) -> float:
    """CPU seconds of a second of `top`, asking included."""
    given = iter(made)
    app = TopApp(lambda: msgspec.json.decode(next(given), type=Snapshot), lambda: "", History())
    async with app.run_test(size=(120, 40)):
        await asyncio.sleep(WARM_SECONDS)
        begun, spent = time.monotonic(), time.process_time()
        await asyncio.sleep(SECONDS)
        return (time.process_time() - spent) / (time.monotonic() - begun)


def main() -> None:
    print_machine()
    made, cost = answers()
    print(f"{CONTAINERS} containers: an answer of {len(made[-1]) / 1000:.0f} kB, {1000 * cost:.1f} ms of the run")
    share = asyncio.run(watch(made))
    print_mark("share of a core that top takes", share, at_most=MOST)
    print_mark("share of a core that the run takes for it", cost, at_most=MOST)
    sys.exit(max(share, cost) > MOST)


if __name__ == "__main__":
    main()
