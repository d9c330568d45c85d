# SPDX-License-Identifier: Apache-2.0
"""Points in time as people write and read them: UTC, or local time where that was asked for."""

import re
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Annotated, Final, NamedTuple

import msgspec

from tracer.errors import UsageError
from tracer.units import parse_duration_ns

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time in what `--json` prints: never without its offset."""

TIME_FORMS: Final = (
    "2026-11-22T14:02:03Z, 2026-11-22T15:02+01:00, '2026-11-22 14:02' or 14:02 (UTC, or local time with --local), "
    "1795356123 (epoch: s, ms, µs or ns), -5m (before the end), +30s (after the start)"
)
"""What `parse_moment` takes, for people."""

_CLOCK = re.compile(r"(?:[01]?[0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?")
_EPOCH = re.compile(r"([0-9]{9,19})(\.[0-9]{1,9})?")
# How many digits since the epoch are which unit, in microseconds, from 1973 to 2286; no number of digits is two.
_EPOCH_UNITS: Final[dict[int, int | Decimal]] = {
    9: 10**6,
    10: 10**6,
    12: 10**3,
    13: 10**3,
    15: 1,
    16: 1,
    18: Decimal("0.001"),
    19: Decimal("0.001"),
}
_LONGEST_SHOWN = 60
_SHORT = timedelta(minutes=20)
_VERY_SHORT = timedelta(seconds=10)


def parse_moment(text: str, start: datetime, end: datetime | None = None, *, local: bool = False) -> datetime:
    """A time as `TIME_FORMS` has them, as UTC: `+30s` after `start` and `-5m` before `end`, those of the recording.

    What has no offset is UTC, or in this machine's zone where it is `local`. A time of day is the first one in the
    recording, to the minute, or else the nearest to it. Raises UsageError.
    """
    text = text.strip()
    try:
        if text.startswith("+"):
            return start + _duration(text[1:])
        if text.startswith("-") and end is not None:
            return end - _duration(text[1:])
        if _CLOCK.fullmatch(text.upper()):
            return _time_of_day(text.upper(), start, end or start, local=local)
        if epoch := _EPOCH.fullmatch(text):
            microseconds = Decimal(text) * _EPOCH_UNITS[len(epoch[1])]
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(microseconds))
        return _in_utc(datetime.fromisoformat(text.upper()), local=local)
    except (ValueError, OverflowError, KeyError, OSError, UsageError) as error:
        shown = text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."
        raise UsageError(f"not a time: {shown!r} (possible: {TIME_FORMS})") from error


def seconds_text(seconds: float) -> str:
    """`4.5 s`, `12 min 3 s`, `25 h 2 min`, `11 d 2 h`."""
    for unit, length, part_unit, part_length in (
        ("d", 86_400, "h", 3_600),
        ("h", 3_600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if seconds >= length:
            return f"{int(seconds // length)} {unit} {int(seconds % length // part_length)} {part_unit}"
    return f"{seconds:.1f} s"


def is_relative(given: datetime | str) -> bool:
    """Whether it is one of `parse_moment` that counts from an end of the recording."""
    return isinstance(given, str) and given.strip()[:1] in ("+", "-")


def zone_at(moment: datetime, *, local: bool) -> tzinfo:
    """What times are shown in: UTC, or the offset that this machine's zone has at `moment`."""
    if not local:
        return UTC
    try:
        return timezone(moment.astimezone().utcoffset() or timedelta())
    except (OverflowError, OSError, ValueError):
        # A time that this machine's zone has no rules for.
        return UTC


def zone_text(moment: datetime) -> str:
    """`UTC`, or `UTC+01:00`."""
    return moment.tzname() or "UTC"


def moment_text(moment: datetime, *, precise: bool = False) -> str:
    """`2026-11-22 14:02:03 UTC`, in the zone that it has; with milliseconds where it is to be `precise`."""
    return f"{moment:%Y-%m-%d} {(_milliseconds if precise else _seconds)(moment)} {zone_text(moment)}"


def ends_text(start: datetime, end: datetime) -> str:
    """`from 2026-11-22 14:02:03 UTC to 2026-11-22 14:12:05 UTC`; with milliseconds where it is short."""
    precise = abs(end - start) < _VERY_SHORT
    return f"from {moment_text(start, precise=precise)} to {moment_text(end, precise=precise)}"


def span_text(start: datetime, end: datetime) -> str:
    """`2026-11-22 14:02:03 to 14:12:05 UTC`, in the zone of `start`; with milliseconds where it is short."""
    end = end.astimezone(start.tzinfo)
    form = _seconds if end - start >= _VERY_SHORT else _milliseconds
    day = "" if start.date() == end.date() else f"{end:%Y-%m-%d} "
    return f"{start:%Y-%m-%d} {form(start)} to {day}{form(end)} {zone_text(start)}"


class Times(NamedTuple):
    """From `start` to before `end`, in the zone in which times are shown; `recorded` is how much of it there is."""

    start: datetime
    end: datetime
    recorded: timedelta


def range_text(start: datetime, end: datetime, whole_start: datetime, whole_end: datetime) -> str:
    """`14:02–14:09`: a part of a whole, in its zone; never so coarse that its ends look the same.

    With seconds, or milliseconds, where it is short; with days, and years, where the whole has several.
    """
    zone = whole_start.tzinfo
    start, end, whole_end = start.astimezone(zone), end.astimezone(zone), whole_end.astimezone(zone)
    length = end - start
    form = _minutes if length >= _SHORT and whole_end - whole_start >= _SHORT else _seconds
    if length < _VERY_SHORT and form(start) == form(end):
        form = _milliseconds
    if whole_start.date() == whole_end.date():
        return f"{form(start)}–{form(end)}"
    day = "%m-%d" if whole_start.year == whole_end.year else "%Y-%m-%d"
    last = "" if start.date() == end.date() else f"{end:{day}} "
    return f"{start:{day}} {form(start)}–{last}{form(end)}"


def _minutes(moment: datetime) -> str:
    return f"{moment:%H:%M}"


def _seconds(moment: datetime) -> str:
    return f"{moment:%H:%M:%S}"


def _milliseconds(moment: datetime) -> str:
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}"


def _duration(text: str) -> timedelta:
    return timedelta(microseconds=parse_duration_ns(text) // 1000)


def _time_of_day(text: str, start: datetime, end: datetime, *, local: bool) -> datetime:
    clock = time.fromisoformat(text if text[1] != ":" else f"0{text}")
    day = start.astimezone(clock.tzinfo or (None if local else UTC)).date()
    days = range(-1, (end - start).days + 3)
    moments = [_in_utc(datetime.combine(day + timedelta(days=number), clock), local=local) for number in days]

    def distance(moment: datetime) -> timedelta:
        # What a report calls 14:02 may begin at 14:02:59.
        return max(start - timedelta(minutes=1) - moment, moment - end, timedelta())

    return min(moments, key=distance)


def _in_utc(moment: datetime, *, local: bool) -> datetime:
    if moment.tzinfo is None and not local:
        return moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC)
