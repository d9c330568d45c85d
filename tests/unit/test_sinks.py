# SPDX-License-Identifier: Apache-2.0
"""Labelled rows reach each sink, whatever another one does; what a sink has no room for is counted by table."""

import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from manifest_examples import example_manifest
from store_examples import MIDNIGHT_NS, SECOND_NS, example_rows, files_below, new_store

from tracer.pipeline.sinks.newest import NewestWindows
from tracer.pipeline.sinks.sink import Sinks
from tracer.pipeline.sinks.storing import Storing
from tracer.store.manifest import Manifest
from tracer.store.schemas import HEALTH, WINDOWS, Table
from tracer.store.writer import Store


class SlowDisk:
    """A store that takes rows only once it is let."""

    def __init__(self, store: Store) -> None:
        self.goes_on = threading.Event()
        self._append = store.append
        store.append = self.append  # type: ignore[method-assign]
        store.write_manifest = lambda _manifest, **_options: None  # type: ignore[method-assign]

    def append(self, table: Table, rows: pa.Table) -> None:
        assert self.goes_on.wait(30)
        self._append(table, rows)


def some_rows(table: Table, number: int) -> pa.Table:
    return example_rows(table, [MIDNIGHT_NS + number * SECOND_NS], salt=number)


def no_manifest() -> Manifest:
    return example_manifest()


def test_a_sink_that_is_slow_holds_up_no_other(tmp_path: Path) -> None:
    size = some_rows(WINDOWS, 0).nbytes
    store = new_store(tmp_path)
    disk = SlowDisk(store)
    storing, newest = Storing(store, no_manifest, threading.Event(), queue_bytes=10 * size), NewestWindows()
    sinks = Sinks(storing, newest)
    storing.start()
    for number in range(100):
        sinks.put(WINDOWS, some_rows(WINDOWS, number))
    sinks.put(HEALTH, some_rows(HEALTH, 0))
    assert newest.rows is not None
    assert newest.rows.equals(some_rows(WINDOWS, 99))
    # What is under way is in the queue no more.
    refused = storing.rows_refused
    assert 100 - 12 <= refused["windows"] <= 100 - 10
    assert refused["health"] == 1
    disk.goes_on.set()
    storing.finish()
    storing.join(30)
    assert not storing.is_alive()
    assert storing.failure is None
    (path,) = files_below(tmp_path)
    assert pq.read_metadata(tmp_path / path).num_rows == 100 - refused["windows"]


def test_no_rows_are_no_news() -> None:
    newest = NewestWindows()
    sinks = Sinks(newest)
    sinks.put(WINDOWS, some_rows(WINDOWS, 1))
    sinks.put(WINDOWS, WINDOWS.schema.empty_table())
    assert newest.rows is not None
    assert newest.rows.num_rows == 1
