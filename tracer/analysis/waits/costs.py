# SPDX-License-Identifier: Apache-2.0
"""What others and limits cost, in CPU time and caches alike: in time, in one list."""

from collections.abc import Iterator, Sequence
from typing import Final

from tracer.analysis.findings import Cost, TimeSpent, Victim
from tracer.analysis.waits.spent import is_held_back

# Of the victim's time.
_LEAST_SHARE: Final = 0.005


def ranked_costs(spent: Sequence[TimeSpent], victims: Sequence[Victim]) -> list[Cost]:
    """The most time first; without what is less than half a per cent of the time."""
    times = {(one.container.node_name, one.container.name, one.container.namespace): one.time_ns for one in spent}
    found = [*_waits(spent), *_caches(victims, times)]
    return sorted((one for one in found if one.share_of_time >= _LEAST_SHARE), key=lambda one: -one.time_ns)


def _waits(spent: Sequence[TimeSpent]) -> Iterator[Cost]:
    for one in spent:
        for holder in one.holders if is_held_back(one) else ():
            if holder.container is not None:
                yield Cost(
                    container=one.container,
                    kind="waiting",
                    by=holder.container,
                    time_ns=holder.held_back_ns,
                    share_of_time=holder.held_back_ns / one.time_ns,
                )
        yield Cost(
            container=one.container,
            kind="throttling",
            by=None,
            time_ns=one.throttled_ns,
            share_of_time=one.throttled_ns / one.time_ns,
        )


def _caches(victims: Sequence[Victim], times: dict[tuple[str, str, str | None], int]) -> Iterator[Cost]:
    for victim in victims:
        who = victim.container
        time_ns = times.get((who.node_name, who.name, who.namespace))
        if time_ns is None:
            continue
        for aggressor in victim.aggressors:
            lost_ns = round(aggressor.lost_share.value * victim.cpu_time_ns)
            yield Cost(
                container=who,
                kind="cache",
                by=aggressor.container,
                time_ns=lost_ns,
                share_of_time=lost_ns / time_ns,
            )
