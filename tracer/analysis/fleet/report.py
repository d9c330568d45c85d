# SPDX-License-Identifier: Apache-2.0
"""The report on a fleet: who loses how much to whom, who is slower than on other nodes, and where to look first."""

from datetime import UTC, datetime
from typing import Final

import polars as pl

from tracer.analysis.engines import Engine
from tracer.analysis.fleet.cgroups import cgroups_of
from tracer.analysis.fleet.hour_sums import CGROUP_SUMS, PAIR_SUMS, cgroups_again, pairs_again
from tracer.analysis.fleet.losses import losses_of, ranked_losses
from tracer.analysis.fleet.nodes import node_times, ranked_nodes
from tracer.analysis.fleet.outliers import LEAST_NODES, cpi_by_node, cpi_of_workloads, ranked_outliers
from tracer.analysis.fleet.results import FleetReport
from tracer.analysis.fleet.sources import Source
from tracer.analysis.fleet.sums import WAIT_COLUMNS, WINDOW_COLUMNS, by_cgroup, by_pair
from tracer.analysis.labels import is_taken, who_is
from tracer.analysis.recording import require_wanted
from tracer.errors import UsageError
from tracer.naming import Selector

_UNKNOWN: Final = "unknown"


def fleet_report(
    source: Source, engine: Engine, *, top: int, containers: Selector, namespace: str | None = None
) -> FleetReport:
    """The report. `containers` and `namespace` say whom it is about: victims and slow ones, not who harms them.

    Raises UsageError for files that cannot be read, and where nobody is called so.
    """
    sums, pairs = _summed(source, engine)
    if sums.is_empty():
        raise UsageError("no windows were recorded then")
    cgroups = cgroups_of(sums)
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


def _summed(source: Source, engine: Engine) -> tuple[pl.DataFrame, pl.DataFrame]:
    """By cgroup and by pair; a name that a cgroup had in several parts of the time has a row of each."""
    cgroups = [pl.DataFrame(schema=pl.Schema(CGROUP_SUMS.schema)).drop("hour")]
    pairs = [pl.DataFrame(schema=pl.Schema(PAIR_SUMS.schema)).drop("hour")]
    nodes = source.nodes
    if (windows := source.of("windows", WINDOW_COLUMNS)) is not None:
        cgroups.append(by_cgroup(engine, windows, nodes))
    if (hours := source.sums_of("cgroup_sums")) is not None:
        cgroups.append(cgroups_again(engine, hours, nodes))
    if (waits := source.of("waits", WAIT_COLUMNS)) is not None:
        pairs.append(by_pair(engine, waits, nodes))
    if (hours := source.sums_of("pair_sums")) is not None:
        pairs.append(pairs_again(engine, hours, nodes))
    return _together(cgroups), _together(pairs)


def _together(parts: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(part.select(parts[0].columns) for part in parts)


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
