# SPDX-License-Identifier: Apache-2.0
"""The report on a fleet: who loses how much to whom, who is slower than on other nodes, and where to look first."""

from datetime import UTC, datetime
from typing import Final

import polars as pl

from tracer.analysis.engines import Engine
from tracer.analysis.fleet.cgroups import cgroups_of
from tracer.analysis.fleet.losses import losses_of, ranked_losses
from tracer.analysis.fleet.nodes import node_times, ranked_nodes
from tracer.analysis.fleet.outliers import LEAST_NODES, cpi_by_node, cpi_of_workloads, ranked_outliers
from tracer.analysis.fleet.results import FleetReport
from tracer.analysis.fleet.sources import Source
from tracer.analysis.fleet.sums import PAIR, WAIT_COLUMNS, WINDOW_COLUMNS, by_cgroup, by_pair
from tracer.analysis.labels import is_taken, who_is
from tracer.analysis.recording import require_wanted
from tracer.errors import UsageError
from tracer.naming import Selector

_UNKNOWN: Final = "unknown"
_ID: Final = {name: pl.Int64 if name.endswith("cgroup_id") else pl.String for name in PAIR}


def fleet_report(
    source: Source, engine: Engine, *, top: int, containers: Selector, namespace: str | None = None
) -> FleetReport:
    """The report. `containers` and `namespace` say whom it is about: victims and slow ones, not who harms them.

    Raises UsageError for files that cannot be read, and where nobody is called so.
    """
    windows = source.of("windows", WINDOW_COLUMNS)
    if windows is None:
        raise UsageError("there are no windows to make a report of")
    sums = by_cgroup(engine, windows, source.nodes)
    if sums.is_empty():
        raise UsageError("nothing was recorded then")
    cgroups = cgroups_of(sums)
    waits = source.of("waits", WAIT_COLUMNS)
    pairs = (
        pl.DataFrame(schema=_ID | {"wait_time_ns": pl.Int64}) if waits is None else by_pair(engine, waits, source.nodes)
    )
    of_tasks = cgroups.filter(pl.col("cgroup_kind").ne_missing("idle") & (pl.col("cgroup_id") != 0))
    wanted = of_tasks.filter(_is_wanted(of_tasks, containers, namespace))
    losses = losses_of(of_tasks, sums, pairs).join(
        wanted.select("node_name", victim="workload").unique(), on=["node_name", "victim"], how="semi"
    )
    models = source.model_table
    by_node = cpi_by_node(wanted, models)
    times = node_times(cgroups)
    has_waits = bool(times["has_waits"].any())
    known = times.join(models, on="node_name", how="left")["cpu_model"].fill_null(_UNKNOWN).value_counts(sort=True)
    zone = source.zone
    return FleetReport(
        engine=engine.name,
        start=_moment(sums["first_us"].min()).astimezone(zone),
        end=min(_moment(sums["last_us"].max(), 1), source.end).astimezone(zone),
        nodes=times.height,
        nodes_by_model=dict(known.iter_rows()),
        workloads=of_tasks["workload"].n_unique(),
        recorded_cpu_ns=float(times["recorded_cpu_ns"].sum()),
        lost_waiting_ns=float(losses["lost_ns"].sum()) if has_waits else None,
        held_back_ns=float(losses["held_back_ns"].sum()) if has_waits else None,
        pairs=losses.select("victim", "aggressor").n_unique(),
        lost_to=ranked_losses(of_tasks, losses, top),
        cpi=cpi_of_workloads(by_node, top),
        outliers_found=int(by_node["is_outlier"].sum()),
        outliers=ranked_outliers(by_node, top),
        look_at_first=ranked_nodes(cgroups, models, losses, by_node, top),
        top=top,
        notes=[*source.notes, *_notes(times, models, by_node, has_counters=(sums["instructions_counted"] > 0).any())],
    )


def _is_wanted(cgroups: pl.DataFrame, containers: Selector, namespace: str | None) -> pl.Expr:
    if not containers.patterns and namespace is None:
        return pl.lit(True)
    there = who_is(cgroups)
    require_wanted(there, containers, namespace)
    taken = is_taken(containers.among(there))
    return taken if namespace is None else taken & pl.col("namespace").eq_missing(pl.lit(namespace))


def _notes(times: pl.DataFrame, models: pl.DataFrame, by_node: pl.DataFrame, *, has_counters: bool) -> list[str]:
    notes = []
    without_waits = int((~times["has_waits"]).sum())
    if without_waits:
        notes.append(
            f"no waits were recorded on {without_waits} of {times.height} nodes: nothing is said of losses there"
        )
    if not has_counters:
        notes.append("no node counted cycles and instructions: nothing is said of CPI")
    elif unknown := times.join(models, on="node_name", how="anti").height:
        notes.append(f"of {unknown} nodes the processor is not known: their CPI is not compared")
    if by_node.height and not (by_node["nodes"] >= LEAST_NODES).any():
        notes.append(f"no workload is on {LEAST_NODES} nodes with the same processor: none can be out of line")
    return notes


def _moment(microseconds: object, more: int = 0) -> datetime:
    assert isinstance(microseconds, int)
    return datetime.fromtimestamp((microseconds + more) // 10**6, UTC).replace(
        microsecond=(microseconds + more) % 10**6
    )
