# SPDX-License-Identifier: Apache-2.0
"""Last-level caches: Documentation/ABI/testing/sysfs-devices-system-cpu.

An LLC is not a NUMA node: with sub-NUMA clusters several nodes share one, on many an AMD processor a node has several,
and in virtual machines one can lie across nodes. It is taken as the kernel shows it.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from tracer.kernel.cpus import format_cpu_list, parse_cpu_list
from tracer.kernel.topology.files import read_cpus, read_number, read_text
from tracer.kernel.topology.memory import NumaNode


class LlcDomain(msgspec.Struct, frozen=True):
    """CPUs behind one last-level cache, their highest data or unified cache.

    `level` is None for CPUs of which the node shows no cache; they are taken as one domain. Zero ways mean
    fully associative. `numa_nodes` are those its CPUs are in; None on a kernel without NUMA.
    """

    cpus: str
    level: int | None
    size_bytes: int | None
    ways: int | None
    line_bytes: int | None
    sysfs_id: int | None
    numa_nodes: list[int] | None = None


def read_llc_domains(
    system: Path, online: Iterable[int], numa_nodes: Sequence[NumaNode] | None = None
) -> list[LlcDomain]:
    """Every online CPU is in a domain; those without a readable cache are together in the last one."""
    domains: dict[str, LlcDomain] = {}
    unknown: list[int] = []
    running = set(online)
    for cpu in sorted(running):
        domain = _last_level_cache(system / f"cpu/cpu{cpu}/cache", cpu, running)
        if domain is None:
            unknown.append(cpu)
        else:
            domains.setdefault(domain.cpus, domain)
    if unknown:
        cpus = format_cpu_list(unknown)
        domains[cpus] = LlcDomain(cpus, level=None, size_bytes=None, ways=None, line_bytes=None, sysfs_id=None)
    if numa_nodes is None:
        return list(domains.values())
    cpus_of_node = {node.node: set(parse_cpu_list(node.cpus or "")) for node in numa_nodes}
    return [
        msgspec.structs.replace(
            domain,
            numa_nodes=[
                node for node, cpus in cpus_of_node.items() if not cpus.isdisjoint(parse_cpu_list(domain.cpus))
            ],
        )
        for domain in domains.values()
    ]


def _last_level_cache(directory: Path, cpu: int, online: set[int]) -> LlcDomain | None:
    last: LlcDomain | None = None
    for index in directory.glob("index[0-9]*"):
        level = read_number(index / "level")
        cpus = read_cpus(index / "shared_cpu_list")
        if level is None or cpus is None or cpu not in cpus or read_text(index / "type") == "Instruction":
            continue
        if last is None or last.level is None or level > last.level:
            last = LlcDomain(
                # A CPU that went offline stays in the lists of the others (seen in v6.1).
                cpus=format_cpu_list(online.intersection(cpus)),
                level=level,
                size_bytes=_kibibytes(read_text(index / "size")),
                ways=read_number(index / "ways_of_associativity"),
                line_bytes=read_number(index / "coherency_line_size") or None,
                sysfs_id=read_number(index / "id"),
            )
    return last


def _kibibytes(text: str | None) -> int | None:
    match = re.fullmatch(r"([1-9][0-9]{0,14})K", text or "")
    return int(match[1]) * 1024 if match else None
