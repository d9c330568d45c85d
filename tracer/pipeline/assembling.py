# SPDX-License-Identifier: Apache-2.0
"""The middle stage: batches of records to labelled rows of the tables."""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl

from tracer.containers.inventory import Change, Inventory
from tracer.containers.limits import NO_LIMITS, Limits, read_limits
from tracer.kernel.clock import RunClock
from tracer.kernel.counter_plan import CounterPlan
from tracer.kernel.cpus import online_cpus
from tracer.kernel.throttling import Throttling
from tracer.kernel.tick_source import KernelTickSource
from tracer.kernel.topology import llc_domain_of_cpu
from tracer.pipeline.counter_check import CounterCheck
from tracer.pipeline.frames import counter_shares, records_frame
from tracer.pipeline.health import (
    Counts,
    HealthMeter,
    ReaderHealth,
    health_rows,
    own_resident_bytes,
    steal_time_ns,
)
from tracer.pipeline.labelling import Labelling
from tracer.pipeline.node import TopologyRecord
from tracer.pipeline.reading import Batch, Reading
from tracer.pipeline.stage import Stage
from tracer.pipeline.storing import Storing
from tracer.pipeline.throttled import throttled_times
from tracer.pipeline.tick_tables import TickTables
from tracer.pipeline.watching import Watching
from tracer.store.schemas import HEALTH, LIFECYCLE
from tracer.store.writer import Store

# After a tick's end: its CPU closes it at the next tick or switch, and the reader finds it a millisecond later.
# What a task waited is known when it gets a CPU: so long a wait is in time for its windows, and not a further row.
_GRACE_NS = 100_000_000
_SECOND_NS = 1_000_000_000
# The net below all that tells of cgroups.
_WALK_NS = 30 * _SECOND_NS
# Not by the run itself, whose counts begin at 0.
_COUNTED_FROM_BOOT = ("own_cpu_time_ns", "steal_time_ns", "context_switches", "uncounted_switches")
_LIFECYCLE_ROWS = {
    "monotonic_ns": pl.Int64,
    "event": pl.String,
    "source": pl.String,
    "cgroup_id": pl.UInt64,
    "cpu_quota_usec": pl.UInt64,
    "cpu_period_usec": pl.UInt64,
    "cpu_weight": pl.UInt64,
    "memory_max_bytes": pl.UInt64,
    "cpuset_cpus": pl.String,
    "rdt_class": pl.String,
    "blockio_class": pl.String,
}


class Assembling(Stage):
    """Groups records into windows, names their cgroups, and keeps an eye on CPUs and on the tracer itself."""

    def __init__(
        self,
        *,
        source: KernelTickSource,
        throttling: Throttling | None,
        plan: CounterPlan,
        counter_check: CounterCheck,
        reading: Reading,
        storing: Storing,
        store: Store,
        labelling: Labelling,
        reader_health: ReaderHealth,
        inventory: Inventory,
        watching: Watching,
        cgroup_root: Path,
        clock: RunClock,
        topology: TopologyRecord,
        node_name: str,
        window_ticks: int,
        write_ticks: bool,
        note: Callable[[str], None],
        stop_run: threading.Event,
    ) -> None:
        super().__init__("assembling", stop_run)
        self.rows_failed = 0
        """Rows of batches that could not be added."""
        self._note = note
        self._source = source
        self._throttling = throttling
        self._plan = plan
        self._counter_check = counter_check
        self._reading = reading
        self._storing = storing
        self._store = store
        self._labelling = labelling
        self._reader_health = reader_health
        self._inventory = inventory
        self._watching = watching
        self._cgroup_root = cgroup_root
        self._clock = clock
        self._topology = topology
        self._node_name = node_name
        self._tables = TickTables(
            labelling,
            tick_ns=source.tick_ns,
            window_ticks=window_ticks,
            first_tick=source.first_tick,
            llc_of_cpu=llc_domain_of_cpu(topology.now),
            write_ticks=write_ticks,
            tells_throttled=throttling is not None,
        )
        self._bound: int | None = None
        self._last_tick: int | None = None
        self._limits: dict[int, Limits] = {}
        self._changed_limits: list[Change] = []
        self._next_walk_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC) + _WALK_NS
        self._ending = False
        self._meter = HealthMeter(self._at_start())
        self._next_health_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC) + _SECOND_NS

    def work(self) -> None:
        """Until the reader's last batch; then the windows that are still open are closed."""
        while (batch := self._reading.take()) is not None:
            self.rows_failed += batch.rows
            with self.surviving():
                self._add(batch)
                self.rows_failed -= batch.rows
                self._add_throttled()
                self._tables.close_before(self._final_before(batch.drained_ns))
                self._emit_lifecycle()
                if batch.drained_ns >= self._next_health_ns:
                    self._look_after(batch.drained_ns)
        self._ending = True
        if self._last_tick is not None:
            with self.surviving():
                self._inventory.refresh()
                self._add_throttled()
                self._tables.close_all(self._last_tick)
        with self.surviving():
            self._emit_lifecycle()
        self._emit_health(time.clock_gettime_ns(time.CLOCK_MONOTONIC))

    def end(self) -> None:
        """The reader need not wait for its blocks, and the store has all rows."""
        self._reading.abandon()
        self._storing.finish()

    def bound(self, last_tick: int) -> None:
        """The run goes no further than this tick, and may end before: no window that ends later is final yet."""
        self._bound = last_tick

    def finish_at(self, last_tick: int) -> None:
        """The run's last tick: with it the last window closes, full or not. Call it as soon as it is known."""
        self._bound = self._last_tick = last_tick

    def counts(self) -> Counts:
        """Counts since the start of the run, for `health` and the manifest."""
        losses = self._source.losses()
        rings = [self._source.rings.counts(cpu) for cpu in losses]
        totals = self._store.totals
        switches, waits = self._source.switches(), self._source.waits()
        return Counts(
            records=sum(ring.records for ring in rings),
            record_bytes=sum(ring.bytes for ring in rings),
            lost_ring_full=sum(loss.ring_full for loss in losses.values()),
            lost_no_ring=sum(loss.no_ring for loss in losses.values()),
            lost_malformed=sum(loss.malformed for loss in losses.values()),
            records_expanded=sum(ring.further_ticks for ring in rings),
            records_merged=self._tables.windows.merged,
            records_outside_run=sum(ring.outside for ring in rings) + self._tables.windows.outside_run,
            late_rows=self._tables.windows.late_rows,
            recursion_misses=self._source.recursion_misses(),
            context_switches=switches.of_node,
            uncounted_switches=switches.of_node - switches.seen,
            unseen_switches=switches.unseen,
            unseen_time_ns=switches.unseen_ns,
            waits_unknown=waits.unknown,
            waits_cut_ns=waits.cut_ns,
            throttlings_lost=0 if self._throttling is None else self._throttling.lost,
            unknown_rows=self._labelling.unknown_rows,
            counter_values_refused=self._counter_check.refused,
            cgroup_events_lost=self._watching.lost,
            nri_events_lost=self._watching.nri_dropped,
            own_cpu_time_ns=time.process_time_ns(),
            steal_time_ns=steal_time_ns(),
            files_closed=sum(totals.files.values()),
            bytes_written=sum(totals.bytes.values()),
        )

    def sums(self) -> dict[str, int]:
        """Of columns of `windows` over the run so far, for the manifest."""
        return dict(self._tables.sums)

    def _at_start(self) -> Counts:
        """What the counts had reached when the run began."""
        counts = self.counts()
        return Counts(**{name: getattr(counts, name) for name in _COUNTED_FROM_BOOT})

    def _final_before(self, drained_ns: int) -> int:
        """The tick before which nothing more is expected once the rings were drained at this time."""
        tick = (drained_ns - self._source.tick_ns - _GRACE_NS) // self._source.tick_ns
        return tick if self._bound is None else min(tick, self._bound + 1)

    def _add(self, batch: Batch) -> None:
        coverage: Mapping[int, tuple[float | None, ...]] = (
            self._source.take_coverage() if any(self._plan.counted) else {}
        )
        block, rows = batch.block, batch.rows
        try:
            refused = None
            if coverage and rows:
                refused = self._counter_check.refuse(block, rows, counter_shares(coverage, self._counter_check.cpus))
            records = records_frame(
                block,
                rows,
                counted=self._plan.counted,
                coverage=coverage,
                refused=refused,
                waits=self._source.follows_waits,
                tells_stolen=self._source.tells_stolen,
            )
            # An idle CPU may not tick for long, and nothing depends on it: only ticks of busy ones say how late we are.
            lateness = block.lateness_ns[:rows]
            late = lateness[(lateness > 0) & (block.cgroup_id[:rows] != 0)]
        finally:
            self._reading.give_back(block)
        self._meter.observe(late, self._reading.waiting())
        self._tables.add(records)

    def _add_throttled(self) -> None:
        """What limits held up until now: it is told when it is over, which is before anybody runs again."""
        if self._throttling is None or not len(throttlings := self._throttling.read()):
            return
        held_up = {cgroup_id: self._inventory.below(cgroup_id) for cgroup_id in set(throttlings["cgroup_id"].tolist())}
        times = throttled_times(
            throttlings, held_up, tick_ns=self._source.tick_ns, clock_offset_ns=self._source.clock_offset_ns
        )
        self._tables.windows.add_throttled(times)

    def _emit_lifecycle(self) -> None:
        changes = [*self._inventory.take_changes(), *self._changed_limits]
        self._changed_limits.clear()
        rows = pl.DataFrame(
            [
                (
                    *change,
                    *self._limits.get(change.cgroup_id, NO_LIMITS),
                    *self._inventory.classes(change.cgroup_id),
                )
                for change in changes
            ],
            schema=_LIFECYCLE_ROWS,
            orient="row",
        )
        self._labelling.put(LIFECYCLE, rows, is_last=self._ending)

    def _look_after(self, now_ns: int) -> None:
        """Once a second: CPUs that came or went, and the row of `health`."""
        self._next_health_ns = now_ns + _SECOND_NS
        self._clock.look()
        if changes := self._source.maintain():
            for change in changes:
                self._note(change)
            self._tables.use_llcs(llc_domain_of_cpu(self._topology.retake(self._clock.utc_ns(now_ns))))
            self._counter_check.follow(self._source.counting(), self._topology.now.highest_khz)
        if now_ns >= self._next_walk_ns:
            self._inventory.refresh()
            self._next_walk_ns = now_ns + _WALK_NS
        self._look_at_limits(now_ns)
        self._emit_health(now_ns)

    def _look_at_limits(self, now_ns: int) -> None:
        """Limits of the containers that exist; runtimes set them after they made the cgroup, and can change them."""
        seen = {
            cgroup_id: read_limits(self._cgroup_root / path.lstrip("/"))
            for cgroup_id, path in self._inventory.living_containers()
        }
        self._changed_limits += [
            Change(now_ns, "limits", "walk", cgroup_id)
            for cgroup_id, limits in seen.items()
            if limits != self._limits.get(cgroup_id, NO_LIMITS)
        ]
        self._limits = seen

    def _emit_health(self, now_ns: int) -> None:
        fill, gap_ns = self._source.rings.take_peaks()
        slept_ns = sum(sleep.slept_ns for sleep in self._clock.sleeps if sleep.after_ns < now_ns)
        row = self._meter.take(self.counts()._replace(suspended_time_ns=slept_ns)) | {
            "node_name": self._node_name,
            "time": self._clock.utc_ns(now_ns),
            "reader_lag_max_ns": gap_ns,
            "ring_fill_peak": fill,
            "unresolved_cgroups": self._inventory.unresolved,
            "own_rss_bytes": own_resident_bytes(),
            "online_cpus": len(online_cpus()),
            **self._reader_health.take(),
        }
        self._storing.put(HEALTH, health_rows(row))
