# SPDX-License-Identifier: Apache-2.0
"""What it costs to read the files of 500 and of 5,000 cgroups each second, and the memory of processes.

    python bench/readers.py [PASSES]

Cgroups are made at the top of the cgroup2 tree and removed at the end; those of the machine are not touched. A pass is
what the run does in a second: read, join the identity, and make the rows the store takes. Beside it, the same files of
the same cgroups read and split into a dict by plain Python, in turns with ours. How many files a cgroup has depends on
the controllers of the version 2 tree, so their number is printed.
"""

import contextlib
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
from _common import need_root, print_machine, print_mark

from tracer.containers.cgroupfs import find_cgroup2_mount
from tracer.containers.inventory import Inventory
from tracer.kernel.clock import RunClock, measure_anchor
from tracer.pipeline.labelling import Labelling
from tracer.readers.cgroup_keys import FILES
from tracer.readers.processes import ProcessesReader
from tracer.readers.protocol import Cgroup
from tracer.readers.pss import PssSums
from tracer.readers.resources import ResourcesReader
from tracer.store.parquet import conform
from tracer.store.schemas import RESOURCES, Table

CGROUPS_IN_SLICE = 500


class Taken:
    """In the place of the store's stage: does what that does with rows when they come."""

    def put(self, table: Table, rows: pa.Table) -> None:
        conform(table, rows)


@contextlib.contextmanager
def made_cgroups(root: Path, count: int) -> Iterator[list[str]]:
    """Paths of that many cgroups, named as containers."""
    top = root / f"tracer-bench-{os.getpid()}.slice"
    slices = [top / f"{number}.slice" for number in range(-(-count // CGROUPS_IN_SLICE))]
    try:
        for parent in (top, *slices):
            parent.mkdir()
            there = (parent / "cgroup.controllers").read_text().split()
            wanted = " ".join(f"+{name}" for name in ("cpu", "memory", "io", "pids") if name in there)
            (parent / "cgroup.subtree_control").write_text(wanted)
        made = []
        for number in range(count):
            parent = slices[number // CGROUPS_IN_SLICE]
            made.append(parent / f"docker-{number:064x}.scope")
            made[-1].mkdir()
        yield [f"/{path.relative_to(root)}" for path in made]
    finally:
        for directory, _children, _files in os.walk(top, topdown=False):
            Path(directory).rmdir()


def plain_python(root: Path, paths: list[str], names: list[str]) -> list[dict[str, str]]:
    """Rows as one would write it without a thought of its cost: open, read, split."""
    rows = []
    for path in paths:
        row = {}
        for name in names:
            for line in (root / path.lstrip("/") / name).read_text().splitlines():
                key, _, value = line.rpartition(" ")
                row[f"{name}.{key}"] = value
        rows.append(row)
    return rows


def cpu_seconds(call: Callable[[], object]) -> float:
    """CPU time of all threads, in user space and in the kernel."""
    begin = time.process_time()
    call()
    return time.process_time() - begin


def read_cgroups(root: Path, count: int, passes: int) -> float:
    """CPU time of a pass in seconds."""
    with made_cgroups(root, count) as paths:
        inventory = Inventory(root)
        labelling = Labelling(inventory, Taken(), clock=RunClock(measure_anchor()), node_name="bench")  # type: ignore[arg-type]
        reader = ResourcesReader(root)
        made = set(paths)
        cgroups = [
            Cgroup(cgroup_id, path, identity.kind, identity.container_id, False)
            for cgroup_id, path, identity in inventory.existing()
            if path in made
        ]
        names = [file.name for file in FILES if not file.is_setting and (root / paths[0][1:] / file.name).exists()]

        def one_pass() -> None:
            labelling.put(RESOURCES, reader.read(cgroups).rows["resources"])

        first = cpu_seconds(one_pass)
        ours, theirs = zip(
            *((cpu_seconds(one_pass), cpu_seconds(lambda: plain_python(root, paths, names))) for _ in range(passes)),
            strict=True,
        )
        reader.close()
    cost, plain = statistics.median(ours), statistics.median(theirs)
    print(
        f"{count} cgroups of {len(names)} files that change: {cost * 1e3:.1f} ms a pass, the first {first * 1e3:.0f} ms"
    )
    print(
        f"  {cost / count * 1e6:.1f} us a cgroup; plain Python {plain * 1e3:.1f} ms, {plain / cost:.1f} times as much"
    )
    return cost


def slab_bytes() -> int:
    (line,) = (line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("Slab:"))
    return int(line.split()[1]) * 1024


def kernel_memory_of_open_files(root: Path) -> None:
    """What the kernel keeps for a file that stays open after it was read."""
    count = min(5000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
    before = slab_bytes()
    descriptors = [os.open(root / "cpu.stat", os.O_RDONLY) for _ in range(count)]
    for descriptor in descriptors:
        os.pread(descriptor, 4096, 0)
    print(f"kernel memory of a file that stays open: {(slab_bytes() - before) / count / 1000:.1f} KB")
    for descriptor in descriptors:
        os.close(descriptor)


def read_processes(root: Path, passes: int) -> None:
    """Time to read one process with 1 GiB in 1,000 mappings, with and without its regions."""
    script = (
        "import mmap, sys\n"
        "kept = []\n"
        "for _ in range(1000):\n"
        "    kept.append(mmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))\n"
        "    kept.append(mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ))\n"
        "    kept[-2].write(bytes(1 << 20))\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with made_cgroups(root, 1) as (path,):
        directory = root / path[1:]
        process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            process.stdout.readline()
            (directory / "cgroup.procs").write_text(str(process.pid))
            cgroups = [Cgroup(directory.stat().st_ino, path, "container", None, False)]
            costs = {}
            for with_regions in (False, True):
                reader = ProcessesReader(
                    root, PssSums(), largest_bytes=1 << 40, budget_ns=10**12, with_regions=with_regions
                )
                costs[with_regions] = statistics.median(
                    cpu_seconds(lambda reader=reader: reader.read(cgroups)) for _ in range(passes)
                )
            stalls = reader.read(cgroups).health["process_read_max_ns"]
        finally:
            process.communicate()
    print(
        f"a process of 1 GiB: {costs[False] * 1e3:.1f} ms of CPU time, {stalls / 1e6:.1f} ms of it in smaps_rollup; "
        f"with regions {costs[True] * 1e3:.1f} ms, {costs[True] / costs[False]:.1f} times as much"
    )


def main() -> None:
    need_root()
    print_machine()
    passes = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    root = find_cgroup2_mount()
    small = read_cgroups(root, 500, passes)
    large = read_cgroups(root, 5000, max(3, passes // 3))
    kernel_memory_of_open_files(root)
    read_processes(root, max(3, passes // 3))
    print_mark("share of a core, 500 cgroups each second", small, at_most=0.05)
    print_mark("share of a core, 5,000 cgroups each second", large, at_most=0.5)


if __name__ == "__main__":
    main()
