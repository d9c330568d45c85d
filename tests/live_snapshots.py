# SPDX-License-Identifier: Apache-2.0
"""Snapshots of running totals, and what is served of them, for the tests of the metrics and their bench."""

from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from tracer.live.metrics.exposition import Exposition, Facts
from tracer.live.snapshot import CgroupTotals, Pair, Snapshot

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
SECOND_NS = 10**9
FACTS = Facts(
    version="1.2.3",
    python_version="3.11.2",
    node_name='node "1"',
    kernel_release="6.1",
    machine="x86_64",
    cpu_model="a\\b",
    start_ns=1_700_000_000 * SECOND_NS,
)
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def container(number: int, **fields: Any) -> CgroupTotals:
    """One that ran, waited and was counted, named after its number unless told otherwise."""
    amounts = {
        "cpu_time_ns": 5 * SECOND_NS, "cycles": 9_000, "instructions": 6_000, "llc_misses": 30,
        "context_switches": 40, "wait_time_ns": 100, "wait_behind_others_ns": 40, "wait_behind_self_ns": 30,
        "wait_idle_ns": 20, "wait_throttled_ns": 5, "stolen_time_ns": 7, "mbm_total_bytes": 4096,
    }  # fmt: skip
    named = {"namespace": "shop", "pod_name": f"web-{number}", "container_name": "app", "cgroup_kind": "container"}
    return CgroupTotals(**(amounts | named | {"cgroup_id": number} | fields))


def snapshot(
    cgroups: Sequence[CgroupTotals] = (), *, seconds: float = 10, pairs: Sequence[Pair] = (), **fields: Any
) -> Snapshot:
    """As of so many seconds after the start."""
    ticks = int(seconds * 1000)
    return Snapshot(
        run_id="run", node_name="node", tick_ns=1_000_000, first_tick=1000, last_tick=999 + ticks,
        time_ns=FACTS.start_ns + ticks * 1_000_000, cgroups=list(cgroups), pairs=list(pairs), **fields,
    )  # fmt: skip


def pair(victim: int, holder: int, wait_ns: int) -> Pair:
    """Of two containers."""
    return Pair(cgroup_id=victim, holder_cgroup_id=holder, holder_cgroup_kind="container", wait_time_ns=wait_ns)


class Served:
    """An exposition of the snapshot that is set."""

    def __init__(self, now: Snapshot | None = None) -> None:
        self.now = now or snapshot()
        self.exposition = Exposition(
            lambda: self.now,
            FACTS,
            is_ready=lambda: True,
            is_output_failing=lambda: False,
            counted=lambda: {"cycles": True, "instructions": True, "llc_misses": False},
        )

    def text(self, accept: str = "") -> str:
        """What is served."""
        return self.exposition.text(accept)[0].decode()

    def scrape(self, now: Snapshot | None = None, accept: str = "") -> Series:
        """The series of a snapshot, by name and labels."""
        self.now = now or self.now
        parse: Callable[[str], Any] = parse_openmetrics if accept == OPENMETRICS else parse_plain
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in parse(self.text(accept))
            for sample in family.samples
        }


def values(series: Series, name: str, **labels: str) -> dict[tuple[str, ...], float]:
    """Of one family, those with these labels, by the values of `container_namespace`, `container_pod`, `container`."""
    return {
        tuple(of[key] for key in ("container_namespace", "container_pod", "container")): value
        for (of_name, pairs), value in series.items()
        if of_name == name and (of := dict(pairs)) and labels.items() <= of.items()
    }
