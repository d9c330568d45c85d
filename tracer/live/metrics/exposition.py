# SPDX-License-Identifier: Apache-2.0
"""A snapshot of the running totals as families of Prometheus' text formats."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from tracer.live.metrics import series
from tracer.live.metrics.ledger import AMOUNTS, FORGOTTEN_SECONDS, OTHER, Ledger
from tracer.live.metrics.pairs import PairLedger
from tracer.live.metrics.series import Family
from tracer.live.snapshot import Snapshot

_INDEX = {name: index for index, name in enumerate(AMOUNTS)}
PLAIN = "text/plain; version=0.0.4"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What does not change while a run goes on."""

    version: str
    python_version: str
    node_name: str
    kernel_release: str
    machine: str
    cpu_model: str
    start_ns: int


class Exposition(Collector):
    """What is served of one run; one thread uses it."""

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        facts: Facts,
        *,
        is_ready: Callable[[], bool],
        is_output_failing: Callable[[], bool],
        counted: Callable[[], Mapping[str, bool]],
        is_upload_failing: Callable[[], bool] = lambda: False,
    ) -> None:
        """counted: by counter, whether it counts now."""
        self._snapshot = snapshot
        self._facts = facts
        self._is_ready = is_ready
        self._is_output_failing = is_output_failing
        self._counted = counted
        self._is_upload_failing = is_upload_failing
        self._ledger = Ledger(series.MOST_CONTAINERS)
        self._pairs = PairLedger(series.MOST_PAIRS)
        self._now: Snapshot | None = None
        self._looked = 0.0
        self._scrapes = 0
        self._scrape_seconds = 0.0
        self._highest: dict[str, float] = {}

    def text(self, accept: str) -> tuple[bytes, str]:
        """The text of now in the format that the header `Accept` asks for, and its content type."""
        begun = time.thread_time()
        encode, content_type = choose_encoder(OPENMETRICS if wants_openmetrics(accept) else PLAIN)
        self._look()
        self._scrapes += 1
        try:
            return encode(self), content_type
        finally:
            self._scrape_seconds += time.thread_time() - begun

    def collect(self) -> Iterator[Metric]:
        """For prometheus-client's encoders: what the last look found."""
        assert self._now is not None
        yield from self._of_containers()
        yield self._of_pairs()
        yield from self._of_node(self._now)
        yield from self._of_health(self._now.health)

    def _look(self) -> None:
        now, before = self._snapshot(), self._now
        if before is not None and now is before:
            return
        seconds = 0 if before is None else max(0, (now.time_ns or 0) - (before.time_ns or 0)) / 1e9
        self._ledger.look(now)
        self._pairs.look(now, self._ledger, math.exp(-seconds / FORGOTTEN_SECONDS))
        self._now = now

    def _of_containers(self) -> Iterator[Metric]:
        shown = sorted(self._ledger.shown())
        for family in series.CONTAINER:
            metric = _metric(family)
            for labels, values in shown:
                for further, source in family.of_label or (("", family.source),):
                    value = values[_INDEX[source]]
                    if value is not None:
                        _add(metric, family, (*labels, further), value / family.divisor)
            yield metric

    def _of_pairs(self) -> Metric:
        metric = _metric(series.PAIRS)
        if self._waits_are_known():
            for pair, wait_ns in self._pairs.shown():
                _add(metric, series.PAIRS, (*pair.victim, *pair.holder), wait_ns / series.PAIRS.divisor)
            _add(metric, series.PAIRS, (*OTHER, *OTHER), self._pairs.rest_ns / series.PAIRS.divisor)
        return metric

    def _waits_are_known(self) -> bool:
        index = _INDEX["wait_behind_others_ns"]
        return any(values[index] is not None for _labels, values in self._ledger.shown())

    def _of_node(self, now: Snapshot) -> Iterator[Metric]:
        facts, ledger = self._facts, self._ledger
        yield _single(series.BUILD, 1, (facts.version, facts.python_version))
        yield _single(series.NODE, 1, (facts.node_name, facts.kernel_release, facts.machine, facts.cpu_model))
        yield _single(series.START, facts.start_ns / 1e9)
        if now.time_ns is not None:
            yield _single(series.LAST, now.time_ns / 1e9)
        yield _single(series.TICK, now.tick_ns / 1e9)
        yield _single(series.TICKS, 0 if now.last_tick is None else now.last_tick + 1 - now.first_tick)
        yield _single(series.READY, self._is_ready())
        yield _by_label(series.COUNTED, self._counted())
        idle_ns = sum(one.cpu_time_ns or 0 for one in now.cgroups if one.cgroup_kind == "idle")
        yield _single(series.IDLE, self._never_less(series.IDLE, idle_ns / 1e9))
        yield _single(series.OUTPUT_FAILING, self._is_output_failing())
        yield _single(series.UPLOAD_FAILING, self._is_upload_failing())
        yield _by_label(series.SHOWN, {"own": ledger.containers_shown, "other": ledger.containers_hidden})
        yield _single(series.EVICTIONS, ledger.evictions)
        yield _single(series.LEFT_OUT, now.cgroups_left_out)
        yield _single(series.SCRAPES, self._scrapes)
        yield _single(series.SCRAPE_TIME, self._scrape_seconds)

    def _of_health(self, health: Mapping[str, float]) -> Iterator[Metric]:
        for family in (*series.HEALTH_COUNTERS, *series.HEALTH_COUNTERS_IF_KNOWN, *series.HEALTH_GAUGES):
            metric = _metric(family)
            for label, source in family.of_label or (("", family.source),):
                value = health.get(source, 0 if family in series.HEALTH_COUNTERS else None)
                if value is not None:
                    value /= family.divisor
                    if family.type == "counter":
                        value = self._never_less(family, value, label)
                    _add(metric, family, (label,), value)
            yield metric

    def _never_less(self, family: Family, value: float, label: str = "") -> float:
        """A hypervisor's count of what it stole may go back."""
        name = f"{family.name} {label}"
        self._highest[name] = max(value, self._highest.get(name, 0.0))
        return self._highest[name]


def wants_openmetrics(accept: str) -> bool:
    """Whether the header `Accept` names it, in whatever version: there is one. All others take plain text."""
    return any(kind.split(";")[0].strip().lower() == OPENMETRICS.split(";")[0] for kind in accept.split(","))


def _metric(family: Family) -> Metric:
    return Metric(family.name, family.meaning, family.type, family.unit)


def _add(metric: Metric, family: Family, labels: Sequence[str], value: float) -> None:
    metric.add_sample(family.series_name, dict(zip(family.labels, labels, strict=False)), value)


def _single(family: Family, value: float, labels: Sequence[str] = ()) -> Metric:
    return _by_labels(family, [(labels, value)])


def _by_label(family: Family, values: Mapping[str, float]) -> Metric:
    return _by_labels(family, [((label,), value) for label, value in values.items()])


def _by_labels(family: Family, values: Sequence[tuple[Sequence[str], float]]) -> Metric:
    metric = _metric(family)
    for labels, value in values:
        _add(metric, family, labels, value)
    return metric
