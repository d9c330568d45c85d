# SPDX-License-Identifier: Apache-2.0
"""What happens to cgroups, in the words that all who watch them share."""

from typing import Literal, NamedTuple

EventKind = Literal["created", "removed", "populated", "emptied"]
"""`populated` and `emptied`: the first process came into the cgroup or below it, or the last one left."""


class CgroupEvent(NamedTuple):
    """One thing that happened to one cgroup of the version 2 hierarchy."""

    time_ns: int
    """CLOCK_MONOTONIC."""
    kind: EventKind
    cgroup_id: int
    """Inode of the cgroup's directory."""
    path: str
    """Starts with `/`; bytes that are not UTF-8 are surrogates, as in `os`."""
    truncated: bool = False
    """Whether the end of the path is missing; only a walk gives all of it."""
