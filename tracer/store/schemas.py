# SPDX-License-Identifier: Apache-2.0
"""The tables of an output: every column with its type, whether it can be null, and what it means.

This is the one source of truth. Each field carries its meaning and unit as metadata under `DESCRIPTION`, in
the files too. A change that a reader could notice (a column removed, renamed, of another type or meaning)
raises `SCHEMA_VERSION`.

Null means "not measured" or "unknown", never zero; the reason is in the run's manifest. Strings are
dictionary-encoded. All times are UTC nanoseconds through the one clock anchor of the run.
"""

from dataclasses import dataclass
from typing import Final

import pyarrow as pa

SCHEMA_VERSION: Final = 1
DESCRIPTION: Final = b"description"

STRING: Final = pa.dictionary(pa.int32(), pa.string())
_TIME = pa.timestamp("ns", tz="UTC")


@dataclass(frozen=True)
class Table:
    """One table: its name (also the directory's), its schema, and how its files are split and sorted.

    `time_column` decides a row's UTC day, hence its `dt=` partition. `sort_columns` are never null.
    """

    name: str
    schema: pa.Schema
    time_column: str
    sort_columns: tuple[str, ...]


def _measured(name: str, type_: pa.DataType, description: str) -> pa.Field:
    """A column that is never null."""
    return pa.field(name, type_, nullable=False, metadata={DESCRIPTION: description.encode()})


def _optional(name: str, type_: pa.DataType, description: str) -> pa.Field:
    """A column that is null where the value is unknown or was not measured."""
    return pa.field(name, type_, nullable=True, metadata={DESCRIPTION: description.encode()})


_NODE_NAME = _measured("node_name", STRING, "name of the node on which the run took place")

IDENTITY: Final = (
    _NODE_NAME,
    _measured(
        "cgroup_id",
        pa.uint64(),
        "the kernel's id of the cgroup: its inode in cgroup2; 0 is idle time, which is no cgroup",
    ),
    _measured(
        "cgroup_kind",
        STRING,
        "what the cgroup is: container, sandbox, monitor, pod, qos, unit, mount, other, idle or unknown",
    ),
    _optional("cgroup_path", STRING, "path in the cgroup2 tree, from its root, which is /"),
    _optional("runtime", STRING, "container runtime the path shows, for example containerd, cri-o or docker"),
    _optional("container_id", STRING, "id of the container, without a runtime prefix"),
    _optional("container_name", STRING, "name of the container in its pod, or the runtime's name for it"),
    _optional("pod_name", STRING, "name of the Kubernetes pod"),
    _optional("pod_uid", STRING, "UID of the Kubernetes pod"),
    _optional("namespace", STRING, "Kubernetes namespace of the pod"),
    _optional("qos_class", STRING, "Kubernetes QoS class of the pod: guaranteed, burstable or besteffort"),
)

WINDOWS: Final = Table(
    "windows",
    pa.schema(
        [
            *IDENTITY,
            _measured("window_start", _TIME, "start of the window, UTC"),
            _measured(
                "window_tick",
                pa.uint64(),
                "number of the window's first tick, a multiple of the window's length",
            ),
            _measured("ticks", pa.uint16(), "ticks of the window that lie within the run"),
            _measured("cpu_time_ns", pa.uint64(), "CPU time of the cgroup in the window, summed over all CPUs, ns"),
            _optional(
                "cycles",
                pa.uint64(),
                "CPU cycles, or the event that --event put in their place; null if not counted",
            ),
            _optional("instructions", pa.uint64(), "instructions retired; null if not counted"),
            _optional("llc_misses", pa.uint64(), "last-level cache misses; null if not counted"),
            _measured("context_switches", pa.uint32(), "context switches away from a task of the cgroup"),
            _measured("active_ticks", pa.uint16(), "ticks in which the cgroup ran on any CPU"),
            _measured("cpus", pa.uint16(), "CPUs on which the cgroup ran"),
            _measured(
                "cpu_time_peak_ns",
                pa.uint64(),
                "largest CPU time of the cgroup in one tick, over all CPUs, ns",
            ),
            _optional(
                "llc_misses_peak",
                pa.uint64(),
                "most LLC misses of the cgroup in one tick; null if not counted",
            ),
            _optional("cpi_min", pa.float32(), "least cycles per instruction of an active tick; null if not counted"),
            _optional(
                "cpi_median",
                pa.float32(),
                "median cycles per instruction of the active ticks; null if not counted",
            ),
            _optional("cpi_max", pa.float32(), "most cycles per instruction of an active tick; null if not counted"),
            _measured(
                "neighbour_cpu_time_ns",
                pa.uint64(),
                "CPU time of other cgroups, not idle, on the same LLC in the ticks in which this one ran, ns",
            ),
            _optional(
                "neighbour_llc_misses",
                pa.uint64(),
                "LLC misses of other cgroups on the same LLC in those ticks; null if not counted",
            ),
            _optional(
                "counter_coverage",
                pa.float32(),
                "share of the time in which the counters counted, 0 to 1; null if not counted",
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
            _measured("tick_start", _TIME, "start of the tick, UTC"),
            _measured("tick", pa.uint64(), "number of the tick: CLOCK_MONOTONIC divided by the tick's length"),
            _measured("cpu", pa.uint16(), "logical CPU"),
            _measured("cpu_time_ns", pa.uint64(), "time the cgroup ran on this CPU in the tick, ns"),
            _optional(
                "cycles",
                pa.uint64(),
                "CPU cycles, or the event that --event put in their place; null if not counted",
            ),
            _optional("instructions", pa.uint64(), "instructions retired; null if not counted"),
            _optional("llc_misses", pa.uint64(), "last-level cache misses; null if not counted"),
            _measured("context_switches", pa.uint32(), "context switches away from a task of the cgroup"),
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
            _measured("time", _TIME, "when it happened, or when the tracer found out, UTC"),
            _measured(
                "event",
                STRING,
                "created (or found to be there), named, populated, emptied, removed, or limits: first seen or changed",
            ),
            _measured("source", STRING, "who told of it: kernel, walk, inotify, nri or runtime (its state on disk)"),
            _optional("cpu_quota_usec", pa.uint64(), "cpu.max: CPU time in each period, us; null if there is no limit"),
            _optional("cpu_period_usec", pa.uint64(), "cpu.max: the period, us; null if the node has no such file"),
            _optional("cpu_weight", pa.uint64(), "cpu.weight; null if the node has no such file"),
            _optional("memory_max_bytes", pa.uint64(), "memory.max, bytes; null if there is no limit or no such file"),
            _optional("cpuset_cpus", STRING, "cpuset.cpus; null if all CPUs are allowed or there is no such file"),
        ]
    ),
    time_column="time",
    sort_columns=("time", "cgroup_id"),
)

HEALTH: Final = Table(
    "health",
    pa.schema(
        [
            _NODE_NAME,
            _measured("time", _TIME, "end of the second that the row speaks of, UTC"),
            _measured("records", pa.uint64(), "records read from the rings in this second"),
            _measured("record_bytes", pa.uint64(), "bytes of these records"),
            _measured("lost_ring_full", pa.uint64(), "records lost in this second because a ring was full"),
            _measured("lost_no_ring", pa.uint64(), "records lost in this second because their CPU had no ring yet"),
            _measured(
                "lost_malformed",
                pa.uint64(),
                "records thrown away in this second because they were malformed",
            ),
            _measured("late_rows", pa.uint64(), "rows written in this second for windows that were already final"),
            _optional(
                "tick_lateness_p50_ns",
                pa.uint64(),
                "median of how late the ticks of this second fired, ns; null if none fired",
            ),
            _optional("tick_lateness_p99_ns", pa.uint64(), "99th percentile of the same, ns; null if none fired"),
            _optional("tick_lateness_max_ns", pa.uint64(), "maximum of the same, ns; null if none fired"),
            _measured(
                "reader_lag_max_ns",
                pa.uint64(),
                "longest time between two drains of the rings in this second, ns",
            ),
            _measured("ring_fill_peak", pa.float32(), "fullest any ring was found in this second, 0 to 1"),
            _measured(
                "queue_depth_peak",
                pa.uint16(),
                "most batches that waited between reader and pipeline in this second",
            ),
            _measured(
                "recursion_misses",
                pa.uint64(),
                "runs of the BPF programs that the kernel skipped in this second to prevent recursion",
            ),
            _measured("unresolved_cgroups", pa.uint32(), "cgroup ids without a known path at the end of the second"),
            _measured(
                "cgroup_events_lost",
                pa.uint64(),
                "events of cgroups that the kernel could not hand over in it",
            ),
            _measured("nri_events_lost", pa.uint64(), "events of NRI that were dropped in this second"),
            _measured("unknown_rows", pa.uint64(), "rows written in this second with cgroup_kind unknown"),
            _measured("own_cpu_time_ns", pa.uint64(), "CPU time the tracer itself used in this second, ns"),
            _measured("own_rss_bytes", pa.uint64(), "resident memory of the tracer at the end of the second, bytes"),
            _measured("files_closed", pa.uint32(), "output files closed in this second"),
            _measured("bytes_written", pa.uint64(), "bytes of these files"),
            _measured(
                "steal_time_ns",
                pa.uint64(),
                "time in this second in which the hypervisor kept this node's CPUs from running, ns; "
                "it is part of the CPU time of whoever was on them",
            ),
            _measured("online_cpus", pa.uint16(), "CPUs online at the end of the second"),
        ]
    ),
    time_column="time",
    sort_columns=("time",),
)

TABLES: Final = {table.name: table for table in (WINDOWS, TICKS, LIFECYCLE, HEALTH)}
