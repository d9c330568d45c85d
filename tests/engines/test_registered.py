# SPDX-License-Identifier: Apache-2.0
"""Compacted files that are registered are the rows of tables in an Iceberg catalogue, each once."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from fleet_examples import write_fleet
from object_layout import lay_out_objects
from pyiceberg.catalog.sql import SqlCatalog

from tracer.store.schemas import TABLES


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"file://{lay_out_objects(write_fleet(tmp_path / 'output', node_1={'waits_ms': 30}), tmp_path / 'store')}"


class Fleet:
    """A catalogue in a file, which PyIceberg's variables name, and the command as a process, which reads them."""

    def __init__(self, directory: Path) -> None:
        self.to = directory / "to"
        self._place = {"uri": f"sqlite:///{directory}/catalog.db", "warehouse": f"file://{directory}/warehouse"}

    @contextmanager
    def catalog(self) -> Iterator[SqlCatalog]:
        opened = SqlCatalog("fleet", **self._place)
        try:
            yield opened
        finally:
            opened.close()

    def compact(self, store: str, *options: str) -> subprocess.CompletedProcess[str]:
        variables = {f"PYICEBERG_CATALOG__FLEET__{name.upper()}": value for name, value in self._place.items()}
        command = [sys.executable, "-m", "tracer.cli.main", "fleet", "compact", store, "--to", str(self.to)]
        return subprocess.run(
            [*command, "--since", "2026-11-22", *options], env={**os.environ, **variables}, capture_output=True,
            text=True, check=False,
        )  # fmt: skip

    def rows(self, table: str) -> pl.DataFrame:
        with self.catalog() as catalog:
            found = pl.from_arrow(catalog.load_table(table).scan().to_arrow())
        assert isinstance(found, pl.DataFrame)
        return found


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def test_files_are_registered_once(store: str, fleet: Fleet) -> None:
    assert fleet.compact(store).returncode == 0
    # They were there before the catalogue was.
    done = fleet.compact(store, "--register", "fleet")
    assert (done.returncode, "2 files registered" in done.stdout) == (0, True), done
    done = fleet.compact(store, "--register", "fleet", "--delete")
    assert (done.returncode, "registered" in done.stdout) == (0, False), done
    for table in ("windows", "waits"):
        expected = pl.read_parquet([*(fleet.to / "compacted" / table).rglob("*.parquet")], hive_partitioning=False)
        found = fleet.rows(f"tracer.{table}")
        assert found.columns == [*TABLES[table].schema.names, "identifier", "run_id"]
        assert found.sort(found.columns).equals(expected.select(found.columns).sort(found.columns))


def test_a_table_that_has_fewer_columns_gets_them(store: str, fleet: Fleet) -> None:
    with fleet.catalog() as catalog:
        catalog.create_namespace("older")
        catalog.create_table("older.windows", schema=pa.schema([("node_name", pa.string())]))
    done = fleet.compact(store, "--register", "fleet.older")
    assert done.returncode == 0, done
    assert fleet.rows("older.windows")["identifier"].null_count() == 0


@pytest.mark.parametrize(
    ("name", "says"),
    [("nowhere", "PYICEBERG_CATALOG__NOWHERE__URI"), (".tracer", "must be CATALOG or CATALOG.NAMESPACE")],
)
def test_a_catalogue_that_is_not_there_is_told_before_anything_is_written(
    store: str, fleet: Fleet, name: str, says: str
) -> None:
    done = fleet.compact(store, "--register", name)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done
    assert says in done.stderr
    assert not fleet.to.exists()


def test_where_nothing_can_be_registered_nothing_is_removed(store: str, fleet: Fleet) -> None:
    with fleet.catalog() as catalog:
        catalog.create_namespace("tracer")
        # A table of that name which can never hold these rows.
        catalog.create_table("tracer.windows", schema=pa.schema([("cpu_time_ns", pa.string())]))
    done = fleet.compact(store, "--register", "fleet", "--delete")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (4, "", 1), done
    assert "--register fleet: " in done.stderr
    assert [*Path(store.removeprefix("file://")).rglob("*.parquet")]
