# SPDX-License-Identifier: Apache-2.0
"""What takes labelled rows through a bounded queue to a thread that may have to wait for a disk, and counts them."""

import threading
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pyarrow as pa

from tracer.errors import OutputError
from tracer.pipeline.channel import Channel
from tracer.pipeline.stage import Stage
from tracer.store.gone import Gone
from tracer.store.manifest import Manifest
from tracer.store.outage import Outage
from tracer.store.rows import span_of
from tracer.store.schemas import Table
from tracer.store.stored import StoreTotals
from tracer.store.writer import Store

# For one write: a disk that takes longer does not answer.
_SLOW_SECONDS = 5.0


class Keeping(Stage):
    """A sink with a thread of its own. A disk that is slow holds up nobody: what its queue has no room for is counted.

    A failure ends the run, not this stage: what comes until then is kept if it can be.
    """

    def __init__(self, name: str, stop_run: threading.Event, *, queue_bytes: int) -> None:
        """`queue_bytes`: of rows that wait to be taken."""
        super().__init__(name, stop_run)
        self.refused = Gone()
        """Rows that found no room or came after the stage had ended, or that a store would not take."""
        self.last_manifest: Manifest | None = None
        """What the manifest's last version says, or would say if it could be written."""
        self._rows: Channel[tuple[Table, pa.Table]] = Channel(queue_bytes, lambda item: item[1].nbytes)
        self._queue_bytes = queue_bytes
        self._lock = threading.Lock()
        self._received: Counter[str] = Counter()
        self._busy_since: float | None = None

    def begin(self, manifest: Manifest) -> None:
        """The run begins, with this manifest. Raises OutputError."""

    @property
    @abstractmethod
    def totals(self) -> StoreTotals:
        """What was stored so far."""

    @property
    @abstractmethod
    def outage(self) -> Outage:
        """Whether the output can be written."""

    @property
    def rows_let_go(self) -> Counter[str]:
        """By table: rows that nobody asked for in time."""
        return Counter()

    @abstractmethod
    def take_longest_write_ns(self) -> int:
        """Of the writes since the last call."""

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
        """Of rows that were not taken yet."""
        return self._rows.size

    @property
    def queue_fill(self) -> float:
        """How much of the queue is taken, 0 to 1."""
        return self._rows.size / self._queue_bytes

    def put(self, table: Table, rows: pa.Table) -> None:
        """Takes rows, if there is room for them. Any thread may call it."""
        with self._lock:
            self._received[table.name] += rows.num_rows
        if not self._rows.offer((table, rows)):
            self._refuse(table, rows, "no room in memory")
        busy_since = self._busy_since
        if busy_since is not None and time.monotonic() - busy_since > _SLOW_SECONDS:
            self.outage.fail(f"it has not answered for {_SLOW_SECONDS:g} s")

    def finish(self) -> None:
        """No more rows come."""
        self._rows.close()

    def end(self) -> None:
        """Nothing is taken any more."""
        self._rows.abandon()

    def _append(self, store: Store, table: Table, rows: pa.Table) -> None:
        try:
            store.append(table, rows)
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
        self.outage.drop(table.name, rows.num_rows, span)


def with_what_is_there(manifest: Manifest, store: Store) -> Manifest:
    """For its last version."""
    present = store.present()
    totals = msgspec.structs.replace(
        manifest.totals, rows_present=present.rows, files_present=present.files, bytes_present=present.bytes
    )
    return msgspec.structs.replace(manifest, totals=totals)
