# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable

import pyarrow as pa
import pytest
from store_examples import MIDNIGHT_NS, example_rows

from tracer.store.parquet import combine, conform
from tracer.store.schemas import STRING, WINDOWS


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
def test_text_of_any_kind_becomes_the_schemas_dictionary(encode: Callable[[list[str | None]], pa.Array]):
    names = ["web", None, "db", "web"]
    rows = with_column(example_rows(WINDOWS, [MIDNIGHT_NS] * 4), "container_name", encode(names))
    conformed = conform(WINDOWS, rows)
    assert conformed.schema.equals(WINDOWS.schema, check_metadata=True)
    assert conformed["container_name"].to_pylist() == names


def test_a_column_of_nothing_but_null_may_be_untyped_text():
    rows = with_column(example_rows(WINDOWS, [MIDNIGHT_NS] * 3), "pod_name", pa.nulls(3))
    assert conform(WINDOWS, rows)["pod_name"].to_pylist() == [None] * 3


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("cpu_time_ns", pa.array([1, 2], pa.int64()), "cpu_time_ns is int64, not uint64"),
        ("cpu_time_ns", pa.array([1, None], pa.uint64()), "cpu_time_ns has 1 nulls"),
        ("node_name", pa.array(["n", None]), "node_name has 1 nulls"),
        ("pod_name", pa.array([1, 2]), "pod_name is int64"),
        ("window_start", pa.array([1, 2], pa.timestamp("ns")), "window_start is timestamp"),
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
    assert names.type == STRING
    assert names.num_chunks == 1
    assert len(names.chunk(0).dictionary) == len(set(names.to_pylist()))
    assert combined.to_pylist() == [row for chunk in chunks for row in chunk.to_pylist()]
