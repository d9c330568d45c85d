# SPDX-License-Identifier: Apache-2.0
"""The row of `health` of each second."""

from collections.abc import Callable

from tracer.containers.inventory import Inventory
from tracer.kernel.clock import RunClock
from tracer.kernel.cpus import online_cpus
from tracer.kernel.rings import Rings
from tracer.pipeline.housekeeping.counts import RunCounts
from tracer.pipeline.housekeeping.health import HealthMeter, ReaderHealth, health_rows, own_resident_bytes
from tracer.pipeline.sinks.sink import Sink
from tracer.store.schemas import HEALTH


class HealthRows:
    """Makes them from what is counted, and from what the stages and readers observed since the last one."""

    def __init__(
        self,
        counts: RunCounts,
        meter: HealthMeter,
        readers: ReaderHealth,
        *,
        rings: Rings,
        inventory: Inventory,
        clock: RunClock,
        node_name: str,
        sink: Sink,
        kernel_time_ns: Callable[[], int | None],
        drain_interval_ns: Callable[[], int],
        parts_left_out: Callable[[], int],
    ) -> None:
        self._counts = counts
        self._meter = meter
        self._readers = readers
        self._rings = rings
        self._inventory = inventory
        self._clock = clock
        self._node_name = node_name
        self._sink = sink
        self.ring_fill_peak = 0.0
        """The fullest a ring was found, 0 to 1, of the last row."""
        self._parts_left_out = parts_left_out
        self._drain_interval_ns = drain_interval_ns
        self._kernel_time_ns = kernel_time_ns
        self._kernel_before_ns = 0

    def put(self, now_ns: int) -> None:
        """Hands on the row of the time since the last one."""
        self.ring_fill_peak, gap_ns = self._rings.take_peaks()
        first, anchor = self._clock.first, self._clock.anchor_at(now_ns)
        changes = {
            "suspended_time_ns": anchor.slept_ns - first.slept_ns,
            "clock_step_ns": anchor.boot_utc_ns - first.boot_utc_ns,
        }
        counts = self._counts.counts()._replace(**changes)
        row = self._meter.take(counts) | {
            "node_name": self._node_name,
            "time": self._clock.utc_ns(now_ns),
            "reader_lag_max_ns": gap_ns,
            "ring_fill_peak": self.ring_fill_peak,
            "kernel_cpu_time_ns": self._kernel_time_since(),
            "drain_interval_ns": self._drain_interval_ns(),
            "parts_left_out": self._parts_left_out(),
            "unresolved_cgroups": self._inventory.unresolved,
            "known_cgroups": len(self._inventory),
            "own_rss_bytes": own_resident_bytes(),
            "online_cpus": len(online_cpus()),
            "rows_waiting": max(0, self._counts.rows_waiting(counts)),
            "bytes_waiting": self._counts.bytes_waiting(),
            "write_max_ns": self._counts.take_longest_write_ns(),
            **self._readers.take(),
        }
        self._sink.put(HEALTH, health_rows(row))

    def _kernel_time_since(self) -> int | None:
        """Since the last row that knew it, or the start."""
        now_ns, before_ns = self._kernel_time_ns(), self._kernel_before_ns
        if now_ns is None:
            return None
        self._kernel_before_ns = now_ns
        return now_ns - before_ns
