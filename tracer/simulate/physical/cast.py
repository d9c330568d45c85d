# SPDX-License-Identifier: Apache-2.0
"""Who is on a physical node before anything is planted: services drawn at random, and a machine for them."""

from collections.abc import Sequence

import msgspec
import numpy as np

from tracer.simulate.physical.plan import alone_cpi
from tracer.simulate.physical.workload import Bursts, Machine, Work, Workload
from tracer.simulate.scenario import Container
from tracer.simulate.shape import NodeShape

_NAMES = ("web", "api", "cart", "auth", "search", "stock", "mail", "feed", "ads", "users", "pay", "log")
# A thread that has more to do than this falls behind at every wave of requests.
_BUSIEST_THREAD = 0.45
_MIB = 2**20


class Draw:
    """Random values of a scenario, from wide ranges."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random

    def even(self, low: float, high: float) -> float:
        """From `low` to `high`, each as likely."""
        return float(self._random.uniform(low, high))

    def wide(self, low: float, high: float) -> float:
        """From `low` to `high`, each factor as likely."""
        return float(np.exp(self._random.uniform(np.log(low), np.log(high))))

    def whole(self, low: int, high: int) -> int:
        """From `low` to `high`, both too."""
        return int(self._random.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        """Whether it happens."""
        return bool(self._random.random() < probability)


def machine(draw: Draw, shape: NodeShape) -> Machine:
    """Caches, memory and clocks as servers have them."""
    return Machine(
        llc_bytes=draw.whole(8, 32) * _MIB,
        random_share=draw.even(0.0, 0.3),
        l2_bytes=int(draw.wide(0.5, 2) * _MIB),
        llc_ns=draw.even(10, 20),
        memory_ns=draw.even(75, 115),
        memory_bytes_per_ns=draw.even(14, 30) * shape.cpus_of_domain / 4,
        llcs_per_controller=draw.whole(1, 2) if shape.llc_domains > 1 else 1,
        burst_lines=draw.wide(4, 16),
        all_cores_ghz=draw.even(2.5, 3.3),
    )


def services(draw: Draw, shape: NodeShape, on: Machine, count: int) -> list[Workload]:
    """`count` of them, which leave CPUs and caches some room: how much is drawn too."""
    in_domain = [max(1, len(range(domain, count, shape.llc_domains))) for domain in range(shape.llc_domains)]
    busy, filled = draw.even(0.1, 0.35), draw.even(0.15, 0.5)
    found = []
    for number in range(count):
        domain = number % shape.llc_domains
        share = busy * shape.cpus_of_domain / in_domain[domain] * draw.wide(0.4, 1.6)
        memory = filled * on.llc_bytes / in_domain[domain] * draw.wide(0.3, 1.5)
        pod = f"{_NAMES[number % len(_NAMES)]}-{number // len(_NAMES) + 1}"
        found.append(service(draw, on, pod, domain, cpus=share, lines_bytes=memory, most=shape.cpus_of_domain))
    return found


def service(
    draw: Draw, on: Machine, pod: str, domain: int, *, cpus: float, lines_bytes: float, most: int, **changes: object
) -> Workload:
    """One that is busy on so many CPUs in the mean, and uses so many bytes again and again."""
    work = Work(
        core_cpi=draw.even(0.45, 1.2),
        accesses=draw.wide(0.003, 0.02),
        hot=(hot := draw.even(0.4, 0.75)),
        warm=1 - hot - draw.even(0.0, 0.04),
        overlap=draw.even(1.4, 4),
        written=draw.even(0.05, 0.5),
    )
    instructions = draw.wide(1e5, 3e6)
    threads = min(most, max(1, round(cpus / _BUSIEST_THREAD + 0.5)))
    made = Workload(
        container=Container(
            name="app", pod=pod, namespace="shop", threads=threads, memory_bytes=draw.whole(64, 2048) * _MIB
        ),
        domains=(domain,),
        requests_per_s=min(cpus, threads * _BUSIEST_THREAD) * 1e9 * on.top_ghz / alone_cpi(work, on) / instructions,
        request_instructions=instructions,
        spread=draw.even(0.2, 1.0),
        shared_load=draw.even(0.1, 0.9),
        own_load=draw.even(0.1, 0.6),
        work=work,
        heavy=work,
        hot_bytes=(hot_bytes := lines_bytes * draw.even(0.05, 0.3)),
        warm_bytes=lines_bytes - hot_bytes,
        scans=draw.chance(0.2),
        smt_cost=draw.even(1.1, 1.5),
        noise=draw.even(0.02, 0.08),
        phases=draw.even(0.02, 0.12),
    )
    return msgspec.structs.replace(made, **changes)


def sensitive(draw: Draw, on: Machine, shape: NodeShape, pod: str, domain: int, **changes: object) -> Workload:
    """A service that lives on what it finds in the last-level cache."""
    made = service(
        draw, on, pod, domain,
        cpus=draw.even(0.1, 0.25) * shape.cpus_of_domain, lines_bytes=draw.even(0.15, 0.55) * on.llc_bytes,
        most=shape.cpus_of_domain,
    )  # fmt: skip
    work = msgspec.structs.replace(made.work, accesses=draw.wide(0.012, 0.035), hot=0.3, warm=0.69)
    rate = made.requests_per_s * alone_cpi(made.work, on) / alone_cpi(work, on)
    made = msgspec.structs.replace(made, work=work, heavy=work, requests_per_s=rate)
    return msgspec.structs.replace(made, **changes)


def stream(draw: Draw, pod: str, domains: tuple[int, ...], threads: int, bursts: Bursts | None) -> Workload:
    """A job that reads through memory; without bursts, without end."""
    return Workload(
        container=_job(draw, pod, threads),
        domains=domains,
        job=Work(
            core_cpi=draw.even(0.4, 0.8),
            accesses=draw.wide(0.012, 0.06),
            hot=0.02,
            warm=0.03,
            stream_overlap=draw.even(5, 14),
            written=draw.even(0.0, 0.6),
        ),
        bursts=bursts,
        always=bursts is None,
        smt_cost=draw.even(1.1, 1.4),
    )


def harmless_job(draw: Draw, pod: str, domains: tuple[int, ...], threads: int, bursts: Bursts | None) -> Workload:
    """A job that computes, in the core and its own caches."""
    return Workload(
        container=_job(draw, pod, threads),
        domains=domains,
        job=Work(core_cpi=draw.even(0.4, 0.9), accesses=draw.wide(0.0002, 0.001), hot=0.9, warm=0.1),
        bursts=bursts,
        always=bursts is None,
        hot_bytes=64 * 2**10,
        warm_bytes=128 * 2**10,
    )


def bursts(draw: Draw, **changes: object) -> Bursts:
    """Of 3 to 60 ms, each some 30 to 400 ms."""
    shortest = draw.wide(3, 15)
    made = Bursts(lengths=(shortest, shortest * draw.wide(1.1, 4)), mean_gap=draw.wide(30, 400))
    return msgspec.structs.replace(made, **changes)


def find(workloads: Sequence[Workload], label: str) -> int:
    """Its place."""
    return [workload.container.label for workload in workloads].index(label)


def _job(draw: Draw, pod: str, threads: int) -> Container:
    return Container(
        name="job",
        pod=pod,
        namespace="jobs",
        threads=threads,
        is_batch=True,
        memory_bytes=draw.whole(1, 8) * 1024 * _MIB,
    )
