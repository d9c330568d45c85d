# SPDX-License-Identifier: Apache-2.0
"""Groups of CPUs and last-level caches: trees after real machines, and the node the tests run on."""

import os
from pathlib import Path

import msgspec
import pytest
from sysfs_tree import (
    MIB,
    Node,
    hybrid,
    many_caches,
    one_cache_across_nodes,
    sub_numa_clusters,
    two_sockets_of_two_dies,
)

from tracer.errors import NodeUnsupportedError
from tracer.kernel.cpus import parse_cpu_list
from tracer.kernel.topology import Topology, llc_domain_of_cpu, read_topology
from tracer.kernel.topology.caches import LlcDomain
from tracer.kernel.topology.groups import CpuGroup
from tracer.kernel.topology.memory import NumaNode


def llc_cpus(topology: Topology) -> list[str]:
    return [domain.cpus for domain in topology.llc_domains]


def test_two_sockets_with_sub_numa_clusters_share_one_cache_per_socket(tmp_path: Path) -> None:
    topology = sub_numa_clusters(tmp_path).read()

    assert topology.packages == [CpuGroup("0-7,16-23", 0), CpuGroup("8-15,24-31", 1)]
    assert topology.dies == topology.packages
    assert topology.cores is not None
    assert len(topology.cores) == 16
    assert topology.cores[0] == CpuGroup("0,16", 0)
    assert topology.cores[8] == CpuGroup("8,24", 0)
    assert (topology.smt_active, topology.smt_control) == (True, "on")
    assert topology.llc_domains == [
        LlcDomain(
            "0-7,16-23", level=3, size_bytes=105 * MIB, ways=15, line_bytes=64, sysfs_id=0, numa_nodes=[0, 1, 2, 3]
        ),
        LlcDomain(
            "8-15,24-31", level=3, size_bytes=105 * MIB, ways=15, line_bytes=64, sysfs_id=1, numa_nodes=[4, 5, 6, 7]
        ),
    ]
    assert topology.numa_nodes is not None
    assert len(topology.numa_nodes) == 8
    assert topology.numa_nodes[1] == NumaNode(1, "2-3,18-19", 64 * MIB, [10, 12, 12, 12, 21, 21, 21, 21])
    assert llc_domain_of_cpu(topology) == {cpu: cpu % 16 // 8 for cpu in range(32)}


def test_many_caches_in_one_numa_node(tmp_path: Path) -> None:
    topology = many_caches(tmp_path).read()
    assert llc_cpus(topology) == ["0-1,8-9", "2-3,10-11", "4-5,12-13", "6-7,14-15"]
    assert [domain.numa_nodes for domain in topology.llc_domains] == [[0]] * 4
    assert topology.numa_nodes == [NumaNode(0, "0-15", 64 * MIB, [10])]
    assert llc_domain_of_cpu(topology) == {cpu: cpu % 8 // 2 for cpu in range(16)}


def test_one_cache_across_numa_nodes_is_taken_as_it_is(tmp_path: Path) -> None:
    topology = one_cache_across_nodes(tmp_path).read()
    assert topology.llc_domains == [
        LlcDomain("0-7", 3, 16 * MIB, ways=None, line_bytes=None, sysfs_id=None, numa_nodes=[0, 1])
    ]
    assert set(llc_domain_of_cpu(topology).values()) == {0}


def test_two_dies_to_a_package(tmp_path: Path) -> None:
    topology = two_sockets_of_two_dies(tmp_path).read()
    assert topology.packages == [CpuGroup("0-7", 0), CpuGroup("8-15", 1)]
    # Their ids start anew in each package.
    assert topology.dies == [CpuGroup("0-3", 0), CpuGroup("4-7", 1), CpuGroup("8-11", 0), CpuGroup("12-15", 1)]
    assert llc_cpus(topology) == ["0-3", "4-7", "8-11", "12-15"]


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
    topology = hybrid(tmp_path).read()
    assert [(domain.cpus, domain.level) for domain in topology.llc_domains] == [("0-7", 3), ("8-9", 2)]
    assert topology.clusters is not None
    assert [cluster.cpus for cluster in topology.clusters] == ["0-1", "2-3", "4-7", "8-9"]
    assert [(pmu.name, pmu.cpus) for pmu in topology.pmus] == [("cpu_atom", "4-9"), ("cpu_core", "0-3")]


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


def test_a_cpu_that_went_offline_is_in_no_domain_though_the_others_still_list_it(tmp_path: Path) -> None:
    # As Linux 6.1 shows it after `echo 0 > cpu3/online`.
    node = Node(tmp_path, "0-7", online="0-2,4-7")
    node.caches(3, ["0-7"])
    node.write("cpu/cpu5/cache/index3/shared_cpu_list", "0-2,4-7")
    topology = node.read()
    assert llc_cpus(topology) == ["0-2,4-7"]
    assert llc_domain_of_cpu(topology) == {0: 0, 1: 0, 2: 0, 3: 1, 4: 0, 5: 0, 6: 0, 7: 0}


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
