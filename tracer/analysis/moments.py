# SPDX-License-Identifier: Apache-2.0
"""Points in time as people write and read them, always UTC."""

import re
from datetime import UTC, datetime, timedelta

from tracer.errors import UsageError
from tracer.units import parse_duration_ns

_CLOCK = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9])(\.[0-9]{1,6})?)?")


def parse_moment(text: str, start: datetime) -> datetime:
    """`2026-11-22T14:02:03Z`, `2026-11-22 14:02` or `14:02`, UTC unless it says otherwise; `+30s` after `start`.

    `start` is that of the recording. A time of day is the first one at or after it, to the minute. Raises UsageError.
    """
    text = text.strip()
    if text.startswith("+"):
        return _later(start, text)
    if clock := _CLOCK.fullmatch(text):
        fraction = int(float(clock[4] or 0) * 1e6)
        moment = start.replace(
            hour=int(clock[1]), minute=int(clock[2]), second=int(clock[3] or 0), microsecond=fraction
        )
        # What a report calls 14:02 may begin at 14:02:59.
        return moment if moment >= start - timedelta(minutes=1) else moment + timedelta(days=1)
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"not a time: {text!r} (examples: 2026-11-22T14:02:03Z, 14:02, +30s)") from error


def _later(start: datetime, text: str) -> datetime:
    try:
        return start + timedelta(microseconds=parse_duration_ns(text[1:]) // 1000)
    except OverflowError as error:
        raise UsageError(f"not a time within a recording: {text!r}") from error


def moment_text(moment: datetime) -> str:
    """`2026-11-22 14:02:03 UTC`."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
