# SPDX-License-Identifier: Apache-2.0
"""What a question on a fleet is asked of: directories and object stores, of all runs and nodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Final

import polars as pl

from tracer.analysis.engines import Files
from tracer.analysis.fleet.hour_sums import HOUR_SUMS, columns_of
from tracer.analysis.fleet.processors import models_of, models_of_runs
from tracer.analysis.moments import zone_at
from tracer.analysis.objects.finding import Compacted, Found, find_periods
from tracer.analysis.objects.store import ObjectStore, is_url
from tracer.analysis.recording import Recording, open_recording
from tracer.analysis.recording_names import Named, parse_name
from tracer.analysis.runs import ALL
from tracer.errors import UsageError
from tracer.store.compactions import Compaction
from tracer.store.schemas import TABLES

READ: Final = ("windows", "waits")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Files by table, as engines read them, with rows from `start` to before `end`, UTC, and sums of other whole hours.

    `zone` is what times are shown in, `models` the processor's model by node as far as a manifest tells it. `nodes` are
    those whose rows are meant, by name, where files have those of others too; none: all. `choices`
    say what is read where nobody said which time, `notes` what is left out; for people.
    """

    files: dict[str, list[str]]
    sums: dict[str, list[str]]
    start: datetime
    end: datetime
    zone: tzinfo
    models: dict[str, str]
    nodes: set[str]
    choices: list[str]
    notes: list[str]

    def of(self, table: str, columns: Sequence[str]) -> Files | None:
        """What is to be scanned of `table`; None where there is no file of it."""
        names = self.files.get(table)
        return Files(TABLES[table], names, self.start, self.end, columns) if names else None

    def sums_of(self, table: str) -> Files | None:
        """What is to be scanned of sums of whole hours; None where there are none."""
        names, of = self.sums.get(table), HOUR_SUMS[table]
        # The first of them began before the first row.
        start = self.start - timedelta(hours=1)
        return Files(of, names, start, self.end, columns_of(of)) if names else None

    @property
    def model_table(self) -> pl.DataFrame:
        """`models` as a table."""
        rows = list(self.models.items())
        return pl.DataFrame(rows, {"node_name": pl.String, "cpu_model": pl.String}, orient="row")


def open_source(
    names: Sequence[str],
    *,
    since: str | None = None,
    until: str | None = None,
    local: bool = False,
    nodes: Sequence[str] = (),
) -> Source:
    """All runs of the places, or those that are named, within the time. Raises UsageError."""
    named = [parse_name(name) for name in names]
    if any(one.since or one.until for one in named):
        raise UsageError("say the time with --since and --until")
    places = [
        _of_url(one, since, until, local=local, nodes=nodes)
        if is_url(one.place)
        else _of_directory(one, since, until, local=local, nodes=nodes)
        for one in named
    ]
    start = min(place.start for place in places)
    return Source(
        files={table: [name for place in places for name in place.files[table]] for table in READ},
        sums={table: [name for place in places for name in place.sums.get(table, ())] for table in HOUR_SUMS},
        start=start,
        end=max(place.end for place in places),
        zone=zone_at(start, local=local),
        models={node: model for place in places for node, model in place.models.items()},
        nodes={node for place in places for node in place.nodes},
        choices=[choice for place in places for choice in place.choices],
        notes=[note for place in places for note in place.notes],
    )


def _of_directory(one: Named, since: str | None, until: str | None, *, local: bool, nodes: Sequence[str]) -> Source:
    recording: Recording = open_recording(
        [Path(one.place)], run=one.runs or ALL, since=since, until=until, local=local, identifiers=nodes
    )
    return Source(
        files={table: [str(path) for path in recording.files(table)] for table in READ},
        sums={},
        start=recording.span.start,
        end=recording.span.end,
        zone=recording.zone,
        models=models_of(manifest.host for manifest in recording.manifests),
        nodes=set(recording.nodes) if nodes else set(),
        choices=recording.choices,
        notes=recording.notes,
    )


def _of_url(one: Named, since: str | None, until: str | None, *, local: bool, nodes: Sequence[str]) -> Source:
    store = ObjectStore(one.place)
    run = None if one.runs in (None, ALL) else one.runs
    # Runs cannot be told apart in what is compacted.
    compacted: Compacted = "first" if run is None else "no"
    found = find_periods(store, since=since, until=until, local=local, nodes=nodes, run=run, compacted=compacted)
    runs = {period.node_name: period.run_id for period in sorted(found.periods, key=lambda one: one.hour)}
    models, notes = models_of_runs(store, runs)
    sources = [source for compaction in found.compactions for source in compaction.sources]
    known = {source.node_name: source.cpu_model for source in sources if source.cpu_model is not None}
    start, end = found.span(READ)
    whole = [one for one in found.compactions if found.is_whole(one)]
    parts = [one for one in found.compactions if one not in whole]
    return Source(
        files={table: [*_of(found, table), *_within(found, table, parts)] for table in READ},
        sums={table: _within(found, table, whole) for table in HOUR_SUMS},
        start=start,
        end=end,
        zone=zone_at(start, local=local),
        models=known | models,
        nodes=found.nodes,
        choices=found.choices,
        notes=[*found.notes, *notes],
    )


def _of(found: Found, table: str) -> list[str]:
    return [found.store.location(file.path) for file in found.files_of_periods([table])]


def _within(found: Found, table: str, compactions: Sequence[Compaction]) -> list[str]:
    return [found.store.location(file.path) for one in compactions for file in found.within(one.files, [table])]
