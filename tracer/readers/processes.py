# SPDX-License-Identifier: Apache-2.0
"""Memory and CPU time of each process, and what its memory is mapped from: tables `processes` and `regions`.

Reading smaps_rollup or smaps holds the lock of the target's address space for a while; what a process does with its
memory meanwhile waits. So large processes are left alone, and a pass has a budget of CPU time.
"""

import os
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from tracer.readers.file_systems import FileSystems
from tracer.readers.memory_maps import MEMORY_COLUMNS, REGION_COLUMNS, parse_rollup, parse_smaps
from tracer.readers.process_stat import ProcessStat, parse_stat
from tracer.readers.protocol import Cgroup, Observation, Reader
from tracer.readers.pss import PSS_SCHEMA, PssSums
from tracer.readers.resources import has_resources
from tracer.readers.turns import Turns, Waiting

_PROC = Path("/proc")
_LONGEST_STAT = 4096
_CHUNK = 1 << 16
# Kinds of cgroups whose processes are a container's, or are there for it.
_OF_CONTAINERS = frozenset({"container", "sandbox", "monitor", "pod"})
# A process with the most mappings that Linux allows has some 45 MB of smaps.
_LONGEST_SMAPS = 64 << 20

_HEALTH = (
    "process_reads",
    "process_read_time_ns",
    "process_read_max_ns",
    "processes_too_large",
    "processes_put_off",
)
_PROCESS_SCHEMA = pl.Schema(
    {
        "cgroup_id": pl.UInt64,
        "monotonic_ns": pl.Int64,
        "pid": pl.UInt32,
        "comm": pl.String,
        "start_time": pl.Int64,
        "threads": pl.UInt32,
        "cpu_user_ns": pl.UInt64,
        "cpu_system_ns": pl.UInt64,
        "rss_bytes": pl.UInt64,
        "read_time_ns": pl.UInt64,
        **dict.fromkeys(MEMORY_COLUMNS, pl.UInt64),
    }
)
_REGION_SCHEMA = pl.Schema(
    {
        "cgroup_id": pl.UInt64,
        "monotonic_ns": pl.Int64,
        "pid": pl.UInt32,
        "kind": pl.String,
        "path": pl.String,
        "mappings": pl.UInt32,
        **dict.fromkeys(REGION_COLUMNS, pl.UInt64),
    }
)


class _Found(NamedTuple):
    cgroup: Cgroup
    pid: int


class ProcessesReader(Reader):
    """A row of each process that has memory of its own: no kernel threads, no zombies.

    Those that the budget does not reach have their CPU times, and their turn in a later pass; see `Turns`.
    """

    name = "processes"

    def __init__(
        self,
        root: Path,
        pss: PssSums,
        *,
        largest_bytes: int,
        budget_ns: int,
        with_regions: bool,
        proc: Path = _PROC,
    ) -> None:
        """`root`: where the cgroup2 tree is mounted. `largest_bytes`: resident size of the largest process to be read.

        `budget_ns`: CPU time of this thread for the memory of the processes in one pass.
        """
        self._root = os.fsencode(root).rstrip(b"/")
        self._pss = pss
        self._largest_bytes = largest_bytes
        self._budget_ns = budget_ns
        self._with_regions = with_regions
        self._proc = os.fsencode(proc)
        self._file_systems = FileSystems(self._proc)
        self._turns = Turns()

    def read(self, cgroups: Sequence[Cgroup]) -> Observation:
        """One pass over all processes of all cgroups, and over the memory of as many as the budget allows."""
        found, hidden = self._find(cgroups)
        processes: dict[int, dict[str, Any]] = {}
        waiting = []
        health = dict.fromkeys(_HEALTH, 0)
        for cgroup, pid in found:
            stat = parse_stat(self._text(pid, b"stat", _LONGEST_STAT))
            if stat is None or not stat.has_memory:
                continue
            processes[pid] = self._row(cgroup, pid, stat)
            if stat.rss_bytes > self._largest_bytes:
                health["processes_too_large"] += 1
            else:
                waiting.append(_waiting(cgroup, pid, stat))
        regions: list[dict[str, Any]] = []
        if self._with_regions:
            self._file_systems.begin_pass()
        spent_ns = 0
        for one in self._turns.order(waiting):
            if spent_ns >= self._budget_ns:
                break
            begin_cpu_ns = time.thread_time_ns()
            read_ns = self._read_memory(processes[one.process[0]], regions)
            taken_ns = time.thread_time_ns() - begin_cpu_ns
            self._turns.took(one, taken_ns)
            spent_ns += taken_ns
            health["process_reads"] += 1
            health["process_read_time_ns"] += read_ns
            health["process_read_max_ns"] = max(health["process_read_max_ns"], read_ns)
        health["processes_put_off"] = len(waiting) - health["process_reads"]
        frame = pl.DataFrame(list(processes.values()), schema=_PROCESS_SCHEMA)
        self._pss.put(_sums(frame, hidden, cgroups))
        rows = {"processes": frame}
        if self._with_regions:
            rows["regions"] = pl.DataFrame(regions, schema=_REGION_SCHEMA)
        return Observation(rows, health)

    def _find(self, cgroups: Sequence[Cgroup]) -> tuple[list[_Found], dict[int, int]]:
        """Processes by ascending pid; and, by cgroup id, how many this PID namespace does not see."""
        found: dict[int, _Found] = {}
        hidden: dict[int, int] = {}
        for cgroup in cgroups:
            try:
                # Those of a threaded subtree are listed at its top; the cgroups in it refuse (cgroup-v2.rst).
                listed = _read(self._root + os.fsencode(cgroup.path) + b"/cgroup.procs", _LONGEST_SMAPS)
                pids = [int(pid) for pid in listed.split()]
            except (OSError, ValueError):
                continue
            found |= {pid: _Found(cgroup, pid) for pid in pids if pid > 0}
            if 0 in pids:
                hidden[cgroup.cgroup_id] = pids.count(0)
        return [found[pid] for pid in sorted(found)], hidden

    def _row(self, cgroup: Cgroup, pid: int, stat: ProcessStat) -> dict[str, Any]:
        return {
            "cgroup_id": cgroup.cgroup_id,
            "monotonic_ns": time.clock_gettime_ns(time.CLOCK_MONOTONIC),
            "pid": pid,
            "comm": stat.comm,
            "start_time": stat.start_boottime_ns,
            "threads": stat.threads,
            "cpu_user_ns": stat.cpu_user_ns,
            "cpu_system_ns": stat.cpu_system_ns,
            "rss_bytes": stat.rss_bytes,
        }

    def _read_memory(self, row: dict[str, Any], regions: list[dict[str, Any]]) -> int:
        """Adds the memory of a row's process to the row, and what it is mapped from to `regions`; returns how long."""
        begin_ns = time.perf_counter_ns()
        memory = parse_rollup(self._text(row["pid"], b"smaps_rollup", _CHUNK))
        read_ns = time.perf_counter_ns() - begin_ns
        if memory:
            row |= memory
            row["read_time_ns"] = read_ns
            if self._with_regions:
                regions += self._regions(row)
        return read_ns

    def _regions(self, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        of_process = {name: row[name] for name in ("cgroup_id", "monotonic_ns", "pid")}
        pid = row["pid"]
        smaps = self._text(pid, b"smaps", _LONGEST_SMAPS)
        for region in parse_smaps(smaps, self._file_systems.of(pid), partial(self._file_systems.node, pid)):
            yield of_process | region

    def _text(self, pid: int, name: bytes, at_most: int) -> bytes:
        """Empty if the process is gone, is another user's in a namespace of its own, or has no such file."""
        try:
            return _read(b"%s/%d/%s" % (self._proc, pid, name), at_most)
        except OSError:
            return b""


def _waiting(cgroup: Cgroup, pid: int, stat: ProcessStat) -> Waiting:
    # What a container made inside itself shares its identifier.
    container = cgroup.container_id or cgroup.path
    is_host = cgroup.kind not in _OF_CONTAINERS
    return Waiting((pid, stat.start_boottime_ns), container, is_host, stat.rss_bytes)


def _read(path: bytes, at_most: int) -> bytes:
    """Raises OSError. What is beyond `at_most` bytes is left out."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        chunks = []
        size = 0
        # smaps comes a page at a time, and only for as long as a page takes is the target's lock held.
        while size < at_most and (chunk := os.read(descriptor, _CHUNK)):
            chunks.append(chunk)
            size += len(chunk)
        return b"".join(chunks)
    finally:
        os.close(descriptor)


def _sums(processes: pl.DataFrame, hidden: dict[int, int], cgroups: Sequence[Cgroup]) -> pl.DataFrame:
    """PSS of each cgroup that `has_resources`, with all below it, and of how many of its processes it is the sum."""
    own = processes.group_by("cgroup_id").agg(
        pl.len().alias("processes"), pl.count("pss_bytes").alias("read"), pl.sum("pss_bytes")
    )
    by_id = {cgroup_id: (count, read, pss) for cgroup_id, count, read, pss in own.iter_rows()}
    by_path: dict[str, tuple[int, int, int]] = {}
    for cgroup in cgroups:
        count, read, pss = by_id.get(cgroup.cgroup_id, (0, 0, 0))
        count += hidden.get(cgroup.cgroup_id, 0)
        if not count:
            continue
        path = cgroup.path
        while True:
            above = by_path.get(path, (0, 0, 0))
            by_path[path] = (above[0] + count, above[1] + read, above[2] + pss)
            if path == "/":
                break
            path = path.rpartition("/")[0] or "/"
    rows = []
    for cgroup in cgroups:
        if has_resources(cgroup):
            count, read, pss = by_path.get(cgroup.path, (0, 0, 0))
            is_known = read > 0 or count == 0
            rows.append((cgroup.cgroup_id, count, pss if is_known else None, read / count if count else None))
    return pl.DataFrame(rows, schema=PSS_SCHEMA, orient="row")
