# SPDX-License-Identifier: Apache-2.0
"""A run's store, and a recovery, killed at each of their system calls: nothing is lost, nothing is there twice."""

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fault_points import Call, calls_of, killed_at
from manifest_examples import RUN_ID, example_manifest
from store_examples import MIDNIGHT_NS, SECOND_NS, example_rows, files_below, new_store

from tracer.store.layout import IN_PROGRESS, journal_directory, manifest_path
from tracer.store.manifest import Manifest, read_manifest
from tracer.store.parquet import conform
from tracer.store.recovery import recover
from tracer.store.schemas import HEALTH, WINDOWS, Table
from tracer.store.writer import JournalOptions, Store

pytestmark = pytest.mark.root

TABLES = (WINDOWS, HEALTH)
ROWS = 5


def rows_of(table: Table, part: int) -> pa.Table:
    return example_rows(table, [MIDNIGHT_NS + part * SECOND_NS + row * 1_000_000 for row in range(ROWS)], part)


def manifest(status: str, store: Store | None = None) -> Manifest:
    host = msgspec.structs.replace(example_manifest().host, identifier="node-1")
    totals = msgspec.structs.replace(example_manifest().totals, rows={} if store is None else store.totals.rows)
    return msgspec.structs.replace(example_manifest(), run_id=RUN_ID, status=status, end=None, host=host, totals=totals)


def begun(output: Path, *, sync: bool) -> Store:
    options = JournalOptions(sync=sync, note=lambda _note: None)
    store = new_store(output, run_id=RUN_ID, rotate_ns=SECOND_NS, journal=options)
    store.write_manifest(manifest("running"))
    store.rotate_if_due(0)
    return store


def a_run(output: Path, told: Path, *, sync: bool) -> None:
    """Rows to journals, a rotation, rows to journals again, and an end. `told` gets a byte for each that are safe."""
    store = begun(output, sync=sync)
    with told.open("wb", buffering=0) as safe:
        for part in range(2):
            for table in TABLES:
                store.append(table, rows_of(table, part))
                safe.write(b".")
        store.rotate_if_due(SECOND_NS)
        store.write_manifest(manifest("running", store))
        store.note_totals(manifest("running", store).totals)
        for table in TABLES:
            store.append(table, rows_of(table, 2))
            safe.write(b".")
        store.close()
        store.write_manifest(manifest("finished", store))
        store.release()


ORDER = [(table, part) for part in range(3) for table in TABLES]


def check(output: Path, safe: int) -> None:
    """Of the first `safe` parts all rows are there once, and of the next, if it is there, too."""
    found = {
        table: [pq.ParquetFile(path).read() for path in sorted((output / table.name).rglob("*.parquet"))]
        for table in TABLES
    }
    count = sum(rows.num_rows for parts in found.values() for rows in parts)
    assert count in (safe * ROWS, (safe + 1) * ROWS)
    for table, parts in found.items():
        wanted = [rows_of(table, part) for of, part in ORDER[: count // ROWS] if of is table]
        if not wanted:
            assert not parts
            continue
        by = [(name, "ascending") for name in table.sort_columns]
        expected = pa.concat_tables([conform(table, rows).cast(table.schema) for rows in wanted]).sort_by(by)
        assert pa.concat_tables(parts).sort_by(by).equals(expected)


def described(output: Path) -> tuple[dict[str, bytes], Manifest]:
    """Everything that is there: closed files by name, and the manifest."""
    contents = {name: (output / name).read_bytes() for name in files_below(output) if not name.endswith(".json")}
    return contents, read_manifest(manifest_path(output, RUN_ID))


@pytest.fixture
def some(request: pytest.FixtureRequest) -> Callable[[list[Call]], list[Call]]:
    """All system calls of `make chaos`, and enough for all kinds where there is less time."""
    step = 1 if request.config.getoption("--kills") else 7
    return lambda calls: calls[::step]


@pytest.fixture(autouse=True)
def nothing_left_to_import(tmp_path: Path) -> None:
    """So that each process does the same."""
    a_run(tmp_path / "first", tmp_path / "told", sync=False)
    recover(tmp_path / "first")


@pytest.mark.parametrize("sync", [False, True], ids=["", "sync"])
def test_a_run_killed_at_each_of_its_system_calls(
    tmp_path: Path, sync: bool, some: Callable[[list[Call]], list[Call]]
) -> None:
    output, told = tmp_path / "results", tmp_path / "told"
    calls = some(calls_of(lambda: a_run(output, told, sync=sync), tmp_path / "calls"))
    check(output, len(ORDER))
    for call in calls:
        shutil.rmtree(output, ignore_errors=True)
        told.unlink(missing_ok=True)
        killed_at(lambda: a_run(output, told, sync=sync), call)
        safe = told.stat().st_size if told.exists() else 0
        if output.exists() and (output / "runs").exists():
            found = recover(output)
            assert found.unwritten == found.live == []
            path = manifest_path(output, RUN_ID)
            assert len(found.problems) == (not path.exists() and (path.parent / "journal").exists()), call
            assert [run.problems for run in found.runs] in ([], [[]])
        check(output, safe)
        left = [name for name in files_below(output) if not name.endswith((".parquet", ".json"))]
        assert left == [], call
    print(f"killed at {len(calls)} system calls")


def test_a_recovery_killed_at_each_of_its_system_calls(tmp_path: Path) -> None:
    killed, told = tmp_path / "killed", tmp_path / "told"
    # In the midst of a rotation: of one file the journal is still there, of others rows are in no file yet.
    calls = calls_of(lambda: a_run(killed, told, sync=False), tmp_path / "calls")
    second = [call for call in calls if "journal" in call.shown and call.name == "unlinkat"]
    shutil.rmtree(killed)
    killed_at(lambda: a_run(killed, told, sync=False), second[0])
    output = tmp_path / "results"
    shutil.copytree(killed, output)
    calls = calls_of(lambda: recover(output), tmp_path / "calls")
    check(output, 4)
    whole = described(output)
    assert whole[1].status == "crashed"
    assert recover(output).runs == []
    assert described(output) == whole
    for call in calls:
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(killed, output)
        killed_at(lambda: recover(output), call)
        recover(output)
        assert described(output) == whole, call
        assert recover(output).runs == []
        assert not (output / journal_directory(RUN_ID)).exists()
        assert not [name for name in files_below(output) if name.endswith(IN_PROGRESS)]
    print(f"killed at {len(calls)} system calls")
