# SPDX-License-Identifier: Apache-2.0
"""Two recordings held against each other, workload by workload. docs/comparing.md has the method and its limits."""

import itertools
from collections.abc import Callable, Iterator, Sequence, Set
from typing import Final

from tracer.analysis.caveats import incomplete
from tracer.analysis.comparison.changes import Change, find_change, hold_together
from tracer.analysis.comparison.limits import LEVEL, Limit, judge
from tracer.analysis.comparison.metrics import METRICS
from tracer.analysis.comparison.results import Comparison, LoneWorkload, MetricChange, Side, WorkloadChange
from tracer.analysis.comparison.slices import Slices, slice_length_ns
from tracer.analysis.findings import Caveat
from tracer.analysis.recording import Recording, of_what_can_be_read, require_wanted
from tracer.store.manifest import Manifest

_CONFIDENCE: Final = 0.95
_SHORT_SECONDS: Final = 10
# Ids of caveats, as in reports.
_COUNTERS: Final = {"cycles": "no-cycles", "instructions": "no-instructions", "llc_misses": "no-llc-counter"}


@of_what_can_be_read
def compare(before: Recording, after: Recording, limits: Sequence[Limit] = ()) -> Comparison:
    """What changed from one recording to another.

    Raises UsageError if one of them cannot be read, and for a limit that cannot be judged.
    """
    length_ns = slice_length_ns([before, after])
    first, second = Slices(before, length_ns), Slices(after, length_ns)
    # Who is in one of both only is told; who is in neither is a mistake.
    require_wanted([*first.there, *second.there], before.containers, before.namespace)
    measured = [metric for metric in METRICS if metric.measured(first) and metric.measured(second)]
    common = first.cores.keys() & second.cores.keys()
    found = {
        (workload, metric.name): find_change(metric.series(first, workload), metric.series(second, workload))
        for workload in common
        for metric in measured
    }
    changes = {key: change for key, change in found.items() if isinstance(change, Change)}
    held = hold_together([change.p_value() for change in changes.values()], LEVEL)
    told = {
        key: _metric_change(key[1], change, holds) for (key, change), holds in zip(changes.items(), held, strict=True)
    }
    workloads = [
        WorkloadChange(
            name=workload,
            cgroups_before=len(first.cgroups[workload]),
            cgroups_after=len(second.cgroups[workload]),
            containers_before=first.cgroups[workload],
            containers_after=second.cgroups[workload],
            cores_before=first.cores[workload],
            cores_after=second.cores[workload],
            cores_at_stake=_cores_at_stake(told.get((workload, "cpi")), told.get((workload, "cores"))),
            changes=[told[key] for metric in measured if (key := (workload, metric.name)) in told],
            not_compared={
                metric.name: reason for metric in measured if isinstance(reason := found[workload, metric.name], str)
            },
        )
        for workload in common
    ]
    return Comparison(
        before=_side(before, first),
        after=_side(after, second),
        slice_seconds=length_ns / 1e9,
        tests=len(told),
        workloads=sorted(workloads, key=lambda one: (-one.cores_at_stake, -one.cores_after, one.name)),
        only_before=_lone(first, common),
        only_after=_lone(second, common),
        verdicts=judge(limits, changes),
        caveats=list(_caveats(before, after, first, second)),
    )


def _metric_change(name: str, change: Change, holds: bool) -> MetricChange:
    low, high = change.interval(_CONFIDENCE)
    return MetricChange(
        metric=name,
        before=change.before,
        after=change.after,
        change=change.quotient - 1,
        low=low - 1,
        high=high - 1,
        p_value=change.p_value(),
        holds=holds,
        effect=change.effect,
    )


def _cores_at_stake(cpi: MetricChange | None, cores: MetricChange | None) -> float:
    """CPU time that surely went to a higher CPI, or was saved by a lower one, or was used more or less."""
    if cores is None:
        return 0
    at_stake = abs(_nearer(cores)) * cores.before
    if cpi is not None:
        by_cpi = _nearer(cpi)
        at_stake = max(at_stake, abs(by_cpi / (1 + by_cpi)) * cores.after)
    return at_stake


def _nearer(change: MetricChange) -> float:
    """The end of the interval that is nearer to no change; 0 if that lies within."""
    return max(change.low, 0) + min(change.high, 0)


def _side(recording: Recording, slices: Slices) -> Side:
    return Side(
        directory=recording.places[0],
        runs=[str(manifest.run_id) for manifest in recording.manifests],
        nodes=recording.nodes,
        start=recording.shown(recording.span.start),
        end=recording.shown(recording.span.end),
        seconds=float(slices.wall_ns.sum()) / 1e9,
        cores=sum(slices.cores.values()),
    )


def _lone(slices: Slices, common: Set[str]) -> list[LoneWorkload]:
    lone = [
        LoneWorkload(
            name=workload, cgroups=len(slices.cgroups[workload]), containers=slices.cgroups[workload], cores=cores
        )
        for workload, cores in slices.cores.items()
        if workload not in common
    ]
    return sorted(lone, key=lambda one: (-one.cores, one.name))


def _caveats(before: Recording, after: Recording, first: Slices, second: Slices) -> Iterator[Caveat]:
    of_both = list(_caveats_of(before, first)), list(_caveats_of(after, second))
    for caveat in dict.fromkeys(itertools.chain(*of_both)):
        sides = " and ".join(side for side, caveats in zip("AB", of_both, strict=True) if caveat in caveats)
        yield Caveat(id=caveat.id, text=f"{sides}: {caveat.text}")
    waits = [slices.measured("cpu_time_with_waits_ns") for slices in (first, second)]
    if any(waits) and not all(waits):
        yield Caveat(
            id="no-waits", text=f"{'AB'[waits.index(False)]}: no waits were recorded, so they are not compared"
        )
    if _same_rows(before, after):
        yield Caveat(id="overlap", text="A and B have rows in common: changes seem less than they are")
    for id_, what, of in _CIRCUMSTANCES:
        values = [
            ", ".join(sorted({text for manifest in recording.manifests if (text := of(manifest))}))
            for recording in (before, after)
        ]
        if all(values) and values[0] != values[1]:
            yield Caveat(id=id_, text=f"not the same {what}: {values[0]} in A, {values[1]} in B")


def _caveats_of(recording: Recording, slices: Slices) -> Iterator[Caveat]:
    """Of one side."""
    for column, caveat in _COUNTERS.items():
        if any(metric.column == column and not metric.measured(slices) for metric in METRICS):
            yield Caveat(id=caveat, text=f"{column} not counted{_why_missing(recording.manifests, column)}")
    if round(slices.wall_ns.sum() / 1e9) < _SHORT_SECONDS:
        yield Caveat(
            id="too-little-data",
            text=f"shorter than {_SHORT_SECONDS} s, so that nothing is known of what changes more slowly",
        )
    if not recording.manifests:
        yield Caveat(id="no-manifest", text="no manifest was found: ticks of 1 ms and windows of 60 are assumed")
    yield from incomplete(recording)


def _why_missing(manifests: Sequence[Manifest], column: str) -> str:
    """What the manifests say of it, as the end of a sentence."""
    reasons = {
        event.reason_missing
        for manifest in manifests
        for event in manifest.events
        # Nothing is compared of cycles and misses but by instruction.
        if event.column in (column, "instructions") and event.reason_missing
    }
    return f": {'; '.join(sorted(reasons))}" if reasons else ""


def _same_rows(before: Recording, after: Recording) -> bool:
    runs = [{manifest.run_id for manifest in recording.manifests} for recording in (before, after)]
    return bool(runs[0] & runs[1]) and before.span.start < after.span.end and after.span.start < before.span.end


def _events(manifest: Manifest) -> str:
    return " ".join(f"{event.column}={event.spec}" for event in manifest.events)


# What should be the same in both, if the workloads alone are to be compared.
_CIRCUMSTANCES: Final[tuple[tuple[str, str, Callable[[Manifest], str | None]], ...]] = (
    ("processor", "processor", lambda manifest: manifest.host.cpu_model),
    ("cpus", "number of CPUs", lambda manifest: str(len(manifest.host.online_cpus))),
    ("kernel", "kernel", lambda manifest: manifest.host.kernel_release),
    ("events", "events", _events),
)
