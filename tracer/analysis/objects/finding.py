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
from tracer.printable import printable
from tracer.store.layout import partition_value
from tracer.store.periods import Period, PeriodFile, decode_period, hour_span, periods_of_day, periods_of_hour

_PERIODS: Final = "periods"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_HOURS: Final = 24
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
    days = [day for name in store.list(_PERIODS).prefixes if (day := _first_hour(name)) is not None]
    if not days:
        raise UsageError(f"{store.url}: no node has uploaded anything there (no {_PERIODS}/dt=<day>)")
    start, last = _hours_of(store, days[0])[0], _hours_of(store, days[-1])[-1]
    if since is None and until is None:
        periods = _read(store, [last], partitions, run)
        choice = f"{store.url}: the last hour is read, from {_text(last)} UTC on (--since, --until)"
        return Found(store=store, periods=periods, since=None, until=None, choice=choice)
    first, before = _moments(store, since, until, start, last, local=local)
    hours = [
        hour
        for day in days
        if _ends_after(day + _DAY_HOURS - 1, first) and _begin(day) < before
        for hour in _hours_of(store, day)
        if _ends_after(hour, first) and _begin(hour) < before
    ]
    if not hours:
        raise UsageError(
            f"{store.url}: nothing was uploaded of that time; there is {_text(start)} to {_text(last + 1)} UTC"
        )
    periods = _read(store, hours, partitions, run)
    return Found(store=store, periods=periods, since=first, until=before, choice=None)


def _moments(
    store: ObjectStore, since: str | None, until: str | None, start: int, last: int, *, local: bool
) -> tuple[datetime, datetime]:
    """When the time begins and ends: what counts from an end of the recording does so from its first or last row."""
    begin, end = _begin(start), _begin(last + 1)
    given = [one.strip() for one in (since, until) if one is not None]
    if any(one.startswith("-") for one in given):
        rows = [file.last_time_ns for period in _read(store, [last], set(), None) for file in period.files]
        end = _at(max(rows, default=_ns(end)) + 1_000)
    if any(one.startswith("+") for one in given):
        rows = [file.first_time_ns for period in _read(store, [start], set(), None) for file in period.files]
        begin = _at(min(rows, default=_ns(begin)))
    first = begin if since is None else parse_moment(since, begin, end, local=local)
    before = end if until is None else parse_moment(until, begin, end, local=local)
    if first >= before and None not in (since, until):
        raise UsageError(f"that time ends before it begins ({first:%Y-%m-%d %H:%M:%S} to {before:%Y-%m-%d %H:%M:%S})")
    return first, before


def _read(store: ObjectStore, hours: Sequence[int], partitions: set[str], run: str | None) -> list[Period]:
    digits = None if run is None else run.lower().replace("-", "")[:8]
    paths, others = [], set()
    prefixes = [periods_of_hour(hour) for hour in hours]
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
    except ValueError as error:
        raise UsageError(f"{store.url}/{path} {printable(str(error).encode())}") from error


def _hours_of(store: ObjectStore, day: int) -> list[int]:
    """The hours of a day that there are, since the epoch; at least one."""
    prefix = periods_of_day(day)
    hours = [day + int(match[1]) for name in store.list(prefix).prefixes if (match := _HOUR_NAME.fullmatch(name))]
    if not hours:
        raise UsageError(f"{store.url}/{prefix} has no hour=<hour>")
    return hours


def _first_hour(name: str) -> int | None:
    """Of a day, by the name of what holds its hours; None for what is no day."""
    try:
        return int(datetime.strptime(name, "dt=%Y-%m-%d").replace(tzinfo=UTC).timestamp()) // 3_600
    except ValueError:
        return None


def _begin(hour: int) -> datetime:
    return _EPOCH + timedelta(hours=hour)


def _ends_after(hour: int, moment: datetime) -> bool:
    return _EPOCH + timedelta(microseconds=hour_span(hour).last_us) >= moment


def _text(hour: int) -> str:
    return f"{_begin(hour):%Y-%m-%d %H}:00"


def _ns(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1_000


def _at(utc_ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=utc_ns // 1_000)
