# SPDX-License-Identifier: Apache-2.0
"""What a comparison says, as data: `tracer compare --json` is this, and its text is made from it.

A field that is None was not measured. Names are as somebody chose them, so whoever shows them escapes them.
"""

from typing import Final, Literal

import msgspec

from tracer.analysis.comparison.limits import Verdict
from tracer.analysis.findings import Caveat
from tracer.analysis.moments import Moment
from tracer.naming import Named

COMPARISON_VERSION: Final = 2


class MetricChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change from A to B: `change` is relative to A (0.05: 5 % more), `low` and `high` its interval of 95 %.

    `holds`: it is no chance, with all other comparisons in mind (Holm, 5 %). `p_value` is that of the one. `effect`
    is Cliff's delta, -1 to 1: how much likelier a time slice of B is higher than one of A than lower.
    """

    metric: str
    before: float
    after: float
    change: float
    low: float
    high: float
    p_value: float
    holds: bool
    effect: float


class WorkloadChange(msgspec.Struct, frozen=True, kw_only=True):
    """A workload that is in both, and why what is missing of `changes` is not there, by metric.

    `name` is `tracer.naming.workload_of`, `containers_before` and `containers_after` are who that was, each by its own
    name. `cores_at_stake` is CPU time: what its CPI cost or saved, or what it used more or less, whichever is more, by
    the end of the interval that is nearer to no change.
    """

    name: str
    cgroups_before: int
    cgroups_after: int
    containers_before: list[Named]
    containers_after: list[Named]
    cores_before: float
    cores_after: float
    cores_at_stake: float
    changes: list[MetricChange]
    not_compared: dict[str, str]


class LoneWorkload(msgspec.Struct, frozen=True, kw_only=True):
    """A workload that is in A or in B only."""

    name: str
    cgroups: int
    containers: list[Named]
    cores: float


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """What was compared. `seconds` are those recorded, `cores` the CPU time used per second."""

    directory: str
    runs: list[str]
    nodes: list[str]
    start: Moment
    end: Moment
    seconds: float
    cores: float


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: `workloads` by what is at stake, the others by CPU time. `slice_seconds` is what was summed up.

    `tests` is how many changes were looked at together. `verdicts` are on the limits that were asked for.
    """

    command: Literal["compare"] = "compare"
    version: int = COMPARISON_VERSION
    before: Side
    after: Side
    slice_seconds: float
    tests: int
    workloads: list[WorkloadChange]
    only_before: list[LoneWorkload]
    only_after: list[LoneWorkload]
    verdicts: list[Verdict]
    caveats: list[Caveat]
