# SPDX-License-Identifier: Apache-2.0
"""Bytes that are nearly right: those of an example, damaged in a few places, as `random.Random` has it.

Under hypothesis that may be one of its own (`st.randoms(use_true_random=False)`), so that it finds smaller damage.
"""

import random
from collections.abc import Sequence

_WORDS = (
    b"0", b"-1", b"1e308", b"18446744073709551615", b"18446744073709551616", b"99999999999999999999999999999999",
    b"0x", b"max", b"nan", b"null", b"true", b"[" * 2000, b"{}", b'""', b"\\ud800", b"\x00", b"\xff\xfe", b"\n", b"\r",
    b" ", b"\t", b":", b",", b"-", b"..", b"/../..", b"%n", "\u202e".encode(), b"\x1b[2J", b"a" * 5000, b"4294967295",
)  # fmt: skip
_NUMBERS = (0, 1, 7, 8, 0x7F, 0xFF, 2**15, 2**16 - 1, 2**30, 2**31, 2**32 - 1, 2**63, 2**64 - 1)


def damaged(seeds: Sequence[bytes], generator: random.Random, *, most_bytes: int = 1 << 16) -> bytes:
    """One of the `seeds`, changed in one to six places."""
    content = bytearray(seeds[generator.randrange(len(seeds))])
    for _ in range(generator.randint(1, 6)):
        place = generator.randrange(len(content) + 1)
        match generator.randrange(8):
            case 0 if place < len(content):
                content[place] ^= 1 << generator.randrange(8)
            case 1 if place < len(content):
                content[place] = generator.randrange(256)
            case 2:
                content[place : place + generator.randrange(1, 20)] = generator.choice(_WORDS)
            case 3:
                content[place:place] = generator.choice(_WORDS)
            case 4:
                del content[place : place + generator.choice((1, 2, 8, 100, 1 << 20))]
            case 5:
                width, order = generator.choice((1, 2, 4, 8)), generator.choice(("little", "big"))
                number = generator.choice(_NUMBERS) & ((1 << 8 * width) - 1)
                content[place : place + width] = number.to_bytes(width, order)
            case 6:
                other = seeds[generator.randrange(len(seeds))]
                content[place:] = other[generator.randrange(len(other) + 1) :]
            case 7:
                begin = generator.randrange(len(content) + 1)
                content[place:place] = content[begin : begin + generator.choice((1, 10, 200))]
    return bytes(content[:most_bytes])
