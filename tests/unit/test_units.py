# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.units import format_bytes, parse_bytes


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (4096, "4 KiB"),
        (105 << 20, "105 MiB"),
        (25_276_510_208, "23.5 GiB"),
        (3 << 40, "3 TiB"),
    ],
)
def test_sizes_as_people_read_them(size: int, text: str) -> None:
    assert format_bytes(size) == text


@given(st.integers(0, 1 << 56))
def test_what_is_printed_can_be_given_as_an_option(size: int) -> None:
    assert parse_bytes(format_bytes(size)) == pytest.approx(size, rel=0.05)
