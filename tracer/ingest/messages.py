# SPDX-License-Identifier: Apache-2.0
"""What an application says of itself, in whichever format it came."""

from typing import Final, Literal, NamedTuple

Kind = Literal["counter", "gauge", "timer", "histogram", "distribution", "set", "cumulative"]

LONGEST_NAME: Final = 200
LONGEST_TAGS: Final = 1000
LATENCY_KINDS: Final = ("timer", "histogram", "distribution")
"""Of which each value is kept, and not one for all."""


class MalformedError(ValueError):
    """It is not what it is to be."""


class Message(NamedTuple):
    """One metric with one or more values. tags: as they were sent, with commas between them.

    values: of a `set` none, but `members`. weight: for how many each value stands (1 / the sample rate). time_s: its
    own time, in seconds since the epoch. claim: whose the sender says that it is (`in-<inode>`, `ci-<container id>`).
    """

    name: str
    kind: Kind
    values: tuple[float, ...]
    members: tuple[str, ...] = ()
    weight: float = 1.0
    tags: str | None = None
    time_s: float | None = None
    claim: str | None = None


def checked_name(name: str) -> str:
    """Raises MalformedError for one that is empty, too long or does not print."""
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise MalformedError("name")
    return name


def checked_tags(tags: str) -> str | None:
    """None for none. Raises MalformedError as `checked_name`."""
    if len(tags) > LONGEST_TAGS or not tags.isprintable():
        raise MalformedError("tags")
    return tags or None
