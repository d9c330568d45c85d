# SPDX-License-Identifier: Apache-2.0
"""When and where a container waited: in which bursts, and on which CPUs."""

from typing import Final, NamedTuple

import polars as pl

from tracer.analysis.findings import Bursts, CpuWait
from tracer.analysis.interference.episodes import bursts, find_bursts
from tracer.analysis.recording import Recording
from tracer.analysis.timing import timing_of
from tracer.store.schemas import TABLES

_LEAST_SHARE_OF_CPU: Final = 0.02


class Moments(NamedTuple):
    """`bursts` of waiting, None where they are too short for what was recorded; `cpus`, the most first, from ticks."""

    bursts: Bursts | None
    cpus: list[CpuWait]


def moments(recording: Recording, node_name: str, cgroup_ids: list[int]) -> Moments:
    """Of the container with these cgroups; from ticks where they were recorded, else from windows."""
    timing = timing_of(recording, node_name)
    ticks = _waits(recording, "ticks", node_name, cgroup_ids, timing.tick_ns) if recording.has("ticks") else None
    if ticks is not None and not ticks.is_empty():
        by_cpu = ticks.group_by("cpu").agg(pl.sum("wait")).sort("wait", "cpu", descending=[True, False])
        in_all = by_cpu["wait"].sum()
        cpus = [CpuWait(cpu=cpu, share=wait / in_all) for cpu, wait in by_cpu.iter_rows()]
        return Moments(_bursts(ticks, timing.tick_ns), [one for one in cpus if one.share >= _LEAST_SHARE_OF_CPU])
    window_ns = timing.tick_ns * timing.window_ticks
    return Moments(_bursts(_waits(recording, "windows", node_name, cgroup_ids, window_ns), window_ns), [])


def _waits(recording: Recording, table: str, node_name: str, cgroup_ids: list[int], step_ns: int) -> pl.DataFrame:
    """`step`, `wait` and, of ticks, `cpu`: waits for an idle CPU too, as ticks do not tell these apart."""
    rows = recording.scan(table).filter(
        pl.col("node_name") == node_name, pl.col("cgroup_id").is_in(cgroup_ids), pl.col("wait_time_ns") > 0
    )
    start = pl.col(TABLES[table].time_column).dt.epoch("us") * 1000
    cpu = pl.col("cpu") if table == "ticks" else pl.lit(0).alias("cpu")
    return recording.collect(rows.select(step=(start + step_ns // 2) // step_ns, wait="wait_time_ns", cpu=cpu))


def _bursts(rows: pl.DataFrame, step_ns: int) -> Bursts | None:
    by_step = rows.group_by("step").agg(pl.sum("wait")).sort("step")
    return bursts(find_bursts(by_step["wait"].cast(pl.Float64).to_numpy(), by_step["step"].to_numpy()), step_ns)
