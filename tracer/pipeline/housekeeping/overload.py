# SPDX-License-Identifier: Apache-2.0
"""What a run leaves out where the tracer cannot keep up or takes too much memory, and takes up again when it can."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

_SECOND_NS = 1_000_000_000
# A step has its effect once what waits is worked off.
_BETWEEN_STEPS_NS = 3 * _SECOND_NS
_SHORTEST_CALM_NS = 10 * _SECOND_NS
_LONGEST_CALM_NS = 640 * _SECOND_NS


class Step(NamedTuple):
    """Something to leave out: `take` does it, `give_back` undoes it."""

    what: str
    """As in: from now on … are not written."""
    take: Callable[[], None]
    give_back: Callable[[], None]


class Strain(NamedTuple):
    """How the run fares: why it is too much now, if it is; and whether it is so little that more can be done."""

    reason: str | None
    is_calm: bool


class LeftOut(NamedTuple):
    """What was left out, why, and from when to when (CLOCK_MONOTONIC); None: until now."""

    what: str
    reason: str
    from_ns: int
    until_ns: int | None


class Overload:
    """Takes one step after the other while it is too much, and gives them back, the last first, once it was calm.

    Where a step back leads to the same again, the next one waits twice as long, so that a node that is always at the
    limit is not told of it each minute. One thread calls `look`.
    """

    def __init__(self, steps: Iterable[Step], measure: Callable[[], Strain], tell: Callable[[str], None]) -> None:
        """`tell`: a line for people, of each change."""
        self.left_out: list[LeftOut] = []
        """All so far, the oldest first."""
        self._steps = tuple(steps)
        self._measure = measure
        self._tell = tell
        self._taken = 0
        self._calm_ns = _SHORTEST_CALM_NS
        self._calm_since_ns: int | None = None
        self._changed_ns = 0
        self._given_back_ns: int | None = None
        self._has_told_end = False

    @property
    def steps_taken(self) -> int:
        """How many steps are left out now."""
        return self._taken

    def look(self, now_ns: int) -> None:
        """About once a second."""
        strain = self._measure()
        if strain.reason is not None:
            self._calm_since_ns = None
            if now_ns - self._changed_ns >= _BETWEEN_STEPS_NS:
                self._take(now_ns, strain.reason)
            return
        if not self._taken or not strain.is_calm:
            self._calm_since_ns = None
            return
        self._calm_since_ns = self._calm_since_ns or now_ns
        if now_ns - self._calm_since_ns >= self._calm_ns:
            self._give_back(now_ns)

    def end(self, now_ns: int) -> None:
        """The run is over."""
        self.left_out = [one if one.until_ns is not None else one._replace(until_ns=now_ns) for one in self.left_out]

    def _take(self, now_ns: int, reason: str) -> None:
        if self._taken == len(self._steps):
            if not self._has_told_end:
                self._has_told_end = True
                self._tell(f"{reason}, and there is nothing more to leave out")
            return
        if self._given_back_ns is not None and now_ns - self._given_back_ns < 6 * self._calm_ns:
            self._calm_ns = min(2 * self._calm_ns, _LONGEST_CALM_NS)
        step = self._steps[self._taken]
        self._taken += 1
        self._changed_ns = now_ns
        step.take()
        self.left_out = [*self.left_out, LeftOut(step.what, reason, now_ns, None)]
        self._tell(f"{reason}: from now on {step.what}")

    def _give_back(self, now_ns: int) -> None:
        self._taken -= 1
        self._changed_ns = self._given_back_ns = now_ns
        self._calm_since_ns = None
        self._has_told_end = False
        step = self._steps[self._taken]
        step.give_back()
        self.left_out = [
            one if one.what != step.what or one.until_ns is not None else one._replace(until_ns=now_ns)
            for one in self.left_out
        ]
        self._tell(f"no more, as there is room again: {step.what}")
