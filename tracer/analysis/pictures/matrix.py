# SPDX-License-Identifier: Apache-2.0
"""Who took how much from whom, as tables: cycles lost in caches, and waiting for a CPU."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tracer.analysis.findings import Container, Report, TimeSpent
from tracer.analysis.waits.spent import LEAST_WAIT, is_held_back, is_root
from tracer.analysis.wording import joint_sentences, percent

# As good as none, and as good as all.
_ALL = 0.01

_Key = tuple[str, str | None]


@dataclass(frozen=True)
class Cell:
    """What one took from the other: a share of 1, in words, and what more there is to say of it."""

    share: float
    text: str
    more: str


@dataclass(frozen=True)
class Matrix:
    """Victims by column, as the report ranks them; by row those that took something, who took the most first.

    `taker` and `victim` are what rows and columns are called. `cells` has, by row and victim, what was found of the
    two; None where nothing was.
    """

    title: str
    taker: str
    victim: str
    rows: list[Container]
    victims: list[Container]
    cells: list[list[Cell | None]]


def matrices_of(report: Report, node: str, *, about_root: bool = False) -> list[Matrix]:
    """What `report` found on `node`: of waiting, and of caches; only those in which anything is.

    Only where it is `about_root` the root cgroup, which is the kernel's threads and whatever is in no other, is a
    victim; it can always be who took something.
    """
    found = [_waiting(report, node, about_root), _caches(report, node)]
    return [matrix for matrix in found if matrix.victims]


def unseen(report: Report, node: str, why_not_counted: str | None, *, about_root: bool = False) -> list[str]:
    """A sentence for waiting and for caches, where there is no matrix of it: what was looked for, and not found.

    Or that it could not be told, and why. `why_not_counted` is why LLC misses were not, if anybody knows.
    """
    sentences = []
    if not _waiting(report, node, about_root).victims:
        sentences.append(f"Waiting for a CPU: {_no_waiting(report, node, about_root)}")
    if not _caches(report, node).victims:
        sentences.append(f"Caches and memory: {_no_losses(report, node, why_not_counted)}")
    return sentences


def _no_waiting(report: Report, node: str, about_root: bool) -> str:
    here = [one for one in report.time_spent if one.container.node_name == node and (about_root or not is_root(one))]
    if here:
        most = max(one.wait_ns / one.time_ns for one in here)
        return f"nobody waited {LEAST_WAIT * 100:g} % of the time or more; the most was {percent(most)}."
    if any(one.container.node_name == node for one in report.time_spent):
        return "could not be told, as everything is in one cgroup, whose parts are not told apart."
    return "could not be told, as waits were not recorded (--waits off, or a tracer without them)."


def _no_losses(report: Report, node: str, why_not_counted: str | None) -> str:
    here = [one for one in report.activity if one.container.node_name == node]
    uncounted = here and all(one.misses_per_kilo_instruction is None for one in here)
    if report.basis == "cpu-time" or uncounted:
        why = f": {why_not_counted}" if why_not_counted else ""
        return f"could not be told, as cycles, instructions or LLC misses were not counted{why}."
    joint = [one for one in report.joint if one.victim.node_name == node]
    if joint:
        return " ".join(line for _ns, line in joint_sentences(joint, [node]))
    if not report.pairs_tested:
        return "could not be told, as nobody ran long enough to be compared with others."
    power = report.detectable_share
    would = "" if power is None else f"; a loss of {percent(power)} of its cycles or more would have been"
    untold = sum(one.container.node_name == node for one in report.untold)
    but = f". Of {untold} more it could not be told, as what others do varied too little" if untold else ""
    return f"no loss was found in {report.pairs_tested} pairs looked at{would}{but}."


def _waiting(report: Report, node: str, about_root: bool) -> Matrix:
    """Shares of the time: 100 % is one task all the time. Behind itself are its own threads."""
    victims = [
        one
        for one in report.time_spent
        if one.container.node_name == node and one.cause != "little" and (about_root or not is_root(one))
    ]
    taken: dict[_Key, float] = {}
    columns: list[dict[_Key, Cell]] = []
    containers: dict[_Key, Container] = {}
    for victim in victims:
        parts = [(one.container, one.wait_ns, one.held_back_ns) for one in victim.holders if one.container is not None]
        parts.append((victim.container, victim.behind_self_ns, 0))
        column = {}
        for container, wait_ns, held_back_ns in parts:
            share = wait_ns / victim.time_ns
            if share >= LEAST_WAIT / 2:
                key = _key(container)
                containers[key] = container
                taken[key] = taken.get(key, 0) + held_back_ns
                more = "own threads" if container == victim.container else _share_text(victim, held_back_ns / wait_ns)
                column[key] = Cell(share, percent(share), more)
        columns.append(column)
    title = "Run-queue wait of each container by who held the CPU, as a share of the time"
    return _matrix(
        (title, "held the CPU", "waited"), [victim.container for victim in victims], columns, taken, containers
    )


def _caches(report: Report, node: str) -> Matrix:
    victims = [victim for victim in report.victims if victim.container.node_name == node]
    taken: dict[_Key, float] = {}
    columns: list[dict[_Key, Cell]] = []
    containers: dict[_Key, Container] = {}
    for victim in victims:
        column = {}
        for one in victim.aggressors:
            key = _key(one.container)
            containers[key] = one.container
            taken[key] = taken.get(key, 0) + one.lost_cycles.value
            lost = one.lost_share
            column[key] = Cell(lost.value, percent(lost.value), f"{percent(lost.low)} to {percent(lost.high)}")
        columns.append(column)
    title = "Share of its cycles that each container lost to each aggressor, with its 95 % interval"
    return _matrix((title, "aggressor", "victim"), [victim.container for victim in victims], columns, taken, containers)


def _share_text(victim: TimeSpent, share: float) -> str:
    """What a victim waited behind somebody that had more than it for its weight was this `share` of that wait."""
    if share < _ALL:
        return "fair share"
    # Of a little behind many, nobody is told to have held it back.
    text = "held back" if is_held_back(victim) else "had more"
    return text if share > 1 - _ALL else f"{percent(share)} {text}"


def _matrix(
    titles: tuple[str, str, str],
    victims: list[Container],
    columns: Sequence[Mapping[_Key, Cell]],
    taken: Mapping[_Key, float],
    containers: Mapping[_Key, Container],
) -> Matrix:
    ranked = sorted(taken, key=lambda key: -taken[key])
    cells = [[column.get(key) for column in columns] for key in ranked]
    return Matrix(*titles, [containers[key] for key in ranked], victims, cells)


def _key(container: Container) -> _Key:
    return container.name, container.namespace
