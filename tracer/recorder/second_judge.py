# SPDX-License-Identifier: Apache-2.0
"""Rules on what is known by the second: pressure of cgroups, and what is of the node."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import polars as pl

from tracer.naming import Who, name_of
from tracer.recorder.met import Met
from tracer.recorder.rules import Metric, Rule

MOST_CGROUPS: Final = 8_192
_LOST: Final = ("lost_ring_full", "lost_no_ring", "lost_malformed")
_TOTALS: Final = {
    Metric.cpu_pressure: "cpu_pressure_some_total_usec",
    Metric.memory_pressure: "memory_pressure_some_total_usec",
    Metric.io_pressure: "io_pressure_some_total_usec",
}
_WHO: Final = Who.__struct_fields__
# The last reading of a cgroup can be a moment after the one before it; what follows from that is any share.
_SHORTEST_NS: Final = 100_000_000
_SECOND_NS: Final = 1_000_000_000


class _Streak(msgspec.Struct):
    start_ns: int
    amount: float = 0.0
    whole: float = 0.0
    """Of which `amount` is the share, or in which it was."""
    is_met: bool = False


class _Seen(msgspec.Struct):
    """What is known of a cgroup, or of the node."""

    who: Who
    rules: tuple[int, ...]
    time_ns: int
    totals: dict[Metric, int]
    streaks: dict[int, _Streak]
    """By the number of the rule."""


class SecondJudge:
    """Looks at rows of `resources` and `health` as they come. One thread uses it."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._of_node = tuple(number for number, rule in enumerate(rules) if rule.metric.is_of_node)
        self._metrics = tuple({rule.metric for rule in rules if rule.metric in _TOTALS})
        self._seen: dict[int, _Seen] = {}  # by cgroup id, the one read last at the end
        self._node: _Seen | None = None

    def look_at_resources(self, rows: pl.DataFrame) -> list[Met]:
        """What is met by these readings of cgroups' files, and was not before."""
        if not self._metrics:
            return []
        rows = rows.select(*_WHO, pl.col("time").dt.epoch("ns"), *(_TOTALS[metric] for metric in self._metrics))
        met: dict[int, list[tuple[float, _Seen]]] = {}
        for row in rows.sort("time", maintain_order=True).iter_rows():
            who, time_ns = Who(*row[: len(_WHO)]), row[len(_WHO)]
            assert who.cgroup_id is not None
            seen = self._seen.pop(who.cgroup_id, None)
            totals = dict(zip(self._metrics, row[len(_WHO) + 1 :], strict=True))
            if seen is None or seen.who != who:
                chosen = tuple(
                    number
                    for number, rule in enumerate(self._rules)
                    if rule.metric in _TOTALS and rule.chosen.takes(who)
                )
                old = seen or _Seen(who, chosen, time_ns, {}, {})
                seen = _Seen(who, chosen, old.time_ns, old.totals, old.streaks)
            self._seen[who.cgroup_id] = seen
            past_ns = time_ns - seen.time_ns
            if past_ns < 0:
                # The clock was set back.
                seen.totals, seen.streaks = {}, {}
            if seen.totals and past_ns < _SHORTEST_NS:
                continue
            for number in seen.rules:
                metric = self._rules[number].metric
                before, now = seen.totals.get(metric), totals[metric]
                amount = None if before is None or now is None or now < before else (now - before) * 1000
                if (value := self._value(seen, number, amount, past_ns, seen.time_ns, time_ns)) is not None:
                    met.setdefault(number, []).append((value, seen))
            seen.totals, seen.time_ns = totals, time_ns
        while len(self._seen) > MOST_CGROUPS:
            del self._seen[next(iter(self._seen))]
        return [self._met(number, found) for number, found in met.items()]

    def look_at_health(self, rows: pl.DataFrame) -> list[Met]:
        """What is met by these seconds of the node, and was not before."""
        found = []
        for row in rows.with_columns(pl.col("time").dt.epoch("ns")).sort("time").iter_rows(named=True):
            if self._node is None:
                who = Who(node_name=row["node_name"])
                self._node = _Seen(who, self._of_node, row["time"] - _SECOND_NS, {}, {})
            found += self._look_at_node(self._node, row)
        return found

    def _look_at_node(self, node: _Seen, row: dict[str, Any]) -> list[Met]:
        if row["time"] <= node.time_ns:
            # The clock was set back.
            node.time_ns = row["time"] - _SECOND_NS
            node.streaks = {}
        past_ns = row["time"] - node.time_ns
        met = []
        for number in node.rules:
            if self._rules[number].metric is Metric.steal:
                amount, whole = row["steal_time_ns"], past_ns * max(1, row["online_cpus"])
            else:
                amount, whole = sum(row[name] for name in _LOST), past_ns / _SECOND_NS
            if (value := self._value(node, number, amount, whole, node.time_ns, row["time"])) is not None:
                met.append((number, value))
        node.time_ns = row["time"]
        return [self._met(number, [(value, node)]) for number, value in met]

    def _value(
        self, seen: _Seen, number: int, amount: float | None, whole: float, start_ns: int, end_ns: int
    ) -> float | None:
        """How much it was over a streak that is now long enough for the first time; None otherwise."""
        rule = self._rules[number]
        if amount is None or not whole or not rule.holds(amount / whole):
            seen.streaks.pop(number, None)
            return None
        streak = seen.streaks.setdefault(number, _Streak(start_ns))
        streak.amount += amount
        streak.whole += whole
        if streak.is_met or end_ns - streak.start_ns < rule.duration_ns:
            return None
        streak.is_met = True
        return streak.amount / streak.whole

    def _met(self, number: int, found: list[tuple[float, _Seen]]) -> Met:
        value, seen = max(found, key=lambda one: one[0])
        rule = self._rules[number]
        return Met(
            rule=rule.text,
            who=seen.who,
            name=(seen.who.node_name or "") if rule.metric.is_of_node else name_of(seen.who),
            value=rule.shown(value),
            start_ns=seen.streaks[number].start_ns,
            end_ns=seen.time_ns,
            others=len(found) - 1,
        )
