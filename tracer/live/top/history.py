# SPDX-License-Identifier: Apache-2.0
"""The last minute of snapshots, as rates: now, and by the second."""

from collections import deque
from typing import Final, Literal

from tracer.live.snapshot import Snapshot
from tracer.live.top.rates import NodeRates, rates_between

SECONDS: Final = 60
Shown = Literal["lost", "cpus"]


class History:
    """Of one run. A new snapshot each second or so."""

    def __init__(self) -> None:
        self._last: Snapshot | None = None
        self._rates: deque[NodeRates] = deque(maxlen=SECONDS)

    @property
    def now(self) -> NodeRates | None:
        """The newest."""
        return self._rates[-1] if self._rates else None

    def add(self, snapshot: Snapshot) -> bool:
        """Whether it is news: that of another run begins anew, one in which no time went by is none."""
        last = self._last
        if last is not None and last.run_id != snapshot.run_id:
            self._rates.clear()
            last = None
        elif last is not None and last.first_tick != snapshot.first_tick:
            # Nobody had asked for long, and counting has begun anew.
            last = None
        if snapshot.last_tick is None or (last is not None and snapshot.last_tick <= (last.last_tick or 0)):
            return False
        if last is not None:
            self._rates.append(rates_between(last, snapshot))
        self._last = snapshot
        return last is not None

    def add_all(self, snapshot: Snapshot) -> None:
        """All that a run has counted since its start, as one."""
        self._rates.append(rates_between(None, snapshot))

    def course(self, name: str, what: Shown) -> list[float | None]:
        """Of a container, the oldest first; null where it neither ran nor waited."""
        values: list[float | None] = []
        for rates in self._rates:
            found = next((one for one in rates.containers if one.name == name), None)
            values.append(None if found is None else getattr(found, what))
        return values

    def courses(self, what: Shown) -> dict[str, list[float | None]]:
        """Of all containers of the newest."""
        now = self.now
        if now is None:
            return {}
        by_name = [{one.name: getattr(one, what) for one in rates.containers} for rates in self._rates]
        return {one.name: [values.get(one.name) for values in by_name] for one in now.containers}
