# SPDX-License-Identifier: Apache-2.0
"""The last stage: labelled rows to files. A disk that is slow for a while holds up nothing before it."""

import queue
import threading
import time
from collections.abc import Callable

import pyarrow as pa

from tracer.errors import OutputError
from tracer.pipeline.stage import Stage
from tracer.store.manifest import Manifest
from tracer.store.schemas import Table
from tracer.store.writer import Store

_LONGEST_QUEUE = 64
_LOOK_SECONDS = 0.25


class Storing(Stage):
    """Takes rows into the store and rotates its files; at each rotation the manifest is written anew."""

    def __init__(self, store: Store, manifest: Callable[[], Manifest], stop_run: threading.Event) -> None:
        super().__init__("storing", stop_run)
        self._store = store
        self._manifest = manifest
        self._queue: queue.Queue[tuple[Table, pa.Table] | None] = queue.Queue(_LONGEST_QUEUE)

    def work(self) -> None:
        """Until `finish`; then everything is written."""
        while True:
            try:
                item = self._queue.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                pass
            else:
                if item is None:
                    break
                self._store.append(*item)
            if self._store.rotate_if_due(time.clock_gettime_ns(time.CLOCK_MONOTONIC)):
                self._store.write_manifest(self._manifest())
        self._store.close()

    def give_up(self) -> None:
        """Lets the stage before this one go on to its end; what still comes is written if it can be."""
        while (item := self._queue.get()) is not None:
            try:
                self._store.append(*item)
            except OutputError:
                continue
        try:
            self._store.close()
        except OutputError:
            return

    def put(self, table: Table, rows: pa.Table) -> None:
        """Hands rows over; waits while too much is waiting already."""
        if rows.num_rows:
            self._queue.put((table, rows))

    def finish(self) -> None:
        """No more rows come."""
        self._queue.put(None)
