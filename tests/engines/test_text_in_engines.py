# SPDX-License-Identifier: Apache-2.0
"""Names are text in every engine: filters as people write them, joins of files, groups, and files put together.

Each file has dictionaries of its own, so that what is equal in two files has different codes there.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from recording_examples import write_rows

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# By file; None is a row without a name.
WINDOWS = (["x1", "x2", None, "äx"], ["x2", "y", "x2", "äx"])
RESOURCES = (["y", "x2"], ["äx", None])


class Found(NamedTuple):
    """What each engine is asked for: see EXPECTED."""

    beginning_with_x: int
    equal: int
    not_ascii: int
    without_name: int
    joined: int
    put_together: int
    groups: dict[str | None, int]


EXPECTED = Found(
    beginning_with_x=4,
    equal=3,
    not_ascii=2,
    without_name=1,
    # x2 three times, y once, äx twice; null joins nothing.
    joined=6,
    put_together=8,
    groups={"x1": 1, "x2": 3, "y": 1, "äx": 2, None: 1},
)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("names")
    for table, files in (("windows", WINDOWS), ("resources", RESOURCES)):
        for names in files:
            write_rows(output, table, [{"container_id": name} for name in names], run_id=uuid4())
    return output


def with_polars(output: Path) -> Found:
    windows, resources = pl.scan_parquet(output / "windows"), pl.scan_parquet(output / "resources")
    name = pl.col("container_id")

    def count(condition: pl.Expr) -> int:
        return windows.filter(condition).collect().height

    return Found(
        beginning_with_x=count(name.str.starts_with("x")),
        equal=count(name == "x2"),
        not_ascii=count(name.is_in(["äx"])),
        without_name=count(name.is_null()),
        joined=windows.join(resources, on="container_id").collect().height,
        put_together=pl.concat([pl.read_parquet(path) for path in files(output)]).height,
        groups=dict(windows.group_by("container_id").len().collect().iter_rows()),
    )


def with_duckdb(output: Path) -> Found:
    windows, resources = (f"'{output}/{table}/*/*/*.parquet'" for table in ("windows", "resources"))

    def count(rest: str) -> int:
        (found,) = duckdb.sql(f"SELECT count(*) FROM {windows} {rest}").fetchall()
        return int(found[0])

    first, second = files(output)
    return Found(
        beginning_with_x=count("WHERE container_id LIKE 'x%'"),
        equal=count("WHERE container_id = 'x2'"),
        not_ascii=count("WHERE starts_with(container_id, 'ä')"),
        without_name=count("WHERE container_id IS NULL"),
        joined=count(f"JOIN {resources} USING (container_id)"),
        put_together=len(duckdb.sql(f"SELECT node_name FROM '{first}' UNION ALL SELECT node_name FROM '{second}'")),
        groups=dict(duckdb.sql(f"SELECT container_id, count(*) FROM {windows} GROUP BY ALL").fetchall()),
    )


def with_pandas(output: Path) -> Found:
    windows, resources = pd.read_parquet(output / "windows"), pd.read_parquet(output / "resources")
    name = windows["container_id"]
    groups = windows.groupby("container_id", dropna=False).size()
    return Found(
        beginning_with_x=len(windows[name.str.startswith("x", na=False)]),
        equal=len(windows[name == "x2"]),
        not_ascii=len(windows.query("container_id == 'äx'")),
        without_name=int(name.isna().sum()),
        # pandas joins null with null.
        joined=len(windows.dropna(subset="container_id").merge(resources, on="container_id")),
        put_together=len(pd.concat([pd.read_parquet(path) for path in files(output)])),
        groups={None if pd.isna(key) else str(key): int(size) for key, size in groups.items()},
    )


def with_pyarrow(output: Path) -> Found:
    windows, resources = ds.dataset(output / "windows"), ds.dataset(output / "resources")
    name = ds.field("container_id")
    groups = windows.to_table().group_by("container_id").aggregate([([], "count_all")])
    joined = windows.to_table(columns=["container_id", "cgroup_id"]).join(
        resources.to_table(columns=["container_id", "time"]), keys="container_id", join_type="inner"
    )
    return Found(
        beginning_with_x=windows.count_rows(filter=pc.starts_with(name, "x")),
        equal=windows.count_rows(filter=name == "x2"),
        not_ascii=windows.count_rows(filter=pc.match_substring(name, "ä")),
        without_name=windows.count_rows(filter=name.is_null()),
        joined=joined.num_rows,
        put_together=pa.concat_tables([pq.ParquetFile(path).read() for path in files(output)]).num_rows,
        groups=dict(zip(*(groups[column].to_pylist() for column in ("container_id", "count_all")), strict=True)),
    )


def files(output: Path) -> list[Path]:
    return sorted((output / "windows").glob("*/*/*.parquet"))


@pytest.mark.parametrize("ask", [with_polars, with_duckdb, with_pandas, with_pyarrow])
def test_names_are_text(ask: Callable[[Path], Found], output: Path) -> None:
    assert ask(output) == EXPECTED


def test_names_are_text_in_spark(output: Path, spark: "SparkSession") -> None:
    windows, resources = (spark.read.parquet(str(output / table)) for table in ("windows", "resources"))
    name = windows["container_id"]
    first, second = (spark.read.parquet(str(path)) for path in files(output))
    assert (
        Found(
            beginning_with_x=windows.where(name.startswith("x")).count(),
            equal=windows.where("container_id = 'x2'").count(),
            not_ascii=windows.where(name.like("ä%")).count(),
            without_name=windows.where(name.isNull()).count(),
            joined=windows.join(resources, "container_id").count(),
            put_together=first.union(second).count(),
            groups={row["container_id"]: row["count"] for row in windows.groupBy("container_id").count().collect()},
        )
        == EXPECTED
    )


def test_names_are_text_in_iceberg(output: Path, tmp_path: Path) -> None:
    from pyiceberg.catalog.sql import SqlCatalog

    catalog = SqlCatalog("tests", uri="sqlite:///:memory:", warehouse=str(tmp_path))
    catalog.create_namespace("tracer")
    windows = catalog.create_table("tracer.windows", schema=pq.read_schema(files(output)[0]))
    windows.add_files(list(map(str, files(output))))
    for condition, expected in (
        ("container_id LIKE 'x%'", EXPECTED.beginning_with_x),
        ("container_id = 'x2'", EXPECTED.equal),
        ("container_id = 'äx'", EXPECTED.not_ascii),
        ("container_id IS NULL", EXPECTED.without_name),
    ):
        assert windows.scan(row_filter=condition).to_arrow().num_rows == expected, condition
    catalog.close()
