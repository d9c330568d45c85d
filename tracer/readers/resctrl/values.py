# SPDX-License-Identifier: Apache-2.0
"""What a file of `mon_data` says, and what a counter counted since it was read last. Pure."""

import re
from typing import Literal, NamedTuple

Missing = Literal["Error", "Unavailable", "Unassigned", "gone", "malformed"]
"""Why there is no number. The first three are the kernel's own words (rdtgroup_mondata_show()).

Error: the hardware refused the reading. Unavailable: it has no value now; AMD's processors say so of a group they do
not track at the moment. Unassigned: no counter is assigned to the group. gone: the file is no more, since its domain
went offline or its group was removed.
"""

_NUMBER = re.compile(rb"[0-9]{1,20}\n?")
_LARGEST = 2**64 - 1
_WORDS: dict[bytes, Missing] = {b"Error": "Error", b"Unavailable": "Unavailable", b"Unassigned": "Unassigned"}
# After these the kernel counts from zero again, or may.
_ENDS_EPOCH: frozenset[Missing] = frozenset({"Unassigned", "gone"})


class Traffic(NamedTuple):
    """Bytes, and the time in which they were counted."""

    bytes: int
    interval_ns: int


def parse_value(text: bytes) -> int | Missing:
    """The number in a file, or why there is none."""
    if _NUMBER.fullmatch(text) and (number := int(text)) <= _LARGEST:
        return number
    return _WORDS.get(text.strip(), "malformed")


class TrafficMeter:
    """Turns the readings of one counter into what was counted between them.

    The kernel lets a counter of a group rise for as long as the group, its domain and the counter's assignment live,
    whatever width the hardware's counter has (mbm_update() reads it once a second). A new such epoch begins at zero.
    One that shows by a smaller value, or by what was read in between, gives nothing for its first reading. A value that
    is only out of reach for a while ends no epoch: the next one is held against the last that was there.
    """

    def __init__(self, began_ns: int | None = None) -> None:
        """began_ns: when the counter was known to be zero; None if nobody knows what it counted before."""
        self._base = None if began_ns is None else (0, began_ns)

    def advance(self, value: int | Missing, now_ns: int) -> Traffic | None:
        """What was counted since the last reading that gave a number; None if that cannot be told."""
        if not isinstance(value, int):
            if value in _ENDS_EPOCH:
                self._base = None
            return None
        base, self._base = self._base, (value, now_ns)
        if base is None or value < base[0] or now_ns <= base[1]:
            return None
        return Traffic(value - base[0], now_ns - base[1])
