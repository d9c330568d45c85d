# SPDX-License-Identifier: Apache-2.0
"""The node, in the manifest and in `tracer topology`: what the kernel shows, and what runs containers on it."""

from collections.abc import Callable

import msgspec

from tracer.containers.cgroupfs import find_cgroup2_mount
from tracer.containers.identity import printable_path
from tracer.containers.runtimes import CgroupTree, Runtime, find_runtimes, read_cgroup_tree
from tracer.containers.walk import walk
from tracer.errors import NodeUnsupportedError
from tracer.kernel.topology import Topology, read_topology
from tracer.store.manifest import Instant, TopologyChange

# On a large node one takes 50 kB, and the manifest is written at each rotation.
_MOST_CHANGES = 64


class NodeTopology(Topology, frozen=True, kw_only=True):
    """The kernel's topology with the room of the containers; `cgroup` is None where no cgroup2 tree is mounted."""

    cgroup: CgroupTree | None
    runtimes: list[Runtime]


def read_node_topology() -> NodeTopology:
    """Reads this node. Raises NodeUnsupportedError without sysfs."""
    topology = read_topology()
    try:
        mount_point = find_cgroup2_mount()
    except NodeUnsupportedError:
        cgroup, paths = None, []
    else:
        paths = [printable_path(path) for path in walk(mount_point).values()]
        cgroup = read_cgroup_tree(mount_point, paths)
    return NodeTopology(**msgspec.structs.asdict(topology), cgroup=cgroup, runtimes=find_runtimes(paths))


class TopologyRecord:
    """The topology at the start of a run, as it is now, and each one between, of which the latest 64 are kept.

    One thread retakes it, any may ask.
    """

    def __init__(self, read: Callable[[], NodeTopology] = read_node_topology) -> None:
        """Raises what `read` raises: NodeUnsupportedError."""
        self._read = read
        self.first = self.now = read()
        self.changes_left_out = 0
        self.changes: tuple[TopologyChange, ...] = ()
        """The oldest first."""

    def retake(self, utc_ns: int) -> NodeTopology:
        """Reads it anew, after a CPU came or went; what is different holds from `utc_ns` on.

        Raises what `read` raises.
        """
        now = self._read()
        if now != self.now:
            changes = (*self.changes, TopologyChange(valid_from=Instant.of(utc_ns), topology=now))
            self.changes = changes[-_MOST_CHANGES:]
            self.changes_left_out += len(changes) - len(self.changes)
            self.now = now
        return now
