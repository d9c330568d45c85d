# SPDX-License-Identifier: Apache-2.0
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from uuid import UUID

import duckdb
import pandas
import polars
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_examples import (
    DAY_NS,
    MIDNIGHT_NS,
    SECOND_NS,
    example_rows,
    files_below,
    fill_up,
    mounted_tmpfs,
    new_store,
)
from test_manifest import example_manifest

import tracer
from tracer.errors import OutputError
from tracer.store.buffer import Buffer
from tracer.store.parquet import conform
from tracer.store.schemas import HEALTH, TABLES, TICKS, WINDOWS, Table
from tracer.store.writer import Store

RUN_ID = UUID("0123abcd-4567-489a-8bcd-ef0123456789")


def parquet_files(output: Path) -> list[Path]:
    return sorted(output.rglob("*.parquet"))


def read_rows(path: Path) -> pa.Table:
    """One file's rows, without the columns that its directories would add."""
    return pq.ParquetFile(path).read()


def rows_in(output: Path) -> int:
    return sum(pq.read_metadata(path).num_rows for path in parquet_files(output))


def large_rows(seed: int) -> pa.Table:
    """2000 rows in a second of their own, whose file takes about 40 KiB."""
    return example_rows(TICKS, [MIDNIGHT_NS + seed * SECOND_NS + row * 1000 for row in range(2000)], seed)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_file_has_the_schema_order_and_encoding_that_were_promised(tmp_path: Path, table: Table):
    store = new_store(tmp_path, run_id=RUN_ID)
    times_ns = [MIDNIGHT_NS + (row * 7919 % 1000) * SECOND_NS for row in range(1000)]
    appended = example_rows(table, times_ns)
    store.append(table, appended.slice(0, 400))
    store.append(table, appended.slice(400))
    store.close()

    directory = f"{table.name}/dt=2026-11-22/identifier=node-1"
    assert files_below(tmp_path) == [f"{directory}/{table.name}-20261122T000000Z-0123abcd-000000.parquet"]
    file = pq.ParquetFile(parquet_files(tmp_path)[0])
    # Not with check_metadata: that takes the name of a map's entries, which Parquet does not keep, for a part of it.
    assert file.schema_arrow.equals(table.schema)
    assert [field.metadata for field in file.schema_arrow] == [field.metadata for field in table.schema]
    assert file.schema_arrow.metadata == {
        b"tracer.schema_version": b"2",
        b"tracer.table": table.name.encode(),
        b"tracer.run_id": str(RUN_ID).encode(),
        b"tracer.node_name": b"node-1",
        b"tracer.identifier": b"node-1",
        b"tracer.version": tracer.__version__.encode(),
    }
    rows = file.read()
    by_keys = [(name, "ascending") for name in table.sort_columns]
    assert rows.select(table.sort_columns).equals(rows.sort_by(by_keys).select(table.sort_columns))
    every_column = [(name, "ascending") for name in table.sort_columns] + [
        (field.name, "ascending")
        for field in table.schema
        if not pa.types.is_string(field.type) and not pa.types.is_map(field.type)
    ]
    assert rows.sort_by(every_column).equals(conform(table, appended).cast(table.schema).sort_by(every_column))

    group = file.metadata.row_group(0)
    positions = [table.schema.names.index(name) for name in table.sort_columns]
    assert [column.column_index for column in group.sorting_columns] == positions
    columns = {column.path_in_schema: column for column in map(group.column, range(group.num_columns))}
    for field in table.schema:
        column = columns[f"{field.name}.key_value.key" if pa.types.is_map(field.type) else field.name]
        assert column.compression == "ZSTD"
        assert column.statistics.has_min_max
        assert column.has_dictionary_page == pa.types.is_string(field.type)


def test_row_groups_stay_small_enough_to_skip(tmp_path: Path):
    store = new_store(tmp_path)
    store.append(HEALTH, example_rows(HEALTH, [MIDNIGHT_NS + row for row in range(300_000)]))
    store.close()
    metadata = pq.read_metadata(parquet_files(tmp_path)[0])
    groups = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    assert groups == [131_072, 131_072, 37_856]


@pytest.mark.parametrize("identifier", ["node-1", "a/b=c %\n", "..", "é"])
def test_common_readers_open_the_output_with_its_partitions(tmp_path: Path, identifier: str):
    store = new_store(tmp_path, identifier=identifier)
    appended = example_rows(WINDOWS, [MIDNIGHT_NS - SECOND_NS, MIDNIGHT_NS + 59, MIDNIGHT_NS + DAY_NS])
    store.append(WINDOWS, appended)
    store.close()
    directory = tmp_path / "windows"
    expected = pc.sum(appended["cpu_time_ns"]).as_py()

    frame = polars.scan_parquet(directory, hive_partitioning=True).collect()
    assert frame["cpu_time_ns"].sum() == expected
    assert set(frame["identifier"]) == {identifier}

    table = ds.dataset(directory, partitioning="hive").to_table()
    assert pc.sum(table["cpu_time_ns"]).as_py() == expected
    assert set(table["identifier"].to_pylist()) == {identifier}
    assert set(table["dt"].to_pylist()) == {"2026-11-21", "2026-11-22", "2026-11-23"}

    files = str(directory / "**" / "*.parquet")
    query = "select sum(cpu_time_ns), min(identifier), count(distinct dt) from read_parquet(?, hive_partitioning=true)"
    assert duckdb.execute(query, [files]).fetchall() == [(expected, identifier, 3)]

    data = pandas.read_parquet(directory)
    assert int(data["cpu_time_ns"].sum()) == expected
    assert set(data["identifier"]) == {identifier}


def test_rows_wait_until_rotation_is_due(tmp_path: Path):
    store = new_store(tmp_path, rotate_ns=90 * SECOND_NS)
    assert not store.rotate_if_due(5)
    store.append(WINDOWS, example_rows(WINDOWS, [MIDNIGHT_NS]))
    store.append(HEALTH, example_rows(HEALTH, [MIDNIGHT_NS]))
    assert not store.rotate_if_due(4 + 90 * SECOND_NS)
    assert files_below(tmp_path) == []
    assert store.rotate_if_due(5 + 90 * SECOND_NS)
    assert len(parquet_files(tmp_path)) == 2
    store.append(WINDOWS, example_rows(WINDOWS, [MIDNIGHT_NS + SECOND_NS]))
    assert not store.rotate_if_due(6 + 90 * SECOND_NS)
    assert store.rotate_if_due(10 + 180 * SECOND_NS)
    assert [path.name[-14:] for path in parquet_files(tmp_path / "windows")] == ["000000.parquet", "000001.parquet"]


def test_a_day_that_is_over_gets_its_file_before_rotation(tmp_path: Path):
    store = new_store(tmp_path)
    store.rotate_if_due(0)
    store.append(WINDOWS, example_rows(WINDOWS, [MIDNIGHT_NS - 2, MIDNIGHT_NS - 1]))
    store.append(HEALTH, example_rows(HEALTH, [MIDNIGHT_NS + 5]))
    store.rotate_if_due(1)
    assert files_below(tmp_path) == []
    store.append(WINDOWS, example_rows(WINDOWS, [MIDNIGHT_NS - 1, MIDNIGHT_NS]))
    assert not store.rotate_if_due(2)
    [path] = parquet_files(tmp_path)
    assert path.parent.parent.name == "dt=2026-11-21"
    assert pq.read_metadata(path).num_rows == 3
    store.close()
    assert rows_in(tmp_path) == 5


def test_nothing_is_written_for_no_rows(tmp_path: Path):
    store = new_store(tmp_path)
    store.append(WINDOWS, example_rows(WINDOWS, []))
    store.rotate_if_due(0)
    assert store.rotate_if_due(10**18)
    store.close()
    store.close()
    assert files_below(tmp_path) == []


def test_a_small_bound_writes_early_instead_of_holding_rows(tmp_path: Path):
    store = new_store(tmp_path, keep_bytes=10 * 2**20)
    appended = 0
    while not parquet_files(tmp_path):
        store.append(TICKS, large_rows(appended))
        appended += 1
    assert rows_in(tmp_path) == appended * 2000
    assert parquet_files(tmp_path)[0].stat().st_size < 10 * 2**20 // 4


def test_a_buffer_does_not_keep_each_chunks_dictionaries():
    many_names = pa.array([f"/a/path/that/is/long/{name}" for name in range(1000)]).dictionary_encode()
    rows = conform(WINDOWS, example_rows(WINDOWS, [MIDNIGHT_NS] * 10))
    position = rows.column_names.index("cgroup_path")
    rows = rows.set_column(position, rows.schema.field(position), [many_names.slice(0, 10)])
    buffer = Buffer(WINDOWS, 0, 0)
    for _ in range(320):
        buffer.append(rows)
    assert buffer.size < 320 * rows.nbytes / 5
    assert buffer.take_rows().num_rows == 3200


@settings(max_examples=30)
@given(
    st.lists(
        st.one_of(
            st.tuples(
                st.sampled_from(list(TABLES.values())),
                st.lists(st.integers(-DAY_NS, 2 * DAY_NS - 1), max_size=5),
            ),
            st.integers(1, 50),
        ),
        max_size=12,
    )
)
def test_every_row_is_in_exactly_one_file_of_its_day(steps: list[tuple[Table, list[int]] | int]):
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory)
        store = new_store(output, rotate_ns=60)
        now_ns = 0
        expected: dict[str, list[int]] = {name: [] for name in TABLES}
        for step in steps:
            if isinstance(step, int):
                now_ns += step
                store.rotate_if_due(now_ns)
            else:
                table, offsets = step
                times_ns = [MIDNIGHT_NS + offset for offset in offsets]
                store.append(table, example_rows(table, times_ns))
                expected[table.name] += times_ns
        store.close()

        totals = store.totals
        for name, times_ns in expected.items():
            written: list[int] = []
            paths = parquet_files(output / name)
            for path in paths:
                times = read_rows(path)[TABLES[name].time_column]
                days = set(pc.strftime(times, "dt=%Y-%m-%d").to_pylist())
                assert days == {path.parent.parent.name}
                assert path.name.split("-")[1] == pc.strftime(pc.min(times), "%Y%m%dT%H%M%SZ").as_py()[:15] + "Z"
                written += times.cast(pa.int64()).to_pylist()
            assert sorted(written) == sorted(time_ns // 1000 for time_ns in times_ns)
            assert totals.rows.get(name, 0) == len(times_ns)
            assert totals.files.get(name, 0) == len(paths)
            assert totals.bytes.get(name, 0) == sum(path.stat().st_size for path in paths)
        assert not totals.rows_lost


def test_keep_removes_the_oldest_of_all_tables_and_counts_them(tmp_path: Path):
    keep_bytes = 300_000
    store = new_store(tmp_path, keep_bytes=keep_bytes)
    for seed in range(10):
        store.append(HEALTH, example_rows(HEALTH, [MIDNIGHT_NS + seed * SECOND_NS]))
        store.append(TICKS, large_rows(seed))
        store.close()
        assert sum(path.stat().st_size for path in parquet_files(tmp_path)) <= keep_bytes
    totals = store.totals
    assert totals.rows == {"health": 10, "ticks": 20_000}
    assert totals.files_removed > 0
    assert len(parquet_files(tmp_path)) == sum(totals.files.values()) - totals.files_removed
    starts = [path.name.split("-")[1] for path in parquet_files(tmp_path / "ticks")]
    assert starts[-1] == "20261122T000009Z"
    assert starts[0] > "20261122T000000Z"


def test_stop_at_keep_loses_nothing_silently(tmp_path: Path):
    store = new_store(tmp_path, keep_bytes=300_000, on_full="stop")
    appended = 0
    failure = None
    while failure is None:
        try:
            appended += 2000
            store.append(TICKS, large_rows(appended))
            store.close()
        except OutputError as error:
            failure = error
    assert "--keep" in str(failure)
    # What is small enough still has its place; the run ends with what has none.
    store.append(HEALTH, example_rows(HEALTH, [MIDNIGHT_NS]))
    with pytest.raises(OutputError, match="--keep"):
        store.close()
    totals = store.totals
    assert totals.rows["ticks"] == rows_in(tmp_path / "ticks")
    assert totals.rows["ticks"] + totals.rows_lost["ticks"] == appended
    assert totals.rows_lost == {"ticks": 2000}
    assert len(parquet_files(tmp_path / "health")) == 1
    assert sum(path.stat().st_size for path in parquet_files(tmp_path)) <= 300_000


@pytest.mark.root
def test_a_full_disk_makes_room_for_the_newest(tmp_path: Path):
    with mounted_tmpfs(tmp_path / "disk", "size=512k") as disk:
        store = new_store(disk)
        for seed in range(14):
            store.append(TICKS, large_rows(seed))
            store.close()
        store.write_manifest(example_manifest())
        totals = store.totals
        assert totals.rows == {"ticks": 28_000}
        assert not totals.rows_lost
        assert totals.files_removed > 0
        starts = [path.name.split("-")[1] for path in parquet_files(disk)]
        assert starts == [f"20261122T0000{second:02}Z" for second in range(14 - len(starts), 14)]
        assert rows_in(disk) == len(starts) * 2000
        assert not [name for name in files_below(disk) if name.endswith(".inprogress")]


@pytest.mark.root
def test_a_manifest_finds_room_on_a_full_disk(tmp_path: Path):
    with mounted_tmpfs(tmp_path / "disk", "size=512k") as disk:
        store = new_store(disk, run_id=RUN_ID)
        store.append(TICKS, large_rows(0))
        store.close()
        fill_up(disk / "ballast")
        store.write_manifest(example_manifest())
        assert files_below(disk) == ["ballast", f"runs/{RUN_ID}/session.json"]
        assert store.totals.files_removed == 1


@pytest.mark.root
def test_a_disk_filled_by_others_ends_in_one_line_and_a_count(tmp_path: Path):
    with mounted_tmpfs(tmp_path / "disk", "size=512k") as disk:
        store = new_store(disk, on_full="stop")
        store.append(TICKS, large_rows(0))
        store.close()
        before = files_below(disk)
        fill_up(disk / "ballast")
        store.append(TICKS, large_rows(1))
        store.append(HEALTH, example_rows(HEALTH, [MIDNIGHT_NS]))
        with pytest.raises(OutputError, match="No space left") as failure:
            store.close()
        assert "\n" not in str(failure.value)
        totals = store.totals
        assert totals.rows == {"ticks": 2000}
        assert totals.rows_lost == {"ticks": 2000, "health": 1}
        assert [name for name in files_below(disk) if "ballast" not in name] == before


def test_an_output_that_vanished_is_made_again(tmp_path: Path):
    output = tmp_path / "out"
    store = new_store(output)
    store.append(TICKS, large_rows(0))
    store.close()
    output.rename(tmp_path / "moved away")
    store.append(TICKS, large_rows(1))
    store.close()
    assert rows_in(output) == 2000


KILLED_BEFORE_THE_NAME = """
import os, signal, sys
from pathlib import Path
from store_examples import MIDNIGHT_NS, example_rows, new_store
from tracer.store.schemas import WINDOWS

store = new_store(Path(sys.argv[1]))
store.append(WINDOWS, example_rows(WINDOWS, [MIDNIGHT_NS]))
store.close()
sys.addaudithook(lambda event, _: os.kill(os.getpid(), signal.SIGKILL) if event == "os.link" else None)
store.append(WINDOWS, example_rows(WINDOWS, [MIDNIGHT_NS + 1]))
store.close()
"""


def test_a_kill_before_a_file_has_its_name_leaves_nothing_of_it(tmp_path: Path):
    tests = Path(__file__).parents[1]
    environment = {"PYTHONPATH": f"{tests}:{tests.parent}"}
    child = subprocess.run([sys.executable, "-c", KILLED_BEFORE_THE_NAME, tmp_path], env=environment, check=False)
    assert child.returncode == -signal.SIGKILL
    assert rows_in(tmp_path) == 1
    assert all(name.endswith(".parquet") for name in files_below(tmp_path))
    frame = polars.scan_parquet(tmp_path / "windows" / "**" / "*.parquet", hive_partitioning=True)
    assert frame.collect().height == 1


def test_runs_that_share_an_output_do_not_harm_each_other(tmp_path: Path):
    keep_bytes = 200_000
    # One identifier and little room: each removes the other's files and, while they are empty, its directories.
    stores = [new_store(tmp_path, keep_bytes=keep_bytes) for _ in range(3)]
    failures: list[BaseException] = []

    def work(store: Store, day: int) -> None:
        try:
            for step in range(30):
                time_ns = MIDNIGHT_NS + day * DAY_NS + step * DAY_NS
                store.append(TICKS, example_rows(TICKS, [time_ns + row for row in range(200)]))
                store.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(store, day)) for day, store in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [store.totals.rows for store in stores] == [{"ticks": 6000}] * 3
    assert [store.totals.rows_lost for store in stores] == [{}] * 3
    left = files_below(tmp_path)
    assert all(name.endswith(".parquet") for name in left)
    assert rows_in(tmp_path) == 200 * len(left)


def test_rows_of_another_schema_are_a_defect_and_harm_nothing(tmp_path: Path):
    store = new_store(tmp_path)
    store.append(WINDOWS, example_rows(WINDOWS, [MIDNIGHT_NS]))
    with pytest.raises(ValueError, match="columns are"):
        store.append(WINDOWS, example_rows(TICKS, [MIDNIGHT_NS]))
    store.close()
    assert rows_in(tmp_path) == 1


def test_a_hostile_identifier_stays_inside_the_output(tmp_path: Path):
    output = tmp_path / "out"
    store = new_store(output, identifier="../../../escaped\n\0")
    store.append(WINDOWS, example_rows(WINDOWS, [MIDNIGHT_NS]))
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    [path] = parquet_files(output)
    assert path.parent.name == "identifier=..%2F..%2F..%2Fescaped%0A%00"


def test_a_file_is_synced_before_it_gets_its_name_and_the_name_after(tmp_path: Path):
    store = new_store(tmp_path)
    store.append(WINDOWS, example_rows(WINDOWS, [MIDNIGHT_NS]))
    store.close()
    store.append(WINDOWS, example_rows(WINDOWS, [MIDNIGHT_NS]))
    calls: list[str] = []

    def note(_frame: FrameType, event: str, function: object) -> None:
        if event == "c_call" and function in (os.fsync, os.link):
            calls.append(function.__name__)

    sys.setprofile(note)
    try:
        store.close()
    finally:
        sys.setprofile(None)
    assert calls == ["fsync", "link", "fsync"]


def test_a_reader_of_the_manifest_never_sees_half_of_it(tmp_path: Path):
    store = new_store(tmp_path, run_id=RUN_ID)
    store.write_manifest(example_manifest(notes=[]))
    path = tmp_path / "runs" / str(RUN_ID) / "session.json"
    stop = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not stop.is_set():
            seen.append(len(json.loads(path.read_bytes())["notes"]))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for count in range(100):
            store.write_manifest(example_manifest(notes=["note"] * count))
    finally:
        stop.set()
        reader.join()
    assert seen == sorted(seen)
