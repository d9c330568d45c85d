# SPDX-License-Identifier: Apache-2.0
"""Waiting in words: in the run queue, behind others or its own threads, or throttled by a limit.

Shares are of the recorded time: a task that waits all the time makes 100 %.
"""

from collections.abc import Sequence

from tracer.analysis.findings import TimeSpent
from tracer.analysis.moments import Times
from tracer.analysis.waits.spent import LEAST_WAIT, cost_ns, is_held_back
from tracer.analysis.wording import in_words, percent, subject, time_text, when_text

_MOST_HOLDERS = 2
# Of the wait: less is left out of the sentence.
_LEAST_PART = 0.05
# Of the wait: then it is on that CPU.
_ONE_CPU = 0.8
# Of what held it back.
_MAIN_CULPRIT = 0.25


def waiting_sentences(spent: TimeSpent, nodes: Sequence[str], times: Times) -> str:
    """What it lost to whom, how long it waited behind whom, when, and whether that was its fair share."""
    name = subject(spent.container, nodes)
    wait = spent.wait_ns / spent.time_ns
    is_throttled = spent.throttled_ns >= _LEAST_PART * spent.wait_ns
    where = "in the run queue or throttled" if is_throttled else "in the run queue"
    # More than one task at a time is no share of the time any more.
    if wait <= 1:
        waited = f"waited {where} {percent(wait)} of the time"
        parts = [f"{percent(share)} {text}" for share, text in _parts(spent)]
    else:
        waited = f"had {wait:.1f} tasks {where} on average"
        parts = [f"{share:.1f} {text}" for share, text in _parts(spent)]
    if spent.cpus and spent.cpus[0].share >= _ONE_CPU:
        waited += f" on CPU {spent.cpus[0].cpu}"
    when = when_text(spent.bursts, None, spent.time_ranges, times)
    if spent.bursts is None and spent.waits:
        when = f", {spent.wait_ns / spent.waits / 1e6:.2g} ms at a time{when}"
    told = f"{waited}, {', '.join(parts)}{when}."
    if found := takers(spent):
        lost_ns = cost_ns(spent)
        share = percent(lost_ns / spent.time_ns)
        return f"{name} lost {time_text(lost_ns)} ({share} of its time) to {' and '.join(map(in_words, found))}: {told}"
    return f"{name} {told}{_judgement(spent)}"


def takers(spent: TimeSpent) -> list[str]:
    """Who and what took from it the time that it lost; nobody if that was little."""
    if cost_ns(spent) < LEAST_WAIT * spent.time_ns:
        return []
    others = culprits(spent) or ["several others"] if is_held_back(spent) else []
    by_limit = ["its own CPU limit"] if spent.throttled_ns >= _LEAST_PART * spent.wait_ns else []
    return [*others, *by_limit] if spent.held_back_ns >= spent.throttled_ns else [*by_limit, *others]


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
    parts = [(wait_ns, f"behind {in_words(name)}") for wait_ns, name in named]
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
    if spent.cause == "fair-share":
        return " That was its fair share: for its weight, it had as much CPU time as those that it waited for."
    if spent.cause == "several":
        return " That was little, and behind several."
    return ""
