# SPDX-License-Identifier: Apache-2.0
"""A node's topology as a tree for people. What is not known is left out."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from tracer.cli.guides import guides
from tracer.cli.printing import TextOutput
from tracer.kernel.cpus import format_cpu_list, parse_cpu_list
from tracer.kernel.topology.caches import LlcDomain
from tracer.kernel.topology.frequency import FrequencyPolicy
from tracer.kernel.topology.memory import NumaNode
from tracer.kernel.topology.nesting import Die, Package, Part, Place, nest
from tracer.kernel.topology.node import Topology
from tracer.kernel.topology.pmu import Pmu
from tracer.kernel.topology.processor import CpuModel
from tracer.kernel.topology.resctrl import Resctrl
from tracer.pipeline.node import NodeTopology
from tracer.units import format_bytes


class Branch(NamedTuple):
    """A line, the CPUs it is about, and the lines below it."""

    text: str
    cpus: str = ""
    below: "Sequence[Branch]" = ()


def print_tree(node: NodeTopology, title: str, output: TextOutput) -> None:
    """Print it below `title`."""
    lines = list(_lines([Branch(title, below=[*branches_of_node(node), *_branches_of_containers(node)])], 0))
    drawn = guides([depth for depth, _text in lines], width=len("├── "), ascii_only=output.ascii_only)
    for (_depth, text), (first, further) in zip(lines, drawn, strict=True):
        output.say(text, first=first, further=further, cut=False)


def branches_of_node(topology: Topology) -> Iterator[Branch]:
    """What the kernel shows of the node."""
    yield Branch(f"processor: {_processor(topology.cpu_model)}")
    if machine := _joined(topology.machine.vendor, topology.machine.product):
        yield Branch(f"machine: {machine}")
    yield Branch(_cpus(topology), topology.online, [*_special_cpus(topology), *_places(nest(topology), topology.pmus)])
    yield Branch(f"memory: {_memory(topology)}", below=list(_distances(topology.numa_nodes or ())))
    yield from _frequency(topology)
    yield Branch("PMUs, and what events count on them" if topology.pmus else "no PMU", below=list(_pmus(topology)))
    yield Branch(f"resctrl: {_resctrl(topology.resctrl)}")
    if topology.settings.mitigations is not None:
        yield Branch(f"mitigations: {topology.settings.mitigations}")


def _lines(branches: Iterable[Branch], depth: int) -> Iterator[tuple[int, str]]:
    for branch in branches:
        yield depth, f"{branch.text}  CPUs {branch.cpus}" if branch.cpus else branch.text
        yield from _lines(branch.below, depth + 1)


def _joined(*texts: str | None, separator: str = ", ") -> str:
    return separator.join(text for text in texts if text)


def _processor(model: CpuModel) -> str:
    numbers = {"family": model.family, "model": model.model, "stepping": model.stepping}
    known = " ".join(f"{name} {number}" for name, number in numbers.items() if number is not None)
    beneath = None if model.hypervisor is None else f"hypervisor {model.hypervisor}"
    return _joined(model.name or model.vendor or "unknown", known, beneath)


def _cpus(topology: Topology) -> str:
    cpus = _count(len(parse_cpu_list(topology.online)), "CPU")
    cores = None if topology.cores is None else _count(len(topology.cores), "core")
    smt = None if topology.smt_active is None else f"SMT {'on' if topology.smt_active else 'off'}"
    return _joined(cpus, cores, smt)


def _special_cpus(topology: Topology) -> Iterator[Branch]:
    special = {"offline": topology.offline, "isolated": topology.isolated, "nohz_full": topology.nohz_full}
    return (Branch(name, cpus) for name, cpus in special.items() if cpus)


def _places(outer: Place, pmus: Sequence[Pmu]) -> Iterator[Branch]:
    for place in outer.inner:
        yield Branch(_joined(*map(_part, place.parts)), format_cpu_list(place.cpus), list(_places(place, pmus)))
    kinds = [pmu for pmu in pmus if pmu.cpus is not None]
    if len(kinds) < 2:
        yield from _cores(outer.cores, "")
        return
    cores_of_kind: dict[str, list[list[int]]] = {}
    for core in outer.cores:
        kind = next((pmu.name for pmu in kinds if core[0] in parse_cpu_list(pmu.cpus or "")), "")
        cores_of_kind.setdefault(kind, []).append(core)
    for kind, cores in cores_of_kind.items():
        yield from _cores(cores, kind)


def _cores(cores: Sequence[Sequence[int]], kind: str) -> Iterator[Branch]:
    """All in one line: SMT siblings stand together."""
    if cores:
        text = _joined(_count(len(cores), "core"), kind and f"of {kind}", separator=" ")
        if all(len(core) == 1 for core in cores):
            yield Branch(text, format_cpu_list(cpu for core in cores for cpu in core))
        else:
            yield Branch(f"{text} with SMT siblings", " ".join(map(format_cpu_list, cores)))


def _part(part: Part) -> str:
    match part:
        case Package(number):
            return f"package {number}"
        case Die(number):
            return f"die {number}"
        case NumaNode():
            return f"NUMA node {part.node}"
    return _joined(f"LLC {part.number}", _cache(part.domain), separator=": ")


def _cache(domain: LlcDomain) -> str:
    level = None if domain.level is None else f"L{domain.level}"
    size = None if domain.size_bytes is None else format_bytes(domain.size_bytes)
    ways = None if domain.ways is None else f"{domain.ways}-way" if domain.ways else "fully associative"
    return _joined(level, size, ways, separator=" ")


def _memory(topology: Topology) -> str:
    memory = topology.memory
    return _joined(
        None if memory.total_bytes is None else format_bytes(memory.total_bytes),
        None if memory.swap_bytes is None else f"swap {format_bytes(memory.swap_bytes)}",
        f"pages of {format_bytes(memory.page_bytes)}",
        memory.transparent_hugepages and f"huge pages {memory.transparent_hugepages}",
    )


def _distances(nodes: Sequence[NumaNode]) -> Iterator[Branch]:
    width = max((len(str(number)) for node in nodes for number in node.distance or ()), default=0)
    for node in nodes:
        size = None if node.memory_bytes is None else format_bytes(node.memory_bytes)
        numbers = " ".join(f"{number:>{width}}" for number in node.distance or ())
        distance = numbers and f"distances {numbers}"
        yield Branch(f"NUMA node {node.node}: {_joined(size, distance) or 'unknown'}")


def _frequency(topology: Topology) -> Iterator[Branch]:
    turbo = None if topology.turbo is None else f"turbo {'on' if topology.turbo else 'off'}"
    match topology.frequency_policies or []:
        case []:
            yield Branch(f"frequency: {_joined('not set by this kernel', turbo)}")
        case [policy]:
            yield Branch(f"frequency: {_joined(_policy(policy), turbo)}")
        case policies:
            below = [Branch(_policy(policy), policy.cpus) for policy in policies]
            yield Branch(f"frequency: {_joined(f'{len(policies)} policies', turbo)}", below=below)


def _policy(policy: FrequencyPolicy) -> str:
    return _joined(
        policy.driver,
        policy.governor and f"governor {policy.governor}",
        _joined(_gigahertz(policy.min_khz), _gigahertz(policy.max_khz), separator=" to "),
        None if policy.base_khz is None else f"base {_gigahertz(policy.base_khz)}",
        policy.energy_preference and f"preference {policy.energy_preference}",
    )


def _gigahertz(khz: int | None) -> str | None:
    return None if khz is None else f"{khz / 1e6:.2f}".rstrip("0").rstrip(".") + " GHz"


def _pmus(topology: Topology) -> Iterator[Branch]:
    for pmu in topology.pmus:
        held = "a counter is held by the NMI watchdog" if topology.settings.nmi_watchdog else None
        events = [
            Branch(f"{name}: {_joined(event.name if event.name != name else None, event.encoding)}")
            for name, event in pmu.events.items()
        ]
        yield Branch(_joined(f"PMU {pmu.name}", held), pmu.cpus or "", events)


def _resctrl(resctrl: Resctrl) -> str:
    if resctrl.state != "mounted":
        return resctrl.state
    l3_ids = " ".join(map(str, resctrl.l3_ids or ()))
    return _joined(
        f"at {resctrl.mount_point}",
        None if resctrl.num_closids is None else f"{resctrl.num_closids} CLOSIDs",
        None if resctrl.num_rmids is None else f"{resctrl.num_rmids} RMIDs",
        l3_ids and f"L3 ids {l3_ids}",
        " ".join(resctrl.mon_features or ()),
        f"{_count(len(resctrl.control_groups or ()), 'control group')}",
        f"{_count(resctrl.monitoring_groups or 0, 'monitoring group')}",
    )


def _branches_of_containers(node: NodeTopology) -> Iterator[Branch]:
    if node.cgroup is None:
        yield Branch("cgroups: no cgroup2 tree is mounted")
    else:
        cgroup = node.cgroup
        controllers = " ".join(["controllers", *cgroup.controllers]) if cgroup.controllers else None
        kubelet = cgroup.kubelet_driver and f"kubelet by {cgroup.kubelet_driver}"
        yield Branch(f"cgroups: {_joined(f'at {cgroup.mount_point}', controllers, kubelet)}")
    for runtime in node.runtimes:
        drivers = f"cgroups by {' and '.join(runtime.cgroup_drivers)}" if runtime.cgroup_drivers else "no container now"
        yield Branch(f"runtime {runtime.name}: {_joined(' '.join(runtime.directories), drivers)}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
