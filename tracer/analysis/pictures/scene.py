# SPDX-License-Identifier: Apache-2.0
"""All that the page shows of one node, read from its tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from tracer.analysis.findings import Aggressor, Report, TimeRange, Victim
from tracer.analysis.pictures.axis import TimeAxis, utc_ns
from tracer.analysis.pictures.cast import Cast
from tracer.analysis.pictures.colours import COLOURED
from tracer.analysis.pictures.courses import Courses, read_courses
from tracer.analysis.pictures.densities import Densities, read_densities
from tracer.analysis.pictures.resources import Resources, read_resources
from tracer.analysis.pictures.time_spent import SpentCourses, read_spent
from tracer.analysis.recording import Recording

Table = Literal["windows", "ticks"]
Unit = Literal["window", "tick"]

# Rows of a heat map that people can still tell apart.
SHOWN: Final = 15

_CLOSER_BUCKETS = 2000
_CLOSER_TABLES: Final[tuple[tuple[Table, Unit], ...]] = (("ticks", "tick"), ("windows", "window"))
_RESOURCES_STEP_NS = 10**9
_RESOURCES_BUCKETS = 2000
_SPENT_BUCKETS = 2000


@dataclass(frozen=True)
class View:
    """A stretch of time: the whole recording, or a closer look at a moment of it.

    `unit` is what the courses were read from, of which they have the extremes.
    """

    title: str
    unit: Unit
    courses: Courses


@dataclass(frozen=True)
class Scene:
    """Everything there is to draw of one node. `densities` are by the number of the container in the cast."""

    cast: Cast
    views: list[View]
    spent: SpentCourses | None
    resources: Resources | None
    densities: dict[int, Densities]


def read_scene(recording: Recording, report: Report, cast: Cast, *, buckets: int, closer_looks: int) -> Scene:
    """Reads what the page shows of the cast's node: the whole recording in at most so many `buckets`, and moments."""
    whole = read_whole(recording, cast, buckets=buckets)
    views = [View("the whole recording", "window" if recording.has("windows") else "tick", whole)]
    for victim in report.victims:
        if victim.container.node_name == cast.node and victim.aggressors and len(views) <= closer_looks:
            look = _closer_look(recording, cast, whole, victim, victim.aggressors[0])
            if look is not None and all(look.courses.axis != view.courses.axis for view in views):
                views.append(look)
    return Scene(
        cast,
        views,
        read_whole_spent(recording, cast, buckets=_SPENT_BUCKETS),
        read_whole_resources(recording, cast, buckets=_RESOURCES_BUCKETS),
        read_densities(recording, cast, shown=COLOURED),
    )


def read_whole(recording: Recording, cast: Cast, *, buckets: int) -> Courses:
    """The courses over the whole recording, from windows; from ticks where there are no windows."""
    table: Table = "windows" if recording.has("windows") else "ticks"
    step_ns = cast.facts.window_ns if table == "windows" else cast.facts.tick_ns
    axis = TimeAxis.over(*_span_ns(recording), step_ns=step_ns, at_most=buckets, zone=recording.zone)
    return read_courses(recording, cast, axis, shown=SHOWN, table=table)


def read_whole_spent(recording: Recording, cast: Cast, *, buckets: int) -> SpentCourses | None:
    """Where the time went, of containers with a colour; None if no waits were recorded."""
    if not recording.has("waits"):
        return None
    axis = TimeAxis.over(*_span_ns(recording), step_ns=cast.facts.window_ns, at_most=buckets, zone=recording.zone)
    return read_spent(recording, cast, axis, shown=COLOURED)


def read_whole_resources(recording: Recording, cast: Cast, *, buckets: int) -> Resources | None:
    """Memory and pressure over the whole recording, of containers with a colour; None if they were not recorded."""
    if not recording.has("resources"):
        return None
    axis = TimeAxis.over(*_span_ns(recording), step_ns=_RESOURCES_STEP_NS, at_most=buckets, zone=recording.zone)
    return read_resources(recording, cast, axis, shown=COLOURED)


def _closer_look(recording: Recording, cast: Cast, whole: Courses, victim: Victim, aggressor: Aggressor) -> View | None:
    """Where the aggressor was at its highest while it hurt: each tick, if recorded then, else each window.

    None where the view of the whole recording has that already.
    """
    number = cast.containers.index(aggressor.container)
    if number >= whole.shown:
        return None
    highest_ns = _highest_ns(whole, number, aggressor.time_ranges)
    hurt = cast.names[cast.containers.index(victim.container)]
    for table, unit in _CLOSER_TABLES:
        step_ns = cast.facts.tick_ns if table == "ticks" else cast.facts.window_ns
        if highest_ns is None or step_ns == whole.axis.bucket_ns or not recording.has(table):
            continue
        # With enough before it to see what was usual.
        start_ns = max(whole.axis.start_ns, highest_ns - _CLOSER_BUCKETS // 2 * step_ns)
        end_ns = min(whole.axis.end_ns, start_ns + _CLOSER_BUCKETS * step_ns)
        axis = TimeAxis.over(start_ns, end_ns, step_ns=step_ns, at_most=_CLOSER_BUCKETS, zone=recording.zone)
        courses = read_courses(recording, cast, axis, shown=SHOWN, table=table)
        if not np.isnan(courses.cpus.total_peak).all():
            return View(f"{cast.names[number]} at its highest, {hurt} hurt", unit, courses)
    return None


def _highest_ns(whole: Courses, number: int, ranges: Sequence[TimeRange]) -> int | None:
    """The bucket, by its start, in which the container was highest of those that touch one of `ranges`."""
    axis = whole.axis
    starts = axis.start_ns + np.arange(axis.buckets) * axis.bucket_ns
    inside = np.full(axis.buckets, not ranges)
    for one in ranges:
        inside |= (starts + axis.bucket_ns > utc_ns(one.start)) & (starts < utc_ns(one.end))
    peaks = np.where(inside, (whole.traffic if whole.counted else whole.cpus).peak[number], np.nan)
    return None if np.isnan(peaks).all() else int(starts[np.nanargmax(peaks)])


def _span_ns(recording: Recording) -> tuple[int, int]:
    return utc_ns(recording.span.start), utc_ns(recording.span.end)
