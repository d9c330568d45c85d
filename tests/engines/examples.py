# SPDX-License-Identifier: Apache-2.0
"""The Python in the documentation, run as it stands there."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa

Rows = list[tuple[Any, ...]]

COLUMNS = ["identifier", "container_id", "pod_name", "second", "cpus", "memory_mib"]
_ROOT = Path(__file__).parents[2]


def in_page(page: str) -> dict[str, str]:
    """The Python in a page of the documentation, by the heading above it."""
    text = (_ROOT / page).read_text()
    return dict(re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))


README = in_page("README.md")["The files"]
ENGINES = in_page("docs/engines.md")


def run(code: str) -> dict[str, Any]:
    """What a piece of Python leaves behind."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, "example", "exec"), names)
    return names


def rows_of(found: Any) -> Rows:
    """The rows of an engine's `by_second`, in order, as Python has them."""
    if isinstance(found, pl.LazyFrame):
        found = found.collect().to_arrow()
    elif isinstance(found, duckdb.DuckDBPyRelation):
        found = found.to_arrow_table()
    elif isinstance(found, pd.DataFrame):
        found = pa.Table.from_pandas(found, preserve_index=False)
    elif not isinstance(found, pa.Table):
        from pyspark.sql import functions

        seconds = found.select(*(functions.unix_seconds(c) if c == "second" else functions.col(c) for c in COLUMNS))
        return [
            (*row[:3], datetime.fromtimestamp(row[3], UTC), *row[4:])
            for row in map(tuple, seconds.orderBy(seconds[0], seconds[2], seconds[3]).collect())
        ]
    return [tuple(row[column] for column in COLUMNS) for row in found.to_pylist()]


def by_second(engine: str) -> Rows:
    """What the engine's example comes to with the `results` that were laid out."""
    return rows_of(run(ENGINES[engine])["by_second"])
