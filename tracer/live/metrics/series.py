# SPDX-License-Identifier: Apache-2.0
"""Every series of `--metrics`: the one source of truth for what is served and for docs/metrics.md.

Counters are in base units and never ratios, so that rates, sums and shares of any time can be made of them. What was
not measured has no series. A family's name has its unit at its end, and a counter's series end in `_total` after that.
"""

from typing import Final, Literal, NamedTuple

_NS: Final = 1_000_000_000

OF_CONTAINER: Final = ("container_namespace", "container_pod", "container")
OF_HOLDER: Final = ("holder_namespace", "holder_pod", "holder")


class Family(NamedTuple):
    """`source` is what it is taken from: an amount, or a column of `health`, divided by `divisor`.

    With `of_label`, each value of its last label has a source of its own.
    """

    name: str
    type: Literal["counter", "gauge", "info"]
    meaning: str
    unit: str = ""
    labels: tuple[str, ...] = ()
    source: str = ""
    divisor: float = 1
    of_label: tuple[tuple[str, str], ...] = ()

    @property
    def series_name(self) -> str:
        """As queries have it."""
        return self.name + {"counter": "_total", "info": "_info", "gauge": ""}[self.type]


CONTAINER: Final = (
    Family("tracer_container_cpu_seconds", "counter", "CPU time, stolen time included", "seconds", OF_CONTAINER,
           "cpu_time_ns", _NS),
    Family("tracer_container_cycles", "counter", "CPU cycles, or what --event put in their place", "", OF_CONTAINER,
           "cycles"),
    Family("tracer_container_instructions", "counter", "Instructions retired", "", OF_CONTAINER, "instructions"),
    Family("tracer_container_llc_misses", "counter", "Last-level cache misses", "", OF_CONTAINER, "llc_misses"),
    Family("tracer_container_context_switches", "counter", "Context switches away from its tasks", "", OF_CONTAINER,
           "context_switches"),
    Family("tracer_container_wait_seconds", "counter",
           "Time for which its tasks were ready to run and did not, over all tasks: behind others on the CPU, behind "
           "its own tasks (self), for its CPU limit (throttled), beside an idle CPU (idle), or behind nobody known "
           "(unknown)",
           "seconds", (*OF_CONTAINER, "cause"), divisor=_NS,
           of_label=(("others", "wait_behind_others_ns"), ("self", "wait_behind_self_ns"),
                     ("throttled", "wait_throttled_ns"), ("idle", "wait_idle_ns"), ("unknown", "wait_unknown_ns"))),
    Family("tracer_container_stolen_seconds", "counter",
           "Of its CPU time, what the hypervisor and interrupts took", "seconds", OF_CONTAINER, "stolen_time_ns", _NS),
    Family("tracer_container_memory_traffic_bytes", "counter", "Memory traffic by resctrl, reads and writes", "bytes",
           OF_CONTAINER, "mbm_total_bytes"),
)  # fmt: skip
MOST_OF_A_CONTAINER: Final = sum(len(family.of_label) or 1 for family in CONTAINER)

PAIRS: Final = Family(
    "tracer_wait_behind_seconds", "counter",
    "Time for which tasks of the container were ready while the holder had the CPU, of the largest pairs; the rest is "
    "`other` behind `other`", "seconds", (*OF_CONTAINER, *OF_HOLDER), divisor=_NS,
)  # fmt: skip


def _count(name: str, meaning: str, source: str) -> Family:
    return Family(f"tracer_{name}", "counter", meaning, source=source)


def _time(name: str, meaning: str, source: str) -> Family:
    return Family(f"tracer_{name}_seconds", "counter", meaning, "seconds", source=source, divisor=_NS)


def _bytes(name: str, type_: Literal["counter", "gauge"], meaning: str, source: str) -> Family:
    return Family(f"tracer_{name}_bytes", type_, meaning, "bytes", source=source)


def _now(name: str, meaning: str, source: str) -> Family:
    return Family(f"tracer_{name}", "gauge", meaning, source=source)


def _lasted(name: str, meaning: str, source: str) -> Family:
    return Family(f"tracer_{name}_seconds", "gauge", meaning, "seconds", source=source, divisor=_NS)


# Of these the sum since the start is served, 0 before the first second is over.
HEALTH_COUNTERS: Final = (
    _count("records", "Records read from the rings of the kernel", "records"),
    _bytes("record", "counter", "Bytes of these records", "record_bytes"),
    Family("tracer_records_lost", "counter", "Records lost, by cause: each is one tick of one cgroup on one CPU", "",
           ("cause",), of_label=(("ring_full", "lost_ring_full"), ("no_ring", "lost_no_ring"),
                                 ("malformed", "lost_malformed"))),
    _count("recursion_misses", "Runs of the BPF programs that the kernel skipped", "recursion_misses"),
    _count("late_rows", "Rows for windows that were already final; they add to the counters here", "late_rows"),
    _count("unknown_rows", "Rows of cgroups that could not be told who they are", "unknown_rows"),
    _count("unseen_switches", "Context switches that the kernel kept to itself", "unseen_switches"),
    _count("waits_unknown", "Waits whose beginning is not known", "waits_unknown"),
    _count("throttlings_lost", "Throttlings that were not told for lack of room", "throttlings_lost"),
    _count("cgroup_events_lost", "Events of cgroups that the kernel could not hand over", "cgroup_events_lost"),
    _count("nri_events_lost", "Events of NRI that were dropped", "nri_events_lost"),
    _count("counter_values_refused", "Values of hardware counters that cannot be true", "counter_values_refused"),
    _time("own_cpu", "CPU time of the tracer in user space and for its system calls", "own_cpu_time_ns"),
    _count("rows_received", "Rows that came to the store", "rows_received"),
    _count("rows_written", "Rows of closed files", "rows_written"),
    _count("rows_dropped", "Rows dropped, as the output could not be written", "rows_dropped"),
    _count("files_closed", "Files of results closed", "files_closed"),
    _count("files_removed", "Files of results removed to make room", "files_removed"),
    _bytes("written", "counter", "Bytes of closed files", "bytes_written"),
    _count("node_context_switches", "Context switches of the node, by the kernel's own count", "context_switches"),
    _time("node_steal", "Time in which the hypervisor kept the node's CPUs from running", "steal_time_ns"),
    _time("node_suspended", "Time for which the node was suspended", "suspended_time_ns"),
)  # fmt: skip
# The same, but without a series until it is known.
HEALTH_COUNTERS_IF_KNOWN: Final = (
    _time("kernel_cpu", "CPU time of the tracer's programs in the kernel, at the most; it is in that of who ran then",
          "kernel_cpu_time_ns"),
)  # fmt: skip
# Of the last second, and without a series before the first one is over.
HEALTH_GAUGES: Final = (
    _bytes("own_resident_memory", "gauge", "Resident memory of the tracer", "own_rss_bytes"),
    _now("ring_fill_ratio", "The fullest a ring was in the last second, 0 to 1", "ring_fill_peak"),
    _now("queued_batches", "Most batches that waited between reader and pipeline in the last second",
         "queue_depth_peak"),
    _now("rows_waiting", "Rows in no closed file yet", "rows_waiting"),
    _bytes("waiting", "gauge", "Memory of the rows in no closed file yet", "bytes_waiting"),
    _lasted("write_longest", "Longest write of the last second", "write_max_ns"),
    Family("tracer_tick_lateness_seconds", "gauge", "How late ticks of the last second fired", "seconds", ("quantile",),
           divisor=_NS, of_label=(("0.5", "tick_lateness_p50_ns"), ("0.99", "tick_lateness_p99_ns"),
                                 ("1", "tick_lateness_max_ns"))),
    _lasted("reader_lag_longest", "Longest time between two drains of the rings in the last second",
            "reader_lag_max_ns"),
    _lasted("drain_interval", "How often the rings are drained", "drain_interval_ns"),
    _now("parts_left_out", "Parts of the results that are left out, as the tracer cannot keep up", "parts_left_out"),
    _now("known_cgroups", "Cgroups that the tracer knows", "known_cgroups"),
    _now("unresolved_cgroups", "Cgroup ids without a known path", "unresolved_cgroups"),
    _now("node_online_cpus", "CPUs online", "online_cpus"),
)  # fmt: skip

# What has no column of its own.
BUILD: Final = Family("tracer_build", "info", "Version of the tracer, and of what it runs on", labels=(
    "version", "python_version"))  # fmt: skip
NODE: Final = Family("tracer_node", "info", "The node", labels=("node_name", "kernel_release", "machine", "cpu_model"))
START: Final = Family(
    "tracer_start_timestamp_seconds", "gauge", "When the run began, seconds since the epoch", "seconds"
)
LAST: Final = Family("tracer_last_tick_timestamp_seconds", "gauge", "End of the newest window, seconds since the epoch",
                     "seconds")  # fmt: skip
TICK: Final = Family("tracer_tick_length_seconds", "gauge", "Length of a tick", "seconds")
TICKS: Final = Family("tracer_ticks", "counter", "Ticks of which there are windows")
READY: Final = Family("tracer_ready", "gauge", "1 where programs are attached and ticks came within the last second")
COUNTED: Final = Family("tracer_counter_available", "gauge", "Whether the counter counts on some CPU, 1 or 0", "",
                        ("counter",))  # fmt: skip
IDLE: Final = Family("tracer_node_idle_seconds", "counter", "Time for which CPUs were idle, over all CPUs", "seconds")
OUTPUT_FAILING: Final = Family("tracer_output_failing", "gauge", "1 while the output cannot be written or is full")
UPLOAD_FAILING: Final = Family("tracer_upload_failing", "gauge", "1 while results are to be uploaded and cannot be")
SHOWN: Final = Family("tracer_metrics_containers", "gauge", "Containers, or such of equal names together, that have "
                      "series of their own, and that are in `other`", "", ("series",))  # fmt: skip
EVICTIONS: Final = Family("tracer_metrics_evictions", "counter", "Times a container went to `other` for a busier one")
LEFT_OUT: Final = Family("tracer_totals_left_out", "counter", "Cgroups that went to `other` as they are long gone, or "
                         "as there are too many")  # fmt: skip
SCRAPES: Final = Family("tracer_scrapes", "counter", "Times this was made")
SCRAPE_TIME: Final = Family("tracer_scrape_cpu_seconds", "counter", "CPU time that took", "seconds")

NODE_AND_OWN: Final = (
    BUILD, NODE, START, LAST, TICK, TICKS, READY, COUNTED, IDLE, OUTPUT_FAILING, UPLOAD_FAILING, SHOWN, EVICTIONS,
    LEFT_OUT, SCRAPES, SCRAPE_TIME, *HEALTH_COUNTERS, *HEALTH_COUNTERS_IF_KNOWN, *HEALTH_GAUGES,
)  # fmt: skip
FAMILIES: Final = (*CONTAINER, PAIRS, *NODE_AND_OWN)

MOST_SERIES: Final = 4_000
MOST_PAIRS: Final = 20
# What is there on any node; a label that is not of_label has at most three values.
_FIXED: Final = sum(len(family.of_label) or 3 for family in NODE_AND_OWN) + MOST_PAIRS + 1
MOST_CONTAINERS: Final = (MOST_SERIES - _FIXED) // MOST_OF_A_CONTAINER - 2
"""That have series of their own; `other` and `system` have some too."""
