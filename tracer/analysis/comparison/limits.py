# SPDX-License-Identifier: Apache-2.0
"""Limits on changes, for use in CI: `cpi>5%`, `instructions_per_second<-10%`."""

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from tracer.analysis.comparison.changes import Change
from tracer.analysis.comparison.metrics import METRICS
from tracer.errors import UsageError
from tracer.suggestions import not_among

# The chance that noise alone exceeds any of the limits of one comparison.
LEVEL: Final = 0.05

_LIMIT: Final = re.compile(r"([a-z_]+)\s*([<>])\s*([+-]?[0-9]{1,9}(?:\.[0-9]{1,9})?)\s*%")


class Limit(NamedTuple):
    """The change of `metric` must not be beyond `factor`, upward or downward; `text` is as it was written."""

    text: str
    metric: str
    upward: bool
    factor: float


class Excess(msgspec.Struct, frozen=True, kw_only=True):
    """A workload that changed by more than a limit: by `change`, and by `at_least` with what else was judged in mind.

    Both are relative to A, 0.05 for 5 % more.
    """

    workload: str
    change: float
    at_least: float


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How a limit was kept: by how many workloads, by whom not, and by how many nobody can tell."""

    limit: str
    exceeded: list[Excess]
    kept: int
    undecided: int


def parse_limit(text: str) -> Limit:
    """`METRIC>5%` for a rise by more than 5 %, `METRIC<-5%` for such a fall. Raises UsageError.

    METRIC is the name of one of METRICS, or how it alone begins.
    """
    match = _LIMIT.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"--fail-on: not a limit: {text!r} (examples: 'cpi>5%', 'instructions_per_second<-10%')")
    names = [metric.name for metric in METRICS if metric.name.startswith(match[1])]
    if len(names) != 1:
        known = [name for name in (metric.name for metric in METRICS) if not names or name in names]
        raise UsageError(f"--fail-on {text!r}: {not_among('metric', match[1], known)}")
    upward, percent = match[2] == ">", float(match[3])
    if (upward and percent < 0) or (not upward and not -100 < percent <= 0):
        raise UsageError(f"--fail-on {text!r}: a rise is '{match[1]}>5%', a fall '{match[1]}<-5%'")
    return Limit(text, names[0], upward, 1 + percent / 100)


def judge(limits: Sequence[Limit], changes: Mapping[tuple[str, str], Change]) -> list[Verdict]:
    """How each of `limits` was kept by the changes, which are by workload and metric.

    A limit is exceeded where the whole interval is beyond it. Intervals are so wide that those of all workloads and
    limits are right together with a probability of 1 - LEVEL (Bonferroni). Raises UsageError for a limit on
    what could be compared for no workload: nobody can say that it was kept.
    """
    judged = [
        (limit, {workload: change for (workload, metric), change in changes.items() if metric == limit.metric})
        for limit in limits
    ]
    for limit, of_workloads in judged:
        if not of_workloads:
            raise UsageError(f"--fail-on {limit.text!r} cannot be judged: no workload's {limit.metric} was compared")
    bounds = sum(len(of_workloads) for _limit, of_workloads in judged)
    return [_judge(limit, of_workloads, 1 - 2 * LEVEL / bounds) for limit, of_workloads in judged]


def _judge(limit: Limit, changes: Mapping[str, Change], confidence: float) -> Verdict:
    exceeded: list[Excess] = []
    kept = 0
    for workload, change in changes.items():
        near, far = change.interval(confidence)
        if not limit.upward:
            near, far = far, near
        if (near > limit.factor) if limit.upward else (near < limit.factor):
            exceeded.append(Excess(workload=workload, change=change.quotient - 1, at_least=near - 1))
        elif (far <= limit.factor) if limit.upward else (far >= limit.factor):
            kept += 1
    exceeded.sort(key=lambda excess: -abs(excess.at_least))
    return Verdict(limit=limit.text, exceeded=exceeded, kept=kept, undecided=len(changes) - kept - len(exceeded))
