# SPDX-License-Identifier: Apache-2.0
"""The experiments that prove or refute what a report found: `docs/verify.md`."""

import shlex
from collections.abc import Iterator, Sequence

from tracer.analysis.findings import Container, Cost, Experiment, Joint, Untold, Victim

# Which `tracer verify` would not pause (`tracer.experiment.protection`), or can hardly be told apart by name.
_NEVER_PAUSED = "kube-system"


def experiments(
    costs: Sequence[Cost], victims: Sequence[Victim], joint: Sequence[Joint], untold: Sequence[Untold]
) -> list[Experiment]:
    """One for each pair of which something was found, what cost the most time first; then those that cannot be told."""
    by_cost = sorted(_found(costs, victims, joint), key=lambda pair: -pair[0])
    pairs = [(victim, suspect) for _cost, victim, suspect in by_cost]
    pairs += [(one.container, suspect) for one in untold for suspect in one.suspects]
    chosen: dict[tuple[str, str, str], Experiment] = {}
    for victim, suspect in pairs:
        if _can_be_watched(victim) and _can_be_paused(suspect):
            command = f"tracer verify {_named(victim)} {_named(suspect)}"
            one = Experiment(victim=victim, suspect=suspect, command=command)
            chosen.setdefault((victim.node_name, _named(victim), _named(suspect)), one)
    return list(chosen.values())


def _found(
    costs: Sequence[Cost], victims: Sequence[Victim], joint: Sequence[Joint]
) -> Iterator[tuple[float, Container, Container]]:
    """What it cost, in ns, the victim and the suspect. Without waits, `costs` has nothing of caches."""
    yield from ((cost.time_ns, cost.container, cost.by) for cost in costs if cost.by is not None)
    for victim in victims:
        for aggressor in victim.aggressors:
            yield aggressor.lost_share.value * victim.cpu_time_ns, victim.container, aggressor.container
    for group in joint:
        for suspect in group.aggressors:
            yield group.lost_share.value * group.cpu_time_ns, group.victim, suspect


def _can_be_watched(container: Container) -> bool:
    return container.name != "/" and container.kind in ("container", "unit", "other")


def _can_be_paused(container: Container) -> bool:
    """Units are mostly the system's own."""
    return container.name != "/" and container.kind in ("container", "other") and container.namespace != _NEVER_PAUSED


def _named(container: Container) -> str:
    """As a shell takes it."""
    return shlex.quote(container.name)
