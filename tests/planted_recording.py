# SPDX-License-Identifier: Apache-2.0
"""Recordings of a node in which everything is planned, for the tests of the pictures.

Every container does the same in each window, but for what a test plants.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import polars as pl
import pyarrow as pa

from tracer.store.schemas import TABLES, Table
from tracer.store.writer import Store

TICK_NS = 1_000_000
WINDOW_TICKS = 60
WINDOW_NS = WINDOW_TICKS * TICK_NS
# 2026-11-22T14:00:00Z
START_NS = 1_795_356_000 * 10**9

Columns = Mapping[str, Any]


def container(number: int, name: str = "app", pod: str | None = None, namespace: str | None = "shop") -> dict[str, Any]:
    """Identity columns of a container in a pod of its own."""
    return {
        "cgroup_id": number,
        "cgroup_kind": "container",
        "cgroup_path": f"/kubepods/pod{number}/{number:064x}",
        "runtime": "containerd",
        "container_id": f"{number:064x}",
        "container_name": name,
        "pod_name": f"pod-{number}" if pod is None else pod,
        "pod_uid": f"{number:08}-0000-4000-8000-000000000000",
        "namespace": namespace,
        "qos_class": "burstable",
    }


IDLE: dict[str, Any] = {"cgroup_id": 0, "cgroup_kind": "idle"}


def windows_of(identity: Columns, windows: Sequence[int], *, node: str = "node-1", **columns: Any) -> pl.DataFrame:
    """Rows of the windows with these numbers; `columns` are scalars or an array with a value a window."""
    numbers = np.asarray(windows, np.uint64)
    given: dict[str, Any] = {
        "window_start": START_NS + numbers.astype(np.int64) * WINDOW_NS,
        "window_tick": numbers * WINDOW_TICKS,
        "ticks": WINDOW_TICKS,
        "cpu_time_ns": WINDOW_NS // 10,
        "active_ticks": WINDOW_TICKS,
        "cpus": 1,
        **columns,
    }
    return frame(TABLES["windows"], len(numbers), {"node_name": node, **identity, **given})


def frame(table: Table, rows: int, given: Columns) -> pl.DataFrame:
    """`rows` rows of `table`: what is not `given` is null, or zero where it may not be."""
    columns = {}
    for field in table.schema:
        value = given.get(field.name)
        if value is None and not field.nullable:
            value = "" if pa.types.is_string(field.type) else 0
        kind = pa.int64() if field.name == table.time_column else field.type
        if isinstance(value, np.ndarray | list):
            columns[field.name] = pa.array(value).cast(kind)
        else:
            columns[field.name] = pa.repeat(pa.scalar(value, kind), rows)
    result = pl.from_arrow(pa.table(columns))
    assert isinstance(result, pl.DataFrame)
    return result


def write_recording(output: Path, *, node: str = "node-1", **tables: Sequence[pl.DataFrame]) -> Path:
    """Writes frames of `frame` as a run would; without a manifest."""
    store = Store(
        output,
        identifier=node,
        run_id=uuid4(),
        node_name=node,
        rotate_ns=10**12,
        keep_bytes=None,
        on_full="delete-oldest",
    )
    for name, frames in tables.items():
        table = TABLES[name]
        for rows in frames:
            arrow = rows.to_arrow()
            time = arrow[table.time_column].cast(pa.timestamp("ns", "UTC"))
            store.append(table, arrow.set_column(arrow.column_names.index(table.time_column), table.time_column, time))
    store.close()
    return output
