# SPDX-License-Identifier: Apache-2.0
"""Which packages, NUMA nodes, dies and last-level caches lie within which, told from their CPUs alone.

No order of theirs holds everywhere: a package has several NUMA nodes or a NUMA node several packages, and so with
caches.
"""

from collections.abc import Iterator

import msgspec

from tracer.kernel.cpus import parse_cpu_list
from tracer.kernel.topology.caches import LlcDomain
from tracer.kernel.topology.groups import CpuGroup
from tracer.kernel.topology.memory import NumaNode
from tracer.kernel.topology.node import Topology


class Package(msgspec.Struct, frozen=True):
    """A package; `number` is the kernel's, or counted where it gives none."""

    number: int


class Die(msgspec.Struct, frozen=True):
    """A die that is not all of its package."""

    number: int


class Llc(msgspec.Struct, frozen=True):
    """A last-level cache; `number` is its index in `llc_domains`."""

    number: int
    domain: LlcDomain


# In this order where they have the same CPUs.
Part = Package | NumaNode | Die | Llc


class Place(msgspec.Struct):
    """The parts that have these very CPUs, what lies within, and the cores that are in nothing smaller."""

    cpus: frozenset[int]
    parts: list[Part]
    inner: "list[Place]"
    cores: list[list[int]]


def nest(topology: Topology) -> Place:
    """The node's online CPUs as a place without parts of its own, with all places that have CPUs within.

    Each lies within the smallest that has all of its CPUs. Where two have some of their CPUs in common and neither has
    all of the other's, they lie side by side, and a core in both is in the first.
    """
    node = Place(frozenset(parse_cpu_list(topology.online)), [], [], [])
    # Python's sort is stable: parts with the same CPUs keep their order.
    for cpus, part in sorted(_parts(topology), key=lambda item: (-len(item[0]), min(item[0]))):
        outer = _innermost(node, cpus)
        if outer is not node and outer.cpus == cpus:
            # A package of one die.
            if not (isinstance(part, Die) and any(isinstance(other, Package) for other in outer.parts)):
                outer.parts.append(part)
        else:
            outer.inner.append(Place(cpus, [part], [], []))
    for core in topology.cores or ():
        _innermost(node, _cpus(core)).cores.append(parse_cpu_list(core.cpus))
    _sort(node)
    return node


def _parts(topology: Topology) -> Iterator[tuple[frozenset[int], Part]]:
    for index, package in enumerate(topology.packages or ()):
        yield _cpus(package), Package(_number(package, index))
    for numa_node in topology.numa_nodes or ():
        if numa_node.cpus:
            yield _cpus(numa_node), numa_node
    for index, die in enumerate(topology.dies or ()):
        yield _cpus(die), Die(_number(die, index))
    for index, domain in enumerate(topology.llc_domains):
        yield _cpus(domain), Llc(index, domain)


def _cpus(part: CpuGroup | NumaNode | LlcDomain) -> frozenset[int]:
    return frozenset(parse_cpu_list(part.cpus or ""))


def _number(group: CpuGroup, index: int) -> int:
    return index if group.sysfs_id is None else group.sysfs_id


def _innermost(place: Place, cpus: frozenset[int]) -> Place:
    while (inner := next((inner for inner in place.inner if cpus <= inner.cpus), None)) is not None:
        place = inner
    return place


def _sort(place: Place) -> None:
    place.inner.sort(key=lambda inner: min(inner.cpus))
    for inner in place.inner:
        _sort(inner)
