# SPDX-License-Identifier: Apache-2.0
"""Scenarios about who has the CPUs, and why others do not."""

from collections.abc import Sequence

import msgspec
import numpy as np

from tracer.simulate.cast import VICTIM, with_victim
from tracer.simulate.scenario import Bursts, Container, Scenario, Scheduling, Steal
from tracer.simulate.shape import NodeShape

_JOB = "jobs/batch-7/etl"
_OTHER_JOB = "jobs/batch-3/report"

# As a node is set up for throughput: who wakes waits until the slice of who runs is over.
_PATIENT = Scheduling(wakes_preempt=False)
_FOR_THROUGHPUT = Scheduling(wakes_preempt=False, slice_us=8_000)


def throttled(_shape: NodeShape, random: np.random.Generator, cast: list[Container]) -> Scenario:
    """It wants more than its quota most of the time."""
    victims = with_victim(
        cast, cpu_quota=float(random.uniform(0.6, 0.8)), cold_cycles=1.2e6, load=0.5, shared_load=0.9, threads=2
    )
    return Scenario(name="throttled", containers=victims)


def cpu_hog(shape: NodeShape, random: np.random.Generator, cast: list[Container]) -> Scenario:
    """Two threads of the job for each of the victim's CPUs; who uses most CPU time of all is elsewhere."""
    bursts = Bursts(mpki=0.2, lengths=(100, 400), mean_gap=float(random.uniform(80, 200)), begin=0.02, end=0.98)
    hog = _job(_JOB, threads=2 * shape.cpus_of_domain, bursts=bursts)
    return Scenario(
        name="cpu-hog", containers=[*_with_bystander(cast, shape), hog], planted=[_JOB], scheduling=_PATIENT
    )


def late_wakeups(shape: NodeShape, random: np.random.Generator, cast: list[Container]) -> Scenario:
    """The service wants little, and often; what it gets it gets late."""
    victims = with_victim(cast, threads=2, work=0.1, load=float(random.uniform(0.03, 0.06)))
    job = _job(_JOB, threads=shape.cpus_of_domain)
    return Scenario(
        name="late-wakeups",
        containers=[*_with_bystander(victims, shape), job],
        planted=[_JOB],
        scheduling=_FOR_THROUGHPUT,
    )


def own_threads(shape: NodeShape, random: np.random.Generator, cast: list[Container]) -> Scenario:
    """No neighbour has to wait for its CPU: there are others."""
    only = [int(shape.order_of_domain(0)[0])]
    load = float(random.uniform(0.15, 0.2))
    return Scenario(name="own-threads", containers=with_victim(cast, threads=4, load=load, cpus=only))


def fair_share(shape: NodeShape, random: np.random.Generator, cast: list[Container]) -> Scenario:
    """All others are on other LLC domains, if there are any."""
    threads = shape.cpus_of_domain
    elsewhere = [
        msgspec.structs.replace(container, domain=max(1, container.domain), load=container.load / 2)
        if container.label != VICTIM and shape.llc_domains > 1
        else container
        for container in cast
    ]
    weights = random.permutation([100, 200, 300]).tolist()
    wanting = with_victim(
        elsewhere, threads=threads, load=1.0, work=1.0, is_batch=True, cpu_weight=weights[0], shared_load=0.0
    )
    jobs = [
        _job(label, threads=threads, cpu_weight=weight)
        for label, weight in zip((_JOB, _OTHER_JOB), weights[1:], strict=True)
    ]
    return Scenario(name="fair-share", containers=[*wanting, *jobs])


def noisy_hypervisor(_shape: NodeShape, random: np.random.Generator, cast: list[Container]) -> Scenario:
    """It takes nothing for most of the time, and then up to two thirds."""
    steal = Steal(shares=(-0.6, float(random.uniform(0.5, 0.66))), mean_ticks=60.0)
    return Scenario(name="noisy-hypervisor", containers=cast, steal=steal)


def _job(
    label: str, *, threads: int, domain: int = 0, cpus: Sequence[int] | None = None, cpu_weight: int = 100,
    bursts: Bursts | None = None,
) -> Container:  # fmt: skip
    """It runs all the time, or in bursts, and leaves caches alone."""
    namespace, pod, name = label.split("/")
    return Container(
        name=name,
        pod=pod,
        namespace=namespace,
        threads=threads,
        load=1.0 if bursts is None else 0.02,
        work=1.0 if bursts is None else None,
        domain=domain,
        cpus=cpus,
        is_batch=True,
        shared_load=0.0,
        mpki=0.2,
        cache_sensitivity=0.02,
        bandwidth_sensitivity=0.02,
        cpu_weight=cpu_weight,
        bursts=bursts,
        memory_bytes=2 * 2**30,
    )


def _with_bystander(cast: list[Container], shape: NodeShape) -> list[Container]:
    """With a job that is always busy on CPUs of another LLC domain that are its own, if there are such."""
    domain = shape.llc_domains - 1
    in_domain: list[int] = shape.order_of_domain(domain).tolist()
    own = in_domain[: shape.cpus_of_domain // 2]
    if domain == 0 or not own:
        return cast
    others = [cpu for cpu in in_domain if cpu not in own]
    return [
        *(
            msgspec.structs.replace(container, cpus=others, load=container.load / 2)
            if container.domain == domain
            else container
            for container in cast
        ),
        _job(_OTHER_JOB, threads=len(own), domain=domain, cpus=own),
    ]
