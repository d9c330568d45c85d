# SPDX-License-Identifier: Apache-2.0
"""Who is meant by a name, of the cgroups that exist now."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from tracer.containers.census import CountedCgroup, take_census, who_is
from tracer.containers.runtime_state import RuntimeState
from tracer.containers.version1 import find_hidden
from tracer.containers.walk import walk
from tracer.errors import UsageError
from tracer.naming import Named, Selector, name_of, names_of, shown

_MOST_LISTED = 4
# They stand for the container, which is meant, or for nothing that could be.
_NEVER_MEANT = ("sandbox", "monitor", "idle", "unknown")
_NAMES = ("container_name", "pod_name", "namespace")


class Place(NamedTuple):
    """A cgroup: who it is, what it is called in a report, and its directory."""

    cgroup: CountedCgroup
    name: str
    directory: Path

    @property
    def named(self) -> Named:
        """Who it is, for `--json`."""
        return Named(**msgspec.structs.asdict(self.cgroup.who), name=self.name)

    def holds(self, path: str) -> bool:
        """Whether the cgroup of this path is this one or below it."""
        return is_below(path, self.cgroup.path)


class Node:
    """The cgroups of the tree mounted at `root`, as they are now."""

    def __init__(self, root: Path, runtime_state: RuntimeState) -> None:
        self.root = root
        self.census = take_census(root, runtime_state)
        self._raw_paths = walk(root)
        self._runtime_state = runtime_state

    def find(self, name: str) -> Place:
        """The one that is meant by `name`, as `tracer.naming.Selector` has it.

        A path is that cgroup; by other names a container is rather meant than what is around and in it, and one of
        that very name rather than those that it is the beginning of an id of. Raises UsageError where nobody is called
        so, or several are.
        """
        selector = Selector([name])
        found = [one for one in self.census if selector.takes(one.who)]
        meant = [one for one in found if one.identity.kind not in _NEVER_MEANT]
        containers = [one for one in meant if one.identity.kind == "container" and not one.identity.subpath]
        chosen = (
            [one for one in found if one.path == name]
            or [one for one in containers if name in names_of(one.who)]
            or containers
            or [one for one in meant if name in names_of(one.who)]
            or meant
        )
        chosen = [one for one in chosen if one.cgroup_id in self._raw_paths]
        quoted = repr(shown(name))
        if not chosen:
            if self._is_hidden(selector):
                raise UsageError(f"{quoted} has no cgroup of version 2, by which it could be watched or paused")
            could_be = [one.who for one in self.census if one.identity.kind not in (*_NEVER_MEANT, "qos", "mount")]
            selector.among(could_be)
            raise UsageError(f"{quoted} is none that could be watched or paused")
        if len(chosen) > 1:
            paths = [cgroup.path for cgroup in chosen]
            more = f" and {len(paths) - _MOST_LISTED} more" if len(paths) > _MOST_LISTED else ""
            raise UsageError(f"{quoted} can be {', '.join(paths[:_MOST_LISTED])}{more}; name one of these paths")
        (cgroup,) = chosen
        return Place(cgroup, name_of(cgroup.who), Path(f"{self.root}{self._raw_paths[cgroup.cgroup_id]}"))

    def _is_hidden(self, selector: Selector) -> bool:
        """Whether a container without a cgroup of version 2 is meant, on a hybrid node."""
        for hidden in find_hidden():
            names = self._runtime_state.names(hidden.key, hidden.identity.runtime)
            given = {} if names is None else {field: getattr(names, field) for field in _NAMES}
            if selector.takes(who_is(msgspec.structs.replace(hidden.identity, **given), None, None)):
                return True
        return False

    def at_or_below(self, place: Place) -> Sequence[CountedCgroup]:
        """It, and all cgroups in it."""
        return [cgroup for cgroup in self.census if place.holds(cgroup.path)]

    def directory(self, cgroup: CountedCgroup) -> Path:
        """Where its control files are."""
        return Path(f"{self.root}{self._raw_paths.get(cgroup.cgroup_id, cgroup.path)}")


def is_below(path: str, above: str) -> bool:
    """Whether a cgroup's path is the other one's or below it."""
    return path == above or path.startswith(f"{above.rstrip('/')}/")
