# SPDX-License-Identifier: Apache-2.0
"""Rules have few recordings written, whatever they are met by."""

from hypothesis import given
from hypothesis import strategies as st

from tracer.recorder.occasions import HOUR_NS, RuleLimit

MINUTE_NS = 60 * 10**9


def test_one_rule_waits_and_another_does_not() -> None:
    limit = RuleLimit(10 * MINUTE_NS, 6)
    assert limit.allows("a", 0)
    assert not limit.allows("a", 10 * MINUTE_NS - 1)
    assert limit.allows("b", 1)
    assert limit.allows("a", 10 * MINUTE_NS)
    assert limit.take_suppressed() == {"a": 1}
    assert limit.take_suppressed() == {}
    assert limit.suppressed_in_all == 1


def test_all_together_have_so_many_an_hour() -> None:
    limit = RuleLimit(0, 2)
    assert [limit.allows(rule, number) for number, rule in enumerate("abca")] == [True, True, False, False]
    assert not limit.allows("c", HOUR_NS - 1)
    assert limit.allows("c", HOUR_NS)
    assert not limit.allows("c", HOUR_NS)
    assert limit.allows("c", HOUR_NS + 1)
    assert limit.take_suppressed() == {"a": 1, "c": 3}


def test_none_an_hour_is_none() -> None:
    assert not RuleLimit(0, 0).allows("a", 0)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20 * MINUTE_NS)), max_size=60))
def test_what_is_allowed_keeps_to_both(steps: list[tuple[str, int]]) -> None:
    limit = RuleLimit(10 * MINUTE_NS, 3)
    now_ns = refused = 0
    allowed: list[tuple[str, int]] = []
    for rule, later_ns in steps:
        now_ns += later_ns
        its = [at_ns for one, at_ns in allowed if one == rule]
        may = not (its and now_ns - its[-1] < 10 * MINUTE_NS) and sum(now_ns - at < HOUR_NS for _, at in allowed) < 3
        assert limit.allows(rule, now_ns) is may
        allowed += [(rule, now_ns)] * may
        refused += not may
    assert limit.suppressed_in_all == refused
