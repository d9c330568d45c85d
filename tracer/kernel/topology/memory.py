# SPDX-License-Identifier: Apache-2.0
"""Memory and NUMA nodes: Documentation/ABI/stable/sysfs-devices-node, and proc(5)."""

import mmap
import re
from pathlib import Path

import msgspec

from tracer.kernel.topology.files import read_cpu_list, read_cpus, read_numbers, read_text


class NumaNode(msgspec.Struct, frozen=True):
    """A memory node. `cpus` is empty where it has none, `distance` has one entry per online node in order."""

    node: int
    cpus: str | None
    memory_bytes: int | None
    distance: list[int] | None


class Memory(msgspec.Struct, frozen=True):
    """All memory the kernel manages. `transparent_hugepages`: always, madvise or never."""

    total_bytes: int | None
    swap_bytes: int | None
    page_bytes: int
    transparent_hugepages: str | None


def read_numa_nodes(system: Path) -> list[NumaNode] | None:
    """The online nodes; None on a kernel without NUMA."""
    nodes = read_cpus(system / "node/online")
    if nodes is None:
        return None
    return [
        NumaNode(
            node=node,
            cpus=read_cpu_list(system / f"node/node{node}/cpulist"),
            memory_bytes=_kilobytes("MemTotal", read_text(system / f"node/node{node}/meminfo")),
            distance=read_numbers(system / f"node/node{node}/distance"),
        )
        for node in nodes
    ]


def read_memory(sysfs: Path, procfs: Path) -> Memory:
    """Of the node as a whole."""
    meminfo = read_text(procfs / "meminfo")
    hugepages = re.search(r"\[([a-z]+)\]", read_text(sysfs / "kernel/mm/transparent_hugepage/enabled") or "")
    return Memory(
        total_bytes=_kilobytes("MemTotal", meminfo),
        swap_bytes=_kilobytes("SwapTotal", meminfo),
        page_bytes=mmap.PAGESIZE,
        transparent_hugepages=hugepages[1] if hugepages else None,
    )


def _kilobytes(key: str, meminfo: str | None) -> int | None:
    """A value in bytes. Lines of a node begin with its name, those of /proc/meminfo with the key."""
    match = re.search(rf"\b{key}:\s*([0-9]{{1,15}}) kB", meminfo or "")
    return int(match[1]) * 1024 if match else None
