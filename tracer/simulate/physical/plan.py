# SPDX-License-Identifier: Apache-2.0
"""A physical scenario as arrays, and what changes while it runs.

C containers, J threads, P parties (a container's threads in one LLC domain), K CPUs, E cores, D LLC domains, M memory
controllers, T ticks. Kinds of work: 0 ordinary requests, 1 heavy ones, 2 jobs.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tracer.simulate.physical.cache import Caches, Floats, Ints, empty_caches
from tracer.simulate.physical.workload import Machine, PhysicalScenario, Work
from tracer.simulate.random_times import SharedLoad

Placed = npt.NDArray[np.int16]

TICK_NS = 1e6
KINDS = 3
# Sets of lines of a party in each half of a cache: hot, warm, stream.
SETS = 3
# A private cache is looked at so often for each instruction, which is how fast a cold one fills.
PRIVATE_ACCESSES = 0.03
_LINE_BYTES = 64


class Plan(NamedTuple):
    """What does not change."""

    seed: int
    # [C + 1], [J], [J], [J]
    first_thread: Ints
    container_of: Ints
    party_of: Ints
    domain_of: Ints
    # [C, KINDS]
    core_cpi: Floats
    hot: Floats
    warm: Floats
    stream: Floats
    overlap: Floats
    stream_overlap: Floats
    written: Floats
    # [C]
    requests: Floats
    request_instructions: Floats
    spread: Floats
    heavy_share: Floats
    heavy_size: Floats
    shared_load: Floats
    own_load: Floats
    always: Ints
    collection_every: Floats
    collection: Floats
    private_lines: Floats
    smt_cost: Floats
    noise: Floats
    phases: Floats
    # [C + 1], then by call
    first_call: Ints
    call_to: Ints
    call_ordinary: Floats
    call_heavy: Floats
    # [T], [T + 1], then by event
    load: Floats
    first_event: Ints
    event_container: Ints
    event_instructions: Floats
    # [K], [K], [D + 1], [D]
    sibling: Ints
    core: Ints
    first_cpu: Ints
    controller: Ints
    # [P, 2], first set of lines in either half of the cache; [2], share of a party's lines that are there
    first_set: Ints
    half_share: Floats
    # [M] lines for each ns
    memory_rate: Floats
    llc_ns: float
    memory_ns: float
    burst_lines: float
    l2_lines: float
    top_ghz: float
    all_cores_ghz: float


class State(NamedTuple):
    """What changes. backlog: [C, KINDS] instructions. slow: [C, 2], own load and mix of work. since_collection: [C].

    home: [J], the CPU. placed: [T, J], the CPU on which each thread ran in each tick, or -1.
        ran: [J], whether it did in the last tick.
    private: [C, E], share of a container's lines in a core's private caches, when it ran there last; seen: [C, E], the
        core's `fills` [E] then. busy_cores: [1], smoothed. latency: [M] ns of a miss.
    """

    caches: Caches
    backlog: Floats
    slow: Floats
    since_collection: Floats
    home: Ints
    placed: Placed
    ran: Ints
    private: Floats
    seen: Floats
    fills: Floats
    busy_cores: Floats
    latency: Floats


def alone_cpi(work: Work, machine: Machine) -> float:
    """Cycles per instruction with all its lines in the cache and memory idle."""
    stall = work.accesses * machine.llc_ns / work.overlap
    stall += work.accesses * max(0.0, 1 - work.hot - work.warm) * machine.memory_ns / work.stream_overlap
    return work.core_cpi + stall * machine.top_ghz


def plan_of(scenario: PhysicalScenario, events: list[tuple[int, int, float]], *, seed: int, ticks: int) -> Plan:
    """The plan of a run. `events` are (tick, container, instructions of a job)."""
    shape, machine, workloads = scenario.shape, scenario.machine, scenario.workloads
    threads = [(index, one) for index, w in enumerate(workloads) for one in range(w.container.threads)]
    domains = np.array([workloads[index].domains[one % len(workloads[index].domains)] for index, one in threads])
    containers = np.array([index for index, _one in threads])
    parties = sorted({(int(d), int(c)) for d, c in zip(domains, containers, strict=True)})
    labels = [w.container.label for w in workloads]
    kinds = [(w.work, w.heavy, w.job) for w in workloads]
    calls = [(index, call) for index, w in enumerate(workloads) for call in w.calls]
    events = sorted(events)
    controllers = -(-shape.llc_domains // machine.llcs_per_controller)

    def by_container(values: list[float]) -> Floats:
        return np.array(values, np.float64)

    def by_kind(name: str) -> Floats:
        return np.array([[getattr(kind, name) for kind in of_one] for of_one in kinds], np.float64)

    accesses, hot, warm = by_kind("accesses"), by_kind("hot"), by_kind("warm")
    random = np.random.default_rng([seed, *b"load"])
    return Plan(
        seed=seed,
        first_thread=np.searchsorted(containers, np.arange(len(workloads) + 1)),
        container_of=containers,
        party_of=np.array([parties.index((int(d), int(c))) for d, c in zip(domains, containers, strict=True)]),
        domain_of=domains,
        core_cpi=by_kind("core_cpi"),
        hot=accesses * hot,
        warm=accesses * warm,
        stream=accesses * np.maximum(0.0, 1 - hot - warm),
        overlap=by_kind("overlap"),
        stream_overlap=by_kind("stream_overlap"),
        written=by_kind("written"),
        requests=by_container([w.requests_per_s / 1_000 for w in workloads]),
        request_instructions=by_container([w.request_instructions for w in workloads]),
        spread=by_container([w.spread for w in workloads]),
        heavy_share=by_container([w.heavy_share for w in workloads]),
        heavy_size=by_container([w.heavy_size for w in workloads]),
        shared_load=by_container([w.shared_load for w in workloads]),
        own_load=by_container([w.own_load for w in workloads]),
        always=np.array([w.always for w in workloads], np.int64),
        collection_every=by_container([w.collection_every for w in workloads]),
        collection=by_container([w.collection for w in workloads]),
        private_lines=by_container(
            [min(machine.l2_bytes, w.hot_bytes + w.warm_bytes) / _LINE_BYTES for w in workloads]
        ),
        smt_cost=by_container([w.smt_cost for w in workloads]),
        noise=by_container([w.noise for w in workloads]),
        phases=by_container([w.phases for w in workloads]),
        first_call=np.searchsorted([index for index, _call in calls], np.arange(len(workloads) + 1)),
        call_to=np.array([labels.index(call.to) for _index, call in calls], np.int64),
        call_ordinary=by_container([call.ordinary for _index, call in calls]),
        call_heavy=by_container([call.heavy for _index, call in calls]),
        load=SharedLoad(random, ticks).at(np.arange(ticks)),
        first_event=np.searchsorted([tick for tick, _c, _i in events], np.arange(ticks + 1)),
        event_container=np.array([container for _t, container, _i in events], np.int64),
        event_instructions=by_container([instructions for _t, _c, instructions in events]),
        sibling=np.full(shape.cpus, -1) if (siblings := shape.sibling_of_cpu()) is None else siblings,
        core=np.arange(shape.cpus) // (2 if shape.smt else 1),
        first_cpu=np.arange(shape.llc_domains + 1) * shape.cpus_of_domain,
        controller=np.arange(shape.llc_domains) // machine.llcs_per_controller,
        first_set=_first_sets(np.array([domain for domain, _container in parties]), shape.llc_domains),
        half_share=np.array([1 + machine.ways**-0.5, 1 - machine.ways**-0.5]) / 2,
        memory_rate=np.full(controllers, machine.memory_bytes_per_ns / _LINE_BYTES),
        llc_ns=machine.llc_ns,
        memory_ns=machine.memory_ns,
        burst_lines=machine.burst_lines,
        l2_lines=machine.l2_bytes / _LINE_BYTES,
        top_ghz=machine.top_ghz,
        all_cores_ghz=machine.all_cores_ghz,
    )


def state_of(scenario: PhysicalScenario, plan: Plan, placed: Placed | None = None) -> State:
    """The machine at its start, with nothing in its caches and nothing to do; `placed` as another run left it."""
    machine, workloads = scenario.machine, scenario.workloads
    parties = int(plan.party_of.max()) + 1
    lines = np.full(2 * SETS * parties, np.inf)
    circles = np.zeros(len(lines), np.int64)
    for party, container in zip(plan.party_of, plan.container_of, strict=True):
        for half, share in enumerate(plan.half_share):
            first = plan.first_set[party, half]
            lines[first] = share * workloads[container].hot_bytes / _LINE_BYTES
            circles[first + 1] = workloads[container].scans
            lines[first + 1] = share * workloads[container].warm_bytes / _LINE_BYTES
    domains = len(plan.controller)
    in_domain = np.bincount(plan.domain_of[np.unique(plan.party_of, return_index=True)[1]], minlength=domains)
    threads, containers, cores = len(plan.party_of), len(workloads), int(plan.core.max()) + 1
    domain_cpus = np.diff(plan.first_cpu)[plan.domain_of]
    return State(
        caches=empty_caches(
            np.concatenate([[0], np.cumsum(np.repeat(SETS * in_domain, 2))]),
            lines,
            circles,
            np.full(2 * domains, machine.llc_bytes / _LINE_BYTES / 2),
            machine.random_share,
        ),
        backlog=np.zeros((containers, KINDS)),
        slow=np.zeros((containers, 2)),
        since_collection=np.zeros(containers),
        home=plan.first_cpu[plan.domain_of] + np.arange(threads) % domain_cpus,
        placed=np.full((len(plan.load), threads), -1, np.int16) if placed is None else placed,
        ran=np.zeros(threads, np.int64),
        private=np.zeros((containers, cores)),
        seen=np.zeros((containers, cores)),
        fills=np.zeros(cores),
        busy_cores=np.zeros(1),
        latency=np.full(len(plan.memory_rate), machine.memory_ns),
    )


def _first_sets(domain_of_party: Ints, domains: int) -> Ints:
    """[P, 2]: parties are sorted by domain; each domain has a cache for crowded sets and one for the others.

    How many lines fall into a set varies as the root of how many there are; half of the sets are fuller by that.
    """
    in_domain = np.bincount(domain_of_party, minlength=domains)
    before = np.concatenate([[0], np.cumsum(in_domain)[:-1]])
    place = np.arange(len(domain_of_party)) - before[domain_of_party]
    first = 2 * SETS * before[domain_of_party] + SETS * place
    found: Ints = np.stack([first, first + SETS * in_domain[domain_of_party]], axis=1)
    return found
