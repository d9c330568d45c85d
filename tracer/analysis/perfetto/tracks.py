# SPDX-License-Identifier: Apache-2.0
"""The tracks of a recording: for each node its CPUs, and its cgroups with their counters, each made when it is needed.

Names are as somebody chose them: what does not print is escaped, and of what is endless the middle is cut out.
"""

from tracer.analysis.perfetto.events import COUNTERS
from tracer.analysis.perfetto.trace_file import TraceFile
from tracer.naming import cut, shown_names

_LONGEST_NAME = 200
_LAST = 2**31 - 1


class Tracks:
    """`labels` are the names of the cgroups by node and id. With one node only, its name is left out."""

    def __init__(self, file: TraceFile, labels: dict[tuple[str, int], str], nodes: int) -> None:
        self._file = file
        # What is different must be so on tracks too, of which each has a line of its own.
        names = shown_names(labels.values(), _LONGEST_NAME)
        self._labels = {key: names[label] for key, label in labels.items()}
        self._shows_nodes = nodes > 1
        self._groups: dict[tuple[str, str], int] = {}
        self._cpus: dict[tuple[str, int], int] = {}
        self._cgroups: dict[tuple[str, int], int] = {}
        self._counters: dict[tuple[str, int, int], int] = {}
        self._holders: dict[tuple[str, int, int], int] = {}

    def of_cpu(self, node: str, cpu: int) -> int:
        """The track for slices of a CPU."""
        key = (node, cpu)
        if key not in self._cpus:
            self._cpus[key] = self._file.add_track(f"CPU {cpu}", rank=cpu, parent=self._group(node, "CPUs"))
        return self._cpus[key]

    def of_counter(self, node: str, cgroup_id: int, counter: int) -> int:
        """The track of one of COUNTERS."""
        key = (node, cgroup_id, counter)
        if key not in self._counters:
            of = COUNTERS[counter]
            self._counters[key] = self._file.add_track(
                of.name, rank=counter, parent=self._of_cgroup(node, cgroup_id), unit=of.unit
            )
        return self._counters[key]

    def of_holder(self, node: str, cgroup_id: int, holder: int) -> int:
        """The track of how many of a cgroup's tasks wait behind another cgroup."""
        key = (node, cgroup_id, holder)
        if key not in self._holders:
            self._holders[key] = self._file.add_track(
                cut(f"Waiting behind {self.label(node, holder)}", _LONGEST_NAME),
                rank=len(COUNTERS) + len(self._holders),
                parent=self._of_cgroup(node, cgroup_id),
                unit="tasks",
            )
        return self._holders[key]

    def label(self, node: str, cgroup_id: int) -> str:
        """What to call a cgroup."""
        return self._labels.get((node, cgroup_id)) or f"cgroup {cgroup_id}"

    def _of_cgroup(self, node: str, cgroup_id: int) -> int:
        key = (node, cgroup_id)
        if key not in self._cgroups:
            name, parent = self.label(node, cgroup_id), self._group(node, "Containers")
            # The kernel's own threads are not whom people look for first.
            rank = _LAST if name == "/" else len(self._cgroups)
            self._cgroups[key] = self._file.add_track(name, rank=rank, parent=parent)
        return self._cgroups[key]

    def _group(self, node: str, what: str) -> int:
        key = (node, what)
        if key not in self._groups:
            name = f"{what} of {cut(node, _LONGEST_NAME)}" if self._shows_nodes else what
            self._groups[key] = self._file.add_track(name, rank=len(self._groups))
        return self._groups[key]
