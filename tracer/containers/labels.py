# SPDX-License-Identifier: Apache-2.0
"""The labels of cgroups as rows of a frame, of which any can be had at once however many there are."""

from collections.abc import Iterable
from typing import NamedTuple

import polars as pl

from tracer.containers.identity import Identity

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
"""Columns of a frame of labels; all may be null but for the first two."""

UNTIL = "until_ns"
"""A further column, Int64, of labels that held before a container was renamed: CLOCK_MONOTONIC of that."""

_NAMES_OF_IDENTITY = LABEL_SCHEMA.names()[3:]
# Rows that nobody asks for any more are thrown away once they are as many as the others.
_LEAST_GARBAGE = 1024
# Rows that came since the others were put in one piece, from which they can be gathered fast.
_MOST_RECENT = 1024
# Rows are late by seconds, so that what a storm of renames pushes out is no longer asked for.
_MOST_RENAMES = 1024
_NO_EARLIER = pl.DataFrame(schema={**LABEL_SCHEMA, UNTIL: pl.Int64})


class _Earlier(NamedTuple):
    cgroup_id: int
    row: int
    until_ns: int


class Labels:
    """A label for each cgroup, and those that renamed containers had before. Not thread-safe.

    Rows are only ever appended, and the latest of a cgroup is its label: so a new cgroup costs one row, not all of
    them anew.
    """

    def __init__(self) -> None:
        self._frame = pl.DataFrame(schema=LABEL_SCHEMA)
        self._recent = pl.DataFrame(schema=LABEL_SCHEMA)
        self._new: list[tuple[int | str | None, ...]] = []
        self._row_of: dict[int, int] = {}
        self._earlier: list[_Earlier] = []

    def put(self, cgroup_id: int, path: str | None, identity: Identity, *, since_ns: int | None = None) -> None:
        """The cgroup's label from now on; with `since_ns`, the one it had still holds for what was before that."""
        known = self._row_of.get(cgroup_id)
        if since_ns is not None and known is not None:
            self._earlier.append(_Earlier(cgroup_id, known, since_ns))
            del self._earlier[:-_MOST_RENAMES]
        self._row_of[cgroup_id] = self._frame.height + self._recent.height + len(self._new)
        names = (getattr(identity, name) for name in _NAMES_OF_IDENTITY)
        self._new.append((cgroup_id, identity.kind, path, *names))

    def drop(self, cgroup_id: int) -> None:
        """Forgets all labels of a cgroup."""
        del self._row_of[cgroup_id]
        if any(earlier.cgroup_id == cgroup_id for earlier in self._earlier):
            self._earlier = [earlier for earlier in self._earlier if earlier.cgroup_id != cgroup_id]

    def frame(self, cgroup_ids: Iterable[int] | None = None) -> pl.DataFrame:
        """The labels of these cgroups, as far as there are any; of all, without ids, by ascending `cgroup_id`."""
        if cgroup_ids is None:
            return self._gather(list(self._row_of.values())).sort("cgroup_id")
        return self._gather([row for id_ in cgroup_ids if (row := self._row_of.get(id_)) is not None])

    def earlier(self, cgroup_ids: set[int]) -> pl.DataFrame:
        """Labels that these had before renames, with the column UNTIL, by ascending time; mostly none."""
        if not self._earlier:
            return _NO_EARLIER
        earlier = sorted((one for one in self._earlier if one.cgroup_id in cgroup_ids), key=lambda one: one.row)
        until_ns = pl.Series(UNTIL, [one.until_ns for one in earlier], pl.Int64)
        return self._gather([one.row for one in earlier]).with_columns(until_ns).sort(UNTIL)

    def _gather(self, rows: list[int]) -> pl.DataFrame:
        """These rows, the recent ones last."""
        if self._new:
            new = pl.DataFrame(self._new, schema=LABEL_SCHEMA, orient="row")
            self._recent = pl.concat([self._recent, new], rechunk=True)
            self._new.clear()
        if self._recent.height > _MOST_RECENT:
            self._frame = pl.concat([self._frame, self._recent], rechunk=True)
            self._recent = self._recent.clear()
        height = self._frame.height
        old = self._frame[[row for row in rows if row < height]]
        gathered = pl.concat([old, self._recent[[row - height for row in rows if row >= height]]])
        if height > 2 * (len(self._row_of) + len(self._earlier)) + _LEAST_GARBAGE:
            self._throw_away_garbage()
        return gathered

    def _throw_away_garbage(self) -> None:
        frame = pl.concat([self._frame, self._recent])
        kept = sorted({*self._row_of.values(), *(earlier.row for earlier in self._earlier)})
        place = {row: position for position, row in enumerate(kept)}
        self._frame, self._recent = frame[kept], self._recent.clear()
        self._row_of = {cgroup_id: place[row] for cgroup_id, row in self._row_of.items()}
        self._earlier = [earlier._replace(row=place[earlier.row]) for earlier in self._earlier]
