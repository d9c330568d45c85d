# SPDX-License-Identifier: Apache-2.0
"""The cast of services and units that is the same in all scenarios.

Loads are scaled so that all LLC domains are about as busy, whatever the size of the node. Who is how sensitive, and
how busy, differs from seed to seed.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from tracer.simulate.scenario import Container
from tracer.simulate.shape import NodeShape

VICTIM = "shop/web-1/app"
"""Whom those that are planted harm."""

# Share of each domain's CPU time that the cast wants, bursts apart.
_DOMAIN_LOAD = 0.42
_SERVICES = (
    ("web-1", "app"), ("web-2", "app"), ("api-1", "server"), ("cache-1", "redis"), ("db-1", "postgres"),
    ("queue-1", "broker"), ("auth-1", "app"), ("search-1", "index"), ("mail-1", "smtp"),
)  # fmt: skip


def build_cast(shape: NodeShape, random: np.random.Generator, count: int) -> list[Container]:
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


def with_victim(containers: Sequence[Container], **changes: object) -> list[Container]:
    """The same, with other traits of the victim."""
    return [
        msgspec.structs.replace(container, **changes) if container.label == VICTIM else container
        for container in containers
    ]


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
