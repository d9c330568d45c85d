# SPDX-License-Identifier: Apache-2.0
"""The tables that are read from the kernel's files about once a second.

What comes from a cgroup's file is named after file and key, and its description begins with both. Counters are as the
kernel counts them, from the cgroup's creation on (`tracer.analysis.rates` makes rates of them); only `llc` has what was
counted between its rows, since a counter of resctrl begins anew with each group and assignment.
"""

from typing import Final

import pyarrow as pa

from tracer.store.fields import IDENTITY, STRING, TIME, Table, measured, optional

_COUNT = pa.int64()

_MEMORY_STAT_BYTES = {
    "anon": "anonymous memory",
    "file": "page cache, with tmpfs and shared memory",
    "kernel": "kernel memory in all",
    "kernel_stack": "kernel stacks",
    "pagetables": "page tables",
    "sec_pagetables": "page tables of virtual machines and devices",
    "percpu": "per-CPU kernel data",
    "sock": "network buffers",
    "vmalloc": "memory from vmalloc",
    "shmem": "tmpfs and shared memory",
    "zswap": "compressed memory in zswap",
    "zswapped": "memory that was put into zswap, before its compression",
    "file_mapped": "page cache that is mapped",
    "file_dirty": "page cache that was changed and not written yet",
    "file_writeback": "page cache that is being written",
    "swapcached": "swap that is in memory too",
    "anon_thp": "anonymous memory in transparent huge pages",
    "file_thp": "page cache in transparent huge pages",
    "shmem_thp": "tmpfs and shared memory in transparent huge pages",
    "inactive_anon": "anonymous memory on the inactive list",
    "active_anon": "anonymous memory on the active list",
    "inactive_file": "page cache on the inactive list",
    "active_file": "page cache on the active list",
    "unevictable": "memory that cannot be reclaimed",
    "slab_reclaimable": "kernel objects that might be reclaimed",
    "slab_unreclaimable": "kernel objects that cannot be reclaimed",
    "slab": "kernel objects in all",
    "hugetlb": "hugetlb pages",
}
_MEMORY_STAT_COUNTS = {
    "workingset_refault_anon": "anonymous pages that came back soon after their eviction",
    "workingset_refault_file": "page cache pages that came back soon after their eviction",
    "workingset_activate_anon": "refaulted anonymous pages that were made active at once",
    "workingset_activate_file": "refaulted page cache pages that were made active at once",
    "workingset_restore_anon": "refaulted anonymous pages that had been active before",
    "workingset_restore_file": "refaulted page cache pages that had been active before",
    "workingset_nodereclaim": "shadow nodes that were reclaimed",
    "pgdemote_kswapd": "pages that kswapd moved to slower memory",
    "pgdemote_direct": "pages that direct reclaim moved to slower memory",
    "pgdemote_khugepaged": "pages that khugepaged moved to slower memory",
    "pgdemote_proactive": "pages that proactive reclaim moved to slower memory",
    "pgpromote_success": "pages that were moved to faster memory",
    "pgscan": "pages that reclaim looked at",
    "pgsteal": "pages that were reclaimed",
    "pgscan_kswapd": "pages that kswapd looked at",
    "pgscan_direct": "pages that direct reclaim looked at",
    "pgscan_khugepaged": "pages that khugepaged's reclaim looked at",
    "pgscan_proactive": "pages that proactive reclaim looked at",
    "pgsteal_kswapd": "pages that kswapd reclaimed",
    "pgsteal_direct": "pages that direct reclaim got",
    "pgsteal_khugepaged": "pages that khugepaged's reclaim got",
    "pgsteal_proactive": "pages that proactive reclaim got",
    "pgfault": "page faults",
    "pgmajfault": "page faults that waited for I/O",
    "pgrefill": "pages that reclaim looked at on the active list",
    "pgactivate": "pages that were made active",
    "pgdeactivate": "pages that were made inactive",
    "pglazyfree": "pages that may be freed lazily",
    "pglazyfreed": "lazily freed pages that were reclaimed",
    "pswpin": "pages read from swap",
    "pswpout": "pages written to swap",
    "swpin_zero": "zero-filled pages taken from swap without I/O",
    "swpout_zero": "zero-filled pages put to swap without I/O",
    "zswpin": "pages taken out of zswap",
    "zswpout": "pages put into zswap",
    "zswpwb": "pages written from zswap to swap",
    "thp_fault_alloc": "transparent huge pages made by a page fault",
    "thp_collapse_alloc": "transparent huge pages made by collapsing pages",
    "thp_swpout": "transparent huge pages written to swap in one piece",
    "thp_swpout_fallback": "transparent huge pages split to be written to swap",
    "numa_pages_migrated": "pages moved by NUMA balancing",
    "numa_pte_updates": "page table entries marked by NUMA balancing",
    "numa_hint_faults": "page faults of NUMA balancing",
}
_MEMORY_EVENTS = {
    "low": "times it was reclaimed although below memory.low",
    "high": "times it was throttled for being above memory.high",
    "max": "times it was about to exceed memory.max",
    "oom": "times it was out of memory",
    "oom_kill": "processes killed for want of memory",
    "oom_group_kill": "times all of it was killed for want of memory",
}
_PRESSURE_SHARES = {"avg10": "10 s", "avg60": "60 s", "avg300": "300 s"}
_DEVICE_COUNTERS = {
    "rbytes": "bytes read",
    "wbytes": "bytes written",
    "rios": "reads",
    "wios": "writes",
    "dbytes": "bytes discarded",
    "dios": "discards",
}


def _number(name: str, description: str) -> pa.Field:
    return optional(name, _COUNT, description)


def _pressure(resource: str, name: str, who: str) -> list[pa.Field]:
    file = f"{resource}.pressure {name}"
    column = f"{resource}_pressure_{name}"
    return [
        *(
            optional(f"{column}_{key}", pa.float32(), f"{file} {key}: share of the last {span} in which {who}, %")
            for key, span in _PRESSURE_SHARES.items()
        ),
        _number(f"{column}_total_usec", f"{file} total: time in which {who}, us"),
    ]


_WAITED = {"cpu": "for a CPU", "memory": "for memory", "io": "for I/O"}

RESOURCES: Final = Table(
    "resources",
    pa.schema(
        [
            *IDENTITY,
            measured("time", TIME, "when its files were read, UTC"),
            _number("memory_current_bytes", "memory.current: memory in use, with all below it, bytes"),
            _number(
                "memory_working_set_bytes",
                "memory.current less inactive_file of memory.stat: what cannot be reclaimed at once, bytes",
            ),
            _number("memory_peak_bytes", "memory.peak: the most that memory.current has been, bytes"),
            _number("memory_min_bytes", "memory.min: memory that is never reclaimed, bytes"),
            _number("memory_low_bytes", "memory.low: memory that is reclaimed last, bytes"),
            _number("memory_high_bytes", "memory.high, bytes; null if there is no limit"),
            _number("memory_max_bytes", "memory.max, bytes; null if there is no limit"),
            _number("memory_oom_group", "memory.oom.group: 1 if all of it is killed together"),
            _number("memory_swap_current_bytes", "memory.swap.current: swap in use, bytes"),
            _number("memory_swap_peak_bytes", "memory.swap.peak: the most of that, bytes"),
            _number("memory_swap_high_bytes", "memory.swap.high, bytes; null if there is no limit"),
            _number("memory_swap_max_bytes", "memory.swap.max, bytes; null if there is no limit"),
            _number("memory_zswap_current_bytes", "memory.zswap.current: memory that zswap takes, bytes"),
            _number("memory_zswap_max_bytes", "memory.zswap.max, bytes; null if there is no limit"),
            _number("memory_zswap_writeback", "memory.zswap.writeback: 1 if zswap may write to swap"),
            *(
                _number(f"memory_{key}_bytes", f"memory.stat {key}: {meaning}, bytes")
                for key, meaning in _MEMORY_STAT_BYTES.items()
            ),
            *(
                _number(f"memory_{key}", f"memory.stat {key}: {meaning}")
                for key, meaning in _MEMORY_STAT_COUNTS.items()
            ),
            *(
                _number(f"memory_events_{key}", f"memory.events {key}: {meaning}")
                for key, meaning in _MEMORY_EVENTS.items()
            ),
            *(
                _number(f"memory_events_local_{key}", f"memory.events.local {key}: the same, but not of those below it")
                for key in _MEMORY_EVENTS
            ),
            _number("memory_swap_events_high", "memory.swap.events high: times it was above memory.swap.high"),
            _number("memory_swap_events_max", "memory.swap.events max: times it was about to exceed memory.swap.max"),
            _number("memory_swap_events_fail", "memory.swap.events fail: times that no swap was left"),
            _number("cpu_usage_usec", "cpu.stat usage_usec: CPU time, us"),
            _number("cpu_user_usec", "cpu.stat user_usec: CPU time in user mode, us"),
            _number("cpu_system_usec", "cpu.stat system_usec: CPU time in the kernel, us"),
            _number("cpu_nice_usec", "cpu.stat nice_usec: CPU time of processes with a positive nice value, us"),
            _number(
                "cpu_core_sched_force_idle_usec",
                "cpu.stat core_sched.force_idle_usec: time it kept SMT siblings idle for core scheduling, us",
            ),
            _number("cpu_nr_periods", "cpu.stat nr_periods: periods of cpu.max in which it ran"),
            _number("cpu_nr_throttled", "cpu.stat nr_throttled: periods in which it was throttled"),
            _number("cpu_throttled_usec", "cpu.stat throttled_usec: time it was throttled, over all CPUs, us"),
            _number("cpu_nr_bursts", "cpu.stat nr_bursts: periods in which it used cpu.max.burst"),
            _number("cpu_burst_usec", "cpu.stat burst_usec: CPU time above the quota in these, us"),
            _number(
                "cpu_local_throttled_usec",
                "cpu.stat.local throttled_usec: time it was throttled by any limit above it or of its own, us",
            ),
            _number("cpu_quota_usec", "cpu.max: CPU time in each period, us; null if there is no limit"),
            _number("cpu_period_usec", "cpu.max: the period, us"),
            _number("cpu_max_burst_usec", "cpu.max.burst: unused CPU time it may save up, us"),
            _number("cpu_weight", "cpu.weight"),
            _number("cpu_idle", "cpu.idle: 1 if it runs only when nothing else wants to"),
            *(
                field
                for resource, what in _WAITED.items()
                for name, who in (("some", "any task waited"), ("full", "all tasks waited"))
                for field in _pressure(resource, name, f"{who} {what}")
            ),
            *_pressure("irq", "full", "its tasks waited for interrupts to end"),
            *(
                _number(f"io_{key}", f"io.stat {key}: {meaning}, over all devices, what passes several of them once")
                for key, meaning in _DEVICE_COUNTERS.items()
            ),
            _number("pids_current", "pids.current: tasks, which are threads"),
            _number("pids_peak", "pids.peak: the most of them"),
            _number("pids_max", "pids.max; null if there is no limit"),
            _number("pids_events_max", "pids.events max: times it could not fork for pids.max"),
            _number("cgroup_nr_descendants", "cgroup.stat nr_descendants: cgroups below it"),
            _number("cgroup_nr_dying_descendants", "cgroup.stat nr_dying_descendants: removed ones still held"),
            _number("cgroup_nr_subsys_memory", "cgroup.stat nr_subsys_memory: memory cgroups in it"),
            _number("cgroup_nr_dying_subsys_memory", "cgroup.stat nr_dying_subsys_memory: removed ones still held"),
            _number("cgroup_frozen_usec", "cgroup.stat.local frozen_usec: time it was frozen, us"),
            _number("cgroup_freeze", "cgroup.freeze: 1 if it is to be frozen"),
            optional(
                "processes",
                _COUNT,
                "processes in it and below it, without kernel threads; in the first row after they were read only",
            ),
            optional(
                "pss_bytes",
                _COUNT,
                "proportional set size of those of them that were read, bytes; in that row only",
            ),
            optional(
                "pss_coverage",
                pa.float32(),
                "share of them whose memory was read, 0 to 1; in that row only; null if there are none",
            ),
            optional(
                "extra",
                pa.map_(pa.string(), _COUNT),
                "keys of these files that have no column, as `<file>.<key>`: those of a newer kernel; null if none",
            ),
        ]
    ),
    time_column="time",
    sort_columns=("time", "cgroup_id"),
)

IO: Final = Table(
    "io",
    pa.schema(
        [
            *IDENTITY,
            measured("time", TIME, "when it was read, UTC"),
            measured(
                "device", STRING, "the block device, as major:minor; (unknown) for one that is gone or that is hidden"
            ),
            measured(
                "is_summed",
                pa.int32(),
                "1 if it is in the sums of `resources`, 0 if the same bytes are in another device's row, which is",
            ),
            *(_number(f"io_{key}", f"io.stat {key}: {meaning}") for key, meaning in _DEVICE_COUNTERS.items()),
            _number("io_max_rbps", "io.max rbps: bytes read a second; null if there is no limit"),
            _number("io_max_wbps", "io.max wbps: bytes written a second; null if there is no limit"),
            _number("io_max_riops", "io.max riops: reads a second; null if there is no limit"),
            _number("io_max_wiops", "io.max wiops: writes a second; null if there is no limit"),
        ]
    ),
    time_column="time",
    sort_columns=("time", "cgroup_id"),
)

_MEMORY_OF_PROCESS = {
    "pss_bytes": "Pss: resident memory, shared pages divided by those who share them",
    "pss_dirty_bytes": "Pss_Dirty: the dirty part of it",
    "pss_anon_bytes": "Pss_Anon: the anonymous part of it",
    "pss_file_bytes": "Pss_File: the part of it from files",
    "pss_shmem_bytes": "Pss_Shmem: the part of it from tmpfs and shared memory",
    "uss_bytes": "Private_Clean, Private_Dirty and Private_Hugetlb: memory that nobody shares",
    "shared_clean_bytes": "Shared_Clean: shared memory that is clean",
    "shared_dirty_bytes": "Shared_Dirty: shared memory that is dirty",
    "private_clean_bytes": "Private_Clean: private memory that is clean",
    "private_dirty_bytes": "Private_Dirty: private memory that is dirty",
    "referenced_bytes": "Referenced: memory marked as accessed",
    "anonymous_bytes": "Anonymous: memory that belongs to no file",
    "ksm_bytes": "KSM: memory merged with equal pages",
    "lazy_free_bytes": "LazyFree: memory that may be freed lazily",
    "anon_huge_pages_bytes": "AnonHugePages: anonymous transparent huge pages",
    "shmem_pmd_mapped_bytes": "ShmemPmdMapped: shared memory mapped as huge pages",
    "file_pmd_mapped_bytes": "FilePmdMapped: page cache mapped as huge pages",
    "shared_hugetlb_bytes": "Shared_Hugetlb: shared hugetlb pages, not in rss",
    "private_hugetlb_bytes": "Private_Hugetlb: private hugetlb pages, not in rss",
    "swap_bytes": "Swap: memory in swap",
    "swap_pss_bytes": "SwapPss: memory in swap, shared pages divided by those who share them",
    "locked_bytes": "Locked: memory locked, shared pages divided",
}

PROCESSES: Final = Table(
    "processes",
    pa.schema(
        [
            *IDENTITY,
            measured("time", TIME, "when it was read, UTC"),
            measured("pid", pa.int32(), "process id, in the tracer's PID namespace"),
            measured("comm", STRING, "its name (comm)"),
            measured("start_time", TIME, "when it started, to 10 ms, UTC"),
            measured("threads", _COUNT, "threads"),
            measured("cpu_user_ns", _COUNT, "CPU time in user mode since its start, to 10 ms, ns"),
            measured("cpu_system_ns", _COUNT, "CPU time in the kernel since its start, to 10 ms, ns"),
            measured("rss_bytes", _COUNT, "resident memory, bytes: Rss of smaps_rollup, or else of stat"),
            *(
                _number(name, f"smaps_rollup {meaning}, bytes; null if not read")
                for name, meaning in _MEMORY_OF_PROCESS.items()
            ),
            optional("read_time_ns", _COUNT, "how long reading smaps_rollup took, ns; null if not read"),
        ]
    ),
    time_column="time",
    sort_columns=("time", "cgroup_id", "pid"),
)

REGIONS: Final = Table(
    "regions",
    pa.schema(
        [
            *IDENTITY,
            measured("time", TIME, "when its process was read, UTC"),
            measured("pid", pa.int32(), "process id, in the tracer's PID namespace"),
            measured(
                "kind",
                STRING,
                "kind of mapping: heap, stack, anonymous, file, shared (memory without a file on a disk: tmpfs, memfd, "
                "System V, huge pages), device (buffers of drivers and of the kernel, too: dma-buf, io_uring, sockets) "
                "or kernel (vdso)",
            ),
            optional("path", STRING, "the file or name; null if it has none, or for those beyond the 256 largest"),
            measured("mappings", _COUNT, "mappings of this kind and path"),
            measured("size_bytes", _COUNT, "smaps Size: address space, bytes"),
            measured("rss_bytes", _COUNT, "smaps Rss: resident memory, bytes"),
            measured("pss_bytes", _COUNT, "smaps Pss: resident memory, shared pages divided by those who share, bytes"),
            measured("uss_bytes", _COUNT, "smaps Private_Clean, Private_Dirty and Private_Hugetlb, bytes"),
            measured("anonymous_bytes", _COUNT, "smaps Anonymous: memory that belongs to no file, bytes"),
            measured("swap_bytes", _COUNT, "smaps Swap: memory in swap, bytes"),
        ]
    ),
    time_column="time",
    sort_columns=("time", "cgroup_id", "pid"),
)

LLC: Final = Table(
    "llc",
    pa.schema(
        [
            *IDENTITY,
            measured("time", TIME, "when it was read, UTC"),
            measured("l3_id", _COUNT, "the kernel's id of the L3 cache"),
            measured(
                "resctrl_group", STRING, "group of resctrl that it was read from, from the root of its file system"
            ),
            optional("llc_occupancy_bytes", _COUNT, "llc_occupancy: cache that the group's lines occupy, bytes"),
            optional(
                "mbm_total_bytes",
                _COUNT,
                "mbm_total_bytes: memory traffic since it was last known, bytes; null where nobody can tell",
            ),
            optional("mbm_total_interval_ns", _COUNT, "time in which mbm_total_bytes were counted, ns"),
            optional(
                "mbm_local_bytes", _COUNT, "mbm_local_bytes: the same to and from the NUMA node's own memory, bytes"
            ),
            optional("mbm_local_interval_ns", _COUNT, "time in which mbm_local_bytes were counted, ns"),
        ]
    ),
    time_column="time",
    sort_columns=("time", "cgroup_id", "l3_id"),
)
