# SPDX-License-Identifier: Apache-2.0
"""From what a run of the tracer recorded to what pausing the suspect did."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from tracer.analysis.recording import Recording
from tracer.experiment.naming import Place
from tracer.experiment.outcome import Effect, Interval, Kind, Side, Verdict
from tracer.experiment.randomisation import Difference, Slots, difference
from tracer.experiment.schedule import LEAST_BLOCKS, Schedule

# That all intervals of one experiment hold.
ALL_HOLD = 0.95
# Of the victim's time or cycles: a suspect that costs no more than this is no culprit, even if it is sure that it costs
# something; nor is one that costs no more than the other, if it may as well be nothing.
_NEXT_TO_NOTHING = 0.01
_LITTLE = 0.05
# Of a CPU. Whoever runs less than this can hardly be paused.
_HARDLY_RAN = 0.005
# Of its CPU time in other slots.
_NOT_PAUSED = 0.5

_SUMS = ("cpu_time_ns", "wait_time_ns", "cycles", "instructions")
_FRACTIONS: dict[Kind, tuple[str, str]] = {
    "waiting": ("wait_time_ns", "cpu_time_ns"),
    "cpi": ("cycles", "instructions"),
}

Ints = npt.NDArray[np.int64]


class Measured(NamedTuple):
    """Of the victim or the suspect, by name of column, a value for each block: in pauses, and in other slots."""

    paused: dict[str, npt.NDArray[np.float64]]
    other: dict[str, npt.NDArray[np.float64]]
    has_counters: bool
    slot_ns: int

    def side(self, place: Place) -> Side:
        """As it is told."""
        paused, other = (
            float(sums["cpu_time_ns"].mean()) / self.slot_ns if len(sums["cpu_time_ns"]) else 0.0
            for sums in (self.paused, self.other)
        )
        return Side(**msgspec.structs.asdict(place.named), cpus_paused=paused, cpus_otherwise=other)


def measure(
    recording: Recording, place: Place, schedule: Schedule, blocks: int, *, start_ns: int, tick_ns: int
) -> Measured:
    """What a cgroup and all below it did in the slots of the first `blocks`; `start_ns` as in `Schedule.slots`."""
    is_there = (pl.col("cgroup_path") == place.cgroup.path) | pl.col("cgroup_path").str.starts_with(
        f"{place.cgroup.path}/"
    )
    # On a CPU that counts only one of the two, neither belongs to the other's.
    counted = pl.col("cycles").is_not_null() & (pl.col("instructions") > 0)
    rows = recording.collect(
        recording.scan("windows")
        .filter(is_there)
        .select(
            ((pl.col("window_tick").cast(pl.Int64) * tick_ns - start_ns) // schedule.window_ns).alias("number"),
            *("cpu_time_ns", "wait_time_ns"),
            *(pl.when(counted).then(name).alias(name) for name in ("cycles", "instructions")),
        )
        .filter(pl.col("number").is_between(0, 2 * schedule.blocks * schedule.half_windows, closed="left"))
        .group_by("number")
        .agg(pl.sum(*_SUMS), counted.any().alias("counted"))
    )
    paused, other = schedule.measured(blocks)
    return Measured(
        paused=_by_block(rows, schedule, paused),
        other=_by_block(rows, schedule, other),
        has_counters=bool(rows["counted"].any()),
        slot_ns=paused.shape[1] * schedule.window_ns,
    )


def _by_block(rows: pl.DataFrame, schedule: Schedule, windows: Ints) -> dict[str, npt.NDArray[np.float64]]:
    sums = {}
    for name in _SUMS:
        # No row: it neither ran nor waited.
        by_window = np.zeros(2 * schedule.blocks * schedule.half_windows)
        by_window[rows["number"].to_numpy()] = rows[name].to_numpy()
        sums[name] = by_window[windows].sum(axis=1)
    return sums


def judge(
    victim: Measured, suspect: Measured, *, no_counters: str | None, generator: np.random.Generator
) -> tuple[list[Effect], float]:
    """The effects, and the confidence of each interval. `no_counters` says why there are none, if there are none."""
    kinds: list[Kind] = ["waiting", "cpi"] if victim.has_counters else ["waiting"]
    confidence = 1 - (1 - ALL_HOLD) / len(kinds)
    vain = _why_in_vain(victim, suspect)
    effects = [_effect(kind, victim, vain, confidence, generator) for kind in kinds]
    if not victim.has_counters:
        effects.append(_unknown("cpi", no_counters or "its cycles and instructions were not counted"))
    return effects, confidence


def _why_in_vain(victim: Measured, suspect: Measured) -> str | None:
    """Why nothing can be told from it, whatever the difference is."""
    blocks = len(victim.paused["cpu_time_ns"])
    if blocks < LEAST_BLOCKS:
        return f"there were only {blocks} pauses"
    paused, other = (sums["cpu_time_ns"].mean() / suspect.slot_ns for sums in (suspect.paused, suspect.other))
    if other < _HARDLY_RAN:
        return "the suspect hardly ran meanwhile, so that pausing it could show nothing"
    if paused > _NOT_PAUSED * other:
        return "the suspect ran in the pauses as well"
    return None


def _effect(
    kind: Kind, victim: Measured, vain: str | None, confidence: float, generator: np.random.Generator
) -> Effect:
    numerator, denominator = _FRACTIONS[kind]
    paused, other = (Slots(sums[numerator], sums[denominator]) for sums in (victim.paused, victim.other))
    if math.isnan(paused.ratio) or math.isnan(other.ratio):
        return _unknown(kind, "the victim did not run in the pauses, or not without them")
    found = difference(paused, other, confidence, generator)
    base = other.ratio + (1 if kind == "waiting" else 0)
    value, low, high = (one / base if base else math.nan for one in (found.value, found.low, found.high))
    share = Difference(value, low, high, found.p_value)
    verdict, reason = _verdict(share, vain)
    return Effect(
        kind=kind,
        verdict=verdict,
        reason=reason,
        paused=paused.ratio,
        otherwise=other.ratio,
        difference=_interval(found),
        share=_interval(share),
        p_value=found.p_value,
    )


def _verdict(share: Difference, vain: str | None) -> tuple[Verdict, str | None]:
    if vain is not None:
        return "unknown", vain
    if share.high <= (_LITTLE if share.low <= 0 else _NEXT_TO_NOTHING):
        return "refuted", None
    if share.low > 0:
        return "proved", None
    if math.isinf(share.high):
        return "unknown", "there were too few pauses"
    return "unknown", f"anything up to {share.high:.0%} would have looked like this; a longer --duration tells more"


def _unknown(kind: Kind, reason: str) -> Effect:
    return Effect(
        kind=kind,
        verdict="unknown",
        reason=reason,
        paused=None,
        otherwise=None,
        difference=None,
        share=None,
        p_value=None,
    )


def _interval(found: Difference) -> Interval:
    low, high = (None if math.isinf(bound) or math.isnan(bound) else bound for bound in (found.low, found.high))
    return Interval(value=found.value, low=low, high=high)


def counters_missing(recording: Recording) -> str | None:
    """Why cycles or instructions were not counted; None if they were."""
    reasons: Sequence[str] = [
        event.reason_missing
        for manifest in recording.manifests
        for event in manifest.events
        if event.column in ("cycles", "instructions") and event.reason_missing is not None
    ]
    return reasons[0] if reasons else None
