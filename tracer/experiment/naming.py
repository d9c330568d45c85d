# SPDX-License-Identifier: Apache-2.0
"""Who is meant by a name, of the cgroups that exist now."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import polars as pl

from tracer.analysis.labels import container_label, is_named
from tracer.containers.census import CountedCgroup, take_census
from tracer.containers.identity import Identity
from tracer.containers.labels import LABEL_SCHEMA
from tracer.containers.runtime_state import RuntimeState
from tracer.containers.version1 import find_hidden
from tracer.containers.walk import walk
from tracer.errors import UsageError
from tracer.printable import printable

_MOST_LISTED = 4
# They stand for the container, which is meant, or for nothing that could be.
_NEVER_MEANT = ("sandbox", "monitor", "idle", "unknown")
_NAMES = ("container_name", "pod_name", "namespace")


class Place(NamedTuple):
    """A cgroup: who it is, what it is called in a report, and its directory."""

    cgroup: CountedCgroup
    name: str
    directory: Path

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
        self._rows = self._frame(
            [(one.cgroup_id, one.identity.kind, one.path, *_labels(one.identity)) for one in self.census]
        )

    def find(self, name: str) -> Place:
        """The one that is called so, by any name that `tracer.analysis.labels.is_named` knows.

        A path is that cgroup; by other names a container is rather meant than what is around and in it. Raises
        UsageError where nobody is called so, or several are.
        """
        named = self._rows.filter(is_named(name)).select("place", container_label().alias("name"))
        found = [(self.census[place], label) for place, label in named.rows()]
        chosen = (
            [one for one in found if one[0].path == name]
            or [one for one in found if one[0].identity.kind == "container" and not one[0].identity.subpath]
            or [one for one in found if one[0].identity.kind not in _NEVER_MEANT]
        )
        chosen = [one for one in chosen if one[0].cgroup_id in self._raw_paths]
        shown = printable(os.fsencode(name))
        if not chosen:
            if self._is_hidden(name):
                raise UsageError(f"{shown!r} has no cgroup of version 2, by which it could be watched or paused")
            raise UsageError(f"no container is called {shown!r} now; `tracer ps` shows who is there")
        if len(chosen) > 1:
            paths = [cgroup.path for cgroup, _label in chosen]
            more = f" and {len(paths) - _MOST_LISTED} more" if len(paths) > _MOST_LISTED else ""
            raise UsageError(f"{shown!r} can be {', '.join(paths[:_MOST_LISTED])}{more}; name one of these paths")
        ((cgroup, label),) = chosen
        return Place(cgroup, label, Path(f"{self.root}{self._raw_paths[cgroup.cgroup_id]}"))

    def _is_hidden(self, name: str) -> bool:
        """Whether a container without a cgroup of version 2 is called so, on a hybrid node."""
        identities = []
        for hidden in find_hidden():
            names = self._runtime_state.names(hidden.key, hidden.identity.runtime)
            given = {} if names is None else {field: getattr(names, field) for field in _NAMES}
            identities.append((0, "container", None, *_labels(msgspec.structs.replace(hidden.identity, **given))))
        return not self._frame(identities).filter(is_named(name)).is_empty()

    @staticmethod
    def _frame(identities: Sequence[tuple[int | str | None, ...]]) -> pl.DataFrame:
        labels = pl.DataFrame(identities, schema=LABEL_SCHEMA, orient="row")
        return labels.with_columns(pl.lit(os.uname().nodename).alias("node_name")).with_row_index("place")

    def at_or_below(self, place: Place) -> Sequence[CountedCgroup]:
        """It, and all cgroups in it."""
        return [cgroup for cgroup in self.census if place.holds(cgroup.path)]

    def directory(self, cgroup: CountedCgroup) -> Path:
        """Where its control files are."""
        return Path(f"{self.root}{self._raw_paths.get(cgroup.cgroup_id, cgroup.path)}")


def is_below(path: str, above: str) -> bool:
    """Whether a cgroup's path is the other one's or below it."""
    return path == above or path.startswith(f"{above.rstrip('/')}/")


def _labels(identity: Identity) -> list[str | None]:
    return [getattr(identity, name) for name in LABEL_SCHEMA.names()[3:]]
