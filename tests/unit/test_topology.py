# SPDX-License-Identifier: Apache-2.0
"""Trees of sysfs written by hand after real machines, and the node the tests run on."""

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.errors import NodeUnsupportedError
from tracer.kernel.cpus import format_cpu_list, parse_cpu_list
from tracer.kernel.topology import CpuGroup, LlcDomain, NumaNode, Topology, llc_domain_of_cpu, read_topology

MIB = 1 << 20

X86_CPUINFO = """\
processor	: 0
vendor_id	: GenuineIntel
cpu family	: 6
model		: 143
model name	: Intel(R) Xeon(R) Platinum 8480+
stepping	: 8
microcode	: 0x2b000461
flags		: fpu vme {flag}

processor	: 1
vendor_id	: SomethingElse
"""

ARM64_CPUINFO = """\
processor	: 0
BogoMIPS	: 243.75
Features	: fp asimd evtstrm
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x3
CPU part	: 0xd0c
CPU revision	: 1

"""


class Node:
    """A tree under `root` with `sys` and `proc`."""

    def __init__(self, root: Path, possible: str, online: str | None = None) -> None:
        self.sysfs = root / "sys"
        self.procfs = root / "proc"
        self.system = self.sysfs / "devices/system"
        self.online = parse_cpu_list(possible if online is None else online)
        self.write("cpu/possible", possible)
        self.write("cpu/online", format_cpu_list(self.online))

    def write(self, path: str, text: object) -> None:
        file = self.system / path
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

    def read(self) -> Topology:
        return read_topology(self.sysfs, self.procfs)


def llc_cpus(topology: Topology) -> list[str]:
    return [domain.cpus for domain in topology.llc_domains]


def test_two_sockets_with_sub_numa_clusters_share_one_cache_per_socket(tmp_path: Path) -> None:
    node = Node(tmp_path, "0-31")
    packages = ["0-7,16-23", "8-15,24-31"]
    node.groups("package_cpus_list", "physical_package_id", packages)
    node.groups("die_cpus_list", "die_id", packages)
    for number in range(16):
        # Core ids start anew in each package.
        for cpu in (number, number + 16):
            node.write(f"cpu/cpu{cpu}/topology/core_cpus_list", f"{number},{number + 16}")
            node.write(f"cpu/cpu{cpu}/topology/core_id", number % 8)
    node.write("cpu/smt/active", 1)
    node.caches(2, [f"{cpu},{cpu + 16}" for cpu in range(16)], size="2048K")
    for number, cpus in enumerate(packages):
        node.caches(3, [cpus], size="107520K", ways_of_associativity=15, coherency_line_size=64, id=number)
    nodes = [f"{2 * quarter}-{2 * quarter + 1},{2 * quarter + 16}-{2 * quarter + 17}" for quarter in range(8)]
    node.write("node/online", "0-7")
    for number, cpus in enumerate(nodes):
        node.write(f"node/node{number}/cpulist", cpus)
        node.write(f"node/node{number}/distance", "10 12 12 12 21 21 21 21")
        node.write(f"node/node{number}/meminfo", f"Node {number} MemTotal:       65536 kB\nNode 0 MemFree: 1 kB")

    topology = node.read()

    assert topology.packages == [CpuGroup("0-7,16-23", 0), CpuGroup("8-15,24-31", 1)]
    assert topology.dies == topology.packages
    assert topology.cores is not None
    assert len(topology.cores) == 16
    assert topology.cores[0] == CpuGroup("0,16", 0)
    assert topology.cores[8] == CpuGroup("8,24", 0)
    assert topology.smt_active is True
    assert topology.llc_domains == [
        LlcDomain("0-7,16-23", level=3, size_bytes=105 * MIB, ways=15, line_bytes=64, sysfs_id=0),
        LlcDomain("8-15,24-31", level=3, size_bytes=105 * MIB, ways=15, line_bytes=64, sysfs_id=1),
    ]
    assert topology.numa_nodes is not None
    assert len(topology.numa_nodes) == 8
    assert topology.numa_nodes[1] == NumaNode(1, "2-3,18-19", 64 * MIB, [10, 12, 12, 12, 21, 21, 21, 21])
    assert llc_domain_of_cpu(topology) == {cpu: cpu % 16 // 8 for cpu in range(32)}


def test_many_caches_in_one_numa_node(tmp_path: Path) -> None:
    node = Node(tmp_path, "0-15")
    shared = ["0-1,8-9", "2-3,10-11", "4-5,12-13", "6-7,14-15"]
    node.groups("package_cpus_list", "physical_package_id", ["0-15"])
    node.caches(3, shared, size="32768K")
    node.write("node/online", "0")
    node.write("node/node0/cpulist", "0-15")
    topology = node.read()
    assert llc_cpus(topology) == shared
    assert topology.numa_nodes == [NumaNode(0, "0-15", None, None)]
    assert llc_domain_of_cpu(topology) == {cpu: cpu % 8 // 2 for cpu in range(16)}


def test_without_level_three_the_highest_data_cache_counts(tmp_path: Path) -> None:
    node = Node(tmp_path, "0-3")
    node.caches(1, ["0", "1", "2", "3"], kind="Data", size="32K")
    node.caches(1, ["0", "1", "2", "3"], kind="Instruction", size="48K")
    node.caches(2, ["0-1", "2-3"], size="1024K")
    topology = node.read()
    assert [(domain.cpus, domain.level, domain.size_bytes) for domain in topology.llc_domains] == [
        ("0-1", 2, MIB),
        ("2-3", 2, MIB),
    ]


def test_an_instruction_cache_is_never_the_last_level(tmp_path: Path) -> None:
    node = Node(tmp_path, "0")
    node.caches(1, ["0"], kind="Data", size="32K")
    node.caches(2, ["0"], kind="Instruction", size="64K")
    assert node.read().llc_domains[0].size_bytes == 32 * 1024


def test_cores_outside_the_big_cache_have_their_own_domain(tmp_path: Path) -> None:
    # Low-power cores of a hybrid processor: cpus 0-3 have a level 3, cpus 4-5 only a common level 2.
    node = Node(tmp_path, "0-5")
    node.caches(2, ["0", "1", "2", "3", "4-5"])
    node.caches(3, ["0-3"])
    topology = node.read()
    assert [(domain.cpus, domain.level) for domain in topology.llc_domains] == [("0-3", 3), ("4-5", 2)]


def test_no_cache_at_all_is_one_domain_of_the_online_cpus(tmp_path: Path) -> None:
    topology = Node(tmp_path, "0-3", online="0-2").read()
    assert topology.llc_domains == [
        LlcDomain("0-2", level=None, size_bytes=None, ways=None, line_bytes=None, sysfs_id=None)
    ]
    assert llc_domain_of_cpu(topology) == {0: 0, 1: 0, 2: 0, 3: 1}


def test_the_list_is_the_identity_and_not_the_id(tmp_path: Path) -> None:
    # As an emulated EPYC shows it: the ids of level 3 read 0..15, one per CPU, the lists are right.
    node = Node(tmp_path, "0-15")
    node.caches(3, ["0-7", "8-15"])
    for cpu in range(16):
        node.write(f"cpu/cpu{cpu}/cache/index3/id", cpu)
    topology = node.read()
    assert [(domain.cpus, domain.sysfs_id) for domain in topology.llc_domains] == [("0-7", 0), ("8-15", 8)]


def test_what_is_missing_or_unknown_is_none(tmp_path: Path) -> None:
    node = Node(tmp_path, "0-1")
    node.groups("core_cpus_list", "core_id", ["0", "1"])
    node.write("cpu/cpu0/topology/core_id", -1)
    node.caches(3, ["0-1"], size="0K", coherency_line_size=0, ways_of_associativity="many")
    topology = node.read()
    assert topology.llc_domains == [
        LlcDomain("0-1", level=3, size_bytes=None, ways=None, line_bytes=None, sysfs_id=None)
    ]
    assert topology.cores == [CpuGroup("0", None), CpuGroup("1", 1)]
    assert topology.packages is None
    assert topology.dies is None
    assert topology.numa_nodes is None
    assert topology.isolated is None
    assert topology.smt_active is None
    assert set(msgspec.to_builtins(topology.cpu_model).values()) == {None}


def test_older_kernels_have_older_names(tmp_path: Path) -> None:
    node = Node(tmp_path, "0-3")
    node.groups("core_siblings_list", "physical_package_id", ["0-1", "2-3"])
    node.groups("thread_siblings_list", "core_id", ["0", "1", "2", "3"])
    topology = node.read()
    assert topology.packages == [CpuGroup("0-1", 0), CpuGroup("2-3", 1)]
    assert topology.cores is not None
    assert len(topology.cores) == 4


def test_offline_cpus_have_no_topology_until_it_is_read_again(tmp_path: Path) -> None:
    node = Node(tmp_path, "0-7", online="0-2,4")
    node.write("cpu/present", "0-5")
    node.write("cpu/isolated", "")
    node.caches(3, ["0-2", "4"])
    topology = node.read()
    assert (topology.possible, topology.online, topology.offline, topology.isolated) == ("0-7", "0-2,4", "3,5", "")
    assert llc_domain_of_cpu(topology) == {0: 0, 1: 0, 2: 0, 3: 2, 4: 1, 5: 2, 6: 2, 7: 2}

    node.write("cpu/online", "0-4")
    node.online = [0, 1, 2, 3, 4]
    node.caches(3, ["0-3", "4"])
    assert llc_domain_of_cpu(node.read())[3] == 0


def test_a_memory_only_node_and_one_that_cannot_be_read(tmp_path: Path) -> None:
    node = Node(tmp_path, "0")
    node.write("node/online", "0,2-3")
    node.write("node/node0/cpulist", "0")
    node.write("node/node0/distance", "10 x")
    node.write("node/node2/cpulist", "")
    node.write("node/node2/meminfo", "Node 2 MemTotal: 4 kB")
    assert node.read().numa_nodes == [
        NumaNode(0, "0", None, None),
        NumaNode(2, "", 4096, None),
        NumaNode(3, None, None, None),
    ]


@pytest.mark.parametrize("shared", ["", "garbage", "1", "0-99999999", "1-0"])
def test_a_cache_list_that_cannot_be_true_is_no_cache(tmp_path: Path, shared: str) -> None:
    node = Node(tmp_path, "0-1")
    node.write("cpu/cpu0/cache/index3/level", 3)
    node.write("cpu/cpu0/cache/index3/shared_cpu_list", shared)
    topology = node.read()
    assert [(domain.cpus, domain.level) for domain in topology.llc_domains] == [("0-1", None)]


@given(text=st.text(max_size=30))
def test_no_content_of_a_file_is_an_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    node = Node(tmp_path_factory.mktemp("node"), "0-1")
    for name in ("level", "type", "size", "ways_of_associativity", "coherency_line_size", "id"):
        node.caches(3, ["0-1"])
        node.write(f"cpu/cpu0/cache/index3/{name}", text.encode("utf-8", "replace").decode())
    for name in ("core_cpus_list", "core_id", "die_cpus_list", "package_cpus_list"):
        node.write(f"cpu/cpu0/topology/{name}", text)
    for name in ("online", "node0/meminfo", "node0/distance", "node0/cpulist"):
        node.write(f"node/{name}", text)
    for name in ("present", "isolated", "smt/active"):
        node.write(f"cpu/{name}", text)
    node.cpuinfo(text)
    topology = node.read()
    assert set(llc_domain_of_cpu(topology)) == {0, 1}
    assert msgspec.json.decode(msgspec.json.encode(topology), type=Topology) == topology


def test_an_x86_processor(tmp_path: Path) -> None:
    node = Node(tmp_path, "0")
    node.cpuinfo(X86_CPUINFO.format(flag="sse2"))
    assert msgspec.to_builtins(node.read().cpu_model) == {
        "vendor": "GenuineIntel",
        "family": 6,
        "model": 143,
        "stepping": 8,
        "name": "Intel(R) Xeon(R) Platinum 8480+",
        "microcode": "0x2b000461",
        "hypervisor": "none",
    }


def test_an_arm64_processor(tmp_path: Path) -> None:
    node = Node(tmp_path, "0")
    node.cpuinfo(ARM64_CPUINFO)
    assert msgspec.to_builtins(node.read().cpu_model) == {
        "vendor": "0x41",
        "family": 8,
        "model": 0xD0C,
        "stepping": 0x31,
        "name": None,
        "microcode": None,
        "hypervisor": None,
    }


@pytest.mark.parametrize(
    ("sources", "hypervisor"),
    [
        ("tsc kvm-clock acpi_pm", "kvm"),
        ("hyperv_clocksource_tsc_page acpi_pm", "hyperv"),
        ("tsc hpet acpi_pm", "unknown"),
    ],
)
def test_a_hypervisor_shows_by_its_clock(tmp_path: Path, sources: str, hypervisor: str) -> None:
    node = Node(tmp_path, "0")
    node.cpuinfo(X86_CPUINFO.format(flag="hypervisor"))
    node.write("clocksource/clocksource0/available_clocksource", sources)
    assert node.read().cpu_model.hypervisor == hypervisor


def test_xen_names_itself(tmp_path: Path) -> None:
    node = Node(tmp_path, "0")
    (node.sysfs / "hypervisor").mkdir()
    (node.sysfs / "hypervisor/type").write_text("xen\n")
    assert node.read().cpu_model.hypervisor == "xen"


def test_a_node_that_names_no_cpus_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NodeUnsupportedError, match="is sysfs mounted"):
        read_topology(tmp_path / "sys", tmp_path / "proc")


def test_this_node() -> None:
    topology = read_topology()
    domains = llc_domain_of_cpu(topology)
    online = parse_cpu_list(topology.online)
    assert set(os.sched_getaffinity(0)) <= set(online)
    assert set(domains) == set(parse_cpu_list(topology.possible))
    assert all(domains[cpu] < len(topology.llc_domains) for cpu in online)
    if topology.cores is not None:
        assert sorted(cpu for core in topology.cores for cpu in parse_cpu_list(core.cpus)) == online
    assert msgspec.json.decode(msgspec.json.encode(topology), type=Topology) == topology
