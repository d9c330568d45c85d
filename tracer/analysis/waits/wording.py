# SPDX-License-Identifier: Apache-2.0
"""Waiting in words. Shares are of the recorded time: a task that waits all the time makes 100 %."""

from collections.abc import Sequence

from tracer.analysis.findings import TimeSpent
from tracer.analysis.moments import Times
from tracer.analysis.waits.spent import is_held_back
from tracer.analysis.wording import name_of, percent, when_text

_MOST_HOLDERS = 2
# Of the wait: less is left out of the sentence.
_LEAST_PART = 0.05
# Of the wait: then it is on that CPU.
_ONE_CPU = 0.8
# Of the wait behind others.
_ALMOST_ALL = 0.5
# Of what held it back.
_MAIN_CULPRIT = 0.25


def waiting_sentences(spent: TimeSpent, nodes: Sequence[str], times: Times) -> str:
    """How long it was ready but not running, behind whom, when, and whether that was its fair share."""
    name = name_of(spent.container, nodes)
    wait = spent.wait_ns / spent.time_ns
    # More than one task at a time is no share of the time any more.
    if wait <= 1:
        first = f"{name} was ready but not running {percent(wait)} of the time"
        parts = [f"{percent(share)} {text}" for share, text in _parts(spent)]
    else:
        first = f"{name} had {wait:.1f} tasks ready but not running on average"
        parts = [f"{share:.1f} {text}" for share, text in _parts(spent)]
    if spent.cpus and spent.cpus[0].share >= _ONE_CPU:
        first += f" on CPU {spent.cpus[0].cpu}"
    when = when_text(spent.bursts, None, spent.time_ranges, times)
    if spent.bursts is None and spent.waits:
        when = f", {spent.wait_ns / spent.waits / 1e6:.2g} ms at a time{when}"
    return f"{first}: {', '.join(parts)}{when}.{_judgement(spent)}"


def culprits(spent: TimeSpent) -> list[str]:
    """Who held it back most, the worst first."""
    least = _MAIN_CULPRIT * spent.held_back_ns
    held = [(one.held_back_ns, one.container) for one in spent.holders if one.container is not None]
    worst = sorted((one for one in held if one[0] and one[0] >= least), key=lambda one: -one[0])
    return [container.name for _ns, container in worst]


def _parts(spent: TimeSpent) -> list[tuple[float, str]]:
    """Shares of the time, and what each was, without trifles."""
    behind = [(one.wait_ns, one.container.name) for one in spent.holders if one.container is not None]
    named = [one for one in behind[:_MOST_HOLDERS] if one[0] >= _LEAST_PART * spent.wait_ns]
    parts = [(wait_ns, f"behind {name}") for wait_ns, name in named]
    rest_ns = spent.behind_others_ns - sum(wait_ns for wait_ns, _name in named)
    parts += [
        (rest_ns, "behind others"),
        (spent.behind_self_ns, "behind its own threads"),
        (spent.throttled_ns, "throttled by its own limit"),
        (spent.idle_ns, "while its CPU was idle"),
        (spent.unknown_ns, "behind nobody knows whom"),
    ]
    return [(part / spent.time_ns, text) for part, text in parts if part >= _LEAST_PART * spent.wait_ns]


def _judgement(spent: TimeSpent) -> str:
    found = " and ".join(culprits(spent))
    if is_held_back(spent) and found:
        if spent.held_back_ns >= _ALMOST_ALL * spent.behind_others_ns:
            return f" It got less than its share because of {found}."
        held_back = percent(spent.held_back_ns / spent.behind_others_ns)
        return f" {held_back} of that because {found} had more CPU time for its weight; the rest was its fair share."
    if spent.cause == "fair-share":
        return " That was its fair share: for its weight, it had as much CPU time as those that it waited for."
    if spent.cause == "several":
        return " That was little, and behind several."
    return ""
