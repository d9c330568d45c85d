# SPDX-License-Identifier: Apache-2.0
"""The manifest of a run that was killed adds up, by the totals of its last second and what is found."""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from test_journal import RUN_ID, killed, rows_of, with_journal

from tracer.store.checkpoint import CHECKPOINT, write_checkpoint
from tracer.store.layout import journal_directory, manifest_path
from tracer.store.manifest import Manifest, Totals, read_manifest
from tracer.store.recovery import recover
from tracer.store.schemas import HEALTH, WINDOWS
from tracer.store.writer import Store

# Of 60 records and further ticks, 15 were added to rows that were there, and 5 were of no tick of the run.
COUNTED = Totals(
    rows_received={"windows": 30, "health": 2},
    records=50,
    records_expanded=10,
    records_merged=15,
    records_outside_run=5,
)


def recovered(output: Path, store: Store) -> Manifest:
    killed(store)
    recover(output)
    assert not (output / journal_directory(RUN_ID)).exists()
    manifest = read_manifest(manifest_path(output, RUN_ID))
    assert manifest.status == "crashed"
    assert (manifest.totals.records_unaccounted, manifest.totals.rows_unaccounted) == (0, {})
    assert manifest.totals.rows_present == manifest.totals.rows
    return manifest


def test_all_that_was_received_is_there(tmp_path: Path) -> None:
    store = with_journal(tmp_path)
    store.append(WINDOWS, rows_of(WINDOWS, 30))
    store.append(HEALTH, rows_of(HEALTH, 2))
    store.note_totals(COUNTED)
    totals = recovered(tmp_path, store).totals
    assert totals.rows == {"windows": 30, "health": 2}
    assert (totals.rows_lost, totals.records, totals.records_in_progress) == (0, 50, 10)


def test_rows_that_were_in_no_journal_yet_are_lost_by_the_kill(tmp_path: Path) -> None:
    store = with_journal(tmp_path)
    store.append(WINDOWS, rows_of(WINDOWS, 20))
    dropped = msgspec.structs.replace(
        COUNTED, rows_lost=4, rows_lost_by_table={"windows": 4}, rows_lost_by_cause={"no room in memory": 4}
    )
    store.note_totals(dropped)
    totals = recovered(tmp_path, store).totals
    assert totals.rows == {"windows": 20}
    assert totals.rows_received == {"windows": 30, "health": 2}
    assert totals.rows_lost_by_table == {"windows": 10, "health": 2}
    assert totals.rows_lost_by_cause == {"no room in memory": 4, "killed": 8}
    assert totals.records_in_progress == 10


def test_rows_may_have_come_after_it_was_counted(tmp_path: Path) -> None:
    store = with_journal(tmp_path)
    store.note_totals(COUNTED)
    store.append(WINDOWS, rows_of(WINDOWS, 45))
    store.append(HEALTH, rows_of(HEALTH, 2))
    totals = recovered(tmp_path, store).totals
    assert totals.rows_received == totals.rows == {"windows": 45, "health": 2}
    # Each of the five rows beyond those of the records that had been counted is of one more.
    assert (totals.rows_lost, totals.records, totals.records_in_progress) == (0, 55, 0)


def test_what_the_run_itself_removed_was_written_once(tmp_path: Path) -> None:
    store = with_journal(tmp_path)
    store.append(WINDOWS, rows_of(WINDOWS, 20))
    store.close()
    (path,) = tmp_path.rglob("*.parquet")
    path.unlink()
    store.append(WINDOWS, rows_of(WINDOWS, 10, 1))
    store.append(HEALTH, rows_of(HEALTH, 2))
    store.note_totals(msgspec.structs.replace(COUNTED, rows={"windows": 20}, rows_removed={"windows": 20}))
    killed(store)
    recover(tmp_path)
    totals = read_manifest(manifest_path(tmp_path, RUN_ID)).totals
    assert totals.rows == {"windows": 30, "health": 2}
    assert totals.rows_present == {"windows": 10, "health": 2}
    assert (totals.rows_lost, totals.records_unaccounted, totals.rows_unaccounted) == (0, 0, {})


CHECKPOINTS: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "cut": lambda path: os.truncate(path, 20),
    "empty": lambda path: os.truncate(path, 0),
    "something else": lambda path: path.write_text('{"rows": "many"}'),
    "nested": lambda path: path.write_text("[" * 10**5),
    "a link": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
}


@pytest.mark.parametrize("damage", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_run_whose_last_count_cannot_be_read_is_recovered_all_the_same(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    store = with_journal(tmp_path)
    store.append(WINDOWS, rows_of(WINDOWS, 30))
    store.note_totals(COUNTED)
    damage(tmp_path / journal_directory(RUN_ID) / CHECKPOINT)
    totals = recovered(tmp_path, store).totals
    # By the manifest, which said nothing yet: each row was made by a record.
    assert (totals.rows, totals.records, totals.records_in_progress) == ({"windows": 30}, 30, 0)


def test_a_count_that_is_not_written_leaves_the_one_before(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, RUN_ID, COUNTED)
    path = tmp_path / journal_directory(RUN_ID) / CHECKPOINT
    before = path.read_bytes()
    path.with_name(CHECKPOINT + ".inprogress").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_checkpoint(tmp_path, RUN_ID, Totals())
    assert path.read_bytes() == before


def test_a_run_that_ends_leaves_no_count(tmp_path: Path) -> None:
    store = with_journal(tmp_path)
    store.append(WINDOWS, rows_of(WINDOWS, 30))
    store.note_totals(COUNTED)
    store.close()
    store.release()
    assert not (tmp_path / journal_directory(RUN_ID)).exists()
