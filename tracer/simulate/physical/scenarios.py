# SPDX-License-Identifier: Apache-2.0
"""The physical scenarios by name. Each is a mechanism, with strengths, periods, bursts and loads drawn at random.

How much anybody loses is not chosen: it comes of what is drawn, and may be nothing. `planted` are those who may harm.
"""

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np

from tracer.errors import UsageError
from tracer.simulate.physical.cast import (
    Draw,
    bursts,
    harmless_job,
    machine,
    sensitive,
    service,
    services,
    stream,
)
from tracer.simulate.physical.plan import alone_cpi
from tracer.simulate.physical.workload import Bursts, Call, Machine, PhysicalScenario, Work, Workload
from tracer.simulate.shape import NodeShape

_VICTIM, _JOB, _SECOND_JOB = "shop-0", "batch-7", "batch-3"
_JOB_LABEL, _SECOND_JOB_LABEL = f"jobs/{_JOB}/job", f"jobs/{_SECOND_JOB}/job"


class Node(NamedTuple):
    """What a scenario is built on: services that do each other no harm to speak of, unless the draw wants it."""

    draw: Draw
    shape: NodeShape
    machine: Machine
    cast: list[Workload]

    def scenario(self, *more: Workload, **changes: object) -> PhysicalScenario:
        """With these workloads beside the cast."""
        made = PhysicalScenario(name="", shape=self.shape, machine=self.machine, workloads=[*self.cast, *more])
        return msgspec.structs.replace(made, **changes)

    def job_threads(self) -> int:
        """A part of a cache's CPUs."""
        return self.draw.whole(1, max(1, self.shape.cpus_of_domain // 2))

    def victim(self, **changes: object) -> Workload:
        """On the first cache."""
        return sensitive(self.draw, self.machine, self.shape, _VICTIM, 0, **changes)


def _quiet(node: Node) -> PhysicalScenario:
    return node.scenario()


def _cache_bursts(node: Node) -> PhysicalScenario:
    job = stream(node.draw, _JOB, (0,), node.job_threads(), bursts(node.draw))
    return node.scenario(node.victim(), job, planted=[_JOB_LABEL])


def _fellow_victims(node: Node) -> PhysicalScenario:
    """Most services of the cache live on what they find there, and fetch it anew after each burst, all at once."""
    count = min(node.draw.whole(2, 4), max(1, node.shape.cpus_of_domain // 2))
    victims = [
        sensitive(
            node.draw, node.machine, node.shape, f"shop-{number}", 0,
            warm_bytes=node.draw.even(0.5, 0.9) / count * node.machine.llc_bytes,
        )
        for number in range(count)
    ]  # fmt: skip
    job = stream(node.draw, _JOB, (0,), node.job_threads(), bursts(node.draw, mean_gap=node.draw.wide(60, 400)))
    return node.scenario(*victims, job, planted=[_JOB_LABEL])


def _sleeper(node: Node) -> PhysicalScenario:
    """The victim runs a few ms each some tens of ms, and its lines go while it sleeps."""
    victim = node.victim(requests_per_s=node.draw.wide(8, 40), spread=0.3)
    cycles = node.draw.even(2, 12) * 1e6 * node.machine.top_ghz
    victim = msgspec.structs.replace(victim, request_instructions=cycles / alone_cpi(victim.work, node.machine))
    job = stream(node.draw, _JOB, (0,), node.job_threads(), bursts(node.draw))
    return node.scenario(victim, job, planted=[_JOB_LABEL])


def _timer_job(node: Node) -> PhysicalScenario:
    """A job by a timer, beside a victim that has a timer of its own."""
    period = node.draw.wide(80, 2_000)
    length = node.draw.wide(4, min(60, period / 3))
    job_bursts = Bursts(lengths=(length, length * 1.2), period=period, jitter=node.draw.even(0, 0.05) * period)
    own_length = node.draw.wide(1, 10)
    victim = node.victim(
        bursts=Bursts(lengths=(own_length, own_length * 1.2), period=node.draw.wide(100, 2_000), jitter=1.0),
        job=Work(core_cpi=node.draw.even(0.8, 1.6), accesses=0.02, hot=0.3, warm=0.65),
    )
    job = stream(node.draw, _JOB, (0,), node.job_threads(), job_bursts)
    return node.scenario(victim, job, planted=[_JOB_LABEL])


def _always_there(node: Node) -> PhysicalScenario:
    job = stream(node.draw, _JOB, (0,), node.job_threads(), None)
    return node.scenario(node.victim(), job, planted=[_JOB_LABEL])


def _two_at_once(node: Node) -> PhysicalScenario:
    first = bursts(node.draw)
    jobs = [
        stream(node.draw, _JOB, (0,), node.job_threads(), first),
        stream(node.draw, _SECOND_JOB, (0,), node.job_threads(), Bursts(lengths=first.lengths, with_label=_JOB_LABEL)),
    ]
    planted = [_JOB_LABEL, _SECOND_JOB_LABEL]
    return node.scenario(node.victim(), *jobs, planted=planted, together=[tuple(planted)])


def _two_apart(node: Node) -> PhysicalScenario:
    jobs = [
        stream(node.draw, pod, (0,), node.job_threads(), bursts(node.draw, begin=begin, end=end))
        for pod, begin, end in ((_JOB, 0.0, 0.7), (_SECOND_JOB, 0.25, 1.0))
    ]
    return node.scenario(node.victim(), *jobs, planted=[_JOB_LABEL, _SECOND_JOB_LABEL])


def _decoy(node: Node) -> PhysicalScenario:
    """A second job acts whenever the guilty one does, and touches nothing."""
    first = bursts(node.draw)
    with_it = Bursts(lengths=first.lengths, with_label=_JOB_LABEL, together=node.draw.even(0.7, 1.0))
    domain = 0 if node.shape.llc_domains == 1 or node.draw.chance(0.5) else 1
    decoy = harmless_job(node.draw, _SECOND_JOB, (domain,), 1, with_it)
    if domain:
        # On another cache, it may read as much as it wants.
        decoy = stream(node.draw, _SECOND_JOB, (domain,), 1, with_it)
        node = node._replace(machine=msgspec.structs.replace(node.machine, llcs_per_controller=1))
    job = stream(node.draw, _JOB, (0,), node.job_threads(), first)
    return node.scenario(node.victim(), job, decoy, planted=[_JOB_LABEL])


def _two_services(node: Node) -> PhysicalScenario:
    """Each would fit the cache alone."""
    lines = node.draw.even(0.55, 0.85) * node.machine.llc_bytes
    pair = [
        sensitive(
            node.draw, node.machine, node.shape, pod, 0, warm_bytes=lines * node.draw.even(0.8, 1.2), scans=False,
            own_load=node.draw.even(0.3, 0.9),
        )
        for pod in (_VICTIM, "shop-1")
    ]  # fmt: skip
    # Few others, for whom there is room.
    return msgspec.structs.replace(
        node.scenario(*pair, planted=[w.container.label for w in pair]),
        workloads=[*(w for w in node.cast if w.domains[0] != 0), *node.cast[:1], *pair],
    )


def _bandwidth(node: Node, share: tuple[float, float]) -> PhysicalScenario:
    """Streams on one cache, services that miss much on all: they share a controller. `share` of what it can move."""
    shared = msgspec.structs.replace(node.machine, llcs_per_controller=min(2, node.shape.llc_domains))
    domain = node.shape.llc_domains - 1 if node.shape.llc_domains <= 2 else 1
    threads = max(1, node.shape.cpus_of_domain // 2)
    job = stream(node.draw, _JOB, (domain,), threads, bursts(node.draw))
    cpi = alone_cpi(job.job, shared)
    lines_per_ns = threads * shared.top_ghz / cpi * job.job.accesses * 0.95 * (1 + job.job.written)
    victim = node.victim(
        work=(missing := Work(core_cpi=0.7, accesses=node.draw.wide(0.01, 0.03), hot=0.2, warm=0.4, stream_overlap=3)),
        heavy=missing,
    )
    rate = node.draw.even(*share)
    shared = msgspec.structs.replace(shared, memory_bytes_per_ns=lines_per_ns * 64 / rate)
    return node._replace(machine=shared).scenario(victim, job, planted=[_JOB_LABEL])


def _above_the_knee(node: Node) -> PhysicalScenario:
    return _bandwidth(node, (0.9, 1.8))


def _below_the_knee(node: Node) -> PhysicalScenario:
    """On another cache than the victim, where there is one."""
    return _bandwidth(node, (0.1, 0.35))


def _fan_out(node: Node) -> PhysicalScenario:
    """Heavy requests to one service make a second one busy, which misses much; neither harms the other."""
    front = node.victim(heavy_share=node.draw.even(0.02, 0.15), heavy_size=node.draw.even(3, 10), warm_bytes=2**20)
    front = msgspec.structs.replace(
        front,
        requests_per_s=front.requests_per_s / (1 + front.heavy_share * (front.heavy_size - 1)),
        heavy=msgspec.structs.replace(front.work, core_cpi=front.work.core_cpi * node.draw.even(1.2, 2.2)),
    )
    back = service(
        node.draw, node.machine, "store-0", 0, cpus=0.2, lines_bytes=2**20, most=node.shape.cpus_of_domain,
        requests_per_s=0.0, request_instructions=node.draw.wide(2e5, 1e6),
        work=Work(accesses=node.draw.wide(0.008, 0.025), hot=0.4, warm=0.3),
    )  # fmt: skip
    front = msgspec.structs.replace(
        front, calls=[Call(to=back.container.label, ordinary=node.draw.even(0, 0.1), heavy=node.draw.even(0.3, 1.2))]
    )
    return node.scenario(front, back)


def _own_timers(node: Node) -> PhysicalScenario:
    """Services with timers of the same period, which do other work than requests."""
    period = node.draw.wide(80, 1_500)
    with_timers = [
        node.victim(
            container=msgspec.structs.replace(node.victim().container, pod=f"shop-{number}"),
            warm_bytes=node.draw.even(0.05, 0.15) * node.machine.llc_bytes,
            bursts=Bursts(lengths=(length := node.draw.wide(2, 15), 1.2 * length), period=period, jitter=2.0),
            job=Work(core_cpi=node.draw.even(0.9, 2.0), accesses=node.draw.wide(0.01, 0.03), hot=0.3, warm=0.6),
        )
        for number in range(2)
    ]
    return node.scenario(*with_timers)


def _own_collections(node: Node) -> PhysicalScenario:
    """A service collects its garbage after so much work, and is slow while it does."""
    victim = node.victim(warm_bytes=node.draw.even(0.1, 0.3) * node.machine.llc_bytes)
    work = victim.requests_per_s * victim.request_instructions
    every = work * node.draw.wide(0.1, 1.5)
    collecting = msgspec.structs.replace(
        victim,
        collection_every=every,
        collection=every * node.draw.even(0.05, 0.2),
        job=Work(core_cpi=node.draw.even(1.0, 2.0), accesses=node.draw.wide(0.02, 0.04), hot=0.1, warm=0.85),
    )
    return node.scenario(collecting)


def _smt_only(node: Node) -> PhysicalScenario:
    """Jobs that compute: what they cost is on siblings, and in the clock."""
    job = harmless_job(node.draw, _JOB, (0,), max(1, node.shape.cpus_of_domain // 2), bursts(node.draw))
    return node.scenario(node.victim(), job, planted=[_JOB_LABEL])


def _clocks(node: Node) -> PhysicalScenario:
    """A job on all CPUs of the other caches makes the clock fall."""
    others = tuple(range(1, node.shape.llc_domains)) or (0,)
    threads = min(len(others) * node.shape.cpus_of_domain, 16)
    slow = msgspec.structs.replace(node.machine, all_cores_ghz=node.draw.even(2.0, 2.6))
    job = harmless_job(node.draw, _JOB, others, threads, bursts(node.draw))
    return node._replace(machine=slow).scenario(node.victim(), job)


def _crowd(node: Node) -> PhysicalScenario:
    """Several of everything at once."""
    draw = node.draw
    more: list[Workload] = []
    planted = []
    for number in range(draw.whole(1, 3)):
        domain = draw.whole(0, node.shape.llc_domains - 1)
        more.append(sensitive(draw, node.machine, node.shape, f"shop-{number}", domain))
    for number in range(draw.whole(1, 3)):
        domain = draw.whole(0, node.shape.llc_domains - 1)
        make = stream if draw.chance(0.6) else harmless_job
        more.append(make(draw, f"batch-{number}", (domain,), node.job_threads(), bursts(draw)))
        planted.append(more[-1].container.label)
    return node.scenario(*more, planted=planted)


class NamedScenario(NamedTuple):
    """A scenario's builder, and what it is in one line."""

    build: Callable[[Node], PhysicalScenario]
    summary: str


PHYSICAL_SCENARIOS = {
    "quiet": NamedScenario(_quiet, "services that share a node and little else"),
    "cache-bursts": NamedScenario(_cache_bursts, "bursts of a job evict lines of a service, which misses them later"),
    "fellow-victims": NamedScenario(_fellow_victims, "services fetch their lines anew after each burst of a job"),
    "sleeper": NamedScenario(_sleeper, "a service that runs rarely loses its lines to a job while it sleeps"),
    "timer-job": NamedScenario(_timer_job, "a job by a timer, beside a service with a timer of its own"),
    "always-there": NamedScenario(_always_there, "a job that never stops"),
    "two-at-once": NamedScenario(_two_at_once, "two jobs in the same bursts"),
    "two-apart": NamedScenario(_two_apart, "two jobs, each at times of its own"),
    "decoy": NamedScenario(_decoy, "a job acts when another one does that does the harm"),
    "two-services": NamedScenario(_two_services, "two services that do not fit one cache together"),
    "above-the-knee": NamedScenario(_above_the_knee, "a job fills a memory controller that two caches share"),
    "below-the-knee": NamedScenario(_below_the_knee, "a job reads much, and memory can bring it"),
    "fan-out": NamedScenario(_fan_out, "heavy requests make a service slow and a second one busy, harmlessly"),
    "own-timers": NamedScenario(_own_timers, "services have timers, and harm nobody"),
    "own-collections": NamedScenario(_own_collections, "a service collects its garbage"),
    "smt-only": NamedScenario(_smt_only, "a job computes on the siblings of others' CPUs"),
    "clocks": NamedScenario(_clocks, "the clock falls with each core that is busy elsewhere"),
    "crowd": NamedScenario(_crowd, "several services and jobs of any kind"),
}


def build_physical(name: str, *, shape: NodeShape, seed: int, containers: int) -> PhysicalScenario:
    """The scenario of one of the names in PHYSICAL_SCENARIOS, with so many containers beside those it is about.

    Raises UsageError for a node that it cannot be on.
    """
    if shape.cpus_of_domain < 2:
        raise UsageError("--machine physical: each LLC domain needs two CPUs or more; give more --cpus")
    draw = Draw(np.random.default_rng([seed, *name.encode()]))
    on = machine(draw, shape)
    node = Node(draw, shape, on, services(draw, shape, on, containers))
    return msgspec.structs.replace(PHYSICAL_SCENARIOS[name].build(node), name=name)
