# SPDX-License-Identifier: Apache-2.0
"""CPUs that come and go while a run is under way."""

from collections.abc import Callable

from tracer.kernel.clock import RunClock
from tracer.kernel.tick_source import KernelTickSource
from tracer.kernel.topology import llc_domain_of_cpu
from tracer.pipeline.counter_check import CounterCheck
from tracer.pipeline.node import TopologyRecord
from tracer.pipeline.tick_tables import TickTables


class CpuChanges:
    """Opens what a CPU that comes is measured with, and tells of it to all that know the CPUs."""

    def __init__(
        self,
        source: KernelTickSource,
        *,
        topology: TopologyRecord,
        clock: RunClock,
        counter_check: CounterCheck,
        tables: TickTables,
        note: Callable[[str], None],
    ) -> None:
        self._source = source
        self._topology = topology
        self._clock = clock
        self._counter_check = counter_check
        self._tables = tables
        self._note = note

    def follow(self, now_ns: int) -> None:
        """Looks for changes since the last time."""
        changes = self._source.maintain()
        if not changes:
            return
        for change in changes:
            self._note(change)
        self._tables.use_llcs(llc_domain_of_cpu(self._topology.retake(self._clock.utc_ns(now_ns))))
        self._counter_check.follow(self._source.counting(), self._topology.now.highest_khz)
