# SPDX-License-Identifier: Apache-2.0
"""Runs with closed files to upload, and what is to be read of them in the object store."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from manifest_examples import example_manifest
from store_examples import MIDNIGHT_NS, SECOND_NS, example_rows, new_store

from tracer.store.hours import hour_of
from tracer.store.periods import Period, decode_period
from tracer.store.schemas import HEALTH, TABLES, WINDOWS, Table
from tracer.store.writer import Store

HOUR_NS = 3_600 * SECOND_NS
# 10:00 of that day.
TEN_NS = MIDNIGHT_NS + 10 * HOUR_NS
TEN = hour_of(TEN_NS // 1_000)


def begin_run(output: Path, *, node_name: str = "node-1", identifier: str = "node-1") -> Store:
    """A store whose run has its manifest."""
    run_id = uuid4()
    store = new_store(output, identifier=identifier, run_id=run_id)
    manifest = example_manifest(run_id=run_id, status="finished")
    host = msgspec.structs.replace(manifest.host, node_name=node_name, identifier=identifier)
    store.write_manifest(msgspec.structs.replace(manifest, host=host))
    return store


def close_file(store: Store, table: Table, seconds: Sequence[float], salt: int = 0) -> pa.Table:
    """A closed file with a row for each of these seconds after 10:00; the rows as they were given."""
    rows = example_rows(table, [TEN_NS + int(second * SECOND_NS) for second in seconds], salt)
    store.append(table, rows)
    store.close()
    return rows


def finished_run(output: Path, files: int = 4, rows: int = 50) -> UUID:
    """From 9:58 on, files of a minute of two tables."""
    store = begin_run(output)
    for file in range(files):
        seconds = [-120 + 60 * file + 60 * row / rows for row in range(rows)]
        for table in (WINDOWS, HEALTH):
            close_file(store, table, seconds, file)
    store.release()
    return run_of(output)


def run_of(output: Path) -> UUID:
    """Of the only one there."""
    (directory,) = (output / "runs").iterdir()
    return UUID(directory.name)


def periods_in(target: Path) -> dict[str, Period]:
    """By their hours; of one run."""
    return {period.hour: period for period in all_periods(target)}


def all_periods(target: Path) -> list[Period]:
    """Of all runs."""
    return [decode_period(path.read_bytes()) for path in sorted(target.glob("periods/dt=*/hour=*/*.json"))]


def rows_here(output: Path) -> dict[str, pa.Table]:
    """By table, all rows of closed files, sorted."""
    return _sorted(output.glob("*/dt=*/identifier=*/*.parquet"))


def rows_there(target: Path) -> dict[str, pa.Table]:
    """By table, all rows of the files that periods name, sorted."""
    return _sorted(target / file.path for period in all_periods(target) for file in period.files)


def _sorted(paths: Iterable[Path]) -> dict[str, pa.Table]:
    by_table: dict[str, list[pa.Table]] = {}
    for path in paths:
        table = pq.read_table(path, partitioning=None)
        by_table.setdefault(path.name.partition("-")[0], []).append(table.replace_schema_metadata())
    return {name: _in_order(name, pa.concat_tables(tables)) for name, tables in by_table.items()}


def _in_order(name: str, rows: pa.Table) -> pa.Table:
    numbers = [field.name for field in rows.schema if pa.types.is_integer(field.type)]
    return rows.sort_by([(column, "ascending") for column in (*TABLES[name].sort_columns, *numbers)])


def counts(tables: Mapping[str, pa.Table]) -> dict[str, int]:
    """Rows by table."""
    return {name: rows.num_rows for name, rows in tables.items()}
