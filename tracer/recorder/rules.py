# SPDX-License-Identifier: Apache-2.0
"""Rules of `--when`: what has to be how much, of whom, for how long.

    rule       = metric [ "(" selector { "," selector } ")" ] ( ">" | ">=" ) threshold [ "for" duration ]
    selector   = [ "namespace=" | "pod=" | "container=" ] pattern
    threshold  = number [ unit ]

Blanks may be anywhere but within a word. A pattern is all up to the next comma or parenthesis. `docs/recorder.md` tells
it to people.
"""

import re
from collections.abc import Iterable
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from tracer.errors import UsageError
from tracer.naming import Selector, Who, workload_of
from tracer.suggestions import not_among
from tracer.units import parse_duration_ns

MOST_RULES: Final = 32
LONGEST_FOR_NS: Final = 60_000_000_000
_LONGEST_RULE: Final = 1_000
_EXAMPLE: Final = "wait(namespace=shop)>20% for 500ms"
_RULE: Final = re.compile(
    r"\s*(?P<metric>[^\s(<>=]*)\s*(?P<selectors>\([^()]*\))?\s*(?P<comparison>[<>=!]+|)\s*(?P<rest>.*)", re.DOTALL
)
_THRESHOLD: Final = re.compile(r"(?P<number>[0-9]{1,15}(?:\.[0-9]{1,9})?)\s*(?P<unit>[A-Za-z%/]*)")
_FOR: Final = re.compile(r"(?P<threshold>.*?)(?:\s+for(?P<duration>\s.*|))?", re.DOTALL)
_KEYS: Final = ("namespace", "pod", "container")


class Unit(StrEnum):
    """What a threshold is counted in."""

    share = "%"
    times_own = "x"
    per_second = "/s"
    per_thousand = "mpki"
    plain = ""


class Metric(StrEnum):
    """What a rule looks at."""

    wait = "wait"
    wait_others = "wait-others"
    throttled = "throttled"
    cpi = "cpi"
    misses = "misses"
    cpu_pressure = "cpu-pressure"
    memory_pressure = "memory-pressure"
    io_pressure = "io-pressure"
    steal = "steal"
    lost = "lost"

    @property
    def units(self) -> dict[str, tuple[Unit, float]]:
        """What may stand behind a number of it: the unit, and by how much the number is multiplied."""
        return _UNITS.get(self, _SHARE)

    @property
    def is_of_node(self) -> bool:
        """Whether it is of the node, and not of a container."""
        return self in (Metric.steal, Metric.lost)

    @property
    def is_by_window(self) -> bool:
        """Whether it is known by the window, and not by the second."""
        return self in (Metric.wait, Metric.wait_others, Metric.throttled, Metric.cpi, Metric.misses)


_SHARE: Final = {"%": (Unit.share, 0.01)}
_UNITS: Final = {
    Metric.cpi: {"x": (Unit.times_own, 1.0), "": (Unit.plain, 1.0)},
    Metric.misses: {
        "/s": (Unit.per_second, 1.0),
        "k/s": (Unit.per_second, 1e3),
        "M/s": (Unit.per_second, 1e6),
        "G/s": (Unit.per_second, 1e9),
        "mpki": (Unit.per_thousand, 1.0),
    },
    Metric.lost: {"": (Unit.per_second, 1.0), "/s": (Unit.per_second, 1.0)},
}
_EXAMPLES: Final = {
    Metric.cpi: "1.5x (of its own last hour), or 2.5",
    Metric.misses: "5M/s, or 20mpki",
    Metric.lost: "0, or 100/s",
}


class Chosen:
    """Whom a rule looks at: all of one kind of selector must take it, of several of a kind any."""

    def __init__(self, selectors: Iterable[tuple[str, str]] = ()) -> None:
        """`selectors`: kind (`namespace`, `pod`, `container`) and pattern."""
        self.by_kind: dict[str, list[str]] = {}
        for kind, pattern in selectors:
            self.by_kind.setdefault(kind, []).append(pattern)
        self._containers = Selector(self.by_kind.get("container", ()))

    def takes(self, who: Who) -> bool:
        """Whether it is looked at; who is idle never is."""
        if who.cgroup_kind == "idle" or not self._containers.takes(who):
            return False
        namespaces, pods = self.by_kind.get("namespace"), self.by_kind.get("pod")
        if namespaces is not None and not _is_one(namespaces, (who.namespace,)):
            return False
        if pods is None:
            return True
        names = [who.pod_name, who.pod_uid]
        if who.pod_name and who.namespace:
            names.append(f"{who.namespace}/{who.pod_name}")
        # Of a pod alone, what is the same in the next one: its Deployment's name.
        if who.pod_name:
            pod = Who(node_name=who.node_name, cgroup_kind="container", pod_name=who.pod_name, namespace=who.namespace)
            workload = workload_of(pod)
            names += [workload, workload.rpartition("/")[2]]
        return _is_one(pods, names)


class Rule(msgspec.Struct, frozen=True):
    """`threshold` is in `unit`, a share as 0 to 1; `duration_ns` is 0 where a single window or second is enough."""

    text: str
    metric: Metric
    chosen: Chosen
    is_or_equal: bool
    threshold: float
    unit: Unit
    duration_ns: int

    def holds(self, value: float) -> bool:
        """Whether that is too much."""
        return value >= self.threshold if self.is_or_equal else value > self.threshold

    def shown(self, value: float) -> str:
        """A value of the rule's metric, for people."""
        if self.unit is Unit.share:
            return f"{100 * value:.3g}%"
        if self.unit is Unit.per_second:
            return f"{value:,.0f}/s"
        return f"{value:.3g}{self.unit.value}"


def parse_rules(texts: Iterable[str]) -> tuple[Rule, ...]:
    """Each once, in order. Raises UsageError, which names the rule and what is wrong with it."""
    rules = tuple({rule.text: rule for rule in map(parse_rule, texts)}.values())
    if len(rules) > MOST_RULES:
        raise UsageError(f"{len(rules)} rules: at most {MOST_RULES} are looked at")
    return rules


def parse_rule(text: str) -> Rule:
    """Raises UsageError, on one line and with a hint."""
    try:
        return _parse(text)
    except UsageError as error:
        shown = text if len(text) <= _LONGEST_RULE else f"{text[:60]}..."
        raise UsageError(f"{shown!r}: {error}") from error


def _parse(text: str) -> Rule:
    if len(text) > _LONGEST_RULE:
        raise UsageError(f"a rule has at most {_LONGEST_RULE} characters")
    if not text.isprintable():
        raise UsageError("a rule has characters that cannot be printed")
    match = _RULE.fullmatch(text)
    if match is None or not match["metric"]:
        raise UsageError(f"it begins with what is looked at: {', '.join(Metric)} (as in {_EXAMPLE!r})")
    if match["metric"] not in list(Metric):
        raise UsageError(not_among("metric", match["metric"], Metric))
    metric = Metric(match["metric"])
    if match["comparison"] not in (">", ">="):
        rest = match["rest"].strip()
        if rest.startswith("(") or (match["selectors"] is None and "(" in text):
            raise UsageError(f"a parenthesis is not closed, or within another one (as in {_EXAMPLE!r})")
        if match["comparison"]:
            raise UsageError(f"no comparison {match['comparison']!r}: a rule is about too much, with > or >=")
        raise UsageError(f"after {metric.value} comes (whom), or > and how much (as in {_EXAMPLE!r})")
    threshold_text, duration_ns = _split_for(match["rest"].strip(), metric)
    threshold, unit = _threshold(threshold_text, metric)
    is_or_equal = match["comparison"] == ">="
    if unit is Unit.share and (threshold > 1 or (threshold == 1 and not is_or_equal)):
        raise UsageError(f"that can never be: {metric.value} is at most 100%")
    if threshold == 0 and is_or_equal:
        raise UsageError("that is always so: write > 0")
    return Rule(
        text=" ".join(text.split()),
        metric=metric,
        chosen=Chosen(_selectors(match["selectors"], metric)),
        is_or_equal=is_or_equal,
        threshold=threshold,
        unit=unit,
        duration_ns=duration_ns,
    )


def _selectors(text: str | None, metric: Metric) -> list[tuple[str, str]]:
    if text is None:
        return []
    if metric.is_of_node:
        raise UsageError(f"{metric.value} is of the whole node: leave {text} out")
    selectors = []
    for part in text[1:-1].split(","):
        key, equals, pattern = (one.strip() for one in part.partition("="))
        if not equals:
            # As `--container` takes it.
            key, pattern = "container", part.strip()
        if equals and key not in _KEYS:
            raise UsageError(not_among("selector", key, _KEYS))
        if not pattern:
            raise UsageError(f"whom {text} means is empty (as in {_EXAMPLE!r}; without parentheses it is all)")
        selectors.append((key, pattern))
    return selectors


def _split_for(text: str, metric: Metric) -> tuple[str, int]:
    """The threshold, and the duration in ns."""
    match = _FOR.fullmatch(text)
    assert match is not None
    if match["duration"] is None:
        return match["threshold"].strip(), 0
    duration_ns = parse_duration_ns(match["duration"].strip() or "nothing")
    if not 0 < duration_ns <= LONGEST_FOR_NS:
        raise UsageError("for how long is more than 0 and at most 60s")
    if not metric.is_by_window and duration_ns < 10**9:
        raise UsageError(f"{metric.value} is known by the second: `for` is at least 1s")
    return match["threshold"].strip(), duration_ns


def _threshold(text: str, metric: Metric) -> tuple[float, Unit]:
    match = _THRESHOLD.fullmatch(text)
    if match is None or match["unit"] not in metric.units:
        raise UsageError(
            f"{text!r} is no threshold of {metric.value}: {_EXAMPLES.get(metric, '20%')}, then `for` and a time, or "
            "nothing more"
        )
    unit, factor = metric.units[match["unit"]]
    return float(match["number"]) * factor, unit


def _is_one(patterns: Iterable[str], names: Iterable[str | None]) -> bool:
    there = [name for name in names if name]
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns for name in there)
