# SPDX-License-Identifier: Apache-2.0
"""What the node is made of, from sysfs and /proc/cpuinfo, as it stands in a run's session.json.

The list of CPUs is the identity of a package, die, core or cache; the numbers the kernel gives them are
attributes only: core ids repeat between packages, cache ids are missing or wrong on some virtual machines. A
value that cannot be read is None, never 0. Offline CPUs have no topology, and lists of siblings name online
CPUs only, so after a CPU came or went the topology is to be read again. The files are described in
Documentation/admin-guide/cputopology.rst and Documentation/ABI/testing/sysfs-devices-system-cpu.
"""

import re
from pathlib import Path

import msgspec

from tracer.errors import TracerError
from tracer.kernel.cpus import format_cpu_list, online_cpus, parse_cpu_list, possible_cpus

_NUMBER = re.compile(r"[0-9]{1,18}")

# Since Linux kernel commit 2e4c54dac7b3 ("topology: Create core_cpus and die_cpus sysfs attributes") (in
# v5.3), the first names; before, the second. `die_cpus` is there only where the architecture has dies.
_CORE_LISTS = ("core_cpus_list", "thread_siblings_list")
_PACKAGE_LISTS = ("package_cpus_list", "core_siblings_list")


class CpuModel(msgspec.Struct, frozen=True):
    """The first processor of /proc/cpuinfo.

    On arm64, vendor is the implementer's code, family the architecture, model the part number, and stepping
    holds variant and revision as 0xVR; there is no name. `hypervisor` is its name, `none`, or `unknown` for
    one that is there and does not say.
    """

    vendor: str | None
    family: int | None
    model: int | None
    stepping: int | None
    name: str | None
    microcode: str | None
    hypervisor: str | None


class CpuGroup(msgspec.Struct, frozen=True):
    """A package, die or core: its online CPUs as a kernel list, and the number the kernel gives it."""

    cpus: str
    sysfs_id: int | None


class LlcDomain(msgspec.Struct, frozen=True):
    """CPUs behind one last-level cache, their highest data or unified cache.

    `level` is None for CPUs of which the node shows no cache; they are taken as one domain. Zero ways mean
    fully associative.
    """

    cpus: str
    level: int | None
    size_bytes: int | None
    ways: int | None
    line_bytes: int | None
    sysfs_id: int | None


class NumaNode(msgspec.Struct, frozen=True):
    """A memory node. `cpus` is empty where it has none, `distance` has one entry per online node in order."""

    node: int
    cpus: str | None
    memory_bytes: int | None
    distance: list[int] | None


class Topology(msgspec.Struct, frozen=True):
    """All of it; CPU lists are in the kernel's notation. A core's CPUs are SMT siblings of each other."""

    cpu_model: CpuModel
    possible: str
    online: str
    offline: str
    isolated: str | None
    smt_active: bool | None
    packages: list[CpuGroup] | None
    dies: list[CpuGroup] | None
    cores: list[CpuGroup] | None
    llc_domains: list[LlcDomain]
    numa_nodes: list[NumaNode] | None


def read_topology(sysfs: Path = Path("/sys"), procfs: Path = Path("/proc")) -> Topology:
    """Reads the node. Raises NodeUnsupportedError if not even the online and possible CPUs can be read."""
    system = sysfs / "devices/system"
    possible = possible_cpus(sysfs)
    online = online_cpus(sysfs)
    present = _cpu_list(system / "cpu/present")
    smt_active = _number(system / "cpu/smt/active")
    return Topology(
        cpu_model=_cpu_model(sysfs, procfs),
        possible=format_cpu_list(possible),
        online=format_cpu_list(online),
        # A virtual machine may declare hundreds of possible CPUs that it does not have.
        offline=format_cpu_list(set(possible if present is None else present) - set(online)),
        isolated=_formatted(_cpu_list(system / "cpu/isolated")),
        smt_active=None if smt_active is None else smt_active == 1,
        packages=_cpu_groups(system, online, _PACKAGE_LISTS, "physical_package_id"),
        dies=_cpu_groups(system, online, ("die_cpus_list",), "die_id"),
        cores=_cpu_groups(system, online, _CORE_LISTS, "core_id"),
        llc_domains=_llc_domains(system, online),
        numa_nodes=_numa_nodes(system),
    )


def llc_domain_of_cpu(topology: Topology) -> dict[int, int]:
    """Possible CPU -> index into `llc_domains`.

    A CPU that was offline gets an index of its own past the last domain, until the topology is read again.
    """
    domains = dict.fromkeys(parse_cpu_list(topology.possible), len(topology.llc_domains))
    for index, domain in enumerate(topology.llc_domains):
        domains |= dict.fromkeys(parse_cpu_list(domain.cpus), index)
    return domains


def _cpu_groups(system: Path, online: list[int], list_names: tuple[str, ...], id_name: str) -> list[CpuGroup] | None:
    """The distinct sets of CPUs that the online CPUs name, by first CPU; None if not one can be read."""
    groups: dict[str, CpuGroup] = {}
    for cpu in online:
        directory = system / f"cpu/cpu{cpu}/topology"
        lists = (_cpu_list(directory / name) for name in list_names)
        cpus = next((cpus for cpus in lists if cpus and cpu in cpus), None)
        if cpus is not None:
            key = format_cpu_list(cpus)
            groups.setdefault(key, CpuGroup(cpus=key, sysfs_id=_number(directory / id_name)))
    return list(groups.values()) or None


def _llc_domains(system: Path, online: list[int]) -> list[LlcDomain]:
    """Every online CPU is in a domain; those without a readable cache are together in the last one."""
    domains: dict[str, LlcDomain] = {}
    unknown: list[int] = []
    for cpu in online:
        domain = _last_level_cache(system / f"cpu/cpu{cpu}/cache", cpu)
        if domain is None:
            unknown.append(cpu)
        else:
            domains.setdefault(domain.cpus, domain)
    if unknown:
        cpus = format_cpu_list(unknown)
        domains[cpus] = LlcDomain(cpus, level=None, size_bytes=None, ways=None, line_bytes=None, sysfs_id=None)
    return list(domains.values())


def _last_level_cache(directory: Path, cpu: int) -> LlcDomain | None:
    last: LlcDomain | None = None
    for index in directory.glob("index[0-9]*"):
        level = _number(index / "level")
        cpus = _cpu_list(index / "shared_cpu_list")
        if level is None or cpus is None or cpu not in cpus or _text(index / "type") == "Instruction":
            continue
        if last is None or last.level is None or level > last.level:
            last = LlcDomain(
                cpus=format_cpu_list(cpus),
                level=level,
                size_bytes=_kibibytes(_text(index / "size")),
                ways=_number(index / "ways_of_associativity"),
                line_bytes=_number(index / "coherency_line_size") or None,
                sysfs_id=_number(index / "id"),
            )
    return last


def _numa_nodes(system: Path) -> list[NumaNode] | None:
    """The online nodes; None on a kernel without NUMA."""
    nodes = _cpu_list(system / "node/online")
    if nodes is None:
        return None
    return [
        NumaNode(
            node=node,
            cpus=_formatted(_cpu_list(system / f"node/node{node}/cpulist")),
            memory_bytes=_memory_bytes(_text(system / f"node/node{node}/meminfo")),
            distance=_distances(_text(system / f"node/node{node}/distance")),
        )
        for node in nodes
    ]


def _memory_bytes(meminfo: str | None) -> int | None:
    match = re.search(r"MemTotal:\s*([0-9]{1,15}) kB", meminfo or "")
    return int(match[1]) * 1024 if match else None


def _distances(text: str | None) -> list[int] | None:
    numbers = (text or "").split()
    return [int(number) for number in numbers] if numbers and all(map(_NUMBER.fullmatch, numbers)) else None


def _cpu_model(sysfs: Path, procfs: Path) -> CpuModel:
    fields = _first_processor(procfs / "cpuinfo")
    variant, revision = _integer(fields.get("CPU variant")), _integer(fields.get("CPU revision"))
    midr_stepping = None if variant is None or revision is None else variant << 4 | revision
    return CpuModel(
        vendor=fields.get("vendor_id", fields.get("CPU implementer")),
        family=_integer(fields.get("cpu family", fields.get("CPU architecture"))),
        model=_integer(fields.get("model", fields.get("CPU part"))),
        stepping=_integer(fields["stepping"]) if "stepping" in fields else midr_stepping,
        name=fields.get("model name"),
        microcode=fields.get("microcode"),
        hypervisor=_hypervisor(sysfs, fields),
    )


def _first_processor(cpuinfo: Path) -> dict[str, str]:
    """Stops at the first blank line: on a large machine the whole file takes long to make."""
    fields: dict[str, str] = {}
    try:
        with cpuinfo.open(errors="replace") as lines:
            for line in lines:
                key, colon, value = line.partition(":")
                if colon:
                    fields[key.strip()] = value.strip()
                elif fields:
                    break
    except OSError:
        return {}
    return fields


def _hypervisor(sysfs: Path, fields: dict[str, str]) -> str | None:
    """Xen names itself, KVM and Hyper-V show by their clock sources, others by a CPU flag without a name."""
    named = _text(sysfs / "hypervisor/type")
    if named:
        return named
    sources = _text(sysfs / "devices/system/clocksource/clocksource0/available_clocksource") or ""
    if "kvm-clock" in sources:
        return "kvm"
    if "hyperv" in sources:
        return "hyperv"
    if "flags" not in fields:
        return None
    return "unknown" if "hypervisor" in fields["flags"].split() else "none"


def _integer(text: str | None) -> int | None:
    match = re.fullmatch(r"0x[0-9a-fA-F]{1,8}|[0-9]{1,9}", text or "")
    return int(match[0], 0 if match[0].startswith("0x") else 10) if match else None


def _kibibytes(text: str | None) -> int | None:
    match = re.fullmatch(r"([1-9][0-9]{0,14})K", text or "")
    return int(match[1]) * 1024 if match else None


def _number(path: Path) -> int | None:
    """A number of 0 or more; the kernel writes -1 for what it does not know."""
    text = _text(path)
    return int(text) if text is not None and _NUMBER.fullmatch(text) else None


def _cpu_list(path: Path) -> list[int] | None:
    text = _text(path)
    try:
        return None if text is None else parse_cpu_list(text)
    except TracerError:
        return None


def _formatted(cpus: list[int] | None) -> str | None:
    return None if cpus is None else format_cpu_list(cpus)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None
