# SPDX-License-Identifier: Apache-2.0
"""Messages of applications to rows of `external`: whose each is, and which window it belongs to."""

import math
import threading
import time
from collections import Counter
from functools import lru_cache
from typing import Final

import polars as pl

from tracer.containers.identity import ContainerKey
from tracer.containers.inventory import Inventory
from tracer.ingest.allowance import Allowance
from tracer.ingest.gathering import Gathering, Row, Sender
from tracer.ingest.messages import Message
from tracer.kernel.clock import RunClock
from tracer.pipeline.housekeeping.health import ReaderHealth
from tracer.pipeline.labelling import Labelling
from tracer.store.schemas import EXTERNAL

_LATE_WINDOWS: Final = 60
_SECOND_NS: Final = 1_000_000_000
_ROWS: Final = {
    "window_tick": pl.Int64,
    "cgroup_id": pl.UInt64,
    "sender_by": pl.String,
    "name": pl.String,
    "kind": pl.String,
    "tags": pl.String,
    "value": pl.Float64,
    "number": pl.Float64,
}
_WHAT: Final = {
    "messages_ignored": "events, service checks and figures that are no number",
    "messages_malformed": "malformed",
    "messages_late": "with a time of their own too far from when they came",
    "messages_dropped": "more unread, as their sender or all sent too many",
    "values_dropped": "values without room in their second",
    "senders_unknown": "(written) of senders that could not be told any more",
    "claims_refused": "(written) that claim to be another container's than their sender's",
}
_NOBODY: Final = Sender(None, None)
_COUNTED: Final = tuple(name for name in ReaderHealth.COLUMNS if name.startswith("external_"))


class Intake:
    """Takes messages from any thread, and hands the rows of windows that are over to the labelling of one."""

    def __init__(
        self,
        *,
        inventory: Inventory,
        clock: RunClock,
        labelling: Labelling,
        health: ReaderHealth,
        tick_ns: int,
        window_ticks: int,
        first_tick: int,
    ) -> None:
        self._inventory = inventory
        self._clock = clock
        self._labelling = labelling
        self._health = health
        self._tick_ns = tick_ns
        self._window_ticks = window_ticks
        self._first_tick = first_tick
        self._lock = threading.Lock()
        self._allowance = Allowance()
        self._gathering = Gathering()
        self._counts: Counter[str] = Counter()
        self.totals: Counter[str] = Counter()
        """Since the start, by column of `health`."""
        self._cgroup_of_claim = lru_cache(1024)(self._find_claimed)
        self._is_of = lru_cache(1024)(self._find_relation)

    def allows(self, cgroup_id: int | None, cost: int, now_ns: int) -> bool:
        """Whether so many lines and values of a sender are to be read now."""
        with self._lock:
            return self._allowance.take(cgroup_id, cost, now_ns)

    def count(self, **counts: int) -> None:
        """Adds to counts of `health`, without their `external_`."""
        with self._lock:
            for name, number in counts.items():
                self._counts[f"external_{name}"] += number

    def take(self, message: Message, cgroup_id: int | None, received_ns: int, *, can_claim: bool = False) -> None:
        """A message of the cgroup that the kernel vouches for, if it does; `can_claim`: it cannot, of nobody.

        received_ns: CLOCK_MONOTONIC.
        """
        sender = self._sender(message.claim, cgroup_id, can_claim=can_claim)
        at_ns = self._time_of(message, received_ns)
        is_refused = message.claim is not None and cgroup_id is not None and not self._is_of(message.claim, cgroup_id)
        with self._lock:
            counts = self._counts
            counts["external_messages"] += 1
            if sender.cgroup_id is None:
                counts["external_senders_unknown"] += 1
            if is_refused:
                counts["external_claims_refused"] += 1
            if at_ns is None:
                counts["external_messages_late"] += 1
            else:
                window_tick = at_ns // self._tick_ns // self._window_ticks * self._window_ticks
                if dropped := self._gathering.add(window_tick, sender, message):
                    counts["external_values_dropped"] += dropped

    def hand_on(self, now_ns: int | None = None) -> None:
        """The rows of windows that were over by then (CLOCK_MONOTONIC), or of all. One thread at a time calls it."""
        before_tick = None if now_ns is None else now_ns // self._tick_ns - self._window_ticks + 1
        with self._lock:
            rows: list[Row] = list(self._gathering.take(before_tick))
            counts, self._counts = self._counts, Counter()
        self._cgroup_of_claim.cache_clear()
        self._is_of.cache_clear()
        self.totals += counts
        self._health.add({name: counts[name] for name in _COUNTED})
        frame = pl.DataFrame(rows, schema=_ROWS, orient="row").rename({"number": "count"})
        # Also without rows, as some may wait for their names.
        self._labelling.put(EXTERNAL, frame, pl.col("window_tick") * self._tick_ns, is_last=now_ns is None)

    @property
    def summary(self) -> str | None:
        """What was not kept in all, for the manifest; None if all was."""
        lost = {name.removeprefix("external_"): number for name, number in self.totals.items() if number}
        messages = lost.pop("messages", 0)
        told = ", ".join(f"{number:,} {_WHAT[name]}" for name, number in lost.items())
        return f"external has not all of {messages:,} messages that were read: {told}" if told else None

    def _sender(self, claim: str | None, cgroup_id: int | None, *, can_claim: bool) -> Sender:
        if cgroup_id is not None:
            return Sender(cgroup_id, "credentials")
        if can_claim and claim is not None and (claimed := self._cgroup_of_claim(claim)) is not None:
            return Sender(claimed, "claim")
        return _NOBODY

    def _time_of(self, message: Message, received_ns: int) -> int | None:
        """CLOCK_MONOTONIC; None if it is too far from when it came, or before the run."""
        at_ns = received_ns
        if message.time_s is not None:
            if not math.isfinite(message.time_s):
                return None
            anchor = self._clock.anchor_at(received_ns)
            at_ns = anchor.monotonic_ns + int(message.time_s * 1e9) - anchor.realtime_ns
            window_ns = self._window_ticks * self._tick_ns
            if not received_ns - _LATE_WINDOWS * window_ns <= at_ns <= received_ns + window_ns:
                return None
            # A second that the run began in.
            if at_ns + _SECOND_NS > self._first_tick * self._tick_ns:
                at_ns = max(at_ns, self._first_tick * self._tick_ns)
        return at_ns if at_ns // self._tick_ns >= self._first_tick else None

    def _find_claimed(self, claim: str) -> int | None:
        """The cgroup that is meant by `in-<inode>`, `ci-<container id>`, the id alone, or two of them."""
        return next((found for part in claim.split(",", 1) if (found := self._find_one(part)) is not None), None)

    def _find_one(self, claim: str) -> int | None:
        if claim.startswith("in-"):
            number = claim.removeprefix("in-")
            ids = {int(number)} if number.isascii() and number.isdecimal() else set()
            return next((cgroup_id for cgroup_id, _path, _identity in self._inventory.existing_of(ids)), None)
        key = ContainerKey(claim.removeprefix("ci-"))
        own = self._inventory.existing_of(self._inventory.cgroups_of(key))
        return next((cgroup_id for cgroup_id, _path, identity in own if not identity.subpath), None)

    def _find_relation(self, claim: str, cgroup_id: int) -> bool:
        """Whether the claim means this cgroup, or one that it lies in."""
        if f"in-{cgroup_id}" in claim.split(","):
            return True
        claimed = self._cgroup_of_claim(claim)
        return claimed is not None and cgroup_id in self._inventory.below(claimed)


def monotonic_ns() -> int:
    """Now."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
