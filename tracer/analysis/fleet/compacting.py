# SPDX-License-Identifier: Apache-2.0
"""`tracer fleet compact`: the periods of an hour of all nodes, put together; each once, whatever comes in between."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from tracer.analysis.fleet.hour_sums import HOUR_SUMS
from tracer.analysis.fleet.merging_periods import Part, merge_part
from tracer.analysis.fleet.processors import models_of_runs
from tracer.analysis.objects.compactions import read_compaction
from tracer.analysis.objects.finding import Found, path_of
from tracer.analysis.objects.store import ObjectStore
from tracer.errors import UsageError
from tracer.store.compactions import (
    CompactedFile,
    Compaction,
    Source,
    compacted_directory,
    compaction_path,
)
from tracer.store.hours import hour_text, parse_hour
from tracer.store.periods import Period, session_path
from tracer.store.schemas import TABLES

Merge = Callable[[Sequence[Part]], Sequence[list[CompactedFile]]]
"""`merge_part` of each."""

_FILES_OF_A_PART: Final = 8


class Compacted(NamedTuple):
    """What was done with an hour: how many periods and files became how many files, of how many rows and bytes.

    `left` are periods whose hour was not over when they were uploaded, `known` those that were there already, and
    `deleted` says whether what they were made of is gone. `registered`: how many files were told to a catalogue.
    """

    hour: str
    periods: int
    files_before: int
    bytes_before: int
    files: int
    bytes: int
    rows: int
    left: int
    known: int
    deleted: bool
    registered: int = 0


def compact(
    found: Found,
    target: ObjectStore,
    *,
    size: int,
    delete: bool,
    merge: Merge | None = None,
    register: Callable[[ObjectStore, Compaction], int] | None = None,
    say: Callable[[str, int, int], None] | None = None,
) -> Iterator[Compacted]:
    """Each hour of `found`, to `target`, in files of about `size` bytes; with `delete`, their originals are removed.

    `merge` has the parts of an hour, of several files each, worked on elsewhere; without it an hour is one, here.
    `register` is called with what there is of each hour, also of one of which nothing is new, before originals go.

    Raises UsageError for what cannot be read, OutputError for what cannot be written.
    """
    hours: dict[int, list[Period]] = {}
    for period in found.periods:
        hours.setdefault(parse_hour(period.hour), []).append(period)
    for number, (hour, periods) in enumerate(sorted(hours.items())):
        if say is not None:
            say(hour_text(hour), number, len(hours))
        yield _compact_hour(
            found.store, target, hour, periods, size=size, delete=delete, merge=merge, register=register
        )


def _compact_hour(
    store: ObjectStore,
    target: ObjectStore,
    hour: int,
    periods: Sequence[Period],
    *,
    size: int,
    delete: bool,
    merge: Merge | None,
    register: Callable[[ObjectStore, Compaction], int] | None,
) -> Compacted:
    after = before = read_compaction(target, hour) or Compaction(hour=hour_text(hour), sources=[], files=[])
    known = {source.path for source in before.sources}
    complete = [period for period in periods if period.complete]
    new = sorted(
        (period for period in complete if path_of(period) not in known), key=lambda one: (one.node_name, one.run_id.hex)
    )
    files: list[CompactedFile] = []
    if new:
        if merge is None:
            files = merge_part(Part(store.url, target.url, hour, new, size))
        else:
            files = [file for part in merge(_parts(store, target, hour, new, size)) for file in part]
        models = models_of_runs(store, {period.node_name: period.run_id for period in new})[0]
        sources = [
            Source(
                path=path_of(period), node_name=period.node_name, identifier=period.identifier, run_id=period.run_id,
                cpu_model=models.get(period.node_name), lost=period.lost,
            )
            for period in new
        ]  # fmt: skip
        after = Compaction(hour=before.hour, sources=[*before.sources, *sources], files=[*before.files, *files])
        _copy_sessions(store, target, {period.run_id for period in new})
        target.write(compaction_path(hour), msgspec.json.encode(after) + b"\n")
        _remove_unnamed(target, hour, after)
    registered = 0 if register is None else register(target, after)
    if delete:
        for period in complete:
            # Its manifest first: nobody looks for the files then.
            store.delete([path_of(period)])
            store.delete([file.path for file in period.files])
    return Compacted(
        hour=before.hour,
        periods=len(new),
        files_before=sum(len(period.files) for period in new),
        bytes_before=sum(file.bytes for period in new for file in period.files),
        files=sum(file.table in TABLES for file in files),
        bytes=sum(file.bytes for file in files),
        rows=sum(file.rows for file in files if file.table in TABLES),
        left=len(periods) - len(complete),
        known=len(complete) - len(new),
        deleted=delete,
        registered=registered,
    )


def _parts(store: ObjectStore, target: ObjectStore, hour: int, periods: Sequence[Period], size: int) -> list[Part]:
    """Node after node, each of several files' bytes: what is left of a part is a smaller file of each table."""
    parts: list[list[Period]] = [[]]
    room = _FILES_OF_A_PART * size
    for period in periods:
        if room <= 0:
            parts.append([])
            room = _FILES_OF_A_PART * size
        parts[-1].append(period)
        room -= sum(file.bytes for file in period.files)
    return [Part(store.url, target.url, hour, part, size) for part in parts]


def _copy_sessions(store: ObjectStore, target: ObjectStore, runs: set[UUID]) -> None:
    """The manifests of runs too, as far as they are there: they tell what the rows do not."""

    def copy(path: str) -> None:
        with contextlib.suppress(UsageError):
            target.write(path, store.read(path))

    if store.url != target.url:
        for _done in store.of_each(copy, [session_path(run_id) for run_id in runs]):
            pass


def _remove_unnamed(target: ObjectStore, hour: int, compaction: Compaction) -> None:
    """What was written of that hour by one that did not come to its manifest."""
    named = {file.path for file in compaction.files}
    for table in (*TABLES, *HOUR_SUMS):
        directory = compacted_directory(table, hour)
        target.delete([path for name in target.list(directory).objects if (path := f"{directory}/{name}") not in named])
