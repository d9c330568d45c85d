# SPDX-License-Identifier: Apache-2.0
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tracer.analysis.moments import moment_text, parse_moment, range_text, seconds_text, span_text, zone_at
from tracer.errors import UsageError

START = datetime(2026, 11, 22, 14, 0, 30, tzinfo=UTC)
END = START + timedelta(hours=2)
MOMENT = datetime(2026, 11, 22, 14, 2, 3, tzinfo=UTC)


@pytest.fixture
def in_kolkata(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "IST-5:30")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T14:02:03Z",
        "2026-11-22t14:02:03z",
        "2026-11-22 14:02:03",
        "2026-11-22T19:32:03+05:30",
        "2026-11-22T04:02:03.000-1000",
        "20261122T140203Z",
        "14:02:03",
        "14:02:03Z",
        "16:02:03+02:00",
        " 14:02:03 ",
        "1795356123",
        "1795356123000",
        "1795356123000000",
        "1795356123000000000",
        "1795356123.0",
        "+93s",
        "+1.55m",
        "-118.45m",
        "-7107s",
    ],
)
def test_one_moment_in_all_forms(text: str) -> None:
    assert parse_moment(text, START, END) == MOMENT


@pytest.mark.usefixtures("in_kolkata")
def test_what_has_no_offset_is_local_where_that_is_asked_for() -> None:
    for text in ("2026-11-22T19:32:03", "2026-11-22 19:32:03", "19:32:03", "14:02:03Z", "1795356123"):
        assert parse_moment(text, START, END, local=True) == MOMENT
    shown = MOMENT.astimezone(zone_at(MOMENT, local=True))
    assert moment_text(shown) == "2026-11-22 19:32:03 UTC+05:30"
    assert moment_text(MOMENT.astimezone(zone_at(MOMENT, local=False))) == "2026-11-22 14:02:03 UTC"


def test_a_time_of_day_is_the_first_one_in_the_recording_or_else_the_nearest() -> None:
    assert parse_moment("14:00", START, END) == START.replace(second=0)
    assert parse_moment("13:00", START, END) == START.replace(hour=13, second=0)
    assert parse_moment("13:00", START, START + timedelta(days=2)) == START.replace(day=23, hour=13, second=0)
    assert parse_moment("0:10", START, END) == START.replace(day=23, hour=0, minute=10, second=0)


@pytest.mark.parametrize(
    "text", ["", "now", "12345678901", "12345678901234", "99999999", "-5x", "+", "-", "--5m", "25:00", "5m", "1e9"]
)
def test_what_could_be_two_times_or_none_is_refused_with_what_is_possible(text: str) -> None:
    with pytest.raises(UsageError, match=r"^not a time: .*possible: 2026.*\+01:00.*epoch.*-5m .*\+30s") as refused:
        parse_moment(text, START, END)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("start", "length", "whole", "text"),
    [
        (0, 3, 60, "14:00:30–14:00:33"),
        (600, 3600, 7200, "14:10–15:10"),
        (600, 30, 7200, "14:10:30–14:11:00"),
        (600, 0.5, 7200, "14:10:30.000–14:10:30.500"),
        (0, 3, 3 * 86400, "11-22 14:00:30–14:00:33"),
        (86400, 30, 3 * 86400, "11-23 14:00:30–14:01:00"),
        (0, 86400, 3 * 86400, "11-22 14:00–11-23 14:00"),
        (0, 3, 300 * 86400, "2026-11-22 14:00:30–14:00:33"),
    ],
)
def test_a_range_is_told_as_precisely_as_it_is_short(start: float, length: float, whole: float, text: str) -> None:
    first = START + timedelta(seconds=start)
    told = range_text(first, first + timedelta(seconds=length), START, START + timedelta(seconds=whole))
    assert told == text


def test_spans_and_lengths() -> None:
    assert span_text(START, END) == "2026-11-22 14:00:30 to 16:00:30 UTC"
    assert span_text(START, END + timedelta(days=1)) == "2026-11-22 14:00:30 to 2026-11-23 16:00:30 UTC"
    assert span_text(START, START + timedelta(seconds=1.5)) == "2026-11-22 14:00:30.000 to 14:00:31.500 UTC"
    assert [seconds_text(one) for one in (0.06, 59, 61, 3_600, 90_061)] == [
        "0.1 s", "59.0 s", "1 min 1 s", "1 h 0 min", "1 d 1 h",
    ]  # fmt: skip
