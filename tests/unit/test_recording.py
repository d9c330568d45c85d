# SPDX-License-Identifier: Apache-2.0
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import msgspec
import polars as pl
import pyarrow.parquet as pq
import pytest
from recording_examples import START, windows_rows, write_rows
from store_examples import new_store
from test_manifest import example_manifest

from tracer.analysis.recorded_files import BrokenFilesError
from tracer.analysis.recording import of_what_can_be_read, open_recording, polars_schema
from tracer.errors import UsageError
from tracer.store.manifest import Instant
from tracer.store.schemas import TABLES

OTHER_ID = UUID("0123ffff-4567-489a-8bcd-ef0123456789")
RUN_ID = UUID("0123abcd-4567-489a-8bcd-ef0123456789")


def one_file(output: Path, table: str = "windows") -> Path:
    (path,) = output.glob(f"{table}/*/*/*.parquet")
    return path


def rewrite(path: Path, *, drop: tuple[str, ...] = (), metadata: dict[bytes, bytes] | None = None) -> None:
    """The same file, as another version would have written it."""
    rows = pq.read_table(path, partitioning=None)
    rows = rows.drop_columns(list(drop))
    pq.write_table(rows.replace_schema_metadata({**rows.schema.metadata, **(metadata or {})}), path)


@pytest.mark.parametrize("table", TABLES)
def test_every_table_is_scanned_with_its_columns_and_types_also_where_it_has_no_file(
    table: str, tmp_path: Path
) -> None:
    write_rows(tmp_path, "windows", windows_rows(3))
    rows = open_recording([tmp_path]).scan(table)
    assert rows.collect_schema() == polars_schema(table)
    assert rows.collect().height == (3 if table == "windows" else 0)


def test_directories_runs_and_nodes_are_one_recording(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    write_rows(first, "windows", windows_rows(10), node_name="node-1")
    write_rows(first, "windows", windows_rows(10, window_start=START + timedelta(hours=1)), node_name="node-1")
    write_rows(second, "windows", windows_rows(5), node_name="node-3")
    write_rows(second, "windows", windows_rows(5), node_name="node-2")
    recording = open_recording([first, second])
    assert recording.nodes == ["node-1", "node-2", "node-3"]
    assert recording.span.start == START
    assert recording.span.end == START + timedelta(hours=1, microseconds=1)
    assert recording.collect(recording.scan("windows")).height == 30
    assert recording.has("windows")
    assert not recording.has("ticks")


def test_a_copy_in_another_directory_is_read_once_and_said(tmp_path: Path) -> None:
    write_rows(tmp_path / "a", "windows", windows_rows(4))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    recording = open_recording([tmp_path / "a", tmp_path / "b"])
    assert recording.scan("windows").collect().height == 4
    assert recording.notes == ["read once: 1 files that lie in more than one of the directories"]


def test_only_what_lies_in_the_time_range_is_read(tmp_path: Path) -> None:
    write_rows(tmp_path, "windows", windows_rows(1000))
    write_rows(tmp_path, "resources", [{"time": START + timedelta(seconds=second)} for second in range(60)])
    recording = open_recording([tmp_path], since=START + timedelta(seconds=6), until="2026-11-22T14:00:12Z")
    assert recording.scan("windows").collect()["window_tick"].to_list() == list(range(6000, 12000, 60))
    assert recording.scan("resources").collect().height == 6
    assert recording.span == (START + timedelta(seconds=6), START + timedelta(seconds=12))


def test_files_out_of_the_time_range_are_not_even_opened(tmp_path: Path) -> None:
    write_rows(tmp_path, "windows", windows_rows(10))
    write_rows(tmp_path, "ticks", [{"tick_start": START + timedelta(hours=5)}])
    assert not open_recording([tmp_path], until="14:01").has("ticks")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("14:00", START),
        ("14:02:03.5", START + timedelta(seconds=123.5)),
        ("13:30", START + timedelta(hours=23, minutes=30)),
        ("2026-11-22 14:02", START + timedelta(minutes=2)),
        ("2026-11-22T16:02+02:00", START + timedelta(minutes=2)),
    ],
)
def test_times_as_people_write_them(text: str, moment: datetime, tmp_path: Path) -> None:
    write_rows(tmp_path, "windows", windows_rows(1))
    write_rows(tmp_path, "windows", windows_rows(1, window_start=START + timedelta(days=2)))
    assert open_recording([tmp_path], since=text).span.start == moment


@pytest.mark.parametrize(
    "text", ["", "25:00", "yesterday", "2026-13-01", "0001-01-01T00:00+23:59", "9" * 5000, "\x1b[2J"]
)
def test_what_is_no_time_is_refused(text: str, tmp_path: Path) -> None:
    write_rows(tmp_path, "windows", windows_rows(1))
    with pytest.raises(UsageError, match="not a time") as refused:
        open_recording([tmp_path], since=text)
    assert str(refused.value).isprintable()


def test_a_time_without_rows_is_refused_with_the_times_that_have_some(tmp_path: Path) -> None:
    write_rows(tmp_path, "windows", windows_rows(1000))
    with pytest.raises(UsageError, match="from 2026-11-22 14:00:00 UTC to 2026-11-22 14:00:59 UTC"):
        open_recording([tmp_path], since="15:00")


def test_wanted_is_what_was_asked_for(tmp_path: Path) -> None:
    pod = {"pod_name": "web-1", "namespace": "shop", "container_id": "0123456789abcdef" * 4}
    write_rows(tmp_path, "windows", windows_rows(1, container_name="app", **pod))
    write_rows(tmp_path, "windows", windows_rows(1, cgroup_id=8, container_name="sidecar", **pod))
    write_rows(tmp_path, "windows", windows_rows(1, cgroup_id=9, cgroup_kind="unit", cgroup_path="/a/ssh.service"))

    def wanted(**asked: str) -> list[int]:
        recording = open_recording([tmp_path], **asked)
        return sorted(recording.scan("windows").filter(recording.is_wanted()).collect()["cgroup_id"].to_list())

    assert wanted() == [7, 8, 9]
    assert wanted(container="app") == wanted(container="web-1/app") == wanted(container="shop/web-1/app") == [7]
    assert wanted(container="web-1") == wanted(container="0123456") == wanted(namespace="shop") == [7, 8]
    assert wanted(container="ssh.service") == wanted(container="/a/ssh.service") == [9]
    assert (
        wanted(container="0123") == wanted(namespace="other") == wanted(container="ssh.service", namespace="shop") == []
    )


def test_a_column_that_an_older_file_lacks_is_null_and_one_that_nobody_knows_is_ignored(tmp_path: Path) -> None:
    write_rows(tmp_path, "windows", windows_rows(2, llc_misses=5))
    rewrite(one_file(tmp_path), drop=("llc_misses", "counter_coverage"))
    write_rows(tmp_path, "windows", windows_rows(2, llc_misses=5))
    recording = open_recording([tmp_path])
    assert sorted(recording.scan("windows").collect()["llc_misses"].to_list(), key=str) == [5, 5, None, None]
    path = next(tmp_path.glob("windows/*/*/*.parquet"))
    rows = pq.read_table(path, partitioning=None)
    pq.write_table(rows.append_column("of_tomorrow", rows["cpus"]), path)
    assert open_recording([tmp_path]).scan("windows").collect_schema() == polars_schema("windows")
    assert open_recording([tmp_path]).scan("windows").collect().height == 4


def test_a_file_of_a_newer_schema_is_refused_by_its_name(tmp_path: Path) -> None:
    write_rows(tmp_path, "windows", windows_rows(2))
    rewrite(one_file(tmp_path), metadata={b"tracer.schema_version": b"3"})
    with pytest.raises(UsageError, match=r"windows-.*parquet' has schema version 3; this tracer reads up to 2"):
        open_recording([tmp_path])


def test_a_column_of_another_type_is_refused_by_its_name(tmp_path: Path) -> None:
    write_rows(tmp_path, "windows", windows_rows(2))
    rows = pq.read_table(one_file(tmp_path), partitioning=None)
    rows = rows.set_column(rows.schema.get_field_index("cycles"), "cycles", rows["cpus"].cast("double"))
    pq.write_table(rows, one_file(tmp_path))
    with pytest.raises(UsageError, match=r"windows-.*parquet' has a column 'cycles' of double, not int64"):
        open_recording([tmp_path])


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not Parquet at all" * 9, None])
def test_a_file_that_is_none_is_refused_by_its_name(content: bytes | None, tmp_path: Path) -> None:
    write_rows(tmp_path, "windows", windows_rows(200))
    path = one_file(tmp_path)
    path.write_bytes(path.read_bytes()[:-5] if content is None else content)
    with pytest.raises(UsageError, match=r"windows-.*parquet' is broken, or no Parquet file"):
        open_recording([tmp_path])


def test_a_file_with_broken_rows_costs_itself(tmp_path: Path) -> None:
    write_rows(tmp_path, "windows", windows_rows(5))
    write_rows(tmp_path, "windows", windows_rows(5000))
    path = max(tmp_path.glob("windows/*/*/*.parquet"), key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[4:2000] = os.urandom(1996)
    path.write_bytes(content)
    recording = open_recording([tmp_path])
    with pytest.raises(BrokenFilesError, match=f"{path.name}' is broken"):
        recording.collect(recording.scan("windows"))

    @of_what_can_be_read
    def rows() -> int:
        return recording.collect(recording.scan("windows")).height

    assert rows() == 5
    assert f"{path.name}' is broken" in recording.notes[0]


def test_where_no_file_can_be_read_it_is_said_why(tmp_path: Path) -> None:
    write_rows(tmp_path, "windows", windows_rows(5000))
    path = one_file(tmp_path)
    content = bytearray(path.read_bytes())
    content[4:2000] = os.urandom(1996)
    path.write_bytes(content)
    recording = open_recording([tmp_path])
    with pytest.raises(UsageError, match=f"nothing can be read.*{path.name}' is broken"):
        of_what_can_be_read(recording.collect)(recording.scan("windows"))


def test_a_pipe_in_place_of_a_file_does_not_block(tmp_path: Path) -> None:
    write_rows(tmp_path, "windows", windows_rows(2))
    path = one_file(tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UsageError, match="is not a regular file"):
        open_recording([tmp_path])


def test_directories_without_a_recording_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*No such file"):
        open_recording([tmp_path / "absent"])
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="is not a directory"):
        open_recording([tmp_path / "file"])
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UsageError, match="holds no recording of `tracer run`: no <table>"):
        open_recording([empty])
    new_store(empty, run_id=RUN_ID).write_manifest(example_manifest())
    with pytest.raises(UsageError, match="a run began there, but no file was closed yet"):
        open_recording([empty])


def test_unfinished_files_are_not_read_and_said(tmp_path: Path) -> None:
    write_rows(tmp_path, "windows", windows_rows(2))
    path = one_file(tmp_path)
    unfinished = path.with_name(path.name.replace("000000", "000001") + ".inprogress")
    unfinished.write_bytes(b"half")
    recording = open_recording([tmp_path])
    assert recording.scan("windows").collect().height == 2
    assert recording.notes == ["not read: 1 files that are still being written, or were when a run died"]
    path.unlink()
    with pytest.raises(UsageError, match="its 1 files are all unfinished"):
        open_recording([tmp_path])


def test_files_without_a_row_are_a_clear_refusal(tmp_path: Path) -> None:
    write_rows(tmp_path, "windows", windows_rows(2))
    path = one_file(tmp_path)
    pq.write_table(pq.read_table(path, partitioning=None).slice(0, 0), path)
    with pytest.raises(UsageError, match="not one row"):
        open_recording([tmp_path])


def test_manifests_of_the_runs_that_left_files_by_start(tmp_path: Path) -> None:
    assert open_recording([recorded(tmp_path / "a")]).manifests == []
    output = recorded(tmp_path / "b", run_id=RUN_ID)
    store = new_store(output, run_id=RUN_ID)
    store.write_manifest(example_manifest())
    other = UUID("fedcba98-4567-489a-8bcd-ef0123456789")
    write_rows(output, "windows", windows_rows(2), run_id=other)
    earlier = msgspec.structs.replace(example_manifest(), run_id=other, start=Instant.of(1))
    new_store(output, run_id=other).write_manifest(earlier)
    without_files = msgspec.structs.replace(example_manifest(), run_id=UUID(int=7))
    new_store(output, run_id=UUID(int=7)).write_manifest(without_files)
    assert [manifest.run_id for manifest in open_recording([output]).manifests] == [other, RUN_ID]


@pytest.mark.parametrize(
    ("found", "put", "why"),
    [
        (b'"schema_version": 2', b'"schema_version": 3', "has schema version 3; this tracer reads 1 to 2"),
        (b'"tick_ns": 1000000', b'"tick_ns": 1e300', "is not a run's manifest"),
        (b'"utc_ns": ', b'"utc_ns": 99999999999999', "is not a run's manifest"),
        (b"0123abcd-", b"0123abce-", "is of another run than its directory"),
        (b"{", b"{" * 100_000, "is not a run's manifest"),
    ],
)
def test_a_broken_manifest_costs_itself(found: bytes, put: bytes, why: str, tmp_path: Path) -> None:
    output = recorded(tmp_path, run_id=RUN_ID)
    new_store(output, run_id=RUN_ID).write_manifest(example_manifest())
    path = output / "runs" / str(RUN_ID) / "session.json"
    assert found in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(found, put))
    recording = open_recording([output])
    assert recording.manifests == []
    (note,) = recording.notes
    assert note.startswith(f"left out: '{path}' ")
    assert why in note
    assert recording.collect(recording.scan("windows")).height == 2


def recorded(output: Path, run_id: UUID | None = None) -> Path:
    write_rows(output, "windows", windows_rows(2), run_id=run_id)
    return output


def test_times_are_utc_whatever_was_given(tmp_path: Path) -> None:
    write_rows(tmp_path, "windows", windows_rows(100))
    span = open_recording([tmp_path], since=(START + timedelta(seconds=1)).astimezone()).span
    assert span.start == START + timedelta(seconds=1)
    assert span.start.tzinfo is UTC
    assert pl.Series([span.start]).dtype == pl.Datetime("us", "UTC")


def test_runs_at_other_times_are_no_part_of_a_time_range(tmp_path: Path) -> None:
    for run_id, start in ((RUN_ID, START), (OTHER_ID, START + timedelta(hours=1))):
        write_rows(tmp_path, "windows", windows_rows(3, window_start=start), run_id=run_id)
        store = new_store(tmp_path, run_id=run_id)
        store.write_manifest(example_manifest(run_id=run_id))
        store.close()
    assert {one.run_id for one in open_recording([tmp_path]).manifests} == {RUN_ID, OTHER_ID}
    assert [one.run_id for one in open_recording([tmp_path], until="+10m").manifests] == [RUN_ID]
    assert [one.run_id for one in open_recording([tmp_path], since="15:00").manifests] == [OTHER_ID]


def test_one_run_of_several_by_how_its_id_begins(tmp_path: Path) -> None:
    write_rows(tmp_path, "windows", windows_rows(3), run_id=RUN_ID)
    write_rows(tmp_path, "windows", windows_rows(5), run_id=OTHER_ID)
    assert open_recording([tmp_path], run="0123f").scan("windows").collect().height == 5
    assert open_recording([tmp_path], run=str(RUN_ID)).scan("windows").collect().height == 3
    with pytest.raises(UsageError, match="more than one run begins with '0123'; there are: 0123abcd, 0123ffff"):
        open_recording([tmp_path], run="0123")
    with pytest.raises(UsageError, match="no run begins with 'x'"):
        open_recording([tmp_path], run="x")
