# SPDX-License-Identifier: Apache-2.0
import re

import pyarrow as pa
import pytest

from tracer.store.schemas import (
    DESCRIPTION,
    EXTERNAL,
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
    WAITS,
    WINDOWS,
    Table,
)

STRING = "string"
TIME = "timestamp[us, tz=UTC]"

# `?` marks a column that can be null.
IDENTITY_COLUMNS = {
    "node_name": STRING,
    "cgroup_id": "int64",
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
    "window_tick": "int64",
    "ticks": "int64",
    "cpu_time_ns": "int64",
    "cycles": "int64?",
    "instructions": "int64?",
    "llc_misses": "int64?",
    "context_switches": "int64",
    "active_ticks": "int64",
    "cpus": "int64",
    "cpu_time_peak_ns": "int64",
    "llc_misses_peak": "int64?",
    "cpi_min": "float?",
    "cpi_median": "float?",
    "cpi_max": "float?",
    "neighbour_cpu_time_ns": "int64",
    "neighbour_llc_misses": "int64?",
    "counter_coverage": "float?",
    "wait_time_ns": "int64?",
    "wait_time_peak_ns": "int64?",
    "waits": "int64?",
    "involuntary_switches": "int64?",
    "wait_behind_others_ns": "int64?",
    "wait_behind_self_ns": "int64?",
    "wait_idle_ns": "int64?",
    "wait_throttled_ns": "int64?",
    "stolen_time_ns": "int64?",
}
WAITS_COLUMNS = {
    "window_start": TIME,
    "window_tick": "int64",
    **{
        f"holder_{name}": f"{type_.removesuffix('?')}?"
        for name, type_ in IDENTITY_COLUMNS.items()
        if name != "node_name"
    },
    "wait_time_ns": "int64",
}
TICKS_COLUMNS = {
    "tick_start": TIME,
    "tick": "int64",
    "cpu": "int32",
    "cpu_time_ns": "int64",
    "cycles": "int64?",
    "instructions": "int64?",
    "llc_misses": "int64?",
    "context_switches": "int64",
    "wait_time_ns": "int64?",
}
EXTERNAL_COLUMNS = {
    "cgroup_id": "int64?",
    "time": TIME,
    "window_tick": "int64",
    "name": STRING,
    "kind": STRING,
    "value": "double",
    "count": "double",
    "tags": STRING + "?",
    "sender_by": STRING + "?",
}
LIFECYCLE_COLUMNS = {
    "time": TIME,
    "event": STRING,
    "source": STRING,
    "cpu_quota_usec": "int64?",
    "cpu_period_usec": "int64?",
    "cpu_weight": "int64?",
    "memory_max_bytes": "int64?",
    "cpuset_cpus": STRING + "?",
    "rdt_class": STRING + "?",
    "blockio_class": STRING + "?",
}
HEALTH_COLUMNS = {
    "node_name": STRING,
    "time": TIME,
    "records": "int64",
    "record_bytes": "int64",
    "records_expanded": "int64",
    "records_merged": "int64",
    "records_outside_run": "int64",
    "lost_ring_full": "int64",
    "lost_no_ring": "int64",
    "lost_malformed": "int64",
    "late_rows": "int64",
    "tick_lateness_p50_ns": "int64?",
    "tick_lateness_p99_ns": "int64?",
    "tick_lateness_max_ns": "int64?",
    "reader_lag_max_ns": "int64",
    "ring_fill_peak": "float",
    "queue_depth_peak": "int64",
    "recursion_misses": "int64",
    "context_switches": "int64",
    "uncounted_switches": "int64",
    "unseen_switches": "int64",
    "unseen_time_ns": "int64",
    "waits_unknown": "int64",
    "waits_cut_ns": "int64",
    "throttlings_lost": "int64",
    "unresolved_cgroups": "int64",
    "known_cgroups": "int64",
    "cgroup_events_lost": "int64",
    "nri_events_lost": "int64",
    "unknown_rows": "int64",
    "counter_values_refused": "int64",
    "reader_cpu_time_ns": "int64",
    "reader_pass_max_ns": "int64",
    "reader_passes_left_out": "int64",
    "llc_values_missing": "int64",
    "unread_cgroups": "int64",
    "process_reads": "int64",
    "process_read_time_ns": "int64",
    "process_read_max_ns": "int64",
    "processes_too_large": "int64",
    "processes_put_off": "int64",
    **dict.fromkeys(
        (
            "external_messages",
            "external_messages_ignored",
            "external_messages_malformed",
            "external_messages_late",
            "external_messages_dropped",
            "external_values_dropped",
            "external_senders_unknown",
            "external_claims_refused",
        ),
        "int64?",
    ),
    "own_cpu_time_ns": "int64",
    "kernel_cpu_time_ns": "int64?",
    "drain_interval_ns": "int64",
    "parts_left_out": "int64",
    "own_rss_bytes": "int64",
    "files_closed": "int64",
    "bytes_written": "int64",
    "files_removed": "int64?",
    "records_unassembled": "int64?",
    "rows_received": "int64?",
    "rows_written": "int64?",
    "rows_dropped": "int64?",
    "rows_waiting": "int64?",
    "bytes_waiting": "int64?",
    "write_max_ns": "int64?",
    "steal_time_ns": "int64",
    "suspended_time_ns": "int64",
    "clock_step_ns": "int64",
    "online_cpus": "int64",
}

IO_COLUMNS = {
    "time": TIME,
    "device": STRING,
    "is_summed": "int32",
    "io_rbytes": "int64?",
    "io_wbytes": "int64?",
    "io_rios": "int64?",
    "io_wios": "int64?",
    "io_dbytes": "int64?",
    "io_dios": "int64?",
    "io_max_rbps": "int64?",
    "io_max_wbps": "int64?",
    "io_max_riops": "int64?",
    "io_max_wiops": "int64?",
}
PROCESSES_COLUMNS = {
    "time": TIME,
    "pid": "int32",
    "comm": STRING,
    "start_time": TIME,
    "threads": "int64",
    "cpu_user_ns": "int64",
    "cpu_system_ns": "int64",
    "rss_bytes": "int64",
    "pss_bytes": "int64?",
    "pss_dirty_bytes": "int64?",
    "pss_anon_bytes": "int64?",
    "pss_file_bytes": "int64?",
    "pss_shmem_bytes": "int64?",
    "uss_bytes": "int64?",
    "shared_clean_bytes": "int64?",
    "shared_dirty_bytes": "int64?",
    "private_clean_bytes": "int64?",
    "private_dirty_bytes": "int64?",
    "referenced_bytes": "int64?",
    "anonymous_bytes": "int64?",
    "ksm_bytes": "int64?",
    "lazy_free_bytes": "int64?",
    "anon_huge_pages_bytes": "int64?",
    "shmem_pmd_mapped_bytes": "int64?",
    "file_pmd_mapped_bytes": "int64?",
    "shared_hugetlb_bytes": "int64?",
    "private_hugetlb_bytes": "int64?",
    "swap_bytes": "int64?",
    "swap_pss_bytes": "int64?",
    "locked_bytes": "int64?",
    "read_time_ns": "int64?",
}
REGIONS_COLUMNS = {
    "time": TIME,
    "pid": "int32",
    "kind": STRING,
    "path": STRING + "?",
    "mappings": "int64",
    "size_bytes": "int64",
    "rss_bytes": "int64",
    "pss_bytes": "int64",
    "uss_bytes": "int64",
    "anonymous_bytes": "int64",
    "swap_bytes": "int64",
}
LLC_COLUMNS = {
    "time": TIME,
    "l3_id": "int64",
    "resctrl_group": STRING,
    "llc_occupancy_bytes": "int64?",
    "mbm_total_bytes": "int64?",
    "mbm_total_interval_ns": "int64?",
    "mbm_local_bytes": "int64?",
    "mbm_local_interval_ns": "int64?",
}


def described(schema: pa.Schema) -> dict[str, str]:
    return {field.name: str(field.type) + ("?" if field.nullable else "") for field in schema}


def test_columns_of_every_table_are_as_published():
    assert described(WINDOWS.schema) == IDENTITY_COLUMNS | WINDOWS_COLUMNS
    assert described(TICKS.schema) == IDENTITY_COLUMNS | TICKS_COLUMNS
    assert described(WAITS.schema) == IDENTITY_COLUMNS | WAITS_COLUMNS
    assert described(EXTERNAL.schema) == IDENTITY_COLUMNS | EXTERNAL_COLUMNS
    assert described(LIFECYCLE.schema) == IDENTITY_COLUMNS | LIFECYCLE_COLUMNS
    assert described(IO.schema) == IDENTITY_COLUMNS | IO_COLUMNS
    assert described(PROCESSES.schema) == IDENTITY_COLUMNS | PROCESSES_COLUMNS
    assert described(REGIONS.schema) == IDENTITY_COLUMNS | REGIONS_COLUMNS
    assert described(LLC.schema) == IDENTITY_COLUMNS | LLC_COLUMNS
    assert described(HEALTH.schema) == HEALTH_COLUMNS


def test_columns_of_resources_are_nullable_numbers_but_for_the_map():
    columns = described(RESOURCES.schema)
    assert {name: columns.pop(name) for name in (*IDENTITY_COLUMNS, "time")} == IDENTITY_COLUMNS | {"time": TIME}
    assert columns.pop("extra") == "map<string, int64>?"
    assert columns.pop("processes") == "int64?"
    assert columns.pop("pss_coverage") == "float?"
    for name, type_ in columns.items():
        assert type_ == ("float?" if re.search(r"_avg(10|60|300)$", name) else "int64?"), name
    # Each of memory.current, memory.stat, memory.events, cpu.stat, pressure, io.stat, pids and cgroup.stat.
    assert len(columns) > 150


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_types_are_those_that_every_reader_of_parquet_knows(table: Table):
    """Spark reads no times in nanoseconds; Iceberg and Delta have neither unsigned nor 16-bit integers."""
    known = {"int32", "int64", "float", "double", STRING, TIME, "map<string, int64>"}
    assert {str(field.type) for field in table.schema} <= known


def test_identity_comes_first_where_a_table_speaks_of_a_cgroup():
    for table in (WINDOWS, TICKS, EXTERNAL, RESOURCES, IO, PROCESSES, REGIONS, LIFECYCLE):
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
