# SPDX-License-Identifier: Apache-2.0
"""Builds and runs `hardware_load.c`, and reads what it counted."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from _hardware_plan import Bools, Bytes, Floats

HERE = Path(__file__).resolve().parent
THREADS = 3
_HEADER = np.dtype([(name, np.uint64) for name in ("first_tick", "ticks", "hit", "miss", "slow")])
_CELL = np.dtype(
    [(name, np.uint64) for name in ("accesses", "steps", "timed", "slow", "cpu_time_ns")] + [("counters", np.uint64, 3)]
)
# PERF_TYPE_HARDWARE: cycles, instructions, cache misses.
HARDWARE_EVENTS = ("0:0", "0:1", "0:3")
# Of these, the report is given cycles of a clock that never changes, and instructions that are counted as written.
_CYCLES_PER_NS = 2.5
_INSTRUCTIONS_PER_ACCESS = _INSTRUCTIONS_PER_STEP = 4
_NO_EVENTS = 2
_PROBE_MS = 50


class Counts(NamedTuple):
    """By thread and millisecond, [3, T] each. `hit`, `miss`, `slow`: of a load, in ticks of the time stamp counter."""

    first_tick: int
    accesses: Floats
    time_ns: Floats
    cycles: Floats
    instructions: Floats
    misses: Floats
    is_measured: bool
    hit: int
    miss: int
    slow: int

    @property
    def is_burst(self) -> Bools:
        """[T]: whether the aggressor did anything."""
        found: Bools = self.accesses[1] > 0
        return found


class Load:
    """The program, in a directory for what it writes. `cpus`: the victim's, and the others'."""

    def __init__(self, directory: Path, cpus: tuple[int, int], l2_bytes: int) -> None:
        self._directory = directory
        self._cpus = cpus
        self._hit_bytes = 2 * l2_bytes
        self._program = directory / "hardware_load"
        command = ["cc", "-O2", "-Wall", "-Werror", "-pthread", str(HERE / "hardware_load.c"), "-o", str(self._program)]
        if subprocess.run(command, check=False).returncode:
            sys.exit("cannot build hardware_load.c: it needs a C compiler and x86-64")
        self.events = HARDWARE_EVENTS if self._can_count(HARDWARE_EVENTS) else ()

    def run(self, schedule: Bytes, *, set_bytes: int, stream_bytes: int, compute: int = 0) -> Counts:
        """Takes as long as the schedule says, and some seconds to prepare."""
        if not self._run(schedule, set_bytes, stream_bytes, compute, self.events):
            sys.exit("the counters that were there are gone")
        return read_counts((self._directory / "counts").read_bytes(), is_measured=bool(self.events))

    def _can_count(self, events: tuple[str, ...]) -> bool:
        """Whether each is there, and not 0 of all threads: some virtual machines only pretend to have them."""
        if not self._run(np.full(_PROBE_MS, 7, np.uint8), events=events):
            return False
        counts = read_counts((self._directory / "counts").read_bytes(), is_measured=True)
        return all(values.sum() > 0 for values in (counts.cycles, counts.instructions, counts.misses))

    def _run(
        self,
        schedule: Bytes,
        set_bytes: int = 1 << 24,
        stream_bytes: int = 1 << 28,
        compute: int = 0,
        events: tuple[str, ...] = (),
    ) -> bool:
        schedule.tofile(self._directory / "schedule")
        numbers = (set_bytes, stream_bytes, self._hit_bytes, compute, *self._cpus)
        files = (self._directory / "schedule", self._directory / "counts")
        done = subprocess.run(
            [self._program, *files, *map(str, numbers), *events],
            stderr=subprocess.PIPE if events else None,
            check=False,
        )
        if done.returncode not in (0, _NO_EVENTS):
            sys.exit(f"hardware_load failed with {done.returncode}")
        return done.returncode == 0


def read_counts(content: bytes, *, is_measured: bool) -> Counts:
    """What the program wrote. Where it counted no events, they are made from what it did."""
    header = np.frombuffer(content, _HEADER, 1)[0]
    cells = np.frombuffer(content, _CELL, offset=_HEADER.itemsize).reshape(THREADS, int(header["ticks"]))
    accesses, steps, time_ns = (cells[name].astype(np.float64) for name in ("accesses", "steps", "cpu_time_ns"))
    cycles, instructions, misses = np.moveaxis(cells["counters"].astype(np.float64), 2, 0)
    if not is_measured:
        cycles = time_ns * _CYCLES_PER_NS
        instructions = accesses * _INSTRUCTIONS_PER_ACCESS + steps * _INSTRUCTIONS_PER_STEP
        timed = cells["timed"].astype(np.float64)
        # Of what is read in a row, each line is one that the cache did not have.
        misses = accesses * np.divide(cells["slow"], timed, out=np.ones_like(timed), where=timed > 0)
    return Counts(
        first_tick=int(header["first_tick"]),
        accesses=accesses,
        time_ns=time_ns,
        cycles=cycles,
        instructions=instructions,
        misses=misses,
        is_measured=is_measured,
        hit=int(header["hit"]),
        miss=int(header["miss"]),
        slow=int(header["slow"]),
    )
