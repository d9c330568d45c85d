# SPDX-License-Identifier: Apache-2.0
"""Writes what three threads counted by millisecond as a recording, by the code that a kernel's records go through."""

import os
import platform
import uuid
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from _hardware_plan import Bools
from _hardware_run import Counts

from tracer import __version__
from tracer.kernel.clock import RunClock, clock_source, measure_anchor
from tracer.kernel.cpus import online_cpus
from tracer.kernel.event_specs import parse_events
from tracer.kernel.topology import llc_domain_of_cpu, read_topology
from tracer.pipeline.labelling import Labelling
from tracer.pipeline.tick_tables import TickTables
from tracer.pipeline.windows import RECORDS_SCHEMA
from tracer.simulate.cgroups import SimulatedCgroups
from tracer.simulate.scenario import Container
from tracer.store import manifest as stored
from tracer.store.output import prepare_output
from tracer.store.schemas import Table
from tracer.store.writer import Store

NAMES = ("victim", "aggressor", "decoy")
_TICK_NS = 1_000_000
_WINDOW_TICKS = 60


class _Sink:
    def __init__(self, store: Store) -> None:
        self._store = store

    def put(self, table: Table, rows: pa.Table) -> None:
        if rows.num_rows:
            self._store.append(table, rows)


def records(counts: Counts, is_recorded: Bools, cgroup_ids: list[int], cpus: tuple[int, int]) -> pl.DataFrame:
    """A record for each thread and millisecond in which it ran and that is recorded, by ms: RECORDS_SCHEMA."""
    who, tick = np.nonzero((counts.time_ns > 0) & is_recorded)
    columns = {
        "tick": counts.first_tick + tick,
        "cpu": np.array([cpus[0], cpus[1], cpus[1]])[who],
        "cgroup_id": np.array(cgroup_ids)[who],
        "cpu_time_ns": counts.time_ns[who, tick],
        "cycles": np.rint(counts.cycles[who, tick]),
        "instructions": np.rint(counts.instructions[who, tick]),
        "llc_misses": np.rint(counts.misses[who, tick]),
        "context_switches": np.zeros(len(who)),
        "coverage": np.ones(len(who)),
    }
    missing = [name for name in RECORDS_SCHEMA if name not in columns]
    return (
        pl.DataFrame(columns)
        .with_columns(pl.lit(None).alias(name) for name in missing)
        .select(pl.col(name).cast(dtype) for name, dtype in RECORDS_SCHEMA.items())
    )


def write_recording(
    output: Path, counts: Counts, is_recorded: Bools, cpus: tuple[int, int], *, write_ticks: bool
) -> None:
    """Of the milliseconds that are recorded, [T]. Containers are called NAMES. Raises OutputError."""
    anchor, topology, system = measure_anchor(), read_topology(), os.uname()
    run_id = uuid.uuid4()
    cgroups = SimulatedCgroups([Container(name="load", pod=name) for name in NAMES], seed=0)
    store = Store(
        prepare_output(output).path,
        identifier=system.nodename,
        run_id=run_id,
        node_name=system.nodename,
        rotate_ns=90 * 10**9,
        keep_bytes=None,
        on_full="stop",
    )
    last_tick = counts.first_tick + len(is_recorded) - 1
    manifest = stored.Manifest(
        run_id=run_id,
        status="finished",
        exit_reason="duration is over",
        start=stored.Instant.of(anchor.utc_ns(counts.first_tick * _TICK_NS)),
        end=stored.Instant.of(anchor.utc_ns((last_tick + 1) * _TICK_NS)),
        host=stored.Host(
            node_name=system.nodename,
            identifier=system.nodename,
            kernel_release=system.release,
            kernel_version=system.version,
            machine=system.machine,
            boot_id=None,
            cpu_model=topology.cpu_model.name,
            online_cpus=online_cpus(),
        ),
        topology=topology,
        events=[
            stored.Event(column=spec.column, spec=spec.text, type=spec.type, config=hex(spec.config), counted=True)
            for spec in parse_events([])
        ],
        clock=stored.Clock(
            start=stored.ClockAnchor(
                anchor_realtime_ns=anchor.realtime_ns,
                anchor_monotonic_ns=anchor.monotonic_ns,
                uncertainty_ns=anchor.uncertainty_ns,
                source=clock_source() or "unknown",
            )
        ),
        tick_ns=_TICK_NS,
        window_ticks=_WINDOW_TICKS,
        first_tick=counts.first_tick,
        last_tick=last_tick,
        configuration={"cpus": list(cpus)},
        versions={"tracer": __version__, "python": platform.python_version()},
        notes=["three threads of bench/hardware_load.c, as they counted themselves, under names that are not theirs"],
    )
    store.write_manifest(manifest)
    tables = TickTables(
        Labelling(cgroups, _Sink(store), clock=RunClock(anchor), node_name=system.nodename),
        tick_ns=_TICK_NS,
        window_ticks=_WINDOW_TICKS,
        first_tick=counts.first_tick,
        llc_of_cpu=llc_domain_of_cpu(topology),
        write_ticks=write_ticks,
    )
    tables.add(records(counts, is_recorded, cgroups.ids.tolist(), cpus))
    tables.close_all(last_tick)
    store.close()
