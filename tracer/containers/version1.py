# SPDX-License-Identifier: Apache-2.0
"""Containers that have no cgroup of version 2 of their own, on hybrid nodes: by their processes' cgroups of version 1.

The kernel counts by version 2. Where a runtime uses the controllers of version 1 only, its containers' processes stay
in the runtime's own cgroup of version 2, such as `/system.slice/containerd.service`, and are counted as that.
"""

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tracer.containers.identity import ContainerKey, Identity, printable_path, recognize
from tracer.containers.runtime_state import RuntimeState

_PROC = Path("/proc")
_MOST_BYTES = 65_536
_MOST_SHOWN = 4
_SHORT_ID = 12


class Membership(NamedTuple):
    """The cgroups of a process, as `/proc/<pid>/cgroup` has them (cgroups(7)): of version 2 one, if it is mounted."""

    version2: str | None
    version1: tuple[str, ...]


class Hidden(NamedTuple):
    """A container without a cgroup of version 2, and the cgroup that its processes are counted as."""

    key: ContainerKey
    identity: Identity
    counted_as: str


def parse_membership(text: str) -> Membership:
    """Of the text of `/proc/<pid>/cgroup`; malformed lines are left out."""
    version2, version1 = None, []
    for line in text.split("\n"):
        fields = line.split(":", 2)
        if len(fields) == 3 and fields[2].startswith("/"):
            if fields[0] == "0":
                version2 = fields[2]
            else:
                version1.append(fields[2])
    return Membership(version2, tuple(version1))


def is_hybrid(proc: Path = _PROC) -> bool:
    """Whether there is a hierarchy of version 1 beside that of version 2."""
    membership = _membership(proc / "self")
    return membership is not None and membership.version2 is not None and bool(membership.version1)


def find_hidden(proc: Path = _PROC) -> list[Hidden]:
    """Those of the processes that this process sees; one for each container and cgroup that it is counted as."""
    found: dict[tuple[ContainerKey, str], Hidden] = {}
    seen: set[Membership] = set()
    with contextlib.suppress(OSError), os.scandir(proc) as entries:
        for entry in entries:
            membership = _membership(Path(entry.path)) if entry.name.isdecimal() else None
            if membership is None or membership.version2 is None or membership in seen:
                continue
            seen.add(membership)
            hidden = _hidden(membership.version1, membership.version2)
            if hidden is not None:
                found.setdefault((hidden.key, hidden.counted_as), hidden)
    return list(found.values())


def describe(hidden: Iterable[Hidden], state: RuntimeState) -> str | None:
    """One line; None if there are none. Names of the containers are from `state`."""
    by_cgroup: dict[str, list[str]] = defaultdict(list)
    for container in hidden:
        by_cgroup[container.counted_as].append(_name(container, state))
    if not by_cgroup:
        return None
    number = sum(map(len, by_cgroup.values()))
    told = [
        f"{_listed(names)} {'is' if len(names) == 1 else 'are'} counted as {cgroup}"
        for cgroup, names in sorted(by_cgroup.items())
    ]
    subject = "a container has no cgroup" if number == 1 else f"{number} containers have no cgroups"
    return f"{subject} of version 2: {_listed(told, '; ')}"


def _hidden(version1: Iterable[str], version2: str) -> Hidden | None:
    for path in version1:
        identity, key = recognize(path)
        if identity.container_id is not None:
            if identity.container_id == recognize(version2)[0].container_id:
                return None
            # One that the path itself names has no other key, and no state knows it.
            return Hidden(key or ContainerKey(identity.container_id), identity, printable_path(version2))
    return None


def _name(container: Hidden, state: RuntimeState) -> str:
    """As its path tells, or else its runtime's state; without either, its short id."""
    names = state.names(container.key, container.identity.runtime)
    told = container.identity.container_name if names is None else names.container_name
    return told or container.key.container_id[:_SHORT_ID]


def _membership(process: Path) -> Membership | None:
    """None for a process that has ended."""
    try:
        descriptor = os.open(process / "cgroup", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return parse_membership(os.fsdecode(os.read(descriptor, _MOST_BYTES)))
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _listed(items: list[str], separator: str = ", ") -> str:
    shown = separator.join(sorted(items)[:_MOST_SHOWN])
    return shown if len(items) <= _MOST_SHOWN else f"{shown}{separator}and {len(items) - _MOST_SHOWN} more"
