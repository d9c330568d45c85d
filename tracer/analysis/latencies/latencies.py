# SPDX-License-Identifier: Apache-2.0
"""Each service's own latencies, and whether they were longer beside others: `docs/analysis.md` has the rules."""

from collections.abc import Iterator, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from tracer.analysis.findings import Container, Latency, LatencyBeside, TimeSpent, Victim, WaitHolder
from tracer.analysis.latencies.quantiles import Groups, difference, quantile
from tracer.analysis.latencies.reading import Metric, all_values, metrics, while_missing, while_waiting
from tracer.analysis.recording import Recording
from tracer.analysis.roster import Roster

P99: Final = 0.99
_P90: Final = 0.9
# In each of both groups: of fewer than the first, the 99th percentile is one of the few largest.
_FEWEST_FOR_P99: Final = 500
_FEWEST: Final = 50
_FEWEST_CLUSTERS: Final = 10
# A rise by less is not worth a sentence.
_LEAST_RISE: Final = 1.2
_MOST_HOLDERS: Final = 3
# Of its time: behind whom it waited less is not looked at.
_LEAST_WAIT: Final = 0.002


class _Pair(NamedTuple):
    metric: int
    other: Container
    how: Literal["waiting", "cache"]
    groups: Groups


def latencies(
    recording: Recording, roster: Roster, spent: Sequence[TimeSpent], victims: Sequence[Victim]
) -> list[Latency]:
    """Of containers that were asked for; those that rose most come first, then those with the most values.

    Empty where nothing was ingested. Raises UsageError for a recording that cannot be read.
    """
    if not recording.has("external"):
        return []
    wanted = roster.containers.filter("is_wanted")["member"].to_list()
    known = metrics(recording, [roster.container(member) for member in wanted])
    waits = {_key(one.container): one for one in spent}
    lost = {_key(one.container): one for one in victims}
    pairs = [
        pair
        for number, metric in enumerate(known)
        for pair in _pairs(
            recording, number, metric, waits.get(_key(metric.container)), lost.get(_key(metric.container))
        )
    ]
    told = sum(_quantile_for(pair.groups) is not None for pair in pairs)
    found = [
        _latency(
            recording,
            metric,
            waits.get(_key(metric.container)),
            [_beside(pair, told) for pair in pairs if pair.metric == number],
        )
        for number, metric in enumerate(known)
    ]
    return sorted(found, key=lambda one: -max((rise(beside) for beside in one.beside), default=0.0))


def rise(beside: LatencyBeside) -> float:
    """How many times as long; 0 where it did not rise for sure."""
    if beside.verdict != "rose" or beside.during is None or beside.otherwise is None:
        return 0.0
    return beside.during / beside.otherwise if beside.otherwise else float("inf")


def _pairs(
    recording: Recording, number: int, metric: Metric, spent: TimeSpent | None, victim: Victim | None
) -> Iterator[_Pair]:
    for holder in [] if spent is None else _looked_at(spent):
        yield _Pair(number, holder, "waiting", while_waiting(recording, metric, holder))
    for aggressor in [] if victim is None else victim.aggressors[:_MOST_HOLDERS]:
        other = aggressor.container
        yield _Pair(number, other, "cache", while_missing(recording, metric, other))


def _key(container: Container) -> tuple[str, str, str | None]:
    return container.node_name, container.name, container.namespace


def _looked_at(spent: TimeSpent) -> list[Container]:
    def is_much(holder: WaitHolder) -> bool:
        return holder.wait_ns >= _LEAST_WAIT * spent.time_ns

    return [one.container for one in spent.holders if one.container is not None and is_much(one)][:_MOST_HOLDERS]


def _quantile_for(groups: Groups) -> float | None:
    """Which one can be told of both groups."""
    both = (groups.during, groups.otherwise)
    if any((group.sum(axis=1) > 0).sum() < _FEWEST_CLUSTERS for group in both):
        return None
    fewest = min(groups.independent)
    return P99 if fewest >= _FEWEST_FOR_P99 else _P90 if fewest >= _FEWEST else None


def _beside(pair: _Pair, looked_at: int) -> LatencyBeside:
    groups = pair.groups
    beside = LatencyBeside(
        container=pair.other,
        how=pair.how,
        verdict="unknown",
        quantile=None,
        during=None,
        otherwise=None,
        rise=None,
        values_during=float(groups.during.sum()),
        values_otherwise=float(groups.otherwise.sum()),
    )
    if (share := _quantile_for(groups)) is None:
        return beside
    during, otherwise = (
        quantile(groups.values, group.sum(axis=0), share) for group in (groups.during, groups.otherwise)
    )
    larger, is_sure = difference(groups, share, looked_at)
    return msgspec.structs.replace(
        beside,
        verdict="rose" if is_sure and during >= _LEAST_RISE * otherwise else "no",
        quantile=share,
        during=during,
        otherwise=otherwise,
        rise=larger,
    )


def _latency(recording: Recording, metric: Metric, spent: TimeSpent | None, beside: list[LatencyBeside]) -> Latency:
    values, counts = all_values(recording, metric)
    return Latency(
        container=metric.container,
        name=metric.name,
        kind=metric.kind,
        values=float(counts.sum()),
        p50=quantile(values, counts, 0.5),
        p99=quantile(values, counts, P99),
        waited_share=None if spent is None else spent.wait_ns / spent.time_ns,
        beside=beside,
    )
