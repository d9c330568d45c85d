# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus scrapes a run while one container waits for another, and evaluates dashboard and alerts."""

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from live_node import SPIN, TRACER, Cgroup, Tracer
from prometheus_server import ROOT, Prometheus, prometheus_tools

from tracer.live.metrics.series import CONTAINER, FAMILIES

pytestmark = pytest.mark.root

DASHBOARD = ROOT / "deploy" / "grafana" / "tracer.json"
RULES = ROOT / "deploy" / "prometheus" / "alerts.yaml"
# What Grafana puts in their places.
VARIABLES = {"$__rate_interval": "5s", "$__range": "1m", "$instance": ".*", "$namespace": ".*"}
# What needs a counter, a hypervisor that steals, resctrl, or a kernel that tells; and alerts, which are to be silent.
WITHOUT_DATA = re.compile(r"cycles|instructions|llc_misses|memory_traffic|throttled")


def dashboard_queries() -> list[tuple[str, str]]:
    """Each panel's title and query, as Grafana would ask it."""
    found = []
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            assert "$" not in query
            found.append((panel["title"], query))
    return found


def names_in(text: str) -> set[str]:
    return set(re.findall(r"\btracer_[a-z_]+", text))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory of containerd, with the names that its CRI plug-in gives."""
    return tmp_path / "containerd"


@pytest.fixture
def name_container(new_container: Callable[[], Cgroup], state: Path) -> Callable[[str, str], Cgroup]:
    def make(pod: str, name: str) -> Cgroup:
        cgroup = new_container()
        bundle = state / "io.containerd.runtime.v2.task/k8s.io" / cgroup.path.name
        bundle.mkdir(parents=True)
        annotations = {
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.container-name": name,
            "io.kubernetes.cri.sandbox-name": pod,
            "io.kubernetes.cri.sandbox-namespace": "shop",
        }
        (bundle / "config.json").write_text(json.dumps({"annotations": annotations}))
        return cgroup

    return make


@pytest.fixture
def prometheus_of(tmp_path: Path) -> Iterator[Callable[[str], Prometheus]]:
    started: list[Prometheus] = []

    def start(target: str) -> Prometheus:
        started.append(Prometheus(tmp_path / "prometheus", target, RULES))
        return started[-1]

    yield start
    for one in started:
        one.__exit__(None, None, None)


def url_in(tracer: Tracer) -> str:
    assert tracer.process.stderr is not None
    while (match := re.search(r"metrics at (http://\S+)", tracer.said)) is None:
        line = tracer.process.stderr.readline()
        assert line, f"the tracer ended: {tracer.said}"
        tracer.said += line
    return match[1]


def test_dashboard_and_alerts_in_a_prometheus_that_scrapes_a_run(
    start_tracer: Callable[..., Tracer],
    name_container: Callable[[str, str], Cgroup],
    prometheus_of: Callable[[str], Prometheus],
    state: Path,
):
    victim, hog = name_container("web-1", "app"), name_container("batch-7", "etl")
    tracer = start_tracer("--metrics", ":0", "--nri", "off", "--containerd-state", str(state))
    tracer.wait_until_tracing()
    url = url_in(tracer)
    prometheus = prometheus_of(url.removeprefix("http://").removesuffix("/metrics"))
    # After all started, so that each of these has a first scrape at 0 or soon after.
    for cgroup in (hog, hog, victim):
        cgroup.start(f"exec taskset -c 0 sh -c '{SPIN}'")
    pair = 'tracer_wait_behind_seconds_total{container="app", holder="etl"}'
    (found,) = prometheus.await_data(f"rate({pair}[10s]) > 0.3")
    assert found["metric"].items() >= {
        "container_namespace": "shop", "container_pod": "web-1", "holder_namespace": "shop", "holder_pod": "batch-7",
    }.items()  # fmt: skip
    prometheus.await_data("rate(tracer_kernel_cpu_seconds_total[10s])")

    for title, query in dashboard_queries():
        result = prometheus.query(query)
        assert result or WITHOUT_DATA.search(query), f"{title}: {query}"
    (lost,) = prometheus.query("sum(tracer_records_lost_total)")
    assert lost["value"][1] == "0"
    # Of the victim's time, what the pair has; it is a part.
    shares = prometheus.query(next(query for title, query in dashboard_queries() if title.startswith("Share")))
    # What else is on this node may have waited behind it as well, once, which is a rate of 0.
    (of_pair,) = [
        one for one in shares if (one["metric"].get("container"), one["metric"].get("holder")) == ("app", "etl")
    ]
    assert 0 < float(of_pair["value"][1]) <= 1

    groups: list[dict[str, Any]] = prometheus.ask("rules")["groups"]
    rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert len(rules) == RULES.read_text().count("- alert:")
    assert {rule["health"] for rule in rules.values()} == {"ok"}, rules
    for name in ("ContainerWaitsBehindOthers", "ContainerSlowsDownAnother"):
        # They fire after 10 minutes of it.
        prometheus.await_data(f'ALERTS{{alertname="{name}", alertstate="pending", container="app"}}')
    assert not prometheus.query('ALERTS{alertname=~"TracerLosesRecords|TracerDropsRows|TracerOutputFails"}')

    # A dead container's series go; what is here of the others goes on.
    victim.stop()
    victim.path.rmdir()
    prometheus.await_data('absent(tracer_container_cpu_seconds_total{container="app"})')
    last = prometheus.query('max_over_time(tracer_container_cpu_seconds_total{container="app"}[1m])')
    hog.stop()
    tracer.process.send_signal(signal.SIGINT)
    result = tracer.result()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=5)
    own = result.table("windows").filter(pl.col("cgroup_id") == victim.id)
    (value,) = [float(one["value"][1]) for one in last]
    assert value == pytest.approx(own["cpu_time_ns"].sum() / 1e9)


def test_dashboard_and_alerts_know_the_series_and_nothing_else():
    known = {family.series_name for family in FAMILIES}
    used = names_in("\n".join(query for _title, query in dashboard_queries()))
    assert used | names_in(RULES.read_text()) <= known
    # What is told of containers is shown, but for the number of switches.
    assert used >= {family.series_name for family in CONTAINER} - {"tracer_container_context_switches_total"}
    dashboard = json.loads(DASHBOARD.read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    places = [
        (place["x"] + dx, place["y"] + dy)
        for place in (panel["gridPos"] for panel in dashboard["panels"])
        for dx in range(place["w"])
        for dy in range(place["h"])
    ]
    assert len(places) == len(set(places)), "panels lie on each other"
    assert max(x for x, _y in places) < 24


@pytest.mark.parametrize(
    "arguments", [("check", "rules", RULES), ("test", "rules", RULES.with_name("alerts_test.yaml"))]
)
def test_alerts_by_promtool(arguments: tuple[str, str, Path]):
    finished = subprocess.run([prometheus_tools() / "promtool", *arguments], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.mark.parametrize("form", ["{}", ":{}", "127.0.0.1:{}"])
def test_a_port_that_is_taken_ends_a_run_before_it_begins(tmp_path: Path, form: str):
    output = tmp_path / "results"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = form.format(taken.getsockname()[1])
        finished = subprocess.run(
            [sys.executable, *TRACER, "run", "--output", str(output), "--metrics", address],
            capture_output=True,
            text=True,
        )
    assert (finished.returncode, finished.stdout) == (2, "")
    assert re.fullmatch(
        r"tracer: error: --metrics: cannot listen on 127\.0\.0\.1:\d+: Address already in use\n", finished.stderr
    )
    assert not output.exists()
