# SPDX-License-Identifier: Apache-2.0
"""What cgroups are entitled to against each other, by `cpu.weight` (Documentation/admin-guide/cgroup-v2.rst)."""

from typing import Final

import polars as pl

from tracer.analysis.recording import Recording
from tracer.analysis.roster import Roster

_DEFAULT_WEIGHT: Final = 100.0
# What a cgroup with cpu.idle has, whose cpu.weight reads 0 (kernel/sched/sched.h, WEIGHT_IDLEPRIO).
_IDLE_WEIGHT: Final = 0.3


class Weights:
    """The newest weights that were recorded of the containers in `roster` and of their ancestors."""

    def __init__(self, recording: Recording, roster: Roster) -> None:
        tables = [
            recording.scan(table).select("node_name", "cgroup_id", "cgroup_path", "time", "cpu_weight")
            for table in ("lifecycle", "resources")
            if recording.has(table)
        ]
        self._weights: dict[tuple[str, str], float] = {}
        paths: dict[tuple[str, int], str] = {}
        if tables:
            newest = (
                pl.concat(tables)
                .filter(pl.col("cgroup_path").is_not_null())
                .group_by("node_name", "cgroup_id", "cgroup_path")
                .agg(pl.col("cpu_weight").sort_by("time").drop_nulls().last(), pl.max("time"))
            )
            for node, cgroup_id, path, weight, _time in recording.collect(newest).sort("time").iter_rows():
                paths[node, cgroup_id] = path
                if weight is not None:
                    self._weights[node, path] = max(float(weight), _IDLE_WEIGHT)
        self._paths: dict[int, str] = {}
        for member, node, ids in roster.containers.select("member", "node_name", "cgroup_ids").iter_rows():
            known = [path for cgroup_id in ids if (path := paths.get((node, cgroup_id)))]
            if known:
                # Of a container with cgroups of its own within, the outermost.
                self._paths[member] = min(known, key=len)
        self._nodes = dict(roster.containers.select("member", "node_name").iter_rows())

    def of_both(self, one: int, other: int) -> tuple[float, float]:
        """What two members compete with: the first weights that were recorded from where their paths part on, or 100.

        Below that, each shares its part with whoever else is there, which is not looked at.
        """
        node = self._nodes[one]
        paths = [[part for part in self._paths.get(member, "").split("/") if part] for member in (one, other)]
        common = 0
        while common < min(map(len, paths)) and paths[0][common] == paths[1][common]:
            common += 1
        first, second = (self._first(node, path, common) for path in paths)
        return first, second

    def _first(self, node: str, path: list[str], common: int) -> float:
        for depth in range(common + 1, len(path) + 1):
            if (weight := self._weights.get((node, "/" + "/".join(path[:depth])))) is not None:
                return weight
        return _DEFAULT_WEIGHT
