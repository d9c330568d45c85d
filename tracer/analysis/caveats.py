# SPDX-License-Identifier: Apache-2.0
"""What could have hidden something, or bears on how sure one can be."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import polars as pl

from tracer.analysis.cpu_map import cpu_map
from tracer.analysis.findings import Basis, Caveat, TimeSpent
from tracer.analysis.interference.model import Fitted
from tracer.analysis.moments import moment_text
from tracer.analysis.recording import Recording
from tracer.analysis.roster import Roster
from tracer.analysis.wording import percent

_COUNTERS = {"cycles": "no-cycles", "instructions": "no-instructions", "llc_misses": "no-llc-counter"}
_NOT_COUNTED = " was not counted"
_LOSSES = ("lost_ring_full", "lost_no_ring", "lost_malformed")
_MESSAGES_LOST = {
    "external_messages_dropped": "more were thrown away, as they were too many",
    "external_values_dropped": "values had no room",
    "external_messages_malformed": "could not be read",
    "external_messages_late": "had a time of their own that was too far away",
}
_GOOD_COVERAGE = 0.95
_GOOD_KNOWLEDGE = 0.9
_MUCH_UNKNOWN = 0.01
_SHORT = timedelta(seconds=30)


def caveats(recording: Recording, roster: Roster, *, basis: Basis, models: Sequence[Fitted]) -> list[Caveat]:
    """All that apply, the gravest first."""
    return [
        *_missing_counters(recording, roster),
        *_too_little(recording, roster, basis, models),
        *incomplete(recording),
        *_unclear(recording, basis),
    ]


def said_once(caveats: Sequence[Caveat]) -> list[str]:
    """Their texts; counters that are missing for the same reason are one sentence."""
    missing: dict[str, list[str]] = {}
    texts: list[str] = []
    for caveat in caveats:
        column, found, why = caveat.text.partition(_NOT_COUNTED)
        if caveat.id in _COUNTERS.values() and found:
            missing.setdefault(why, []).append(column)
        else:
            texts.append(caveat.text)
    counters = [
        f"{', '.join(columns[:-1])} and {columns[-1]} were not counted{why}"
        if len(columns) > 1
        else f"{columns[0]}{_NOT_COUNTED}{why}"
        for why, columns in missing.items()
    ]
    return [*counters, *texts]


def _missing_counters(recording: Recording, roster: Roster) -> Iterator[Caveat]:
    for column, caveat in _COUNTERS.items():
        if roster.containers[column].null_count() == roster.containers.height:
            reasons = {
                event.reason_missing
                for manifest in recording.manifests
                for event in manifest.events
                if event.column == column and event.reason_missing
            }
            why = f": {sorted(reasons)[0]}" if reasons else ""
            yield Caveat(id=caveat, text=f"{column}{_NOT_COUNTED}{why}")
    coverage = roster.containers["coverage"].drop_nulls()
    if len(coverage) and (mean := float(coverage.mean() or 0)) < _GOOD_COVERAGE:  # type: ignore[arg-type]
        yield Caveat(
            id="coverage",
            text=f"the counters counted {percent(mean)} of the CPU time: where they took turns, short bursts are "
            "blurred, and CPUs on which they did not count (see the manifest) are missing from sums",
        )


def _too_little(recording: Recording, roster: Roster, basis: Basis, models: Sequence[Fitted]) -> Iterator[Caveat]:
    if roster.containers.height < 2:
        yield Caveat(
            id="no-neighbours", text="nobody else ran: everything is in one cgroup, whose parts are not told apart"
        )
    length = recording.recorded_time()
    if length < _SHORT and not (basis == "cpu-time" and recording.has("waits")):
        yield Caveat(
            id="too-little-data", text=f"only {length.total_seconds():.1f} s were recorded; a minute is better"
        )
    elif basis != "cpu-time" and not models:
        yield Caveat(id="too-little-data", text="nobody ran long enough to be compared with others")


def wait_caveats(recording: Recording, spent: Sequence[TimeSpent]) -> Iterator[Caveat]:
    """What bears on how much was waited."""
    if not spent:
        return
    if not _weights(recording) and any(one.behind_others_ns for one in spent):
        yield Caveat(
            id="no-weights",
            text="no cpu.weight was recorded: for a fair share of the CPUs, all are taken to have the same",
        )
    if any(one.throttling == "by-second" and one.throttled_ns for one in spent):
        yield Caveat(
            id="throttling-by-second",
            text="throttling was not told at each wait: waiting for an idle CPU in seconds with throttling is taken "
            "for it, and what a throttled container waited behind others is an upper bound",
        )
    if any(one.throttling == "unknown" for one in spent):
        yield Caveat(
            id="throttling-unknown",
            text="throttling was not told at each wait, nor by cpu.stat: it is part of what is told of others and of "
            "idle CPUs",
        )
    if all(one.stolen_ns is None for one in spent):
        yield Caveat(
            id="no-stolen-time",
            text="what the hypervisor and interrupts took could not be told: it is part of what containers ran",
        )
    unknown_ns, wait_ns = sum(one.unknown_ns for one in spent), sum(one.wait_ns for one in spent)
    if unknown_ns > _MUCH_UNKNOWN * wait_ns:
        yield Caveat(
            id="unknown-holders",
            text=f"of {percent(unknown_ns / wait_ns)} of all waiting nobody knows behind whom it was",
        )
    if recording.has("health"):
        unknown = recording.collect(recording.scan("health").select(pl.sum("waits_unknown"))).item() or 0
        waits = sum(one.waits for one in spent)
        if unknown > _MUCH_UNKNOWN * (waits + unknown):
            yield Caveat(
                id="unknown-waits",
                text=f"{unknown:,} waits could not be followed ({percent(unknown / (waits + unknown))}): who waited, "
                "waited longer than is told",
            )


def latency_caveats(recording: Recording) -> Iterator[Caveat]:
    """What bears on what services measured themselves."""
    if not (recording.has("external") and recording.has("health")):
        return
    counts = recording.collect(recording.scan("health").select(pl.sum("external_messages", *_MESSAGES_LOST)))
    read, *lost = (count or 0 for count in counts.row(0))
    if any(lost):
        told = ", ".join(
            f"{count:,} {what}" for count, what in zip(lost, _MESSAGES_LOST.values(), strict=True) if count
        )
        yield Caveat(
            id="external-loss", text=f"of what services sent, {read:,} messages were read; not all was kept: {told}"
        )


def _weights(recording: Recording) -> int:
    counts = [
        recording.collect(recording.scan(table).select(pl.col("cpu_weight").count())).item()
        for table in ("lifecycle", "resources")
        if recording.has(table)
    ]
    return sum(counts)


def incomplete(recording: Recording) -> Iterator[Caveat]:
    """What of the recording is missing: other runs, files that were not read, the end of a run, lost records, gaps."""
    for choice in recording.choices:
        yield Caveat(id="other-runs", text=choice)
    for note in recording.notes:
        yield Caveat(id="files", text=note)
    for manifest in recording.manifests:
        if manifest.status != "finished":
            how = {
                "crashed": "was killed: its last second is missing",
                "running": "is running, or was killed (`tracer recover` has its last rows): they are missing here",
                "failed": "failed: its last rows may be missing",
            }
            text = f"run {manifest.run_id.hex[:8]} on {manifest.host.node_name} {how[manifest.status]}"
            yield Caveat(id="unfinished-run", text=text)
        for gap in manifest.left_out:
            until = "the end" if gap.end is None else gap.end.utc[:19]
            text = f"{gap.what} from {gap.start.utc[:19]} to {until} UTC on {manifest.host.node_name}: {gap.reason}"
            yield Caveat(id="left-out", text=text)
        for step in manifest.clock.steps:
            if step.step_ns < 0:
                set_at = datetime.fromtimestamp(step.anchor.anchor_realtime_ns // 10**9, UTC)
                yield Caveat(
                    id="clock-set-back",
                    text=f"the clock of {manifest.host.node_name} was set back by {-step.step_ns / 1e9:.3f} s, to "
                    f"{moment_text(recording.shown(set_at))}: so much time is there twice, and what ran one after the "
                    "other in it looks as if it ran at once (--since and --until leave it out)",
                )
    if recording.has("health"):
        lost = recording.scan("health").select(
            pl.sum_horizontal(pl.col(_LOSSES)).sum().alias("lost"), pl.sum("records")
        )
        count, records = recording.collect(lost).row(0)
        if count:
            yield Caveat(
                id="loss",
                text=f"{count:,} of {count + records:,} records were lost ({percent(count / (count + records))})",
            )
    for node_name in recording.nodes:
        for before, after in pairwise(recording.recorded(node_name)):
            yield Caveat(
                id="gap",
                text=f"nothing from {node_name} between {moment_text(recording.shown(before.end))} and "
                f"{moment_text(recording.shown(after.start))}",
            )


def _unclear(recording: Recording, basis: Basis) -> Iterator[Caveat]:
    if basis == "windows":
        yield Caveat(
            id="windows-only",
            text="from windows of some 60 ms: losses below some 7 % are not told from shared load, nor how long bursts "
            "are (--ticks records both)",
        )
    for node_name in recording.nodes:
        if basis != "cpu-time" and not cpu_map(recording.manifests, node_name, 1).is_known:
            yield Caveat(
                id="unknown-topology",
                text=f"no manifest says which CPUs of {node_name} share a cache: all are taken to share one",
            )
    if not recording.manifests:
        yield Caveat(id="no-manifest", text="no manifest was found: ticks of 1 ms and windows of 60 are assumed")
    if any(manifest.source == "simulation" for manifest in recording.manifests):
        yield Caveat(id="simulation", text="this node was simulated")
