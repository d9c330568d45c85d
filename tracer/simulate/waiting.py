# SPDX-License-Identifier: Apache-2.0
"""Who really waited behind whom for a CPU in a simulated run: that part of `truth.json`."""

import msgspec

from tracer.simulate.cgroups import SimulatedCgroups
from tracer.simulate.random_times import Ints
from tracer.simulate.scenario import Scenario


class TrueHolder(msgspec.Struct, frozen=True, kw_only=True):
    """Who held the CPU for how long while another container's threads were ready."""

    cgroup_id: int
    container_id: str | None
    label: str
    planted: bool
    wait_time_ns: int


class TrueWaiting(msgspec.Struct, frozen=True, kw_only=True):
    """For how long a container's threads were ready and did not run, and why; `behind` has whom most first."""

    cgroup_id: int
    container_id: str | None
    label: str
    wait_time_ns: int
    behind: list[TrueHolder]
    behind_self_ns: int
    throttled_ns: int
    idle_ns: int


def true_waiting(waited: Ints, scenario: Scenario, cgroups: SimulatedCgroups) -> list[TrueWaiting]:
    """Of all who waited; `waited` [C, C + 2] is by holder, as in `Schedule`."""
    return [_waiting(index, waited, scenario, cgroups) for index in range(len(waited)) if waited[index].any()]


def _waiting(index: int, waited: Ints, scenario: Scenario, cgroups: SimulatedCgroups) -> TrueWaiting:
    *behind, throttled_ns, idle_ns = waited[index].tolist()
    order = sorted(range(len(behind)), key=lambda holder: -behind[holder])
    return TrueWaiting(
        cgroup_id=int(cgroups.ids[index]),
        container_id=cgroups.identities[index].container_id,
        label=scenario.containers[index].label,
        wait_time_ns=int(waited[index].sum()),
        behind=[
            _holder(holder, behind[holder], scenario, cgroups) for holder in order if holder != index and behind[holder]
        ],
        behind_self_ns=behind[index],
        throttled_ns=throttled_ns,
        idle_ns=idle_ns,
    )


def _holder(index: int, wait_time_ns: int, scenario: Scenario, cgroups: SimulatedCgroups) -> TrueHolder:
    label = scenario.containers[index].label
    return TrueHolder(
        cgroup_id=int(cgroups.ids[index]),
        container_id=cgroups.identities[index].container_id,
        label=label,
        planted=label in scenario.planted,
        wait_time_ns=wait_time_ns,
    )
