# SPDX-License-Identifier: Apache-2.0
"""All that the page shows of one node, read from its tables."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np

from tracer.analysis.findings import Aggressor, Container, Report, TimeRange, TimeSpent
from tracer.analysis.pictures.axis import TimeAxis, utc_ns
from tracer.analysis.pictures.cast import ROOT, Cast
from tracer.analysis.pictures.colours import COLOURED
from tracer.analysis.pictures.courses import Courses, Line, read_courses
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

    `unit` is what the courses were read from, of which they have the extremes. `spent` is None if no waits were
    recorded then. `about` is the number of the container whom it is about.
    """

    title: str
    about: int
    unit: Unit
    courses: Courses
    spent: SpentCourses | None


@dataclass(frozen=True)
class Scene:
    """Everything there is to draw of one node. `densities` are by the number of the container in the cast."""

    cast: Cast
    views: list[View]
    resources: Resources | None
    densities: dict[int, Densities]


def read_scene(recording: Recording, report: Report, cast: Cast, *, buckets: int, closer_looks: int) -> Scene:
    """Reads what the page shows of the cast's node: the whole recording in at most so many `buckets`, and moments."""
    whole = read_whole(recording, cast, buckets=buckets)
    spent = read_whole_spent(recording, cast, buckets=_SPENT_BUCKETS)
    views = [View("the whole recording", 0, "window" if recording.has("windows") else "tick", whole, spent)]
    for moment in _moments(report, cast, whole):
        if len(views) <= closer_looks:
            look = _closer_look(recording, cast, whole, moment)
            if look is not None and all(look.courses.axis != view.courses.axis for view in views):
                views.append(look)
    return Scene(
        cast,
        views,
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
    return _read_spent(recording, cast, *_span_ns(recording), buckets)


def _read_spent(recording: Recording, cast: Cast, start_ns: int, end_ns: int, buckets: int) -> SpentCourses | None:
    if not recording.has("waits"):
        return None
    axis = TimeAxis.over(start_ns, end_ns, step_ns=cast.facts.window_ns, at_most=buckets, zone=recording.zone)
    return read_spent(recording, cast, axis, shown=COLOURED)


def read_whole_resources(recording: Recording, cast: Cast, *, buckets: int) -> Resources | None:
    """Memory and pressure over the whole recording, of containers with a colour; None if they were not recorded."""
    if not recording.has("resources"):
        return None
    axis = TimeAxis.over(*_span_ns(recording), step_ns=_RESOURCES_STEP_NS, at_most=buckets, zone=recording.zone)
    return read_resources(recording, cast, axis, shown=COLOURED)


class _Moment(NamedTuple):
    """What is worth a closer look: the highest of `values`, by bucket of the whole recording, within `ranges`.

    `about` is the victim's number.
    """

    title: str
    about: int
    values: Line
    ranges: Sequence[TimeRange]


def _moments(report: Report, cast: Cast, whole: Courses) -> Iterator[_Moment]:
    """Of each victim its worst one by what it cost, be it in caches or by waiting; then of all who waited."""
    seen = set()
    for kind, who, found in _ranked(report, cast):
        if (kind, who.name, who.namespace) in seen:
            continue
        seen.add((kind, who.name, who.namespace))
        number = cast.containers.index(who)
        if isinstance(found, Aggressor):
            other = cast.containers.index(found.container)
            rate = whole.traffic if whole.counted else whole.cpus
            if other < whole.shown:
                title = f"{cast.names[other]} at its highest, {cast.names[number]} hurt"
                yield _Moment(title, number if number < whole.shown else 0, rate.peak[other], found.time_ranges)
        elif number < whole.shown:
            title = f"{cast.names[number]} waiting most{_mostly(found, cast)}"
            yield _Moment(title, number, whole.waiting.peak[number], found.time_ranges)


def _ranked(report: Report, cast: Cast) -> Iterator[tuple[str, Container, Aggressor | TimeSpent]]:
    """Who was hurt on the cast's node, and by what; the root cgroup only if the pictures are about it."""
    spent = {_key(one.container): one for one in report.time_spent if one.container.node_name == cast.node}
    victims = {_key(one.container): one for one in report.victims if one.container.node_name == cast.node}
    subjects = {_key(one) for one in cast.containers if one.name != ROOT or one == cast.containers[0]}
    costs = [one for one in report.costs if one.container.node_name == cast.node and _key(one.container) in subjects]
    for cost in costs:
        if cost.kind == "cache":
            aggressors = victims[_key(cost.container)].aggressors
            yield "cache", cost.container, next(one for one in aggressors if one.container == cost.by)
        else:
            yield "waiting", cost.container, spent[_key(cost.container)]
    for key, victim in victims.items():
        if key in subjects and victim.aggressors:
            yield "cache", victim.container, victim.aggressors[0]
    for key, one in spent.items():
        if key in subjects and one.cause != "little":
            yield "waiting", one.container, one


def _mostly(spent: TimeSpent, cast: Cast) -> str:
    """`, behind batch-7/etl`, if it is known of more than half of its wait."""
    parts = [(one.wait_ns, f"behind {cast.names[cast.containers.index(one.container)]}")
             for one in spent.holders if one.container is not None]  # fmt: skip
    parts += [(spent.behind_self_ns, "behind its own threads"), (spent.throttled_ns, "throttled by its own limit")]
    wait_ns, text = max(parts)
    return f", {text}" if wait_ns > spent.wait_ns / 2 else ""


def _key(container: Container) -> tuple[str, str | None]:
    return container.name, container.namespace


def _closer_look(recording: Recording, cast: Cast, whole: Courses, moment: _Moment) -> View | None:
    """Around the highest value of a moment: each tick, if recorded then, else each window.

    None where the view of the whole recording has that already.
    """
    highest_ns = _highest_ns(whole.axis, moment)
    for table, unit in _CLOSER_TABLES:
        step_ns = cast.facts.tick_ns if table == "ticks" else cast.facts.window_ns
        if highest_ns is None or step_ns == whole.axis.bucket_ns or not recording.has(table):
            continue
        # With enough before it to see what was usual; from the start of a window on.
        before_ns = max(0, highest_ns - _CLOSER_BUCKETS // 2 * step_ns - whole.axis.start_ns)
        start_ns = whole.axis.start_ns + before_ns // cast.facts.window_ns * cast.facts.window_ns
        end_ns = min(whole.axis.end_ns, start_ns + _CLOSER_BUCKETS * step_ns)
        axis = TimeAxis.over(start_ns, end_ns, step_ns=step_ns, at_most=_CLOSER_BUCKETS, zone=recording.zone)
        courses = read_courses(recording, cast, axis, shown=SHOWN, table=table)
        if not np.isnan(courses.cpus.total_peak).all():
            return View(
                moment.title,
                moment.about,
                unit,
                courses,
                _read_spent(recording, cast, start_ns, end_ns, _CLOSER_BUCKETS),
            )
    return None


def _highest_ns(axis: TimeAxis, moment: _Moment) -> int | None:
    """The bucket, by its start, with the highest value of those that touch one of the ranges."""
    starts = axis.start_ns + np.arange(axis.buckets) * axis.bucket_ns
    inside = np.full(axis.buckets, not moment.ranges)
    for one in moment.ranges:
        inside |= (starts + axis.bucket_ns > utc_ns(one.start)) & (starts < utc_ns(one.end))
    peaks = np.where(inside, moment.values, np.nan)
    return None if np.isnan(peaks).all() else int(starts[np.nanargmax(peaks)])


def _span_ns(recording: Recording) -> tuple[int, int]:
    return utc_ns(recording.span.start), utc_ns(recording.span.end)
