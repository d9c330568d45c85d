# SPDX-License-Identifier: Apache-2.0
"""Small recordings, written by the store, for the tests of tracer.analysis."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pyarrow as pa

from tracer.store.schemas import TABLES
from tracer.store.writer import Store

# The UTC time of the first row, if a test does not say otherwise.
START = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)
_DEFAULTS: dict[str, Any] = {"node_name": "node-1", "cgroup_kind": "container", "ticks": 60}


def write_rows(
    output: Path, table: str, rows: Sequence[dict[str, Any]], *, node_name: str = "node-1", run_id: UUID | None = None
) -> None:
    """A file of `table` by way of the store; columns that a row does not name are null, 0 or their usual value."""
    schema = TABLES[table].schema
    columns = []
    for field in schema:
        absent = None if field.nullable else _DEFAULTS.get(field.name, 0)
        if field.name == "node_name":
            absent = node_name
        values = [row.get(field.name, absent) for row in rows]
        columns.append(pa.array(values, field.type))
    store = Store(
        output,
        identifier=node_name,
        run_id=run_id or uuid4(),
        node_name=node_name,
        rotate_ns=10**12,
        keep_bytes=None,
        on_full="stop",
    )
    store.append(TABLES[table], pa.table(columns, names=schema.names))
    store.close()


def windows_rows(count: int, **columns: Any) -> list[dict[str, Any]]:
    """`count` rows of one cgroup, one each 60 ms from START on."""
    return [
        {
            "window_start": START + timedelta(milliseconds=60 * number),
            "window_tick": 60 * number,
            "cgroup_id": 7,
            "cpu_time_ns": 10**7,
            **columns,
        }
        for number in range(count)
    ]
