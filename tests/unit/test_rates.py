# SPDX-License-Identifier: Apache-2.0
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.analysis.rates import rates

START = datetime(2026, 11, 22, tzinfo=UTC)


def table(*rows: tuple[float, int, int | None]) -> pl.LazyFrame:
    """(seconds, cgroup, counter)"""
    return pl.LazyFrame(
        [("node", START + timedelta(seconds=seconds), cgroup, counter) for seconds, cgroup, counter in rows],
        schema={
            "node_name": pl.String, "time": pl.Datetime("ns", "UTC"), "cgroup_id": pl.UInt64, "usec": pl.UInt64,
        },
        orient="row",
    )  # fmt: skip


def usec_rates(rows: pl.LazyFrame) -> list[float | None]:
    return rates(rows, ["usec"]).collect()["usec_per_second"].to_list()


def test_the_first_row_has_no_rate_and_cgroups_do_not_mix() -> None:
    assert usec_rates(table((0, 1, 1000), (0, 2, 50), (1, 1, 1500), (2, 2, 250))) == [None, None, 500, 100]


def test_over_a_gap_it_is_the_mean_of_the_gap() -> None:
    assert usec_rates(table((0, 1, 0), (1, 1, 10), (61, 1, 610), (62, 1, 620)))[1:] == pytest.approx([10, 10, 10])


def test_a_row_without_a_value_is_a_gap() -> None:
    assert usec_rates(table((0, 1, 0), (1, 1, None), (2, 1, 10))) == [None, None, 5]


def test_a_counter_that_began_anew_has_no_rate_and_goes_on() -> None:
    assert usec_rates(table((0, 1, 900), (1, 1, 20), (2, 1, 50))) == [None, None, 30]


def test_one_counter_that_began_anew_says_that_all_did() -> None:
    rows = table((0, 1, 900), (1, 1, 20), (2, 1, 50)).with_columns(
        pl.Series("io", [5, 50, 70], pl.UInt64), pl.Series("rare", [5, None, 70], pl.UInt64)
    )
    found = rates(rows, ["usec", "io", "rare"]).collect()
    assert found["io_per_second"].to_list() == [None, None, 20]
    assert found["rare_per_second"].to_list() == [None, None, None]


def test_rows_of_the_same_time_have_no_rate() -> None:
    assert usec_rates(table((0, 1, 5), (0, 1, 5), (1, 1, 6))) == [None, None, 1]


@given(st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.integers(0, 2**64 - 1))), min_size=1, max_size=30))
def test_rates_add_up_to_the_increase_between_two_beginnings(steps: list[tuple[int, int | None]]) -> None:
    seconds = 0
    rows = []
    for step, value in steps:
        seconds += step
        rows.append((seconds, 1, value))
    found = usec_rates(table(*rows))
    last: tuple[int, int] | None = None
    for (now, _cgroup, value), rate in zip(rows, found, strict=True):
        if value is None:
            assert rate is None
            continue
        if last is None or value < last[1] or now == last[0]:
            assert rate is None
        else:
            assert rate == pytest.approx((value - last[1]) / (now - last[0]))
        last = now, value
