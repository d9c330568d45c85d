# SPDX-License-Identifier: Apache-2.0
"""One damaged file costs that file: whatever it is, it is left out by its name, and the others are read."""

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recording_damage import Commands, try_one
from recording_examples import START, windows_rows, write_rows

from tracer.analysis.recording import of_what_can_be_read, open_recording
from tracer.errors import UsageError
from tracer.simulate import simulate

_ROWS = 200


def rewritten(path: Path, change: Callable[[pa.Table], pa.Table], **options: object) -> None:
    pq.write_table(change(pq.read_table(path, partitioning=None)), path, compression="zstd", **options)


def with_column(name: str, value: object) -> Callable[[pa.Table], pa.Table]:
    """All rows have that value."""

    def change(rows: pa.Table) -> pa.Table:
        position = rows.schema.get_field_index(name)
        values = pa.array([value] * rows.num_rows, rows.schema.field(name).type)
        return rows.set_column(position, rows.schema.field(name), values)

    return change


def shifted(by: timedelta) -> Callable[[pa.Table], pa.Table]:
    def change(rows: pa.Table) -> pa.Table:
        position = rows.schema.get_field_index("window_start")
        times = pa.array([time.as_py() + by for time in rows["window_start"]], rows["window_start"].type)
        return rows.set_column(position, rows.schema.field(position), times)

    return change


def first_row(times: int) -> Callable[[pa.Table], pa.Table]:
    return lambda rows: rows.take(pa.array(np.zeros(times, np.int64)))


def moved_to(table: str) -> Callable[[Path], None]:
    def move(path: Path) -> None:
        output = path.parents[3]
        write_rows(output, table, [{"time": START}])
        (other,) = output.glob(f"{table}/*/*/*.parquet")
        shutil.move(other, path)

    return move


def claimed_rows(path: Path) -> None:
    """The footer says that there are other numbers of rows than its row groups have."""
    content = path.read_bytes()
    # Thrift's compact protocol: num_rows is the third field, as a zigzag varint.
    before, after = (b"\x16" + bytes([number << 1 & 0x7F | 0x80, number >> 6]) for number in (_ROWS, _ROWS + 1))
    assert before in content
    path.write_bytes(after.join(content.rsplit(before, 1)))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "half of it": (lambda path: os.truncate(path, path.stat().st_size // 2), "is broken, or no Parquet file"),
    "nothing": (lambda path: os.truncate(path, 0), "too short"),
    "a footer of 2 GB": (
        lambda path: path.write_bytes(path.read_bytes()[:-8] + b"\xff\xff\xff\x7fPAR1"),
        "its footer would have 2147483647 bytes",
    ),
    "other rows than it says": (claimed_rows, "is broken"),
    "another table": (moved_to("resources"), "is no windows, by what it says of itself"),
    "1970": (lambda path: rewritten(path, shifted(-timedelta(days=20_000))), "has rows of other times than its name"),
    "2116": (lambda path: rewritten(path, shifted(timedelta(days=33_000))), "has rows of other times than its name"),
    "no column": (lambda path: rewritten(path, lambda rows: rows.drop_columns(["cgroup_id"])), "has no column"),
    "another type": (
        lambda path: rewritten(
            path, lambda rows: rows.set_column(rows.schema.get_field_index("ticks"), "ticks", rows["cpi_min"])
        ),
        "has a column 'ticks' of float, not int64",
    ),
    "a column twice": (
        lambda path: rewritten(path, lambda rows: rows.append_column("ticks", rows["ticks"])),
        "has more than one column 'ticks'",
    ),
    "below zero": (lambda path: rewritten(path, with_column("cpu_time_ns", -1)), "'cpu_time_ns' is below zero in it"),
    "beyond all sums": (
        lambda path: rewritten(path, with_column("cycles", 2**62)),
        "'cycles' cannot be as large as in it",
    ),
    "a long name": (
        lambda path: rewritten(path, with_column("pod_name", "x" * 100_000)),
        "'pod_name' has 100,000 bytes in it, which no name has",
    ),
    "many rows": (lambda path: rewritten(path, first_row(400_000)), "would unfold to 400,000 rows from"),
    "many bytes": (
        lambda path: rewritten(
            path, lambda rows: first_row(200_000)(with_column("pod_name", "x" * 500)(rows)), use_dictionary=False
        ),
        "bytes from",
    ),
    "a pipe": (lambda path: (path.unlink(), os.mkfifo(path)), "is not a regular file"),
    "a directory": (lambda path: (path.unlink(), path.mkdir()), "is not a regular file"),
    "a device": (lambda path: (path.unlink(), path.symlink_to("/dev/zero")), "is not a regular file"),
    "a link to itself": (lambda path: (path.unlink(), path.symlink_to(path)), "Too many levels of symbolic links"),
    "a link to nothing": (lambda path: (path.unlink(), path.symlink_to("nowhere")), "No such file"),
    "no statistics": (lambda path: rewritten(path, lambda rows: rows, write_statistics=False), "has no statistics of"),
}


def test_what_two_clocks_or_counts_differ_by_may_be_below_zero(tmp_path: Path) -> None:
    write_rows(tmp_path, "windows", windows_rows(_ROWS))
    (path,) = tmp_path.glob("windows/*/*/*.parquet")
    rewritten(path, with_column("stolen_time_ns", -52_151))
    recording = open_recording([tmp_path])
    assert recording.notes == []
    assert recording.collect(recording.scan("windows"))["stolen_time_ns"].min() == -52_151
    rewritten(path, with_column("stolen_time_ns", -(2**62)))
    with pytest.raises(UsageError, match="'stolen_time_ns' cannot be as large as in it"):
        open_recording([tmp_path])


@pytest.mark.parametrize("what", DAMAGES)
def test_one_damaged_file_costs_that_file(what: str, tmp_path: Path) -> None:
    write_rows(tmp_path, "windows", windows_rows(_ROWS))
    (path,) = tmp_path.glob("windows/*/*/*.parquet")
    damage, why = DAMAGES[what]
    damage(path)
    with pytest.raises(UsageError, match="nothing can be read") as refused:
        open_recording([tmp_path])
    assert why in str(refused.value)
    write_rows(tmp_path, "windows", windows_rows(7, window_start=START + timedelta(hours=1)))
    recording = open_recording([tmp_path])
    assert of_what_can_be_read(lambda: recording.collect(recording.scan("windows")))().height == 7
    (note,) = recording.notes
    assert note.startswith(f"left out: '{path}' ")
    assert why in note
    assert note.isprintable()
    assert recording.span.start == START + timedelta(hours=1)


def test_of_many_damaged_files_the_first_is_named(tmp_path: Path) -> None:
    for hour in range(5):
        write_rows(tmp_path, "windows", windows_rows(2, window_start=START + timedelta(hours=hour)))
    paths = sorted(tmp_path.glob("windows/*/*/*.parquet"))
    for path in paths[1:]:
        path.write_bytes(b"")
    (note,) = open_recording([tmp_path]).notes
    assert note.startswith(f"left out: 4 files, the first: '{paths[1]}' ")


def test_a_copy_under_another_name_is_read_once(tmp_path: Path) -> None:
    write_rows(tmp_path, "windows", windows_rows(_ROWS))
    (path,) = tmp_path.glob("windows/*/*/*.parquet")
    shutil.copy(path, path.with_name(path.name.replace("-000000", "-000001")))
    recording = open_recording([tmp_path])
    assert recording.collect(recording.scan("windows")).height == _ROWS
    assert "000001.parquet' is a copy of another file" in recording.notes[0]


def test_what_is_no_number_is_null(tmp_path: Path) -> None:
    for hour, value in enumerate((float("nan"), float("inf"), -float("inf"), 1.5)):
        write_rows(tmp_path, "windows", windows_rows(1, window_start=START + timedelta(hours=hour), cpi_min=value))
    recording = open_recording([tmp_path])
    rows = recording.collect(recording.scan("windows").sort("window_start"))
    assert rows["cpi_min"].to_list() == [None, None, None, 1.5]


def test_a_directory_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path, "windows", windows_rows(1))
    write_rows(tmp_path, "ticks", [{"tick_start": START}])
    scan = os.scandir

    # Root may read all.
    def refuse(path: Path) -> object:
        if Path(path).name == "ticks":
            raise PermissionError(13, os.strerror(13), str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    recording = open_recording([tmp_path])
    assert recording.notes == [f"left out: '{tmp_path}/ticks' cannot be read: Permission denied"]


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    with Commands(tmp_path_factory.mktemp("commands")) as running:
        yield running


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("simulated") / "recording"
    simulate("cache-thrash", seed=1, duration_ns=3 * 10**9, output=output, ticks=True, containers=6)
    return output


@pytest.mark.parametrize("seed", range(8))
def test_commands_bear_random_damage(seed: int, commands: Commands, simulated: Path, tmp_path: Path) -> None:
    """`make fuzz` goes on from here."""
    assert try_one(commands, simulated, tmp_path / "copy", seed, everything=False) == []
