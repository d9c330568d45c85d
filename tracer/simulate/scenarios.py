# SPDX-License-Identifier: Apache-2.0
"""The named scenarios. Each is the same cast of services and jobs, with something planted among them, or nothing.

Loads are scaled so that all LLC domains are about as busy, whatever the size of the node. Who is how sensitive, and
how busy, differs from seed to seed.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from tracer.simulate.scenario import Bursts, Container, CounterLoss, Scenario
from tracer.simulate.shape import NodeShape

FEWEST_CONTAINERS = 6
MOST_CONTAINERS = 200

# Share of each domain's CPU time that the cast wants, bursts apart.
_DOMAIN_LOAD = 0.42
_VICTIM = "web-1/app"
_AGGRESSOR = "batch-7/etl"
_SECOND_AGGRESSOR = "batch-3/report"

_SERVICES = (
    ("web-1", "app"), ("web-2", "app"), ("api-1", "server"), ("cache-1", "redis"), ("db-1", "postgres"),
    ("queue-1", "broker"), ("auth-1", "app"), ("search-1", "index"), ("mail-1", "smtp"),
)  # fmt: skip


def _cast(shape: NodeShape, random: np.random.Generator, count: int) -> list[Container]:
    """`count` containers, of which the first is the service that planted aggressors are to harm, and three units.

    The last but one and the last come late and leave early.
    """
    containers = []
    for number in range(count):
        pod, name = _SERVICES[number] if number < len(_SERVICES) else (f"worker-{number - len(_SERVICES) + 1}", "run")
        comes_and_goes = number >= count - 2
        begin = float(random.uniform(0.1, 0.5)) if comes_and_goes else 0.0
        containers.append(
            Container(
                name=name,
                pod=pod,
                namespace="shop" if number < len(_SERVICES) else "jobs",
                threads=int(random.integers(1, 3)),
                load=float(random.uniform(0.15, 0.35)),
                domain=number % shape.llc_domains,
                shared_load=float(random.uniform(0.3, 0.9)),
                cpi=float(random.uniform(0.7, 1.6)),
                work_effect=float(random.uniform(-0.25, 0.35)),
                mpki=float(random.uniform(0.5, 3.0)),
                cache_sensitivity=float(random.uniform(0.05, 0.3)),
                bandwidth_sensitivity=float(random.uniform(0.02, 0.1)),
                cold_cycles=float(random.uniform(100e3, 400e3)),
                memory_bytes=int(random.integers(64, 1024)) * 2**20,
                begin=begin,
                end=begin + float(random.uniform(0.2, 0.45)) if comes_and_goes else 1.0,
            )
        )
    containers[0] = msgspec.structs.replace(containers[0], threads=2, load=0.45)
    return [*_with_even_load(containers, shape), *_units()]


def _units() -> list[Container]:
    return [
        Container(name="", unit=unit, load=0.01, cpi=1.8, mpki=4.0, cache_sensitivity=0.1)
        for unit in ("containerd.service", "kubelet.service", None)
    ]


def _with_even_load(containers: Sequence[Container], shape: NodeShape) -> list[Container]:
    wanted = [0.0] * shape.llc_domains
    for container in containers:
        wanted[container.domain] += container.threads * container.load * (container.end - container.begin)
    scale = [_DOMAIN_LOAD * shape.cpus_of_domain / max(of_domain, 1e-9) for of_domain in wanted]
    return [
        msgspec.structs.replace(container, load=min(0.8, container.load * min(2.0, scale[container.domain])))
        for container in containers
    ]


def _aggressor(label: str, bursts: Bursts, threads: int = 2) -> Container:
    pod, name = label.split("/")
    return Container(
        name=name,
        pod=pod,
        namespace="jobs",
        threads=threads,
        load=0.1,
        is_batch=True,
        shared_load=0.0,
        cpi=1.0,
        mpki=1.0,
        cache_sensitivity=0.05,
        bandwidth_sensitivity=0.05,
        bursts=bursts,
        memory_bytes=2 * 2**30,
    )


def _sensitive(containers: Sequence[Container], **changes: object) -> list[Container]:
    return [
        msgspec.structs.replace(container, **changes) if container.label == _VICTIM else container
        for container in containers
    ]


def _quiet(_shape: NodeShape, _random: np.random.Generator, cast: list[Container]) -> Scenario:
    return Scenario(name="quiet", containers=cast)


def _cache_thrash(_shape: NodeShape, random: np.random.Generator, cast: list[Container]) -> Scenario:
    victims = _sensitive(cast, cache_sensitivity=float(random.uniform(1.2, 2.0)))
    aggressor = _aggressor(_AGGRESSOR, Bursts(mpki=float(random.uniform(35, 60))))
    return Scenario(name="cache-thrash", containers=[*victims, aggressor], planted=[_AGGRESSOR])


def _bandwidth(_shape: NodeShape, random: np.random.Generator, cast: list[Container]) -> Scenario:
    victims = [
        msgspec.structs.replace(
            container,
            bandwidth_sensitivity=float(random.uniform(1.0, 1.8)),
            mpki=float(random.uniform(4, 8)),
        )
        if container.label in (_VICTIM, "api-1/server", "db-1/postgres")
        else container
        for container in cast
    ]
    aggressor = _aggressor(_AGGRESSOR, Bursts(mpki=float(random.uniform(100, 140)), lengths=(10, 40)))
    return Scenario(name="bandwidth", containers=[*victims, aggressor], planted=[_AGGRESSOR])


def _throttled(_shape: NodeShape, random: np.random.Generator, cast: list[Container]) -> Scenario:
    victims = _sensitive(
        cast, cpu_quota=float(random.uniform(0.4, 0.6)), cold_cycles=1.2e6, load=0.5, shared_load=0.9, threads=2
    )
    return Scenario(name="throttled", containers=victims)


def _two_aggressors(_shape: NodeShape, random: np.random.Generator, cast: list[Container]) -> Scenario:
    victims = _sensitive(cast, cache_sensitivity=float(random.uniform(1.8, 2.4)))
    first = _aggressor(_AGGRESSOR, Bursts(mpki=float(random.uniform(55, 65)), begin=0.05, end=0.7, mean_gap=25.0))
    second = _aggressor(
        _SECOND_AGGRESSOR, Bursts(mpki=float(random.uniform(55, 65)), begin=0.3, end=0.95, lengths=(10, 30))
    )
    return Scenario(
        name="two-aggressors", containers=[*victims, first, second], planted=[_AGGRESSOR, _SECOND_AGGRESSOR]
    )


def _decoy(_shape: NodeShape, random: np.random.Generator, cast: list[Container]) -> Scenario:
    """Its bursts come with the requests that all services get; these services' CPI rises with their own work."""
    services = [
        msgspec.structs.replace(
            container,
            work_effect=float(random.uniform(0.5, 0.9)),
            shared_load=0.95,
            cache_sensitivity=0.0,
            bandwidth_sensitivity=0.0,
            smt_sensitivity=0.01,
        )
        for container in cast
    ]
    decoy = _aggressor(_AGGRESSOR, Bursts(mpki=float(random.uniform(35, 60)), begin=0.0, end=1.0, follows_load=True))
    return Scenario(name="decoy", containers=[*services, decoy])


def _delayed(shape: NodeShape, random: np.random.Generator, cast: list[Container]) -> Scenario:
    scenario = _cache_thrash(shape, random, _sensitive(cast, delay_ticks=int(random.integers(2, 7))))
    return msgspec.structs.replace(scenario, name="delayed")


def _lost_counters(shape: NodeShape, random: np.random.Generator, cast: list[Container]) -> Scenario:
    scenario = _cache_thrash(shape, random, cast)
    loss = CounterLoss(coverage=(0.5, 0.9), llc_missing=0.2)
    return msgspec.structs.replace(scenario, name="lost-counters", counter_loss=loss)


class NamedScenario(NamedTuple):
    """A scenario's builder, and what it is in one line."""

    build: Callable[[NodeShape, np.random.Generator, list[Container]], Scenario]
    summary: str


SCENARIOS = {
    "quiet": NamedScenario(_quiet, "nobody harms anybody to speak of"),
    "cache-thrash": NamedScenario(_cache_thrash, "bursts of one job displace the cache of one service"),
    "bandwidth": NamedScenario(_bandwidth, "bursts of one job fill the memory bus, and slow all who need it"),
    "throttled": NamedScenario(_throttled, "one service is slowed by its own CPU limit, and by nobody else"),
    "two-aggressors": NamedScenario(_two_aggressors, "two jobs harm one service, one more than the other"),
    "decoy": NamedScenario(_decoy, "a job has bursts whenever services are busy, and harms none"),
    "delayed": NamedScenario(_delayed, "as cache-thrash, but each burst is felt a few ticks late"),
    "lost-counters": NamedScenario(_lost_counters, "as cache-thrash, with counters that count part of the time"),
}


def build_scenario(name: str, *, shape: NodeShape, seed: int, containers: int) -> Scenario:
    """The scenario of one of the names in SCENARIOS with so many containers, aggressors apart."""
    random = np.random.default_rng([seed, *name.encode()])
    return SCENARIOS[name].build(shape, random, _cast(shape, random, containers))
