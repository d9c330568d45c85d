# SPDX-License-Identifier: Apache-2.0
"""All threads of a container into one group.

The kernel moves threads, not processes or cgroups. A thread's children begin in its group, so that once every thread is
in it only those come to be outside that join the container later, such as what is started in it by `exec`.
"""

import os
from pathlib import Path
from typing import Literal, NamedTuple

from tracer.readers.resctrl.file_system import Assignment, ResctrlFileSystem, group_path
from tracer.readers.resctrl.group import Group

_MOST_PASSES = 10
_MOST_THREADS_BYTES = 1 << 24

Outcome = Literal["all", "growing", "claimed", "moved house"]
"""all: every thread is in the group. growing: new ones came faster than they were moved. claimed: one is in a
monitoring group of somebody else. moved house: one is in another control group than the group."""


class Threads(NamedTuple):
    """Those of a cgroup and all below it. `hidden`: there are others, in PID namespaces that this one does not see."""

    tids: frozenset[int]
    hidden: bool


def threads_of(cgroup: Path) -> Threads:
    """What `cgroup.threads` of the cgroup and of those below it list now; nothing once it is gone."""
    tids: set[int] = set()
    for directory, _children, _files in os.walk(cgroup):
        try:
            with open(f"{directory}/cgroup.threads", "rb") as file:  # noqa: PTH123 - one for each new container
                tids.update(int(tid) for tid in file.read(_MOST_THREADS_BYTES).split() if tid.isdigit())
        except OSError:
            continue
    # The kernel lists as 0 what has no TID here; written to `tasks` it would mean the tracer itself.
    return Threads(frozenset(tids - {0}), 0 in tids)


def first_assignment(file_system: ResctrlFileSystem, threads: Threads) -> Assignment | None:
    """The groups of the oldest thread that still lives; None if none does."""
    assignments = (file_system.assignment(tid) for tid in sorted(threads.tids))
    return next((assignment for assignment in assignments if assignment is not None), None)


def gather(file_system: ResctrlFileSystem, group: Group, cgroup: Path) -> Outcome:
    """Moves the threads that are not in the group yet, until a look finds no further one; ten times at most.

    A thread that somebody else monitors stays where it is. Raises OSError if the group is gone or not writable.
    """
    inside = group.threads()
    for _pass in range(_MOST_PASSES):
        strays = threads_of(cgroup).tids - inside
        if not strays:
            return "all"
        for tid in strays:
            assignment = file_system.assignment(tid)
            if assignment is None:
                continue
            if assignment.monitor and group_path(*assignment) != group.path:
                return "claimed"
        moved = group.add(strays)
        if "elsewhere" in moved.values():
            return "moved house"
        inside |= strays
    return "growing"
