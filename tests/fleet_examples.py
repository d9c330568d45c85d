# SPDX-License-Identifier: Apache-2.0
"""Output directories of several nodes, on which it is known who waits behind whom and who is slow."""

from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import msgspec
import pyarrow as pa
from manifest_examples import example_manifest
from planted_recording import IDLE, WINDOW_NS, container
from planted_waits import MS, Load, tables_of

from tracer.store.layout import manifest_path
from tracer.store.manifest import encode_manifest
from tracer.store.schemas import TABLES
from tracer.store.writer import Store

WINDOWS = 40
SECOND_NS = 10**9
OLD, NEW = "old CPU", "new CPU"
_NAMES = UUID("0123abcd-4567-489a-8bcd-ef0123456789")


def write_node(
    output: Path,
    number: int,
    *,
    model: str | None = OLD,
    waits_ms: int = 6,
    cpi: float = 1.0,
    counters: bool = True,
    first_window: int = 0,
    identifier: str | None = None,
) -> UUID:
    """A node `node-<number>` with a web and an etl container, and the other replica of web's: web waits behind etl.

    `waits_ms` in each of `WINDOWS` windows; its cycles per instruction are `cpi`, those of etl always 2. Its run's id
    is given back. Without a `model` there is no manifest.
    """
    name = f"node-{number}"
    windows = range(first_window, first_window + WINDOWS)
    web = container(10, "app", f"web-7d9f8c6b5d-x2x{'bcdfghjklm'[number % 10]}q")
    twin = container(11, "app", "web-7d9f8c6b5d-zzzzz")
    etl = container(12, "etl", f"batch-{number}", "jobs")
    loads = [
        (Load(web, windows, 20 * MS, {12: waits_ms * MS, "self": MS}), cpi),
        (Load(twin, windows, 20 * MS, {10: MS}), cpi),
        (Load(etl, windows, 50 * MS, {10: 2 * MS}), 2.0),
        (Load(IDLE, windows, 2 * WINDOW_NS - 90 * MS, {}), None),
    ]
    tables = tables_of([load for load, _cpi in loads], node=name)
    run_id = uuid5(_NAMES, f"{name} {first_window}")
    store = Store(
        output, identifier=identifier or name, run_id=run_id, node_name=name, rotate_ns=10**12, keep_bytes=None,
        on_full="delete-oldest",
    )  # fmt: skip
    for table, frames in tables.items():
        of_cpi = [cpi for _load, cpi in loads] if table == "windows" else [None] * len(frames)
        for rows, one in zip(frames, of_cpi, strict=True):
            arrow = rows.to_arrow()
            if one is not None and counters:
                for column, value in (("instructions", 10**7), ("cycles", int(one * 10**7))):
                    position = arrow.column_names.index(column)
                    arrow = arrow.set_column(position, column, pa.repeat(pa.scalar(value, pa.int64()), len(arrow)))
            time = TABLES[table].time_column
            in_ns = arrow[time].cast(pa.timestamp("ns", "UTC"))
            store.append(TABLES[table], arrow.set_column(arrow.column_names.index(time), time, in_ns))
    store.close()
    store.release()
    if model is not None:
        manifest = example_manifest(run_id=run_id, status="finished")
        host = msgspec.structs.replace(manifest.host, node_name=name, identifier=identifier or name, cpu_model=model)
        path = manifest_path(output, run_id)
        path.parent.mkdir(parents=True)
        path.write_bytes(encode_manifest(msgspec.structs.replace(manifest, host=host)))
    return run_id


def write_fleet(output: Path, **of_node: dict[str, Any]) -> Path:
    """Six nodes of the older kind and two of the newer; `of_node` changes some: `node_3={"cpi": 2.0}`."""
    for number in range(8):
        model = OLD if number < 6 else NEW
        write_node(output, number, **{"model": model, **of_node.get(f"node_{number}", {})})
    return output
