# SPDX-License-Identifier: Apache-2.0
import pyarrow as pa
import pytest

from tracer.store.schemas import DESCRIPTION, HEALTH, IDENTITY, LIFECYCLE, TABLES, TICKS, WINDOWS, Table

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
    "own_cpu_time_ns": "uint64",
    "own_rss_bytes": "uint64",
    "files_closed": "uint32",
    "bytes_written": "uint64",
    "steal_time_ns": "uint64",
    "online_cpus": "uint16",
}


def described(schema: pa.Schema) -> dict[str, str]:
    return {field.name: str(field.type) + ("?" if field.nullable else "") for field in schema}


def test_columns_of_every_table_are_as_published():
    assert described(WINDOWS.schema) == IDENTITY_COLUMNS | WINDOWS_COLUMNS
    assert described(TICKS.schema) == IDENTITY_COLUMNS | TICKS_COLUMNS
    assert described(LIFECYCLE.schema) == IDENTITY_COLUMNS | LIFECYCLE_COLUMNS
    assert described(HEALTH.schema) == HEALTH_COLUMNS


def test_identity_comes_first_where_a_table_speaks_of_a_cgroup():
    for table in (WINDOWS, TICKS):
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
