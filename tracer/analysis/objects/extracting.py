# SPDX-License-Identifier: Apache-2.0
"""Single runs out of what is compacted, as the closed files that they once were."""

from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from tracer.analysis.file_checks import one_line
from tracer.analysis.objects.finding import Found
from tracer.errors import UsageError
from tracer.store.compactions import CompactedFile, Compaction, Source
from tracer.store.layout import file_path, partition_value
from tracer.store.parquet import conform, encode
from tracer.store.schemas import TABLES
from tracer.store.writer import file_metadata


def extract(found: Found, compaction: Compaction, tables: Collection[str], output: Path) -> None:
    """Writes the rows of each source of `compaction` to an output directory; of one and a file they are in memory.

    Of files with all nodes the row groups of these are read. Raises UsageError for what cannot be read, and OSError.
    """
    for number, file in enumerate(found.within(compaction.files, tables)):
        for source in compaction.sources:
            _extract(found, file, source, output, number)


def _extract(found: Found, file: CompactedFile, source: Source, output: Path, number: int) -> None:
    table = TABLES[file.table]
    is_of_it = (pl.col("node_name") == source.node_name) & (pl.col("run_id") == str(source.run_id))
    try:
        rows = (
            pl.scan_parquet(found.store.location(file.path), hive_partitioning=False, glob=False)
            .filter(is_of_it)
            .select(table.schema.names)
            .collect(engine="streaming")
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UsageError(f"{found.store.url}/{file.path} cannot be read: {one_line(error)}") from error
    if rows.is_empty():
        return
    first = rows[table.time_column].min()
    assert isinstance(first, datetime)
    start_ns = int(first.astimezone(UTC).timestamp()) * 10**9
    path = file_path(output, table.name, partition_value(source.identifier), start_ns, source.run_id, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = file_metadata(source.run_id, source.node_name, source.identifier)
    path.write_bytes(encode(table, conform(table, rows.to_arrow()), {**metadata, "tracer.table": table.name}))
