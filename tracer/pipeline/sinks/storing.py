# SPDX-License-Identifier: Apache-2.0
"""The sink that makes files. A disk that is slow holds up nothing else: what its queue has no room for is counted."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import msgspec
import pyarrow as pa

from tracer.errors import OutputError
from tracer.pipeline.channel import Channel
from tracer.pipeline.stage import Stage
from tracer.store.gone import Gone
from tracer.store.manifest import Manifest, Totals
from tracer.store.schemas import Table
from tracer.store.writer import Store, span_of

_LOOK_SECONDS = 0.25
_CHECKPOINT_SECONDS = 1.0
# For one write: a disk that takes longer does not answer.
_SLOW_SECONDS = 5.0


class Storing(Stage):
    """Takes rows into the store and rotates its files; at each rotation, and at the end, the manifest is written anew.

    `totals`: those of the manifest, which the store notes each second. A failure ends the run, not this stage: what
    comes until then is written if it can be.
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
        super().__init__("storing", stop_run)
        self.refused = Gone()
        """Rows that found no room or came after the stage had ended, or that the store would not take."""
        self.last_manifest: Manifest | None = None
        """What the manifest's last version says, or would say if it could be written."""
        self._store = store
        self._manifest = manifest
        self._rows: Channel[tuple[Table, pa.Table]] = Channel(queue_bytes, lambda item: item[1].nbytes)
        self._queue_bytes = queue_bytes
        self._totals = totals
        self._lock = threading.Lock()
        self._received: Counter[str] = Counter()
        self._busy_since: float | None = None
        self._next_checkpoint = 0.0

    @property
    def rows_received(self) -> Counter[str]:
        """By table, all that came, refused or not."""
        with self._lock:
            return Counter(self._received)

    @property
    def rows_refused(self) -> Counter[str]:
        """By table."""
        with self._lock:
            return Counter(self.refused.rows)

    @property
    def bytes_queued(self) -> int:
        """Of rows that the store has not taken yet."""
        return self._rows.size

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
                    self._append(*item)
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

    @property
    def queue_fill(self) -> float:
        """How much of the queue is taken, 0 to 1."""
        return self._rows.size / self._queue_bytes

    def end(self) -> None:
        """Nothing is taken any more."""
        self._rows.abandon()

    def put(self, table: Table, rows: pa.Table) -> None:
        """Takes rows, if there is room for them. Any thread may call it."""
        with self._lock:
            self._received[table.name] += rows.num_rows
        if not self._rows.offer((table, rows)):
            self._refuse(table, rows, "no room in memory")
        busy_since = self._busy_since
        if busy_since is not None and time.monotonic() - busy_since > _SLOW_SECONDS:
            self._store.outage.fail(f"it has not answered for {_SLOW_SECONDS:g} s")

    def finish(self) -> None:
        """No more rows come."""
        self._rows.close()

    def _append_what_waits(self) -> None:
        # Of what is slow, this is only the next.
        self._busy_since = time.monotonic()
        with suppress(TimeoutError):
            while (item := self._rows.take(0)) is not None:
                with self.surviving():
                    self._append(*item)
        self._note_totals()

    def _append(self, table: Table, rows: pa.Table) -> None:
        try:
            self._store.append(table, rows)
        except OutputError:
            raise  # the store has counted what it lost
        except Exception:
            self._refuse(table, rows, "a defect")
            raise

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._busy_since = time.monotonic()
        with self.surviving():
            yield
        self._busy_since = None

    def _refuse(self, table: Table, rows: pa.Table, cause: str) -> None:
        span = span_of(table, rows)
        with self._lock:
            self.refused.add(table.name, rows.num_rows, span, cause)
        self._store.outage.drop(table.name, rows.num_rows, span)

    def _note_totals(self) -> None:
        if self._totals is not None and (now := time.monotonic()) >= self._next_checkpoint:
            self._next_checkpoint = now + _CHECKPOINT_SECONDS
            self._store.note_totals(self._totals())

    def _write_manifest(self, *, may_wait: bool = False, is_last: bool = False) -> None:
        manifest = self._manifest()
        if is_last:
            present = self._store.present()
            totals = msgspec.structs.replace(
                manifest.totals,
                rows_present=present.rows,
                files_present=present.files,
                bytes_present=present.bytes,
            )
            manifest = msgspec.structs.replace(manifest, totals=totals)
        self.last_manifest = manifest
        self._store.write_manifest(manifest, may_wait=may_wait)
