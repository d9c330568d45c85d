# SPDX-License-Identifier: Apache-2.0
"""Rows, stores and small file systems for the tests of tracer.store."""

import contextlib
import functools
import io
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID, uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from tracer.store.directories import FILE_MODE
from tracer.store.retention import OnFull
from tracer.store.schemas import Table
from tracer.store.writer import BUFFER_BYTES, JournalOptions, Store, file_metadata

SECOND_NS = 10**9
DAY_NS = 86_400 * SECOND_NS
# 2026-11-22T00:00:00Z
MIDNIGHT_NS = 1_795_305_600 * SECOND_NS


def example_rows(table: Table, times_ns: Sequence[int], salt: int = 0) -> pa.Table:
    """One row a time, as the pipeline has them: times in ns, numbers that depend on row, column and `salt`."""
    columns = []
    for position, field in enumerate(table.schema):
        numbers = [row * 7919 + position * 104_729 + salt * 15_485_863 for row in range(len(times_ns))]
        if field.name == table.time_column:
            columns.append(pa.array(times_ns, pa.int64()).cast(pa.timestamp("ns", "UTC")))
        elif pa.types.is_string(field.type):
            columns.append(pa.array([f"{field.name}-{number % 7}" for number in numbers], pa.string()))
        elif pa.types.is_map(field.type):
            columns.append(pa.array([[(f"key-{number % 3}", number)] for number in numbers], field.type))
        elif pa.types.is_floating(field.type):
            columns.append(pa.array([number % 100 / 100 for number in numbers], field.type))
        else:
            columns.append(pa.array([number % 60_000 for number in numbers], field.type))
    return pa.table(columns, names=table.schema.names)


def new_store(
    output: Path,
    *,
    identifier: str = "node-1",
    run_id: UUID | None = None,
    rotate_ns: int = 90 * SECOND_NS,
    keep_bytes: int | None = None,
    on_full: OnFull = "delete-oldest",
    journal: JournalOptions | None = None,
    buffer_bytes: int = BUFFER_BYTES,
    mode: int = FILE_MODE,
) -> Store:
    return Store(
        output,
        identifier=identifier,
        run_id=run_id or uuid4(),
        node_name="node-1",
        rotate_ns=rotate_ns,
        keep_bytes=keep_bytes,
        on_full=on_full,
        journal=journal,
        buffer_bytes=buffer_bytes,
        mode=mode,
    )


@functools.cache
def _smallest_file(run_id: UUID, node_name: str, identifier: str) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({}).replace_schema_metadata(file_metadata(run_id, node_name, identifier)), sink)
    return sink.getvalue()


def closed_file(size: int, run_id: UUID, *, node_name: str = "node-1", identifier: str = "n") -> bytes:
    """A closed file without rows and columns that says whose it is, of `size` bytes, which must be some 1,000."""
    smallest = _smallest_file(run_id, node_name, identifier)
    assert size >= len(smallest)
    # A Parquet file is read from its end.
    return smallest[:4] + bytes(size - len(smallest)) + smallest[4:]


def files_below(directory: Path) -> list[str]:
    """The relative paths of everything below `directory` that is not a directory, sorted."""
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir())


@contextlib.contextmanager
def mounted_tmpfs(directory: Path, options: str) -> Iterator[Path]:
    """A tmpfs with mount `options` at `directory`, which is made; unmounted at the end. Needs root."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tracer-test", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def remount_read_only(directory: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", directory], check=True)


def fill_up(path: Path) -> None:
    """Take all the space that is left, to the last block."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
