# SPDX-License-Identifier: Apache-2.0
"""Live runs on a disk that others fill: what is said meanwhile and at the end, and what is there."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from live_node import Tracer
from store_examples import fill_up, mounted_tmpfs

from tracer.store.manifest import read_manifest
from tracer.store.recovery import recover

pytestmark = pytest.mark.root


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with mounted_tmpfs(tmp_path / "disk", "size=3m") as mounted:
        yield mounted


def rows_there(output: Path) -> dict[str, int]:
    """By table."""
    tables = {path.relative_to(output).parts[0] for path in output.rglob("*.parquet")}
    counts = {name: pl.scan_parquet(output / name / "**/*.parquet", hive_partitioning=False) for name in tables}
    return {name: rows.select(pl.len()).collect().item() for name, rows in counts.items()}


def test_older_results_that_went_are_told_and_what_is_there_is_counted(
    start_tracer: Callable[..., Tracer], disk: Path
) -> None:
    output = disk / "results"
    tracer = start_tracer("--rotate", "1s", "--duration", "8s", output=output)
    tracer.wait_until_tracing()
    while len(list(output.rglob("*.parquet"))) < 8:
        time.sleep(0.1)
    fill_up(disk / "filler")
    assert tracer.end() == 0, tracer.said
    (path,) = output.glob("runs/*/session.json")
    totals = read_manifest(path).totals
    there = rows_there(output)
    written, present = sum(totals.rows.values()), sum(there.values())
    assert {table: rows for table, rows in (totals.rows_present or {}).items() if rows} == there
    assert present < written
    assert totals.rows_lost == 0
    assert present + sum(totals.rows_removed.values()) == written
    assert totals.removed_span is not None
    lines = tracer.said.splitlines()
    assert lines.count("tracer: warning: the file system is full: the oldest results are removed to make room") == 1
    span = f"from {totals.removed_span.first.utc[:19]}Z to {totals.removed_span.last.utc[:19]}Z"
    removed = f"tracer: older results removed to make room: {totals.files_removed} files, {span}, "
    assert [line for line in lines if line.startswith(removed)]
    assert f"tracer: of {written:,} rows written, {present:,} are there" in lines
    health = pl.read_parquet(output / "health/**/*.parquet", hive_partitioning=False)
    assert health["files_removed"].sum() > 0


def test_a_disk_that_cannot_be_written_to_the_end(start_tracer: Callable[..., Tracer], disk: Path) -> None:
    output = disk / "results"
    tracer = start_tracer("--rotate", "1s", "--duration", "6s", output=output)
    tracer.wait_until_tracing()
    while not list(output.glob("windows/**/*.parquet")):
        time.sleep(0.1)
    subprocess.run(["mount", "--bind", disk, disk], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", disk], check=True)
        assert tracer.end() == 4
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
    lines = tracer.said.splitlines()
    assert "Traceback" not in tracer.said
    begun = "tracer: warning: the output cannot be written (Read-only file system): rows wait in memory"
    assert len([line for line in lines if line.startswith(begun)]) == 1
    (dropped,) = [line for line in lines if line.startswith("tracer: DROPPED ")]
    assert " rows of windows, from 20" in dropped
    assert "Read-only file system" in lines[-1]
    (ended,) = [line for line in lines if " s traced: " in line]
    there = rows_there(output)
    assert f" {there['windows']:,} rows of windows " in ended
    # What the journals had is recovered, and all has a place.
    recover(output)
    (path,) = output.glob("runs/*/session.json")
    totals = read_manifest(path).totals
    assert totals.rows == rows_there(output)
    assert (totals.records_unaccounted, totals.rows_unaccounted) == (0, {})
