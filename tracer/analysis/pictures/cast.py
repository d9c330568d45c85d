# SPDX-License-Identifier: Apache-2.0
"""Which containers of a node the pictures show, in which order, and what they are called there."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from tracer import naming
from tracer.analysis.findings import Container, Report
from tracer.analysis.pictures.node_facts import NodeFacts, node_facts
from tracer.analysis.recording import Recording
from tracer.analysis.roster import Roster

IDLE: Final = -1
# The name of the root cgroup.
ROOT: Final = "/"

_LONGEST_NAME = 48


@dataclass(frozen=True)
class Cast:
    """The containers of `node`, the same in all pictures; who is first in `containers` is in focus.

    `names` are what to call each: harmless, of bounded length, no two alike.
    """

    node: str
    facts: NodeFacts
    containers: list[Container]
    names: list[str]

    def number(self, shown: int, column: str = "cgroup_id") -> pl.Expr:
        """A row's position in `containers`, `shown` for all from there on, and `IDLE` for idle time."""
        numbers = {
            cgroup_id: min(number, shown)
            for number, container in enumerate(self.containers)
            for cgroup_id in container.cgroup_ids
        }
        return pl.col(column).replace_strict(numbers | {0: IDLE}, default=shown, return_dtype=pl.Int32)

    def rows(self, recording: Recording, table: str) -> pl.LazyFrame:
        """What `node` wrote of `table`."""
        return recording.scan(table).filter(pl.col("node_name") == self.node)


def choose_cast(recording: Recording, roster: Roster, report: Report | None, node: str) -> Cast:
    """Those that were asked for come first, then those that lost time with those that took it, then who waited long.

    All others follow by what they used. The root cgroup, which is the kernel's threads and whatever is in no other, can
    be who took time; the first, whom pictures are about, it is only if it was asked for or is alone.

    Raises UsageError where runs of the node had ticks or windows of different length.
    """
    of_node = roster.containers.filter(pl.col("node_name") == node)
    if not recording.is_about_some:
        of_node = of_node.with_columns(is_wanted=False)
    ranks: dict[tuple[str, str | None], int] = {}
    for container in _told_of(report) if report else []:
        if container.node_name == node:
            ranks.setdefault((container.name, container.namespace), len(ranks))
    keys = of_node.select("name", "namespace").iter_rows()
    ordered = of_node.with_columns(
        pl.Series("rank", [ranks.get(key, len(ranks)) for key in keys], pl.Int64),
        pl.col("llc_misses").fill_null(0),
    ).sort("is_wanted", "rank", "llc_misses", "cpu_time_ns", "member", descending=[True, False, True, True, False])
    containers = [roster.container(member) for member in ordered["member"]]
    if len(containers) > 1 and containers[0].name == ROOT and not ordered["is_wanted"][0]:
        containers[:2] = containers[1::-1]
    return Cast(node, node_facts(recording, node), containers, shown_names(containers))


def _told_of(report: Report) -> Iterator[Container]:
    lost: dict[tuple[str, str | None], int] = {}
    for cost in report.costs:
        key = _key(cost.container)
        lost[key] = lost.get(key, 0) + cost.time_ns
    for cost in sorted(report.costs, key=lambda cost: (cost.container.name == ROOT, -lost[_key(cost.container)])):
        yield cost.container
        if cost.by is not None:
            yield cost.by
    for spent in report.time_spent:
        if spent.cause != "little":
            yield spent.container
            yield from (holder.container for holder in spent.holders if holder.container is not None)
    for victim in report.victims:
        yield victim.container
        yield from (aggressor.container for aggressor in victim.aggressors)
    yield from (one.container for one in report.activity if one.cpu_users)


def _key(container: Container) -> tuple[str, str | None]:
    return container.name, container.namespace


def shown_names(containers: Sequence[Container]) -> list[str]:
    """The names, with a number where one is that of several."""
    seen: Counter[str] = Counter()
    names = []
    for container in containers:
        seen[container.name] += 1
        names.append(container.name if seen[container.name] == 1 else f"{container.name} #{seen[container.name]}")
    shown = naming.shown_names(names, _LONGEST_NAME)
    return [shown[name] for name in names]


def shown_text(text: str, longest: int = _LONGEST_NAME) -> str:
    """`text` of whoever, harmless and of bounded length; of a long one both ends, as these tell it from its kind."""
    return naming.cut(text, longest)
