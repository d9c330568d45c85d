# SPDX-License-Identifier: Apache-2.0
"""The sink that makes files of all rows."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from tracer.pipeline.sinks.keeping import Keeping, with_what_is_there
from tracer.store.manifest import Manifest, Totals
from tracer.store.outage import Outage
from tracer.store.stored import StoreTotals
from tracer.store.writer import Store

_LOOK_SECONDS = 0.25
_CHECKPOINT_SECONDS = 1.0


class Storing(Keeping):
    """Takes rows into the store and rotates its files; at each rotation, and at the end, the manifest is written anew.

    `totals`: those of the manifest, which the store notes each second.
    """

    def __init__(
        self,
        store: Store,
        manifest: Callable[[], Manifest],
        stop_run: threading.Event,
        *,
        queue_bytes: int,
        totals: Callable[[], Totals] | None = None,
    ) -> None:
        """`queue_bytes`: of rows that wait, beside what the store itself holds until a file is due."""
        super().__init__("storing", stop_run, queue_bytes=queue_bytes)
        self._store = store
        self._manifest = manifest
        self._totals_of_run = totals
        self._next_checkpoint = 0.0

    def begin(self, manifest: Manifest) -> None:
        """Writes it."""
        self._store.write_manifest(manifest)

    @property
    def totals(self) -> StoreTotals:
        """The store's."""
        return self._store.totals

    @property
    def outage(self) -> Outage:
        """The store's."""
        return self._store.outage

    def take_longest_write_ns(self) -> int:
        """The store's."""
        return self._store.take_longest_write_ns()

    def work(self) -> None:
        """Until `finish`; then everything is written, the manifest last."""
        while True:
            try:
                item = self._rows.take(_LOOK_SECONDS)
            except TimeoutError:
                pass
            else:
                if item is None:
                    break
                with self._writing():
                    self._append(self._store, *item)
            with self._writing():
                now_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
                if self._store.rotate_if_due(now_ns, self._append_what_waits):
                    self._write_manifest(may_wait=True)
                self._note_totals()
        with self._writing():
            self._store.close()
        with self._writing():
            self._write_manifest(is_last=True)
        self._store.release()

    def _append_what_waits(self) -> None:
        # Of what is slow, this is only the next.
        self._busy_since = time.monotonic()
        with suppress(TimeoutError):
            while (item := self._rows.take(0)) is not None:
                with self.surviving():
                    self._append(self._store, *item)
        self._note_totals()

    def _note_totals(self) -> None:
        if self._totals_of_run is not None and (now := time.monotonic()) >= self._next_checkpoint:
            self._next_checkpoint = now + _CHECKPOINT_SECONDS
            self._store.note_totals(self._totals_of_run())

    def _write_manifest(self, *, may_wait: bool = False, is_last: bool = False) -> None:
        manifest = self._manifest()
        if is_last:
            manifest = with_what_is_there(manifest, self._store)
        self.last_manifest = manifest
        self._store.write_manifest(manifest, may_wait=may_wait)
