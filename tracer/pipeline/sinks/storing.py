# SPDX-License-Identifier: Apache-2.0
"""The sink that makes files. A disk that is slow holds up nothing else: what its queue has no room for is counted."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import pyarrow as pa

from tracer.errors import OutputError
from tracer.pipeline.channel import Channel
from tracer.pipeline.stage import Stage
from tracer.store.manifest import Manifest
from tracer.store.schemas import Table
from tracer.store.writer import Store

_LOOK_SECONDS = 0.25


class Storing(Stage):
    """Takes rows into the store and rotates its files; at each rotation, and at the end, the manifest is written anew.

    A failure ends the run, not this stage: what comes until then is written if it can be.
    """

    def __init__(
        self, store: Store, manifest: Callable[[], Manifest], stop_run: threading.Event, *, queue_bytes: int
    ) -> None:
        """`queue_bytes`: of rows that wait, beside what the store itself holds until a file is due."""
        super().__init__("storing", stop_run)
        self.rows_refused: Counter[str] = Counter()
        """By table, rows that found no room or came after the stage had ended, or that the store would not take."""
        self.last_manifest: Manifest | None = None
        """What the manifest's last version says."""
        self._store = store
        self._manifest = manifest
        self._rows: Channel[tuple[Table, pa.Table]] = Channel(queue_bytes, lambda item: item[1].nbytes)
        self._queue_bytes = queue_bytes
        self._lock = threading.Lock()

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
                with self.surviving():
                    self._append(*item)
            with self.surviving():
                now_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
                if self._store.rotate_if_due(now_ns, self._append_what_waits):
                    self._write_manifest()
        with self.surviving():
            self._store.close()
        self._write_manifest()
        self._store.release()

    @property
    def queue_fill(self) -> float:
        """How much of the queue is taken, 0 to 1."""
        return self._rows.size / self._queue_bytes

    def end(self) -> None:
        """Nothing is taken any more."""
        self._rows.abandon()

    def put(self, table: Table, rows: pa.Table) -> None:
        """Takes rows, if there is room for them. Any thread may call it."""
        if not self._rows.offer((table, rows)):
            self._refuse(table, rows)

    def finish(self) -> None:
        """No more rows come."""
        self._rows.close()

    def _append_what_waits(self) -> None:
        with suppress(TimeoutError):
            while (item := self._rows.take(0)) is not None:
                with self.surviving():
                    self._append(*item)

    def _append(self, table: Table, rows: pa.Table) -> None:
        try:
            self._store.append(table, rows)
        except OutputError:
            raise  # the store has counted what it lost
        except Exception:
            self._refuse(table, rows)
            raise

    def _refuse(self, table: Table, rows: pa.Table) -> None:
        with self._lock:
            self.rows_refused[table.name] += rows.num_rows

    def _write_manifest(self) -> None:
        manifest = self._manifest()
        self._store.write_manifest(manifest)
        self.last_manifest = manifest
