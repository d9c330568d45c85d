# SPDX-License-Identifier: Apache-2.0
"""What is served of a snapshot: names, units and values by prometheus-client's parsers, limits, strangers' names."""

import re
from pathlib import Path

import msgspec
import pytest
from live_snapshots import OPENMETRICS, SECOND_NS, Served, container, pair, snapshot, values
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from tracer.live.metrics.ledger import LONGEST_LABEL
from tracer.live.metrics.series import FAMILIES, MOST_CONTAINERS, MOST_OF_A_CONTAINER, MOST_PAIRS, MOST_SERIES
from tracer.live.snapshot import Amounts

ROOT = Path(__file__).parents[2]
HEALTH = {"records": 5, "own_cpu_time_ns": 2 * SECOND_NS, "lost_ring_full": 3, "ring_fill_peak": 0.25,
          "tick_lateness_p99_ns": 4_000, "kernel_cpu_time_ns": SECOND_NS, "online_cpus": 2}  # fmt: skip
APP = ("shop", "web-1", "app")


def test_both_formats_have_the_same_series_with_names_and_units() -> None:
    now = snapshot([container(1), container(2)], pairs=[pair(1, 2, 30)], health=HEALTH)
    served = Served(now)
    plain, openmetrics = served.text(), served.text(OPENMETRICS)
    assert openmetrics.endswith("# EOF\n")
    by_name = {family.name: family for family in FAMILIES}
    for family in parse_openmetrics(openmetrics):
        known = by_name.pop(family.name)
        assert (family.type, family.unit, family.documentation) == (known.type, known.unit, known.meaning)
    assert not by_name, "each family is served"
    for family in parse_plain(plain):
        assert {sample.name for sample in family.samples} <= {known.series_name for known in FAMILIES}
    one, other = served.scrape(), served.scrape(accept=OPENMETRICS)
    changing = {"tracer_scrapes_total", "tracer_scrape_cpu_seconds_total"}
    assert {key for key in one if key[0] not in changing} == {key for key in other if key[0] not in changing}
    assert all(other[key] == value for key, value in one.items() if key[0] not in changing)


def test_names_are_those_of_the_rules() -> None:
    for family in FAMILIES:
        assert re.fullmatch(r"tracer_[a-z_]+", family.name)
        assert not family.unit or family.name.endswith(f"_{family.unit}")
        assert family.type != "counter" or "ratio" not in family.name
        # Scrapers rewrite `pod` and its kin; ids and paths are without bound.
        assert not {"pod", "namespace", "node", "instance", "job", "cgroup", "pid", "id"} & set(family.labels)
    assert MOST_OF_A_CONTAINER <= 12


def test_amounts_are_in_base_units() -> None:
    series = Served(snapshot([container(1)], health=HEALTH)).scrape()
    assert values(series, "tracer_container_cpu_seconds_total")[APP] == 5.0
    assert values(series, "tracer_container_cycles_total")[APP] == 9_000
    assert values(series, "tracer_container_memory_traffic_bytes_total")[APP] == 4096
    waits = {
        cause: values(series, "tracer_container_wait_seconds_total", cause=cause)[APP]
        for cause in ("others", "self", "throttled", "idle", "unknown")
    }
    assert waits == pytest.approx({"others": 4e-8, "self": 3e-8, "throttled": 5e-9, "idle": 2e-8, "unknown": 5e-9})
    assert series["tracer_own_cpu_seconds_total", ()] == 2.0
    assert series["tracer_records_lost_total", (("cause", "ring_full"),)] == 3
    assert series["tracer_ring_fill_ratio", ()] == 0.25
    assert series["tracer_ticks_total", ()] == 10_000


def test_what_was_not_measured_has_no_series() -> None:
    nothing = dict.fromkeys(Amounts.__struct_fields__) | {"cpu_time_ns": 3}
    series = Served(snapshot([container(1, **nothing)])).scrape()
    assert {name for name, labels in series if ("container", "app") in labels} == {"tracer_container_cpu_seconds_total"}
    assert not [name for name, _labels in series if name.startswith("tracer_wait_behind")]
    assert ("tracer_kernel_cpu_seconds_total", ()) not in series
    # What is always there is there before anything happened.
    always = Served(msgspec.structs.replace(snapshot(), last_tick=None, time_ns=None)).scrape()
    for name in ("own_cpu_seconds", "rows_dropped", "metrics_evictions", "records", "totals_left_out", "ticks"):
        assert always[f"tracer_{name}_total", ()] == 0
    assert always["tracer_records_lost_total", (("cause", "no_ring"),)] == 0
    assert ("tracer_build_info", (("python_version", "3.11.2"), ("version", "1.2.3"))) in always


def test_no_more_series_than_the_limit_and_the_rest_is_other() -> None:
    count = 2 * MOST_CONTAINERS
    cgroups = [container(number, cpu_time_ns=number * SECOND_NS) for number in range(1, count + 1)]
    system = container(10_000, cgroup_kind="unit", cpu_time_ns=SECOND_NS)
    pairs = [pair(number, number - 1, 40) for number in range(count, count - 100, -1)]
    served = Served()
    series = served.scrape(snapshot([*cgroups, system], pairs=pairs, health=HEALTH))
    assert 0.95 * MOST_SERIES < len(series) <= MOST_SERIES
    cpu = values(series, "tracer_container_cpu_seconds_total")
    assert len(cpu) == MOST_CONTAINERS + 2
    # The busiest have their own, and nothing is missing.
    assert cpu["shop", f"web-{count}", "app"] == count
    assert cpu["", "", "system"] == 1
    assert sum(cpu.values()) == pytest.approx(1 + sum(range(1, count + 1)))
    waits = values(series, "tracer_wait_behind_seconds_total")
    assert len(waits) == MOST_PAIRS + 1
    assert sum(waits.values()) == pytest.approx(
        sum(values(series, "tracer_container_wait_seconds_total", cause="others").values())
    )


def test_containers_of_equal_names_are_added_up() -> None:
    same = {"pod_name": "web-1"}
    series = Served(snapshot([container(1), container(2, **same), container(3, **same, cycles=None)])).scrape()
    assert values(series, "tracer_container_cpu_seconds_total")[APP] == 15.0
    assert values(series, "tracer_container_cycles_total")[APP] == 18_000


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ('a"b', 'a"b'),
        ("a\\b", "a\\b"),
        ("a\nb", "a\\nb"),
        ('}\n# EOF\ntracer_ready{x="', '}\\n# EOF\\ntracer_ready{x="'),
        ("\x1b[31mred\x00", "\\x1b[31mred\\x00"),
        ("ünï-容器-🙂", "ünï-容器-🙂"),
        ("\udcff", "\\xed\\xb3\\xbf"),
        ("\u202eevil", "\\u202eevil"),
    ],
)
def test_names_that_strangers_chose_are_harmless(name: str, label: str) -> None:
    served = Served(snapshot([container(1, namespace=name, pod_name=name, container_name=name)]))
    for accept in ("", OPENMETRICS):
        cpu = values(served.scrape(accept=accept), "tracer_container_cpu_seconds_total")
        assert cpu[label, label, label] == 5.0


def test_long_names_are_cut_and_reserved_ones_are_not_taken() -> None:
    long, reserved = "x" * 100_000, {"namespace": None, "pod_name": None, "container_name": "other"}
    served = Served(snapshot([container(1, container_name=long), container(2, **reserved)]))
    names = {key[2] for key in values(served.scrape(), "tracer_container_cpu_seconds_total")}
    half = "x" * (LONGEST_LABEL // 2)
    assert names == {f"{half}…{half}", "other (container)"}


def test_ids_are_no_labels() -> None:
    unnamed = {"namespace": None, "pod_name": None, "container_name": None, "container_id": "c" * 64, "pod_uid": "uid"}
    text = Served(snapshot([container(1, **unnamed, cgroup_path="/kubepods/pod1")])).text()
    assert 'container="unnamed"' in text
    assert not [secret for secret in ("cccc", "uid", "kubepods") if secret in text]


@pytest.mark.parametrize(
    "accept",
    ["application/openmetrics-text; version=" + "9" * 5000, "application/openmetrics-text;version=a.b", ";;;,,,=", "é",
     "text/plain;version=", "application/openmetrics-text;escaping=x"],
)  # fmt: skip
def test_any_accept_header_is_answered(accept: str) -> None:
    text, content_type = Served(snapshot([container(1)])).exposition.text(accept)
    assert text
    assert content_type.startswith(("text/plain", "application/openmetrics-text"))
    assert len(content_type) < 200
