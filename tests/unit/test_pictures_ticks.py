# SPDX-License-Identifier: Apache-2.0
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.analysis.pictures.ticks import BinaryLocator, binary_text, plain_text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (512, "512 B"), (1024, "1 KiB"), (1536 * 2**20, "1.5 GiB"), (2**40 * 3, "3 TiB"), (2**60, "1024 PiB")],
)
def test_bytes_have_binary_units(value: float, text: str) -> None:
    assert binary_text(value, "B") == text


@given(st.floats(1e-7, 1e12))
def test_plain_figures_are_no_powers_of_ten_and_keep_four_digits(value: float) -> None:
    text = plain_text(value)
    assert re.fullmatch(r"\d+(\.\d+)?", text)
    assert float(text) == pytest.approx(value, rel=1e-3)


@given(st.floats(1, 1e15))
def test_ticks_of_bytes_are_at_round_figures_of_a_unit(highest: float) -> None:
    ticks = [binary_text(tick, "B") for tick in BinaryLocator().tick_values(0, highest)]
    assert 2 <= len(ticks) <= 8
    assert len(set(ticks)) == len(ticks)
    for tick in ticks:
        assert re.fullmatch(r"\d+(\.\d+)? [KMGTP]?i?B", tick)
