# SPDX-License-Identifier: Apache-2.0
"""Every cgroup that exists now: who it is, how many processes it has, and for how long."""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from tracer.containers.identity import Identity, printable_path, recognize
from tracer.containers.known_names import KnownNames
from tracer.containers.runtime_state import RuntimeState
from tracer.containers.walk import walk
from tracer.naming import Who

_PROC = Path("/proc")
_CLOCK_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class CountedCgroup(NamedTuple):
    """One cgroup as it is now."""

    cgroup_id: int
    path: str
    """Relative to the mount, made printable."""
    depth: int
    """Levels below the root, which has 0."""
    identity: Identity
    name_source: Literal["path", "runtime"]
    """Whether its path alone tells who it is, or the state of its container's runtime as well."""
    processes: int | None
    """In it or below it; None if that cannot be read: it is threaded, or gone meanwhile."""
    age_seconds: float | None
    """Of the oldest process in it or below it; None without one whose age can be read."""

    @property
    def who(self) -> Who:
        """The identity columns of the tables, as a run on this node has them."""
        return who_is(self.identity, self.cgroup_id, self.path)


def who_is(identity: Identity, cgroup_id: int | None, path: str | None) -> Who:
    """The identity columns of the tables, for a cgroup of this node."""
    return Who(
        node_name=os.uname().nodename,
        cgroup_id=cgroup_id,
        cgroup_kind=identity.kind,
        cgroup_path=path,
        runtime=identity.runtime,
        container_id=identity.container_id,
        container_name=identity.container_name,
        pod_name=identity.pod_name,
        pod_uid=identity.pod_uid,
        namespace=identity.namespace,
        qos_class=identity.qos_class,
    )


def take_census(root: Path, runtime_state: RuntimeState) -> list[CountedCgroup]:
    """Every cgroup of the tree mounted at `root`; each is followed by those below it, neighbours are in name order.

    Takes what the caller has the right to read and never raises; without root that may leave out names.
    """
    # By components: a child comes right after its parent, whatever characters its neighbours' names have.
    found = sorted(walk(root).items(), key=lambda item: _components(item[1]))
    processes: dict[str, int | None] = {}
    oldest: dict[str, float | None] = {}
    for _cgroup_id, raw_path in found:
        pids = _pids(root, raw_path)
        processes[raw_path] = None if pids is None else len(pids)
        oldest[raw_path] = _earliest(map(_start_seconds, pids or ()))
    for _cgroup_id, raw_path in reversed(found):
        if raw_path != "/":
            parent = raw_path.rpartition("/")[0] or "/"
            above, below = processes[parent], processes[raw_path]
            processes[parent] = None if above is None else above + (below or 0)
            oldest[parent] = _earliest((oldest[parent], oldest[raw_path]))
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    recognized = [recognize(printable_path(raw_path)) for _cgroup_id, raw_path in found]
    names = KnownNames()
    for identity, key in recognized:
        if key is not None and not identity.subpath and not names.knows(key):
            told = runtime_state.names(key, identity.runtime)
            if told is not None:
                names.give(key, told, "runtime")
                if identity.pod_uid is not None:
                    names.place(key, identity.pod_uid)
    census = []
    for (cgroup_id, raw_path), (identity, key) in zip(found, recognized, strict=True):
        started = oldest[raw_path]
        census.append(
            CountedCgroup(
                cgroup_id=cgroup_id,
                path=printable_path(raw_path),
                depth=len(_components(raw_path)),
                identity=names.complete(identity, key),
                name_source="path" if names.source(identity, key) is None else "runtime",
                processes=processes[raw_path],
                age_seconds=None if started is None else max(0.0, now - started),
            )
        )
    return census


def _components(path: str) -> list[str]:
    return path.split("/")[1:] if path != "/" else []


def _pids(root: Path, path: str) -> list[int] | None:
    """Processes in the cgroup itself; each that this PID namespace does not see is a 0.

    Those of a threaded subtree are listed at its top, the cgroups in it refuse with EOPNOTSUPP
    (Documentation/admin-guide/cgroup-v2.rst).
    """
    try:
        pids = [int(pid) for pid in Path(f"{root}{path}/cgroup.procs").read_bytes().split()]
    except (OSError, ValueError):
        return None
    # The same one may be listed more than once, says cgroup-v2.rst.
    return list({pid for pid in pids if pid > 0}) + [0] * pids.count(0)


def _start_seconds(pid: int) -> float | None:
    """CLOCK_BOOTTIME of the process's start; None if it has ended or is hidden."""
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
        # Field 22, `starttime`, of proc(5). The name, field 2, may hold blanks and parentheses.
        return int(stat.rpartition(b")")[2].split()[19]) / _CLOCK_TICKS_PER_SECOND
    except (OSError, ValueError, IndexError):
        return None


def _earliest(starts: Iterable[float | None]) -> float | None:
    return min((start for start in starts if start is not None), default=None)
