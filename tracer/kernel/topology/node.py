# SPDX-License-Identifier: Apache-2.0
"""The node as the kernel shows it."""

from pathlib import Path

import msgspec

from tracer.kernel.cpus import format_cpu_list, online_cpus, parse_cpu_list, possible_cpus
from tracer.kernel.topology.caches import LlcDomain, read_llc_domains
from tracer.kernel.topology.files import read_cpu_list, read_cpus, read_name, read_switch
from tracer.kernel.topology.frequency import FrequencyPolicy, highest_khz, read_frequency_policies, read_turbo
from tracer.kernel.topology.groups import CpuGroup, read_clusters, read_cores, read_dies, read_packages
from tracer.kernel.topology.memory import Memory, NumaNode, read_memory, read_numa_nodes
from tracer.kernel.topology.pmu import Pmu, read_pmus
from tracer.kernel.topology.processor import CpuModel, Machine, read_cpu_model, read_machine
from tracer.kernel.topology.resctrl import Resctrl, read_resctrl
from tracer.kernel.topology.settings import KernelSettings, read_settings


class Topology(msgspec.Struct, frozen=True, kw_only=True):
    """All of it; CPU lists are in the kernel's notation. A core's CPUs are SMT siblings of each other.

    `smt_control` is on, off, forceoff, notsupported or notimplemented, or a number of threads. `isolated` CPUs are
    left alone by the scheduler, `nohz_full` ones by its tick.
    """

    cpu_model: CpuModel
    machine: Machine
    possible: str
    online: str
    offline: str
    isolated: str | None
    nohz_full: str | None
    smt_active: bool | None
    smt_control: str | None
    packages: list[CpuGroup] | None
    dies: list[CpuGroup] | None
    clusters: list[CpuGroup] | None
    cores: list[CpuGroup] | None
    llc_domains: list[LlcDomain]
    numa_nodes: list[NumaNode] | None
    memory: Memory
    turbo: bool | None
    frequency_policies: list[FrequencyPolicy] | None
    pmus: list[Pmu]
    resctrl: Resctrl
    settings: KernelSettings

    @property
    def highest_khz(self) -> dict[int, int]:
        """By CPU the highest frequency that it can have, where that is known."""
        return highest_khz(self.frequency_policies or [], self.turbo)


def read_topology(sysfs: Path = Path("/sys"), procfs: Path = Path("/proc")) -> Topology:
    """Reads the node. Raises NodeUnsupportedError if not even the online and possible CPUs can be read."""
    system = sysfs / "devices/system"
    possible = possible_cpus(sysfs)
    online = online_cpus(sysfs)
    present = read_cpus(system / "cpu/present")
    numa_nodes = read_numa_nodes(system)
    return Topology(
        cpu_model=read_cpu_model(sysfs, procfs),
        machine=read_machine(sysfs),
        possible=format_cpu_list(possible),
        online=format_cpu_list(online),
        # A virtual machine may declare hundreds of possible CPUs that it does not have.
        offline=format_cpu_list(set(possible if present is None else present) - set(online)),
        isolated=read_cpu_list(system / "cpu/isolated"),
        nohz_full=read_cpu_list(system / "cpu/nohz_full"),
        smt_active=read_switch(system / "cpu/smt/active"),
        smt_control=read_name(system / "cpu/smt/control"),
        packages=read_packages(system, online),
        dies=read_dies(system, online),
        clusters=read_clusters(system, online),
        cores=read_cores(system, online),
        llc_domains=read_llc_domains(system, online, numa_nodes),
        numa_nodes=numa_nodes,
        memory=read_memory(sysfs, procfs),
        turbo=read_turbo(system),
        frequency_policies=read_frequency_policies(system),
        pmus=read_pmus(sysfs),
        resctrl=read_resctrl(procfs),
        settings=read_settings(procfs),
    )


def llc_domain_of_cpu(topology: Topology) -> dict[int, int]:
    """Possible CPU -> index into `llc_domains`.

    A CPU that was offline gets an index of its own past the last domain, until the topology is read again.
    """
    domains = dict.fromkeys(parse_cpu_list(topology.possible), len(topology.llc_domains))
    for index, domain in enumerate(topology.llc_domains):
        domains |= dict.fromkeys(parse_cpu_list(domain.cpus), index)
    return domains
