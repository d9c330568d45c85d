# SPDX-License-Identifier: Apache-2.0
"""Who took how much from whom, as a table."""

from dataclasses import dataclass

from tracer.analysis.findings import Aggressor, Container, Report, Victim


@dataclass(frozen=True)
class Matrix:
    """Victims by column, as the report ranks them; aggressors by row, who took the most cycles first.

    `cells` has, by aggressor and victim, what was found of the two; None where nothing was.
    """

    aggressors: list[Container]
    victims: list[Victim]
    cells: list[list[Aggressor | None]]


def matrix_of(report: Report, node: str) -> Matrix:
    """What `report` found on `node`."""
    victims = [victim for victim in report.victims if victim.container.node_name == node]
    containers: dict[tuple[str, str | None], Container] = {}
    taken: dict[tuple[str, str | None], float] = {}
    for victim in victims:
        for aggressor in victim.aggressors:
            key = _key(aggressor.container)
            containers[key] = aggressor.container
            taken[key] = taken.get(key, 0) + aggressor.lost_cycles.value
    ranked = sorted(taken, key=lambda key: -taken[key])
    by_victim = [{_key(aggressor.container): aggressor for aggressor in victim.aggressors} for victim in victims]
    return Matrix(
        [containers[key] for key in ranked], victims, [[found.get(key) for found in by_victim] for key in ranked]
    )


def _key(container: Container) -> tuple[str, str | None]:
    return container.name, container.namespace
