# SPDX-License-Identifier: Apache-2.0
"""A whole simulated run: from its scenario to the files, by the code that a real run's records go through."""

import platform
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from tracer import __version__
from tracer.errors import OutputError, UsageError
from tracer.kernel.clock import ClockAnchor, RunClock
from tracer.kernel.cpus import parse_cpu_list
from tracer.kernel.event_specs import parse_events
from tracer.kernel.topology import Topology, llc_domain_of_cpu
from tracer.pipeline.frames import records_frame
from tracer.pipeline.housekeeping.health import Counts, HealthMeter, ReaderHealth, health_rows
from tracer.pipeline.labelling import Labelling
from tracer.pipeline.tick_tables import TickTables
from tracer.simulate.cgroups import SimulatedCgroups
from tracer.simulate.counters import Counters
from tracer.simulate.node import SimulatedNode
from tracer.simulate.nodes import Node
from tracer.simulate.physical.node import PhysicalNode
from tracer.simulate.physical.scenarios import PHYSICAL_SCENARIOS, build_physical
from tracer.simulate.physical.scenarios import NamedScenario as PhysicalNamedScenario
from tracer.simulate.physical.truth import PhysicalTruth, PhysicalTruthTeller
from tracer.simulate.physical.workload import PhysicalScenario
from tracer.simulate.scenario import Scenario
from tracer.simulate.scenarios import FEWEST_CONTAINERS, MOST_CONTAINERS, SCENARIOS, NamedScenario, build_scenario
from tracer.simulate.scheduler import TICK_NS
from tracer.simulate.shape import NodeShape
from tracer.simulate.truth import Truth, TruthTeller, truth_path
from tracer.simulate.vital_signs import VitalSigns
from tracer.store import manifest as stored
from tracer.store.files import write_atomically
from tracer.store.layout import partition_value
from tracer.store.output import prepare_output
from tracer.store.schemas import HEALTH, LIFECYCLE, RESOURCES, Table
from tracer.store.writer import Store
from tracer.suggestions import not_among

# The simulated node has been up for a day.
_FIRST_TICK = 86_400_000
_WINDOW_TICKS = 60
_ROTATE_NS = 90 * 10**9
# Waits that end so late are still in the windows of their beginning.
_GRACE_TICKS = 200
_COUNTED = (True, True, True)
_SHORTEST_NS = 10**9
_LONGEST_NS = 24 * 3600 * 10**9
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST = datetime(1980, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)
# By machine, the scenarios that have a name.
MACHINES: dict[str, Mapping[str, NamedScenario | PhysicalNamedScenario]] = {
    "formula": SCENARIOS,
    "physical": PHYSICAL_SCENARIOS,
}
DEFAULT_START = datetime(2026, 1, 5, 14, 0, tzinfo=UTC)


class SimulatedRun(NamedTuple):
    """What `simulate` made."""

    manifest: stored.Manifest
    truth: Truth | PhysicalTruth


class _Writing:
    """The tables of one run. Nobody waits for a simulation: rows go into the store at once, in one thread."""

    def __init__(
        self,
        node: SimulatedNode | PhysicalNode,
        store: Store,
        *,
        anchor: ClockAnchor,
        node_name: str,
        seed: int,
        write_ticks: bool,
    ) -> None:
        cgroups = SimulatedCgroups(node.scenario.containers, seed)
        self.records = 0
        self._switches = self._stolen_ns = 0
        self.truth: TruthTeller | PhysicalTruthTeller = (
            PhysicalTruthTeller(node, cgroups, first_tick=_FIRST_TICK)
            if isinstance(node, PhysicalNode)
            else TruthTeller(node, cgroups, first_tick=_FIRST_TICK)
        )
        self._node: Node = node
        self._store = store
        self._anchor = anchor
        self._node_name = node_name
        self._counters = Counters(
            node.scenario, node.shape, cgroups.ids, first_tick=_FIRST_TICK, ticks=node.ticks, seed=seed
        )
        self._vital_signs = VitalSigns(node, cgroups, first_tick=_FIRST_TICK, seed=seed)
        self._cgroups = cgroups
        self._labelling = Labelling(cgroups, self, clock=RunClock(anchor), node_name=node_name)
        self._tables = TickTables(
            self._labelling,
            tick_ns=TICK_NS,
            window_ticks=_WINDOW_TICKS,
            first_tick=_FIRST_TICK,
            llc_of_cpu=llc_domain_of_cpu(node.shape.topology()),
            write_ticks=write_ticks,
            tells_throttled=True,
        )
        self._health = HealthMeter(Counts())

    @property
    def records_merged(self) -> int:
        """Records that were added to a row of `windows` that another had made."""
        return self._tables.windows.merged

    @property
    def late_rows(self) -> int:
        """Rows of `windows` for windows that had rows already."""
        return self._tables.windows.late_rows

    @property
    def sums(self) -> dict[str, int]:
        """Of columns of `windows`."""
        return dict(self._tables.sums)

    def put(self, table: Table, rows: pa.Table) -> None:
        """Takes labelled rows."""
        if rows.num_rows:
            self._store.append(table, rows)

    def write(self, progress: Callable[[float], None]) -> None:
        """From the first block to the last file. Raises OutputError."""
        self._labelling.put(LIFECYCLE, self._vital_signs.lifecycle())
        for block in self._node.blocks():
            self.truth.add(block)
            columns, rows, coverage = self._counters.fill(block)
            self._tables.add(
                records_frame(columns, rows, counted=_COUNTED, coverage=coverage, waits=True, tells_stolen=True)
            )
            self._tables.windows.add_throttled(self._counters.throttled(block))
            end_tick = _FIRST_TICK + block.first_tick + block.ticks
            self._tables.close_before(end_tick - _GRACE_TICKS)
            self._labelling.put(RESOURCES, self._vital_signs.after(block))
            self.records += rows
            self._switches += int(columns.context_switches.sum())
            self._stolen_ns += int(columns.stolen_ns.sum())
            self._put_health(end_tick * TICK_NS)
            self._store.rotate_if_due(end_tick * TICK_NS)
            progress((block.first_tick + block.ticks) / self._node.ticks)
        self._tables.close_all(_FIRST_TICK + self._node.ticks - 1)
        self._store.close()

    def _put_health(self, now_ns: int) -> None:
        counts = Counts(
            records=self.records,
            records_merged=self.records_merged,
            late_rows=self.late_rows,
            context_switches=self._switches,
            steal_time_ns=self._stolen_ns,
        )
        row = self._health.take(counts) | {
            "node_name": self._node_name,
            "time": self._anchor.utc_ns(now_ns),
            "reader_lag_max_ns": 0,
            "ring_fill_peak": 0.0,
            "kernel_cpu_time_ns": None,
            "drain_interval_ns": TICK_NS,
            "parts_left_out": 0,
            "unresolved_cgroups": 0,
            "known_cgroups": len(self._cgroups.ids),
            "own_rss_bytes": 0,
            "online_cpus": self._node.shape.cpus,
            # Of a disk, which is not simulated.
            **dict.fromkeys(
                ("rows_received", "rows_written", "rows_dropped", "rows_waiting", "bytes_waiting", "write_max_ns")
            ),
            **ReaderHealth().take(),
        }
        self.put(HEALTH, health_rows(row))


def simulate(
    scenario: str | Scenario | PhysicalScenario,
    *,
    seed: int,
    duration_ns: int,
    output: Path,
    ticks: bool = False,
    shape: NodeShape | None = None,
    containers: int = 12,
    machine: str = "formula",
    node_name: str = "simulated",
    start: datetime = DEFAULT_START,
    progress: Callable[[float], None] | None = None,
) -> SimulatedRun:
    """Writes a recording of a node that does not exist below `output`, with `truth.json` beside its manifest.

    `scenario` is a name of SCENARIOS, or with the `machine` "physical" of PHYSICAL_SCENARIOS; or one's own, whose
    shape a physical one has itself. The same arguments give the same tables under the same run id. `progress` is told
    the share that is done. Raises UsageError, or OutputError.
    """
    if isinstance(scenario, PhysicalScenario):
        shape, machine = scenario.shape, "physical"
    shape = shape or NodeShape()
    shape.check()
    _check(
        scenario,
        seed=seed,
        duration_ns=duration_ns,
        containers=containers,
        machine=machine,
        node_name=node_name,
        start=start,
    )
    if isinstance(scenario, str):
        build = build_physical if machine == "physical" else build_scenario
        scenario = build(scenario, shape=shape, seed=seed, containers=containers)
    ticks_of_run = duration_ns // TICK_NS
    node: SimulatedNode | PhysicalNode
    if isinstance(scenario, PhysicalScenario):
        node = PhysicalNode(scenario, seed=seed, ticks=ticks_of_run)
    else:
        scenario.check(shape)
        node = SimulatedNode(scenario, shape, seed=seed, ticks=ticks_of_run)
    configuration: dict[str, Any] = {
        "scenario": msgspec.to_builtins(scenario),
        "seed": seed,
        "duration_ns": duration_ns,
        "ticks": ticks,
        "shape": msgspec.to_builtins(shape),
        "node_name": node_name,
        "start": start.isoformat(),
    }
    run_id = uuid.uuid5(uuid.NAMESPACE_OID, msgspec.json.encode(configuration, order="sorted").decode())
    anchor = ClockAnchor(
        realtime_ns=(start - _EPOCH) // timedelta(microseconds=1) * 1_000,
        monotonic_ns=_FIRST_TICK * TICK_NS,
        uncertainty_ns=0,
    )
    topology = node.topology() if isinstance(node, PhysicalNode) else shape.topology()
    manifest = _manifest(run_id, configuration, topology, anchor, node_name)
    store = Store(
        prepare_output(output).path,
        identifier=node_name,
        run_id=run_id,
        node_name=node_name,
        rotate_ns=_ROTATE_NS,
        keep_bytes=None,
        on_full="stop",
    )
    store.write_manifest(manifest)
    writing = _Writing(node, store, anchor=anchor, node_name=node_name, seed=seed, write_ticks=ticks)
    writing.write(progress or (lambda _share: None))
    totals = store.totals
    last_tick = _FIRST_TICK + node.ticks - 1
    final = msgspec.structs.replace(
        manifest,
        status="finished",
        exit_reason="duration is over",
        last_tick=last_tick,
        end=stored.Instant.of(anchor.utc_ns((last_tick + 1) * TICK_NS)),
        totals=stored.Totals(
            rows=totals.rows,
            files=totals.files,
            bytes=totals.bytes,
            records=writing.records,
            records_merged=writing.records_merged,
            late_rows=writing.late_rows,
            sums=writing.sums,
        ),
    )
    told = writing.truth.tell(scenario=scenario.name, seed=seed, tick_ns=TICK_NS)
    # Before the manifest says that the run has finished.
    _write_truth(output, truth_path(output, run_id), told)
    store.write_manifest(final)
    return SimulatedRun(final, told)


def _write_truth(output: Path, path: Path, truth: Truth | PhysicalTruth) -> None:
    try:
        content = msgspec.json.format(msgspec.json.encode(truth), indent=1) + b"\n"
        write_atomically(output, path.relative_to(output), content)
    except OSError as error:
        raise OutputError(f"cannot write {str(path)!r}: {error.strerror}") from error


def _check(
    scenario: str | Scenario | PhysicalScenario,
    *,
    seed: int,
    duration_ns: int,
    containers: int,
    machine: str,
    node_name: str,
    start: datetime,
) -> None:
    if machine not in MACHINES:
        raise UsageError(f"--machine: {not_among('machine', machine, MACHINES)}")
    named = MACHINES[machine]
    if isinstance(scenario, str) and scenario not in named:
        raise UsageError(f"--scenario: {not_among('scenario', scenario, named)}")
    if not 0 <= seed < 2**63:
        raise UsageError("--seed must be a number from 0 to 2^63 - 1")
    if not _SHORTEST_NS <= duration_ns <= _LONGEST_NS:
        raise UsageError("--duration must be between 1s and 24h")
    if not FEWEST_CONTAINERS <= containers <= MOST_CONTAINERS:
        raise UsageError(f"--containers must be between {FEWEST_CONTAINERS} and {MOST_CONTAINERS}")
    if not node_name or not node_name.isprintable():
        raise UsageError("--node must be a name of printable characters")
    partition_value(node_name)
    if start.tzinfo is None or not _EARLIEST <= start <= _LATEST:
        raise UsageError(f"--start must be a time with its zone between {_EARLIEST.year} and {_LATEST.year}")


def _manifest(
    run_id: uuid.UUID, configuration: dict[str, Any], topology: Topology, anchor: ClockAnchor, node_name: str
) -> stored.Manifest:
    return stored.Manifest(
        run_id=run_id,
        source="simulation",
        status="running",
        start=stored.Instant.of(anchor.realtime_ns),
        host=stored.Host(
            node_name=node_name,
            identifier=node_name,
            kernel_release="simulated",
            kernel_version="simulated",
            machine="simulated",
            boot_id=None,
            cpu_model="simulated",
            online_cpus=parse_cpu_list(topology.online),
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
                source="simulated",
            )
        ),
        tick_ns=TICK_NS,
        window_ticks=_WINDOW_TICKS,
        first_tick=_FIRST_TICK,
        configuration=configuration,
        versions={"tracer": __version__, "python": platform.python_version()},
        notes=["simulated: no such node exists; truth.json beside this file says what happened on it"],
    )
