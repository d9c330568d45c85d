# SPDX-License-Identifier: Apache-2.0
"""A run on a disk that fails for a while, by real means: it goes on, says so, and nothing is lost without a count."""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from faulty_disks import (
    Fault,
    directory_that_is_replaced,
    directory_without_descriptors,
    disk_that_fills,
    disk_that_hangs,
    disk_that_turns_read_only,
    disk_with_io_errors,
    disk_without_inodes,
    loop_disk,
)
from manifest_examples import example_manifest
from store_examples import MIDNIGHT_NS, SECOND_NS
from test_journal import RUN_ID, all_rows, expected, rows_of, with_journal

from tracer.errors import OutputError
from tracer.pipeline.sinks import keeping
from tracer.pipeline.sinks.storing import Storing
from tracer.store import outage, writer
from tracer.store.layout import journal_directory
from tracer.store.recovery import recover
from tracer.store.schemas import HEALTH, TICKS, WINDOWS
from tracer.store.writer import Store

pytestmark = pytest.mark.root

FaultyDisk = Callable[[Path], AbstractContextManager[tuple[Path, Callable[[], Fault]]]]
FAULTS: dict[str, tuple[FaultyDisk, str]] = {
    "full": (disk_that_fills, "No space left on device"),
    "out of inodes": (disk_without_inodes, "No space left on device"),
    "read-only": (disk_that_turns_read_only, "Read-only file system"),
    "failing": (disk_with_io_errors, "Input/output error"),
    "out of descriptors": (directory_without_descriptors, "Too many open files"),
    "replaced by a file": (directory_that_is_replaced, "Not a directory"),
}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for."""
    monkeypatch.setattr(writer, "RETRY_SECONDS", 0)
    monkeypatch.setattr(outage, "_QUIET_SECONDS", 0)


def rotate(store: Store, number: int) -> bool:
    return store.rotate_if_due(number * SECOND_NS)


def places(store: Store) -> int:
    """Rows that have one, which all have that the store took."""
    totals = store.totals
    waiting = sum(buffer.rows for buffer in store._buffers.values()) + sum(file.rows for file in store._waiting)
    counted = sum(totals.rows.values()) + totals.lost.rows.total() + sum(totals.rows_in_journals.values())
    return counted + waiting


@pytest.mark.parametrize(("disk", "reason"), FAULTS.values(), ids=FAULTS)
def test_rows_of_an_outage_are_written_when_it_is_over(tmp_path: Path, disk: FaultyDisk, reason: str) -> None:
    notes: list[str] = []
    parts = [rows_of(WINDOWS, 200, salt) for salt in range(4)]
    health = [rows_of(HEALTH, 2, salt) for salt in range(4)]
    with disk(tmp_path / "disk") as (output, fault):
        store = with_journal(output, notes, rotate_ns=SECOND_NS)
        rotate(store, 0)
        store.append(WINDOWS, parts[0])
        store.append(HEALTH, health[0])
        assert notes == []
        with fault():
            for number in (1, 2):
                store.append(WINDOWS, parts[number])
                store.append(HEALTH, health[number])
                assert rotate(store, number)
                store.write_manifest(example_manifest(), may_wait=True)
            assert places(store) == 606
            assert store.totals.rows == {}
            assert store.totals.bytes_waiting > 0
        (begun,) = [note for note in notes if "cannot be written" in note]
        assert begun.startswith(f"the output cannot be written ({reason}): rows wait in memory, up to 64 MiB")
        store.append(WINDOWS, parts[3])
        store.append(HEALTH, health[3])
        # The manifest, too, is due again.
        assert rotate(store, 2)
        store.write_manifest(example_manifest(), may_wait=True)
        rotate(store, 2)
        assert notes[-1].startswith("the output is written again, after ")
        assert notes[-1].endswith(" s: nothing was dropped")
        store.close()
        store.release()
        assert all_rows(output, WINDOWS).equals(expected(WINDOWS, *parts))
        assert all_rows(output, HEALTH).equals(expected(HEALTH, *health))
        assert store.totals.rows == {"windows": 800, "health": 8}
        assert (store.totals.rows_lost, store.totals.rows_in_journals) == ({}, {})
        assert not (output / journal_directory(RUN_ID)).exists()
        others = [note for note in notes if not note.startswith("the output ")]
        assert len(notes) - len(others) == 2
        assert all(note.startswith("somebody removed or moved ") for note in others)


def test_what_memory_has_no_room_for_is_dropped_and_counted(tmp_path: Path) -> None:
    notes: list[str] = []
    with disk_that_fills(tmp_path / "disk") as (output, fault):
        store = with_journal(output, notes, rotate_ns=SECOND_NS, buffer_bytes=400_000)
        with fault():
            for number in range(20):
                store.append(TICKS, rows_of(TICKS, 2000, number))
                rotate(store, number)
                assert places(store) == 2000 * (number + 1)
                assert sum(len(file.payload) for file in store._waiting) <= 200_000
        rotate(store, 20)
        totals = store.totals
        (lost,) = totals.rows_lost.values()
        assert totals.rows_lost.keys() == {"ticks"}
        assert 0 < lost < 40_000
        # The newest are there.
        there = all_rows(output, TICKS)
        assert there.num_rows == 40_000 - lost
        kept = [rows_of(TICKS, 2000, number) for number in range(lost // 2000, 20)]
        assert there.equals(expected(TICKS, *kept))
        assert totals.lost.span is not None
        assert totals.lost.span.first_us == MIDNIGHT_NS // 1000
        last = totals.lost.span.last_us * 1000
        assert last == MIDNIGHT_NS + (lost // 2000 - 1) * SECOND_NS + 1999 * 1_000_000
        assert [note.partition(" (")[0].partition(",")[0] for note in notes] == [
            "the output cannot be written",
            "more rows wait for the output than memory is meant for: rows are dropped from now on",
            "the output is written again",
        ]
        assert f"DROPPED {lost:,} rows of ticks, from 2026-11-22T00:00:00Z to 2026-11-22T00:00:" in notes[-1]
        assert store.present().rows == {"ticks": 40_000 - lost}


def test_a_run_that_ends_on_a_full_disk_leaves_what_its_journal_has(tmp_path: Path) -> None:
    with disk_that_fills(tmp_path / "disk") as (output, fault):
        store = with_journal(output)
        store.append(WINDOWS, rows_of(WINDOWS, 300))
        with fault():
            store.append(WINDOWS, rows_of(WINDOWS, 200, 1))
            store.close()
            store.release()
        assert (store.totals.rows_in_journals, store.totals.rows_lost) == ({"windows": 300}, {"windows": 200})
        assert places(store) == 500
        (run,) = recover(output).runs
        assert run.rows == {"windows": 300}
        assert all_rows(output, WINDOWS).equals(expected(WINDOWS, rows_of(WINDOWS, 300)))


def test_a_run_that_is_to_stop_on_a_full_disk_does(tmp_path: Path) -> None:
    with disk_that_fills(tmp_path / "disk") as (output, fault):
        store = with_journal(output, on_full="stop", rotate_ns=SECOND_NS)
        rotate(store, 0)
        with fault():
            store.append(WINDOWS, rows_of(WINDOWS, 300))
            with pytest.raises(OutputError, match="is full"):
                rotate(store, 1)
        # What could not be written then is tried once more.
        store.close()
        assert store.totals.rows == {"windows": 300}


def test_a_disk_that_others_fill_costs_older_files_and_says_which(tmp_path: Path) -> None:
    notes: list[str] = []
    with disk_that_fills(tmp_path / "disk") as (output, fault):
        store = with_journal(output, notes)
        for number in range(3):
            store.append(TICKS, rows_of(TICKS, 2000, number))
            store.close()
        with fault():
            store.append(TICKS, rows_of(TICKS, 2000, 3))
            store.close()
        assert notes == ["the file system is full: the oldest results are removed to make room"]
        rotate(store, 0)
        removed = store.totals.removed
        assert 1 <= removed.own_files == removed.files <= 3
        assert removed.own.rows == {"ticks": 2000 * removed.files}
        assert removed.own.spans["ticks"].first_us == MIDNIGHT_NS // 1000
        assert notes[1].startswith("the output has room again, after ")
        assert f"older results removed: {removed.files} files, from 2026-11-22T00:00:00Z to " in notes[1]
        present = store.present()
        assert present.rows == {"ticks": 8000 - 2000 * removed.files}
        assert present.files == 4 - removed.files
        # Then somebody else removes one.
        path = min((output / "ticks").rglob("*.parquet"))
        size = present.bytes - path.stat().st_size
        path.unlink()
        assert store.present() == ({"ticks": present.rows["ticks"] - 2000}, present.files - 1, size)


def test_a_device_that_is_full_below_its_file_system_costs_no_older_file(tmp_path: Path) -> None:
    """Of which there is room by its own account: to remove files would free nothing."""
    with disk_that_fills(tmp_path / "below", "size=3m") as (below, fault), loop_disk(below / "disk") as (output, _):
        store = with_journal(output, rotate_ns=SECOND_NS)
        rotate(store, 0)
        store.append(TICKS, rows_of(TICKS, 2000))
        rotate(store, 1)
        with fault():
            store.append(TICKS, rows_of(TICKS, 2000, 1))
            rotate(store, 2)
            assert store.totals.rows == {"ticks": 2000}
            assert store.totals.files_removed == 0
        rotate(store, 3)
        assert store.totals.rows == {"ticks": 4000}


def test_a_disk_that_does_not_answer_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    monkeypatch.setattr(keeping, "_SLOW_SECONDS", 0.05)
    parts = [rows_of(WINDOWS, 10, salt) for salt in range(4)]
    with disk_that_hangs(tmp_path / "disk") as (output, fault):
        store = with_journal(output, notes)
        storing = Storing(store, example_manifest, threading.Event(), queue_bytes=parts[0].nbytes + 1)
        storing.start()
        with fault():
            storing.put(WINDOWS, parts[0])
            # The first one is under way, for longer than is said at once, and two find room.
            until = time.monotonic() + 30
            while storing.bytes_queued or (since := storing._busy_since) is None or time.monotonic() - since < 0.06:
                assert time.monotonic() < until
                time.sleep(0.005)
            for part in parts[1:]:
                storing.put(WINDOWS, part)
        storing.finish()
        storing.join()
        assert storing.failure is None
        lines = [note.partition(" (")[0].partition(",")[0] for note in notes]
        assert lines[:2] == [
            "the output cannot be written",
            "more rows wait for the output than memory is meant for: rows are dropped from now on",
        ]
        assert "(it has not answered for 0.05 s)" in notes[0]
        assert storing.rows_refused == {"windows": 10}
        assert storing.rows_received == {"windows": 40}
        assert all_rows(output, WINDOWS).equals(expected(WINDOWS, *parts[:3]))
        assert storing.last_manifest is not None
        assert storing.last_manifest.totals.rows_present == {"windows": 30}


def test_a_disk_that_fails_each_second_is_not_told_each_second() -> None:
    notes: list[str] = []
    one = outage.Outage(notes.append, 2**26)
    one._quiet_seconds = 0
    one.fail("x")
    one.look(all_written=True)
    assert len(notes) == 2
    one._quiet_seconds = outage._LONGEST_QUIET_SECONDS
    for _ in range(1000):
        one.fail("x")
        one.look(all_written=True)
        one.look(all_written=False)
    assert len(notes) == 3
