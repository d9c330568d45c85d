# SPDX-License-Identifier: Apache-2.0
"""The rows of `lifecycle`: what happened to cgroups, with the limits that they had then."""

from pathlib import Path

import polars as pl

from tracer.containers.inventory import Change, Inventory
from tracer.containers.limits import NO_LIMITS, Limits, read_limits
from tracer.pipeline.labelling import Labelling
from tracer.store.schemas import LIFECYCLE

_ROWS = {
    "monotonic_ns": pl.Int64,
    "event": pl.String,
    "source": pl.String,
    "cgroup_id": pl.UInt64,
    "cpu_quota_usec": pl.UInt64,
    "cpu_period_usec": pl.UInt64,
    "cpu_weight": pl.UInt64,
    "memory_max_bytes": pl.UInt64,
    "cpuset_cpus": pl.String,
    "rdt_class": pl.String,
    "blockio_class": pl.String,
}


class Lifecycle:
    """Hands on what the inventory heard, and each change of a limit."""

    def __init__(self, inventory: Inventory, labelling: Labelling, cgroup_root: Path) -> None:
        self._inventory = inventory
        self._labelling = labelling
        self._cgroup_root = cgroup_root
        self._limits: dict[int, Limits] = {}
        self._changed: list[Change] = []

    def look_at_limits(self, now_ns: int) -> None:
        """Limits of the containers that exist; runtimes set them after they made the cgroup, and can change them."""
        seen = {
            cgroup_id: read_limits(self._cgroup_root / path.lstrip("/"))
            for cgroup_id, path in self._inventory.living_containers()
        }
        self._changed += [
            Change(now_ns, "limits", "walk", cgroup_id)
            for cgroup_id, limits in seen.items()
            if limits != self._limits.get(cgroup_id, NO_LIMITS)
        ]
        self._limits = seen

    def hand_on(self, _now_ns: int) -> None:
        """Rows of what is new since the last time; those of cgroups whose names may still come wait for the next."""
        self._put(is_last=False)

    def hand_on_all(self, _now_ns: int) -> None:
        """Rows of all that is left."""
        self._put(is_last=True)

    def _put(self, *, is_last: bool) -> None:
        changes = [*self._inventory.take_changes(), *self._changed]
        self._changed.clear()
        rows = pl.DataFrame(
            [
                (
                    *change,
                    *self._limits.get(change.cgroup_id, NO_LIMITS),
                    *self._inventory.classes(change.cgroup_id),
                )
                for change in changes
            ],
            schema=_ROWS,
            orient="row",
        )
        self._labelling.put(LIFECYCLE, rows, is_last=is_last)
