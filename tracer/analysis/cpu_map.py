# SPDX-License-Identifier: Apache-2.0
"""Which CPUs share a last-level cache or a core, as a run's manifest tells it."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tracer.store.manifest import Manifest

Ints = npt.NDArray[np.int64]

DEFAULT_LINE_BYTES = 64
_MOST_CPUS = 2**16


class CpuMap(NamedTuple):
    """By CPU: the number of its last-level cache, and its SMT sibling, or -1. CPUs that nobody told of share one LLC.

    `line_bytes` is what a miss moves. `is_known` says whether a manifest told of caches at all.
    """

    domain: Ints
    sibling: Ints
    line_bytes: int
    is_known: bool

    @property
    def domains(self) -> int:
        """How many last-level caches there are."""
        return int(self.domain.max()) + 1


def cpu_map(manifests: Sequence[Manifest], node_name: str, cpus: int) -> CpuMap:
    """The map of a node's CPUs 0 to `cpus` - 1, by its newest run that has one."""
    domain = np.zeros(cpus, np.int64)
    sibling = np.full(cpus, -1, np.int64)
    line_bytes = DEFAULT_LINE_BYTES
    is_known = False
    for manifest in reversed(manifests):
        topology = manifest.topology
        if manifest.host.node_name != node_name or not isinstance(topology, dict):
            continue
        for number, llc in enumerate(_list(topology, "llc_domains")):
            domain[_cpus(llc, cpus)] = number
            if isinstance(told := llc.get("line_bytes"), int) and told > 0:
                line_bytes = told
            is_known = True
        for core in _list(topology, "cores"):
            threads = _cpus(core, cpus)
            # With more than two, the next one stands for all.
            if len(threads) > 1:
                sibling[threads] = [*threads[1:], threads[0]]
        if is_known:
            break
    return CpuMap(domain, sibling, line_bytes, is_known)


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
