# SPDX-License-Identifier: Apache-2.0
"""Which CPUs share a last-level cache or a core, as a run's manifest tells it."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tracer.store.manifest import Manifest

Ints = npt.NDArray[np.int64]

DEFAULT_LINE_BYTES = 64
DEFAULT_LLC_BYTES = 32 * 2**20
_MOST_CPUS = 2**16


class CpuMap(NamedTuple):
    """By CPU: the number of its last-level cache, its SMT sibling, or -1, and its NUMA node. CPUs that nobody told of
    share one cache and one node.

    line_bytes: what a miss moves. llc_bytes: of the largest last-level cache.
    is_known: whether a manifest told of caches at all.
    """

    domain: Ints
    sibling: Ints
    memory: Ints
    line_bytes: int
    llc_bytes: int
    is_known: bool

    @property
    def llc_lines(self) -> float:
        """How many lines a last-level cache has."""
        return self.llc_bytes / self.line_bytes

    @property
    def domains(self) -> int:
        """How many last-level caches there are."""
        return int(self.domain.max()) + 1


def cpu_map(manifests: Sequence[Manifest], node_name: str, cpus: int) -> CpuMap:
    """The map of a node's CPUs 0 to `cpus` - 1, by its newest run that has one."""
    domain = np.zeros(cpus, np.int64)
    sibling = np.full(cpus, -1, np.int64)
    memory = np.zeros(cpus, np.int64)
    line_bytes = DEFAULT_LINE_BYTES
    llc_bytes = 0
    is_known = False
    for manifest in reversed(manifests):
        topology = manifest.topology
        if manifest.host.node_name != node_name or not isinstance(topology, dict):
            continue
        for number, llc in enumerate(_list(topology, "llc_domains")):
            domain[_cpus(llc, cpus)] = number
            if isinstance(told := llc.get("line_bytes"), int) and told > 0:
                line_bytes = told
            if isinstance(size := llc.get("size_bytes"), int) and size > 0:
                llc_bytes = max(llc_bytes, size)
            is_known = True
        for number, node in enumerate(_list(topology, "numa_nodes")):
            memory[_cpus(node, cpus)] = number
        for core in _list(topology, "cores"):
            threads = _cpus(core, cpus)
            # With more than two, the next one stands for all.
            if len(threads) > 1:
                sibling[threads] = [*threads[1:], threads[0]]
        if is_known:
            break
    return CpuMap(domain, sibling, memory, line_bytes, llc_bytes or DEFAULT_LLC_BYTES, is_known)


def _list(topology: dict[str, Any], name: str) -> Iterable[dict[str, Any]]:
    found = topology.get(name)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _cpus(group: dict[str, Any], cpus: int) -> list[int]:
    """The CPUs of a sysfs list such as `0-3,8`, as far as they are below `cpus`."""
    numbers: list[int] = []
    for part in str(group.get("cpus", "")).split(","):
        first, _dash, last = part.partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            numbers.extend(range(int(first), min(int(last or first), _MOST_CPUS) + 1))
    return [number for number in numbers if number < cpus]
