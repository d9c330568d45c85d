# SPDX-License-Identifier: Apache-2.0
"""What is said at the end of a run, and its exit code, from the manifest's totals."""

from uuid import UUID

import msgspec
import pytest
from manifest_examples import example_manifest

from tracer.cli.totals import require_all_accounted, say_recordings, say_totals
from tracer.errors import OutputError, TracerError
from tracer.store.gone import TimeSpan
from tracer.store.manifest import Span, Totals

# 2026-11-22T00:00:00Z
MIDNIGHT_US = 1_795_305_600 * 10**6
A_MINUTE = Span.of(TimeSpan(MIDNIGHT_US, MIDNIGHT_US + 60 * 10**6))
WHOLE = Totals(
    rows={"windows": 60, "health": 4},
    files={"windows": 2, "health": 2},
    bytes={"windows": 2_000_000, "health": 500_000},
    rows_received={"windows": 60, "health": 4},
    rows_present={"windows": 60, "health": 4},
    files_present=4,
    bytes_present=2_500_000,
    records=100,
    records_merged=40,
)


def said(totals: Totals, capsys: pytest.CaptureFixture[str], *, quiet: bool = False) -> list[str]:
    say_totals(msgspec.structs.replace(example_manifest(), first_tick=1, last_tick=60_000, totals=totals), quiet=quiet)
    return capsys.readouterr().err.replace("tracer: ", "").splitlines()


def test_a_run_of_which_all_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    first, last = said(WHOLE, capsys)
    assert first.endswith(" s traced: 4 rows of health, 60 rows of windows in 4 files, 2.5 MB")
    assert last == "100 records, none lost"
    assert said(WHOLE, capsys, quiet=True) == []
    require_all_accounted(WHOLE)


def test_what_was_removed_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    totals = msgspec.structs.replace(
        WHOLE,
        files_removed=3,
        removed_span=A_MINUTE,
        rows_removed={"windows": 20},
        rows_present={"windows": 10, "health": 4},
        files_present=2,
        bytes_present=700_000,
    )
    lines = said(totals, capsys)
    assert lines[0].endswith(" s traced: 4 rows of health, 10 rows of windows in 2 files, 0.7 MB")
    assert lines[1:3] == [
        "older results removed to make room: 3 files, from 2026-11-22T00:00:00Z to 2026-11-22T00:01:00Z, "
        "20 rows of this run among them",
        "of 64 rows written, 14 are there; somebody else removed 30 of them",
    ]
    assert said(totals, capsys, quiet=True) == lines[1:3]
    # As it was asked for.
    require_all_accounted(totals)


def test_what_was_dropped_is_said_by_table_and_time_and_ends_with_4(capsys: pytest.CaptureFixture[str]) -> None:
    totals = msgspec.structs.replace(
        WHOLE,
        rows={"windows": 50, "health": 1},
        rows_present={"windows": 50, "health": 1},
        rows_lost=10,
        rows_lost_by_table={"windows": 8, "health": 2},
        rows_lost_by_cause={"No space left on device": 10},
        rows_lost_span=A_MINUTE,
        rows_in_journals={"windows": 2, "health": 1},
    )
    assert said(totals, capsys, quiet=True) == [
        "DROPPED 2 rows of health, 8 rows of windows, from 2026-11-22T00:00:00Z to 2026-11-22T00:01:00Z",
        "1 rows of health, 2 rows of windows are in the journal only: `tracer recover` makes files of them",
    ]
    with pytest.raises(OutputError) as failure:
        require_all_accounted(totals)
    assert str(failure.value) == (
        "the output could not be written (No space left on device): 10 rows were dropped, 3 are in the journal only"
    )
    assert failure.value.exit_code == 4


def test_recordings_that_are_not_complete_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    manifest = msgspec.structs.replace(example_manifest(), first_tick=1, last_tick=60_000, totals=Totals())
    say_recordings(manifest, [], [UUID(int=0xA7 << 120)], quiet=False)
    lines = capsys.readouterr().err.replace("tracer: ", "").splitlines()
    assert lines[0].endswith(" s traced: 0 recordings")
    assert lines[1] == "NOT COMPLETE: recording a7000000"
    say_recordings(manifest, [], [], quiet=False)
    assert capsys.readouterr().err.splitlines()[0].endswith("nothing was recorded, as no rule held and nobody asked")


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"records": 101}, "1 records are in no row and in no count"),
        ({"rows_received": {"windows": 60, "health": 9}}, "5 rows of health are in no file and in no count"),
        ({"rows_received": {"windows": 60, "health": 4, "waits": 7}}, "7 rows of waits are in no file"),
    ],
)
def test_a_difference_is_a_defect_that_is_named(change: dict[str, object], names: str) -> None:
    with pytest.raises(TracerError, match=names) as failure:
        require_all_accounted(msgspec.structs.replace(WHOLE, **change))
    assert failure.value.exit_code == 1
