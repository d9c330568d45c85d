# SPDX-License-Identifier: Apache-2.0
"""The kernel's resctrl file system as a model: its groups, ids, tasks and counters, and the errors it gives.

It follows Documentation/filesystems/resctrl.rst and fs/resctrl/{rdtgroup,monitor}.c of Linux 6.18. Three things are
worse than in the kernel on purpose:

    inheritance   a new task is in its creator's group only if every task of the creator's process was in that group
                  when tasks were last asked for or moved; the kernel looks at the one creating thread, which /proc
                  does not tell. So a task may be outside a group that the kernel would have put it in, never inside
                  one that the kernel would have kept it out of
    limbo         an RMID stays there until the test lets it go, not until its cache lines are evicted
    counters      rise only when the test says so
"""

import errno
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

OCCUPANCY, TOTAL, LOCAL = EVENTS = ("llc_occupancy", "mbm_total_bytes", "mbm_local_bytes")
SUM = -1
"""In place of an SNC node: the whole L3 domain."""

_NOT_A_GROUP = frozenset({"info", "mon_data", "mon_groups"})


@dataclass(frozen=True)
class Machine:
    """What the processor has. `domains`: L3 ids, each with the ids of its SNC nodes (none without SNC)."""

    num_rmids: int = 16
    num_closids: int = 4
    domains: dict[int, list[int]] = field(default_factory=lambda: {0: [], 8: []})
    features: tuple[str, ...] = EVENTS


@dataclass(eq=False)
class Group:
    """A CTRL_MON group, which has no parent, or a MON group. `counts`: by domain, SNC node (or SUM) and event."""

    name: str
    parent: "Group | None"
    rmid: int
    monitors: dict[str, "Group"] = field(default_factory=dict)
    counts: dict[tuple[int, int, str], int] = field(default_factory=dict)

    @property
    def control(self) -> "Group":
        """The CTRL_MON group whose CLOSID it has."""
        return self.parent or self


class Task(NamedTuple):
    """A thread as /proc shows it: the process it is of, and that one's parent."""

    process: int
    parent: int


def tasks_of_the_node(known: Mapping[int, Task]) -> dict[int, Task]:
    """Every thread that exists now, by TID; those known already are not asked again: no test uses up all TIDs."""
    tasks = {}
    for process in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208 - runs at each write to `tasks`
        try:
            for thread in map(int, os.listdir(f"/proc/{process}/task")):  # noqa: PTH208
                if thread not in known:
                    stat = Path(f"/proc/{process}/task/{thread}/stat").read_bytes()
                    # proc_pid_stat(5), field 4
                    tasks[thread] = Task(int(process), int(stat.rpartition(b")")[2].split()[1]))
                else:
                    tasks[thread] = known[thread]
        except OSError:
            continue
    return tasks


class ResctrlModel:
    """State and rules. A path is the tuple of its components below the mount point; all errors are OSErrors."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.offline: set[int] = set()
        self.texts: dict[tuple[str, int, str], str] = {}
        """What a file says instead of a number, by group, domain and event; the group `*` is all of them."""
        self._root = Group("", None, rmid=0)
        self._controls = {"": self._root}
        self._free = list(range(1, machine.num_rmids))
        self._limbo: list[int] = []
        self._last_status = "ok"
        self._tasks: dict[int, Task] = {}
        self._group_of: dict[int, Group] = {}

    def names(self, path: tuple[str, ...]) -> list[str] | None:
        """Names in a directory; None if there is a file at the path. Raises ENOENT."""
        group, rest = self._find(path)
        match rest:
            case []:
                kinds = ["tasks", "mon_data"] if group.parent else ["tasks", "mon_data", "mon_groups"]
                return [*kinds, "info", *filter(None, self._controls)] if group is self._root else kinds
            case ["mon_groups"] if group.parent is None:
                return list(group.monitors)
            case ["info"] if group is self._root:
                return ["L3_MON", "last_cmd_status"]
            case ["info", "L3_MON"] if group is self._root:
                return ["num_rmids", "mon_features", "max_threshold_occupancy"]
            case ["mon_data"]:
                return [f"mon_L3_{domain:02}" for domain in self.machine.domains if domain not in self.offline]
            case ["mon_data", name] if (domain := self._domain(name)) is not None:
                return [*self.machine.features, *(f"mon_sub_L3_{node:02}" for node in self.machine.domains[domain])]
            case ["mon_data", name, sub] if self._node(name, sub) is not None:
                return list(self.machine.features)
        self.read(path)
        return None

    def read(self, path: tuple[str, ...]) -> str:
        """What the file at the path holds. Raises ENOENT, EISDIR."""
        group, rest = self._find(path)
        match rest:
            case ["tasks"]:
                self._see_tasks()
                return "".join(f"{tid}\n" for tid in sorted(self._group_of) if self._is_in(tid, group))
            case ["info", "last_cmd_status"] if group is self._root:
                return f"{self._last_status}\n"
            case ["info", "L3_MON", "num_rmids"] if group is self._root:
                return f"{self.machine.num_rmids}\n"
            case ["info", "L3_MON", "mon_features"] if group is self._root:
                return "".join(f"{feature}\n" for feature in self.machine.features)
            case ["info", "L3_MON", "max_threshold_occupancy"] if group is self._root:
                return "65536\n"
            case ["mon_data", name, event] if (domain := self._domain(name)) is not None and self._has(event):
                return self._value(group, domain, SUM, event)
            case ["mon_data", name, sub, event] if (node := self._node(name, sub)) is not None and self._has(event):
                return self._value(group, self._domain(name), node, event)
        raise OSError(errno.ENOENT, "no such file")

    def make(self, path: tuple[str, ...]) -> None:
        """mkdir(2)."""
        *above, name = path
        if "\n" in name:
            raise self._refuse(errno.EINVAL, "Bad group name")
        if not above:
            if name in self._controls or name in _NOT_A_GROUP:
                raise OSError(errno.EEXIST, "exists")
            if len(self._controls) == self.machine.num_closids:
                raise self._refuse(errno.ENOSPC, "Out of CLOSIDs")
            self._controls[name] = Group(name, None, self._take_rmid())
            return
        group, rest = self._find(tuple(above))
        if rest != ["mon_groups"] or group.parent is not None:
            raise OSError(errno.EPERM, "not a place for groups")
        if name == "mon_groups":
            raise self._refuse(errno.EPERM, "Invalid group name")
        if name in group.monitors:
            raise OSError(errno.EEXIST, "exists")
        group.monitors[name] = Group(name, group, self._take_rmid())

    def remove(self, path: tuple[str, ...]) -> None:
        """rmdir(2): the tasks go to the group above, the RMID into limbo."""
        group, rest = self._find(path)
        if rest or group is self._root:
            raise OSError(errno.EPERM, "no group")
        if group.parent is None:
            for monitor in group.monitors.values():
                self._give_up(monitor, self._root)
            del self._controls[group.name]
            self._give_up(group, self._root)
        else:
            del group.parent.monitors[group.name]
            self._give_up(group, group.parent)

    def write_tasks(self, path: tuple[str, ...], text: str, writer: int) -> None:
        """write(2) to a group's `tasks` by a thread: a TID, several with commas, or 0 for the writer."""
        group, rest = self._find(path)
        if rest != ["tasks"]:
            raise OSError(errno.EACCES, "read-only")
        self._see_tasks()
        for part in text.strip().split(","):
            if not re.fullmatch(r"\s*-?[0-9]+\s*", part):
                raise self._refuse(errno.EINVAL, f"Task list parsing error pid {part}")
            tid = int(part) or writer
            if tid < 0:
                raise self._refuse(errno.EINVAL, f"Invalid pid {tid}")
            if tid not in self._tasks:
                raise self._refuse(errno.ESRCH, f"No task {tid}")
            if group.parent is not None and self._group_of[tid].control is not group.parent:
                raise self._refuse(errno.EINVAL, "Can't move task to different control group")
            self._group_of[tid] = group
        self._last_status = "ok"

    def groups_text(self, tid: int) -> str:
        """/proc/<pid>/cpu_resctrl_groups. Raises ENOENT."""
        self._see_tasks()
        if tid not in self._tasks:
            raise OSError(errno.ENOENT, "no such task")
        group = self._group_of[tid]
        control = group.control.name or "/"
        return f"res:{control}\nmon:{group.name if group.parent else ''}\n"

    def count(self, group: tuple[str, ...], domain: int, event: str, amount: int, node: int = SUM) -> None:
        """Has a group's counter rise (or its occupancy change) by this."""
        found, _rest = self._find(group)
        key = domain, node, event
        found.counts[key] = found.counts.get(key, 0) + amount

    def release_limbo(self) -> None:
        """What is in limbo has few enough lines in the cache now."""
        self._free += self._limbo
        self._limbo.clear()

    def take_offline(self, domain: int) -> None:
        """The last CPU of a domain went offline: the domain's directories go (resctrl_offline_mon_domain())."""
        self.offline.add(domain)

    def put_online(self, domain: int) -> None:
        """A CPU of it is back; its counters begin anew."""
        self.offline.discard(domain)
        for control in self._controls.values():
            for group in (control, *control.monitors.values()):
                group.counts = {key: count for key, count in group.counts.items() if key[0] != domain}

    def _find(self, path: tuple[str, ...]) -> tuple[Group, list[str]]:
        """The group that a path is in, and what is left of the path."""
        rest = list(path)
        group = self._root
        if rest and rest[0] in self._controls:
            group = self._controls[rest.pop(0)]
        if len(rest) > 1 and rest[0] == "mon_groups":
            if rest[1] not in group.monitors:
                raise OSError(errno.ENOENT, "no such group")
            group = group.monitors[rest[1]]
            rest = rest[2:]
        return group, rest

    def _domain(self, name: str) -> int | None:
        return next((d for d in self.machine.domains if f"mon_L3_{d:02}" == name and d not in self.offline), None)

    def _node(self, name: str, sub: str) -> int | None:
        domain = self._domain(name)
        nodes = [] if domain is None else self.machine.domains[domain]
        return next((node for node in nodes if f"mon_sub_L3_{node:02}" == sub), None)

    def _has(self, event: str) -> bool:
        return event in self.machine.features

    def _value(self, group: Group, domain: int | None, node: int, event: str) -> str:
        """The number, of a CTRL_MON group with its MON groups (rdtgroup_mondata_show()), or a text instead of it."""
        assert domain is not None
        text = self.texts.get((group.name, domain, event), self.texts.get(("*", domain, event)))
        if text is not None:
            return f"{text}\n"
        nodes = self.machine.domains[domain] if node == SUM and self.machine.domains[domain] else [node]
        groups = [group, *group.monitors.values()]
        return f"{sum(member.counts.get((domain, of, event), 0) for member in groups for of in nodes)}\n"

    def _take_rmid(self) -> int:
        if not self._free:
            raise self._refuse(errno.EBUSY if self._limbo else errno.ENOSPC, "Out of RMIDs")
        return self._free.pop(0)

    def _give_up(self, group: Group, heir: Group) -> None:
        self._see_tasks()
        for tid, of in self._group_of.items():
            if of is group:
                self._group_of[tid] = heir
        self._limbo.append(group.rmid)

    def _refuse(self, code: int, status: str) -> OSError:
        self._last_status = status
        return OSError(code, status)

    def _is_in(self, tid: int, group: Group) -> bool:
        """A CTRL_MON group's tasks are also those of its MON groups (show_rdt_tasks())."""
        own = self._group_of[tid]
        return own is group or own.parent is group

    def _see_tasks(self) -> None:
        """Takes in who came and went since the last look."""
        now = tasks_of_the_node(self._tasks)
        known = now.keys() & self._tasks.keys()
        shared = self._groups_of_processes()
        group_of = {tid: self._group_of[tid] for tid in known}
        # Processes before their other threads.
        for tid in sorted(now.keys() - known, key=lambda tid: now[tid].process != tid):
            task = now[tid]
            creator = task.parent if tid == task.process else task.process
            if creator in shared:
                group_of[tid] = shared[creator]
            elif tid != task.process and task.process not in known:
                group_of[tid] = group_of.get(task.process, self._root)
            else:
                group_of[tid] = self._root
        self._tasks, self._group_of = now, group_of

    def _groups_of_processes(self) -> dict[int, Group]:
        """The group of each process known so far; the root group if its threads are in different ones."""
        groups: dict[int, Group] = {}
        for tid, task in self._tasks.items():
            own = self._group_of[tid]
            groups[task.process] = own if groups.get(task.process, own) is own else self._root
        return groups
