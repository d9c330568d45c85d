# SPDX-License-Identifier: Apache-2.0
"""Who runs in a tick, on which CPU, and for which share of it."""

from typing import NamedTuple

import numpy as np
from numba import njit

from tracer.simulate.physical.cache import Floats, Ints, missing_share
from tracer.simulate.physical.draws import even, following, generator, normal
from tracer.simulate.physical.plan import KINDS, TICK_NS, Plan, State

# A thread that goes on running changes its CPU once in so many ticks.
_STAYS_TICKS = 500.0
# Ticks after which the clock has followed what the cores do.
_CLOCK_TICKS = 4.0


class Turn(NamedTuple):
    """Those who run in a tick, by the order in which they got their CPU: the first `count` of each array [J].

    runs, cpu_of: the thread and its CPU. wants, gets: shares of the tick. planned: instructions it would do.
    done: [J, 3], cycles, instructions and misses. ran, late: ns it ran, and ns it got less than it could have used.
    base, stall: cycles of an instruction but for memory, and those for each ns of its latency.
    hot, warm, stream: accesses of an instruction to these lines; traffic: lines moved for it.
    room: cycles it has in a slice. refill: lines of private caches to fetch.

    load, given: [K], shares of each CPU that are wanted, and run. last: [K], the container that got it last.
    on_cpu: [K], how many threads did. core_busy: [E], the larger share of its CPUs.
    mix, speed, phase: [C, KINDS], [C], [C], what each container does now.
    """

    runs: Ints
    cpu_of: Ints
    wants: Floats
    gets: Floats
    planned: Floats
    done: Floats
    ran: Floats
    late: Floats
    base: Floats
    stall: Floats
    hot: Floats
    warm: Floats
    stream: Floats
    traffic: Floats
    room: Floats
    refill: Floats
    load: Floats
    given: Floats
    last: Ints
    on_cpu: Ints
    mix: Floats
    speed: Floats
    phase: Floats
    core_busy: Floats


@njit(cache=True, forceinline=True)
def new_turn(plan: Plan) -> Turn:
    """With room for all threads."""
    threads, cpus, containers = len(plan.container_of), len(plan.sibling), len(plan.requests)
    return Turn(
        np.empty(threads, np.int64),
        np.empty(threads, np.int64),
        np.empty(threads),
        np.empty(threads),
        np.empty(threads),
        np.zeros((threads, 3)),
        np.empty(threads),
        np.empty(threads),
        np.empty(threads),
        np.empty(threads),
        np.empty(threads),
        np.empty(threads),
        np.empty(threads),
        np.empty(threads),
        np.empty(threads),
        np.empty(threads),
        np.empty(cpus),
        np.empty(cpus),
        np.empty(cpus, np.int64),
        np.empty(cpus, np.int64),
        np.zeros((containers, KINDS)),
        np.ones(containers),
        np.ones(containers),
        np.zeros(int(plan.core[cpus - 1]) + 1),
    )


@njit(cache=True, forceinline=True)
def place_threads(plan: Plan, state: State, turn: Turn, tick: int, clock: float, replays: bool) -> int:
    """Gives those who have work to do a CPU, and fills in what they want; how many that are."""
    caches, half_share, first_set = state.caches, plan.half_share, plan.first_set
    containers = len(plan.requests)
    turn.load[:] = 0.0
    turn.last[:] = -1
    count = 0
    for one_of in range(containers):
        c = (one_of + tick) % containers
        first_thread = plan.first_thread[c]
        of_container = plan.first_thread[c + 1] - first_thread
        total = state.backlog[c, 0] + state.backlog[c, 1] + state.backlog[c, 2]
        if total < 1.0:
            for j in range(first_thread, first_thread + of_container):
                state.ran[j] = 0
            continue
        random = generator(plan.seed, c + 1 + containers, tick)
        turn.speed[c] = np.exp(plan.noise[c] * normal(random))
        turn.phase[c] = np.exp(plan.phases[c] * state.slow[c, 1])
        party = plan.party_of[first_thread]
        memory = state.latency[plan.controller[plan.domain_of[first_thread]]]
        no_hot = missing_share(caches, half_share, first_set, party, 0)
        no_warm = missing_share(caches, half_share, first_set, party, 1)
        runners = of_container
        if state.backlog[c, 2] < 1.0:
            size = plan.request_instructions[c] * (1 + plan.heavy_share[c] * (plan.heavy_size[c] - 1))
            runners = min(of_container, max(1, int(total / size + 0.5)))
        # Jobs first, then requests of both kinds alike, as far as a tick goes.
        cycles_left = runners * TICK_NS * clock
        planned_cycles, instructions = 0.0, 0.0
        requests = 0.0
        for kind in range(KINDS - 1, -1, -1):
            accesses = plan.hot[c, kind] * no_hot + plan.warm[c, kind] * no_warm
            near = (plan.hot[c, kind] + plan.warm[c, kind] + plan.stream[c, kind]) * plan.llc_ns
            cpi = plan.core_cpi[c, kind] * turn.speed[c] * turn.phase[c]
            cpi += clock * (near + accesses * memory) / plan.overlap[c, kind]
            cpi += clock * plan.stream[c, kind] * memory / plan.stream_overlap[c, kind]
            if kind == 1:
                both = state.backlog[c, 0] + state.backlog[c, 1]
                requests = min(1.0, cycles_left / max(both * cpi, 1e-9))
            amount = min(state.backlog[c, 2], cycles_left / cpi) if kind == 2 else state.backlog[c, kind] * requests
            turn.mix[c, kind] = amount
            instructions += amount
            planned_cycles += amount * cpi
            if kind == 2:
                cycles_left -= amount * cpi
        if instructions < 1.0:
            continue
        for kind in range(KINDS):
            turn.mix[c, kind] /= instructions
        want = min(1.0, 1.1 * planned_cycles / (runners * TICK_NS * clock))
        for one in range(of_container):
            j = first_thread + one
            if one >= runners:
                state.ran[j] = 0
                continue
            random = following(random)
            if not replays:
                cpu = _place(plan, state, turn, j, want, random)
                state.placed[tick, j] = cpu
            elif state.placed[tick, j] >= 0:
                cpu = int(state.placed[tick, j])
            else:
                cpu = int(state.home[j])
            state.home[j] = cpu
            state.ran[j] = 1
            turn.last[cpu] = c
            turn.load[cpu] += want
            turn.runs[count], turn.cpu_of[count], turn.wants[count] = j, cpu, want
            turn.planned[count] = instructions / runners
            count += 1
    return count


@njit(cache=True, forceinline=True)
def share_cpus(plan: Plan, state: State, turn: Turn, count: int) -> None:
    """A CPU's threads share it: none gets more than it wants, and what one leaves is there for the others."""
    cpus = len(plan.sibling)
    turn.given[:] = 0.0
    turn.on_cpu[:] = 0
    for k in range(count):
        turn.on_cpu[turn.cpu_of[k]] += 1
    for k in range(count):
        turn.gets[k] = turn.wants[k] if turn.load[turn.cpu_of[k]] <= 1.0 else -1.0
        if turn.gets[k] >= 0:
            turn.given[turn.cpu_of[k]] += turn.gets[k]
    for cpu in range(cpus):
        if turn.load[cpu] <= 1.0:
            continue
        left, waiting, settled = 1.0, turn.on_cpu[cpu], False
        while not settled:
            settled = True
            share = left / max(waiting, 1)
            for k in range(count):
                if turn.cpu_of[k] == cpu and turn.gets[k] < 0 and turn.wants[k] <= share:
                    turn.gets[k] = turn.wants[k]
                    left -= turn.wants[k]
                    waiting -= 1
                    settled = False
        for k in range(count):
            if turn.cpu_of[k] == cpu and turn.gets[k] < 0:
                turn.gets[k] = left / waiting
        turn.given[cpu] = 1.0
    turn.core_busy[:] = 0.0
    for cpu in range(cpus):
        turn.core_busy[plan.core[cpu]] = max(turn.core_busy[plan.core[cpu]], turn.given[cpu])
    state.busy_cores[0] += (turn.core_busy.sum() - state.busy_cores[0]) / _CLOCK_TICKS


@njit(cache=True, forceinline=True)
def _place(plan: Plan, state: State, turn: Turn, j: int, wants: float, random: np.uint64) -> int:
    """The CPU of a thread: where it was while there is room, else the least busy one, an idle core first."""
    home, domain = state.home[j], plan.domain_of[j]
    moves = even(random) < 1 / _STAYS_TICKS
    if state.ran[j] and not moves and turn.load[home] + wants <= 1.0:
        return int(home)
    first, after = plan.first_cpu[domain], plan.first_cpu[domain + 1]
    count = after - first
    start = int(even(following(random)) * count) if moves else home - first
    best, least = home, 1e9
    for step in range(count):
        cpu = first + (start + step) % count
        beside = 0.5 * turn.load[plan.sibling[cpu]] if plan.sibling[cpu] >= 0 else 0.0
        taken = turn.load[cpu] + beside + (10.0 if turn.last[cpu] == plan.container_of[j] else 0.0)
        if taken < least - 1e-9:
            best, least = cpu, taken
    return int(best)
