# SPDX-License-Identifier: Apache-2.0
"""Rows of `llc`: each container's share of the last-level cache and of memory traffic, by L3 domain.

A container is read from a group that somebody else made for it or for its pod, where there is one:

    mon_groups/<container id>          the low-level runtime (`linux.intelRdt.enableMonitoring`)
    <container id>                     the runtime: a control group that it made for this container alone
    mon_groups/<pod uid>, pod_<pod uid>   plug-ins that monitor pods: the values are the pod's, and so are the rows

all in the control group that the container's threads are in. Otherwise the tracer makes a group there. Groups are few:
the last eight are left to those who come later, since a runtime that gets none fails its container. When they are all
taken, the busiest containers have them; one that got one keeps it.
"""

import errno
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from tracer.readers.protocol import Cgroup, Observation, Reader
from tracer.readers.resctrl.file_system import ResctrlFileSystem, group_path
from tracer.readers.resctrl.gathering import Threads, first_assignment, gather, threads_of
from tracer.readers.resctrl.group import DomainValues, Group
from tracer.readers.resctrl.ownership import is_dead, is_of_container, owner_of, this_process

RESERVED_RMIDS = 8
"""Groups that the tracer leaves to others."""

_RECHECK_NS = 10_000_000_000

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
_LIFECYCLE_ROWS = {"cgroup_id": pl.UInt64, "monotonic_ns": pl.Int64, "event": pl.String, "source": pl.String}


class _RefusedError(Exception):
    """Why a container has no group, for now; a line for the manifest."""


class _Held:
    """A group that is read, and the containers that are in it."""

    def __init__(self, group: Group, cgroup_id: int, next_check_ns: int) -> None:
        self.group = group
        self.cgroup_id = cgroup_id
        """Whose rows they are."""
        self.containers: set[int] = set()
        self.next_check_ns = next_check_ns


class _Row(NamedTuple):
    cgroup_id: int
    monotonic_ns: int
    resctrl_group: str
    values: DomainValues


class ResctrlReader(Reader):
    """Makes, reuses, reads and removes groups; what it made is gone after `close`.

    Raises NodeUnsupportedError where the last-level cache cannot be monitored.
    """

    name = "resctrl"

    def __init__(
        self,
        root: Path,
        cgroup_root: Path,
        *,
        proc: Path = Path("/proc"),
        clock_ns: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_MONOTONIC),
    ) -> None:
        """root: where resctrl is mounted; clock_ns: CLOCK_MONOTONIC. Removes what dead runs left."""
        self._file_system = ResctrlFileSystem(root, proc)
        self._monitoring = self._file_system.monitoring()
        self._cgroup_root = cgroup_root
        self._clock_ns = clock_ns
        self._owner = this_process()
        self._held: dict[str, _Held] = {}
        self._group_of: dict[int, str] = {}
        # Containers without a group, with the CPU time that they had when they were last compared.
        self._waiting: dict[int, int] = {}
        self._not_before_ns: dict[int, int] = {}
        self._notes: dict[str, bool] = {}
        self._changes: list[tuple[int, int, str, str]] = []
        self._rows: list[_Row] = []
        self._missing = 0
        self._remove_leftovers()

    def read(self, cgroups: Sequence[Cgroup]) -> Observation:
        """Rows of `llc`, and of `lifecycle` for containers that cannot be monitored, or can be after all.

        A container that is no more has a last row, with what its threads did since the row before.
        """
        containers = {
            cgroup.cgroup_id: cgroup for cgroup in cgroups if cgroup.kind == "container" and not cgroup.is_inner
        }
        pods = {cgroup.pod_uid: cgroup.cgroup_id for cgroup in cgroups if cgroup.kind == "pod"}
        self._domains = self._file_system.domains()
        self._let_go_of_the_dead(containers)
        self._look_for_strays(containers)
        self._find_groups(containers, pods)
        for held in list(self._held.values()):
            self._read_group(held)
        return self._take_observation()

    def close(self) -> None:
        """Removes its own groups."""
        for path in list(self._held):
            self._drop(path)

    # The life of groups

    def _let_go_of_the_dead(self, containers: dict[int, Cgroup]) -> None:
        for of_living in (self._waiting, self._not_before_ns):
            for cgroup_id in of_living.keys() - containers.keys():
                del of_living[cgroup_id]
        for cgroup_id in [cgroup_id for cgroup_id in self._group_of if cgroup_id not in containers]:
            path = self._group_of.pop(cgroup_id)
            held = self._held[path]
            held.containers.discard(cgroup_id)
            if not held.containers and self._read_group(held):
                self._drop(path)

    def _look_for_strays(self, containers: dict[int, Cgroup]) -> None:
        """Threads that came into a container from outside, by `exec`, are in its group from the next look on."""
        now_ns = self._clock_ns()
        for path, held in list(self._held.items()):
            if now_ns < held.next_check_ns:
                continue
            held.next_check_ns = now_ns + _RECHECK_NS
            if held.group.is_own and not self._gather(held, containers[held.cgroup_id]):
                self._drop(path)

    def _find_groups(self, containers: dict[int, Cgroup], pods: dict[str | None, int]) -> None:
        candidates: list[tuple[Cgroup, str]] = []
        for cgroup_id, cgroup in containers.items():
            if cgroup_id in self._group_of or self._not_before_ns.get(cgroup_id, 0) > self._clock_ns():
                continue
            threads = threads_of(self._directory(cgroup))
            if not threads.tids and not threads.hidden:
                continue
            try:
                control = self._reuse(cgroup, pods, threads)
            except _RefusedError as refusal:
                self._refuse(cgroup, str(refusal))
                continue
            if control is not None:
                candidates.append((cgroup, control))
        self._make_groups(candidates)

    def _reuse(self, cgroup: Cgroup, pods: dict[str | None, int], threads: Threads) -> str | None:
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
            held = _Held(group, rows_of, 0)
        self._hold(cgroup, held)

    def _make_groups(self, candidates: list[tuple[Cgroup, str]]) -> None:
        if not candidates:
            return
        room = self._monitoring.num_rmids - RESERVED_RMIDS - self._file_system.count_groups()
        if 0 < room < len(candidates):
            candidates = self._busiest_first(candidates)
        for position, (cgroup, control) in enumerate(candidates):
            try:
                if position >= room:
                    raise _RefusedError(f"all monitoring groups of the processor but {RESERVED_RMIDS} are in use")
                self._make_group(cgroup, control)
            except _RefusedError as refusal:
                self._refuse(cgroup, str(refusal))
            except OSError as error:
                self._refuse(cgroup, _why_not_made(error))
                if error.errno in (errno.ENOSPC, errno.EBUSY):
                    room = 0

    def _make_group(self, cgroup: Cgroup, control: str) -> None:
        """Raises _RefusedError, or OSError; then there is no group."""
        assert cgroup.container_id is not None
        path = group_path(control, self._owner.group_name(cgroup.container_id))
        directory = self._file_system.directory(path)
        directory.mkdir()
        made_ns = self._clock_ns()
        try:
            held = _Held(Group(directory, path, made_ns=made_ns), cgroup.cgroup_id, made_ns + _RECHECK_NS)
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

    def _hold(self, cgroup: Cgroup, held: _Held) -> None:
        self._held[held.group.path] = held
        held.containers.add(cgroup.cgroup_id)
        self._group_of[cgroup.cgroup_id] = held.group.path
        if self._waiting.pop(cgroup.cgroup_id, None) is not None:
            self._changes.append((cgroup.cgroup_id, self._clock_ns(), "llc_monitored", "resctrl"))

    def _gather(self, held: _Held, cgroup: Cgroup) -> bool:
        """Moves the container's threads into its group; False if they are no longer the tracer's to place."""
        try:
            outcome = gather(self._file_system, held.group, self._directory(cgroup))
        except OSError:
            return False
        if outcome == "growing":
            held.next_check_ns = 0
        return outcome in ("all", "growing")

    def _drop(self, path: str) -> None:
        """Gives a group up; containers that are still in it are looked at anew."""
        held = self._held.pop(path)
        for cgroup_id in held.containers:
            del self._group_of[cgroup_id]
        self._remove(held)

    def _remove(self, held: _Held) -> None:
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

    # Those that have to wait

    def _refuse(self, cgroup: Cgroup, reason: str) -> None:
        if cgroup.cgroup_id not in self._waiting:
            self._waiting[cgroup.cgroup_id] = _cpu_usage_usec(self._directory(cgroup))
            self._changes.append((cgroup.cgroup_id, self._clock_ns(), "llc_unmonitored", "resctrl"))
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

    # Values

    def _read_group(self, held: _Held) -> bool:
        """Takes a group's values; False, and the group is given up, if its maker removed it."""
        now_ns = self._clock_ns()
        try:
            values, missing = held.group.read(self._domains, self._monitoring.features, now_ns)
        except OSError:
            self._drop(held.group.path)
            return False
        self._missing += len(missing)
        for feature, why in missing:
            self._note(f"{feature} in llc is null at times: {why}")
        path = os.fsencode(held.group.path).decode(errors="backslashreplace")
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
        lifecycle = pl.DataFrame(self._changes, schema=_LIFECYCLE_ROWS, orient="row")
        observation = Observation(
            {"llc": llc, "lifecycle": lifecycle},
            health={"llc_values_missing": self._missing},
            notes=[text for text, is_new in self._notes.items() if is_new],
        )
        self._rows, self._changes, self._missing = [], [], 0
        self._notes = dict.fromkeys(self._notes, False)
        return observation

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
