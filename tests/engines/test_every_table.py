# SPDX-License-Identifier: Apache-2.0
"""What the tracer writes comes back as it was written, in types and values, from each engine that the README names."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import engines
import pyarrow as pa
import pytest
from engines import ENGINES, Read
from every_table import ALWAYS_NULL, expected_rows, kind, write_every_table

from tracer.store.schemas import TABLES, Table

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

every_table = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("every-table")
    write_every_table(output)
    return output


def assert_is(table: Table, read: Read, *, has_path: bool = True) -> None:
    """All that was written to `table`, and of the path if the engine looks at it."""
    types, rows = read
    of_path = {"dt": "date", "identifier": "text"} if has_path else {}
    assert types == {field.name: kind(field) for field in table.schema} | of_path
    expected = [{name: row[name] for name in types} for row in expected_rows(table)]
    assert sorted(rows, key=lambda row: int(row[table.time_column])) == expected


def test_the_rows_have_what_is_hard_to_read() -> None:
    columns = {field.name for table in TABLES.values() for field in table.schema}
    assert columns >= ALWAYS_NULL
    values: list[Any] = [value for table in TABLES.values() for row in expected_rows(table) for value in row.values()]
    assert {None, 2**63 - 1, -(2**63), ""} <= {value for value in values if not isinstance(value, dict)}
    assert any(isinstance(value, str) and not value.isascii() for value in values)
    assert any(pa.types.is_map(field.type) for field in TABLES["resources"].schema)


@every_table
@pytest.mark.parametrize("engine", ENGINES)
def test_rows_come_back_in_types_and_values(engine: str, table: Table, output: Path) -> None:
    assert_is(table, ENGINES[engine](output / table.name))


@every_table
def test_rows_come_back_from_spark(table: Table, output: Path, spark: "SparkSession") -> None:
    assert_is(table, engines.with_spark(output / table.name, spark))


@every_table
def test_rows_come_back_from_iceberg_whose_files_they_become(table: Table, output: Path, tmp_path: Path) -> None:
    assert_is(table, engines.with_iceberg(output / table.name, tmp_path), has_path=False)
