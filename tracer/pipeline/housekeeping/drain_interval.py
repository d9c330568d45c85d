# SPDX-License-Identifier: Apache-2.0
"""How often the rings are drained: each millisecond, and less often where that takes more CPU time than it may."""

from collections import deque
from collections.abc import Callable

_MS = 1_000_000
INTERVALS_NS = (_MS, 2 * _MS, 4 * _MS, 8 * _MS)
# A ring that is fuller than that when it is drained would not bear to be drained half as often.
_FULLEST = 0.2
# Looks, each about a second.
_MEAN_OF = 5
_CALM_LOOKS = 30


class DrainInterval:
    """Keeps the CPU time of the process below a share of one core, as far as the interval can. One thread calls `look`.

    Whatever the interval is, records say the tick that they are of: they only come later.
    """

    def __init__(
        self,
        limit: float | None,
        *,
        cpu_time_ns: Callable[[], int],
        ring_fill: Callable[[], float],
        use: Callable[[int], None],
        note: Callable[[str], None],
    ) -> None:
        """`limit`: of one core; None for no bound. `ring_fill`: 0 to 1, the fullest since the last call."""
        self.interval_ns = INTERVALS_NS[0]
        self._limit = limit
        self._cpu_time_ns = cpu_time_ns
        self._ring_fill = ring_fill
        self._use = use
        self._note = note
        self._longest = 0
        self._looks: deque[tuple[int, int]] = deque(maxlen=_MEAN_OF + 1)
        self._calm = 0

    def look(self, now_ns: int) -> None:
        """About once a second."""
        fill = self._ring_fill()
        self._looks.append((now_ns, self._cpu_time_ns()))
        if self._limit is None or len(self._looks) <= _MEAN_OF:
            return
        (first_ns, first_cpu_ns), (last_ns, last_cpu_ns) = self._looks[0], self._looks[-1]
        share = (last_cpu_ns - first_cpu_ns) / max(1, last_ns - first_ns)
        place = INTERVALS_NS.index(self.interval_ns)
        # What half the interval would cost more is not known; where this is half of the limit, it has room.
        self._calm = self._calm + 1 if share < self._limit / 2 else 0
        if fill > _FULLEST and place:
            self._change(place - 1)
        elif share > self._limit and fill <= _FULLEST / 2 and place + 1 < len(INTERVALS_NS):
            self._change(place + 1)
            if place + 1 > self._longest:
                self._longest = place + 1
                self._note(
                    f"the rings are drained each {self.interval_ns / _MS:g} ms: the tracer took {share:.1%} of a core, "
                    f"--cpu-limit is {self._limit:.1%}"
                )
        elif self._calm >= _CALM_LOOKS and place:
            self._change(place - 1)

    def _change(self, place: int) -> None:
        self.interval_ns = INTERVALS_NS[place]
        self._use(self.interval_ns)
        # What was measured before was with another interval.
        self._looks.clear()
        self._calm = 0
