# SPDX-License-Identifier: Apache-2.0
"""How often rules may have a recording written; who asks by hand always may."""

from collections import Counter, deque
from typing import Final

HOUR_NS: Final = 3_600_000_000_000


class RuleLimit:
    """At most one recording by one rule in `every_ns`, and `most_an_hour` by all of them together."""

    def __init__(self, every_ns: int, most_an_hour: int) -> None:
        self.suppressed: Counter[str] = Counter()
        """By rule, how often it was met and nothing was written for it, since `take_suppressed`."""
        self.suppressed_in_all = 0
        self._every_ns = every_ns
        self._most = most_an_hour
        self._last_ns: dict[str, int] = {}
        self._written_ns: deque[int] = deque()

    def allows(self, rule: str, now_ns: int) -> bool:
        """Whether a recording may be written for it now; if so that is counted, and if not, too."""
        while self._written_ns and now_ns - self._written_ns[0] >= HOUR_NS:
            self._written_ns.popleft()
        last_ns = self._last_ns.get(rule)
        if (last_ns is not None and now_ns - last_ns < self._every_ns) or len(self._written_ns) >= self._most:
            self.suppressed[rule] += 1
            self.suppressed_in_all += 1
            return False
        self._last_ns[rule] = now_ns
        self._written_ns.append(now_ns)
        return True

    def take_suppressed(self) -> dict[str, int]:
        """Since the last call."""
        suppressed, self.suppressed = self.suppressed, Counter()
        return dict(suppressed)
