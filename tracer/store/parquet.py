# SPDX-License-Identifier: Apache-2.0
"""Rows of a table as Arrow, checked against its schema, and as the bytes of one Parquet file.

In memory strings are dictionaries, which are smaller and are written as they are; what a file says of itself is the
table's schema, in which they are strings.
"""

import base64
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tracer.store.schemas import Table

_ROW_GROUP_ROWS = 128 * 1024
_STRINGS = pa.dictionary(pa.int32(), pa.string())


def conform(table: Table, rows: pa.Table) -> pa.Table:
    """`rows` with the columns of `table` and its types, but for strings, which are dictionaries.

    Strings of any Arrow kind, unsigned integers, times in nanoseconds, and maps, also as lists of (key, value), become
    what the table has. Times are rounded down. An integer that does not fit is null, or the largest that does
    where the column may not be null; a cgroup's id keeps its 64 bits.

    Raises ValueError, a defect of the caller, where names, order or another type differ or a null may not be.
    """
    if rows.column_names != table.schema.names:
        raise ValueError(f"{table.name}: columns are {rows.column_names}, not {table.schema.names}")
    columns = []
    for field, column in zip(table.schema, rows.columns, strict=True):
        if column.null_count and not field.nullable:
            raise ValueError(f"{table.name}.{field.name} has {column.null_count} nulls and may have none")
        conformed = _conformed(column, field)
        if conformed is None:
            raise ValueError(f"{table.name}.{field.name} is {column.type}, not {field.type}")
        columns.append(conformed)
    return pa.table(columns, schema=_in_memory(table.schema))


def combine(chunks: Sequence[pa.Table]) -> pa.Table:
    """All rows of `chunks` in one piece of memory, with one dictionary a column."""
    return pa.concat_tables(chunks).unify_dictionaries().combine_chunks()


def encode(table: Table, rows: pa.Table, metadata: dict[str, str]) -> pa.Buffer:
    """`rows`, from `conform`, sorted as `table` says, as the bytes of a Parquet file that carries `metadata`.

    Only strings are dictionary-encoded: on numbers, which hardly repeat, a dictionary takes a third more
    bytes and three times the time.
    """
    ordering = [(name, "ascending") for name in table.sort_columns]
    sink = pa.BufferOutputStream()
    with parquet_writer(sink, rows.schema, table.schema, table.sort_columns, metadata) as writer:
        writer.write_table(rows.sort_by(ordering), row_group_size=_ROW_GROUP_ROWS)
    return sink.getvalue()


@contextlib.contextmanager
def parquet_writer(
    sink: Any, in_memory: pa.Schema, schema: pa.Schema, sort_columns: Sequence[str], metadata: dict[str, str]
) -> Iterator[pq.ParquetWriter]:
    """Of one file that says `metadata` of itself and has `schema`, for sorted rows as they are `in_memory`.

    `sink` is what Arrow writes to; it is left open.
    """
    writer = pq.ParquetWriter(
        sink,
        in_memory,
        compression="zstd",
        use_dictionary=[field.name for field in schema if pa.types.is_string(field.type)],
        write_statistics=True,
        sorting_columns=pq.SortingColumn.from_ordering(schema, [(name, "ascending") for name in sort_columns]),
        # It would say that strings are dictionaries, which Polars takes for categories: no `str.starts_with` on them.
        store_schema=False,
    )
    with writer:
        yield writer
        described = base64.b64encode(schema.with_metadata(metadata).serialize()).decode()
        writer.add_key_value_metadata({**metadata, "ARROW:schema": described})


def _in_memory(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_type(_STRINGS) if pa.types.is_string(field.type) else field for field in schema])


def _conformed(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray | None:
    """`column` as it is held for `field`; None if its type is another one."""
    if pa.types.is_string(field.type):
        return _dictionary_of_strings(column) if _is_text(column.type) else None
    if column.type == field.type:
        return column
    if pa.types.is_integer(field.type):
        return _signed(column, field)
    if pa.types.is_timestamp(field.type) and column.type == pa.timestamp("ns", field.type.tz):
        return _in_microseconds(column, field.type)
    if pa.types.is_map(field.type) and (pa.types.is_large_list(column.type) or pa.types.is_map(column.type)):
        return _map_of_pairs(column, field.type)
    return None


def _is_text(type_: pa.DataType) -> bool:
    if pa.types.is_dictionary(type_):
        return _is_text(type_.value_type)
    return type_ in (pa.string(), pa.large_string(), pa.string_view(), pa.null())


def _dictionary_of_strings(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_string_view(column.type):
        # Arrow has no cast from a view to a dictionary.
        column = column.cast(pa.string())
    return column.cast(_STRINGS)


def _signed(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray | None:
    """Unsigned integers as signed ones that are as wide or wider; None for any others."""
    if not pa.types.is_unsigned_integer(column.type) or column.type.bit_width > field.type.bit_width:
        return None
    if field.name == "cgroup_id":
        return pa.chunked_array([chunk.view(field.type) for chunk in column.chunks], field.type)
    try:
        return column.cast(field.type)
    except pa.ArrowInvalid:
        largest = 2 ** (field.type.bit_width - 1) - 1
        fits = pc.less_equal(column, pa.scalar(largest, column.type))
        instead = pa.scalar(None if field.nullable else largest, column.type)
        return pc.if_else(fits, column, instead).cast(field.type)


def _in_microseconds(column: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray:
    # A cast would round towards zero, which is up before 1970; without a time zone no file of them is looked for.
    return pc.floor_temporal(column.cast(pa.timestamp("ns")), unit="microsecond").cast(type_)


def _map_of_pairs(column: pa.ChunkedArray, type_: pa.MapType) -> pa.ChunkedArray | None:
    # Arrow has no cast from a list of pairs to a map.
    chunks = []
    for chunk in column.chunks:
        pairs = chunk.values
        values = _conformed(pa.chunked_array([pairs.field(1)]), type_.item_field)
        if values is None:
            return None
        chunks.append(
            pa.MapArray.from_arrays(
                # Of a slice they must be copied, which this does.
                chunk.offsets.cast(pa.int64()).cast(pa.int32()),
                pairs.field(0).cast(type_.key_type),
                values.combine_chunks(),
                mask=chunk.is_null() if chunk.null_count else None,
            )
        )
    return pa.chunked_array(chunks, type_)
