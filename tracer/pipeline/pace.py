# SPDX-License-Identifier: Apache-2.0
"""When the next pass of a reader is due: each interval, or more rarely where a pass costs too much."""

_SHARE_OF_NODE = 0.05
_SHARE_OF_CPU = 0.5


def affordable_share(cpus: int) -> float:
    """CPU time that a reader may take, in CPUs: 5 % of the node, and never more than half a CPU."""
    return min(_SHARE_OF_CPU, _SHARE_OF_NODE * cpus)


class Pace:
    """Passes at multiples of the interval, so that those of all readers and runs meet.

    `stretch` is how many intervals lie between two passes: 1, or as many as it takes to keep to the share.
    """

    def __init__(self, interval_ns: int, share: float) -> None:
        """`share`: CPU time by time."""
        self.stretch = 1
        self._interval_ns = interval_ns
        self._share = share
        self._last_cost_ns = 0

    def next_ns(self, now_ns: int, cost_ns: int) -> int:
        """When the next pass is due, after one that took `cost_ns` of CPU time and ended at `now_ns`."""
        # The lesser of two: one that opens files for the first time says little of the next.
        cost_ns, self._last_cost_ns = min(cost_ns, self._last_cost_ns), cost_ns
        self.stretch = max(1, -(-cost_ns // int(self._share * self._interval_ns)))
        return (now_ns // self._interval_ns + self.stretch) * self._interval_ns
