# SPDX-License-Identifier: Apache-2.0
"""Packages, dies, clusters and cores: Documentation/admin-guide/cputopology.rst."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from tracer.kernel.cpus import format_cpu_list
from tracer.kernel.topology.files import read_cpus, read_number

# Since Linux kernel commit 2e4c54dac7b3 ("topology: Create core_cpus and die_cpus sysfs attributes") (in
# v5.3), the first names; before, the second. `die_cpus` is there only where the architecture has dies, and
# `cluster_cpus` since c5e22feffdd7 ("topology: Represent clusters of CPUs within a die") (in v5.16).
_CORE_LISTS = ("core_cpus_list", "thread_siblings_list")
_PACKAGE_LISTS = ("package_cpus_list", "core_siblings_list")


class CpuGroup(msgspec.Struct, frozen=True):
    """A package, die, cluster or core: its online CPUs as a kernel list, and the number the kernel gives it."""

    cpus: str
    sysfs_id: int | None


def read_packages(system: Path, online: Iterable[int]) -> list[CpuGroup] | None:
    """What sits in a socket, by first CPU; None if not one can be read."""
    return _groups(system, online, _PACKAGE_LISTS, "physical_package_id")


def read_dies(system: Path, online: Iterable[int]) -> list[CpuGroup] | None:
    """Dies, one or more to a package."""
    return _groups(system, online, ("die_cpus_list",), "die_id")


def read_clusters(system: Path, online: Iterable[int]) -> list[CpuGroup] | None:
    """Clusters, cores that share something within a die: a level 2 cache, or on arm64 a part of the interconnect."""
    return _groups(system, online, ("cluster_cpus_list",), "cluster_id")


def read_cores(system: Path, online: Iterable[int]) -> list[CpuGroup] | None:
    """Cores; the CPUs of one are SMT siblings of each other."""
    return _groups(system, online, _CORE_LISTS, "core_id")


def _groups(system: Path, online: Iterable[int], list_names: tuple[str, ...], id_name: str) -> list[CpuGroup] | None:
    """The distinct sets of CPUs that the online CPUs name, by first CPU; None if not one can be read."""
    groups: dict[str, CpuGroup] = {}
    for cpu in online:
        directory = system / f"cpu/cpu{cpu}/topology"
        lists = (read_cpus(directory / name) for name in list_names)
        cpus = next((cpus for cpus in lists if cpus and cpu in cpus), None)
        if cpus is not None:
            key = format_cpu_list(cpus)
            groups.setdefault(key, CpuGroup(cpus=key, sysfs_id=read_number(directory / id_name)))
    return list(groups.values()) or None
