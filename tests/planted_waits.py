# SPDX-License-Identifier: Apache-2.0
"""Windows and waits of a node in which everybody waits for whom a test says."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from planted_recording import TICK_NS, Columns, frame, windows_of

from tracer.store.fields import HOLDER_PREFIX
from tracer.store.schemas import TABLES

MS = TICK_NS
# Holders that are no container, as `Load.behind` names them.
SELF, IDLE_CPU, THROTTLED, REST, UNKNOWN = "self", "idle", "throttled", "rest", "unknown"
_KINDS: Mapping[str, dict[str, Any]] = {
    IDLE_CPU: {"cgroup_id": 0, "cgroup_kind": "idle"},
    THROTTLED: {"cgroup_id": None, "cgroup_kind": "throttled"},
    REST: {"cgroup_id": None, "cgroup_kind": "rest"},
    UNKNOWN: {"cgroup_id": None, "cgroup_kind": "unknown"},
}


class Load(NamedTuple):
    """What a container does in each of some windows, in ns a window; `behind` is by the holder's number or kind.

    `stolen` of `ran` was not its own.
    """

    who: Columns
    windows: Sequence[int]
    ran: int
    behind: Mapping[int | str, int]
    stolen: int | None = 0
    waits: int = 10


def tables_of(
    loads: Sequence[Load], *, node: str = "node-1", tells_throttled: bool = True, **columns: Any
) -> dict[str, list[pl.DataFrame]]:
    """`windows` and `waits`. Further `columns` are of windows. A holder's identity is that of its own loads."""
    identities = {load.who["cgroup_id"]: load.who for load in loads}
    windows, waits = [], []
    for load in loads:
        behind = load.behind
        known = sum(ns for holder, ns in behind.items() if isinstance(holder, int))
        amounts: dict[str, Any] = {
            "cpu_time_ns": load.ran,
            "wait_time_ns": sum(behind.values()),
            "waits": load.waits,
            "wait_behind_others_ns": known + behind.get(REST, 0),
            "wait_behind_self_ns": behind.get(SELF, 0),
            "wait_idle_ns": behind.get(IDLE_CPU, 0),
            # Null where the kernel does not tell it.
            "wait_throttled_ns": behind.get(THROTTLED, 0) if tells_throttled else None,
            "stolen_time_ns": load.stolen,
        }
        windows.append(windows_of(load.who, load.windows, node=node, **{**amounts, **columns}))
        for holder, ns in behind.items():
            own = load.who if holder == SELF else None
            identity = own or (identities[holder] if isinstance(holder, int) else _KINDS[holder])
            given = {f"{HOLDER_PREFIX}{name}": value for name, value in identity.items()}
            starts = windows[-1].select("window_start", "window_tick")
            time = {name: np.asarray(starts[name].cast(pl.Int64)) for name in starts.columns}
            waits.append(
                frame(
                    TABLES["waits"], starts.height, {"node_name": node, **load.who, **given, **time, "wait_time_ns": ns}
                )
            )
    return {"windows": windows, "waits": waits}
