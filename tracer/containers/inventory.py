# SPDX-License-Identifier: Apache-2.0
"""Every cgroup the tracer has met: its id, its path and who it is, also for a while after its death."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import polars as pl

from tracer.cgroup_event import CgroupEvent, EventKind
from tracer.containers.identity import IDLE, UNKNOWN, Identity, identify, printable_path
from tracer.containers.runtime_state import ContainerNames, with_names
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

Source = Literal["kernel", "walk", "inotify", "nri", "runtime"]

_WALK_INTERVAL_SECONDS = 1.0
_KEEP_DEAD_SECONDS = 600.0
# Late ticks come within seconds, so what a storm of short-lived cgroups pushes out is no longer asked for.
_KEEP_DEAD_AT_MOST = 32_768
# So long the rows of a container wait for its names; a runtime writes them down before it makes the cgroup.
_WAIT_FOR_NAMES_SECONDS = 1.0
_NAMES_AT_MOST = 65_536


class Change(NamedTuple):
    """Something that happened to a cgroup, or that became known of it."""

    time_ns: int
    """CLOCK_MONOTONIC."""
    event: Literal["named", "limits"] | EventKind
    source: Source
    cgroup_id: int


class Classes(NamedTuple):
    """Of cache and memory bandwidth, and of block I/O; None where nobody told of one."""

    rdt_class: str | None
    blockio_class: str | None


_NO_CLASSES = Classes(None, None)


class _Cgroup(NamedTuple):
    path: str | None
    raw_path: str
    by_path: Identity
    identity: Identity


class _Names(NamedTuple):
    names: ContainerNames
    source: Source


class Inventory:
    """Who each cgroup id is, whichever source knew it best. Any thread may call any method.

    A path tells what a cgroup is and which container it belongs to; the names of a container come from elsewhere and
    hold for all of its cgroups. The size is bounded: the cgroups that exist, and the dead and the unknown of the last
    ten minutes, of which at most 32,768 are kept.
    """

    def __init__(
        self,
        root: Path,
        clock: Callable[[], float] = time.monotonic,
        *,
        expect_names: bool = False,
        keep_dead_seconds: float = _KEEP_DEAD_SECONDS,
    ) -> None:
        """Walk the cgroup2 tree mounted at `root`; `clock` gives monotonic seconds.

        `expect_names`: somebody calls `give_names`, so that rows of a new container may wait for them.
        """
        self._root = root
        self._clock = clock
        self._expect_names = expect_names
        self._keep_dead_seconds = max(keep_dead_seconds, _KEEP_DEAD_SECONDS)
        self._lock = threading.RLock()
        self._cgroups = {IDLE_ID: _Cgroup(None, "", IDLE, IDLE)}
        self._pending: set[int] = set()
        # When a walk first missed them; in the order of that time.
        self._missing_since: dict[int, float] = {}
        self._members: dict[str, set[int]] = {}
        self._names: dict[str, _Names] = {}
        self._nameless_since: dict[str, float] = {}
        self._new_nameless: list[tuple[str, str | None]] = []
        self._changes: list[Change] = []
        self._labels: pl.DataFrame | None = None
        self._existing: list[tuple[int, str, Identity]] | None = None
        self.refresh()

    def resolve(self, cgroup_ids: Iterable[int]) -> set[int]:
        """Find out who these are; return those of them for which it is too early to tell.

        An id that is new leads to a walk, but to no more than one a second; until then it is pending, and has
        no row in `labels()`. If that walk does not find it, it is unknown. A container without names is too early to
        tell for its first second. So hold the rows of these ids back and ask again with the next batch, or, when
        there is none, call `refresh()`.
        """
        ids = set(map(int, cgroup_ids))
        with self._lock:
            self._pending |= ids.difference(self._cgroups)
            is_due = bool(self._pending) and self._clock() - self._walked_at >= _WALK_INTERVAL_SECONDS
        if is_due:
            self.refresh()
        with self._lock:
            # Once more, for the walk may have forgotten some of them for having been missing too long.
            early = ids.difference(self._cgroups)
            self._pending |= early
            if self._expect_names:
                oldest = self._clock() - _WAIT_FOR_NAMES_SECONDS
                for container_id, since in self._nameless_since.items():
                    if since > oldest:
                        early |= self._members[container_id] & ids
            return early

    def refresh(self) -> None:
        """Walk the tree now; afterwards no id is pending that was before.

        Others can use the inventory meanwhile, so the walk says nothing of what they learn while it is under way.
        """
        with self._lock:
            self._walked_at = self._clock()
            known = set(self._cgroups)
            missing = set(self._missing_since)
            pending = set(self._pending)
        found = walk(self._root)
        with self._lock:
            now_ns = _monotonic_ns()
            for cgroup_id, raw_path in found.items():
                self._learn(cgroup_id, raw_path, "walk", now_ns)
            for cgroup_id in pending.difference(self._cgroups):
                self._cgroups[cgroup_id] = _Cgroup(None, "", UNKNOWN, UNKNOWN)
                self._missing_since[cgroup_id] = self._walked_at
                self._labels = None
            self._pending -= pending
            for cgroup_id in missing & found.keys() & self._missing_since.keys():
                del self._missing_since[cgroup_id]
                self._existing = None
            for cgroup_id in (known & self._cgroups.keys()) - found.keys() - {IDLE_ID} - self._missing_since.keys():
                self._bury(cgroup_id, "walk", now_ns)
            self._forget_long_dead()

    def see(self, event: CgroupEvent, source: Source) -> None:
        """Take what a source tells of a cgroup. One told of late or twice does no harm."""
        with self._lock:
            if event.kind == "removed":
                if event.cgroup_id in self._cgroups and event.cgroup_id not in self._missing_since:
                    self._bury(event.cgroup_id, source, event.time_ns)
                return
            if event.kind == "created" and not event.truncated:
                self._learn(event.cgroup_id, event.path, source, event.time_ns)
                self._pending.discard(event.cgroup_id)
                if len(self._missing_since) > _KEEP_DEAD_AT_MOST:
                    self._forget_long_dead()
            elif event.kind != "created":
                self._changes.append(Change(event.time_ns, event.kind, source, event.cgroup_id))

    def give_names(self, container_id: str, names: ContainerNames, source: Source) -> None:
        """Take a container's names. Names that say more win over those that say less; the first of equals stays.

        They may come before the container's cgroup is known.
        """
        with self._lock:
            known = self._names.get(container_id)
            if known is not None and _count(known.names) >= _count(names):
                return
            self._names[container_id] = _Names(names, source)
            self._nameless_since.pop(container_id, None)
            now_ns = _monotonic_ns()
            for cgroup_id in self._members.get(container_id, ()):
                self._apply_names(cgroup_id, now_ns)
            if len(self._names) > _NAMES_AT_MOST:
                del self._names[next(iter(self._names))]

    def take_nameless(self) -> list[tuple[str, str | None]]:
        """Containers that came without names since the last call: id, and the runtime that the path tells."""
        with self._lock:
            nameless, self._new_nameless = self._new_nameless, []
            return nameless

    def is_nameless(self, container_id: str) -> bool:
        """Whether a container exists and nobody has given its names yet."""
        with self._lock:
            return container_id in self._nameless_since

    def living_containers(self) -> list[tuple[int, str]]:
        """Id and path of each container's and sandbox's own cgroup that exists."""
        with self._lock:
            return [
                (cgroup_id, cgroup.path)
                for cgroup_id, cgroup in self._cgroups.items()
                if cgroup.path is not None
                and cgroup.identity.kind in ("container", "sandbox")
                and not cgroup.identity.subpath
                and cgroup_id not in self._missing_since
            ]

    def cgroups_of(self, container_id: str) -> set[int]:
        """Ids of the container's own cgroup and of those inside, as far as they are known."""
        with self._lock:
            return set(self._members.get(container_id, ()))

    def classes(self, cgroup_id: int) -> Classes:
        """The classes of the container that the cgroup belongs to, by whoever gave its names."""
        with self._lock:
            cgroup = self._cgroups.get(cgroup_id)
            container_id = None if cgroup is None else cgroup.identity.container_id
            known = None if container_id is None else self._names.get(container_id)
            return _NO_CLASSES if known is None else Classes(known.names.rdt_class, known.names.blockio_class)

    def take_changes(self) -> list[Change]:
        """What happened since the last call, in the order in which it was heard."""
        with self._lock:
            changes, self._changes = self._changes, []
            return changes

    @property
    def unresolved(self) -> int:
        """How many ids have no path: those nobody has looked for yet, and those that a walk did not find."""
        with self._lock:
            unknown = sum(1 for cgroup in self._cgroups.values() if cgroup.identity is UNKNOWN)
            return len(self._pending) + unknown

    def __len__(self) -> int:
        return len(self._cgroups)

    def cgroups(self) -> list[tuple[int, str, Identity, Source | None]]:
        """Each cgroup that exists: id, path, who it is, and where its names are from."""
        with self._lock:
            return [
                (cgroup_id, cgroup.path, cgroup.identity, self._source_of_names(cgroup.identity))
                for cgroup_id, cgroup in self._cgroups.items()
                if cgroup.path is not None and cgroup_id not in self._missing_since
            ]

    def existing(self) -> list[tuple[int, str, Identity]]:
        """Each cgroup that exists: id, path as the file system has it, and who it is.

        The list is the same object until something changes, and nobody may change it.
        """
        with self._lock:
            if self._existing is None:
                self._existing = self.existing_of(self._cgroups)
            return self._existing

    def existing_of(self, cgroup_ids: Iterable[int]) -> list[tuple[int, str, Identity]]:
        """The same of these, as far as they exist."""
        with self._lock:
            return [
                (cgroup_id, cgroup.raw_path, cgroup.identity)
                for cgroup_id in cgroup_ids
                if (cgroup := self._cgroups.get(cgroup_id)) is not None
                and cgroup.path is not None
                and cgroup_id not in self._missing_since
            ]

    def labels(self) -> pl.DataFrame:
        """One row per cgroup known, dead or found to be unknown, by ascending `cgroup_id`: see LABEL_SCHEMA.

        The frame is the same object until something changes. The idle pseudo-cgroup and unknown ids have no
        path; the root cgroup has `/`.
        """
        with self._lock:
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

    def _learn(self, cgroup_id: int, raw_path: str, source: Source, time_ns: int) -> None:
        path = printable_path(raw_path)
        known = self._cgroups.get(cgroup_id)
        if known is not None and known.path == path:
            return
        identity = identify(path)
        self._cgroups[cgroup_id] = _Cgroup(path, raw_path, identity, identity)
        self._labels = None
        self._existing = None
        self._changes.append(Change(time_ns, "created", source, cgroup_id))
        if identity.container_id is None:
            return
        self._members.setdefault(identity.container_id, set()).add(cgroup_id)
        if identity.container_id in self._names:
            self._apply_names(cgroup_id, time_ns)
        elif identity.container_id not in self._nameless_since:
            self._nameless_since[identity.container_id] = self._clock()
            self._new_nameless.append((identity.container_id, identity.runtime))

    def _apply_names(self, cgroup_id: int, time_ns: int) -> None:
        cgroup = self._cgroups[cgroup_id]
        assert cgroup.by_path.container_id is not None
        names, source = self._names[cgroup.by_path.container_id]
        self._cgroups[cgroup_id] = cgroup._replace(identity=with_names(cgroup.by_path, names))
        self._labels = None
        self._existing = None
        self._changes.append(Change(time_ns, "named", source, cgroup_id))

    def _bury(self, cgroup_id: int, source: Source, time_ns: int) -> None:
        self._missing_since[cgroup_id] = self._clock()
        self._existing = None
        cgroup = self._cgroups[cgroup_id]
        if cgroup.path is None:
            return
        self._changes.append(Change(time_ns, "removed", source, cgroup_id))
        container_id = cgroup.by_path.container_id
        if container_id in self._nameless_since and self._members[container_id] <= self._missing_since.keys():
            del self._nameless_since[container_id]

    def _forget_long_dead(self) -> None:
        now = self._clock()
        for cgroup_id, missing_since in list(self._missing_since.items()):
            too_many = len(self._missing_since) > _KEEP_DEAD_AT_MOST
            if not too_many and now - missing_since < self._keep_dead_seconds:
                break
            del self._missing_since[cgroup_id]
            container_id = self._cgroups.pop(cgroup_id).by_path.container_id
            self._labels = None
            if container_id is not None and container_id in self._members:
                self._members[container_id].discard(cgroup_id)
                if not self._members[container_id]:
                    for by_container in (self._members, self._names, self._nameless_since):
                        by_container.pop(container_id, None)

    def _source_of_names(self, identity: Identity) -> Source | None:
        known = self._names.get(identity.container_id) if identity.container_id is not None else None
        return None if known is None else known.source


def _count(names: ContainerNames) -> int:
    """How much the names say."""
    values = (
        *(names.container_name, names.pod_name, names.pod_uid, names.namespace),
        *(names.image, names.rdt_class, names.blockio_class),
    )
    return sum(value is not None for value in values) + names.is_sandbox


def _monotonic_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
