# SPDX-License-Identifier: Apache-2.0
"""How the tracer itself fares: a row of the `health` table each second, from counts that only rise."""

import os
import resource
import threading
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from tracer.store.schemas import HEALTH

# By way of Polars: pyarrow's conversion of Python values imports pandas where that is installed (30 MB).
_TYPES = pl.Schema(HEALTH.schema) | {"time": pl.Datetime("ns", "UTC")}
_PAGE = resource.getpagesize()
_NS_PER_CLOCK_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class Counts(NamedTuple):
    """Counts since the start of the run, in the names of the table's columns."""

    records: int = 0
    record_bytes: int = 0
    records_expanded: int = 0
    records_merged: int = 0
    records_outside_run: int = 0
    lost_ring_full: int = 0
    lost_no_ring: int = 0
    lost_malformed: int = 0
    late_rows: int = 0
    recursion_misses: int = 0
    context_switches: int = 0
    uncounted_switches: int = 0
    unseen_switches: int = 0
    unseen_time_ns: int = 0
    waits_unknown: int = 0
    waits_cut_ns: int = 0
    throttlings_lost: int = 0
    unknown_rows: int = 0
    counter_values_refused: int = 0
    cgroup_events_lost: int = 0
    nri_events_lost: int = 0
    own_cpu_time_ns: int = 0
    steal_time_ns: int = 0
    suspended_time_ns: int = 0
    clock_step_ns: int = 0
    files_closed: int = 0
    bytes_written: int = 0
    records_unassembled: int = 0
    rows_received: int = 0
    rows_written: int = 0
    rows_dropped: int = 0
    files_removed: int = 0


class HealthMeter:
    """Turns counts since the start into counts of one second, and keeps what is gathered in between.

    `at_start`: what of the counts does not belong to the run. Any thread may call any method.
    """

    def __init__(self, at_start: Counts) -> None:
        self._before = at_start
        self._lateness: list[npt.NDArray[np.uint32]] = []
        self._queue_depth_peak = 0
        self._lock = threading.Lock()

    def observe(self, lateness_ns: npt.NDArray[np.uint32], queue_depth: int) -> None:
        """Takes how late ticks were closed (only those that were), and how many batches waited."""
        with self._lock:
            self._lateness.append(lateness_ns)
            self._queue_depth_peak = max(self._queue_depth_peak, queue_depth)

    def take(self, counts: Counts) -> dict[str, int | float | None]:
        """The differences to the last call, the quantiles and the peaks since then."""
        row: dict[str, int | float | None] = {
            name: now - before for name, now, before in zip(Counts._fields, counts, self._before, strict=True)
        }
        with self._lock:
            gathered, self._lateness = self._lateness, []
            row["queue_depth_peak"], self._queue_depth_peak = self._queue_depth_peak, 0
        lateness = np.concatenate(gathered) if gathered else np.empty(0, np.uint32)
        for name, quantile in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
            row[f"tick_lateness_{name}_ns"] = int(np.quantile(lateness, quantile)) if len(lateness) else None
        self._before = counts
        return row


class ReaderHealth:
    """What the readers of files count in the names of the table's columns, until a row takes it. Any thread adds."""

    COLUMNS = (
        "reader_cpu_time_ns",
        "reader_pass_max_ns",
        "reader_passes_left_out",
        "llc_values_missing",
        "unread_cgroups",
        "process_reads",
        "process_read_time_ns",
        "process_read_max_ns",
        "processes_too_large",
        "processes_put_off",
        "external_messages",
        "external_messages_ignored",
        "external_messages_malformed",
        "external_messages_late",
        "external_messages_dropped",
        "external_values_dropped",
        "external_senders_unknown",
        "external_claims_refused",
    )

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(self.COLUMNS, 0)

    def add(self, counts: Mapping[str, int]) -> None:
        """Adds to the sums; of a name that ends in `_max_ns` the larger stays."""
        with self._lock:
            for name, count in counts.items():
                before = self._counts[name]
                self._counts[name] = max(before, count) if name.endswith("_max_ns") else before + count

    def take(self) -> dict[str, int]:
        """What was added since the last call."""
        with self._lock:
            counts, self._counts = self._counts, dict.fromkeys(self.COLUMNS, 0)
            return counts


def health_rows(row: Mapping[str, object]) -> pa.Table:
    """One row of the `health` table from all of its columns by name, the time in ns since the epoch."""
    return pl.DataFrame({name: pl.Series([row[name]]).cast(dtype) for name, dtype in _TYPES.items()}).to_arrow()


def steal_time_ns() -> int:
    """Time a hypervisor kept this node's CPUs from running since boot (proc_stat(5), 8th figure of `cpu`)."""
    with open("/proc/stat", "rb") as stat:  # noqa: PTH123 - read each second
        return int(stat.readline().split()[8]) * _NS_PER_CLOCK_TICK


def own_resident_bytes() -> int:
    """Resident memory of this process (proc_pid_statm(5), second field)."""
    with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 - read each second
        return int(statm.read().split()[1]) * _PAGE
