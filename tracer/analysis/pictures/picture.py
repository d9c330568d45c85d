# SPDX-License-Identifier: Apache-2.0
"""One picture of a recording as a file, whatever has to be read for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import polars as pl
from matplotlib.figure import Figure

from tracer.analysis.findings import Report
from tracer.analysis.moments import span_text
from tracer.analysis.pictures import figures
from tracer.analysis.pictures.cast import ROOT, Cast, choose_cast
from tracer.analysis.pictures.colours import COLOURED
from tracer.analysis.pictures.densities import read_densities
from tracer.analysis.pictures.matrix import matrices_of, unseen
from tracer.analysis.pictures.scene import read_whole, read_whole_resources, read_whole_spent
from tracer.analysis.recording import Recording, of_what_can_be_read
from tracer.analysis.report import Progress, report
from tracer.analysis.roster import Roster
from tracer.errors import UsageError

Kind = Literal["timeline", "density", "matrix", "heatmap", "resources", "waits"]


@of_what_can_be_read
def write_picture(
    recording: Recording, kind: Kind, path: Path, *, node: str | None = None, progress: Progress | None = None
) -> None:
    """Writes it to `path`, whose ending says as what. It is of one node: `node`, or where most was lost.

    It is about who was asked for in `open_recording`, or else about the worst victim, which the report has to find;
    `progress` is the report's. Raises UsageError for what was not recorded, OutputError if it cannot be written.
    """
    if node is not None and node not in recording.nodes:
        raise UsageError(f"the recording has no node {node!r}; there are {', '.join(map(repr, recording.nodes))}")
    roster = Roster(recording)
    wanted = roster.containers.filter("is_wanted")
    if node is not None:
        wanted = wanted.filter(pl.col("node_name") == node)
    if wanted.is_empty():
        raise UsageError("the recording has no rows of who was asked for, then and there")
    findings = None if recording.is_about_some and kind != "matrix" else report(recording, progress=progress)
    if node is None:
        hurt = [cost.container.node_name for cost in findings.costs] if findings else []
        hurt += [victim.container.node_name for victim in findings.victims] if findings else []
        node = hurt[0] if hurt else wanted["node_name"][0]
    figures.save(_drawing(recording, findings, choose_cast(recording, roster, findings, node), kind), path)


def _drawing(recording: Recording, findings: Report | None, cast: Cast, kind: Kind) -> Callable[[], Figure]:
    """How to draw it, with all that it needs read."""
    name = cast.names[0]
    if findings is not None and kind == "matrix":
        about_root = recording.is_about_some
        found = matrices_of(findings, cast.node, about_root=about_root)
        missing = unseen(findings, cast.node, cast.facts.why_not_counted, about_root=about_root)
        return lambda: figures.matrices(found, _title("Who took from whom", cast, recording), missing)
    if kind == "waits":
        waits = read_whole_spent(recording, cast, buckets=figures.WIDTH_BUCKETS)
        if waits is None:
            raise UsageError("the recording has no waits: it was made with --waits off, or by an older tracer")
        title = _title(f"Where the time of {name} went", cast, recording)
        return lambda: figures.time_spent(waits, cast.names, title, None)
    if kind == "density":
        # Whoever is first and ran enough; who was asked for, or nobody.
        shown = 1 if recording.is_about_some else COLOURED
        number, densities = next(
            ((number, found) for number, found in read_densities(recording, cast, shown=shown).items()
             if cast.containers[number].name != ROOT or number == 0),
            (0, None),
        )  # fmt: skip
        name = cast.names[number]
        if densities is None:
            raise UsageError(
                f"too little of {name} was recorded for its density: in less than 400 windows it ran for a 60th of a "
                "core or more (a minute is better)"
            )
        title = _title(f"{name} with noisy and with quiet neighbours", cast, recording)
        return lambda: figures.densities(densities, name, title, _why(cast, densities.measure == "cpi"))
    if kind == "resources":
        resources = read_whole_resources(recording, cast, buckets=figures.WIDTH_BUCKETS)
        if resources is None:
            raise UsageError("the recording has no rows of `resources` for these containers")
        title = _title("Memory and waiting", cast, recording)
        return lambda: figures.resources(resources, cast.names, title, None)
    courses = read_whole(recording, cast, buckets=figures.WIDTH_BUCKETS)
    note = _why(cast, courses.counted)
    if kind == "heatmap":
        title = _title("What each container did", cast, recording)
        return lambda: figures.heat_map(courses, cast.names, title, note)
    title = _title("Memory traffic by container" if courses.counted else "CPU time by container", cast, recording)
    spent = None if courses.has_cpi else read_whole_spent(recording, cast, buckets=figures.WIDTH_BUCKETS)
    return lambda: figures.timeline(courses, spent, cast.names, title, note)


def _title(what: str, cast: Cast, recording: Recording) -> str:
    return f"{what} · {cast.node} · {span_text(*map(recording.shown, recording.span))}"


def _why(cast: Cast, counted: bool) -> str | None:
    if counted:
        return None
    why = cast.facts.why_not_counted
    return f"LLC misses were not counted{f': {why}' if why else ''}"
