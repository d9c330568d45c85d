# SPDX-License-Identifier: Apache-2.0
"""What is said at the end of a run: what is there of it, what is not, and whether all of it has a place."""

import shlex
from typing import TYPE_CHECKING

from tracer.cli.saying import say
from tracer.errors import OutputError, TracerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from uuid import UUID

    from tracer.pipeline.uploading import UploadedSoFar
    from tracer.store.manifest import Manifest, Span, Totals


def say_totals(manifest: "Manifest", *, quiet: bool) -> None:
    """With `quiet`, only what is lost."""
    totals = manifest.totals
    assert manifest.first_tick is not None
    assert manifest.last_tick is not None
    # Whatever the wall clock did meanwhile.
    seconds = (manifest.last_tick + 1 - manifest.first_tick) * manifest.tick_ns / 1e9
    rows, files, size = _present(totals)
    say(f"{seconds:g} s traced: {_by_table(rows)} in {files} files, {size / 1e6:.1f} MB", quiet=quiet)
    _say_what_is_gone(totals, sum(rows.values()))
    _say_lost_records(totals, quiet=quiet)


def _say_lost_records(totals: "Totals", *, quiet: bool) -> None:
    if not totals.records_lost:
        say(f"{totals.records:,} records, none lost", quiet=quiet)
        return
    causes: dict[str, int] = {}
    for of_cpu in totals.lost_by_cpu.values():
        for cause, count in of_cpu.items():
            causes[cause] = causes.get(cause, 0) + count
    listed = ", ".join(f"{cause} {count:,}" for cause, count in causes.items())
    say(f"{totals.records:,} records, {totals.records_lost:,} LOST ({listed}); by CPU in the manifest", is_loss=True)


def say_recordings(
    manifest: "Manifest", recordings: "Sequence[Manifest]", incomplete: "Sequence[UUID]", *, quiet: bool
) -> None:
    """Of a flight recorder: what it wrote, and why. With `quiet`, only what is lost."""
    assert manifest.first_tick is not None
    assert manifest.last_tick is not None
    seconds = (manifest.last_tick + 1 - manifest.first_tick) * manifest.tick_ns / 1e9
    if recordings or incomplete:
        count = f"{len(recordings)} recording{'' if len(recordings) == 1 else 's'}"
        say(f"{seconds:g} s traced: {count}", quiet=quiet)
    else:
        say(f"{seconds:g} s traced: nothing was recorded, as no rule held and nobody asked", quiet=quiet)
    if incomplete:
        names = ", ".join(str(one)[:8] for one in incomplete)
        say(f"NOT COMPLETE: recording{'s' if len(incomplete) > 1 else ''} {names}", is_loss=True)
    for one in recordings:
        assert one.recorder is not None
        assert one.end is not None
        length = (one.end.utc_ns - one.start.utc_ns) / 1e9
        first, *others = one.recorder.occasions
        further = f", and {len(others)} more" if others else ""
        size = sum(one.totals.bytes.values()) / 1e6
        what = f"{length:.0f} s from {_shown(one.start.utc)}, {size:.1f} MB"
        say(f"{str(one.run_id)[:8]}: {what}: {first.description}{further}", quiet=quiet)
    _say_what_is_gone(manifest.totals, sum(_present_rows(recordings)))
    _say_lost_records(manifest.totals, quiet=quiet)


def _present_rows(recordings: "Sequence[Manifest]") -> "Iterator[int]":
    for one in recordings:
        rows, _files, _bytes = _present(one.totals)
        yield sum(rows.values())


def say_uploaded(uploaded: "UploadedSoFar", totals: "Totals", output: "Path", *, quiet: bool) -> None:
    """What is in the object store; with `quiet`, only what is not."""
    say(f"uploaded to {uploaded.url}: {uploaded.files} files, {uploaded.bytes / 1e6:.1f} MB", quiet=quiet)
    if uploaded.damaged:
        say(f"{uploaded.damaged} files cannot be read and are not uploaded; their names are above")
    if uploaded.left is not None and uploaded.left.files:
        why = f" ({uploaded.reason})" if uploaded.reason is not None else ""
        say(
            f"NOT UPLOADED: {uploaded.left.files} files, {uploaded.left.bytes / 1e6:.1f} MB{why}; the next run here "
            f"does it, or: tracer upload {shlex.quote(str(output))} {shlex.quote(uploaded.url)}"
        )
    if totals.rows_removed_before_upload:
        say(f"removed to make room BEFORE UPLOAD: {_by_table(totals.rows_removed_before_upload)}", is_loss=True)


def require_all_accounted(totals: "Totals") -> None:
    """Raises TracerError for what has no place, and OutputError for rows that are in no file, though written once."""
    if unaccounted := totals.records_unaccounted:
        raise TracerError(f"{unaccounted:,} records are in no row and in no count, which is a defect of the tracer")
    if without_place := totals.rows_unaccounted:
        raise TracerError(f"{_by_table(without_place)} are in no file and in no count, which is a defect of the tracer")
    kept = sum(totals.rows_in_journals.values())
    if totals.rows_lost or kept:
        reasons = [f"{totals.rows_lost:,} rows were dropped"] if totals.rows_lost else []
        reasons += [f"{kept:,} are in the journal only"] if kept else []
        causes = "; ".join(totals.rows_lost_by_cause)
        raise OutputError(f"the output could not be written{causes and f' ({causes})'}: {', '.join(reasons)}")


def _present(totals: "Totals") -> "tuple[Mapping[str, int], int, int]":
    """Rows by table, files and bytes that are there; those that were written, where nobody has looked."""
    if totals.rows_present is None or totals.files_present is None or totals.bytes_present is None:
        return totals.rows, sum(totals.files.values()), sum(totals.bytes.values())
    return totals.rows_present, totals.files_present, totals.bytes_present


def _say_what_is_gone(totals: "Totals", present: int) -> None:
    written = sum(totals.rows.values())
    removed = sum(totals.rows_removed.values())
    if totals.files_removed:
        say(
            f"older results removed to make room: {totals.files_removed:,} files{_during(totals.removed_span)}"
            + (f", {removed:,} rows of this run among them" if removed else "")
        )
    if written != present:
        others = written - removed - present
        by_others = f"; somebody else removed {others:,} of them" if others > 0 else ""
        say(f"of {written:,} rows written, {present:,} are there{by_others}")
    if totals.rows_lost:
        say(f"DROPPED {_by_table(totals.rows_lost_by_table)}{_during(totals.rows_lost_span)}", is_loss=True)
    if totals.rows_in_journals:
        say(f"{_by_table(totals.rows_in_journals)} are in the journal only: `tracer recover` makes files of them")


def _during(span: "Span | None") -> str:
    return "" if span is None else f", from {_shown(span.first.utc)} to {_shown(span.last.utc)}"


def _shown(utc: str) -> str:
    return f"{utc[:19]}Z"


def _by_table(rows: "Mapping[str, int]") -> str:
    return ", ".join(f"{count:,} rows of {table}" for table, count in sorted(rows.items()) if count) or "no rows"
