# SPDX-License-Identifier: Apache-2.0
"""Which container is in which group: found, made, watched over and removed.

A container is read from a group that somebody else made for it or for its pod, where there is one:

    mon_groups/<container id>             the low-level runtime (`linux.intelRdt.enableMonitoring`)
    <container id>                        the runtime: a control group that it made for this container alone
    mon_groups/<pod uid>, pod_<pod uid>   plug-ins that monitor pods: the values are the pod's, and so are the rows

all in the control group that the container's threads are in. Otherwise the tracer makes a group there. Groups are few:
the last eight are left to those who come later, since a runtime that gets none fails its container. When they are all
taken, the busiest containers have them; one that got one keeps it.
"""

import errno
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tracer.readers.protocol import Cgroup
from tracer.readers.resctrl.file_system import ResctrlFileSystem, group_path
from tracer.readers.resctrl.gathering import Threads, first_assignment, gather, threads_of
from tracer.readers.resctrl.group import Group
from tracer.readers.resctrl.ownership import is_dead, is_of_container, owner_of, this_process

RESERVED_RMIDS = 8
"""Groups that the tracer leaves to others."""

_RECHECK_NS = 10_000_000_000


class _RefusedError(Exception):
    """Why a container has no group, for now; a line for the manifest."""


class Held:
    """A group that is read, and the containers that are in it."""

    def __init__(self, group: Group, cgroup_id: int, next_check_ns: int) -> None:
        self.group = group
        self.cgroup_id = cgroup_id
        """Whose rows they are."""
        self.containers: set[int] = set()
        self.next_check_ns = next_check_ns


class Placing:
    """The groups of the containers that exist. What it makes, it removes; what others made, it only opens."""

    def __init__(
        self,
        file_system: ResctrlFileSystem,
        *,
        num_rmids: int,
        cgroup_root: Path,
        clock_ns: Callable[[], int],
        note: Callable[[str], None],
    ) -> None:
        """Removes the groups of runs that were killed. `note` takes what the manifest should say."""
        self._file_system = file_system
        self._num_rmids = num_rmids
        self._cgroup_root = cgroup_root
        self._clock_ns = clock_ns
        self._note = note
        self._owner = this_process()
        self._held: dict[str, Held] = {}
        self._group_of: dict[int, str] = {}
        # Containers without a group, with the CPU time that they had when they were last compared.
        self._waiting: dict[int, int] = {}
        self._not_before_ns: dict[int, int] = {}
        self._changes: list[tuple[int, int, str]] = []
        self._remove_leftovers()

    def held(self) -> list[Held]:
        """All groups that are to be read."""
        return list(self._held.values())

    def take_changes(self) -> list[tuple[int, int, str]]:
        """Cgroup id, time and event since the last call.

        `llc_unmonitored`: there is no group for a container. `llc_monitored`: there is one after all.
        """
        changes, self._changes = self._changes, []
        return changes

    def deserted(self, living: Mapping[int, Cgroup]) -> list[Held]:
        """The groups of containers that are no more: to be read once more, and dropped."""
        for of_living in (self._waiting, self._not_before_ns):
            for cgroup_id in of_living.keys() - living.keys():
                del of_living[cgroup_id]
        for cgroup_id in self._group_of.keys() - living.keys():
            self._held[self._group_of.pop(cgroup_id)].containers.discard(cgroup_id)
        return [held for held in self._held.values() if not held.containers]

    def look_for_strays(self, living: Mapping[int, Cgroup]) -> None:
        """Threads that came into a container from outside, by `exec`, are in its group from the next look on."""
        now_ns = self._clock_ns()
        for held in self.held():
            if now_ns < held.next_check_ns:
                continue
            held.next_check_ns = now_ns + _RECHECK_NS
            if held.group.is_own and not self._gather(held, living[held.cgroup_id]):
                self.drop(held)

    def find(self, containers: Iterable[Cgroup], pods: Mapping[str | None, int]) -> None:
        """A group for each of the containers that has none and has a thread; `pods`: cgroup id by UID."""
        now_ns = self._clock_ns()
        without = [
            cgroup
            for cgroup in containers
            if cgroup.cgroup_id not in self._group_of and self._not_before_ns.get(cgroup.cgroup_id, 0) <= now_ns
        ]
        if not without:
            return
        room = self._num_rmids - RESERVED_RMIDS - self._file_system.count_groups()
        candidates: list[tuple[Cgroup, str]] = []
        for cgroup in without:
            if room <= 0 and cgroup.cgroup_id in self._waiting:
                continue
            threads = threads_of(self._directory(cgroup))
            if not threads.tids and not threads.hidden:
                continue
            try:
                control = self._reuse(cgroup, threads, pods)
            except _RefusedError as refusal:
                self._refuse(cgroup, str(refusal))
                continue
            if control is not None:
                candidates.append((cgroup, control))
        self._make_groups(candidates, room)

    def drop(self, held: Held) -> None:
        """Gives a group up; containers that are still in it are looked at anew."""
        del self._held[held.group.path]
        for cgroup_id in held.containers:
            del self._group_of[cgroup_id]
        self._remove(held)

    def _reuse(self, cgroup: Cgroup, threads: Threads, pods: Mapping[str | None, int]) -> str | None:
        """Reads a group of somebody else for the container; returns the control group to make one in otherwise.

        None: there is nothing more to do for now. Raises _RefusedError.
        """
        assert cgroup.container_id is not None
        if not threads.tids:
            raise _RefusedError(
                "their processes are in a PID namespace that the tracer's does not see; run it in the host's"
            )
        assignment = first_assignment(self._file_system, threads)
        if assignment is None:
            return None
        control, monitor = assignment
        for_pod = [] if cgroup.pod_uid is None else [cgroup.pod_uid, f"pod_{cgroup.pod_uid}"]
        there = set(self._file_system.monitoring_groups(control))
        if cgroup.container_id in there:
            self._hold_of_others(cgroup, group_path(control, cgroup.container_id), cgroup.cgroup_id)
        elif control == cgroup.container_id:
            self._hold_of_others(cgroup, group_path(control, ""), cgroup.cgroup_id)
        elif pod_group := next((name for name in for_pod if name in there), None):
            self._hold_of_others(cgroup, group_path(control, pod_group), pods.get(cgroup.pod_uid))
        elif not monitor:
            return control
        elif is_of_container(monitor, cgroup.container_id):
            self._hold_of_others(cgroup, group_path(control, monitor), cgroup.cgroup_id)
        else:
            raise _RefusedError("they are in a monitoring group of another program, which may hold others too")
        return None

    def _hold_of_others(self, cgroup: Cgroup, path: str, rows_of: int | None) -> None:
        """Reads the group for the container from now on, and changes nothing of it."""
        if rows_of is None:
            return
        held = self._held.get(path)
        if held is None:
            try:
                group = Group(self._file_system.directory(path), path, made_ns=None)
            except OSError:
                # Gone again; the next look finds another place.
                return
            held = Held(group, rows_of, 0)
        self._hold(cgroup, held)

    def _make_groups(self, candidates: list[tuple[Cgroup, str]], room: int) -> None:
        if 0 < room < len(candidates):
            candidates = self._busiest_first(candidates)
        none_left = f"all monitoring groups of the processor but {RESERVED_RMIDS} are in use"
        for position, (cgroup, control) in enumerate(candidates):
            try:
                if position >= room:
                    raise _RefusedError(none_left)
                self._make_group(cgroup, control)
            except _RefusedError as refusal:
                self._refuse(cgroup, str(refusal))
            except OSError as error:
                reason = _why_not_made(error)
                self._refuse(cgroup, reason)
                if error.errno in (errno.ENOSPC, errno.EBUSY):
                    # It is the same for all the others.
                    room, none_left = 0, reason

    def _make_group(self, cgroup: Cgroup, control: str) -> None:
        """Raises _RefusedError, or OSError; then there is no group."""
        assert cgroup.container_id is not None
        path = group_path(control, self._owner.group_name(cgroup.container_id))
        directory = self._file_system.directory(path)
        directory.mkdir()
        made_ns = self._clock_ns()
        try:
            held = Held(Group(directory, path, made_ns=made_ns), cgroup.cgroup_id, made_ns + _RECHECK_NS)
        except OSError:
            directory.rmdir()
            raise
        if self._gather(held, cgroup):
            self._hold(cgroup, held)
            return
        # Each group that is made and removed costs an RMID for as long as its lines are in the cache.
        self._not_before_ns[cgroup.cgroup_id] = made_ns + _RECHECK_NS
        self._remove(held)
        raise _RefusedError("their threads are in several groups of other programs")

    def _hold(self, cgroup: Cgroup, held: Held) -> None:
        self._held[held.group.path] = held
        held.containers.add(cgroup.cgroup_id)
        self._group_of[cgroup.cgroup_id] = held.group.path
        if self._waiting.pop(cgroup.cgroup_id, None) is not None:
            self._changes.append((cgroup.cgroup_id, self._clock_ns(), "llc_monitored"))

    def _gather(self, held: Held, cgroup: Cgroup) -> bool:
        """Moves the container's threads into its group; False if they are no longer the tracer's to place."""
        try:
            outcome = gather(self._file_system, held.group, self._directory(cgroup))
        except OSError:
            return False
        if outcome == "growing":
            held.next_check_ns = 0
        return outcome in ("all", "growing")

    def _remove(self, held: Held) -> None:
        held.group.close()
        if held.group.is_own:
            self._remove_directory(held.group.path)

    def _remove_directory(self, path: str) -> None:
        try:
            self._file_system.directory(path).rmdir()
        except OSError as error:
            if error.errno != errno.ENOENT:
                self._note(f"a monitoring group of resctrl could not be removed: {error.strerror}")

    def _remove_leftovers(self) -> None:
        """Removes the groups of runs that were killed."""
        for control in self._file_system.control_groups():
            for name in self._file_system.monitoring_groups(control):
                owner = owner_of(name)
                if owner is not None and is_dead(owner, self._owner):
                    self._remove_directory(group_path(control, name))

    def _refuse(self, cgroup: Cgroup, reason: str) -> None:
        if cgroup.cgroup_id not in self._waiting:
            self._waiting[cgroup.cgroup_id] = _cpu_usage_usec(self._directory(cgroup))
            self._changes.append((cgroup.cgroup_id, self._clock_ns(), "llc_unmonitored"))
            self._note(f"some containers have no rows in llc (llc_unmonitored in lifecycle): {reason}")

    def _busiest_first(self, candidates: list[tuple[Cgroup, str]]) -> list[tuple[Cgroup, str]]:
        """By the CPU time since they were last compared; of those who come new, in all their life."""
        used = {}
        for cgroup, _control in candidates:
            usage = _cpu_usage_usec(self._directory(cgroup))
            used[cgroup.cgroup_id] = usage - self._waiting.get(cgroup.cgroup_id, 0)
            if cgroup.cgroup_id in self._waiting:
                self._waiting[cgroup.cgroup_id] = usage
        return sorted(candidates, key=lambda candidate: used[candidate[0].cgroup_id], reverse=True)

    def _directory(self, cgroup: Cgroup) -> Path:
        return self._cgroup_root / cgroup.path.lstrip("/")


def _why_not_made(error: OSError) -> str:
    match error.errno:
        case errno.ENOSPC:
            return "all monitoring groups of the processor are in use"
        case errno.EBUSY:
            return "the free monitoring groups still hold lines in the cache; they are tried again each second"
        case _:
            return f"a monitoring group could not be made: {error.strerror}"


def _cpu_usage_usec(cgroup: Path) -> int:
    """`usage_usec` of cpu.stat, its first line; 0 once the cgroup is gone."""
    try:
        return int((cgroup / "cpu.stat").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
