# SPDX-License-Identifier: Apache-2.0
"""What `tracer fleet report` says, as data: `--json` is this, and its text is made from it.

Shares are of 1. A field that is None was not measured or cannot be told. Names are as somebody chose them, so whoever
shows them escapes them.
"""

from typing import Final, Literal

import msgspec

from tracer.analysis.moments import Moment

FLEET_VERSION: Final = 1


class LostTo(msgspec.Struct, frozen=True, kw_only=True):
    """How long tasks of a workload waited for CPUs while another held them, over all nodes.

    `held_back_ns` is the part of it on nodes where the aggressor had more CPU time than the victim: the rest the victim
    waited for more than an equal share. `share_of_lost` is of all that was lost in the fleet, `share_of_time` of the
    time in which the victim ran or waited on the nodes where the two met. Of `nodes_together`, on which both were,
    `nodes_found` are those where it was 1 % of that time or more; `worst_node` is where most was lost.
    """

    victim: str
    aggressor: str
    lost_ns: float
    held_back_ns: float
    share_of_lost: float
    share_of_time: float
    nodes_found: int
    nodes_together: int
    worst_node: str
    worst_node_lost_ns: float


class WorkloadCpi(msgspec.Struct, frozen=True, kw_only=True):
    """Cycles per instruction of a workload on the nodes with one model of processor.

    The median of `nodes`, and how far they are from it as a rule: 1.4826 times the median distance, which is the
    standard deviation where they are normally distributed.
    """

    workload: str
    cpu_model: str
    nodes: int
    cpi: float
    spread: float
    outliers: int


class Outlier(msgspec.Struct, frozen=True, kw_only=True):
    """A node on which a workload needs more cycles per instruction than on others with the same processor.

    `excess_ns` is the CPU time that it would not have taken at the median.
    """

    node_name: str
    workload: str
    cpu_model: str
    cpi: float
    median_cpi: float
    deviations: float
    excess_ns: float


class FleetNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node, and what was lost on it: by being held back behind others, and by more cycles than elsewhere.

    `recorded_cpu_ns` is the time of all its CPUs that was recorded; `share_of_time` is what was lost beside that.
    `victim` and `aggressor` are those with which most was lost by waiting, `slow_workload` who lost most by cycles.
    """

    node_name: str
    cpu_model: str | None
    recorded_cpu_ns: float
    held_back_ns: float | None
    lost_cycles_ns: float
    share_of_time: float
    victim: str | None
    aggressor: str | None
    slow_workload: str | None


class FleetReport(msgspec.Struct, frozen=True, kw_only=True):
    """Of all nodes from `start` to before `end`.

    `recorded_cpu_ns` is the time of all their CPUs that was recorded, `lost_waiting_ns` how long tasks waited behind
    other containers, and `held_back_ns` how long behind such as had more; None where no waits were recorded. The lists
    begin with the most; `top` is how many of each there are at most, `pairs`, `outliers_found` and `nodes` how many
    there were.
    """

    command: Literal["fleet-report"] = "fleet-report"
    version: int = FLEET_VERSION
    engine: str
    start: Moment
    end: Moment
    nodes: int
    nodes_by_model: dict[str, int]
    workloads: int
    recorded_cpu_ns: float
    lost_waiting_ns: float | None
    held_back_ns: float | None
    pairs: int
    lost_to: list[LostTo]
    cpi: list[WorkloadCpi]
    outliers_found: int
    outliers: list[Outlier]
    look_at_first: list[FleetNode]
    top: int
    notes: list[str]
