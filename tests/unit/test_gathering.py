# SPDX-License-Identifier: Apache-2.0
"""Messages become rows by window, none is lost uncounted, and nobody can make more of them than there is room for."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.ingest.allowance import Allowance
from tracer.ingest.gathering import MOST_EXACT_VALUES, Gathering, Row, Sender, coarse
from tracer.ingest.messages import Kind, Message

WEB, BATCH = Sender(7, "credentials"), Sender(8, "credentials")
SECOND_NS = 1_000_000_000


def message(*values: float, kind: Kind = "timer", name: str = "m", weight: float = 1.0) -> Message:
    return Message(name, kind, values, weight=weight)


def test_each_kind_has_its_rows() -> None:
    gathering = Gathering()
    for given_ in (
        message(5.0, 5.0, 9.0),
        message(5.0, weight=10.0),
        message(2.0, 3.0, kind="counter", weight=2.0),
        message(-1.0, kind="counter"),
        message(4.0, kind="gauge"),
        message(6.0, kind="gauge"),
        message(100.0, kind="cumulative"),
        Message("m", "set", (), ("a",)),
        Message("m", "set", (), ("b",)),
        Message("m", "set", (), ("a",)),
    ):
        assert gathering.add(60, WEB, given_) == 0
    gathering.add(120, WEB, message(5.0))
    rows = {(row.window_tick, row.kind, row.value, row.number) for row in gathering.take()}
    assert rows == {
        (60, "timer", 5.0, 12.0),
        (60, "timer", 9.0, 1.0),
        (60, "counter", 9.0, 2.0),
        (60, "gauge", 6.0, 2.0),
        (60, "cumulative", 100.0, 1.0),
        (60, "set", 2.0, 3.0),
        (120, "timer", 5.0, 1.0),
    }
    assert not list(gathering.take())


def test_windows_that_are_not_over_stay() -> None:
    gathering = Gathering()
    for tick in (0, 60, 120):
        gathering.add(tick, WEB, message(1.0))
    assert [row.window_tick for row in gathering.take(120)] == [0, 60]
    gathering.add(60, WEB, message(2.0))
    assert [row.window_tick for row in gathering.take()] == [60, 120]


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=300))
def test_many_values_are_told_within_a_hundredth_and_none_is_lost(values: list[float]) -> None:
    gathering = Gathering()
    for value in values:
        gathering.add(0, WEB, message(value))
    rows = list(gathering.take())
    assert sum(row.number for row in rows) == len(values)
    told = sorted(value for row in rows for value in [row.value] * int(row.number))
    assert all(math.isclose(one, other, rel_tol=0.0101) for one, other in zip(told, sorted(values), strict=True))
    if len(set(values)) <= MOST_EXACT_VALUES:
        assert told == sorted(values)


@pytest.mark.parametrize("value", [0.0, 5e-324, 1.7e308, -1.7e308, -3.0])
def test_any_value_is_near_to_another(value: float) -> None:
    assert math.copysign(1, coarse(value)) == math.copysign(1, value)
    assert math.isfinite(coarse(value))


@given(
    st.lists(
        st.tuples(
            st.sampled_from([WEB, BATCH, Sender(None, None)]),
            st.sampled_from(["timer", "counter", "gauge", "set"]),
            st.integers(0, 3),
            st.integers(0, 50),
        ),
        max_size=200,
    )
)
def test_rows_are_bounded_and_what_is_dropped_is_counted(given_: list[tuple[Sender, Kind, int, int]]) -> None:
    gathering = Gathering(most_rows=20, most_of_sender=10)
    dropped = 0
    for sender, kind, window, value in given_:
        one = Message("m", kind, (), (str(value),)) if kind == "set" else message(float(value), kind=kind)
        dropped += gathering.add(window * 60, sender, one)
    rows: list[Row] = list(gathering.take())
    assert len(rows) <= 20
    assert all(sum((row.cgroup_id, row.sender_by) == sender for row in rows) <= 10 for sender in (WEB, BATCH))
    assert sum(row.number for row in rows) + dropped == len(given_)
    # There is room again for all.
    assert [gathering.add(0, WEB, message(float(value))) for value in range(10)] == [0] * 10


def test_what_is_added_up_stays_finite() -> None:
    gathering = Gathering()
    for value in (1.7e308, 1.7e308, -1.7e308):
        gathering.add(0, WEB, message(value, kind="counter", weight=1e6))
    assert all(math.isfinite(row.value) for row in gathering.take())


def test_who_floods_leaves_the_others_their_share() -> None:
    allowance = Allowance(1000)
    assert not allowance.take(1, 501, 0)
    assert allowance.take(1, 500, 0)
    assert not allowance.take(1, 1, 0)
    assert allowance.take(2, 250, 0)
    # Of nine that were there in the last second, and one that may come, each has a tenth.
    for sender in range(9):
        allowance.take(sender, 1, SECOND_NS)
    assert [allowance.take(sender, 100, 2 * SECOND_NS) for sender in range(11)] == [True] * 10 + [False]
    assert not allowance.take(0, 1, 2 * SECOND_NS)
    assert allowance.take(0, 1, 3 * SECOND_NS)
