# SPDX-License-Identifier: Apache-2.0
"""Trees of sysfs and /proc written by hand after real machines."""

from collections.abc import Iterable
from pathlib import Path

from tracer.kernel.cpus import format_cpu_list, parse_cpu_list
from tracer.kernel.topology import Topology, read_topology

MIB = 1 << 20


class Node:
    """A tree under `root` with `sys` and `proc`."""

    def __init__(self, root: Path, possible: str, online: str | None = None) -> None:
        self.root = root
        self.sysfs = root / "sys"
        self.procfs = root / "proc"
        self.system = self.sysfs / "devices/system"
        self.online = parse_cpu_list(possible if online is None else online)
        self.write("cpu/possible", possible)
        self.write("cpu/online", format_cpu_list(self.online))

    def write(self, path: str, text: object) -> None:
        """A file below `/sys/devices/system`."""
        self._write(self.system / path, text)

    def write_sys(self, path: str, text: object) -> None:
        self._write(self.sysfs / path, text)

    def write_proc(self, path: str, text: object) -> None:
        self._write(self.procfs / path, text)

    def _write(self, file: Path, text: object) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    def cpuinfo(self, text: str) -> None:
        self.procfs.mkdir(parents=True, exist_ok=True)
        (self.procfs / "cpuinfo").write_text(text)

    def groups(self, list_name: str, id_name: str, groups: Iterable[str]) -> None:
        for number, cpus in enumerate(groups):
            for cpu in parse_cpu_list(cpus):
                self.write(f"cpu/cpu{cpu}/topology/{list_name}", cpus)
                self.write(f"cpu/cpu{cpu}/topology/{id_name}", number)

    def caches(self, level: int, shared: Iterable[str], kind: str = "Unified", **attributes: object) -> None:
        """Each of the `shared` lists is one cache; attributes are further files of its directories."""
        index = {"Data": 0, "Instruction": 1}.get(kind, level)
        for cpus in shared:
            for cpu in set(parse_cpu_list(cpus)) & set(self.online):
                directory = f"cpu/cpu{cpu}/cache/index{index}"
                for name, value in {"level": level, "type": kind, "shared_cpu_list": cpus, **attributes}.items():
                    self.write(f"{directory}/{name}", value)

    def numa(self, cpus_of_node: Iterable[str], distances: Iterable[str], memory_kb: int) -> None:
        """Nodes 0 to n, each of so much memory."""
        lists = list(cpus_of_node)
        self.write("node/online", format_cpu_list(range(len(lists))))
        for number, (cpus, distance) in enumerate(zip(lists, distances, strict=True)):
            self.write(f"node/node{number}/cpulist", cpus)
            self.write(f"node/node{number}/distance", distance)
            self.write(f"node/node{number}/meminfo", f"Node {number} MemTotal:  {memory_kb:>12} kB")

    def read(self) -> Topology:
        return read_topology(self.sysfs, self.procfs)


def sub_numa_clusters(root: Path) -> Node:
    """Two sockets of one cache and four NUMA nodes each, 16 cores with SMT."""
    node = Node(root, "0-31")
    packages = ["0-7,16-23", "8-15,24-31"]
    node.groups("package_cpus_list", "physical_package_id", packages)
    node.groups("die_cpus_list", "die_id", packages)
    for number in range(16):
        # Core ids start anew in each package.
        for cpu in (number, number + 16):
            node.write(f"cpu/cpu{cpu}/topology/core_cpus_list", f"{number},{number + 16}")
            node.write(f"cpu/cpu{cpu}/topology/core_id", number % 8)
    node.write("cpu/smt/active", 1)
    node.write("cpu/smt/control", "on")
    node.caches(2, [f"{cpu},{cpu + 16}" for cpu in range(16)], size="2048K")
    for number, cpus in enumerate(packages):
        node.caches(3, [cpus], size="107520K", ways_of_associativity=15, coherency_line_size=64, id=number)
    nodes = [f"{2 * quarter}-{2 * quarter + 1},{2 * quarter + 16}-{2 * quarter + 17}" for quarter in range(8)]
    near_and_far = ["10 12 12 12 21 21 21 21"] * 4 + ["21 21 21 21 10 12 12 12"] * 4
    node.numa(nodes, near_and_far, 65536)
    return node


def many_caches(root: Path) -> Node:
    """One socket and NUMA node with four caches, 8 cores with SMT."""
    node = Node(root, "0-15")
    node.groups("package_cpus_list", "physical_package_id", ["0-15"])
    node.groups("core_cpus_list", "core_id", [f"{core},{core + 8}" for core in range(8)])
    node.caches(3, ["0-1,8-9", "2-3,10-11", "4-5,12-13", "6-7,14-15"], size="32768K")
    node.numa(["0-15"], ["10"], 65536)
    return node


def two_sockets_of_two_dies(root: Path) -> Node:
    """As QEMU emulates `-smp 16,sockets=2,dies=2,cores=2,threads=2`, with a cache to each die."""
    node = Node(root, "0-15")
    node.groups("package_cpus_list", "physical_package_id", ["0-7", "8-15"])
    for number, cpus in enumerate(["0-3", "4-7", "8-11", "12-15"]):
        for cpu in parse_cpu_list(cpus):
            node.write(f"cpu/cpu{cpu}/topology/die_cpus_list", cpus)
            node.write(f"cpu/cpu{cpu}/topology/die_id", number % 2)
    node.groups("core_cpus_list", "core_id", [f"{cpu}-{cpu + 1}" for cpu in range(0, 16, 2)])
    node.write("cpu/smt/active", 1)
    node.caches(3, ["0-3", "4-7", "8-11", "12-15"], size="16384K", ways_of_associativity=16)
    node.numa(["0-7", "8-15"], ["10 20", "20 10"], 1048576)
    return node


def one_cache_across_nodes(root: Path) -> Node:
    """A virtual machine that shows one cache, without an id, for two packages and NUMA nodes."""
    node = Node(root, "0-7")
    node.groups("package_cpus_list", "physical_package_id", ["0-3", "4-7"])
    node.groups("core_cpus_list", "core_id", [str(cpu) for cpu in range(8)])
    node.caches(3, ["0-7"], size="16384K")
    node.numa(["0-3", "4-7"], ["10 20", "20 10"], 1048576)
    node.write("cpu/smt/active", 0)
    return node


def hybrid(root: Path) -> Node:
    """Two performance cores with SMT and four efficient ones behind one cache, two low-power ones outside it."""
    node = Node(root, "0-9")
    node.groups("package_cpus_list", "physical_package_id", ["0-9"])
    node.groups("core_cpus_list", "core_id", ["0-1", "2-3", "4", "5", "6", "7", "8", "9"])
    node.groups("cluster_cpus_list", "cluster_id", ["0-1", "2-3", "4-7", "8-9"])
    node.caches(2, ["0-1", "2-3", "4-7", "8-9"], size="2048K")
    node.caches(3, ["0-7"], size="24576K")
    node.write("cpu/smt/active", 1)
    node.write_sys("bus/event_source/devices/cpu_core/cpus", "0-3")
    node.write_sys("bus/event_source/devices/cpu_atom/cpus", "4-9")
    return node
