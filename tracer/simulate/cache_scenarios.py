# SPDX-License-Identifier: Apache-2.0
"""Scenarios about what neighbours do to each other's caches and memory."""

import msgspec
import numpy as np

from tracer.simulate.cast import VICTIM, with_victim
from tracer.simulate.scenario import Bursts, Container, CounterLoss, Scenario
from tracer.simulate.shape import NodeShape

_AGGRESSOR = "jobs/batch-7/etl"
_SECOND_AGGRESSOR = "jobs/batch-3/report"


def _aggressor(label: str, bursts: Bursts, threads: int = 2) -> Container:
    namespace, pod, name = label.split("/")
    return Container(
        name=name,
        pod=pod,
        namespace=namespace,
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


def quiet(_shape: NodeShape, _random: np.random.Generator, cast: list[Container]) -> Scenario:
    return Scenario(name="quiet", containers=cast)


def cache_thrash(_shape: NodeShape, random: np.random.Generator, cast: list[Container]) -> Scenario:
    victims = with_victim(cast, cache_sensitivity=float(random.uniform(1.2, 2.0)))
    aggressor = _aggressor(_AGGRESSOR, Bursts(mpki=float(random.uniform(35, 60))))
    return Scenario(name="cache-thrash", containers=[*victims, aggressor], planted=[_AGGRESSOR])


def bandwidth(_shape: NodeShape, random: np.random.Generator, cast: list[Container]) -> Scenario:
    victims = [
        msgspec.structs.replace(
            container,
            bandwidth_sensitivity=float(random.uniform(1.0, 1.8)),
            mpki=float(random.uniform(4, 8)),
        )
        if container.label in (VICTIM, "shop/api-1/server", "shop/db-1/postgres")
        else container
        for container in cast
    ]
    aggressor = _aggressor(_AGGRESSOR, Bursts(mpki=float(random.uniform(100, 140)), lengths=(10, 40)))
    return Scenario(name="bandwidth", containers=[*victims, aggressor], planted=[_AGGRESSOR])


def two_aggressors(_shape: NodeShape, random: np.random.Generator, cast: list[Container]) -> Scenario:
    victims = with_victim(cast, cache_sensitivity=float(random.uniform(2.0, 2.6)))
    first = _aggressor(_AGGRESSOR, Bursts(mpki=float(random.uniform(55, 65)), begin=0.05, end=0.7, mean_gap=25.0))
    second = _aggressor(
        _SECOND_AGGRESSOR, Bursts(mpki=float(random.uniform(55, 65)), begin=0.3, end=0.95, lengths=(10, 30))
    )
    return Scenario(
        name="two-aggressors", containers=[*victims, first, second], planted=[_AGGRESSOR, _SECOND_AGGRESSOR]
    )


def decoy(_shape: NodeShape, random: np.random.Generator, cast: list[Container]) -> Scenario:
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


def delayed(shape: NodeShape, random: np.random.Generator, cast: list[Container]) -> Scenario:
    scenario = cache_thrash(shape, random, with_victim(cast, delay_ticks=int(random.integers(2, 7))))
    return msgspec.structs.replace(scenario, name="delayed")


def lost_counters(shape: NodeShape, random: np.random.Generator, cast: list[Container]) -> Scenario:
    scenario = cache_thrash(shape, random, cast)
    loss = CounterLoss(coverage=(0.5, 0.9), llc_missing=0.2)
    return msgspec.structs.replace(scenario, name="lost-counters", counter_loss=loss)
