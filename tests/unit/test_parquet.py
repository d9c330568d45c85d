# SPDX-License-Identifier: Apache-2.0
import json
from collections.abc import Callable

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from store_examples import MIDNIGHT_NS, example_rows

from tracer.store.parquet import combine, conform, encode
from tracer.store.schemas import PROCESSES, RESOURCES, TABLES, WINDOWS, Table

DICTIONARY = pa.dictionary(pa.int32(), pa.string())


def with_column(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, values)


@pytest.mark.parametrize(
    "encode",
    [
        lambda names: pa.array(names, pa.string()),
        lambda names: pa.array(names, pa.large_string()),
        lambda names: pa.array(names, pa.string_view()),
        lambda names: pa.array(names, pa.string()).dictionary_encode(),
        lambda names: pa.array(names, pa.large_string()).dictionary_encode(),
        lambda names: pa.array(names, pa.string()).cast(pa.dictionary(pa.uint32(), pa.large_string())),
    ],
    ids=["string", "large_string", "view", "dictionary", "large_dictionary", "polars_categorical"],
)
def test_text_of_any_kind_becomes_a_dictionary(encode: Callable[[list[str | None]], pa.Array]):
    names = ["web", None, "db", "web"]
    rows = with_column(example_rows(WINDOWS, [MIDNIGHT_NS] * 4), "container_name", encode(names))
    conformed = conform(WINDOWS, rows)
    assert conformed.schema.field("container_name").metadata == WINDOWS.schema.field("container_name").metadata
    assert conformed["container_name"].type == DICTIONARY
    assert conformed["container_name"].to_pylist() == names
    assert conformed.cast(WINDOWS.schema).schema.equals(WINDOWS.schema)


def test_a_column_of_nothing_but_null_may_be_untyped_text():
    rows = with_column(example_rows(WINDOWS, [MIDNIGHT_NS] * 3), "pod_name", pa.nulls(3))
    assert conform(WINDOWS, rows)["pod_name"].to_pylist() == [None] * 3


def test_unsigned_integers_become_signed_ones():
    rows = example_rows(WINDOWS, [MIDNIGHT_NS] * 3)
    for name, values in (
        ("cgroup_id", pa.array([0, 2**63 - 1, 5], pa.uint64())),
        ("cycles", pa.array([2**63 - 1, None, 0], pa.uint64())),
        ("context_switches", pa.array([2**32 - 1, 0, 1], pa.uint32())),
        ("ticks", pa.array([2**16 - 1, 0, 1], pa.uint16())),
    ):
        conformed = conform(WINDOWS, with_column(rows, name, values))[name]
        assert conformed.type == pa.int64()
        assert conformed.to_pylist() == values.to_pylist()


def test_a_cgroups_id_keeps_its_bits_so_that_different_ones_stay_different():
    ids = [2**64 - 1, 2**63, 2**63 - 1, 0]
    rows = with_column(example_rows(WINDOWS, [MIDNIGHT_NS] * 4), "cgroup_id", pa.array(ids, pa.uint64()))
    conformed = conform(WINDOWS, rows)["cgroup_id"].to_pylist()
    assert conformed == [-1, -(2**63), 2**63 - 1, 0]
    assert [number % 2**64 for number in conformed] == ids


@pytest.mark.parametrize("slices", [1, 2])
def test_what_does_not_fit_is_null_or_the_largest_where_it_may_not_be(slices: int):
    values = pa.chunked_array([pa.array([2**63, 7, 2**64 - 1, 2**63 - 1], pa.uint64())] * slices)
    rows = example_rows(WINDOWS, [MIDNIGHT_NS] * 4 * slices)
    largest = 2**63 - 1
    assert conform(WINDOWS, with_column(rows, "cycles", values))["cycles"].to_pylist() == [
        None, 7, None, largest,
    ] * slices  # fmt: skip
    assert conform(WINDOWS, with_column(rows, "cpu_time_ns", values))["cpu_time_ns"].to_pylist() == [
        largest, 7, largest, largest,
    ] * slices  # fmt: skip
    rows = example_rows(PROCESSES, [MIDNIGHT_NS])
    (pid,) = conform(PROCESSES, with_column(rows, "pid", pa.array([2**31], pa.uint32())))["pid"].to_pylist()
    assert pid == 2**31 - 1


PAIRS = pa.struct({"key": pa.large_string(), "value": pa.uint64()})


@pytest.mark.parametrize(
    "type_", [pa.large_list(PAIRS), pa.map_(pa.large_string(), pa.uint64())], ids=["pairs", "polars_map"]
)
def test_a_map_of_any_kind_becomes_the_schemas_and_what_does_not_fit_is_null(type_: pa.DataType):
    values = [[("a", 2**64 - 1), ("b", 1)], None, [], [("c", 2**63 - 1)]]
    is_map = pa.types.is_map(type_)
    given = [value if is_map or value is None else [{"key": k, "value": v} for k, v in value] for value in values]
    column = pa.array(given, type_)
    rows = with_column(
        example_rows(RESOURCES, [MIDNIGHT_NS] * 4), "extra", pa.chunked_array([column.slice(0, 1), column.slice(1)])
    )
    conformed = conform(RESOURCES, rows)["extra"]
    assert conformed.type == RESOURCES.schema.field("extra").type
    assert conformed.to_pylist() == [[("a", None), ("b", 1)], None, [], [("c", 2**63 - 1)]]


def test_times_are_rounded_down_also_before_1970():
    times_ns = [0, 999, 1000, 1001, -1, -1000, -1001, MIDNIGHT_NS + 123_456_789]
    rows = with_column(
        example_rows(WINDOWS, [MIDNIGHT_NS] * len(times_ns)),
        "window_start",
        pa.array(times_ns, pa.timestamp("ns", "UTC")),
    )
    conformed = conform(WINDOWS, rows)["window_start"]
    assert conformed.type == pa.timestamp("us", "UTC")
    assert conformed.cast(pa.int64()).to_pylist() == [time_ns // 1000 for time_ns in times_ns]


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("cpu_time_ns", pa.array([1, 2], pa.int32()), "cpu_time_ns is int32, not int64"),
        ("cpu_time_ns", pa.array([1.0, 2.0]), "cpu_time_ns is double, not int64"),
        ("cpu_time_ns", pa.array([1, None], pa.uint64()), "cpu_time_ns has 1 nulls"),
        ("node_name", pa.array(["n", None]), "node_name has 1 nulls"),
        ("pod_name", pa.array([1, 2]), "pod_name is int64"),
        ("window_start", pa.array([1, 2], pa.timestamp("ns")), "window_start is timestamp"),
        ("window_start", pa.array([1, 2], pa.timestamp("ms", "UTC")), "window_start is timestamp"),
        ("window_start", pa.array([1, 2]), "window_start is int64"),
    ],
)
def test_rows_of_another_schema_are_refused(name: str, values: pa.Array, message: str):
    rows = with_column(example_rows(WINDOWS, [MIDNIGHT_NS] * 2), name, values)
    with pytest.raises(ValueError, match=message):
        conform(WINDOWS, rows)


def test_missing_surplus_and_swapped_columns_are_refused():
    rows = example_rows(WINDOWS, [MIDNIGHT_NS])
    swapped = ["cgroup_id", "node_name", *rows.column_names[2:]]
    for other in (rows.drop_columns(["cpus"]), rows.append_column("more", [[1]]), rows.select(swapped)):
        with pytest.raises(ValueError, match="columns are"):
            conform(WINDOWS, other)


def test_combined_chunks_share_one_dictionary():
    chunks = [conform(WINDOWS, example_rows(WINDOWS, [MIDNIGHT_NS + i for i in range(9)], salt)) for salt in range(5)]
    combined = combine(chunks)
    names = combined["container_name"]
    assert names.type == DICTIONARY
    assert names.num_chunks == 1
    assert len(names.chunk(0).dictionary) == len(set(names.to_pylist()))
    assert combined.to_pylist() == [row for chunk in chunks for row in chunk.to_pylist()]


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_no_type_in_a_file_is_one_that_some_reader_does_not_know(table: Table):
    payload = encode(table, conform(table, example_rows(table, [MIDNIGHT_NS])), {"tracer.table": table.name})
    file = pq.ParquetFile(pa.BufferReader(payload))
    for number in range(len(file.schema)):
        column = file.schema.column(number)
        assert column.physical_type in ("INT32", "INT64", "FLOAT", "DOUBLE", "BYTE_ARRAY"), column
        logical = json.loads(column.logical_type.to_json())
        assert logical["Type"] in ("None", "String", "Timestamp"), column
        if logical["Type"] == "Timestamp":
            assert (logical["isAdjustedToUTC"], logical["timeUnit"]) == (True, "microseconds")
    # A reader that goes by Arrow's own schema finds the same types.
    assert not any(pa.types.is_dictionary(field.type) for field in file.schema_arrow)
    assert pl.read_parquet(payload.to_pybytes()).schema == pl.Schema(table.schema)
