# SPDX-License-Identifier: Apache-2.0
"""What a run has counted so far: each second for `health`, and in all for the manifest."""

import time
from collections.abc import Sequence

from tracer.kernel.throttling import Throttling
from tracer.kernel.tick_source import CpuLosses, KernelTickSource
from tracer.pipeline.assembling import Assembling
from tracer.pipeline.counter_check import CounterCheck
from tracer.pipeline.housekeeping.health import Counts, steal_time_ns
from tracer.pipeline.labelling import Labelling
from tracer.pipeline.reading import Reading
from tracer.pipeline.sinks.keeping import Keeping
from tracer.pipeline.tick_tables import TickTables
from tracer.pipeline.watching import Watching
from tracer.store.manifest import Span, Totals


def counts_from_boot(source: KernelTickSource) -> Counts:
    """Those that did not begin with the run; the others are 0."""
    switches = source.switches()
    return Counts(
        context_switches=switches.of_node,
        uncounted_switches=switches.of_node - switches.seen,
        own_cpu_time_ns=time.process_time_ns(),
        steal_time_ns=steal_time_ns(),
    )


class RunCounts:
    """Asks all that count. Any thread may call any method."""

    def __init__(
        self,
        *,
        source: KernelTickSource,
        throttling: Throttling | None,
        counter_check: CounterCheck,
        reading: Reading,
        tables: TickTables,
        assembling: Assembling,
        labellings: Sequence[Labelling],
        watching: Watching,
        keeping: Keeping,
    ) -> None:
        """`labellings`: those whose rows of unknown cgroups count."""
        self._source = source
        self._throttling = throttling
        self._counter_check = counter_check
        self._reading = reading
        self._tables = tables
        self._assembling = assembling
        self._labellings = labellings
        self._watching = watching
        self._keeping = keeping

    def counts(self) -> Counts:
        """Since the start of the run, or as `counts_from_boot`; but for the time that the node slept."""
        losses = self._source.losses()
        rings = [self._source.rings.counts(cpu) for cpu in losses]
        totals = self._keeping.totals
        switches, waits = self._source.switches(), self._source.waits()
        return counts_from_boot(self._source)._replace(
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
            unseen_switches=switches.unseen,
            unseen_time_ns=switches.unseen_ns,
            waits_unknown=waits.unknown,
            waits_cut_ns=waits.cut_ns,
            throttlings_lost=0 if self._throttling is None else self._throttling.lost,
            unknown_rows=sum(labelling.unknown_rows for labelling in self._labellings),
            counter_values_refused=self._counter_check.refused,
            cgroup_events_lost=self._watching.lost,
            nri_events_lost=self._watching.nri_dropped,
            files_closed=sum(totals.files.values()),
            bytes_written=sum(totals.bytes.values()),
            files_removed=totals.removed.files,
            rows_written=sum(totals.rows.values()),
            rows_dropped=totals.lost.rows.total() + self._keeping.rows_refused.total(),
            # After those, so that it is not less than they are.
            rows_received=self._keeping.rows_received.total(),
            records_unassembled=self._reading.rows_abandoned + self._assembling.rows_failed,
        )

    def bytes_waiting(self) -> int:
        """Of rows that are in no closed file yet."""
        return self._keeping.bytes_queued + self._keeping.totals.bytes_waiting

    def rows_waiting(self, counts: Counts) -> int:
        """Of `counts`: rows that are in no closed file yet, and may still come to be in one."""
        return counts.rows_received - counts.rows_written - counts.rows_dropped - self._keeping.rows_let_go.total()

    def take_longest_write_ns(self) -> int:
        """Of one write since the last call."""
        return self._keeping.take_longest_write_ns()

    def totals(self) -> Totals:
        """For the manifest."""
        stored = self._keeping.totals
        counts = self.counts()
        rest = "unexplained" if self._reading.failure is None else "not_read"
        losses = {cpu: _causes(loss, rest) for cpu, loss in self._source.losses().items()}
        lost = stored.lost + self._keeping.refused
        removed = stored.removed
        return Totals(
            rows=stored.rows,
            files=stored.files,
            bytes=stored.bytes,
            rows_received=dict(self._keeping.rows_received),
            rows_lost=lost.rows.total(),
            rows_lost_by_table=dict(lost.rows),
            rows_lost_span=None if lost.span is None else Span.of(lost.span),
            rows_lost_by_cause=dict(lost.causes),
            rows_in_journals=stored.rows_in_journals,
            rows_let_go=dict(self._keeping.rows_let_go),
            files_removed=removed.files,
            removed_span=None if removed.gone.span is None else Span.of(removed.gone.span),
            rows_removed=dict(removed.own.rows),
            rows_removed_before_upload=dict(removed.before_upload.rows),
            records=counts.records,
            records_expanded=counts.records_expanded,
            records_outside_run=counts.records_outside_run,
            records_merged=counts.records_merged,
            records_unassembled=counts.records_unassembled,
            records_lost=sum(sum(causes.values()) for causes in losses.values()),
            lost_by_cpu={cpu: causes for cpu, causes in losses.items() if causes},
            recursion_misses=counts.recursion_misses,
            late_rows=counts.late_rows,
            unknown_rows=counts.unknown_rows,
            counter_values_refused=counts.counter_values_refused,
            sums=dict(self._tables.sums),
        )


def _causes(loss: CpuLosses, rest: str) -> dict[str, int]:
    """Lost records by cause; `rest` are those that only the sequence numbers miss.

    They are `unexplained`, which would be a defect, or `not_read`, as the reader had failed.
    """
    causes = {"ring_full": loss.ring_full, "no_ring": loss.no_ring, "malformed": loss.malformed}
    causes[rest] = max(0, loss.missing - sum(causes.values()))
    return {cause: count for cause, count in causes.items() if count}
