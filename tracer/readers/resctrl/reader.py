# SPDX-License-Identifier: Apache-2.0
"""Rows of `llc`: each container's share of the last-level cache and of memory traffic, by L3 domain."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from tracer.printable import printable
from tracer.readers.protocol import Cgroup, Observation, Reader
from tracer.readers.resctrl.file_system import ResctrlFileSystem
from tracer.readers.resctrl.group import DomainValues
from tracer.readers.resctrl.placing import Held, Placing

_LLC_ROWS = {
    "cgroup_id": pl.UInt64,
    "monotonic_ns": pl.Int64,
    "resctrl_group": pl.String,
    "l3_id": pl.UInt32,
    "llc_occupancy_bytes": pl.UInt64,
    "mbm_total_bytes": pl.UInt64,
    "mbm_total_interval_ns": pl.UInt64,
    "mbm_local_bytes": pl.UInt64,
    "mbm_local_interval_ns": pl.UInt64,
}
_LIFECYCLE_ROWS = {"cgroup_id": pl.UInt64, "monotonic_ns": pl.Int64, "event": pl.String}


class _Row(NamedTuple):
    cgroup_id: int
    monotonic_ns: int
    resctrl_group: str
    values: DomainValues


class ResctrlReader(Reader):
    """Reads the groups of containers; what it made of them is gone after `close`."""

    name = "resctrl"
    wants_beginnings = True

    def __init__(
        self,
        root: Path,
        cgroup_root: Path,
        *,
        proc: Path = Path("/proc"),
        on_close: Callable[[], None] = lambda: None,
        clock_ns: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_MONOTONIC),
    ) -> None:
        """root: where resctrl is mounted; on_close: called by `close`, when its own groups are gone.

        Raises NodeUnsupportedError where the last-level cache cannot be monitored.
        """
        self._file_system = ResctrlFileSystem(root, proc)
        monitoring = self._file_system.monitoring()
        self._features = monitoring.features
        self._on_close = on_close
        self._clock_ns = clock_ns
        self._notes: dict[str, bool] = {}
        self._placing = Placing(
            self._file_system,
            num_rmids=monitoring.num_rmids,
            cgroup_root=cgroup_root,
            clock_ns=clock_ns,
            note=self._note,
        )
        self._pods: dict[str | None, int] = {}
        self._domains: list[tuple[int, str]] = []
        self._rows: list[_Row] = []
        self._missing = 0

    def read(self, cgroups: Sequence[Cgroup]) -> Observation:
        """Rows of `llc`, and of `lifecycle` for containers that cannot be monitored, or can be after all.

        A container that is no more has a last row, with what its threads did since the row before.
        """
        containers = {cgroup.cgroup_id: cgroup for cgroup in cgroups if _is_container(cgroup)}
        self._pods = {cgroup.pod_uid: cgroup.cgroup_id for cgroup in cgroups if cgroup.kind == "pod"}
        self._domains = self._file_system.domains()
        for held in self._placing.deserted(containers):
            self._read_group(held)
            self._placing.drop(held)
        self._placing.look_for_strays(containers)
        self._placing.find(containers.values(), self._pods)
        for held in self._placing.held():
            if not self._read_group(held):
                # Its maker removed it.
                self._placing.drop(held)
        return self._take_observation()

    def read_beginning(self, cgroups: Sequence[Cgroup]) -> None:
        """Finds their groups at once: a runtime's own process is there for some milliseconds before the container's."""
        self._placing.find(filter(_is_container, cgroups), self._pods)

    def take_looks(self) -> Observation:
        """What became of groups since the last pass."""
        return self._take_observation()

    def close(self) -> None:
        """Removes its own groups."""
        for held in self._placing.held():
            self._placing.drop(held)
        self._on_close()

    def _read_group(self, held: Held) -> bool:
        """Takes a group's values; False if it is gone."""
        now_ns = self._clock_ns()
        try:
            values, missing = held.group.read(self._domains, self._features, now_ns)
        except OSError:
            return False
        self._missing += len(missing)
        for feature, why in missing:
            self._note(f"{feature} in llc is null at times: {why}")
        path = printable(os.fsencode(held.group.path))
        self._rows += [_Row(held.cgroup_id, now_ns, path, of_domain) for of_domain in values]
        return True

    def _note(self, text: str) -> None:
        """For the manifest, once."""
        self._notes.setdefault(text, True)

    def _take_observation(self) -> Observation:
        llc = pl.DataFrame(
            [(row.cgroup_id, row.monotonic_ns, row.resctrl_group, *row.values) for row in self._rows],
            schema=_LLC_ROWS,
            orient="row",
        )
        lifecycle = pl.DataFrame(self._placing.take_changes(), schema=_LIFECYCLE_ROWS, orient="row").with_columns(
            source=pl.lit("resctrl")
        )
        observation = Observation(
            {"llc": llc, "lifecycle": lifecycle},
            health={"llc_values_missing": self._missing},
            notes=[text for text, is_new in self._notes.items() if is_new],
        )
        self._rows, self._missing = [], 0
        self._notes = dict.fromkeys(self._notes, False)
        return observation


def _is_container(cgroup: Cgroup) -> bool:
    """Whether it is a container's own cgroup."""
    return cgroup.kind == "container" and not cgroup.is_inner
