# SPDX-License-Identifier: Apache-2.0
"""The topology of a run: read at its start, and anew after CPUs came or went."""

from pathlib import Path

import msgspec
import pytest
from sysfs_tree import Node

from tracer.errors import NodeUnsupportedError
from tracer.kernel.cpus import format_cpu_list, online_cpus
from tracer.kernel.topology import llc_domain_of_cpu
from tracer.pipeline.node import NodeTopology, TopologyRecord, read_node_topology

SECOND = 10**9


class HotplugNode:
    """A node of four CPUs, of which those can be online that a test says."""

    def __init__(self, root: Path) -> None:
        self._node = Node(root, "0-3")
        self.switch("0-3")

    def switch(self, online: str) -> None:
        self._node.write("cpu/online", online)
        self._node.caches(3, [online])

    def read(self) -> NodeTopology:
        return NodeTopology(**msgspec.structs.asdict(self._node.read()), cgroup=None, runtimes=[])


@pytest.fixture
def node(tmp_path: Path) -> HotplugNode:
    return HotplugNode(tmp_path)


def test_what_changes_holds_from_then_on(node: HotplugNode) -> None:
    record = TopologyRecord(node.read)
    assert (record.first.online, record.changes) == ("0-3", ())
    node.switch("0-2")
    assert llc_domain_of_cpu(record.retake(5 * SECOND)) == {0: 0, 1: 0, 2: 0, 3: 1}
    node.switch("0-3")
    assert record.retake(9 * SECOND).online == "0-3"
    assert [(change.valid_from.utc, change.topology.online) for change in record.changes] == [
        ("1970-01-01T00:00:05.000000000Z", "0-2"),
        ("1970-01-01T00:00:09.000000000Z", "0-3"),
    ]
    assert record.first.online == "0-3"


def test_what_came_back_at_once_is_no_change(node: HotplugNode) -> None:
    record = TopologyRecord(node.read)
    node.switch("0-2")
    node.switch("0-3")
    record.retake(SECOND)
    assert record.changes == ()


def test_of_very_many_changes_the_latest_are_kept(node: HotplugNode) -> None:
    record = TopologyRecord(node.read)
    for second in range(70):
        node.switch("0" if second % 2 else "0-1")
        record.retake(second * SECOND)
    assert len(record.changes) == 64
    assert record.changes_left_out == 6
    assert record.changes[0].valid_from.utc_ns == 6 * SECOND
    assert record.changes[-1].topology == record.now


def test_a_node_without_sysfs_cannot_be_recorded() -> None:
    def fail() -> NodeTopology:
        raise NodeUnsupportedError("no sysfs")

    with pytest.raises(NodeUnsupportedError):
        TopologyRecord(fail)


def test_this_node() -> None:
    topology = read_node_topology()
    assert topology.online == format_cpu_list(online_cpus())
    assert msgspec.json.decode(msgspec.json.encode(topology), type=NodeTopology) == topology
