# SPDX-License-Identifier: Apache-2.0
"""Every cgroup the tracer has met: its id, its path and who it is, also for a while after its death."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import polars as pl

from tracer.cgroup_event import CgroupEvent, EventKind
from tracer.containers.identity import IDLE, UNKNOWN, ContainerKey, Identity, printable_path, recognize
from tracer.containers.known_names import KnownNames, Source
from tracer.containers.labels import Labels
from tracer.containers.runtime_state import ContainerNames
from tracer.containers.walk import walk

IDLE_ID = 0
"""Id of the pseudo-cgroup that idle time is charged to; no directory has this inode."""

_WALK_INTERVAL_SECONDS = 1.0
_KEEP_DEAD_SECONDS = 600.0
# Late ticks come within seconds, so what a storm of short-lived cgroups pushes out is no longer asked for.
_KEEP_DEAD_AT_MOST = 32_768
# So long the rows of a container wait for its names; a runtime writes them down before it makes the cgroup.
_WAIT_FOR_NAMES_SECONDS = 1.0
# Of containers that came or went, for whoever looks for names, should that have ended.
_UNTAKEN_AT_MOST = 65_536


class Change(NamedTuple):
    """Something that happened to a cgroup, or that became known of it."""

    time_ns: int
    """CLOCK_MONOTONIC."""
    event: Literal["named", "limits"] | EventKind
    source: Source
    cgroup_id: int


class Arrival(NamedTuple):
    """A container of which there is a cgroup now."""

    key: ContainerKey
    runtime: str | None
    """That its path tells."""
    time_ns: int
    """CLOCK_MONOTONIC."""


class Departure(NamedTuple):
    """A container of which there is no cgroup any more."""

    key: ContainerKey


class Classes(NamedTuple):
    """Of cache and memory bandwidth, and of block I/O; None where nobody told of one."""

    rdt_class: str | None
    blockio_class: str | None


class _Cgroup(NamedTuple):
    path: str | None
    raw_path: str
    by_path: Identity
    key: ContainerKey | None
    identity: Identity

    @property
    def belongs_to(self) -> list[ContainerKey | str]:
        """The container and the UID of the pod that its path names."""
        return [member_of for member_of in (self.key, self.by_path.pod_uid) if member_of is not None]


class Inventory:
    """Who each cgroup id is, whichever source knew it best. Any thread may call any method.

    A path tells what a cgroup is and which container and pod it belongs to; their names come from elsewhere and hold
    for all of their cgroups. The size is bounded: the cgroups that exist, and the dead and the unknown of the last ten
    minutes, of which at most 32,768 are kept.
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

        `expect_names`: somebody calls `give_names`, so that rows of a new container or pod may wait for them.
        """
        self._root = root
        self._clock = clock
        self._expect_names = expect_names
        self._names_are_asked_for = False
        self._keep_dead_seconds = max(keep_dead_seconds, _KEEP_DEAD_SECONDS)
        self._lock = threading.RLock()
        self._cgroups: dict[int, _Cgroup] = {}
        # Those of them that exist, and those that nobody knows: what looks for these need not go through the dead.
        self._living: dict[int, _Cgroup] = {}
        self._unknown: set[int] = set()
        # By path as the file system has it, those right below.
        self._children: dict[str, set[int]] = {}
        self._labels = Labels()
        self._put(IDLE_ID, _Cgroup(None, "", IDLE, None, IDLE))
        # Since when somebody asks for them.
        self._pending: dict[int, float] = {}
        # When a walk first missed them; in the order of that time.
        self._missing_since: dict[int, float] = {}
        # Cgroups by the container and by the UID of the pod that their paths name, and how many of those exist.
        self._members: dict[ContainerKey | str, set[int]] = {}
        self._living_members: Counter[ContainerKey | str] = Counter()
        self._names = KnownNames()
        self._nameless_since: dict[ContainerKey | str, float] = {}
        self._moves: deque[Arrival | Departure] = deque(maxlen=_UNTAKEN_AT_MOST)
        self._changes: list[Change] = []
        self._existing: list[tuple[int, str, Identity]] | None = None
        self.refresh()

    def resolve(self, cgroup_ids: Iterable[int]) -> set[int]:
        """Find out who these are; return those of them for which it is too early to tell.

        An id that is new leads to a walk, but to no more than one a second; until then it is pending, and has
        no row in `labels()`. If that walk does not find it, it is unknown; where names are expected, only after it has
        been pending for a second, as what the kernel told of a short life may still wait to be read. A container or
        pod without names is too early to tell for its first second. So hold the rows of these ids back and ask again
        with the next batch, or, when there is none, call `settle()`.
        """
        ids = set(map(int, cgroup_ids))
        with self._lock:
            self._await(ids.difference(self._cgroups))
            is_due = bool(self._pending) and self._clock() - self._walked_at >= _WALK_INTERVAL_SECONDS
        if is_due:
            self.refresh()
        with self._lock:
            # Once more, for the walk may have forgotten some of them for having been missing too long.
            early = ids.difference(self._cgroups)
            self._await(early)
            if self._expect_names:
                oldest = self._clock() - _WAIT_FOR_NAMES_SECONDS
                # The latest are the last.
                for member_of, since in reversed(self._nameless_since.items()):
                    if since <= oldest:
                        break
                    early.update(
                        cgroup_id
                        for cgroup_id in self._members[member_of] & ids
                        # Containers wait for names of their own, which have their pod's in them.
                        if member_of == self._cgroups[cgroup_id].key or self._cgroups[cgroup_id].key is None
                    )
            return early

    def refresh(self) -> None:
        """Walk the tree now; afterwards no id is pending that was, where names are expected, a second ago.

        Others can use the inventory meanwhile, so the walk says nothing of what they learn while it is under way.
        """
        self._walk(pending_seconds=_WAIT_FOR_NAMES_SECONDS if self._expect_names else 0)

    def settle(self) -> None:
        """Walk the tree now, as nothing is told any more; afterwards no id is pending that was before."""
        self._walk(pending_seconds=0)

    def _await(self, cgroup_ids: Iterable[int]) -> None:
        now = self._clock()
        for cgroup_id in cgroup_ids:
            self._pending.setdefault(cgroup_id, now)

    def _walk(self, pending_seconds: float) -> None:
        with self._lock:
            self._walked_at = self._clock()
            living = set(self._living)
            missing = set(self._missing_since)
            pending = {
                cgroup_id for cgroup_id, since in self._pending.items() if self._walked_at - since >= pending_seconds
            }
        found = walk(self._root)
        with self._lock:
            now_ns = _monotonic_ns()
            for cgroup_id, raw_path in found.items():
                self._learn(cgroup_id, raw_path, "walk", now_ns)
            for cgroup_id in pending.difference(self._cgroups):
                self._put(cgroup_id, _Cgroup(None, "", UNKNOWN, None, UNKNOWN))
                self._unknown.add(cgroup_id)
                self._missing_since[cgroup_id] = self._walked_at
            for cgroup_id in (pending | found.keys()) & self._pending.keys():
                del self._pending[cgroup_id]
            for cgroup_id in missing & found.keys() & self._missing_since.keys():
                del self._missing_since[cgroup_id]
                self._begin_life(cgroup_id)
                self._tell_arrival(self._cgroups[cgroup_id], now_ns)
            for cgroup_id in (living & self._living.keys()) - found.keys():
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
                self._pending.pop(event.cgroup_id, None)
                if len(self._missing_since) > _KEEP_DEAD_AT_MOST:
                    self._forget_long_dead()
            elif event.kind != "created":
                self._changes.append(Change(event.time_ns, event.kind, source, event.cgroup_id))

    def give_names(self, key: ContainerKey, names: ContainerNames, source: Source, since_ns: int | None = None) -> None:
        """Take a container's names, and those of its pod; see `KnownNames.give` for those that win.

        They may come before the container's cgroup is known. `since_ns`: CLOCK_MONOTONIC of when they have held since;
        what a container was called before then holds for rows of that time. None: from its beginning.
        """
        with self._lock:
            known = self._names.names(key)
            told = self._names.give(key, names, source)
            for cgroup_id in self._members.get(key, ()):
                told += self._place(self._cgroups[cgroup_id])
            if known is None or known.container_name is None:
                since_ns = None
            self._complete_all(told, key, _monotonic_ns() if since_ns is None else since_ns, since_ns)

    def take_moves(self) -> list[Arrival | Departure]:
        """Containers that came or went since the last call, in that order; one that is back arrives anew."""
        with self._lock:
            if not self._names_are_asked_for:
                # Rows of what was there before wait from now on, however long the beginning of the run took.
                self._names_are_asked_for = True
                self._nameless_since = dict.fromkeys(self._nameless_since, self._clock())
            moves = list(self._moves)
            self._moves.clear()
            return moves

    def is_nameless(self, key: ContainerKey) -> bool:
        """Whether a container exists and nobody has given its names yet."""
        with self._lock:
            return key in self._nameless_since

    def living_containers(self) -> list[tuple[int, str]]:
        """Id and path of each container's and sandbox's own cgroup that exists."""
        with self._lock:
            return [
                (cgroup_id, cgroup.path)
                for cgroup_id, cgroup in self._living.items()
                if cgroup.path is not None
                and cgroup.identity.kind in ("container", "sandbox")
                and not cgroup.identity.subpath
            ]

    def below(self, cgroup_id: int) -> list[int]:
        """Ids of a cgroup and of all that are known below it."""
        with self._lock:
            found = [cgroup_id]
            for one in found:
                if (cgroup := self._cgroups.get(one)) is not None:
                    found += self._children.get(cgroup.raw_path, ())
            return found

    def cgroups_of(self, key: ContainerKey) -> set[int]:
        """Ids of the container's own cgroup and of those inside, as far as they are known."""
        with self._lock:
            return set(self._members.get(key, ()))

    def classes(self, cgroup_id: int) -> Classes:
        """The classes of the container that the cgroup belongs to, by whoever gave its names."""
        with self._lock:
            cgroup = self._cgroups.get(cgroup_id)
            names = None
            if cgroup is not None and cgroup.by_path.container_id is not None:
                names = self._names.names(cgroup.key)
            return Classes(None, None) if names is None else Classes(names.rdt_class, names.blockio_class)

    def take_changes(self) -> list[Change]:
        """What happened since the last call, in the order in which it was heard."""
        with self._lock:
            changes, self._changes = self._changes, []
            return changes

    @property
    def unresolved(self) -> int:
        """How many ids have no path: those nobody has looked for yet, and those that a walk did not find."""
        with self._lock:
            return len(self._pending) + len(self._unknown)

    def __len__(self) -> int:
        return len(self._cgroups)

    def existing(self) -> list[tuple[int, str, Identity]]:
        """Each cgroup that exists: id, path as the file system has it, and who it is.

        The list is the same object until something changes, and nobody may change it.
        """
        with self._lock:
            if self._existing is None:
                self._existing = self.existing_of(self._living)
            return self._existing

    def existing_of(self, cgroup_ids: Iterable[int]) -> list[tuple[int, str, Identity]]:
        """The same of these, as far as they exist."""
        with self._lock:
            return [
                (cgroup_id, cgroup.raw_path, cgroup.identity)
                for cgroup_id in cgroup_ids
                if (cgroup := self._living.get(cgroup_id)) is not None
            ]

    def labels(self, cgroup_ids: Iterable[int] | None = None) -> pl.DataFrame:
        """A row of LABEL_SCHEMA for each of these that is known, dead or found to be unknown.

        Without ids, of all, by ascending `cgroup_id`. The idle pseudo-cgroup and unknown ids have no path; the root
        cgroup has `/`.
        """
        with self._lock:
            return self._labels.frame(cgroup_ids)

    def earlier_labels(self, cgroup_ids: Iterable[int]) -> pl.DataFrame:
        """Labels that containers among these had before they were renamed, mostly none; see `Labels.earlier`."""
        with self._lock:
            return self._labels.earlier(set(cgroup_ids))

    def _learn(self, cgroup_id: int, raw_path: str, source: Source, time_ns: int) -> None:
        path = printable_path(raw_path)
        known = self._cgroups.get(cgroup_id)
        if known is not None and known.path == path:
            return
        if known is not None:
            self._leave(cgroup_id, known)
        by_path, key = recognize(path)
        cgroup = _Cgroup(path, raw_path, by_path, key, by_path)
        self._put(cgroup_id, cgroup)
        self._changes.append(Change(time_ns, "created", source, cgroup_id))
        if (above := _above(raw_path)) is not None:
            self._children.setdefault(above, set()).add(cgroup_id)
        if cgroup_id not in self._missing_since:
            self._begin_life(cgroup_id)
        for member_of in cgroup.belongs_to:
            self._members.setdefault(member_of, set()).add(cgroup_id)
            if not self._names.knows(member_of):
                self._nameless_since.setdefault(member_of, self._clock())
        self._complete(cgroup_id, time_ns, is_told=key is not None and self._names.knows(key))
        self._complete_all(self._place(cgroup), None, time_ns)
        self._tell_arrival(cgroup, time_ns)

    def _place(self, cgroup: _Cgroup) -> list[ContainerKey | str]:
        """Of whom something is new since the path of one of its cgroups has a container in a pod."""
        if cgroup.key is None or cgroup.by_path.pod_uid is None:
            return []
        return self._names.place(cgroup.key, cgroup.by_path.pod_uid)

    def _tell_arrival(self, cgroup: _Cgroup, time_ns: int) -> None:
        if cgroup.key is not None and not cgroup.by_path.subpath:
            self._moves.append(Arrival(cgroup.key, cgroup.by_path.runtime, time_ns))

    def _complete_all(
        self, told: Iterable[ContainerKey | str], key: ContainerKey | None, time_ns: int, since_ns: int | None = None
    ) -> None:
        """Says who all of these containers and pods are now; `key`: the one whose own names were told."""
        for whom in told:
            self._nameless_since.pop(whom, None)
            for cgroup_id in self._members.get(whom, ()):
                self._complete(cgroup_id, time_ns, since_ns, is_told=whom == key)

    def _complete(self, cgroup_id: int, time_ns: int, since_ns: int | None = None, *, is_told: bool) -> None:
        """Says who the cgroup is by what is known now; `is_told`: its container's own names are, perhaps anew."""
        cgroup = self._cgroups[cgroup_id]
        source = self._names.source(cgroup.by_path, cgroup.key)
        if source is None:
            return
        identity = self._names.complete(cgroup.by_path, cgroup.key)
        is_new = identity != cgroup.identity
        if is_new:
            self._put(cgroup_id, cgroup._replace(identity=identity), since_ns)
        # Containers are named by names of their own, or once more when only their classes are told.
        if is_new if cgroup.by_path.container_id is None else is_told:
            self._changes.append(Change(time_ns, "named", source, cgroup_id))

    def _put(self, cgroup_id: int, cgroup: _Cgroup, since_ns: int | None = None) -> None:
        self._cgroups[cgroup_id] = cgroup
        self._labels.put(cgroup_id, cgroup.path, cgroup.identity, since_ns=since_ns)
        if cgroup_id in self._living:
            self._living[cgroup_id] = cgroup
            self._existing = None

    def _begin_life(self, cgroup_id: int) -> None:
        """From now on it exists, as far as anybody knows."""
        cgroup = self._living[cgroup_id] = self._cgroups[cgroup_id]
        self._living_members.update(cgroup.belongs_to)
        self._existing = None

    def _end_life(self, cgroup_id: int) -> None:
        if (cgroup := self._living.pop(cgroup_id, None)) is not None:
            self._living_members.subtract(cgroup.belongs_to)
            self._existing = None

    def _bury(self, cgroup_id: int, source: Source, time_ns: int) -> None:
        self._missing_since[cgroup_id] = self._clock()
        self._end_life(cgroup_id)
        cgroup = self._cgroups[cgroup_id]
        if cgroup.path is None:
            return
        self._changes.append(Change(time_ns, "removed", source, cgroup_id))
        for member_of in cgroup.belongs_to:
            if not self._living_members[member_of]:
                self._nameless_since.pop(member_of, None)
                if isinstance(member_of, ContainerKey):
                    self._moves.append(Departure(member_of))

    def _forget_long_dead(self) -> None:
        oldest = self._clock() - self._keep_dead_seconds
        too_many = len(self._missing_since) - _KEEP_DEAD_AT_MOST
        long_dead: list[int] = []
        for cgroup_id, missing_since in self._missing_since.items():
            if len(long_dead) >= too_many and missing_since > oldest:
                break
            long_dead.append(cgroup_id)
        for cgroup_id in long_dead:
            del self._missing_since[cgroup_id]
            self._leave(cgroup_id, self._cgroups.pop(cgroup_id))
            self._labels.drop(cgroup_id)

    def _leave(self, cgroup_id: int, cgroup: _Cgroup) -> None:
        """Forgets the container and the pod of a cgroup with the last of theirs."""
        self._end_life(cgroup_id)
        self._unknown.discard(cgroup_id)
        if cgroup.path is not None and (above := _above(cgroup.raw_path)) is not None:
            self._children[above].discard(cgroup_id)
            if not self._children[above]:
                del self._children[above]
        for member_of in cgroup.belongs_to:
            self._members[member_of].discard(cgroup_id)
            if not self._members[member_of]:
                del self._members[member_of]
                del self._living_members[member_of]
                self._nameless_since.pop(member_of, None)
                self._names.forget(member_of)


def _above(raw_path: str) -> str | None:
    """Path of the cgroup right above; None for the root."""
    return None if raw_path == "/" else raw_path.rpartition("/")[0] or "/"


def _monotonic_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
