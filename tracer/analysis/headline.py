# SPDX-License-Identifier: Apache-2.0
"""The finding in words: a report's first lines."""

from collections.abc import Iterator, Sequence
from typing import Final

from tracer.analysis.findings import Activity, Basis, Joint, TimeSpent, Victim
from tracer.analysis.moments import Times
from tracer.analysis.waits.spent import LEAST_WAIT, cost_ns, is_root, waited_most
from tracer.analysis.waits.wording import waiting_sentences
from tracer.analysis.wording import joint_sentences, percent, pressure_sentences, victim_sentences

_MOST_LINES: Final = 3
_MUCH_STOLEN: Final = 0.05


def from_waits(
    spent: Sequence[TimeSpent],
    victims: Sequence[Victim],
    joint: Sequence[Joint],
    activity: Sequence[Activity],
    nodes: Sequence[str],
    times: Times,
    *,
    caches: Sequence[str],
) -> list[str]:
    """Where waits were recorded: who lost most time by waiting or in caches, the most first.

    `caches` is as for `without_waits`.
    """
    found = [*_waited(spent, nodes, times), *_lost(victims, nodes, times)]
    lines = [line for _is_root, _cost, line in sorted([*found, *_stolen(spent)])]
    if not found and not joint:
        lines.append(
            "No container got less than its share of the CPUs because of another, and none ran into its limit."
        )
        if (most := waited_most(spent)) is not None:
            lines.append(waiting_sentences(most, nodes, times))
    elif len(lines) > _MOST_LINES:
        lines[_MOST_LINES:] = [f"Who else lost time is listed below: {len(lines) - _MOST_LINES} more."]
    lines += [*_together(joint, nodes), *caches]
    told = {one.container.node_name for one in spent}
    # Waiting for memory and I/O, if there is nothing worse, and all of it of nodes without waits.
    return [
        *lines,
        *pressure_sentences([one for one in activity if not found or one.container.node_name not in told], nodes),
    ]


def _stolen(spent: Sequence[TimeSpent]) -> Iterator[tuple[bool, float, str]]:
    """As `_waited`, where it was much of all CPU time; and from whom most."""
    told = [one for one in spent if one.stolen_ns is not None]
    stolen_ns = sum(one.stolen_ns or 0 for one in told)
    used_ns = stolen_ns + sum(one.ran_ns for one in told)
    if stolen_ns >= _MUCH_STOLEN * used_ns > 0:
        worst = max(told, key=lambda one: one.stolen_ns or 0)
        share = percent((worst.stolen_ns or 0) / max(worst.ran_ns + (worst.stolen_ns or 0), 1))
        yield (
            False,
            -stolen_ns,
            (
                f"The hypervisor and interrupts took {percent(stolen_ns / used_ns)} of the CPU time (steal), most "
                f"from {worst.container.name} ({share} of its own)."
            ),
        )


def _waited(spent: Sequence[TimeSpent], nodes: Sequence[str], times: Times) -> Iterator[tuple[bool, float, str]]:
    """To be sorted: the most time first, and the kernel's own threads last."""
    for one in spent:
        if cost_ns(one) >= LEAST_WAIT * one.time_ns:
            yield is_root(one), -cost_ns(one), waiting_sentences(one, nodes, times)


def _lost(victims: Sequence[Victim], nodes: Sequence[str], times: Times) -> Iterator[tuple[bool, float, str]]:
    """As `_waited`."""
    for victim in victims:
        for lost_ns, line in victim_sentences([victim], nodes, times):
            yield victim.container.name == "/", -lost_ns, line


def _together(joint: Sequence[Joint], nodes: Sequence[str]) -> list[str]:
    """A kind of answer of its own, however small: the most time first."""
    return [line for _lost_ns, line in sorted(joint_sentences(joint, nodes), reverse=True)[:_MOST_LINES]]


def without_waits(
    victims: Sequence[Victim],
    joint: Sequence[Joint],
    activity: Sequence[Activity],
    basis: Basis,
    nodes: Sequence[str],
    times: Times,
    *,
    busy: float,
    caches: Sequence[str],
) -> list[str]:
    """Where no waits were recorded: who lost cycles to whom; else what CPU time, limits and pressure tell.

    `caches` is what to say of all else that was looked at: that nobody was found to lose cycles, what cannot be told.
    """
    if victims or joint:
        found = sorted(victim_sentences(victims, nodes, times), reverse=True)
        lines = [line for _lost_ns, line in found[:_MOST_LINES]]
        more = len(found) - len(lines)
        # Not always smaller ones: what is sure comes first.
        further = [f"{more} more losses are listed below."] if more else []
        return [*lines, *further, *_together(joint, nodes), *caches]
    waiting = pressure_sentences(activity, nodes)
    if caches:
        return [*caches, *waiting]
    if basis == "cpu-time":
        first = (
            "Whether anybody slowed down another in caches or memory cannot be told: the counters for it are missing."
        )
    else:
        first = "Whether anybody slowed down another cannot be told: there is too little to compare."
    if not waiting:
        waiting = [f"The CPUs were {percent(busy)} busy, and no container is known to have waited for them much."]
    return [first, *waiting]
