# SPDX-License-Identifier: Apache-2.0
import errno
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from json_answers import answer_of
from store_examples import (
    MIDNIGHT_NS,
    SECOND_NS,
    example_rows,
    files_below,
    fill_up,
    mounted_tmpfs,
    new_store,
    remount_read_only,
)
from test_manifest import example_manifest

from tracer.cli.main import app
from tracer.errors import OutputError, UsageError
from tracer.store import journal_rows, recovery
from tracer.store.directories import directory_mode, open_below
from tracer.store.journal import (
    DamagedJournalError,
    Journal,
    encode_frame,
    read_frames,
)
from tracer.store.layout import journal_directory, manifest_path
from tracer.store.manifest import Totals, encode_manifest, read_manifest
from tracer.store.open_runs import RunLock
from tracer.store.parquet import conform
from tracer.store.recovery import recover
from tracer.store.retention import Retention
from tracer.store.schemas import HEALTH, TABLES, WAITS, WINDOWS, Table
from tracer.store.writer import JournalOptions, Store

RUN_ID = UUID("0123abcd-4567-489a-8bcd-ef0123456789")


def rows_of(table: Table, count: int, salt: int = 0) -> pa.Table:
    return example_rows(table, [MIDNIGHT_NS + salt * SECOND_NS + row * 1_000_000 for row in range(count)], salt)


def with_journal(output: Path, notes: list[str] | None = None, **options: object) -> Store:
    """A store with a journal and a manifest, as a run has from its beginning."""
    told = [] if notes is None else notes
    store = new_store(output, run_id=RUN_ID, journal=JournalOptions(sync=False, note=told.append), **options)  # type: ignore[arg-type]
    manifest = example_manifest()
    host = msgspec.structs.replace(manifest.host, identifier="node-1")
    store.write_manifest(
        msgspec.structs.replace(manifest, run_id=RUN_ID, status="running", end=None, host=host, totals=Totals())
    )
    return store


def killed(store: Store) -> None:
    """What of it is left when its process is killed: the kernel closes its files and gives its lock back."""
    for buffer in store._buffers.values():
        if buffer.journal is not None:
            buffer.journal.close()
    assert store._lock is not None
    store._lock.close()
    store._lock = None


def journals(output: Path) -> list[Path]:
    return sorted((output / journal_directory(RUN_ID)).glob("*"))


def all_rows(output: Path, table: Table) -> pa.Table:
    found = [pq.ParquetFile(path).read() for path in sorted((output / table.name).rglob("*.parquet"))]
    return pa.concat_tables(found).sort_by([(name, "ascending") for name in table.sort_columns])


def expected(table: Table, *parts: pa.Table) -> pa.Table:
    rows = pa.concat_tables([conform(table, part).cast(table.schema) for part in parts])
    return rows.sort_by([(name, "ascending") for name in table.sort_columns])


def frames_of(content: bytes, directory: Path) -> list[pa.Table]:
    (directory / "some.journal").write_bytes(content)
    with (directory / "some.journal").open("rb") as journal:
        return list(read_frames(journal))


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_rows_of_a_killed_run_become_its_files(tmp_path: Path, table: Table) -> None:
    store = with_journal(tmp_path)
    parts = [rows_of(table, 20, salt) for salt in range(3)]
    for part in parts:
        store.append(table, part)
    assert not (tmp_path / table.name).exists()
    killed(store)
    (run,) = recover(tmp_path).runs
    assert (run.run_id, run.was_killed, run.rows, run.problems) == (RUN_ID, True, {table.name: 60}, [])
    assert all_rows(tmp_path, table).equals(expected(table, *parts))
    (path,) = tmp_path.rglob("*.parquet")
    assert path.name == f"{table.name}-20261122T000000Z-0123abcd-000000.parquet"
    assert pq.read_schema(path).metadata[b"tracer.run_id"] == str(RUN_ID).encode()
    assert not (tmp_path / journal_directory(RUN_ID)).exists()
    manifest = read_manifest(manifest_path(tmp_path, RUN_ID))
    assert (manifest.status, manifest.recovered, manifest.totals.rows) == ("crashed", run.rows, run.rows)
    assert manifest.end is not None
    assert manifest.end.utc_ns == MIDNIGHT_NS + 2 * SECOND_NS + 19_000_000
    assert recover(tmp_path).runs == []


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_what_is_recovered_can_be_read_by_whom_the_run_let(tmp_path: Path, mode: int) -> None:
    store = with_journal(tmp_path, mode=mode)
    store.append(WINDOWS, rows_of(WINDOWS, 1))
    (journal,) = journals(tmp_path)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (journal, journal.parent)] == [0o600, 0o700]
    killed(store)
    retention = Retention(tmp_path, "node-1", None, "stop", node_name="node-1", mode=0o604)
    assert recover(tmp_path, retention).runs[0].rows == {"windows": 1}
    made = {path.is_dir(): stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert made == {True: directory_mode(mode), False: mode}
    assert len({(path.is_dir(), path.stat().st_mode) for path in tmp_path.rglob("*")}) == 2


def test_what_is_in_closed_files_is_not_recovered_again(tmp_path: Path) -> None:
    store = with_journal(tmp_path, rotate_ns=SECOND_NS)
    first, second = rows_of(WINDOWS, 10), rows_of(WINDOWS, 10, 1)
    store.append(WINDOWS, first)
    (journal,) = journals(tmp_path)
    content = journal.read_bytes()
    store.rotate_if_due(0)
    store.rotate_if_due(SECOND_NS)
    assert journals(tmp_path) == []
    # Killed just before the journal of the closed file was removed.
    journal.write_bytes(content)
    store.append(WINDOWS, second)
    killed(store)
    (run,) = recover(tmp_path).runs
    assert run.rows == {"windows": 10}
    assert all_rows(tmp_path, WINDOWS).equals(expected(WINDOWS, first, second))
    assert read_manifest(manifest_path(tmp_path, RUN_ID)).totals.rows == {"windows": 20}


def test_what_comes_while_files_are_closed_waits_for_one_of_them(tmp_path: Path) -> None:
    tables = [WINDOWS, HEALTH, WAITS]
    store = with_journal(tmp_path, rotate_ns=SECOND_NS)
    for table in tables:
        store.append(table, rows_of(table, 10))
    closed = []

    def append() -> None:
        closed.append(len(list(tmp_path.rglob("*.parquet"))))
        store.append(WINDOWS, rows_of(WINDOWS, 1, len(closed)))
        assert "windows-000001.journal" in [path.name for path in journals(tmp_path)]

    store.rotate_if_due(0)
    assert store.rotate_if_due(SECOND_NS, append)
    assert closed == [1, 2, 3]
    killed(store)
    recover(tmp_path)
    expected_parts = [rows_of(WINDOWS, 10), *(rows_of(WINDOWS, 1, salt) for salt in (1, 2, 3))]
    assert all_rows(tmp_path, WINDOWS).equals(expected(WINDOWS, *expected_parts))


def test_a_file_that_goes_early_while_others_are_closed_is_closed_once(tmp_path: Path) -> None:
    tables = [WINDOWS, HEALTH, WAITS]
    store = with_journal(tmp_path, rotate_ns=SECOND_NS, keep_bytes=4 * 200_000)
    for table in tables:
        store.append(table, rows_of(table, 10))
    store.rotate_if_due(0)
    # More than the store holds, so that this one goes at once: it is not its turn then any more.
    store.rotate_if_due(SECOND_NS, lambda: store.append(WAITS, rows_of(WAITS, 2000, 1)))
    store.close()
    assert all_rows(tmp_path, WAITS).num_rows == 10 + 2 * 2000


def test_a_run_that_ends_leaves_no_journal(tmp_path: Path) -> None:
    store = with_journal(tmp_path)
    store.append(WINDOWS, rows_of(WINDOWS, 10))
    store.append(HEALTH, rows_of(HEALTH, 10))
    assert [path.name for path in journals(tmp_path)] == ["health-000000.journal", "windows-000000.journal"]
    store.close()
    store.release()
    assert [path for path in files_below(tmp_path) if not path.endswith(".parquet")] == [f"runs/{RUN_ID}/session.json"]
    assert not (tmp_path / journal_directory(RUN_ID)).exists()
    assert recover(tmp_path).runs == []


def test_a_run_that_is_live_is_left_alone(tmp_path: Path) -> None:
    store = with_journal(tmp_path)
    store.append(WINDOWS, rows_of(WINDOWS, 10))
    found = recover(tmp_path)
    assert (found.runs, found.live) == ([], [RUN_ID])
    assert len(journals(tmp_path)) == 1
    store.close()
    assert all_rows(tmp_path, WINDOWS).num_rows == 10


def test_only_runs_of_that_identifier_are_recovered(tmp_path: Path) -> None:
    store = with_journal(tmp_path)
    store.append(WINDOWS, rows_of(WINDOWS, 10))
    killed(store)
    assert recover(tmp_path, identifier="node-2").runs == []
    assert len(recover(tmp_path, identifier="node-1").runs) == 1


def test_a_journal_that_ends_anywhere_gives_its_whole_frames(tmp_path: Path) -> None:
    parts = [rows_of(HEALTH, 2, salt) for salt in range(3)]
    frames = [encode_frame(part) for part in parts]
    content = b"".join(frames)
    ends = [len(b"".join(frames[:count])) for count in range(4)]
    step = max(1, len(content) // 500)
    for length in sorted(
        {*range(0, len(content), step), *ends, *(end - 1 for end in ends[1:]), *(end + 1 for end in ends[:3])}
    ):
        found = frames_of(content[:length], tmp_path)
        whole = sum(end <= length for end in ends[1:])
        assert len(found) == whole
        assert all(one.equals(part) for one, part in zip(found, parts, strict=False))


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 2**31), bit=st.integers(0, 7))
def test_a_changed_byte_is_found_and_what_was_before_it_is_kept(
    tmp_path_factory: pytest.TempPathFactory, place: int, bit: int
) -> None:
    parts = [rows_of(HEALTH, 2, salt) for salt in range(3)]
    frames = [encode_frame(part) for part in parts]
    content = bytearray(b"".join(frames))
    place %= len(content)
    content[place] ^= 1 << bit
    hit = sum(place >= len(b"".join(frames[:count])) for count in (1, 2))
    directory = tmp_path_factory.mktemp("journal")
    (directory / "some.journal").write_bytes(content)
    found: list[pa.Table] = []
    with (directory / "some.journal").open("rb") as journal:
        try:
            found.extend(read_frames(journal))
        except DamagedJournalError:
            pass
        else:
            # Nobody can tell it from one that is torn: the last, or one that claims to be longer than the journal.
            assert hit == 2 or len(found) == hit
    assert len(found) == hit
    assert all(one.equals(part) for one, part in zip(found, parts, strict=False))


@pytest.mark.parametrize(
    "tail", [b"\0" * 5000, b"TJ01", b"TJ01" + b"\xff" * 100 + b"x" * 10, b"\xc8\x1d\xd1\xf2\x9fN\xb4"]
)
def test_whatever_follows_costs_no_frame(tmp_path: Path, tail: bytes) -> None:
    (tmp_path / "some.journal").write_bytes(encode_frame(rows_of(HEALTH, 2)) + tail)
    found = []
    with (tmp_path / "some.journal").open("rb") as journal:
        try:
            found.extend(read_frames(journal))
        except DamagedJournalError:
            assert tail[4:5] == b"\xff"
    assert len(found) == 1


def test_a_frame_that_was_never_arrow_is_damage(tmp_path: Path) -> None:
    payload = b"not Arrow"
    lengths = len(payload).to_bytes(4, "little") * 2
    frame = b"TJ01" + lengths + zlib.crc32(payload, zlib.crc32(lengths)).to_bytes(4, "little") + payload
    with pytest.raises(DamagedJournalError):
        frames_of(frame + encode_frame(rows_of(HEALTH, 1)), tmp_path)


def test_a_damaged_journal_is_kept_aside_and_named(tmp_path: Path) -> None:
    store = with_journal(tmp_path)
    parts = [rows_of(WINDOWS, 10, salt) for salt in range(3)]
    for part in parts:
        store.append(WINDOWS, part)
    killed(store)
    (journal,) = journals(tmp_path)
    content = bytearray(journal.read_bytes())
    content[len(content) // 2] ^= 1
    journal.write_bytes(content)
    (run,) = recover(tmp_path).runs
    assert run.rows == {"windows": 10}
    (problem,) = run.problems
    assert problem.startswith("windows-000000.journal: a frame that ends at byte")
    assert journals(tmp_path) == [journal.with_name("windows-000000.journal.damaged")]
    assert journals(tmp_path)[0].read_bytes() == content
    assert problem in read_manifest(manifest_path(tmp_path, RUN_ID)).notes
    assert recover(tmp_path).runs == []


@pytest.mark.parametrize("at", ["after the file", "before the file", "before the manifest"])
def test_a_recovery_that_is_itself_killed_recovers_once(
    tmp_path: Path, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = with_journal(tmp_path)
    parts = [rows_of(WINDOWS, 10), rows_of(HEALTH, 10)]
    store.append(WINDOWS, parts[0])
    store.append(HEALTH, parts[1])
    killed(store)
    with monkeypatch.context() as patch:
        if at == "before the manifest":
            patch.setattr(recovery, "_write_manifest", killing)
        else:
            original = Retention.write_closed_file

            def write(room: Retention, path: Path, payload: bytes) -> None:
                if at == "after the file":
                    original(room, path, payload)
                killing()

            patch.setattr(Retention, "write_closed_file", write)
        pid = os.fork()
        if pid == 0:
            recover(tmp_path)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    recover(tmp_path)
    assert all_rows(tmp_path, WINDOWS).equals(expected(WINDOWS, parts[0]))
    assert all_rows(tmp_path, HEALTH).equals(expected(HEALTH, parts[1]))
    assert read_manifest(manifest_path(tmp_path, RUN_ID)).totals.rows == {"windows": 10, "health": 10}
    assert not (tmp_path / journal_directory(RUN_ID)).exists()


def killing(*_arguments: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.root
def test_a_disk_that_is_full_stops_the_journal_and_not_the_run(tmp_path: Path) -> None:
    notes: list[str] = []
    output = tmp_path / "disk"
    with mounted_tmpfs(output, "size=2m"):
        store = with_journal(output, notes)
        first, second, third = (rows_of(WINDOWS, 100, salt) for salt in range(3))
        store.append(WINDOWS, first)
        filler = output / "filler"
        fill_up(filler)
        store.append(WINDOWS, second)
        assert [note.partition(":")[0] for note in notes] == ["the output cannot be written (No space left on device)"]
        filler.unlink()
        store.append(WINDOWS, third)
        assert len(notes) == 1
        killed(store)
        (run,) = recover(output).runs
        assert run.problems == []
        # What was missing was written when there was room.
        assert all_rows(output, WINDOWS).equals(expected(WINDOWS, first, second, third))


@pytest.mark.root
def test_rows_whose_file_had_no_room_are_recovered_later(tmp_path: Path) -> None:
    output = tmp_path / "disk"
    with mounted_tmpfs(output, "size=2m"):
        store = with_journal(output, on_full="stop")
        rows = rows_of(WINDOWS, 1000)
        store.append(WINDOWS, rows)
        filler = output / "filler"
        fill_up(filler)
        with pytest.raises(OutputError):
            store.close()
        assert (store.totals.rows_lost, store.totals.rows_in_journals) == ({}, {"windows": 1000})
        store.release()
        found = recover(output)
        assert found.runs == []
        assert found.unwritten[0].startswith("run 0123abcd is not recovered yet: the file system of")
        filler.unlink()
        (run,) = recover(output).runs
        assert run.rows == {"windows": 1000}
        assert all_rows(output, WINDOWS).equals(expected(WINDOWS, rows))


def test_a_failed_write_leaves_no_half_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, RUN_ID, "health", 0, sync=True)
    first, second = rows_of(HEALTH, 2), rows_of(HEALTH, 2, 1)
    journal.append(first)
    original = os.pwrite
    written = []

    def write(descriptor: int, content: memoryview, at: int) -> int:
        if written:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        written.append(original(descriptor, content[:10], at))
        return 10

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", write)
        with pytest.raises(OSError, match="Input/output error"):
            journal.append(second)
    journal.append(second)
    journal.close()
    with (
        open_below(tmp_path, journal_directory(RUN_ID)) as directory,
        directory.open_file("health-000000.journal") as opened,
    ):
        found = list(read_frames(opened))
    assert [one.equals(part) for one, part in zip(found, (first, second), strict=True)] == [True, True]


@pytest.mark.parametrize("there", ["nothing", "not JSON"])
def test_a_run_without_a_manifest_is_named_and_left(tmp_path: Path, there: str) -> None:
    store = with_journal(tmp_path)
    store.append(WINDOWS, rows_of(WINDOWS, 10))
    killed(store)
    path = manifest_path(tmp_path, RUN_ID)
    path.unlink() if there == "nothing" else path.write_text("{")
    found = recover(tmp_path)
    assert found.runs == []
    assert found.problems[0].startswith("run 0123abcd cannot be recovered: ")
    assert len(journals(tmp_path)) == 1


def test_what_is_no_run_and_no_journal_is_left(tmp_path: Path) -> None:
    store = with_journal(tmp_path)
    store.append(WINDOWS, rows_of(WINDOWS, 10))
    killed(store)
    directory = tmp_path / journal_directory(RUN_ID)
    os.mkfifo(directory / "windows-000001.journal")
    (directory / "elsewhere-000000.journal").write_bytes(b"")
    (directory / "mine").write_text("mine")
    (tmp_path / "runs" / "other").mkdir()
    (tmp_path / "runs" / str(uuid4())).mkdir()
    found = recover(tmp_path)
    assert found.problems == []
    (run,) = found.runs
    assert run.rows == {"windows": 10}
    assert run.problems == [
        "elsewhere-000000.journal: there is no table 'elsewhere'; it is kept",
        "windows-000001.journal: is a pipe, and no file; it is kept",
    ]
    assert sorted(path.name for path in directory.iterdir()) == [
        "elsewhere-000000.journal",
        "mine",
        "windows-000001.journal",
    ]


@pytest.mark.parametrize("at", ["the output", "runs", "the run", "the journals"])
@pytest.mark.parametrize("how", ["removed", "moved", "replaced"])
def test_what_is_taken_from_under_a_run_is_begun_anew_and_said(tmp_path: Path, at: str, how: str) -> None:
    output = tmp_path / "results"
    notes: list[str] = []
    store = with_journal(output, notes)
    parts = [rows_of(WINDOWS, 10, salt) for salt in range(3)]
    resources = rows_of(HEALTH, 3)
    store.append(WINDOWS, parts[0])
    store.append(HEALTH, resources)
    names = {"the output": "", "runs": "runs", "the run": f"runs/{RUN_ID}", "the journals": f"runs/{RUN_ID}/journal"}
    taken = output / names[at]
    shutil.rmtree(taken) if how == "removed" else taken.rename(tmp_path / "elsewhere")
    if how == "replaced":
        taken.mkdir()
    store.append(WINDOWS, parts[1])
    (note,) = notes
    assert note.startswith("somebody removed or moved what this run has written to ")
    store.append(HEALTH, rows_of(HEALTH, 3, 1))
    store.append(WINDOWS, parts[2])
    assert len(notes) == 1
    assert recover(output).live == [RUN_ID]
    killed(store)
    (run,) = recover(output).runs
    assert run.problems == []
    assert all_rows(output, WINDOWS).equals(expected(WINDOWS, *parts))
    assert all_rows(output, HEALTH).equals(expected(HEALTH, resources, rows_of(HEALTH, 3, 1)))


def test_a_run_that_ends_in_an_output_that_was_removed_says_so(tmp_path: Path) -> None:
    output = tmp_path / "results"
    notes: list[str] = []
    store = with_journal(output, notes)
    store.append(WINDOWS, rows_of(WINDOWS, 10))
    shutil.rmtree(output)
    store.close()
    store.write_manifest(msgspec.structs.replace(example_manifest(), run_id=RUN_ID))
    store.release()
    assert len(notes) == 1
    assert all_rows(output, WINDOWS).num_rows == 10
    assert recover(output).runs == []


def damaged_run(output: Path, **options: object) -> Path:
    """A run that was killed; the path of its only journal."""
    store = with_journal(output, **options)
    store.append(WINDOWS, rows_of(WINDOWS, 10))
    killed(store)
    return journals(output)[0]


@pytest.mark.parametrize("error", [errno.EIO, errno.EMFILE, errno.EROFS, errno.ESTALE])
def test_a_journal_that_cannot_be_read_now_is_recovered_later(
    tmp_path: Path, error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = damaged_run(tmp_path)

    def fail(_journal: object) -> None:
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patch:
        patch.setattr(journal_rows, "read_frames", fail)
        found = recover(tmp_path)
    assert found.unwritten == [f"run 0123abcd is not recovered yet: {os.strerror(error)}"]
    assert (found.runs, journals(tmp_path)) == ([], [journal])
    assert recover(tmp_path).runs[0].rows == {"windows": 10}


@pytest.mark.root
def test_a_file_system_that_is_read_only_is_recovered_later(tmp_path: Path) -> None:
    output = tmp_path / "disk"
    with mounted_tmpfs(output, "size=4m"):
        damaged_run(output)
        remount_read_only(output)
        (said,) = recover(output).unwritten
        assert said.startswith("run 0123abcd is not recovered yet: cannot write ")
        assert said.endswith(os.strerror(errno.EROFS))
        subprocess.run(["mount", "-o", "remount,rw", output], check=True)
        assert recover(output).runs[0].rows == {"windows": 10}


def test_rows_of_an_older_version_have_nulls_and_those_of_a_newer_are_kept(tmp_path: Path) -> None:
    journal = damaged_run(tmp_path)
    rows = rows_of(WINDOWS, 10)
    nullable = next(column.name for column in WINDOWS.schema if column.nullable)
    newer = encode_frame(rows.append_column("quantum", pa.nulls(10)))
    journal.write_bytes(newer)
    (run,) = recover(tmp_path).runs
    assert run.problems == [
        "windows-000000.journal: is of another version of tracer, which differs in 'quantum'; it is kept"
    ]
    assert journal.read_bytes() == newer
    journal.write_bytes(encode_frame(rows.drop_columns([nullable])))
    (run,) = recover(tmp_path).runs
    assert (run.rows, run.problems) == ({"windows": 10}, [])
    assert all_rows(tmp_path, WINDOWS)[nullable].null_count == 10


CLOSED_FILES: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: os.truncate(path, 100),
    "empty": lambda path: os.truncate(path, 0),
    "of another run": lambda path: pq.write_table(pa.table({"window_start": [1]}), path),
    "gone": Path.unlink,
    "a link": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
}


@pytest.mark.parametrize("damage", CLOSED_FILES.values(), ids=CLOSED_FILES)
def test_a_journal_is_only_done_where_its_file_is_whole(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    store = with_journal(tmp_path)
    rows = rows_of(WINDOWS, 10)
    store.append(WINDOWS, rows)
    (journal,) = journals(tmp_path)
    content = journal.read_bytes()
    store.close()
    (path,) = tmp_path.rglob("*.parquet")
    damage(path)
    # Killed before the journal was removed; then the file was damaged.
    journal.write_bytes(content)
    killed(store)
    found = recover(tmp_path)
    if found.unwritten:
        assert found.unwritten[0].endswith(
            ("is a symbolic link, which is left as it is", "is a pipe, which is left as it is")
        )
        assert journal.read_bytes() == content
        path.unlink()
        recover(tmp_path)
    assert all_rows(tmp_path, WINDOWS).equals(expected(WINDOWS, rows))
    assert journals(tmp_path) == []


def test_files_that_no_run_wrote_stop_no_recovery(tmp_path: Path) -> None:
    damaged_run(tmp_path)
    name = "20261122T000000Z-0123abcd-000007.parquet"
    for table, rows in (
        ("evil", {"time": [1]}),
        ("health", {"time": [2**62]}),
        ("ticks", {"other": [1.5]}),
        ("windows", {"window_start": ["x"]}),
    ):
        path = tmp_path / table / "dt=2026-11-22" / "identifier=node-1" / f"{table}-{name}"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table(rows).replace_schema_metadata({"tracer.run_id": str(RUN_ID)}), path)
    (run,) = recover(tmp_path).runs
    assert run.rows == {"windows": 10}
    assert [problem.split("/")[0] for problem in run.problems] == ["health", "ticks", "windows"]
    assert read_manifest(manifest_path(tmp_path, RUN_ID)).totals.rows == {"windows": 10}


HOSTILE_TEXTS = ["../../../etc/passwd", "/etc", "..", "a\nb", "\x1b[2J", "x" * 5000, "\0", "\u202e"]


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
@pytest.mark.parametrize("field", ["identifier", "node_name"])
def test_names_in_a_manifest_lead_nowhere(
    tmp_path: Path, field: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "results"
    journal = damaged_run(output)
    path = manifest_path(output, RUN_ID)
    manifest = read_manifest(path)
    host = msgspec.structs.replace(manifest.host, **{field: text})
    path.write_bytes(encode_manifest(msgspec.structs.replace(manifest, host=host)))
    with pytest.raises(SystemExit) as end:
        app(["recover", str(output)])
    said = capsys.readouterr().out.splitlines()
    assert end.value.code == 0
    assert len(said) == 1
    assert said[0].isprintable()
    assert len(said[0]) < 500
    assert list(tmp_path.iterdir()) == [output]
    if field == "identifier" and len(text) > 241:
        assert journal.exists()
    else:
        assert all_rows(output, WINDOWS).num_rows == 10
        assert {one.name for one in output.iterdir()} == {"runs", "windows"}


@pytest.mark.parametrize("change", [{"run_id": UUID(int=1)}, {"schema_version": 99}, {"topology": 1}])
def test_a_manifest_of_something_else_leaves_the_run(tmp_path: Path, change: dict[str, object]) -> None:
    journal = damaged_run(tmp_path)
    path = manifest_path(tmp_path, RUN_ID)
    content = encode_manifest(msgspec.structs.replace(read_manifest(path), **change))
    if "topology" in change:
        nested = b"[" * 900 + b"]" * 900
        content = content.replace(b'"topology": 1', b'"topology": ' + nested)
    path.write_bytes(content)
    found = recover(tmp_path)
    assert (found.runs, len(found.problems)) == ([], 1)
    assert journal.exists() or "topology" in change
    assert path.read_bytes() == content


def test_a_manifest_that_is_a_link_or_a_pipe_is_not_read(tmp_path: Path) -> None:
    journal = damaged_run(tmp_path)
    path = manifest_path(tmp_path, RUN_ID)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert "is a symbolic link" in recover(tmp_path).problems[0]
    path.unlink()
    os.mkfifo(path)
    assert "is a pipe" in recover(tmp_path).problems[0]
    assert journal.exists()


def test_a_journal_that_unfolds_to_more_than_a_run_holds_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = damaged_run(tmp_path)
    monkeypatch.setattr(journal_rows, "_MOST_BYTES", 2**20)
    journal.write_bytes(encode_frame(rows_of(WINDOWS, 1000)) * 40)
    (run,) = recover(tmp_path).runs
    assert "more rows than a run holds" in run.problems[0]


def test_a_name_that_no_run_gives_is_no_journal(tmp_path: Path) -> None:
    journal = damaged_run(tmp_path)
    (journal.parent / "windows-0000000.journal").write_bytes(encode_frame(rows_of(WINDOWS, 3, 5)))
    recover(tmp_path)
    assert all_rows(tmp_path, WINDOWS).num_rows == 10


def test_recoveries_at_once_recover_once(tmp_path: Path) -> None:
    parts = [rows_of(WINDOWS, 100), rows_of(HEALTH, 100)]
    for _try in range(5):
        store = with_journal(tmp_path)
        store.append(WINDOWS, parts[0])
        store.append(HEALTH, parts[1])
        killed(store)
        pids = []
        for _process in range(4):
            pids.append(os.fork())
            if not pids[-1]:
                found = recover(tmp_path)
                os._exit(1 if found.problems or found.unwritten else 2 if found.runs else 0)
        codes = sorted(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids)
        assert codes == [0, 0, 0, 2]
        assert all_rows(tmp_path, WINDOWS).equals(expected(WINDOWS, parts[0]))
        assert all_rows(tmp_path, HEALTH).equals(expected(HEALTH, parts[1]))
        shutil.rmtree(tmp_path / "windows")
        shutil.rmtree(tmp_path / "health")


@pytest.mark.parametrize("opened", [False, True])
def test_a_run_that_ends_while_it_is_looked_at_is_no_problem(
    opened: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = with_journal(tmp_path)
    store.append(WINDOWS, rows_of(WINDOWS, 10))
    take = RunLock.take

    def end_and_take(output: Path, run_id: UUID) -> RunLock | None:
        descriptor = os.open(output / journal_directory(run_id), os.O_RDONLY)
        store.close()
        store.write_manifest(msgspec.structs.replace(example_manifest(), run_id=RUN_ID))
        store.release()
        return RunLock(descriptor) if opened else take(output, run_id)

    monkeypatch.setattr(recovery.RunLock, "take", end_and_take)
    found = recover(tmp_path)
    assert (found.runs, found.problems, found.unwritten) == ([], [], [])
    assert not (tmp_path / journal_directory(RUN_ID)).exists()


def test_an_output_without_runs_has_nothing_to_recover(tmp_path: Path) -> None:
    assert recover(tmp_path).runs == []
    (tmp_path / "runs").write_text("")
    with pytest.raises(UsageError, match="cannot read"):
        recover(tmp_path)


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    program = (
        "import time; from pathlib import Path; from uuid import UUID; from tracer.store.open_runs import RunLock\n"
        f"lock = RunLock.take(Path({str(tmp_path)!r}), UUID({str(RUN_ID)!r}), make=True)\n"
        "print(lock is not None, flush=True); time.sleep(1000)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        assert RunLock.take(tmp_path, RUN_ID) is None
    finally:
        process.kill()
        process.communicate()
    lock = RunLock.take(tmp_path, RUN_ID)
    assert lock is not None
    lock.close()


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as end:
            app(["recover", *arguments])
        assert end.value.code == 0
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize(("name", "why"), [("nowhere", "is not a directory"), (".", "holds no run of `tracer run`")])
def test_what_is_no_output_is_a_mistake(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        app(["recover", str(tmp_path / name)], standalone_mode=False)


def test_the_command_says_what_it_did(tmp_path: Path, command: Callable[..., str]) -> None:
    store = with_journal(tmp_path)
    store.append(WINDOWS, rows_of(WINDOWS, 10))
    assert command(str(tmp_path)) == "run 0123abcd is running, or being recovered: left alone\nnothing to recover\n"
    killed(store)
    said = command(str(tmp_path))
    assert said.startswith("run 0123abcd on ")
    assert said.endswith(" was killed: recovered 10 rows of windows; its rows go to 2026-11-22T00:00:00Z\n")
    assert command(str(tmp_path)) == "nothing to recover\n"


def test_the_command_says_it_as_json(tmp_path: Path, command: Callable[..., str]) -> None:
    store = with_journal(tmp_path)
    store.append(WINDOWS, rows_of(WINDOWS, 10))
    told = answer_of("recover", command(str(tmp_path), "--json"))
    assert (told["runs"], told["live"]) == ([], [str(RUN_ID)])
    killed(store)
    told = answer_of("recover", command(str(tmp_path), "--json"))
    (run,) = told["runs"]
    assert (run["run_id"], run["was_killed"], run["rows"]) == (str(RUN_ID), True, {"windows": 10})
    assert re.fullmatch(r"2026-11-22T00:00:00\.\d{6}Z", run["last"])
    assert (told["live"], told["problems"], told["unwritten"]) == ([], [], [])


def test_a_frame_is_small_and_has_all_of_a_row() -> None:
    rows = conform(WINDOWS, rows_of(WINDOWS, 1))
    frame = encode_frame(rows)
    assert len(frame) < 4096
    with pa.ipc.open_stream(pa.decompress(frame[16:], int.from_bytes(frame[8:12], "little"), "zstd")) as stream:
        assert stream.read_all().to_pylist() == rows.to_pylist()


def test_a_manifest_of_a_crashed_run_is_read_again(tmp_path: Path) -> None:
    manifest = msgspec.structs.replace(example_manifest(), status="crashed", recovered={"windows": 3})
    (tmp_path / "session.json").write_bytes(encode_manifest(manifest))
    found = read_manifest(tmp_path / "session.json")
    assert (found.status, found.recovered) == ("crashed", {"windows": 3})
