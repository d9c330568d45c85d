# SPDX-License-Identifier: Apache-2.0
import base64
import zlib

import numpy as np
import pytest

from tracer.analysis.pictures.packing import Packed


def unpacked(packed: Packed) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    return np.frombuffer(zlib.decompress(base64.b64decode(packed.text())), "<f4")


def test_arrays_come_back_from_their_places_to_four_digits() -> None:
    random = np.random.default_rng(3)
    first = random.lognormal(10, 6, (7, 100))
    second = np.array([0, np.nan, 1, -2.5, np.inf, 3.0e38], np.float32)
    packed = Packed()
    places = packed.add(first), packed.add(second)
    values = unpacked(packed)
    assert places == (0, 700)
    np.testing.assert_allclose(values[:700].reshape(7, 100), first, rtol=1e-4)
    np.testing.assert_allclose(values[700:], second, rtol=1e-4)
    assert values[700] == 0


def test_the_largest_page_is_bounded_also_for_values_that_hardly_compress() -> None:
    random = np.random.default_rng(3)
    packed = Packed()
    # 16 rows of seven values in 6,000 buckets; of each of four nodes a closer look of 2,000, memory and waiting.
    packed.add(random.lognormal(10, 3, 16 * 7 * (6000 + 4 * 2000) + 4 * 6 * 6 * 2000))
    assert len(packed.text()) < 7.5e6


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 123456.0])
def test_what_is_round_stays_round(value: float) -> None:
    packed = Packed()
    packed.add(np.array([value]))
    assert unpacked(packed)[0] == pytest.approx(value, rel=1e-4)
