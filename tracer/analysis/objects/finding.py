# SPDX-License-Identifier: Apache-2.0
"""The periods of an object store that a question is about: days, then hours, then nodes are listed, and no more."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypeVar
from uuid import UUID

import msgspec

from tracer.analysis.moments import parse_moment
from tracer.analysis.objects.compactions import read_compaction
from tracer.analysis.objects.store import ObjectStore
from tracer.analysis.recorded_files import some_of
from tracer.errors import UsageError
from tracer.printable import printable
from tracer.store.compactions import COMPACTIONS, CompactedFile, Compaction, compactions_of_day, hour_start
from tracer.store.hours import hour_span, parse_hour
from tracer.store.layout import partition_value
from tracer.store.periods import Period, PeriodFile, decode_period, period_path, periods_of_day, periods_of_hour
from tracer.store.schemas import TABLES

_PERIODS: Final = "periods"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_HOURS: Final = 24
_RUN_DIGITS: Final = 8
_HOUR_NAME: Final = re.compile(r"hour=([01][0-9]|2[0-3])")
_PERIOD: Final = re.compile(r"(?P<partition>[^/]+)-(?P<run>[0-9a-f]{8})\.json\Z")

_File = TypeVar("_File", PeriodFile, CompactedFile)
Compacted = Literal["first", "last", "no"]


@dataclass(frozen=True, kw_only=True)
class Found:
    """Periods of `store`, from `since` to before `until`, UTC; None is all that they have.

    `compactions` have those of whole hours, with the sources that are meant and not among the `periods`; of them only
    the rows of the `nodes` are, by name, if there are any. `choice` says, for people, which time is read where none was
    given.
    """

    store: ObjectStore
    periods: list[Period]
    compactions: list[Compaction]
    nodes: set[str]
    since: datetime | None
    until: datetime | None
    choice: str | None

    def files(self, tables: Collection[str]) -> list[PeriodFile | CompactedFile]:
        """Those of `tables` with rows in the time."""
        compacted = [file for one in self.compactions for file in self.within(one.files, tables)]
        return [*self.files_of_periods(tables), *compacted]

    def files_of_periods(self, tables: Collection[str]) -> list[PeriodFile]:
        """The same, without what is compacted."""
        return [file for period in self.periods for file in self.within(period.files, tables)]

    def within(self, files: Sequence[_File], tables: Collection[str]) -> list[_File]:
        """Those of `files` that are of `tables` and have rows in the time."""
        first = 0 if self.since is None else _ns(self.since)
        before = None if self.until is None else _ns(self.until)
        return [
            file
            for file in files
            if file.table in tables
            and file.last_time_ns + 1_000 > first
            and (before is None or file.first_time_ns < before)
        ]

    def is_whole(self, compaction: Compaction) -> bool:
        """Whether all of that hour is within the time."""
        begin = hour_start(parse_hour(compaction.hour))
        end = begin + timedelta(hours=1)
        return (self.since is None or self.since <= begin) and (self.until is None or self.until >= end)

    @property
    def runs(self) -> set[UUID]:
        """All that are meant."""
        sources = {source.run_id for one in self.compactions for source in one.sources}
        return sources | {period.run_id for period in self.periods}

    def span(self, tables: Collection[str]) -> tuple[datetime, datetime]:
        """When the rows of `tables` begin and end, within the time. Raises UsageError where there is none."""
        files = self.files(tables)
        if not files:
            raise UsageError(f"{self.store.url}: nothing was recorded then")
        first = _at(min(file.first_time_ns for file in files))
        before = _at(max(file.last_time_ns for file in files) + 1_000)
        return max(first, self.since or first), min(before, self.until or before)

    @property
    def choices(self) -> list[str]:
        """`choice` as a list."""
        return [] if self.choice is None else [self.choice]

    @property
    def notes(self) -> list[str]:
        """What is not there, for people."""
        lost: dict[str, int] = {}
        sources = [source for compaction in self.compactions for source in compaction.sources]
        for of_one in [*(period.lost for period in self.periods), *(source.lost for source in sources)]:
            for table, rows in of_one.items():
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
    compacted: Compacted = "first",
) -> Found:
    """Those from `since` to before `until`; of no time, those of the last hour that is there.

    `nodes` are identifiers as they were given, `run` how a run's id begins. Raises UsageError, also where there is
    none. Of what is both there and `compacted`, either comes first, or what is compacted does not count at all.
    """
    of = _Places(store, compacted)
    wanted = _Wanted(nodes, run)
    days = of.days()
    if not days:
        raise UsageError(f"{store.url}: no node has uploaded anything there (no {_PERIODS}/dt=<day>)")
    start, last = of.hours(days[0])[0], of.hours(days[-1])[-1]
    if since is None and until is None:
        choice = f"{store.url}: the last hour is read, from {_text(last)} UTC on (--since, --until)"
        return of.read([last], wanted, choice=choice)
    first, before = _moments(of, since, until, start, last, local=local)
    hours = [
        hour
        for day in days
        if _ends_after(day + _DAY_HOURS - 1, first) and _begin(day) < before
        for hour in of.hours(day)
        if _ends_after(hour, first) and _begin(hour) < before
    ]
    if not hours:
        raise UsageError(
            f"{store.url}: nothing was uploaded of that time; there is {_text(start)} to {_text(last + 1)} UTC"
        )
    return of.read(hours, wanted, since=first, until=before)


def _moments(
    of: "_Places", since: str | None, until: str | None, start: int, last: int, *, local: bool
) -> tuple[datetime, datetime]:
    """When the time begins and ends: what counts from an end of the recording does so from its first or last row."""
    begin, end = _begin(start), _begin(last + 1)
    given = [one.strip() for one in (since, until) if one is not None]
    if any(one.startswith("-") for one in given):
        rows = [file.last_time_ns for file in of.read([last], _Wanted()).files(TABLES)]
        end = _at(max(rows, default=_ns(end)) + 1_000)
    if any(one.startswith("+") for one in given):
        rows = [file.first_time_ns for file in of.read([start], _Wanted()).files(TABLES)]
        begin = _at(min(rows, default=_ns(begin)))
    first = begin if since is None else parse_moment(since, begin, end, local=local)
    before = end if until is None else parse_moment(until, begin, end, local=local)
    if first >= before and None not in (since, until):
        raise UsageError(f"that time ends before it begins ({first:%Y-%m-%d %H:%M:%S} to {before:%Y-%m-%d %H:%M:%S})")
    return first, before


class _Wanted:
    """Which nodes, by the identifiers that were given, and which run, by how its id begins; of neither, all."""

    def __init__(self, nodes: Sequence[str] = (), run: str | None = None) -> None:
        self.is_some = bool(nodes)
        self._partitions = {partition_value(node) for node in nodes}
        self._digits = "" if run is None else run.lower().replace("-", "")[:_RUN_DIGITS]

    def takes(self, path: str) -> bool:
        """By the path of a period's manifest; what has no such name is nothing."""
        name = _PERIOD.search(path)
        if name is None:
            return False
        return (not self._partitions or name["partition"] in self._partitions) and name["run"].startswith(self._digits)


class _Places:
    """Where days, hours and nodes are listed: those of periods, and of compactions if they are to be found."""

    def __init__(self, store: ObjectStore, compacted: Compacted) -> None:
        self._store = store
        self._compacted = compacted

    def days(self) -> list[int]:
        """Their first hours, since the epoch."""
        prefixes = [_PERIODS, *([] if self._compacted == "no" else [COMPACTIONS])]
        names = {name for prefix in prefixes for name in self._store.list(prefix).prefixes}
        return sorted(day for name in names if (day := _first_hour(name)) is not None)

    def hours(self, day: int) -> list[int]:
        """The hours of a day that there are, since the epoch; at least one."""
        prefix = periods_of_day(day)
        names = self._store.list(prefix).prefixes
        if self._compacted != "no":
            names += [name.removesuffix(".json") for name in self._store.list(compactions_of_day(day)).objects]
        hours = sorted({day + int(match[1]) for name in names if (match := _HOUR_NAME.fullmatch(name))})
        if not hours:
            raise UsageError(f"{self._store.url}/{prefix} has no hour=<hour>")
        return hours

    def read(
        self,
        hours: Sequence[int],
        wanted: _Wanted,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        choice: str | None = None,
    ) -> Found:
        """The manifests of these hours. Raises UsageError where there is none of what is wanted."""
        store = self._store
        compactions: list[Compaction] = []
        if self._compacted != "no":
            compactions = [one for one in store.of_each(lambda hour: read_compaction(store, hour), hours) if one]
        sources = {source.path: source for one in compactions for source in one.sources}
        prefixes = [periods_of_hour(hour) for hour in hours]
        listed = [
            f"{prefix}/{name}"
            for prefix, found in zip(prefixes, store.of_each(store.list, prefixes), strict=True)
            for name in found.objects
        ]
        twice = sources.keys() & set(listed)
        if self._compacted == "last":
            sources = {path: source for path, source in sources.items() if path not in twice}
        paths = [path for path in listed if path not in sources and wanted.takes(path)]
        compactions = [
            msgspec.structs.replace(one, sources=of_one)
            for one in compactions
            if (of_one := [source for source in one.sources if source.path in sources and wanted.takes(source.path)])
        ]
        if not paths and not compactions:
            others = {match["partition"] for path in [*listed, *sources] if (match := _PERIOD.search(path))}
            raise UsageError(
                f"{store.url}: nothing was uploaded then of what is asked for; there are {some_of(others)}"
            )
        periods = list(store.of_each(lambda path: _period(store, path), paths))
        nodes = {source.node_name for one in compactions for source in one.sources}
        nodes |= {period.node_name for period in periods}
        return Found(
            store=store,
            periods=periods,
            compactions=compactions,
            nodes=nodes if wanted.is_some else set(),
            since=since,
            until=until,
            choice=choice,
        )


def _period(store: ObjectStore, path: str) -> Period:
    content = store.read(path)
    try:
        period = decode_period(content)
        if path_of(period) != path:
            raise ValueError("is of another node, run or hour than its name says")
    except (ValueError, UsageError) as error:
        raise UsageError(f"{store.url}/{path} {printable(str(error).encode())}") from error
    return period


def path_of(period: Period) -> str:
    """Where its manifest is."""
    return period_path(parse_hour(period.hour), partition_value(period.identifier), period.run_id)


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
