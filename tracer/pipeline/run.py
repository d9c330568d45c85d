# SPDX-License-Identifier: Apache-2.0
"""One run of the tracer on the live node, from attaching the programs to the last file."""

import socket
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import pyarrow as pa

from tracer.containers.cgroupfs import find_cgroup2_mount
from tracer.containers.inventory import Inventory
from tracer.containers.runtime_state import RuntimeState
from tracer.errors import NodeUnsupportedError, TracerError, UsageError
from tracer.ingest.sockets import IngestSockets
from tracer.kernel.cgroup_events import CgroupEvents
from tracer.kernel.clock import ClockAnchor, RunClock, Step, measure_anchor
from tracer.kernel.counter_plan import CounterPlan
from tracer.kernel.cpus import format_cpu_list, possible_cpus
from tracer.kernel.throttling import Throttling
from tracer.kernel.tick_source import CpuLosses, KernelTickSource
from tracer.live.on_demand import OnDemandTotals
from tracer.live.pulse import Pulse
from tracer.live.server import Server
from tracer.live.socket import LiveSocket
from tracer.live.totals import Totals
from tracer.pipeline.budget import Budget
from tracer.pipeline.counter_check import CounterCheck
from tracer.pipeline.housekeeping.overload import LeftOut
from tracer.pipeline.kept import build_keeping
from tracer.pipeline.node import TopologyRecord
from tracer.pipeline.options import RunOptions
from tracer.pipeline.parts import build_parts
from tracer.pipeline.serving import build_live_server, build_metrics_server
from tracer.pipeline.session import (
    begin_manifest,
    end_clock,
    event_notes,
    events_of,
    step_text,
    wait_notes,
    with_changes,
)
from tracer.pipeline.sinks.recording import FlightRecorder
from tracer.pipeline.stage import StuckError, await_end
from tracer.pipeline.uncounted import Uncounted
from tracer.pipeline.uploading import UploadedSoFar, Uploading
from tracer.pipeline.watching import Watching
from tracer.store.manifest import Instant, Manifest, Occasion
from tracer.store.manifest import LeftOut as StoredLeftOut
from tracer.store.output import PreparedOutput
from tracer.store.retention import identifier_in_files
from tracer.store.upload.object_store import ObjectStore
from tracer.store.upload.uploads import Uploads
from tracer.store.upload.what_is_here import Node

_ROOT_CGROUP_ID = 1
# A signal that arrives just before a wait begins does not end it: its handler runs when the wait does. Two that come
# within one wait are one.
_WAIT_SECONDS = 0.05
_LOOK_SECONDS = 0.5
# For a thread that does not move when a run ends: what is under way takes well under a second, but a disk can be slow.
_END_SECONDS = 30.0
_STORING_END_SECONDS = 120.0
# What is not uploaded by then stays here, for the next run or `tracer upload`.
_UPLOADING_END_SECONDS = 30.0


class _Ending(NamedTuple):
    """Known from the moment in which a run was told to end."""

    last_tick: int
    anchor: ClockAnchor


class Progress(NamedTuple):
    """How a run has come along: `windows` are its newest rows, of windows of `window_ns`; files are closed ones."""

    seconds: float
    records: int
    lost: int
    files: int
    bytes: int
    windows: pa.Table | None
    window_ns: int
    is_upload_failing: bool = False


class Run:
    """A run in progress. `start`, `wait`, `finish`, once each and in this order, from one thread.

    `throttling` tells of throttling, or why nothing does. Metrics are served where `listening` listens, and what `live`
    has to whoever may open it; applications are heard on `ingest`. Anything may call `stop` meanwhile, a signal handler
    too.
    """

    def __init__(
        self,
        options: RunOptions,
        plan: CounterPlan,
        source: KernelTickSource,
        cgroup_events: CgroupEvents | None,
        throttling: Throttling | str,
        output: PreparedOutput,
        budget: Budget,
        run_id: uuid.UUID,
        listening: socket.socket | None,
        live: LiveSocket,
        ingest: IngestSockets | None = None,
    ) -> None:
        self.run_id = run_id
        self._options = options
        self._plan = plan
        self._source = source
        self._cgroup_events = cgroup_events
        self._throttling = throttling
        self._output = output
        self._budget = budget
        self._listening = listening
        self._live = live
        self._ingest = ingest
        self._servers: list[Server] = []
        self._object_store: ObjectStore | None = None
        self._uploads: Uploads | None = None
        self._uploading: Uploading | None = None
        self.pulse = Pulse()
        """Whether it is at its work."""
        self._stop = threading.Event()
        self._is_told_to_stop = False
        self._counter_check = CounterCheck(plan.specs, possible_cpus()[-1] + 1)
        self._notes: list[str] = []
        self._alarms: list[str] = []
        self._ending: _Ending | None = None
        self._stuck: list[str] = []

    def upload_to(self, store: ObjectStore, uploads: Uploads) -> None:
        """Before `start`: what is closed is uploaded too; `uploads` say what is."""
        self._object_store = store
        self._uploads = uploads

    def start(self, opened: Callable[[], Iterable[str]] = tuple) -> None:
        """Attaches to the node and starts the stages. Raises NodeUnsupportedError, or OutputError.

        `opened` is called once all is open that takes rights to open, before a thread is started; it returns notes.
        """
        options = self._options
        cgroup_root = find_cgroup2_mount()
        self._clock = RunClock(measure_anchor(), self._source.rings.last_awake_ns, self._tell_of_step)
        self._start_cgroup_events(cgroup_root)
        # After the events began, so that no cgroup falls between them and the first walk.
        inventory = Inventory(cgroup_root, expect_names=True, keep_dead_seconds=2 * options.rotate_ns / 1e9)
        self._watching = Watching(
            inventory=inventory,
            root=cgroup_root,
            cgroup_events=self._cgroup_events,
            nri_socket=options.nri_socket,
            runtime_state=RuntimeState(containerd_states=options.containerd_states),
            see_beginning=self._see_beginning,
            see_end=self._see_end,
            note=self._note,
        )
        self._uncounted = Uncounted(RuntimeState(containerd_states=options.containerd_states), self._note)
        self._start_throttling()
        self._source.start()
        self.pulse.attach()
        if self._cgroup_events is not None:
            self._cgroup_events.clock_offset_ns = self._source.clock_offset_ns
        for text in opened():
            self._note(text)
        # After the source took the CPUs that are online, so that it tells of each change from here on.
        self._topology = TopologyRecord()
        counting = self._source.counting()
        self._counter_check.follow(counting, self._topology.now.highest_khz)
        self._manifest = begin_manifest(
            self.run_id,
            options,
            self._plan._replace(cpus=counting),
            self._clock.first,
            self._topology.first,
            first_tick=self._source.first_tick,
            bcc_version=self._source.programs.bcc_version,
            without_values=self._counter_check.reasons(),
            notes=wait_notes(self._source, self._throttling),
        )
        node_name = self._manifest.host.node_name
        self._keeping = build_keeping(
            options,
            self._output.path,
            self.run_id,
            node_name=node_name,
            budget=self._budget,
            manifest=self.manifest,
            totals=lambda: self._parts.counts.totals(),
            utc_ns=self._clock.utc_ns,
            alarm=self._alarm,
            stop_run=self._stop,
            uploads=self._uploads,
        )
        notes = [*self._manifest.notes, *event_notes(self._manifest.events, counting.values())]
        self._keeping.begin(msgspec.structs.replace(self._manifest, notes=notes))
        looked_at: list[Totals | OnDemandTotals] = []
        if self._listening is not None:
            # For counters that only rise, from the start on.
            totals = self._new_totals(self._source.first_tick)
            looked_at.append(totals)
            server = build_metrics_server(
                self._listening,
                self._manifest,
                totals.snapshot,
                pulse=self.pulse,
                is_output_failing=lambda: self._keeping.outage.is_now,
                is_upload_failing=lambda: self._is_upload_failing,
                counted=self._counted,
                note=self._note,
            )
            self._servers.append(server)
        if self._live.listening is not None:
            if not looked_at:
                looked_at.append(OnDemandTotals(lambda: self._new_totals(_monotonic_ns() // options.tick_ns)))
            self._servers.append(build_live_server(self._live.listening, looked_at[0].snapshot, self.ask, self._note))
        if self._live.problem is not None:
            self._note(self._live.problem)
        self._parts = build_parts(
            options,
            source=self._source,
            throttling=None if isinstance(self._throttling, str) else self._throttling,
            counter_check=self._counter_check,
            inventory=inventory,
            watching=self._watching,
            cgroup_root=cgroup_root,
            clock=self._clock,
            topology=self._topology,
            node_name=node_name,
            keeping=self._keeping,
            budget=self._budget,
            note=self._note,
            alarm=self._alarm,
            pulse=self.pulse,
            further_sinks=looked_at,
            ingest=self._ingest,
            stop_run=self._stop,
        )
        if options.duration_ns is not None:
            # Known from the beginning, since the end may be noticed late.
            self._source.rings.bound(last_tick=self._last_tick_of_duration())
            self._parts.assembling.bound(self._last_tick_of_duration())
        self._watching.start()
        self._uncounted.start()
        for thread in (*self._parts.stages, *self._parts.observing, *self._parts.ingesting):
            thread.start()
        if self._ingest is not None:
            self._ingest.begin()
        for server in self._servers:
            server.start()
        self._start_uploading(node_name)

    def _start_uploading(self, node_name: str) -> None:
        options = self._options
        if self._object_store is None or self._uploads is None:
            return
        self._uploading = Uploading(
            self._output.path,
            self._object_store,
            self._uploads,
            node=Node(node_name, identifier_in_files(options.identifier)),
            own=self.run_id if options.recorder is None else None,
            rotate_ns=options.rotate_ns,
            bytes_per_second=options.upload_bytes_per_second,
            utc_ns=lambda: self._clock.utc_ns(_monotonic_ns()),
            note=self._alarm,
        )
        self._uploading.start()

    def _new_totals(self, first_tick: int) -> Totals:
        return Totals(
            run_id=str(self.run_id),
            node_name=self._manifest.host.node_name,
            tick_ns=self._options.tick_ns,
            first_tick=first_tick,
        )

    def stop(self) -> None:
        """Ends the run before its time, at the next look. A signal's handler may call it.

        It takes no lock, as the thread that the handler interrupts may have the event's own one.
        """
        self._is_told_to_stop = True

    def wait(self, say: Callable[[str], None] = lambda _alarm: None, look: Callable[[], None] = lambda: None) -> None:
        """Until the run's duration is over, or until something stops it.

        `look` is called each half second meanwhile. `say`: see `say_alarms`.
        """
        end_ns = None
        if self._options.duration_ns is not None:
            end_ns = (self._last_tick_of_duration() + 1) * self._options.tick_ns
        left, next_look = _LOOK_SECONDS, time.monotonic() + _LOOK_SECONDS
        while left > 0 and not self._is_told_to_stop and not self._stop.wait(min(left, _WAIT_SECONDS)):
            if end_ns is not None:
                left = (end_ns - _monotonic_ns()) / 1e9
            if time.monotonic() >= next_look:
                next_look += _LOOK_SECONDS
                self.say_alarms(say)
                look()

    @property
    def recordings(self) -> list[Manifest]:
        """Of a flight recorder: those that are complete."""
        return list(self._keeping.recordings) if isinstance(self._keeping, FlightRecorder) else []

    @property
    def incomplete_recordings(self) -> list[uuid.UUID]:
        """Of a flight recorder: those whose last files or manifest could not be written."""
        return list(self._keeping.incomplete) if isinstance(self._keeping, FlightRecorder) else []

    def ask(self, reason: Literal["mark", "signal"], note: str | None = None) -> str:
        """Has the recorder write what it has; what is done then, for people. Any thread and a signal's handler may ask.

        Raises UsageError if there is none.
        """
        if not isinstance(self._keeping, FlightRecorder):
            raise UsageError("this run has no flight recorder: it is started with --recorder 10m")
        now = Instant.of(self._clock.utc_ns(_monotonic_ns()))
        return self._keeping.ask(Occasion(reason=reason, at=now, note=note))

    def say_alarms(self, say: Callable[[str], None]) -> None:
        """What came up since the last call that the user is to know at once."""
        while self._alarms:
            say(self._alarms.pop(0))

    def finish(self) -> Manifest:
        """Accounts each CPU up to the last full tick, detaches, and writes what is left; returns the final manifest.

        Raises what ended a stage: OutputError where the output is full, or TracerError, also for a thread that does
        not end within its time.
        """
        self._uncounted.finish()
        parts = self._parts
        last_tick = _monotonic_ns() // self._options.tick_ns - 1
        if self._options.duration_ns is not None:
            last_tick = min(last_tick, self._last_tick_of_duration())
        parts.assembling.finish_at(last_tick)
        self._source.rings.bound(last_tick=last_tick)
        self._source.poke()
        self.pulse.detach()
        self._source.detach()
        self._ending = _Ending(last_tick, measure_anchor())
        # Before the store hears that nothing more comes.
        for told in (*parts.observing, *parts.ingesting):
            told.finish()
        self._stuck += await_end((*parts.observing, *parts.ingesting), _END_SECONDS)
        parts.hand_on_ingested(self._note)
        if self._ingest is not None:
            # Whoever sends is to know, and not to wait until the files are written.
            self._ingest.remove()
        self._watching.finish()
        self._stuck += await_end((self._watching, self._uncounted), _END_SECONDS)
        parts.reading.finish()
        if late := await_end((parts.reading, parts.assembling), _END_SECONDS):
            self._stuck += late
            # What came so far is to go on all the same.
            parts.reading.end()
            await_end((parts.assembling,), _END_SECONDS)
        parts.housekeeping.finish()
        self._stuck += await_end((parts.housekeeping,), _END_SECONDS)
        parts.keeping.finish()
        self._stuck += await_end((parts.keeping,), _STORING_END_SECONDS)
        if self._uploading is not None:
            self._uploading.finish(_UPLOADING_END_SECONDS)
        for server in self._servers:
            server.finish()
        await_end(self._servers, _END_SECONDS)
        if self._stuck:
            raise StuckError(self._stuck) from self._failure()
        if self._cgroup_events is not None:
            self._cgroup_events.close()
        if not isinstance(self._throttling, str):
            self._throttling.close()
        if (failure := self._failure()) is not None:
            raise failure
        assert parts.keeping.last_manifest is not None
        return parts.keeping.last_manifest

    @property
    def uploaded(self) -> UploadedSoFar | None:
        """What was uploaded, where that is asked for."""
        return None if self._uploading is None else self._uploading.so_far

    @property
    def _is_upload_failing(self) -> bool:
        return self._uploading is not None and self._uploading.so_far.reason is not None

    @property
    def last_manifest(self) -> Manifest | None:
        """The one that was written last, or would have been."""
        return self._parts.keeping.last_manifest

    def progress(self) -> Progress:
        """As of now, while the run goes on. Any thread may ask."""
        options, losses, stored = self._options, self._source.losses(), self._keeping.totals
        return Progress(
            seconds=max(0, _monotonic_ns() - self._source.first_tick * options.tick_ns) / 1e9,
            records=sum(self._source.rings.counts(cpu).records for cpu in losses),
            # The kernel side counts at once what the sequence numbers miss only when the next record has come.
            lost=sum(max(loss.missing, loss.ring_full + loss.no_ring + loss.malformed) for loss in losses.values()),
            files=sum(stored.files.values()),
            bytes=sum(stored.bytes.values()),
            windows=self._parts.newest.rows,
            window_ns=options.window_ticks * options.tick_ns,
            is_upload_failing=self._is_upload_failing,
        )

    def manifest(self) -> Manifest:
        """The manifest as of now; once the run has been ended, with its end."""
        cpus = self._source.counting()
        events = events_of(self._plan.specs, cpus, self._counter_check.reasons(), self._topology.first)
        unkept = self._topology.changes_left_out
        left_out = [f"topology_changes lacks its first {unkept} changes"] if unkept else []
        if unkept := self._clock.changes_left_out:
            left_out.append(f"clock lacks its first {unkept} sleeps and steps")
        manifest = msgspec.structs.replace(
            self._manifest,
            events=events,
            notes=[
                *self._manifest.notes,
                *event_notes(events, cpus.values()),
                *self._stops(),
                *self._notes,
                *left_out,
            ],
            topology_changes=list(self._topology.changes),
            clock=with_changes(self._manifest.clock, self._clock),
            left_out=[self._stored_left_out(one) for one in self._parts.overload.left_out],
            totals=self._parts.counts.totals(),
        )
        if self._ending is None:
            return manifest
        last_tick, anchor = self._ending
        failure = self._failure()
        is_stopped = self._is_told_to_stop or self._stop.is_set()
        return msgspec.structs.replace(
            manifest,
            status="finished" if failure is None else "failed",
            exit_reason=("stopped" if is_stopped else "duration is over") if failure is None else str(failure),
            last_tick=last_tick,
            end=Instant.of(self._clock.utc_ns((last_tick + 1) * self._options.tick_ns)),
            clock=end_clock(manifest.clock, self._clock, anchor),
            notes=[*manifest.notes, *_traceback_of(failure)],
        )

    def _counted(self) -> dict[str, bool]:
        reasons = self._counter_check.reasons()
        events = events_of(self._plan.specs, self._source.counting(), reasons, self._topology.first)
        return {event.column: event.counted for event in events}

    def _stored_left_out(self, one: LeftOut) -> StoredLeftOut:
        until = None if one.until_ns is None else Instant.of(self._clock.utc_ns(one.until_ns))
        return StoredLeftOut(
            what=one.what, reason=one.reason, start=Instant.of(self._clock.utc_ns(one.from_ns)), end=until
        )

    def _stops(self) -> list[str]:
        """Which counters stood still for a while, or still do."""
        stops = ((spec, self._counter_check.stops(index)) for index, spec in enumerate(self._plan.specs))
        return [
            f"{spec.column} did not count for a while on CPUs {format_cpu_list(cpus)}, and is null there meanwhile"
            for spec, cpus in stops
            if cpus
        ]

    def losses(self) -> dict[int, CpuLosses]:
        """Lost records by CPU."""
        return self._source.losses()

    def _failure(self) -> TracerError | None:
        """What ended a stage, if something did; of several the one nearest to the source."""
        failure = next((stage.failure for stage in self._parts.stages if stage.failure is not None), None)
        return failure or (StuckError(self._stuck) if self._stuck else None)

    def _start_cgroup_events(self, cgroup_root: Path) -> None:
        """Begins to hear of cgroups from the kernel; a kernel that cannot tell is no failure."""
        if self._cgroup_events is None:
            self._note("cgroups are watched by inotify: the kernel has no type information (BTF) that can be used")
            return
        try:
            if cgroup_root.stat().st_ino != _ROOT_CGROUP_ID:
                raise NodeUnsupportedError(
                    "only a part of the cgroup2 tree is mounted here, and the kernel tells of all"
                )
            self._cgroup_events.start()
        except NodeUnsupportedError as error:
            self._cgroup_events.close()
            self._cgroup_events = None
            self._note(f"cgroups are watched by inotify: {error}")

    def _start_throttling(self) -> None:
        """Begins to hear of throttling, before waits are followed; a kernel that cannot tell is no failure."""
        if isinstance(self._throttling, str):
            return
        try:
            self._throttling.start()
        except NodeUnsupportedError as error:
            self._throttling.close()
            self._throttling = str(error)

    def _see_beginning(self, cgroup_id: int) -> None:
        for observing in self._parts.observing:
            observing.see_beginning(cgroup_id)

    def _see_end(self, cgroup_id: int) -> None:
        for observing in self._parts.observing:
            observing.see_end(cgroup_id)

    def _tell_of_step(self, step: Step) -> None:
        self._alarm(step_text(step))

    def _note(self, text: str) -> None:
        self._notes.append(f"{Instant.of(self._clock.utc_ns(_monotonic_ns())).utc}: {text}")

    def _alarm(self, text: str) -> None:
        self._note(text)
        self._alarms.append(text)

    def _last_tick_of_duration(self) -> int:
        assert self._options.duration_ns is not None
        return self._source.first_tick + self._options.duration_ns // self._options.tick_ns - 1


def _traceback_of(failure: TracerError | None) -> list[str]:
    """Of a defect, for whoever mends it; what the tracer says on purpose needs none."""
    if failure is None or failure.__cause__ is None or failure.exit_code != TracerError.exit_code:
        return []
    return ["".join(traceback.format_exception(failure.__cause__))]


def _monotonic_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
