# SPDX-License-Identifier: Apache-2.0
"""Files of one cgroup as Linux 5.10 to 6.18 write them, with all controllers on, and the rows they stand for."""

from pathlib import Path

_STAT_5_10 = """\
anon 1001
file 1002
kernel_stack 1003
percpu 1004
sock 1005
shmem 1006
file_mapped 1007
file_dirty 1008
file_writeback 1009
anon_thp 1010
inactive_anon 1011
active_anon 1012
inactive_file 1013
active_file 1014
unevictable 1015
slab_reclaimable 1016
slab_unreclaimable 1017
slab 1018
workingset_refault_anon 1019
workingset_refault_file 1020
workingset_activate_anon 1021
workingset_activate_file 1022
workingset_restore_anon 1023
workingset_restore_file 1024
workingset_nodereclaim 1025
pgfault 1026
pgmajfault 1027
pgrefill 1028
pgscan 1029
pgsteal 1030
pgactivate 1031
pgdeactivate 1032
pglazyfree 1033
pglazyfreed 1034
thp_fault_alloc 1035
thp_collapse_alloc 1036
"""
_STAT_6_1 = _STAT_5_10 + """\
kernel 1101
pagetables 1102
sec_pagetables 1103
vmalloc 1104
zswap 1105
zswapped 1106
swapcached 1107
file_thp 1108
shmem_thp 1109
pgscan_kswapd 1110
pgscan_direct 1111
pgsteal_kswapd 1112
pgsteal_direct 1113
zswpin 1114
zswpout 1115
"""  # fmt: skip
_STAT_6_12 = _STAT_6_1 + """\
pgscan_khugepaged 1201
pgsteal_khugepaged 1202
zswpwb 1203
thp_swpout 1204
thp_swpout_fallback 1205
pgdemote_kswapd 1206
pgdemote_direct 1207
pgdemote_khugepaged 1208
pgpromote_success 1209
"""  # fmt: skip
_STAT_6_18 = _STAT_6_12 + """\
hugetlb 1301
pgdemote_proactive 1302
pgscan_proactive 1303
pgsteal_proactive 1304
pswpin 1305
pswpout 1306
swpin_zero 1307
swpout_zero 1308
numa_pages_migrated 1309
numa_pte_updates 1310
numa_hint_faults 1311
"""  # fmt: skip
_PRESSURE = """\
some avg10=1.53 avg60=0.87 avg300=100.00 total=70001
full avg10=0.00 avg60=0.05 avg300=12.30 total=70002
"""

_FILES_5_10 = {
    "memory.current": "314572800\n",
    "memory.min": "0\n",
    "memory.low": "1048576\n",
    "memory.high": "max\n",
    "memory.max": "536870912\n",
    "memory.oom.group": "1\n",
    "memory.stat": _STAT_5_10,
    "memory.events": "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\n",
    "memory.events.local": "low 11\nhigh 12\nmax 13\noom 14\noom_kill 15\n",
    "memory.swap.current": "4096\n",
    "memory.swap.high": "max\n",
    "memory.swap.max": "max\n",
    "memory.swap.events": "high 21\nmax 22\nfail 23\n",
    "cpu.stat": (
        "usage_usec 30001\nuser_usec 20001\nsystem_usec 10000\nnr_periods 40\nnr_throttled 7\nthrottled_usec 650000\n"
    ),
    "cpu.max": "50000 100000\n",
    "cpu.weight": "100\n",
    "cpu.pressure": "some avg10=1.53 avg60=0.87 avg300=100.00 total=70001\n",
    "memory.pressure": _PRESSURE,
    "io.pressure": _PRESSURE,
    "io.stat": (
        "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n"
        "8:0 rbytes=90430464 wbytes=299008000 rios=8950 wios=1252 dbytes=50331648 dios=3021\n"
    ),
    "pids.current": "12\n",
    "pids.max": "max\n",
    "pids.events": "max 6\n",
    "cgroup.stat": "nr_descendants 3\nnr_dying_descendants 1\n",
    "cgroup.freeze": "0\n",
}
_FILES_6_1 = _FILES_5_10 | {
    "memory.stat": _STAT_6_1,
    "memory.peak": "400000000\n",
    "memory.zswap.current": "8192\n",
    "memory.zswap.max": "max\n",
    "memory.events": "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\n",
    "cpu.stat": _FILES_5_10["cpu.stat"] + "nr_bursts 2\nburst_usec 900\ncore_sched.force_idle_usec 77\n",
    "cpu.max.burst": "20000\n",
    "cpu.idle": "0\n",
    "cpu.pressure": _PRESSURE,
    "irq.pressure": "full avg10=0.01 avg60=0.02 avg300=0.03 total=70003\n",
}
_FILES_6_12 = _FILES_6_1 | {
    "memory.stat": _STAT_6_12,
    "memory.swap.peak": "12288\n",
    "memory.zswap.writeback": "1\n",
    "pids.peak": "33\n",
    "cpu.stat": "nice_usec 5\n" + _FILES_6_1["cpu.stat"],
    "cpu.stat.local": "throttled_usec 650001\n",
    "cgroup.stat": (
        "nr_descendants 3\nnr_subsys_cpuset 4\nnr_subsys_memory 5\nnr_dying_descendants 1\nnr_dying_subsys_cpuset 0\n"
        "nr_dying_subsys_memory 2\n"
    ),
}
_FILES_6_18 = _FILES_6_12 | {"memory.stat": _STAT_6_18, "cgroup.stat.local": "frozen_usec 91\n"}

FILE_SETS = {"5.10": _FILES_5_10, "6.1": _FILES_6_1, "6.12": _FILES_6_12, "6.18": _FILES_6_18}

_ROW_5_10 = {
    "memory_current_bytes": 314572800,
    "memory_working_set_bytes": 314572800 - 1013,
    "memory_min_bytes": 0,
    "memory_low_bytes": 1048576,
    "memory_max_bytes": 536870912,
    "memory_oom_group": 1,
    "memory_anon_bytes": 1001,
    "memory_file_bytes": 1002,
    "memory_kernel_stack_bytes": 1003,
    "memory_percpu_bytes": 1004,
    "memory_sock_bytes": 1005,
    "memory_shmem_bytes": 1006,
    "memory_file_mapped_bytes": 1007,
    "memory_file_dirty_bytes": 1008,
    "memory_file_writeback_bytes": 1009,
    "memory_anon_thp_bytes": 1010,
    "memory_inactive_anon_bytes": 1011,
    "memory_active_anon_bytes": 1012,
    "memory_inactive_file_bytes": 1013,
    "memory_active_file_bytes": 1014,
    "memory_unevictable_bytes": 1015,
    "memory_slab_reclaimable_bytes": 1016,
    "memory_slab_unreclaimable_bytes": 1017,
    "memory_slab_bytes": 1018,
    "memory_workingset_refault_anon": 1019,
    "memory_workingset_refault_file": 1020,
    "memory_workingset_activate_anon": 1021,
    "memory_workingset_activate_file": 1022,
    "memory_workingset_restore_anon": 1023,
    "memory_workingset_restore_file": 1024,
    "memory_workingset_nodereclaim": 1025,
    "memory_pgfault": 1026,
    "memory_pgmajfault": 1027,
    "memory_pgrefill": 1028,
    "memory_pgscan": 1029,
    "memory_pgsteal": 1030,
    "memory_pgactivate": 1031,
    "memory_pgdeactivate": 1032,
    "memory_pglazyfree": 1033,
    "memory_pglazyfreed": 1034,
    "memory_thp_fault_alloc": 1035,
    "memory_thp_collapse_alloc": 1036,
    "memory_events_low": 1,
    "memory_events_high": 2,
    "memory_events_max": 3,
    "memory_events_oom": 4,
    "memory_events_oom_kill": 5,
    "memory_events_local_low": 11,
    "memory_events_local_high": 12,
    "memory_events_local_max": 13,
    "memory_events_local_oom": 14,
    "memory_events_local_oom_kill": 15,
    "memory_swap_current_bytes": 4096,
    "memory_swap_events_high": 21,
    "memory_swap_events_max": 22,
    "memory_swap_events_fail": 23,
    "cpu_usage_usec": 30001,
    "cpu_user_usec": 20001,
    "cpu_system_usec": 10000,
    "cpu_nr_periods": 40,
    "cpu_nr_throttled": 7,
    "cpu_throttled_usec": 650000,
    "cpu_quota_usec": 50000,
    "cpu_period_usec": 100000,
    "cpu_weight": 100,
    "cpu_pressure_some_avg10": 1.53,
    "cpu_pressure_some_avg60": 0.87,
    "cpu_pressure_some_avg300": 100.0,
    "cpu_pressure_some_total_usec": 70001,
    **{
        f"{resource}_pressure_{name}": value
        for resource in ("memory", "io")
        for name, value in {
            "some_avg10": 1.53, "some_avg60": 0.87, "some_avg300": 100.0, "some_total_usec": 70001,
            "full_avg10": 0.0, "full_avg60": 0.05, "full_avg300": 12.3, "full_total_usec": 70002,
        }.items()
    },
    "io_rbytes": 1459200 + 90430464,
    "io_wbytes": 314773504 + 299008000,
    "io_rios": 192 + 8950,
    "io_wios": 353 + 1252,
    "io_dbytes": 50331648,
    "io_dios": 3021,
    "pids_current": 12,
    "pids_events_max": 6,
    "cgroup_nr_descendants": 3,
    "cgroup_nr_dying_descendants": 1,
    "cgroup_freeze": 0,
}  # fmt: skip
_ROW_6_1 = _ROW_5_10 | {
    "memory_kernel_bytes": 1101,
    "memory_pagetables_bytes": 1102,
    "memory_sec_pagetables_bytes": 1103,
    "memory_vmalloc_bytes": 1104,
    "memory_zswap_bytes": 1105,
    "memory_zswapped_bytes": 1106,
    "memory_swapcached_bytes": 1107,
    "memory_file_thp_bytes": 1108,
    "memory_shmem_thp_bytes": 1109,
    "memory_pgscan_kswapd": 1110,
    "memory_pgscan_direct": 1111,
    "memory_pgsteal_kswapd": 1112,
    "memory_pgsteal_direct": 1113,
    "memory_zswpin": 1114,
    "memory_zswpout": 1115,
    "memory_peak_bytes": 400000000,
    "memory_zswap_current_bytes": 8192,
    "memory_events_oom_group_kill": 6,
    "cpu_nr_bursts": 2,
    "cpu_burst_usec": 900,
    "cpu_core_sched_force_idle_usec": 77,
    "cpu_max_burst_usec": 20000,
    "cpu_idle": 0,
    "cpu_pressure_full_avg10": 0.0,
    "cpu_pressure_full_avg60": 0.05,
    "cpu_pressure_full_avg300": 12.3,
    "cpu_pressure_full_total_usec": 70002,
    "irq_pressure_full_avg10": 0.01,
    "irq_pressure_full_avg60": 0.02,
    "irq_pressure_full_avg300": 0.03,
    "irq_pressure_full_total_usec": 70003,
}
_ROW_6_12 = _ROW_6_1 | {
    "memory_pgscan_khugepaged": 1201,
    "memory_pgsteal_khugepaged": 1202,
    "memory_zswpwb": 1203,
    "memory_thp_swpout": 1204,
    "memory_thp_swpout_fallback": 1205,
    "memory_pgdemote_kswapd": 1206,
    "memory_pgdemote_direct": 1207,
    "memory_pgdemote_khugepaged": 1208,
    "memory_pgpromote_success": 1209,
    "memory_swap_peak_bytes": 12288,
    "memory_zswap_writeback": 1,
    "pids_peak": 33,
    "cpu_nice_usec": 5,
    "cpu_local_throttled_usec": 650001,
    "cgroup_nr_subsys_memory": 5,
    "cgroup_nr_dying_subsys_memory": 2,
}
_ROW_6_18 = _ROW_6_12 | {
    "memory_hugetlb_bytes": 1301,
    "memory_pgdemote_proactive": 1302,
    "memory_pgscan_proactive": 1303,
    "memory_pgsteal_proactive": 1304,
    "memory_pswpin": 1305,
    "memory_pswpout": 1306,
    "memory_swpin_zero": 1307,
    "memory_swpout_zero": 1308,
    "memory_numa_pages_migrated": 1309,
    "memory_numa_pte_updates": 1310,
    "memory_numa_hint_faults": 1311,
    "cgroup_frozen_usec": 91,
}

ROWS = {"5.10": _ROW_5_10, "6.1": _ROW_6_1, "6.12": _ROW_6_12, "6.18": _ROW_6_18}


def write_files(directory: Path, files: dict[str, str]) -> None:
    """Makes the directory of a cgroup with these files."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text)
