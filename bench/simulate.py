# SPDX-License-Identifier: Apache-2.0
"""How much faster than real time a node of 4 CPUs with 12 containers is simulated, files and all.

    python bench/simulate.py [SECONDS]

Seconds of simulated time for each second that it takes, without and with the `ticks` table; the best of three rounds,
since others run on the machine too.
"""

import sys
import tempfile
import time
from pathlib import Path

from _common import print_machine, print_mark

from tracer.simulate import simulate
from tracer.simulate.shape import NodeShape

ROUNDS = 3


def ratio(seconds: int, *, ticks: bool) -> float:
    """The best of all rounds."""
    shape = NodeShape(cpus=4, llc_domains=1)
    taken = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as output:
            begin = time.perf_counter()
            simulate("cache-thrash", seed=1, duration_ns=seconds * 10**9, output=Path(output), ticks=ticks, shape=shape)
            taken.append(time.perf_counter() - begin)
    return seconds / min(taken)


def main() -> None:
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    print_machine()
    print_mark("simulated time to real time, windows", ratio(seconds, ticks=False), at_least=10)
    print_mark("simulated time to real time, windows and ticks", ratio(seconds, ticks=True), at_least=5)


if __name__ == "__main__":
    main()
