# SPDX-License-Identifier: Apache-2.0
"""The named scenarios. Each is the same cast of services and jobs, with something planted among them, or nothing."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tracer.simulate import cache_scenarios as caches
from tracer.simulate import cpu_scenarios as cpus
from tracer.simulate.cast import build_cast
from tracer.simulate.scenario import Container, Scenario
from tracer.simulate.shape import NodeShape

FEWEST_CONTAINERS = 6
MOST_CONTAINERS = 200


class NamedScenario(NamedTuple):
    """A scenario's builder, and what it is in one line."""

    build: Callable[[NodeShape, np.random.Generator, list[Container]], Scenario]
    summary: str


CACHE_SCENARIOS = {
    "quiet": NamedScenario(caches.quiet, "nobody harms anybody to speak of"),
    "cache-thrash": NamedScenario(caches.cache_thrash, "bursts of one job displace the cache of one service"),
    "bandwidth": NamedScenario(caches.bandwidth, "bursts of one job fill the memory bus, and slow all who need it"),
    "two-aggressors": NamedScenario(caches.two_aggressors, "two jobs harm one service, one more than the other"),
    "decoy": NamedScenario(caches.decoy, "a job has bursts whenever services are busy, and harms none"),
    "delayed": NamedScenario(caches.delayed, "as cache-thrash, but each burst is felt a few ticks late"),
    "lost-counters": NamedScenario(caches.lost_counters, "as cache-thrash, with counters that count part of the time"),
}
CPU_SCENARIOS = {
    "throttled": NamedScenario(cpus.throttled, "one service waits for its own CPU limit, and for nobody else"),
    "cpu-hog": NamedScenario(cpus.cpu_hog, "bursts of one job take the CPUs of services, while another has its own"),
    "late-wakeups": NamedScenario(cpus.late_wakeups, "one service is woken behind the long slices of one job"),
    "own-threads": NamedScenario(cpus.own_threads, "one service's threads wait for each other on its only CPU"),
    "fair-share": NamedScenario(
        cpus.fair_share, "a service and two jobs want all CPUs, and get what their weights say"
    ),
    "noisy-hypervisor": NamedScenario(cpus.noisy_hypervisor, "the hypervisor takes CPU time, now here, now there"),
}
SCENARIOS = CACHE_SCENARIOS | CPU_SCENARIOS


def build_scenario(name: str, *, shape: NodeShape, seed: int, containers: int) -> Scenario:
    """The scenario of one of the names in SCENARIOS with so many containers, aggressors apart."""
    random = np.random.default_rng([seed, *name.encode()])
    return SCENARIOS[name].build(shape, random, build_cast(shape, random, containers))
