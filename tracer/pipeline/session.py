# SPDX-License-Identifier: Apache-2.0
"""The manifest of a run, from what the rooms know."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from uuid import UUID

import msgspec

from tracer import __version__
from tracer.kernel.clock import ClockAnchor, RunClock, Step, clock_source
from tracer.kernel.counter_plan import CounterPlan, CpuPlan, alike, missing_everywhere
from tracer.kernel.cpus import online_cpus
from tracer.kernel.event_specs import EventSpec
from tracer.kernel.throttling import Throttling
from tracer.kernel.tick_load import why_stolen_time_is_untold
from tracer.kernel.tick_source import KernelTickSource
from tracer.kernel.topology.pmu import encodings
from tracer.pipeline.node import NodeTopology
from tracer.pipeline.options import RunOptions
from tracer.store import manifest as stored

_NONE: Mapping[int, Sequence[str | None]] = MappingProxyType({})
_LIBRARIES = ("numba", "numpy", "polars", "pyarrow", "msgspec")


def begin_manifest(
    run_id: UUID,
    options: RunOptions,
    plan: CounterPlan,
    anchor: ClockAnchor,
    topology: NodeTopology,
    *,
    first_tick: int,
    bcc_version: str,
    without_values: Mapping[int, Sequence[str | None]] = _NONE,
    notes: Sequence[str] = (),
) -> stored.Manifest:
    """The manifest of a run that has just started, without `event_notes`. `without_values` as of `events_of`."""
    system = os.uname()
    return stored.Manifest(
        run_id=run_id,
        status="running",
        start=stored.Instant.of(anchor.utc_ns(first_tick * options.tick_ns)),
        host=stored.Host(
            node_name=options.node_name,
            identifier=options.identifier,
            kernel_release=system.release,
            kernel_version=system.version,
            machine=system.machine,
            boot_id=_first_line(Path("/proc/sys/kernel/random/boot_id")),
            cpu_model=topology.cpu_model.name,
            online_cpus=online_cpus(),
        ),
        topology=topology,
        events=events_of(plan.specs, plan.cpus, without_values, topology),
        clock=stored.Clock(start=_stored_anchor(anchor)),
        tick_ns=options.tick_ns,
        window_ticks=options.window_ticks,
        first_tick=first_tick,
        configuration=_configuration(options),
        versions={
            "tracer": __version__,
            "python": platform.python_version(),
            "bcc": bcc_version,
            **{name: importlib.metadata.version(name) for name in _LIBRARIES},
        },
        git_revision=_git_revision(),
        notes=list(notes),
    )


def events_of(
    specs: Sequence[EventSpec],
    cpus: Mapping[int, CpuPlan],
    without_values: Mapping[int, Sequence[str | None]],
    topology: NodeTopology,
) -> list[stored.Event]:
    """What counts each of `specs` on each CPU; `without_values` says why an event that is open has no values."""
    plans = {cpu: plan._replace(reasons=_both(plan.reasons, without_values.get(cpu))) for cpu, plan in cpus.items()}
    events = []
    for index, spec in enumerate(specs):
        reason = missing_everywhere(plan.reasons[index] for plan in plans.values())
        events.append(
            stored.Event(
                column=spec.column,
                spec=spec.text,
                type=spec.type,
                config=hex(spec.config),
                counted=reason is None,
                reason_missing=reason,
                encodings={
                    pmu: stored.EncodedEvent(name=event.name, encoding=event.encoding)
                    for pmu, event in encodings(topology.pmus, spec).items()
                },
                on_cpus=[
                    stored.EventOnCpus(
                        cpus=of_cpus,
                        pmu=plan.pmu,
                        type=plan.events[index].type,
                        config=hex(plan.events[index].config),
                        counted=plan.reasons[index] is None,
                        reason_missing=plan.reasons[index],
                    )
                    for of_cpus, plan in alike(plans, index)
                ],
            )
        )
    return events


def event_notes(events: Sequence[stored.Event], cpus: Iterable[CpuPlan]) -> list[str]:
    """Why counters are null, everywhere or on some CPUs, and what bears on the others."""
    notes = []
    for event in events:
        if not event.counted:
            notes.append(f"{event.column} is null: {event.spec}: {event.reason_missing}")
            continue
        notes += [
            f"{event.column} is null on CPUs {some.cpus}: {event.spec}: {some.reason_missing}"
            for some in event.on_cpus
            if not some.counted
        ]
    if not all(plan.grouped for plan in cpus):
        notes.append("the counters do not fit the PMU together and take turns: each is scaled by its own share")
    return notes


def wait_notes(source: KernelTickSource, throttling: Throttling | str) -> list[str]:
    """What is null of waiting for a CPU, or not quite what it says, and why. `throttling` tells of that, or why not."""
    if not source.follows_waits:
        return ["what windows and ticks have of waiting for a CPU is null, stolen_time_ns too: --waits off"]
    notes = []
    if isinstance(throttling, str):
        notes.append(f"wait_throttled_ns is null, and such time in wait_idle_ns or wait_behind_others_ns: {throttling}")
    if not source.tells_stolen:
        notes.append(f"stolen_time_ns is null: {why_stolen_time_is_untold()}")
    if not source.tells_readiness:
        notes.append(
            "involuntary_switches counts most switches when the task runs again: before Linux 5.18 the kernel does not "
            "say of a task that is switched out whether it is still ready"
        )
    return notes


def _both(reasons: Sequence[str | None], further: Sequence[str | None] | None) -> tuple[str | None, ...]:
    return (
        tuple(reasons) if further is None else tuple(one or other for one, other in zip(reasons, further, strict=True))
    )


def with_changes(stored_clock: stored.Clock, clock: RunClock) -> stored.Clock:
    """The clock section with each time the machine slept, and each at which its clock was set."""
    return msgspec.structs.replace(
        stored_clock,
        sleeps=[
            stored.Sleep(
                after_monotonic_ns=sleep.after_ns, slept_ns=sleep.slept_ns, anchor=_stored_anchor(sleep.anchor)
            )
            for sleep in clock.sleeps
        ],
        steps=[
            stored.Step(after_monotonic_ns=step.after_ns, step_ns=step.step_ns, anchor=_stored_anchor(step.anchor))
            for step in clock.steps
        ],
    )


def step_text(step: Step) -> str:
    """What is to be said of a step when it is noticed."""
    direction = "forward" if step.step_ns > 0 else "back"
    text = f"the wall clock was set {direction} by {abs(step.step_ns) / 1e9:.3f} s: times from here on go by it"
    return text if step.step_ns > 0 else f"{text}, and so much of them is there twice"


def end_clock(stored_clock: stored.Clock, clock: RunClock, end: ClockAnchor) -> stored.Clock:
    """The clock section with a last reading: how far the wall clock moved against the run's own."""
    drift_ns = end.realtime_ns - clock.utc_ns(end.monotonic_ns)
    return msgspec.structs.replace(stored_clock, end=_stored_anchor(end), drift_ns=drift_ns)


def _stored_anchor(anchor: ClockAnchor) -> stored.ClockAnchor:
    return stored.ClockAnchor(
        anchor_realtime_ns=anchor.realtime_ns,
        anchor_monotonic_ns=anchor.monotonic_ns,
        uncertainty_ns=anchor.uncertainty_ns,
        source=clock_source() or "unknown",
    )


def _configuration(options: RunOptions) -> dict[str, object]:
    configuration = msgspec.to_builtins(options, enc_hook=str)
    configuration["events"] = {spec.column: spec.text for spec in options.events}
    return dict(configuration)


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip() or None
    except OSError:
        return None


def _git_revision() -> str | None:
    """The commit of the checkout this package lies in; None for an installed one."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    try:
        # The owner of the checkout is often not root, which git would refuse.
        git = ["git", "-c", f"safe.directory={checkout}", "-C", str(checkout)]
        return subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, check=True, timeout=5, text=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
