# SPDX-License-Identifier: Apache-2.0
"""Each service's own latencies, and whether they were longer while it waited: `docs/analysis.md` has the rules."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from tracer.analysis.findings import Container, Latency, LatencyBehind, TimeSpent, WaitHolder
from tracer.analysis.latencies.quantiles import Groups, difference, quantile
from tracer.analysis.latencies.reading import Metric, all_values, metrics, waiting_and_quiet
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
    holder: Container
    groups: Groups


def latencies(recording: Recording, roster: Roster, spent: Sequence[TimeSpent]) -> list[Latency]:
    """Of containers that were asked for; those that rose most come first, then those with the most values.

    Empty where nothing was ingested. Raises UsageError for a recording that cannot be read.
    """
    if not recording.has("external"):
        return []
    wanted = roster.containers.filter("is_wanted")["member"].to_list()
    known = metrics(recording, [roster.container(member) for member in wanted])
    by_name = {_key(one.container): one for one in spent}
    pairs = [
        _Pair(number, holder, waiting_and_quiet(recording, metric, holder))
        for number, metric in enumerate(known)
        if (waits := by_name.get(_key(metric.container))) is not None
        for holder in _looked_at(waits)
    ]
    told = sum(_quantile_for(pair.groups) is not None for pair in pairs)
    found = [
        _latency(
            recording,
            metric,
            by_name.get(_key(metric.container)),
            [_behind(pair, told) for pair in pairs if pair.metric == number],
        )
        for number, metric in enumerate(known)
    ]
    return sorted(found, key=lambda one: -max((rise(behind) for behind in one.behind), default=0.0))


def rise(behind: LatencyBehind) -> float:
    """How many times as long; 0 where it did not rise for sure."""
    if behind.verdict != "rose" or behind.waiting is None or behind.quiet is None:
        return 0.0
    return behind.waiting / behind.quiet if behind.quiet else float("inf")


def _key(container: Container) -> tuple[str, str, str | None]:
    return container.node_name, container.name, container.namespace


def _looked_at(spent: TimeSpent) -> list[Container]:
    def is_much(holder: WaitHolder) -> bool:
        return holder.wait_ns >= _LEAST_WAIT * spent.time_ns

    return [one.container for one in spent.holders if one.container is not None and is_much(one)][:_MOST_HOLDERS]


def _quantile_for(groups: Groups) -> float | None:
    """Which one can be told of both groups."""
    both = (groups.waiting, groups.quiet)
    if any((group.sum(axis=1) > 0).sum() < _FEWEST_CLUSTERS for group in both):
        return None
    fewest = min(group.sum() for group in both)
    return P99 if fewest >= _FEWEST_FOR_P99 else _P90 if fewest >= _FEWEST else None


def _behind(pair: _Pair, looked_at: int) -> LatencyBehind:
    groups = pair.groups
    counts = {"values_waiting": float(groups.waiting.sum()), "values_quiet": float(groups.quiet.sum())}
    if (share := _quantile_for(groups)) is None:
        return LatencyBehind(
            container=pair.holder, verdict="unknown", quantile=None, waiting=None, quiet=None, rise=None, **counts
        )
    waiting, quiet = (quantile(groups.values, group.sum(axis=0), share) for group in (groups.waiting, groups.quiet))
    larger, is_sure = difference(groups, share, looked_at)
    return LatencyBehind(
        container=pair.holder,
        verdict="rose" if is_sure and waiting >= _LEAST_RISE * quiet else "no",
        quantile=share,
        waiting=waiting,
        quiet=quiet,
        rise=larger,
        **counts,
    )


def _latency(recording: Recording, metric: Metric, spent: TimeSpent | None, behind: list[LatencyBehind]) -> Latency:
    values, counts = all_values(recording, metric)
    return Latency(
        container=metric.container,
        name=metric.name,
        kind=metric.kind,
        values=float(counts.sum()),
        p50=quantile(values, counts, 0.5),
        p99=quantile(values, counts, P99),
        waited_share=None if spent is None else spent.wait_ns / spent.time_ns,
        behind=behind,
    )
