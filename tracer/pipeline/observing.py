# SPDX-License-Identifier: Apache-2.0
"""A thread for each reader of files: passes at its interval, and looks at cgroups that begin or end in between."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import polars as pl

from tracer.containers.identity import Identity
from tracer.containers.inventory import Inventory
from tracer.kernel.cpus import online_cpus
from tracer.pipeline.housekeeping.health import ReaderHealth
from tracer.pipeline.labelling import Labelling
from tracer.pipeline.pace import Pace, affordable_share
from tracer.readers.protocol import Cgroup, Observation, Reader
from tracer.store.schemas import TABLES

# More than these begin or end between two looks only in a storm of short lives, which must not cost more than it tells.
_LOOKED_AT_AT_MOST = 256
# So long what a look found may wait for more of the kind, or for a pass: each time rows are handed on costs the same.
_HOLD_NS = 1_000_000_000


class _Looks:
    """Cgroups that `read` looks at between passes, and when it may do so again."""

    def __init__(self, read: Callable[[Sequence[Cgroup]], object]) -> None:
        self.read = read
        self.cgroup_ids: deque[int] = deque(maxlen=_LOOKED_AT_AT_MOST)
        self.due_ns = 0


class Observing(threading.Thread):
    """Drives one reader. What breaks it is a note in the manifest and the end of its rows, never of the run."""

    def __init__(
        self,
        reader: Reader,
        interval_ns: int,
        *,
        inventory: Inventory,
        labelling: Labelling,
        health: ReaderHealth,
        note: Callable[[str], None],
    ) -> None:
        super().__init__(name=f"tracer-{reader.name}", daemon=True)
        self._reader = reader
        self._interval_ns = interval_ns
        self._inventory = inventory
        self._labelling = labelling
        self._health = health
        self._note = note
        self._share = affordable_share(len(online_cpus()))
        self._pace = Pace(interval_ns, self._share)
        self._longest_stretch = 1
        self._existing: Sequence[tuple[int, str, Identity]] | None = None
        self._cgroups: list[Cgroup] = []
        self._beginning = _Looks(reader.read_beginning)
        self._ending = _Looks(reader.read_ending)
        # When what looks found is to be handed on; None where they found nothing yet.
        self._looks_due_ns: int | None = None
        self._wake = threading.Event()
        self._finish = False

    def run(self) -> None:
        """Called by the thread; ends after `finish`."""
        try:
            self._observe()
        except Exception as error:
            self._note(f"{self._reader.name}: not read any more, from here on: {error!r}")
        finally:
            self._reader.close()

    def finish(self) -> None:
        """Ends the thread after the pass that is under way."""
        self._finish = True
        self._wake.set()

    def see_beginning(self, cgroup_id: int) -> None:
        """The first process has come into a cgroup. Any thread may call it."""
        if self._reader.wants_beginnings:
            self._beginning.cgroup_ids.append(cgroup_id)
            self._wake.set()

    def see_end(self, cgroup_id: int) -> None:
        """The last process of a cgroup has ended; its files will be gone at any moment. Any thread may call it."""
        self._ending.cgroup_ids.append(cgroup_id)
        self._wake.set()

    def _observe(self) -> None:
        due_ns = 0
        while not self._finish:
            now_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            if now_ns >= due_ns:
                due_ns = self._pass()
            if self._looks_due_ns is not None and now_ns >= self._looks_due_ns:
                self._take(self._take_looks())
            until_ns = due_ns if self._looks_due_ns is None else min(due_ns, self._looks_due_ns)
            for looks in (self._beginning, self._ending):
                if looks.cgroup_ids and now_ns >= looks.due_ns:
                    looks.due_ns = now_ns + self._look(looks)
                    until_ns = min(until_ns, now_ns + _HOLD_NS)
                if looks.cgroup_ids:
                    until_ns = min(until_ns, looks.due_ns)
            if (left_ns := until_ns - time.clock_gettime_ns(time.CLOCK_MONOTONIC)) > 0:
                self._wake.wait(left_ns / 1e9)
                self._wake.clear()
        self._take(self._take_looks())
        self._labelling.flush()

    def _pass(self) -> int:
        """One pass; returns when the next is due."""
        begin_ns, begin_cpu_ns = time.perf_counter_ns(), time.thread_time_ns()
        looks = self._take_looks()
        self._take(looks, self._reader.read(self._readable()))
        cost_ns = time.thread_time_ns() - begin_cpu_ns
        due_ns = self._pace.next_ns(time.clock_gettime_ns(time.CLOCK_MONOTONIC), cost_ns)
        self._health.add(
            {
                "reader_cpu_time_ns": cost_ns,
                "reader_pass_max_ns": time.perf_counter_ns() - begin_ns,
                "reader_passes_left_out": self._pace.stretch - 1,
            }
        )
        if self._pace.stretch > self._longest_stretch:
            self._longest_stretch = self._pace.stretch
            self._note(
                f"{self._reader.name}: read each {self._pace.stretch * self._interval_ns / 1e9:g} s, not each "
                f"{self._interval_ns / 1e9:g} s: a pass takes {cost_ns / 1e6:.0f} ms of CPU time"
            )
        return due_ns

    def _look(self, looks: _Looks) -> int:
        """Reads those that began or ended; returns how long not to do so again, for a storm of them to cost little."""
        begin_cpu_ns = time.thread_time_ns()
        cgroup_ids = {looks.cgroup_ids.popleft() for _ in range(len(looks.cgroup_ids))}
        looks.read(_cgroups(self._inventory.existing_of(cgroup_ids)))
        if self._looks_due_ns is None:
            self._looks_due_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC) + _HOLD_NS
        cost_ns = time.thread_time_ns() - begin_cpu_ns
        self._health.add({"reader_cpu_time_ns": cost_ns})
        return int(cost_ns / self._share)

    def _take_looks(self) -> Observation:
        self._looks_due_ns = None
        return self._reader.take_looks()

    def _take(self, *observations: Observation) -> None:
        """Hands on, the rows of a table together."""
        for name in dict.fromkeys(name for observation in observations for name in observation.rows):
            rows = [observation.rows[name] for observation in observations if name in observation.rows]
            self._labelling.put(TABLES[name], rows[0] if len(rows) == 1 else pl.concat(rows, how="diagonal"))
        for observation in observations:
            self._health.add(observation.health)
            for text in observation.notes:
                self._note(text)

    def _readable(self) -> list[Cgroup]:
        """Those that exist; the same object as long as they are the same."""
        existing = self._inventory.existing()
        if existing is not self._existing:
            self._existing = existing
            self._cgroups = _cgroups(existing)
        return self._cgroups


def _cgroups(existing: Sequence[tuple[int, str, Identity]]) -> list[Cgroup]:
    return [
        Cgroup(cgroup_id, path, identity.kind, identity.container_id, bool(identity.subpath), identity.pod_uid)
        for cgroup_id, path, identity in existing
    ]
