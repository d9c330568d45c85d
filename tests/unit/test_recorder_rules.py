# SPDX-License-Identifier: Apache-2.0
"""Rules of `--when`: what is written is what is meant, and what is wrong is said on one line."""

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.errors import UsageError
from tracer.naming import Who
from tracer.recorder.rules import MOST_RULES, Metric, Unit, parse_rule, parse_rules

APP = Who(
    node_name="node-1",
    cgroup_id=7,
    cgroup_kind="container",
    cgroup_path="/kubepods/pod1/abcdef0123456789",
    container_id="abcdef0123456789",
    container_name="app",
    pod_name="api-7f9c8d6b5f-x2k4q",
    pod_uid="11111111-0000-4000-8000-000000000000",
    namespace="shop",
)


@pytest.mark.parametrize(
    ("text", "metric", "unit", "threshold", "is_or_equal", "duration_ns"),
    [
        ("wait(namespace=shop)>20% for 500ms", Metric.wait, Unit.share, 0.2, False, 500_000_000),
        ("wait-others ( pod = api* , app )>= 7.5 %  for  1s", Metric.wait_others, Unit.share, 0.075, True, 10**9),
        ("throttled>0%", Metric.throttled, Unit.share, 0, False, 0),
        ("cpi(container=app)>1.5x for 2s", Metric.cpi, Unit.times_own, 1.5, False, 2 * 10**9),
        ("cpi>2.5", Metric.cpi, Unit.plain, 2.5, False, 0),
        ("misses>5M/s", Metric.misses, Unit.per_second, 5e6, False, 0),
        ("misses>20mpki", Metric.misses, Unit.per_thousand, 20, False, 0),
        ("cpu-pressure>10% for 3", Metric.cpu_pressure, Unit.share, 0.1, False, 3 * 10**9),
        ("memory-pressure>10%", Metric.memory_pressure, Unit.share, 0.1, False, 0),
        ("io-pressure>=100% for 1m", Metric.io_pressure, Unit.share, 1, True, 60 * 10**9),
        ("steal>5%", Metric.steal, Unit.share, 0.05, False, 0),
        ("lost>0", Metric.lost, Unit.per_second, 0, False, 0),
    ],
)
def test_rules_are_read(
    text: str, metric: Metric, unit: Unit, threshold: float, is_or_equal: bool, duration_ns: int
) -> None:
    rule = parse_rule(text)
    assert (rule.metric, rule.unit, rule.is_or_equal, rule.duration_ns) == (metric, unit, is_or_equal, duration_ns)
    assert rule.threshold == pytest.approx(threshold)
    assert parse_rule(rule.text).text == rule.text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "begins with"),
        ("  ", "begins with"),
        (">20%", "begins with"),
        ("wiat>20%", "did you mean 'wait'"),
        ("wait", "after wait comes"),
        ("wait>", "is no threshold of wait"),
        ("wait<20%", "with > or >="),
        ("wait=>20%", "with > or >="),
        ("wait>20", "is no threshold of wait"),
        ("wait>-1%", "is no threshold of wait"),
        ("wait>nan%", "is no threshold of wait"),
        ("wait>1e3%", "is no threshold of wait"),
        ("wait>20x", "is no threshold of wait"),
        ("wait>\N{ARABIC-INDIC DIGIT TWO}%", "is no threshold of wait"),
        ("cpi>20%", "is no threshold of cpi"),
        ("misses>20", "5M/s, or 20mpki"),
        ("wait>101%", "never be"),
        ("wait>100%", "never be"),
        ("steal>100%", "never be"),
        ("wait>=0%", "always so"),
        ("wait(>20%", "not closed"),
        ("wait(app>20%", "not closed"),
        ("wait((app))>20%", "not closed"),
        ("wait()>20%", "is empty"),
        ("wait(app,)>20%", "is empty"),
        ("wait(pod=)>20%", "is empty"),
        ("wait(namspace=shop)>20%", "did you mean 'namespace'"),
        ("steal(app)>5%", "of the whole node"),
        ("wait>20%for 1s", "is no threshold of wait"),
        ("wait>20% for", "not a duration"),
        ("wait>20% for soon", "not a duration"),
        ("wait>20% for 0s", "more than 0"),
        ("wait>20% for 61s", "at most 60s"),
        ("cpu-pressure>20% for 500ms", "known by the second"),
        ("wait>20%\nfor 1s", "cannot be printed"),
        ("wait>20%" + " " * 1000, "at most 1000 characters"),
    ],
)
def test_what_is_wrong_is_said(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)) as caught:
        parse_rule(text)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("selectors", "takes"),
    [
        ("", True),
        ("(namespace=shop)", True),
        ("(namespace=sh*)", True),
        ("(namespace=shop, namespace=other)", True),
        ("(namespace=other)", False),
        ("(namespace=shop, pod=other)", False),
        ("(namespace=shop, container=app)", True),
        ("(pod=api-7f9c8d6b5f-x2k4q)", True),
        ("(pod=shop/api-7f9c8d6b5f-x2k4q)", True),
        ("(pod=api)", True),
        ("(pod=shop/api)", True),
        ("(pod=app)", False),
        ("(app)", True),
        ("(other, app)", True),
        ("(container=abcdef)", True),
        ("(container=shop/api/app)", True),
    ],
)
def test_whom_it_looks_at(selectors: str, takes: bool) -> None:
    assert parse_rule(f"wait{selectors}>20%").chosen.takes(APP) is takes


def test_nobody_looks_at_idle_time() -> None:
    assert not parse_rule("wait>20%").chosen.takes(Who(cgroup_id=0, cgroup_kind="idle"))


def test_the_same_rule_twice_is_one_and_many_are_refused() -> None:
    assert [rule.text for rule in parse_rules(["wait>1%", "lost>0", " wait>1% "])] == ["wait>1%", "lost>0"]
    with pytest.raises(UsageError, match=f"at most {MOST_RULES}"):
        parse_rules(f"wait>{number}%" for number in range(1, MOST_RULES + 2))


_WORDS = [
    *Metric,
    *"()><=,%*?[]. ",
    "for",
    "namespace=",
    "pod=",
    "container=",
    "20",
    "500ms",
    "1.5x",
    "mpki",
    "M/s",
    "ä",
]


@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(_WORDS), max_size=14).map("".join)))
def test_any_text_is_a_rule_or_one_line(text: str) -> None:
    try:
        rule = parse_rule(text)
    except UsageError as error:
        said = str(error)
    else:
        said = rule.text
        again = parse_rule(rule.text)
        assert msgspec.structs.replace(again, chosen=rule.chosen) == rule
        assert again.chosen.by_kind == rule.chosen.by_kind
        rule.chosen.takes(APP)
    assert said.isprintable()
