# SPDX-License-Identifier: Apache-2.0
"""An experiment from beginning to end: a run of the tracer, and beside it a pulser that pauses the suspect."""

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tracer.analysis.recording import open_recording
from tracer.errors import NodeUnsupportedError
from tracer.experiment.cgroup_control import Control
from tracer.experiment.judging import counters_missing, judge, measure
from tracer.experiment.naming import Place
from tracer.experiment.outcome import Outcome
from tracer.experiment.pulser import Ended
from tracer.experiment.pulsing import Pulsing
from tracer.experiment.schedule import SLOT_WINDOWS, Schedule
from tracer.experiment.state_file import RECORDING_PREFIX, State, StateFile, boot_id, runtime_directory
from tracer.kernel.event_specs import parse_events
from tracer.pipeline.options import DEFAULT_MEMORY_BYTES, RunOptions
from tracer.pipeline.starting import Signals, start_run
from tracer.store.manifest import Manifest

TICK_NS = 1_000_000
# The pulser is there and the run has begun before the first slot; and whoever waits in the last one does not for so
# long, so that the tracer has heard of it.
_BEFORE_NS = 200_000_000
_AFTER_NS = 200_000_000
_SECOND_NS = 1_000_000_000


class Experiment(NamedTuple):
    """Who is to be paused how and when, and who is watched meanwhile."""

    victim: Place
    suspect: Place
    control: Control
    schedule: Schedule
    seed: int
    containerd_states: tuple[Path, ...]


def run_experiment(
    experiment: Experiment, directory: int, signals: Signals, on_failure: ExitStack, say_begun: Callable[[], None]
) -> Outcome:
    """Makes it; the suspect is as it was found afterwards. `directory` is the descriptor of its cgroup's directory.

    What is taken is given back by `on_failure`, which is closed at the end too. `say_begun` is called when it begins.
    Raises UsageError while there is another one, NodeUnsupportedError, and what a run raises.
    """
    held = StateFile.lock(runtime_directory())
    on_failure.callback(held.close)
    on_failure.callback(held.remove)
    # Made only when the pulser is there, which removes it if this process is killed.
    recording = Path(tempfile.gettempdir()) / f"{RECORDING_PREFIX}{uuid.uuid4().hex}"
    held.write(
        State(
            boot_id=boot_id(),
            directory=str(experiment.suspect.directory),
            cgroup_id=os.fstat(directory).st_ino,
            control=experiment.control,
            recording=str(recording),
        )
    )
    pulsing = Pulsing(held, directory)
    on_failure.callback(_abandon, pulsing)
    on_failure.callback(shutil.rmtree, recording, ignore_errors=True)
    recording.mkdir(mode=0o700)
    started = start_run(_options(experiment, recording / "results"), signals, on_failure)
    schedule = experiment.schedule
    start_ns = -(-(_monotonic_ns() + _BEFORE_NS) // schedule.window_ns) * schedule.window_ns
    end_ns = start_ns + schedule.duration_ns
    say_begun()
    slots = [*schedule.slots(start_ns), (end_ns, end_ns + _AFTER_NS, False)]
    pulsing.begin(experiment.control, slots, started.run.stop)
    started.run.wait()
    ended = pulsing.finish()
    return _outcome(experiment, recording / "results", started.run.finish(), ended, start_ns)


def _abandon(pulsing: Pulsing) -> None:
    # What went wrong before is told, not this.
    with suppress(NodeUnsupportedError):
        pulsing.abandon()


def _options(experiment: Experiment, output: Path) -> RunOptions:
    """Of a run that records what is looked at here, and little else."""
    return RunOptions(
        output=output,
        duration_ns=None,
        tick_ns=TICK_NS,
        window_ticks=experiment.schedule.window_ns // TICK_NS,
        rotate_ns=3600 * _SECOND_NS,
        keep_bytes=None,
        on_full="stop",
        sync=False,
        ticks=False,
        waits=True,
        events=parse_events([]),
        identifier=os.uname().nodename,
        ring_bytes=None,
        memory_limit_bytes=DEFAULT_MEMORY_BYTES,
        cpu_limit=None,
        nri_socket=None,
        containerd_states=experiment.containerd_states,
        resctrl="off",
        resctrl_mount=False,
        resources_interval_ns=3600 * _SECOND_NS,
        io=False,
        processes_interval_ns=None,
        processes_max_rss_bytes=0,
        regions=False,
    )


def _outcome(experiment: Experiment, output: Path, manifest: Manifest, ended: Ended | None, start_ns: int) -> Outcome:
    schedule = experiment.schedule
    if manifest.left_out:
        raise NodeUnsupportedError(f"this node is too busy to measure on: {manifest.left_out[0].reason}")
    blocks = 0 if ended is None else min(ended.slots // 2, schedule.blocks)
    recording = open_recording([output])
    victim, suspect = (
        measure(recording, place, schedule, blocks, start_ns=start_ns, tick_ns=TICK_NS)
        for place in (experiment.victim, experiment.suspect)
    )
    generator = np.random.default_rng(experiment.seed)
    effects, confidence = judge(victim, suspect, no_counters=counters_missing(recording), generator=generator)
    latest_ns = 0 if ended is None else ended.latest_ns
    reason = "the process that pauses was killed" if ended is None else ended.reason
    return Outcome(
        victim=victim.side(experiment.victim),
        suspect=suspect.side(experiment.suspect),
        control=experiment.control.file,
        pauses=blocks,
        pauses_planned=schedule.blocks,
        pulse_seconds=SLOT_WINDOWS * schedule.window_ns / _SECOND_NS,
        block_seconds=2 * schedule.half_windows * schedule.window_ns / _SECOND_NS,
        ended_early=reason if blocks < schedule.blocks else None,
        latest_pause_ms=latest_ns / 1e6,
        confidence=confidence,
        seed=experiment.seed,
        effects=effects,
        notes=_notes(manifest, schedule, latest_ns),
    )


def _notes(manifest: Manifest, schedule: Schedule, latest_ns: int) -> list[str]:
    notes = []
    if latest_ns > schedule.window_ns:
        notes.append(f"a pause began {latest_ns / 1e6:.0f} ms late: the node is too busy for pauses as short as this")
    if manifest.totals.records_lost:
        notes.append(f"{manifest.totals.records_lost:,} records of the tracer were lost")
    return notes


def _monotonic_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
