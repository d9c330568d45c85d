# SPDX-License-Identifier: Apache-2.0
"""Every cgroup the tracer has met: its id, its path and who it is, also for a while after its death."""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from tracer.containers.identity import IDLE, UNKNOWN, Identity, identify, printable_path
from tracer.containers.walk import walk

IDLE_ID = 0
"""Id of the pseudo-cgroup that idle time is charged to; no directory has this inode."""

LABEL_SCHEMA = pl.Schema(
    {
        "cgroup_id": pl.UInt64,
        "cgroup_kind": pl.String,
        "cgroup_path": pl.String,
        "runtime": pl.String,
        "container_id": pl.String,
        "container_name": pl.String,
        "pod_name": pl.String,
        "pod_uid": pl.String,
        "namespace": pl.String,
        "qos_class": pl.String,
    }
)
"""Columns of `Inventory.labels()`; all may be null but for the first two."""

_WALK_INTERVAL_SECONDS = 1.0
_KEEP_DEAD_SECONDS = 600.0
# Late ticks come within seconds, so what a storm of short-lived cgroups pushes out is no longer asked for.
_KEEP_DEAD_AT_MOST = 32_768


class _Cgroup(NamedTuple):
    path: str | None
    identity: Identity


class Inventory:
    """Who each cgroup id is. Not thread-safe: it belongs to the thread that labels the windows.

    Its size is bounded: the cgroups that exist, and the dead and the unknown of the last ten minutes, of
    which at most 32,768 are kept.
    """

    def __init__(self, root: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Walk the cgroup2 tree mounted at `root`; `clock` gives monotonic seconds."""
        self._root = root
        self._clock = clock
        self._cgroups = {IDLE_ID: _Cgroup(None, IDLE)}
        self._pending: set[int] = set()
        # When a walk first missed them; in the order of that time.
        self._missing_since: dict[int, float] = {}
        self._labels: pl.DataFrame | None = None
        self.refresh()

    def resolve(self, cgroup_ids: Iterable[int]) -> set[int]:
        """Find out who these are; return those of them for which it is too early to tell.

        An id that is new leads to a walk, but to no more than one a second; until then it is pending, and has
        no row in `labels()`. If that walk does not find it, it is unknown. So hold the rows of pending ids
        back and ask again with the next batch, or, when there is none, call `refresh()`.
        """
        asked = set(map(int, cgroup_ids))
        self._pending |= asked.difference(self._cgroups)
        if self._pending and self._clock() - self._walked_at >= _WALK_INTERVAL_SECONDS:
            self.refresh()
        # Once more, for the walk may have forgotten some of them for having been missing too long.
        unlabelled = asked.difference(self._cgroups)
        self._pending |= unlabelled
        return unlabelled

    def refresh(self) -> None:
        """Walk the tree now; afterwards no id is pending."""
        self._walked_at = self._clock()
        found = walk(self._root)
        for cgroup_id, raw_path in found.items():
            self._learn(cgroup_id, printable_path(raw_path))
        for cgroup_id in self._pending.difference(self._cgroups):
            self._cgroups[cgroup_id] = _Cgroup(None, UNKNOWN)
            self._labels = None
        self._pending.clear()
        self._bury(found)

    @property
    def unresolved(self) -> int:
        """How many ids have no path: those nobody has looked for yet, and those that a walk did not find."""
        unknown = sum(1 for cgroup in self._cgroups.values() if cgroup.identity is UNKNOWN)
        return len(self._pending) + unknown

    def labels(self) -> pl.DataFrame:
        """One row per cgroup known, dead or found to be unknown, by ascending `cgroup_id`: see LABEL_SCHEMA.

        The frame is the same object until something changes. The idle pseudo-cgroup and unknown ids have no
        path; the root cgroup has `/`.
        """
        if self._labels is None:
            cgroup_ids = sorted(self._cgroups)
            cgroups = [self._cgroups[cgroup_id] for cgroup_id in cgroup_ids]
            columns: dict[str, Sequence[int | str | None]] = {
                "cgroup_id": cgroup_ids,
                "cgroup_kind": [cgroup.identity.kind for cgroup in cgroups],
                "cgroup_path": [cgroup.path for cgroup in cgroups],
            }
            for name in LABEL_SCHEMA.names()[len(columns) :]:
                columns[name] = [getattr(cgroup.identity, name) for cgroup in cgroups]
            self._labels = pl.DataFrame(columns, schema=LABEL_SCHEMA)
        return self._labels

    def _learn(self, cgroup_id: int, path: str) -> None:
        known = self._cgroups.get(cgroup_id)
        if known is None or known.path != path:
            self._cgroups[cgroup_id] = _Cgroup(path, identify(path))
            self._labels = None

    def _bury(self, found: dict[int, str]) -> None:
        """Note which cgroups the walk just made did not find, and forget those that are long gone."""
        for cgroup_id in self._missing_since.keys() & found.keys():
            del self._missing_since[cgroup_id]
        for cgroup_id in self._cgroups.keys() - found.keys() - {IDLE_ID}:
            self._missing_since.setdefault(cgroup_id, self._walked_at)
        for cgroup_id, missing_since in list(self._missing_since.items()):
            too_many = len(self._missing_since) > _KEEP_DEAD_AT_MOST
            if not too_many and self._walked_at - missing_since < _KEEP_DEAD_SECONDS:
                break
            del self._missing_since[cgroup_id], self._cgroups[cgroup_id]
            self._labels = None
