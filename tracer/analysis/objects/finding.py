# SPDX-License-Identifier: Apache-2.0
"""The periods of an object store that a question is about: days, then hours, then nodes are listed, and no more."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from tracer.analysis.moments import parse_moment
from tracer.analysis.objects.store import ObjectStore
from tracer.analysis.recorded_files import some_of
from tracer.errors import UsageError
from tracer.store.layout import partition_value
from tracer.store.periods import PERIODS, Period, PeriodFile, decode_period, hour_path

_HOUR: Final = timedelta(hours=1)
_DAY: Final = re.compile(r"dt=([0-9]{4}-[0-9]{2}-[0-9]{2})")
_HOUR_NAME: Final = re.compile(r"hour=([01][0-9]|2[0-3])")
_PERIOD: Final = re.compile(r"(?P<partition>.+)-(?P<run>[0-9a-f]{8})\.json")


@dataclass(frozen=True, kw_only=True)
class Found:
    """Periods of `store`, from `since` to before `until`, UTC; None is all that they have.

    `choice` says, for people, which time is read where none was given.
    """

    store: ObjectStore
    periods: list[Period]
    since: datetime | None
    until: datetime | None
    choice: str | None

    def files(self, tables: Collection[str]) -> list[PeriodFile]:
        """Those of `tables` with rows in the time."""
        first = 0 if self.since is None else _ns(self.since)
        before = None if self.until is None else _ns(self.until)
        return [
            file
            for period in self.periods
            for file in period.files
            if file.table in tables
            and file.last_time_ns + 1_000 > first
            and (before is None or file.first_time_ns < before)
        ]

    def span(self, tables: Collection[str]) -> tuple[datetime, datetime]:
        """When the rows of `tables` begin and end, within the time. Raises UsageError where there is none."""
        files = self.files(tables)
        if not files:
            raise UsageError(f"{self.store.url}: nothing was recorded then")
        first = _at(min(file.first_time_ns for file in files))
        before = _at(max(file.last_time_ns for file in files) + 1_000)
        return max(first, self.since or first), min(before, self.until or before)

    @property
    def notes(self) -> list[str]:
        """What is not there, for people."""
        lost: dict[str, int] = {}
        for period in self.periods:
            for table, rows in period.lost.items():
                lost[table] = lost.get(table, 0) + rows
        told = ", ".join(f"{rows:,} rows of {table}" for table, rows in sorted(lost.items()) if rows)
        return [f"removed on the nodes before they were uploaded: {told}"] if told else []


def find_periods(
    store: ObjectStore,
    *,
    since: str | None = None,
    until: str | None = None,
    local: bool = False,
    nodes: Sequence[str] = (),
    run: str | None = None,
) -> Found:
    """Those from `since` to before `until`; of no time, those of the last hour that is there.

    `nodes` are identifiers as they were given, `run` how a run's id begins. Raises UsageError, also where there is
    none.
    """
    partitions = {partition_value(node) for node in nodes}
    days = [match[1] for name in store.list(PERIODS).prefixes if (match := _DAY.fullmatch(name))]
    if not days:
        raise UsageError(f"{store.url}: no node has uploaded anything there (no {PERIODS}/dt=<day>)")
    start = _hours(store, days[0], first=True)
    last = _hours(store, days[-1], first=False)
    if since is None and until is None:
        periods = _read(store, [last], partitions, run)
        choice = f"{store.url}: the last hour is read, from {last:%Y-%m-%d %H}:00 UTC on (--since, --until)"
        return Found(store=store, periods=periods, since=None, until=None, choice=choice)
    first, before = _moments(store, since, until, start, last, local=local)
    hours = [
        hour
        for day in days
        if first - timedelta(days=1) < _moment(day) < before
        for hour in _hours_of(store, day)
        if first - _HOUR < hour < before
    ]
    if not hours:
        raise UsageError(
            f"{store.url}: nothing was uploaded of that time; there is {start:%Y-%m-%d %H}:00 to "
            f"{last + _HOUR:%Y-%m-%d %H}:00 UTC"
        )
    periods = _read(store, hours, partitions, run)
    return Found(store=store, periods=periods, since=first, until=before, choice=None)


def _moments(
    store: ObjectStore, since: str | None, until: str | None, start: datetime, last: datetime, *, local: bool
) -> tuple[datetime, datetime]:
    """When the time begins and ends: what counts from an end of the recording does so from its first or last row."""
    end = last + _HOUR
    given = [one.strip() for one in (since, until) if one is not None]
    if any(one.startswith("-") for one in given):
        rows = [file.last_time_ns for period in _read(store, [last], set(), None) for file in period.files]
        end = _at(max(rows, default=_ns(end)) + 1_000)
    if any(one.startswith("+") for one in given):
        rows = [file.first_time_ns for period in _read(store, [start], set(), None) for file in period.files]
        start = _at(min(rows, default=_ns(start)))
    first = start if since is None else parse_moment(since, start, end, local=local)
    before = end if until is None else parse_moment(until, start, end, local=local)
    if first >= before and None not in (since, until):
        raise UsageError(f"that time ends before it begins ({first:%Y-%m-%d %H:%M:%S} to {before:%Y-%m-%d %H:%M:%S})")
    return first, before


def _read(store: ObjectStore, hours: Sequence[datetime], partitions: set[str], run: str | None) -> list[Period]:
    digits = None if run is None else run.lower().replace("-", "")[:8]
    paths, others = [], set()
    prefixes = [f"{PERIODS}/{hour_path(hour)}" for hour in hours]
    for prefix, listed in zip(prefixes, store.of_each(store.list, prefixes), strict=True):
        for name in listed.objects:
            match = _PERIOD.fullmatch(name)
            if match is None:
                continue
            if (partitions and match["partition"] not in partitions) or (
                digits and not match["run"].startswith(digits)
            ):
                others.add(match["partition"])
                continue
            paths.append(f"{prefix}/{name}")
    if not paths:
        raise UsageError(f"{store.url}: nothing was uploaded then of what is asked for; there are {some_of(others)}")
    return list(store.of_each(lambda path: _period(store, path), paths))


def _period(store: ObjectStore, path: str) -> Period:
    content = store.read(path)
    try:
        return decode_period(content)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{store.url}/{path}: is no manifest of a period: {error}") from error


def _hours(store: ObjectStore, day: str, *, first: bool) -> datetime:
    hours = _hours_of(store, day)
    if not hours:
        raise UsageError(f"{store.url}: {PERIODS}/dt={day} has no hour=<hour>")
    return hours[0 if first else -1]


def _hours_of(store: ObjectStore, day: str) -> list[datetime]:
    names = store.list(f"{PERIODS}/dt={day}").prefixes
    return [_moment(day) + int(match[1]) * _HOUR for name in names if (match := _HOUR_NAME.fullmatch(name))]


def _moment(day: str) -> datetime:
    try:
        return datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise UsageError(f"{day!r} is no day") from error


def _ns(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1_000


def _at(utc_ns: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=utc_ns // 1_000)
