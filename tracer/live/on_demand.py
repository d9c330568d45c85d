# SPDX-License-Identifier: Apache-2.0
"""Running totals for whoever looks now and then: while nobody does, they cost nothing."""

import threading
import time
from collections.abc import Callable
from typing import Final

import pyarrow as pa

from tracer.live.snapshot import Snapshot
from tracer.live.totals import Totals
from tracer.store.schemas import Table

_PATIENCE_SECONDS: Final = 60.0


class OnDemandTotals:
    """A sink (`put`) with a `snapshot`, as `Totals`. They begin with the first question; after a minute of none, anew.

    So amounts are those since a `first_tick` that is not the run's. Any threads may call both.
    """

    def __init__(self, new_totals: Callable[[], Totals], clock: Callable[[], float] = time.monotonic) -> None:
        """`new_totals`: those that begin now. clock: in seconds."""
        self._new_totals = new_totals
        self._clock = clock
        self._lock = threading.Lock()
        self._totals: Totals | None = None
        self._asked_at = 0.0

    def put(self, table: Table, rows: pa.Table) -> None:
        """Takes rows of any table."""
        with self._lock:
            if self._totals is not None and self._clock() - self._asked_at > _PATIENCE_SECONDS:
                self._totals = None
            totals = self._totals
        if totals is not None:
            totals.put(table, rows)

    def snapshot(self) -> Snapshot:
        """As of now: at first of nothing."""
        with self._lock:
            self._asked_at = self._clock()
            if self._totals is None:
                self._totals = self._new_totals()
            totals = self._totals
        return totals.snapshot()
