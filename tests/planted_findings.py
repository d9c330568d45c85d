# SPDX-License-Identifier: Apache-2.0
"""Reports whose findings are what a test says."""

from collections.abc import Sequence
from typing import Any

from tracer.analysis.findings import (
    Aggressor,
    Bursts,
    Caveat,
    Container,
    Estimate,
    Explanation,
    NoisyAndQuiet,
    Report,
    TimeRange,
    Victim,
)
from tracer.analysis.recording import Recording
from tracer.analysis.roster import Roster

# Victim, aggressor, share of the victim's cycles that was lost.
Loss = tuple[str, str, float]


def report_of(recording: Recording, losses: Sequence[Loss] = (), **given: Any) -> Report:
    """The report that says so; containers by their labels, of which the recording has one each."""
    roster = Roster(recording)
    members = (roster.container(member) for member in range(roster.containers.height))
    containers = {container.name: container for container in members}
    aggressors: dict[str, list[Aggressor]] = {}
    for victim, aggressor, share in losses:
        aggressors.setdefault(victim, []).append(_aggressor(containers[aggressor], share, recording))
    return Report(
        **{
            "basis": "windows",
            "start": recording.span.start,
            "end": recording.span.end,
            "recorded_seconds": recording.recorded_time().total_seconds(),
            "nodes": recording.nodes,
            "headline": [f"{victim} lost {share:.0%} to {other}" for victim, other, share in losses] or ["nothing"],
            "victims": [_victim(containers[name], found) for name, found in aggressors.items()],
            "activity": [],
            "containers_examined": len(containers),
            "pairs_tested": 12,
            "caveats": [Caveat(id="coverage", text="the counters ran for 98 % of the time")],
        }
        | given
    )


def _estimate(value: float) -> Estimate:
    return Estimate(value=value, low=value * 0.9, high=value * 1.2)


def _aggressor(container: Container, share: float, recording: Recording) -> Aggressor:
    start, end = recording.span
    return Aggressor(
        container=container,
        lost_cycles=_estimate(share * 1e9),
        lost_share=_estimate(share),
        share_of_loss=0.8,
        confidence=0.999,
        correlation=0.5,
        delay_ticks=2,
        traffic_bytes_per_second=3e9,
        bursts=Bursts(count=1412, short_ms=5, median_ms=17, long_ms=40),
        time_ranges=[TimeRange(start=start + (end - start) * 0.25, end=start + (end - start) * 0.75, share=0.8)],
    )


def _victim(container: Container, aggressors: list[Aggressor]) -> Victim:
    return Victim(
        container=container,
        cpu_time_ns=10**9,
        cycles=10**9,
        instructions=7 * 10**8,
        cpi=1.4,
        lost_cycles=_estimate(sum(aggressor.lost_cycles.value for aggressor in aggressors)),
        lost_share=_estimate(sum(aggressor.lost_share.value for aggressor in aggressors)),
        noisy_and_quiet=NoisyAndQuiet(noisy_cpi=2.2, quiet_cpi=1.4, ratio=2.2 / 1.4),
        aggressors=aggressors,
        other_explanations=[Explanation(kind="throttling", verdict="no", value=0.0, text="it was not throttled")],
    )
