# SPDX-License-Identifier: Apache-2.0
"""Arrays of numbers as text, small enough for a page of hours."""

import base64
import zlib

import numpy as np

# Of the 23 bits of a float32's fraction: enough for four digits, and half the bytes once compressed.
_KEPT_BITS = 13


class Packed:
    """Arrays, one after the other, that come out as one text: little-endian float32, zlib, base64."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._values = 0

    def add(self, values: "np.ndarray[tuple[int, ...], np.dtype[np.floating]]") -> int:
        """Where its first value is, counted in values. NaN stays NaN; others keep four digits."""
        position = self._values
        self._parts.append(_rounded(values).tobytes())
        self._values += values.size
        return position

    def text(self) -> str:
        """All of them. A browser takes them apart with DecompressionStream("deflate")."""
        return base64.b64encode(zlib.compress(b"".join(self._parts), level=6)).decode("ascii")


def _rounded(
    values: "np.ndarray[tuple[int, ...], np.dtype[np.floating]]",
) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    single = np.ascontiguousarray(values, "<f4")
    dropped = 23 - _KEPT_BITS
    bits = (single.view("<u4") + (1 << (dropped - 1))) >> dropped << dropped
    return np.where(np.isfinite(single), bits.view("<f4"), single).astype("<f4")
