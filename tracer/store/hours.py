# SPDX-License-Identifier: Apache-2.0
"""Hours of UTC, as numbers since the epoch, by which results lie in an object store."""

from datetime import UTC, datetime, timedelta
from typing import Final

from tracer.store.gone import TimeSpan

_HOUR_US: Final = 3_600 * 10**6
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR: Final = "%Y-%m-%dT%H:00:00Z"


def hour_of(time_us: int) -> int:
    """Hours since the epoch of a time in us since the epoch, UTC."""
    return time_us // _HOUR_US


def hours_of(span: TimeSpan) -> range:
    """All from that of the first to that of the last row."""
    return range(hour_of(span.first_us), hour_of(span.last_us) + 1)


def hour_span(hour: int) -> TimeSpan:
    """The first and the last us of an hour."""
    return TimeSpan(hour * _HOUR_US, (hour + 1) * _HOUR_US - 1)


def hour_text(hour: int) -> str:
    """As a period has it: `2026-11-22T10:00:00Z`."""
    return f"{_EPOCH + timedelta(hours=hour):{_HOUR}}"


def parse_hour(text: str) -> int:
    """What `hour_text` made. Raises ValueError."""
    return int(datetime.strptime(text, _HOUR).replace(tzinfo=UTC).timestamp()) // 3_600
