# SPDX-License-Identifier: Apache-2.0
"""How fast the tracer's reader empties a ring, against libbpf with a C callback and BCC with a Python callback.

    python bench/ring_drain.py [ROUNDS]

One ring of 1 MiB, as a run has, which the tracer's own BPF program fills through `replay`: 40 cgroups in turn on one
CPU, so that some drive each other out of their slots, and now and then a run of ticks without an event. All readers
map that same ring. In each round it is filled anew and the readers take the very same records in turns: after each
drain the consumer's position is set back, which only an idle producer allows. The tracer's reader and the C callback
fill the same columns with the same checks, and the columns are compared. BCC's Python callback takes the same fields
of each record; the rate with one that only returns is printed beside it.

Needs root, a C compiler and Debian's libbpf-dev.
"""

import ctypes
import mmap
import os
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _common import need_root, print_machine, print_mark

from tracer.kernel import bpf
from tracer.kernel.loader import Programs, programs_directory
from tracer.kernel.loader_process import import_bcc
from tracer.kernel.record_block import RecordBlock
from tracer.kernel.records import COUNTERS, TICK_RECORD
from tracer.kernel.rings import Rings
from tracer.kernel.tick_load import TickLoad

HERE = Path(__file__).parent
TICK_NS = 1_000_000
RING_BYTES = 1 << 20
CAPACITY = 1 << 15
CPU = 0
CGROUPS = 40

Pointer = ctypes.c_void_p


class Columns(ctypes.Structure):
    """`struct columns` of libbpf_drain.c."""

    _fields_ = (
        ("tick", Pointer),
        ("cpu", Pointer),
        ("cgroup_id", Pointer),
        ("cpu_time_ns", Pointer),
        ("counters", Pointer * COUNTERS),
        ("unread", Pointer),
        ("context_switches", Pointer),
        ("lateness_ns", Pointer),
        ("waited", Pointer),
        ("tick_ns", ctypes.c_uint64),
        ("capacity", ctypes.c_uint64),
        ("row", ctypes.c_uint64),
        ("first_tick", ctypes.c_uint64),
        ("last_tick", ctypes.c_uint64),
        ("ring_cpu", ctypes.c_uint64),
        ("expected", ctypes.c_uint64),
        ("records", ctypes.c_uint64),
        ("missing", ctypes.c_uint64),
        ("malformed", ctypes.c_uint64),
    )

    @classmethod
    def of(cls, block: RecordBlock) -> "Columns":
        """Lets the callback write into the arrays of a block, which must outlive it."""
        return cls(
            block.tick.ctypes.data,
            block.cpu.ctypes.data,
            block.cgroup_id.ctypes.data,
            block.cpu_time_ns.ctypes.data,
            (Pointer * COUNTERS)(*(counter.ctypes.data for counter in block.counters)),
            block.unread.ctypes.data,
            block.context_switches.ctypes.data,
            block.lateness_ns.ctypes.data,
            block.waited.ctypes.data,
            tick_ns=TICK_NS,
            capacity=block.capacity,
            last_tick=2**64 - 1,
            ring_cpu=CPU,
        )


class BccRecord(ctypes.Structure):
    """`struct tick_record` as a user of BCC describes it."""

    _fields_ = (
        ("tick", ctypes.c_uint64),
        ("cgroup_id", ctypes.c_uint64),
        ("counters", ctypes.c_uint64 * COUNTERS),
        ("sequence", ctypes.c_uint32),
        ("cpu", ctypes.c_uint16),
        ("unread", ctypes.c_uint16),
        ("time_ns", ctypes.c_uint32),
        ("switches", ctypes.c_uint32),
        ("tick_count", ctypes.c_uint32),
        ("lateness_ns", ctypes.c_uint32),
        ("wait_ns", ctypes.c_uint64),
        ("wait_self_ns", ctypes.c_uint64),
        ("waits", ctypes.c_uint32),
        ("involuntary", ctypes.c_uint32),
        ("stolen_ns", ctypes.c_uint64),
    )


def task_of(cgroup_id: int) -> int:
    """An address for the one task of a cgroup, at which no memory can be."""
    return 0x0100_8880_0000_0000 + 64 * cgroup_id


class Ring:
    """The ring that BCC made, mapped for the tracer's reader, filled and set back here."""

    def __init__(self, descriptor: int, programs: Programs) -> None:
        self.descriptor = descriptor
        self._replay = programs["replay"]
        self._consumer = mmap.mmap(descriptor, mmap.PAGESIZE)
        self._producer = mmap.mmap(
            descriptor, mmap.PAGESIZE + 2 * RING_BYTES, prot=mmap.PROT_READ, offset=mmap.PAGESIZE
        )
        bpf.set_descriptor(programs["rings"], CPU, descriptor)
        self._now_ns = 10 * TICK_NS
        self._count = 0
        self.records = 0

    def fill(self) -> None:
        """Puts in as many records as fit, but for a few."""
        begun = self._position(self._producer)
        while self._position(self._producer) - begun < RING_BYTES - 10_000:
            self._count += 1
            # Every 20 ticks three ticks pass without an event.
            self._now_ns += 25_000 if self._count % 800 else 3 * TICK_NS
            cgroup_id, following = (1_000 + 7 * (count % CGROUPS) for count in (self._count, self._count + 1))
            bpf.run_with_arguments(
                self._replay,
                self._now_ns,
                cgroup_id,
                3 * self._now_ns,
                2 * self._now_ns,
                self._now_ns >> 8,
                CPU,
                1,
                task_of(cgroup_id),
                self._now_ns,
                task_of(following),
                self._now_ns,
                # One in ten is still ready, and waits for all the others.
                self._count % 10 == 0,
            )
        self.records = (self._position(self._producer) - begun) // (8 + TICK_RECORD.itemsize)

    def set_back(self) -> None:
        """Makes the reader find the last filling again."""
        position = self._position(self._producer) - self.records * (8 + TICK_RECORD.itemsize)
        self._consumer[:8] = position.to_bytes(8, sys.byteorder)

    def is_empty(self) -> bool:
        """Whether all was read."""
        return self._consumer[:8] == self._producer[:8]

    def new_reader(self) -> Rings:
        """The tracer's reader, which has read nothing yet."""
        consumer, producer = (
            int(np.frombuffer(part, np.uint8).ctypes.data) for part in (self._consumer, self._producer)
        )
        rings = Rings(CPU + 1, RING_BYTES)
        rings.add_mapping(CPU, consumer, producer, producer + mmap.PAGESIZE)
        return rings

    @staticmethod
    def _position(page: mmap.mmap) -> int:
        return int.from_bytes(page[:8], sys.byteorder)


def build_libbpf_drain() -> ctypes.CDLL:
    """Compiles and loads the C callback."""
    library = HERE / "build" / "libbpf_drain.so"
    library.parent.mkdir(exist_ok=True)
    command = ["cc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", f"-I{programs_directory()}"]
    command += [str(HERE / "libbpf_drain.c"), "-lbpf", "-o", str(library)]
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError):
        sys.exit("cannot build libbpf_drain.c: apt-get install gcc libbpf-dev")
    loaded = ctypes.CDLL(str(library))
    loaded.drain_open.argtypes = [ctypes.c_int, ctypes.POINTER(Columns)]
    loaded.drain_open.restype = Pointer
    loaded.drain.argtypes = [Pointer]
    loaded.drain_close.argtypes = [Pointer]
    loaded.drain_close.restype = None
    return loaded


def load_bcc_ring() -> Any:
    """The BCC module that has the ring."""
    os.environ["BCC_KERNEL_SOURCE"] = str(programs_directory() / "headers")
    return import_bcc().BPF(src_file=str(HERE / "bcc_ring.c"))


class TracerReader:
    """tracer.kernel.ring_reader, called as a run calls it."""

    drains_per_round = 40

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self.block = RecordBlock(CAPACITY)
        self.rows = 0

    def prepare(self) -> None:
        """A reader that has read nothing yet."""
        self._rings = self._ring.new_reader()

    def drain(self) -> None:
        """A deadline that is over: one drain."""
        self.rows = self._rings.follow(self.block, 0, interval_ns=TICK_NS, phase_ns=0, deadline_ns=0)

    def counts(self) -> tuple[int, int, int]:
        """Records, missing and malformed ones."""
        counts = self._rings.counts(CPU)
        return counts.records, counts.missing, counts.malformed


class LibbpfReader:
    """libbpf_drain.c, called through ctypes once a drain."""

    drains_per_round = 40

    def __init__(self, descriptor: int) -> None:
        self._library = build_libbpf_drain()
        self.block = RecordBlock(CAPACITY)
        self._columns = Columns.of(self.block)
        self._ring = self._library.drain_open(descriptor, ctypes.byref(self._columns))
        if not self._ring:
            sys.exit("libbpf cannot open the ring")

    @property
    def rows(self) -> int:
        """Rows written by the last drain."""
        return int(self._columns.row)

    def prepare(self) -> None:
        """A reader that has read nothing yet."""
        for count in ("row", "expected", "records", "missing", "malformed"):
            setattr(self._columns, count, 0)

    def drain(self) -> None:
        """All that the ring holds."""
        if self._library.drain(self._ring) < 0:
            sys.exit("libbpf's drain failed")

    def counts(self) -> tuple[int, int, int]:
        """Records, missing and malformed ones."""
        return int(self._columns.records), int(self._columns.missing), int(self._columns.malformed)

    def close(self) -> None:
        """Unmaps the ring."""
        self._library.drain_close(self._ring)


class BccReader:
    """BCC's reader with a Python callback."""

    drains_per_round = 3

    def __init__(self, descriptor: int, callback: Callable[[object, int, int], int]) -> None:
        self._module = load_bcc_ring()
        table = self._module["ring"]
        table.map_fd = descriptor
        table.open_ring_buffer(callback)

    def prepare(self) -> None:
        """It keeps nothing."""

    def drain(self) -> None:
        """All that the ring holds."""
        self._module.ring_buffer_consume()

    def close(self) -> None:
        """Gives its maps back."""
        self._module.cleanup()


def ignore(_context: object, _data: int, _size: int) -> int:
    """The cheapest callback there can be."""
    return 0


class RowTaker:
    """A callback that takes the fields of each record, into rows where the others fill columns."""

    def __init__(self) -> None:
        # Bounded: only the time to add a row counts.
        self._rows: deque[tuple[int, ...]] = deque(maxlen=CAPACITY)

    def __call__(self, _context: object, data: int, _size: int) -> int:
        record = ctypes.cast(data, ctypes.POINTER(BccRecord)).contents
        self._rows.append(
            (
                record.tick,
                record.cpu,
                record.cgroup_id,
                record.time_ns,
                *record.counters,
                record.unread,
                record.switches,
                record.lateness_ns,
                record.wait_ns,
                record.wait_self_ns,
                record.waits,
                record.involuntary,
                record.stolen_ns,
            )
        )
        return 0


Reader = TracerReader | LibbpfReader | BccReader


def seconds_of(ring: Ring, reader: Reader) -> float:
    """One drain of the ring's last filling."""
    ring.set_back()
    reader.prepare()
    begun = time.perf_counter_ns()
    reader.drain()
    elapsed = time.perf_counter_ns() - begun
    if not ring.is_empty():
        sys.exit(f"{type(reader).__name__} left records in the ring")
    return elapsed / 1e9


def compare(ring: Ring, tracer: TracerReader, libbpf: LibbpfReader) -> None:
    """Ends the bench if the two did not come to the same columns after a drain each."""
    same = (
        tracer.counts() == libbpf.counts()
        and tracer.counts()[0] == ring.records
        and tracer.rows == libbpf.rows
        and all(
            # Counters lie by row in each of their arrays, all others as rows.
            np.array_equal(ours.T[: tracer.rows], theirs.T[: tracer.rows])
            if len(ours) == COUNTERS
            else np.array_equal(ours[: tracer.rows], theirs[: tracer.rows])
            for ours, theirs in zip(tracer.block.columns(), libbpf.block.columns(), strict=True)
        )
    )
    if not same:
        sys.exit("the tracer's reader and the C callback do not agree")


def run(ring: Ring, rounds: int) -> None:
    tracer, libbpf = TracerReader(ring), LibbpfReader(ring.descriptor)
    bcc, bcc_empty = BccReader(ring.descriptor, RowTaker()), BccReader(ring.descriptor, ignore)
    readers: dict[str, Reader] = {"tracer": tracer, "libbpf": libbpf, "BCC": bcc, "BCC, empty callback": bcc_empty}
    rates: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(rounds):
        ring.fill()
        # The first drain meets pages and caches that are cold.
        for reader in readers.values():
            seconds_of(ring, reader)
        compare(ring, tracer, libbpf)
        elapsed: dict[str, list[float]] = {name: [] for name in readers}
        for turn in range(max(reader.drains_per_round for reader in readers.values())):
            for name, reader in readers.items():
                if turn < reader.drains_per_round:
                    elapsed[name].append(seconds_of(ring, reader))
        for name in readers:
            rates[name].append(ring.records / statistics.median(elapsed[name]))
    for reader in (libbpf, bcc, bcc_empty):
        reader.close()

    print(f"{rounds} rounds of {ring.records:,} records in {tracer.rows:,} rows; medians")
    for name in readers:
        ratio = median_ratio(rates["tracer"], rates[name])
        print(f"  {name:20}{statistics.median(rates[name]) / 1e6:8.2f} M records/s  1 : {ratio:.2f}")
    print_mark("ring_drain against libbpf", median_ratio(rates["tracer"], rates["libbpf"]), at_least=1)
    print_mark("ring_drain against BCC", median_ratio(rates["tracer"], rates["BCC"]), at_least=100)


def median_ratio(rates: Sequence[float], others: Sequence[float]) -> float:
    """The median over the rounds."""
    return statistics.median(rate / other for rate, other in zip(rates, others, strict=True))


def main() -> None:
    need_root()
    print_machine()
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    module = load_bcc_ring()
    with TickLoad(tick_ns=TICK_NS, counted=[True] * COUNTERS, extra_functions=["replay"]).result() as programs:
        run(Ring(module["ring"].map_fd, programs), rounds)
    module.cleanup()


if __name__ == "__main__":
    main()
