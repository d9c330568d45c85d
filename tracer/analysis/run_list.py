# SPDX-License-Identifier: Apache-2.0
"""What the runs of a directory recorded, as data: `tracer runs --json` is this, and its text is made from it."""

import contextlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

import msgspec

from tracer.analysis.moments import Moment, zone_at
from tracer.analysis.recording import Recording, open_recording
from tracer.analysis.runs import FoundRun, find_runs
from tracer.errors import UsageError
from tracer.store.open_runs import is_open
from tracer.store.schemas import TABLES

RUNS_VERSION: Final = 1

Status = Literal["running", "finished", "failed", "crashed", "killed", "unknown"]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One start of the tracer, by what lies in the directory. A field that is None is not known.

    `id` is enough to name it. `status` is `killed` where it did not end by itself and nobody writes it now, `crashed`
    once its last rows were recovered, `unknown` without a manifest; `reason` says why it ended, or what is broken. From
    `start` to `end` `recorded_seconds` were recorded, without pauses; `end` is None where no file was closed yet.
    `tables` have files, `counters` were counted, `files` and `bytes` are what is there now. `records_lost` of `records`
    are what the kernel said and nobody read. Of a recording by a flight recorder
    `recorded_for` says why it was written.
    """

    id: str
    run_id: str | None
    node_name: str | None
    identifier: str | None
    source: str | None
    status: Status
    reason: str | None
    start: Moment | None
    end: Moment | None
    recorded_seconds: float | None
    tick_ns: int | None
    window_ticks: int | None
    tables: list[str]
    counters: list[str]
    files: int
    bytes: int
    records: int | None
    records_lost: int | None
    recorded_for: list[str]


class RunList(msgspec.Struct, frozen=True, kw_only=True):
    """The runs of `directory`, the oldest first."""

    command: Literal["runs"] = "runs"
    version: int = RUNS_VERSION
    directory: str
    runs: list[Run]


def list_runs(directory: Path, *, local: bool = False) -> RunList:
    """All runs that left anything in `directory`; times in UTC, or this machine's zone.

    Raises UsageError for what is no directory, or holds no run.
    """
    found = find_runs(directory)
    if not found:
        raise UsageError(f"{str(directory)!r} holds no run of `tracer run`")
    # Opened once: each look at a directory is at the files of all its runs.
    recordings = {}
    with contextlib.suppress(UsageError):
        recordings = open_recording([directory], local=local).by_run()
    return RunList(
        directory=str(directory), runs=[_run(directory, one, recordings.get(one.id), local=local) for one in found]
    )


def _run(directory: Path, found: FoundRun, recording: Recording | None, *, local: bool) -> Run:
    manifest = found.manifest
    start = end = recorded = None
    reason = found.damage
    if found.files:
        try:
            # Where nothing of it can be read, that says why.
            recording = recording or open_recording([directory], run=found.id, local=local)
            zone = zone_at(recording.span.start, local=local)
            start, end = (moment.astimezone(zone) for moment in recording.span)
            recorded = recording.recorded_time()
        except UsageError as error:
            reason = reason or str(error)
    elif manifest is not None:
        with contextlib.suppress(OverflowError, ValueError, OSError):
            start = datetime.fromtimestamp(manifest.start.utc_ns // 10**9, UTC)
            start = start.astimezone(zone_at(start, local=local))
    return Run(
        id=found.id,
        run_id=None if manifest is None else str(manifest.run_id),
        node_name=None if manifest is None else manifest.host.node_name,
        identifier=None if manifest is None else manifest.host.identifier,
        source=None if manifest is None else manifest.source,
        status=_status(directory, found),
        reason=reason or (None if manifest is None else manifest.exit_reason),
        start=start,
        end=end,
        recorded_seconds=None if recorded is None else recorded / timedelta(seconds=1),
        tick_ns=None if manifest is None else manifest.tick_ns,
        window_ticks=None if manifest is None else manifest.window_ticks,
        tables=[table for table in TABLES if any(name.startswith(f"{table}/") for name in found.files)],
        counters=[] if manifest is None else [event.column for event in manifest.events if event.counted],
        files=len(found.files),
        bytes=sum(_size(directory / name) for name in found.files),
        records=None if manifest is None else manifest.totals.records,
        records_lost=None if manifest is None else manifest.totals.records_lost,
        recorded_for=[]
        if manifest is None or manifest.recorder is None
        else [occasion.description for occasion in manifest.recorder.occasions],
    )


def _status(directory: Path, found: FoundRun) -> Status:
    if found.manifest is None:
        return "unknown"
    if found.manifest.status != "running":
        return found.manifest.status
    return "running" if is_open(directory, found.manifest.run_id) else "killed"


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        # The retention of a run was faster.
        return 0
