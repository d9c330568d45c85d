# SPDX-License-Identifier: Apache-2.0
"""The tables of an output: every column with its type, whether it can be null, and what it means.

This is the one source of truth. Each field carries its meaning and unit as metadata under `DESCRIPTION`, in
the files too. A change that a reader could notice (a column removed, renamed, of another type or meaning)
raises `SCHEMA_VERSION`.

Null means "not measured" or "unknown", never zero; the reason is in the run's manifest. The types are those that all
readers of Parquet know, Spark, Iceberg and Delta too: signed integers, strings, times in microseconds. Times are UTC
through the one clock anchor of the run, rounded down, so that the same instant is the same number in all tables; ticks
are exact by their number (`tick`, `window_tick`).
"""

from typing import Final

import pyarrow as pa

from tracer.store.fields import (
    DESCRIPTION,
    HOLDER_IDENTITY,
    IDENTITY,
    NODE_NAME,
    SENDER_IDENTITY,
    STRING,
    TIME,
    Table,
    measured,
    optional,
)
from tracer.store.resource_schemas import IO, LLC, PROCESSES, REGIONS, RESOURCES

__all__ = [
    "DESCRIPTION", "EXTERNAL", "HEALTH", "IDENTITY", "IO", "LIFECYCLE", "LLC", "PROCESSES", "REGIONS", "RESOURCES",
    "SCHEMA_VERSION", "STRING", "TABLES", "TICKS", "WAITS", "WINDOWS", "Table",
]  # fmt: skip

SCHEMA_VERSION: Final = 2

WINDOWS: Final = Table(
    "windows",
    pa.schema(
        [
            *IDENTITY,
            measured("window_start", TIME, "start of the window, UTC"),
            measured(
                "window_tick",
                pa.int64(),
                "number of the window's first tick, a multiple of the window's length",
            ),
            measured("ticks", pa.int64(), "ticks of the window that lie within the run"),
            measured("cpu_time_ns", pa.int64(), "CPU time of the cgroup in the window, summed over all CPUs, ns"),
            optional(
                "cycles",
                pa.int64(),
                "CPU cycles, or the event that --event put in their place; null if not counted, or if it only waited",
            ),
            optional("instructions", pa.int64(), "instructions retired; null if not counted"),
            optional("llc_misses", pa.int64(), "last-level cache misses; null if not counted"),
            measured("context_switches", pa.int64(), "context switches away from a task of the cgroup"),
            measured("active_ticks", pa.int64(), "ticks in which the cgroup ran on any CPU"),
            measured("cpus", pa.int64(), "CPUs on which the cgroup ran"),
            measured(
                "cpu_time_peak_ns",
                pa.int64(),
                "largest CPU time of the cgroup in one tick, over all CPUs, ns",
            ),
            optional(
                "llc_misses_peak",
                pa.int64(),
                "most LLC misses of the cgroup in one tick; null if not counted",
            ),
            optional("cpi_min", pa.float32(), "least cycles per instruction of an active tick; null if not counted"),
            optional(
                "cpi_median",
                pa.float32(),
                "median cycles per instruction of the active ticks; null if not counted",
            ),
            optional("cpi_max", pa.float32(), "most cycles per instruction of an active tick; null if not counted"),
            measured(
                "neighbour_cpu_time_ns",
                pa.int64(),
                "CPU time of other cgroups, not idle, on the same LLC in the ticks in which this one ran, ns",
            ),
            optional(
                "neighbour_llc_misses",
                pa.int64(),
                "LLC misses of other cgroups on the same LLC in those ticks; null if not counted",
            ),
            optional(
                "counter_coverage",
                pa.float32(),
                "share of the cgroup's CPU time in which the counters that have a value here counted, the least of "
                "theirs, 0 to 1; null if the run counts nothing",
            ),
            optional(
                "wait_time_ns",
                pa.int64(),
                "run-queue wait: time for which tasks of the cgroup were ready to run and did not, over all tasks, ns; "
                "null with --waits off",
            ),
            optional("wait_time_peak_ns", pa.int64(), "most of that in one tick, ns"),
            optional("waits", pa.int64(), "waits that ended in the window: times a task that had been ready got a CPU"),
            optional(
                "involuntary_switches", pa.int64(), "of the context switches, those of tasks that could have gone on"
            ),
            optional(
                "wait_behind_others_ns",
                pa.int64(),
                "of the wait, while other cgroups held the CPU (`waits` says which), kernel threads among them, ns",
            ),
            optional("wait_behind_self_ns", pa.int64(), "of the wait, while the cgroup itself held the CPU, ns"),
            optional(
                "wait_idle_ns",
                pa.int64(),
                "of the wait, while the CPU was idle: the task was on its way there or, if wait_throttled_ns is null, "
                "throttled, ns",
            ),
            optional(
                "wait_throttled_ns",
                pa.int64(),
                "of the wait, while the cgroup was throttled there by its own CPU limit or by one above it, ns; null "
                "where the kernel does not tell",
            ),
            optional(
                "stolen_time_ns",
                pa.int64(),
                "of the CPU time, what the hypervisor and interrupts took: the rest is what cpu.stat has. Can be a "
                "little below 0 of a cgroup that switches all the time; null where it cannot be told, ns",
            ),
        ]
    ),
    time_column="window_start",
    sort_columns=("window_start", "cgroup_id"),
    differences=frozenset({"stolen_time_ns"}),
)

WAITS: Final = Table(
    "waits",
    pa.schema(
        [
            *IDENTITY,
            measured("window_start", TIME, "start of the window, UTC"),
            measured("window_tick", pa.int64(), "number of the window's first tick, as in `windows`"),
            *HOLDER_IDENTITY,
            measured(
                "wait_time_ns",
                pa.int64(),
                "time for which tasks of the cgroup were ready to run while the holder held the CPU, ns",
            ),
        ]
    ),
    time_column="window_start",
    sort_columns=("window_start", "cgroup_id"),
)

TICKS: Final = Table(
    "ticks",
    pa.schema(
        [
            *IDENTITY,
            measured("tick_start", TIME, "start of the tick, UTC"),
            measured("tick", pa.int64(), "number of the tick: CLOCK_MONOTONIC divided by the tick's length"),
            measured("cpu", pa.int32(), "logical CPU"),
            measured("cpu_time_ns", pa.int64(), "time the cgroup ran on this CPU in the tick, ns"),
            optional(
                "cycles",
                pa.int64(),
                "CPU cycles, or the event that --event put in their place; null if not counted, or if it only waited",
            ),
            optional("instructions", pa.int64(), "instructions retired; null if not counted"),
            optional("llc_misses", pa.int64(), "last-level cache misses; null if not counted"),
            measured("context_switches", pa.int64(), "context switches away from a task of the cgroup"),
            optional(
                "wait_time_ns",
                pa.int64(),
                "time in the tick for which tasks that then ran on this CPU were ready to run and did not, ns; null "
                "with --waits off",
            ),
        ]
    ),
    time_column="tick_start",
    sort_columns=("tick_start", "cpu", "cgroup_id"),
)

LIFECYCLE: Final = Table(
    "lifecycle",
    pa.schema(
        [
            *IDENTITY,
            measured("time", TIME, "when it happened, or when the tracer found out, UTC"),
            measured(
                "event",
                STRING,
                "created (or found to be there), named (once more after a rename), populated, emptied, removed, "
                "limits (first seen or changed), "
                "llc_unmonitored (no group of resctrl could be had) or llc_monitored (one after all)",
            ),
            measured(
                "source", STRING, "who told of it: kernel, walk, inotify, nri, resctrl or runtime (its state on disk)"
            ),
            optional("cpu_quota_usec", pa.int64(), "cpu.max: CPU time in each period, us; null if there is no limit"),
            optional("cpu_period_usec", pa.int64(), "cpu.max: the period, us; null if the node has no such file"),
            optional("cpu_weight", pa.int64(), "cpu.weight; null if the node has no such file"),
            optional("memory_max_bytes", pa.int64(), "memory.max, bytes; null if there is no limit or no such file"),
            optional("cpuset_cpus", STRING, "cpuset.cpus; null if all CPUs are allowed or there is no such file"),
            optional("rdt_class", STRING, "class of cache and memory bandwidth (RDT) of the container, if it has one"),
            optional("blockio_class", STRING, "class of block I/O of the container, if it has one"),
        ]
    ),
    time_column="time",
    sort_columns=("time", "cgroup_id"),
)

EXTERNAL: Final = Table(
    "external",
    pa.schema(
        [
            *SENDER_IDENTITY,
            measured("time", TIME, "start of the window in which the kernel took the message, UTC"),
            measured("window_tick", pa.int64(), "number of the window's first tick, as in `windows`"),
            measured("name", STRING, "name of the metric, as it was sent"),
            measured(
                "kind",
                STRING,
                "what it is: counter, gauge, timer, histogram, distribution or set of DogStatsD; cumulative (a total "
                "since the sender's start) or gauge of OpenMetrics",
            ),
            measured(
                "value",
                pa.float64(),
                "the value, in the sender's unit; of a counter the increments added up, of a gauge the last one, of a "
                "set how many different members there were",
            ),
            measured(
                "count",
                pa.float64(),
                "how often the value was measured, samples that were not sent included (1 / the sample rate); of a "
                "counter, a gauge and a set, how many messages it is made of",
            ),
            optional("tags", STRING, "tags or labels, `key:value` with commas between them, as they were sent"),
            optional(
                "sender_by",
                STRING,
                "how the sender is known: credentials (the kernel's word), claim (the sender's own `c:` field, where "
                "the kernel has none); null if it is not",
            ),
        ]
    ),
    time_column="time",
    sort_columns=("time", "window_tick"),
    differences=frozenset({"value"}),
)

HEALTH: Final = Table(
    "health",
    pa.schema(
        [
            NODE_NAME,
            measured("time", TIME, "end of the second that the row speaks of, UTC"),
            measured("records", pa.int64(), "records read from the rings in this second"),
            measured("record_bytes", pa.int64(), "bytes of these records"),
            measured(
                "records_expanded",
                pa.int64(),
                "further ticks of those of these records that speak of a run of ticks without an event",
            ),
            measured(
                "records_merged", pa.int64(), "records and further ticks added to a row of `windows` that was there"
            ),
            measured("records_outside_run", pa.int64(), "records of ticks before the run's first or after its last"),
            measured("lost_ring_full", pa.int64(), "records lost in this second because a ring was full"),
            measured("lost_no_ring", pa.int64(), "records lost in this second because their CPU had no ring yet"),
            measured(
                "lost_malformed",
                pa.int64(),
                "records thrown away in this second because they were malformed",
            ),
            measured("late_rows", pa.int64(), "rows written in this second for windows that were already final"),
            optional(
                "tick_lateness_p50_ns",
                pa.int64(),
                "median of how late the ticks of this second fired, ns; null if none fired",
            ),
            optional("tick_lateness_p99_ns", pa.int64(), "99th percentile of the same, ns; null if none fired"),
            optional("tick_lateness_max_ns", pa.int64(), "maximum of the same, ns; null if none fired"),
            measured(
                "reader_lag_max_ns",
                pa.int64(),
                "longest time between two drains of the rings in this second, ns",
            ),
            measured("ring_fill_peak", pa.float32(), "fullest any ring was found in this second, 0 to 1"),
            measured(
                "queue_depth_peak",
                pa.int64(),
                "most batches that waited between reader and pipeline in this second",
            ),
            measured(
                "recursion_misses",
                pa.int64(),
                "runs of the BPF programs that the kernel skipped in this second to prevent recursion",
            ),
            measured("context_switches", pa.int64(), "context switches in this second, by the kernel's own count"),
            measured(
                "uncounted_switches",
                pa.int64(),
                "of these, those that no BPF program saw; it may be off by a few that happen while it is read, and so "
                "be a little below 0",
            ),
            measured(
                "unseen_switches",
                pa.int64(),
                "times in this second that a program found another task running than the last switch had left there: "
                "a kernel may keep switches to itself",
            ),
            measured(
                "unseen_time_ns",
                pa.int64(),
                "time of the intervals at whose ends that was found, at most a tick each: not all of it is of the "
                "cgroup that has it, ns",
            ),
            measured(
                "waits_unknown",
                pa.int64(),
                "tasks that got a CPU in this second without its being known since when they had been ready",
            ),
            measured("waits_cut_ns", pa.int64(), "what was cut off waits of more than 32,768 ticks, ns"),
            measured(
                "throttlings_lost",
                pa.int64(),
                "times a limit held up a cgroup on a CPU without its being told, for lack of room",
            ),
            measured("unresolved_cgroups", pa.int64(), "cgroup ids without a known path at the end of the second"),
            measured(
                "known_cgroups",
                pa.int64(),
                "cgroups that the tracer knows at the end of it: those that exist, and those of which a row may still "
                "come",
            ),
            measured(
                "cgroup_events_lost",
                pa.int64(),
                "events of cgroups that the kernel could not hand over in it",
            ),
            measured("nri_events_lost", pa.int64(), "events of NRI that were dropped in this second"),
            measured("unknown_rows", pa.int64(), "rows written in this second with cgroup_kind unknown"),
            measured(
                "counter_values_refused",
                pa.int64(),
                "values of counters in this second's records that cannot be true and are null: zeros of one that does "
                "not count, and more than a processor can do",
            ),
            measured(
                "reader_cpu_time_ns", pa.int64(), "CPU time that reading files of cgroups and processes took in it, ns"
            ),
            measured("reader_pass_max_ns", pa.int64(), "longest time one pass over these files took in it, ns"),
            measured(
                "reader_passes_left_out",
                pa.int64(),
                "passes left out in this second because they cost too much CPU time",
            ),
            measured("llc_values_missing", pa.int64(), "files of resctrl without a number in this second's passes"),
            measured("unread_cgroups", pa.int64(), "cgroups whose files could not be opened in this second's passes"),
            measured("process_reads", pa.int64(), "processes whose memory was read in this second"),
            measured("process_read_time_ns", pa.int64(), "time that took, ns"),
            measured("process_read_max_ns", pa.int64(), "the longest of these, ns"),
            measured(
                "processes_too_large", pa.int64(), "processes left out in this second because of their resident size"
            ),
            measured(
                "processes_put_off",
                pa.int64(),
                "processes left for a later pass in this second because the pass had used up its CPU time",
            ),
            optional(
                "external_messages", pa.int64(), "messages of applications that were read in this second (--ingest)"
            ),
            optional(
                "external_messages_ignored", pa.int64(), "of these, events and service checks, which no table has"
            ),
            optional("external_messages_malformed", pa.int64(), "of these, those that could not be read"),
            optional("external_messages_late", pa.int64(), "of these, those whose own time is too far from now"),
            optional(
                "external_messages_dropped",
                pa.int64(),
                "further messages that were thrown away unread as their sender, or all, sent too many",
            ),
            optional(
                "external_values_dropped",
                pa.int64(),
                "values of messages that were read for which there was no room in this second's rows",
            ),
            optional(
                "external_senders_unknown",
                pa.int64(),
                "messages that were read whose sender could not be told any more",
            ),
            optional(
                "external_claims_refused",
                pa.int64(),
                "messages that were read which claim to be another container's than their sender's",
            ),
            measured("own_cpu_time_ns", pa.int64(), "CPU time the tracer itself used in this second, ns"),
            optional(
                "kernel_cpu_time_ns",
                pa.int64(),
                "CPU time of the tracer's programs in the kernel since the last row that has it, ns: what a switch and "
                "a tick cost in the run's first two seconds, times those since, as if each CPU had ticked all the "
                "time; whoever was running has it in their CPU time; null before that, and where the kernel does not "
                "tell",
            ),
            measured("drain_interval_ns", pa.int64(), "how often the rings were drained at the end of the second, ns"),
            measured(
                "parts_left_out",
                pa.int64(),
                "how many parts of the results were left out at the end of the second as the tracer could not keep "
                "up: `ticks`, `waits`, windows of the usual length; the manifest's left_out says when and why",
            ),
            measured("own_rss_bytes", pa.int64(), "resident memory of the tracer at the end of the second, bytes"),
            measured("files_closed", pa.int64(), "output files closed in this second"),
            measured("bytes_written", pa.int64(), "bytes of these files"),
            optional(
                "files_removed", pa.int64(), "closed files, of any run, that were removed in this second to make room"
            ),
            optional("records_unassembled", pa.int64(), "records that came to a part of the tracer that had failed"),
            # Null where a run of a version without them was recovered.
            optional("rows_received", pa.int64(), "rows of all tables that came to the store in this second"),
            optional("rows_written", pa.int64(), "rows of the files that were closed in it"),
            optional("rows_dropped", pa.int64(), "rows dropped in it, as the output could not be written"),
            optional(
                "rows_waiting",
                pa.int64(),
                "rows in no closed file at the end of the second: all that were received and neither written nor "
                "dropped; but for an outage they are in the journal",
            ),
            optional("bytes_waiting", pa.int64(), "memory that these take, bytes"),
            optional("write_max_ns", pa.int64(), "longest write of a file or to the journal in it, with its sync, ns"),
            measured(
                "steal_time_ns",
                pa.int64(),
                "time in this second in which the hypervisor kept this node's CPUs from running, ns; "
                "it is part of the CPU time of whoever was on them",
            ),
            measured(
                "suspended_time_ns",
                pa.int64(),
                "time for which the machine was suspended before this row and after the last one, ns; no tick has it",
            ),
            measured(
                "clock_step_ns",
                pa.int64(),
                "by how much the wall clock was set, of which the rows from this one on know and the last one did not, "
                "ns; below 0 it was set back",
            ),
            measured("online_cpus", pa.int64(), "CPUs online at the end of the second"),
        ]
    ),
    time_column="time",
    sort_columns=("time",),
    # A hypervisor's count may go back too.
    differences=frozenset({"uncounted_switches", "steal_time_ns", "clock_step_ns"}),
)

TABLES: Final = {
    table.name: table
    for table in (WINDOWS, TICKS, WAITS, EXTERNAL, RESOURCES, IO, PROCESSES, REGIONS, LLC, LIFECYCLE, HEALTH)
}
