# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.pipeline.pace import Pace, affordable_share

MS = 1_000_000
SECOND = 1000 * MS


def test_passes_meet_at_multiples_of_the_interval() -> None:
    pace = Pace(SECOND, 0.1)
    assert pace.next_ns(5 * SECOND + 300 * MS, 20 * MS) == 6 * SECOND
    assert pace.next_ns(6 * SECOND, 20 * MS) == 7 * SECOND


def test_what_costs_too_much_is_done_more_rarely_and_goes_back() -> None:
    pace = Pace(SECOND, 0.1)
    assert pace.next_ns(SECOND, 350 * MS) == 2 * SECOND
    assert pace.stretch == 1
    assert pace.next_ns(2 * SECOND, 350 * MS) == 6 * SECOND
    assert pace.stretch == 4
    assert pace.next_ns(6 * SECOND, 90 * MS) == 7 * SECOND
    assert pace.stretch == 1


@pytest.mark.parametrize(("cpus", "share"), [(1, 0.05), (2, 0.1), (8, 0.4), (256, 0.5)])
def test_the_share_is_of_the_node_and_not_more_than_half_a_cpu(cpus: int, share: float) -> None:
    assert affordable_share(cpus) == pytest.approx(share)


@given(st.integers(100 * MS, 60 * SECOND), st.integers(1, 256), st.integers(0, 100 * SECOND), st.integers(0, 2**62))
def test_in_the_long_run_it_keeps_to_the_share(interval_ns: int, cpus: int, cost_ns: int, now_ns: int) -> None:
    share = affordable_share(cpus)
    pace = Pace(interval_ns, share)
    now_ns = pace.next_ns(now_ns, cost_ns)
    assert now_ns % interval_ns == 0
    due_ns = pace.next_ns(now_ns, cost_ns)
    assert now_ns < due_ns
    assert cost_ns <= (due_ns - now_ns) * share * 1.0001 + 1
