# SPDX-License-Identifier: Apache-2.0
"""How the stages, the housekeeping and the sinks of a run are joined; nothing here is started."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tracer.containers.inventory import Inventory
from tracer.ingest.sockets import IngestSockets
from tracer.kernel.clock import RunClock
from tracer.kernel.throttling import Throttling
from tracer.kernel.tick_source import KernelTickSource
from tracer.kernel.topology import llc_domain_of_cpu
from tracer.live.pulse import Pulse
from tracer.pipeline.assembling import Assembling
from tracer.pipeline.budget import Budget, default_cpu_limit
from tracer.pipeline.chosen_readers import chosen_readers
from tracer.pipeline.counter_check import CounterCheck
from tracer.pipeline.housekeeping.counts import RunCounts, counts_from_boot
from tracer.pipeline.housekeeping.cpus import CpuChanges
from tracer.pipeline.housekeeping.drain_interval import DrainInterval
from tracer.pipeline.housekeeping.health import HealthMeter, ReaderHealth, own_resident_bytes
from tracer.pipeline.housekeeping.health_rows import HealthRows
from tracer.pipeline.housekeeping.keeping import Duty, Housekeeping
from tracer.pipeline.housekeeping.lifecycle import Lifecycle
from tracer.pipeline.housekeeping.overload import Overload
from tracer.pipeline.housekeeping.parts_left_out import steps_of
from tracer.pipeline.housekeeping.strain import StrainMeter, release_memory
from tracer.pipeline.housekeeping.tick_rate import TickRate
from tracer.pipeline.ingesting import DatagramIngesting, TextIngesting
from tracer.pipeline.intake import Intake
from tracer.pipeline.labelling import Labelling
from tracer.pipeline.node import TopologyRecord
from tracer.pipeline.observing import Observing
from tracer.pipeline.options import RunOptions
from tracer.pipeline.reading import BLOCKS, Reading
from tracer.pipeline.senders import Senders
from tracer.pipeline.sinks.keeping import Keeping
from tracer.pipeline.sinks.newest import NewestWindows
from tracer.pipeline.sinks.sink import Sink, Sinks
from tracer.pipeline.stage import Stage
from tracer.pipeline.tick_tables import TickTables
from tracer.pipeline.watching import Watching

_SECOND_NS = 1_000_000_000
# The net below all that tells of cgroups.
_WALK_NS = 30 * _SECOND_NS


class Parts(NamedTuple):
    """Threads, and what keeps or counts without one."""

    reading: Reading
    assembling: Assembling
    observing: list[Observing]
    housekeeping: Housekeeping
    keeping: Keeping
    newest: NewestWindows
    counts: RunCounts
    overload: Overload
    intake: Intake | None
    ingesting: list[DatagramIngesting | TextIngesting]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Those whose failure ends the run, in the way of the rows."""
        return self.reading, self.assembling, self.housekeeping, self.keeping

    def hand_on_ingested(self, note: Callable[[str], None]) -> None:
        """The last of what applications sent; `note` hears what was not kept of it. Their threads have ended."""
        if self.intake is None:
            return
        try:
            self.intake.hand_on()
        except Exception as error:
            note(f"external lacks its last rows: {error!r}")
        if (lost := self.intake.summary) is not None:
            note(lost)


def build_parts(
    options: RunOptions,
    *,
    source: KernelTickSource,
    throttling: Throttling | None,
    counter_check: CounterCheck,
    inventory: Inventory,
    watching: Watching,
    cgroup_root: Path,
    clock: RunClock,
    topology: TopologyRecord,
    node_name: str,
    keeping: Keeping,
    budget: Budget,
    note: Callable[[str], None],
    alarm: Callable[[str], None],
    pulse: Pulse,
    further_sinks: Sequence[Sink],
    ingest: IngestSockets | None,
    stop_run: threading.Event,
) -> Parts:
    """Of a run whose source has started. `note` takes what is to be in its manifest.

    `alarm` takes what the user is to know at once as well.
    """
    newest = NewestWindows()
    sinks = Sinks(keeping, newest, *further_sinks)

    def new_labelling() -> Labelling:
        return Labelling(inventory, sinks, clock=clock, node_name=node_name)

    of_ticks, of_lifecycle = new_labelling(), new_labelling()
    tables = TickTables(
        of_ticks,
        tick_ns=source.tick_ns,
        window_ticks=options.window_ticks,
        first_tick=source.first_tick,
        llc_of_cpu=llc_domain_of_cpu(topology.now),
        write_ticks=options.ticks,
        tells_throttled=throttling is not None,
    )
    meter, reader_health = HealthMeter(counts_from_boot(source)), ReaderHealth()
    reading = Reading(source.rings, stop_run, block_rows=budget.block_rows, see_ticks=pulse.see_ticks)
    assembling = Assembling(
        reading=reading,
        source=source,
        counter_check=counter_check,
        throttling=throttling,
        inventory=inventory,
        tables=tables,
        observe=meter.observe,
        stop_run=stop_run,
    )
    observing = [
        Observing(reader, interval_ns, inventory=inventory, labelling=new_labelling(), health=reader_health, note=note)
        for reader, interval_ns in chosen_readers(options, cgroup_root, note)
    ]
    intake = None
    ingesting: list[DatagramIngesting | TextIngesting] = []
    if ingest is not None:
        intake = Intake(
            inventory=inventory,
            clock=clock,
            labelling=new_labelling(),
            health=reader_health,
            tick_ns=source.tick_ns,
            window_ticks=options.window_ticks,
            first_tick=source.first_tick,
        )
        ingesting = [
            DatagramIngesting(ingest.datagrams, intake, Senders(cgroup_root), note),
            TextIngesting(ingest.text, intake, Senders(cgroup_root), note),
        ]
    counts = RunCounts(
        source=source,
        throttling=throttling,
        counter_check=counter_check,
        reading=reading,
        tables=tables,
        assembling=assembling,
        labellings=(of_ticks, of_lifecycle),
        watching=watching,
        keeping=keeping,
    )
    cpus = CpuChanges(source, topology=topology, clock=clock, counter_check=counter_check, tables=tables, note=note)
    strain = StrainMeter(
        options.memory_limit_bytes,
        # Resident is each ring twice, as it is mapped.
        memory=lambda: own_resident_bytes() - source.rings.total_bytes,
        release_memory=release_memory,
        batches_waiting=lambda: reading.waiting() / BLOCKS,
        ring_fill=lambda: health.ring_fill_peak,
        rows_waiting=lambda: keeping.queue_fill,
        records_lost=lambda: sum(loss.ring_full for loss in source.losses().values()),
    )
    overload = Overload(steps_of(options, tables), strain.measure, alarm)
    lifecycle = Lifecycle(inventory, of_lifecycle, cgroup_root)
    health = HealthRows(
        counts,
        meter,
        reader_health,
        rings=source.rings,
        inventory=inventory,
        clock=clock,
        node_name=node_name,
        sink=sinks,
        kernel_time_ns=source.kernel_time_ns,
        drain_interval_ns=lambda: reading.interval_ns,
        parts_left_out=lambda: overload.steps_taken,
    )
    cpu_limit = default_cpu_limit(len(source.online)) if options.cpu_limit is None else options.cpu_limit
    drain_interval = DrainInterval(
        cpu_limit,
        cpu_time_ns=time.process_time_ns,
        ring_fill=lambda: health.ring_fill_peak,
        use=reading.drain_each,
        note=note,
    )
    housekeeping = Housekeeping(
        [
            Duty(_SECOND_NS, lambda _now_ns: clock.look()),
            Duty(_SECOND_NS, cpus.follow),
            Duty(_SECOND_NS, TickRate(source, alarm).look),
            Duty(_WALK_NS, lambda _now_ns: inventory.refresh()),
            Duty(_SECOND_NS, lifecycle.look_at_limits),
            Duty(_SECOND_NS, lifecycle.hand_on, end=lifecycle.hand_on_all),
            Duty(_SECOND_NS, overload.look, end=overload.end),
            Duty(_SECOND_NS, health.put, end=health.put),
            Duty(_SECOND_NS, drain_interval.look),
        ],
        stop_run,
    )
    return Parts(reading, assembling, observing, housekeeping, keeping, newest, counts, overload, intake, ingesting)
