# SPDX-License-Identifier: Apache-2.0
"""A recording with rows of every table that has what is hard to read: two nodes whose names look like one number, files
of two days with dictionaries of their own, nulls, columns of nothing but nulls, the least and the largest numbers, and
names of all alphabets.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pyarrow as pa

from tracer.store.schemas import TABLES, Table
from tracer.store.writer import Store

IDENTIFIERS: Final = ("0042", "42")
DAYS: Final = ("2026-11-22", "2026-11-23")
ALWAYS_NULL: Final = {"qos_class", "cycles", "memory_peak_bytes", "rdt_class", "path"}
"""Columns without a single value."""

_MIDNIGHT_US = 1_795_305_600 * 10**6
_DAY_US = 86_400 * 10**6
_ROWS = 3

Row = Mapping[str, Any]


def kind(field: pa.Field) -> str:
    """What a column is, in words that fit every engine."""
    kinds = {
        pa.string(): "text",
        pa.int32(): "int32",
        pa.int64(): "int64",
        pa.float32(): "float32",
        pa.float64(): "float64",
    }
    return kinds.get(field.type) or ("map" if pa.types.is_map(field.type) else "time")


def expected_rows(table: Table) -> list[Row]:
    """All rows by time, with times as microseconds since the epoch, maps as dicts, and the columns of the path."""
    rows = []
    for day in range(len(DAYS)):
        for identifier in IDENTIFIERS:
            rows += [
                {**row, "dt": DAYS[day], "identifier": identifier} for row in _rows_of_file(table, day, identifier)
            ]
    return sorted(rows, key=lambda row: int(row[table.time_column]))


def write_every_table(output: Path) -> None:
    """A file for each table, node and day."""
    for identifier in IDENTIFIERS:
        store = Store(
            output,
            identifier=identifier,
            run_id=uuid4(),
            node_name=f"node-{identifier}",
            rotate_ns=10**18,
            keep_bytes=None,
            on_full="stop",
        )
        for table in TABLES.values():
            for day in range(len(DAYS)):
                rows = _rows_of_file(table, day, identifier)
                columns = [pa.array([_arrow(row[field.name]) for row in rows], field.type) for field in table.schema]
                store.append(table, pa.table(columns, names=table.schema.names))
                store.close()


def _rows_of_file(table: Table, day: int, identifier: str) -> list[Row]:
    rows = []
    for number in range(_ROWS):
        time_us = _MIDNIGHT_US + day * _DAY_US + number * 60_000_001 + IDENTIFIERS.index(identifier) * 500
        row: dict[str, Any] = {}
        for field in table.schema:
            if field.name == table.time_column:
                row[field.name] = time_us
            elif field.name in ALWAYS_NULL or (number == 1 and field.nullable):
                row[field.name] = None
            else:
                row[field.name] = _value(field, number, f"{identifier}-{day}")
        rows.append(row)
    return rows


def _value(field: pa.Field, number: int, file: str) -> Any:
    of_kind = {
        # Of each file some names of its own, and one that is in all.
        "text": (f"x{field.name} {file}", "", "日本-ö'\"\\ %=/"),
        "int32": (0, 7, 2**31 - 1),
        "int64": (0, 7, 2**63 - 1),
        "float32": (0.25, 0.0, 1.5),
        "float64": (0.1, 0.0, -1e300),
        "time": (_MIDNIGHT_US - 1, _MIDNIGHT_US, _MIDNIGHT_US + 999_999),
        "map": ({"memory.stat.ä": 2**63 - 1, file: 0}, {}, {}),
    }
    if field.name == "cgroup_id":
        return (0, 7, -(2**63))[number]
    return of_kind[kind(field)][number]


def _arrow(value: Any) -> Any:
    return list(value.items()) if isinstance(value, dict) else value
