# SPDX-License-Identifier: Apache-2.0
"""What a question on a fleet is asked of: the files of output directories, of all runs and nodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Final

import polars as pl

from tracer.analysis.engines import Files
from tracer.analysis.recording import open_recording
from tracer.analysis.recording_names import parse_name
from tracer.analysis.runs import ALL
from tracer.errors import UsageError
from tracer.store.manifest import Manifest
from tracer.store.schemas import TABLES

READ: Final = ("windows", "waits")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Files by table, as engines read them, with rows from `start` to before `end`, UTC.

    `zone` is what times are shown in, `models` the processor's model by node as far as a manifest tells it, and `notes`
    say what is left out, for people.
    """

    files: dict[str, list[str]]
    start: datetime
    end: datetime
    zone: tzinfo
    models: dict[str, str]
    notes: list[str]

    def of(self, table: str, columns: Sequence[str]) -> Files | None:
        """What is to be scanned of `table`; None where there is no file of it."""
        names = self.files.get(table)
        return Files(TABLES[table], names, self.start, self.end, columns) if names else None

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
    """All runs of the directories, or those that are named, within the time. Raises UsageError."""
    named = [parse_name(name) for name in names]
    if any(one.since or one.until for one in named):
        raise UsageError("say the time with --since and --until")
    recording = open_recording(
        [one.directory for one in named],
        run=[one.runs or ALL for one in named],
        since=since,
        until=until,
        local=local,
        identifiers=nodes,
    )
    files = {table: [str(path) for path in recording.files(table)] for table in READ}
    return Source(
        files=files,
        start=recording.span.start,
        end=recording.span.end,
        zone=recording.zone,
        models=models_of(recording.manifests),
        notes=recording.notes,
    )


def models_of(manifests: Sequence[Manifest]) -> dict[str, str]:
    """By node, as its last run says."""
    hosts = (manifest.host for manifest in manifests)
    return {host.node_name: host.cpu_model for host in hosts if host.cpu_model is not None}
