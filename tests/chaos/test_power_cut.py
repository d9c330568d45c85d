# SPDX-License-Identifier: Apache-2.0
"""The power goes: of what a tracer has written a disk has what was flushed by then, and no more.

The tracer goes on meanwhile: the disk is looked at as it was at several moments of one run.
"""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kept_rows import end_of_rows
from live_node import Tracer
from logged_disk import LoggedDisk
from starvation import DiskStalls, Starvation

pytestmark = pytest.mark.root

_SECOND = 10**9
_CUTS = 4


def test_the_power_goes(tmp_path: Path, start_tracer: Callable[..., Tracer], request: pytest.FixtureRequest) -> None:
    look(LoggedDisk(tmp_path / "synced"), start_tracer, "--sync")
    if request.config.getoption("--kills"):
        look(LoggedDisk(tmp_path / "disk"), start_tracer)


def look(disk: LoggedDisk, start_tracer: Callable[..., Tracer], *options: str) -> None:
    """At what is there after a cut, at several moments of a run."""
    cuts = []
    with disk.open() as emulator:
        tracer = start_tracer("--rotate", "3s", *options, output=disk.mounted / "results")
        tracer.wait_until_tracing()
        tracing_ns = time.monotonic_ns()
        # What is flushed goes through this machine's own disk.
        waited = [Starvation(tracer.process.pid), Starvation(emulator), DiskStalls()]
        time.sleep(3)
        for _cut in range(_CUTS):
            time.sleep(random.uniform(0.2, 1))
            cuts.append((time.monotonic_ns(), disk.cut()))
        tracer.process.kill()
        tracer.process.wait()
    for cut_ns, log in cuts:
        with disk.without_power(log) as mounted:
            end_ns = end_of_rows(mounted / "results") or tracing_ns
        starved_ns = sum(one.between(end_ns, cut_ns) for one in waited)
        print(f"{' '.join(options)} after {(cut_ns - tracing_ns) / _SECOND:.1f} s: the last "
              f"{(cut_ns - end_ns) / _SECOND:.2f} s are missing, starved for {starved_ns / _SECOND:.2f} s")  # fmt: skip
        if options:
            assert cut_ns - end_ns - starved_ns < _SECOND
