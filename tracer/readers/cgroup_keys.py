# SPDX-License-Identifier: Apache-2.0
"""Which files of a cgroup are read, which of their keys, and the column that each key fills.

Keys of Linux 5.10 to 6.18 (Documentation/admin-guide/cgroup-v2.rst, mm/memcontrol.c). A key of memory.stat has the
suffix `_bytes` where the kernel gives bytes; the others count pages or events.
"""

from typing import Final, Literal, NamedTuple

Format = Literal["words", "flat", "pressure", "devices"]
"""`words`: one line of values, their key is their place. `flat`: a key and its value on each line. `pressure`: lines
of a name and `key=value` pairs, the key is `name.key`. `devices`: the same, summed over block devices."""


class KeyedFile(NamedTuple):
    """A file of each cgroup."""

    name: str
    format: Format
    columns: dict[str, str]
    """Column by key."""
    is_setting: bool = False
    """Whether people set it, so that it changes rarely."""
    ignored_prefixes: tuple[str, ...] = ()
    """Keys that begin so fill no column."""


_MEMORY_BYTES = (
    "anon", "file", "kernel", "kernel_stack", "pagetables", "sec_pagetables", "percpu", "sock", "vmalloc", "shmem",
    "zswap", "zswapped", "file_mapped", "file_dirty", "file_writeback", "swapcached", "anon_thp", "file_thp",
    "shmem_thp", "inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable", "slab_reclaimable",
    "slab_unreclaimable", "slab", "hugetlb",
)  # fmt: skip
_MEMORY_COUNTS = (
    "workingset_refault_anon", "workingset_refault_file", "workingset_activate_anon", "workingset_activate_file",
    "workingset_restore_anon", "workingset_restore_file", "workingset_nodereclaim", "pgdemote_kswapd",
    "pgdemote_direct", "pgdemote_khugepaged", "pgdemote_proactive", "pgpromote_success", "pgscan", "pgsteal",
    "pgscan_kswapd", "pgscan_direct", "pgscan_khugepaged", "pgscan_proactive", "pgsteal_kswapd", "pgsteal_direct",
    "pgsteal_khugepaged", "pgsteal_proactive", "pgfault", "pgmajfault", "pgrefill", "pgactivate", "pgdeactivate",
    "pglazyfree", "pglazyfreed", "pswpin", "pswpout", "swpin_zero", "swpout_zero", "zswpin", "zswpout", "zswpwb",
    "thp_fault_alloc", "thp_collapse_alloc", "thp_swpout", "thp_swpout_fallback", "numa_pages_migrated",
    "numa_pte_updates", "numa_hint_faults",
)  # fmt: skip
_CPU_KEYS = (
    "usage_usec", "user_usec", "system_usec", "nice_usec", "nr_periods", "nr_throttled", "throttled_usec",
    "nr_bursts", "burst_usec",
)  # fmt: skip
_EVENTS = ("low", "high", "max", "oom", "oom_kill", "oom_group_kill")
_AVERAGES = ("avg10", "avg60", "avg300")


def _named(prefix: str, keys: tuple[str, ...], suffix: str = "") -> dict[str, str]:
    return {key: f"{prefix}_{key}{suffix}" for key in keys}


def _value(name: str, column: str, *, is_setting: bool = False) -> KeyedFile:
    return KeyedFile(name, "words", {"0": column}, is_setting)


def _pressure(resource: str, names: tuple[str, ...] = ("some", "full")) -> KeyedFile:
    columns = {}
    for name in names:
        for average in _AVERAGES:
            columns[f"{name}.{average}"] = f"{resource}_pressure_{name}_{average}"
        columns[f"{name}.total"] = f"{resource}_pressure_{name}_total_usec"
    return KeyedFile(f"{resource}.pressure", "pressure", columns)


FILES: Final = (
    _value("memory.current", "memory_current_bytes"),
    _value("memory.peak", "memory_peak_bytes"),
    _value("memory.swap.current", "memory_swap_current_bytes"),
    _value("memory.swap.peak", "memory_swap_peak_bytes"),
    _value("memory.zswap.current", "memory_zswap_current_bytes"),
    KeyedFile("memory.stat", "flat", _named("memory", _MEMORY_BYTES, "_bytes") | _named("memory", _MEMORY_COUNTS)),
    KeyedFile("memory.events", "flat", _named("memory_events", _EVENTS)),
    KeyedFile("memory.events.local", "flat", _named("memory_events_local", _EVENTS)),
    KeyedFile("memory.swap.events", "flat", _named("memory_swap_events", ("high", "max", "fail"))),
    KeyedFile(
        "cpu.stat",
        "flat",
        _named("cpu", _CPU_KEYS) | {"core_sched.force_idle_usec": "cpu_core_sched_force_idle_usec"},
    ),
    KeyedFile("cpu.stat.local", "flat", {"throttled_usec": "cpu_local_throttled_usec"}),
    _pressure("cpu"),
    _pressure("memory"),
    _pressure("io"),
    _pressure("irq", ("full",)),
    KeyedFile("io.stat", "devices", _named("io", ("rbytes", "wbytes", "rios", "wios", "dbytes", "dios"))),
    _value("pids.current", "pids_current"),
    _value("pids.peak", "pids_peak"),
    KeyedFile("pids.events", "flat", {"max": "pids_events_max"}),
    KeyedFile(
        "cgroup.stat",
        "flat",
        {
            "nr_descendants": "cgroup_nr_descendants",
            "nr_dying_descendants": "cgroup_nr_dying_descendants",
            "nr_subsys_memory": "cgroup_nr_subsys_memory",
            "nr_dying_subsys_memory": "cgroup_nr_dying_subsys_memory",
        },
        ignored_prefixes=("nr_subsys_", "nr_dying_subsys_"),
    ),
    KeyedFile("cgroup.stat.local", "flat", {"frozen_usec": "cgroup_frozen_usec"}),
    _value("memory.min", "memory_min_bytes", is_setting=True),
    _value("memory.low", "memory_low_bytes", is_setting=True),
    _value("memory.high", "memory_high_bytes", is_setting=True),
    _value("memory.max", "memory_max_bytes", is_setting=True),
    _value("memory.swap.high", "memory_swap_high_bytes", is_setting=True),
    _value("memory.swap.max", "memory_swap_max_bytes", is_setting=True),
    _value("memory.zswap.max", "memory_zswap_max_bytes", is_setting=True),
    _value("memory.zswap.writeback", "memory_zswap_writeback", is_setting=True),
    _value("memory.oom.group", "memory_oom_group", is_setting=True),
    KeyedFile("cpu.max", "words", {"0": "cpu_quota_usec", "1": "cpu_period_usec"}, is_setting=True),
    _value("cpu.max.burst", "cpu_max_burst_usec", is_setting=True),
    _value("cpu.weight", "cpu_weight", is_setting=True),
    _value("cpu.idle", "cpu_idle", is_setting=True),
    _value("pids.max", "pids_max", is_setting=True),
    _value("cgroup.freeze", "cgroup_freeze", is_setting=True),
)

AVERAGE_COLUMNS: Final = frozenset(
    column for file in FILES for key, column in file.columns.items() if key.endswith(_AVERAGES)
)
"""Columns whose values the kernel gives as percent with two decimals."""

IO_COLUMNS: Final = tuple(column for file in FILES if file.format == "devices" for column in file.columns.values())
"""Sums over block devices."""
