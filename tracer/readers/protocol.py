# SPDX-License-Identifier: Apache-2.0
"""What a reader is: given the cgroups that exist, it reads files and returns rows.

A reader knows its files and nothing else. `tracer.pipeline.observing` gives each one a thread and an interval, joins
who the cgroups are, writes the rows, and makes the interval longer where a reader costs too much.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import polars as pl


class Cgroup(NamedTuple):
    """A cgroup that existed a moment ago."""

    cgroup_id: int
    path: str
    """From the root of the cgroup2 tree, which is `/`; bytes that are not UTF-8 are surrogates, as in `os`."""
    kind: str
    """As in the column `cgroup_kind`."""
    container_id: str | None
    is_inner: bool
    """Whether it lies inside a container, below the container's own cgroup."""
    pod_uid: str | None = None


class Observation(NamedTuple):
    """What a reader found in one pass."""

    rows: Mapping[str, pl.DataFrame]
    """Rows by the name of their table in `tracer.store.schemas`.

    Each frame has `cgroup_id` (UInt64), `monotonic_ns` (Int64: CLOCK_MONOTONIC of the reading) and columns of the
    table under their own names; identity, time and the columns that are left out (null then) are joined later.
    """
    health: Mapping[str, int] = {}
    """Counts of this pass, by column of `health`. A second's row has their sum, or, of names that end in `_max_ns`,
    their maximum."""
    notes: Sequence[str] = ()
    """What the manifest should say, such as why a column is null; one line each, once."""


class Reader(ABC):
    """Reads for one or more tables. Only one thread calls the methods.

    Nothing that a file holds, and no file that is missing, is a reason to raise; an exception ends this reader, with
    a note in the manifest, and nothing else.
    """

    name: str
    """For notes and the thread: one lower-case word."""
    wants_beginnings = False
    """Whether `read_beginning` does anything."""

    @abstractmethod
    def read(self, cgroups: Sequence[Cgroup]) -> Observation:
        """One pass. `cgroups` are all that exist: what is kept for others can be given up."""

    def read_beginning(self, cgroups: Sequence[Cgroup]) -> None:  # noqa: B027 - for those who override it
        """A first look, between passes, at cgroups into which the first process has just come."""

    def read_ending(self, cgroups: Sequence[Cgroup]) -> None:  # noqa: B027 - for those who override it
        """A last look, between passes, at cgroups whose last process has just ended; they may be gone already."""

    def take_looks(self) -> Observation:
        """What looks found since the last call; rows are made of many at once, which costs as much as of one.

        Called before a pass, and sooner than that where passes are rare.
        """
        return Observation({})

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """After the last pass, or after an exception."""
