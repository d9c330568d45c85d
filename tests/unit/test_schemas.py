# SPDX-License-Identifier: Apache-2.0
import re

import pyarrow as pa
import pytest

from tracer.store.schemas import (
    DESCRIPTION,
    HEALTH,
    IDENTITY,
    IO,
    LIFECYCLE,
    LLC,
    PROCESSES,
    REGIONS,
    RESOURCES,
    TABLES,
    TICKS,
    WINDOWS,
    Table,
)

STRING = "dictionary<values=string, indices=int32, ordered=0>"
TIME = "timestamp[ns, tz=UTC]"

# `?` marks a column that can be null.
IDENTITY_COLUMNS = {
    "node_name": STRING,
    "cgroup_id": "uint64",
    "cgroup_kind": STRING,
    "cgroup_path": STRING + "?",
    "runtime": STRING + "?",
    "container_id": STRING + "?",
    "container_name": STRING + "?",
    "pod_name": STRING + "?",
    "pod_uid": STRING + "?",
    "namespace": STRING + "?",
    "qos_class": STRING + "?",
}
WINDOWS_COLUMNS = {
    "window_start": TIME,
    "window_tick": "uint64",
    "ticks": "uint16",
    "cpu_time_ns": "uint64",
    "cycles": "uint64?",
    "instructions": "uint64?",
    "llc_misses": "uint64?",
    "context_switches": "uint32",
    "active_ticks": "uint16",
    "cpus": "uint16",
    "cpu_time_peak_ns": "uint64",
    "llc_misses_peak": "uint64?",
    "cpi_min": "float?",
    "cpi_median": "float?",
    "cpi_max": "float?",
    "neighbour_cpu_time_ns": "uint64",
    "neighbour_llc_misses": "uint64?",
    "counter_coverage": "float?",
}
TICKS_COLUMNS = {
    "tick_start": TIME,
    "tick": "uint64",
    "cpu": "uint16",
    "cpu_time_ns": "uint64",
    "cycles": "uint64?",
    "instructions": "uint64?",
    "llc_misses": "uint64?",
    "context_switches": "uint32",
}
LIFECYCLE_COLUMNS = {
    "time": TIME,
    "event": STRING,
    "source": STRING,
    "cpu_quota_usec": "uint64?",
    "cpu_period_usec": "uint64?",
    "cpu_weight": "uint64?",
    "memory_max_bytes": "uint64?",
    "cpuset_cpus": STRING + "?",
    "rdt_class": STRING + "?",
    "blockio_class": STRING + "?",
}
HEALTH_COLUMNS = {
    "node_name": STRING,
    "time": TIME,
    "records": "uint64",
    "record_bytes": "uint64",
    "lost_ring_full": "uint64",
    "lost_no_ring": "uint64",
    "lost_malformed": "uint64",
    "late_rows": "uint64",
    "tick_lateness_p50_ns": "uint64?",
    "tick_lateness_p99_ns": "uint64?",
    "tick_lateness_max_ns": "uint64?",
    "reader_lag_max_ns": "uint64",
    "ring_fill_peak": "float",
    "queue_depth_peak": "uint16",
    "recursion_misses": "uint64",
    "unresolved_cgroups": "uint32",
    "cgroup_events_lost": "uint64",
    "nri_events_lost": "uint64",
    "unknown_rows": "uint64",
    "reader_cpu_time_ns": "uint64",
    "reader_pass_max_ns": "uint64",
    "reader_passes_left_out": "uint32",
    "llc_values_missing": "uint32",
    "unread_cgroups": "uint32",
    "process_reads": "uint32",
    "process_read_time_ns": "uint64",
    "process_read_max_ns": "uint64",
    "processes_too_large": "uint32",
    "processes_put_off": "uint32",
    "own_cpu_time_ns": "uint64",
    "own_rss_bytes": "uint64",
    "files_closed": "uint32",
    "bytes_written": "uint64",
    "steal_time_ns": "uint64",
    "online_cpus": "uint16",
}

IO_COLUMNS = {
    "time": TIME,
    "device": STRING,
    "io_rbytes": "uint64?",
    "io_wbytes": "uint64?",
    "io_rios": "uint64?",
    "io_wios": "uint64?",
    "io_dbytes": "uint64?",
    "io_dios": "uint64?",
    "io_max_rbps": "uint64?",
    "io_max_wbps": "uint64?",
    "io_max_riops": "uint64?",
    "io_max_wiops": "uint64?",
}
PROCESSES_COLUMNS = {
    "time": TIME,
    "pid": "uint32",
    "comm": STRING,
    "start_time": TIME,
    "threads": "uint32",
    "cpu_user_ns": "uint64",
    "cpu_system_ns": "uint64",
    "rss_bytes": "uint64",
    "pss_bytes": "uint64?",
    "pss_dirty_bytes": "uint64?",
    "pss_anon_bytes": "uint64?",
    "pss_file_bytes": "uint64?",
    "pss_shmem_bytes": "uint64?",
    "uss_bytes": "uint64?",
    "shared_clean_bytes": "uint64?",
    "shared_dirty_bytes": "uint64?",
    "private_clean_bytes": "uint64?",
    "private_dirty_bytes": "uint64?",
    "referenced_bytes": "uint64?",
    "anonymous_bytes": "uint64?",
    "ksm_bytes": "uint64?",
    "lazy_free_bytes": "uint64?",
    "anon_huge_pages_bytes": "uint64?",
    "shmem_pmd_mapped_bytes": "uint64?",
    "file_pmd_mapped_bytes": "uint64?",
    "shared_hugetlb_bytes": "uint64?",
    "private_hugetlb_bytes": "uint64?",
    "swap_bytes": "uint64?",
    "swap_pss_bytes": "uint64?",
    "locked_bytes": "uint64?",
    "read_time_ns": "uint64?",
}
REGIONS_COLUMNS = {
    "time": TIME,
    "pid": "uint32",
    "kind": STRING,
    "path": STRING + "?",
    "mappings": "uint32",
    "size_bytes": "uint64",
    "rss_bytes": "uint64",
    "pss_bytes": "uint64",
    "uss_bytes": "uint64",
    "anonymous_bytes": "uint64",
    "swap_bytes": "uint64",
}
LLC_COLUMNS = {
    "time": TIME,
    "l3_id": "uint32",
    "resctrl_group": STRING,
    "llc_occupancy_bytes": "uint64?",
    "mbm_total_bytes": "uint64?",
    "mbm_total_interval_ns": "uint64?",
    "mbm_local_bytes": "uint64?",
    "mbm_local_interval_ns": "uint64?",
}


def described(schema: pa.Schema) -> dict[str, str]:
    return {field.name: str(field.type) + ("?" if field.nullable else "") for field in schema}


def test_columns_of_every_table_are_as_published():
    assert described(WINDOWS.schema) == IDENTITY_COLUMNS | WINDOWS_COLUMNS
    assert described(TICKS.schema) == IDENTITY_COLUMNS | TICKS_COLUMNS
    assert described(LIFECYCLE.schema) == IDENTITY_COLUMNS | LIFECYCLE_COLUMNS
    assert described(IO.schema) == IDENTITY_COLUMNS | IO_COLUMNS
    assert described(PROCESSES.schema) == IDENTITY_COLUMNS | PROCESSES_COLUMNS
    assert described(REGIONS.schema) == IDENTITY_COLUMNS | REGIONS_COLUMNS
    assert described(LLC.schema) == IDENTITY_COLUMNS | LLC_COLUMNS
    assert described(HEALTH.schema) == HEALTH_COLUMNS


def test_columns_of_resources_are_nullable_numbers_but_for_the_map():
    columns = described(RESOURCES.schema)
    assert {name: columns.pop(name) for name in (*IDENTITY_COLUMNS, "time")} == IDENTITY_COLUMNS | {"time": TIME}
    assert columns.pop("extra") == "map<string, uint64>?"
    assert columns.pop("processes") == "uint32?"
    assert columns.pop("pss_coverage") == "float?"
    for name, type_ in columns.items():
        assert type_ == ("float?" if re.search(r"_avg(10|60|300)$", name) else "uint64?"), name
    # Each of memory.current, memory.stat, memory.events, cpu.stat, pressure, io.stat, pids and cgroup.stat.
    assert len(columns) > 150


def test_identity_comes_first_where_a_table_speaks_of_a_cgroup():
    for table in (WINDOWS, TICKS, RESOURCES, IO, PROCESSES, REGIONS, LIFECYCLE):
        assert table.schema.names[: len(IDENTITY)] == [field.name for field in IDENTITY]


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_column_says_what_it_means(table: Table):
    descriptions = {field.name: field.metadata[DESCRIPTION].decode() for field in table.schema}
    assert all(descriptions.values())
    for name, description in descriptions.items():
        for suffix, unit in (("_ns", "ns"), ("_bytes", "bytes")):
            if name.endswith(suffix):
                assert unit in description, name


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_times_and_sort_keys_are_never_null(table: Table):
    assert TABLES[table.name] is table
    assert table.time_column in table.sort_columns
    assert not any(table.schema.field(name).nullable for name in table.sort_columns)
