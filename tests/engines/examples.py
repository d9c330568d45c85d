# SPDX-License-Identifier: Apache-2.0
"""The Python in the documentation, run as it stands there."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa

Rows = list[tuple[Any, ...]]

COLUMNS = ["identifier", "container_id", "pod_name", "second", "cpus", "memory_mib"]
COLUMNS_BESIDE = ["time", "pod_name", "latency_ms", "waited_ms", "memory_mib"]
_ROOT = Path(__file__).parents[2]


def in_page(page: str) -> dict[str, list[str]]:
    """The pieces of Python in a page of the documentation, by the heading above them."""
    sections = re.split(r"^## ", (_ROOT / page).read_text(), flags=re.MULTILINE)
    found = {
        one.partition("\n")[0]: re.findall(r"^```python\n(.*?)^```", one, re.DOTALL | re.MULTILINE) for one in sections
    }
    return {heading: pieces for heading, pieces in found.items() if pieces}


FILES = in_page("docs/files.md")["Opening them"][0]
_PIECES = in_page("docs/engines.md")
ENGINES = {engine: pieces[0] for engine, pieces in _PIECES.items()}
# Each goes on where the first piece ended.
AS_OF = {engine: "\n".join(pieces) for engine, pieces in _PIECES.items() if len(pieces) == 2}


def run(code: str) -> dict[str, Any]:
    """What a piece of Python leaves behind."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, "example", "exec"), names)
    return names


def rows_of(found: Any, columns: list[str]) -> Rows:
    """The rows of an engine's answer, in its order, as Python has them."""
    if isinstance(found, pl.LazyFrame):
        found = found.collect().to_arrow()
    elif isinstance(found, duckdb.DuckDBPyRelation):
        found = found.to_arrow_table()
    elif isinstance(found, pd.DataFrame):
        found = pa.Table.from_pandas(found, preserve_index=False)
    elif not isinstance(found, pa.Table):
        from pyspark.sql import functions

        # Python would get times in the machine's time zone.
        times = [name for name, kind in found.dtypes if kind == "timestamp"]
        rows = found.withColumns({name: functions.unix_micros(name) for name in times}).select(*columns).collect()
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        return [
            tuple(epoch + timedelta(microseconds=row[name]) if name in times else row[name] for name in columns)
            for row in rows
        ]
    return [tuple(row[column] for column in columns) for row in found.to_pylist()]


def by_second(engine: str) -> Rows:
    """What the engine's example comes to with the `results` that were laid out."""
    return rows_of(run(ENGINES[engine])["by_second"], COLUMNS)


def beside(engine: str) -> Rows:
    """What its example of an as-of join comes to, with `latencies.csv` besides."""
    return rows_of(run(AS_OF[engine])["beside"], COLUMNS_BESIDE)
