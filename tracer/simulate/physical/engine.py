# SPDX-License-Identifier: Apache-2.0
"""The physical machine, tick by tick: work arrives, threads get CPUs, cores run until what they wait for is there.

Nothing here says how much one container slows down another. They meet in the lines of a cache, in the queue of a memory
controller, on a core's two siblings, in its private caches, in the clock that falls with each busy core, and where one
has to wait for a CPU that another has.

numba keeps what it compiled until this file changes: remove `__pycache__/engine.*` after a change of `placing.py`,
`slices.py`, `cache.py` or `draws.py`.
"""

import numpy as np
from numba import njit

from tracer.simulate.physical.cache import Floats, Ints
from tracer.simulate.physical.draws import even, following, generator, normal
from tracer.simulate.physical.placing import Turn, new_turn, place_threads, share_cpus
from tracer.simulate.physical.plan import KINDS, TICK_NS, Plan, State
from tracer.simulate.physical.slices import run_slices

# Of a row: tick, CPU, container; ns, cycles, instructions, misses; switches, waits, ns waited, and behind its own.
COLUMNS = 11
# Ticks after which random courses have forgotten themselves.
_LOAD_TICKS = 400.0
_PHASE_TICKS = 2_500.0
_MOST_REQUESTS = 64
_ENDLESS = 1e15


@njit(cache=True, nogil=True)
def run(
    plan: Plan,
    state: State,
    first_tick: int,
    ticks: int,
    gone: Ints,
    replays: bool,
    siblings: bool,
    pauses: bool,
    sums: Floats,
    rows: Ints,
    ready: Ints,
    behind: Ints,
) -> int:
    """Runs `ticks` ticks, without those who are `gone`; returns the number of rows. With `replays`, each thread is
    where it was in the run that left its places in `state.placed`, and where it last was in ticks in which it did not
    run then. siblings, pauses: whether busy siblings and cold private caches cost anything.

    Adds cycles, instructions, misses and ns to `sums` [C, 4]. Unless `rows` has length 0, it also writes them, [N,
    COLUMNS], and adds ns of waiting for a CPU to `ready` [T, C] and, by who held it, to `behind` [C, C + 2].
    """
    turn = new_turn(plan)
    found = 0
    for number in range(ticks):
        tick = first_tick + number
        _arrive(plan, state, tick, gone)
        busy_share = state.busy_cores[0] / len(turn.core_busy)
        clock = plan.top_ghz - (plan.top_ghz - plan.all_cores_ghz) * busy_share
        count = place_threads(plan, state, turn, tick, clock, replays)
        share_cpus(plan, state, turn, count)
        run_slices(plan, state, turn, tick, count, clock, siblings, pauses)
        _account(plan, state, turn, count, clock, sums)
        if len(rows):
            found = _write(plan, turn, count, tick, rows, found, ready[number], behind)
    return found


@njit(cache=True, forceinline=True)
def _arrive(plan: Plan, state: State, tick: int, gone: Ints) -> None:
    """The requests, jobs and collections that begin in this tick. Who is gone has no work, but still calls others."""
    backlog, slow = state.backlog, state.slow
    for c in range(len(plan.requests)):
        random = generator(plan.seed, c + 1, tick)
        slow[c, 0] += -slow[c, 0] / _LOAD_TICKS + normal(random) * (2 / _LOAD_TICKS) ** 0.5
        random = following(random)
        slow[c, 1] += -slow[c, 1] / _PHASE_TICKS + normal(random) * (2 / _PHASE_TICKS) ** 0.5
        if plan.requests[c] > 0:
            mean = plan.requests[c] * (1 + plan.shared_load[c] * (plan.load[tick] - 1))
            mean *= np.exp(plan.own_load[c] * slow[c, 0] - 0.5 * plan.own_load[c] ** 2)
            # How many arrive at a rate: Poisson.
            random = following(random)
            left, chance, count = even(random), np.exp(-mean), 0
            while left > chance and count < _MOST_REQUESTS:
                left -= chance
                count += 1
                chance *= mean / count
            for _request in range(count):
                random = following(random)
                is_heavy = even(random) < plan.heavy_share[c]
                random = following(random)
                size = np.exp(plan.spread[c] * normal(random) - 0.5 * plan.spread[c] ** 2)
                size *= plan.request_instructions[c] * (plan.heavy_size[c] if is_heavy else 1.0)
                backlog[c, 1 if is_heavy else 0] += size
        if plan.collection_every[c] > 0 and state.since_collection[c] > plan.collection_every[c]:
            state.since_collection[c] = 0.0
            backlog[c, 2] += plan.collection[c]
        if plan.always[c]:
            backlog[c, 2] = _ENDLESS
        if gone[c]:
            _call(plan, state, c, backlog[c, 0], backlog[c, 1])
            backlog[c, :] = 0.0
    for event in range(plan.first_event[tick], plan.first_event[tick + 1]):
        if not gone[plan.event_container[event]]:
            backlog[plan.event_container[event], 2] += plan.event_instructions[event]


@njit(cache=True, forceinline=True)
def _call(plan: Plan, state: State, c: int, ordinary: float, heavy: float) -> None:
    """What instructions of requests make others do."""
    for call in range(plan.first_call[c], plan.first_call[c + 1]):
        state.backlog[plan.call_to[call], 0] += ordinary * plan.call_ordinary[call] + heavy * plan.call_heavy[call]


@njit(cache=True, forceinline=True)
def _account(plan: Plan, state: State, turn: Turn, count: int, clock: float, sums: Floats) -> None:
    """What was done is no more to do, and is in the sums."""
    for k in range(count):
        j = turn.runs[k]
        c, core = plan.container_of[j], plan.core[turn.cpu_of[k]]
        state.seen[c, core] = state.fills[core]
        amount = turn.done[k, 1]
        for kind in range(KINDS):
            state.backlog[c, kind] = max(0.0, state.backlog[c, kind] - amount * turn.mix[c, kind])
        state.since_collection[c] += amount * (turn.mix[c, 0] + turn.mix[c, 1])
        _call(plan, state, c, amount * turn.mix[c, 0], amount * turn.mix[c, 1])
        ns = min(turn.done[k, 0] / clock, TICK_NS * turn.gets[k])
        sums[c, 0] += turn.done[k, 0]
        sums[c, 1] += amount
        sums[c, 2] += turn.done[k, 2]
        sums[c, 3] += ns
        turn.ran[k], turn.late[k] = ns, (turn.wants[k] - turn.gets[k]) * TICK_NS


@njit(cache=True)
def _write(plan: Plan, turn: Turn, count: int, tick: int, rows: Ints, found: int, ready: Ints, behind: Ints) -> int:
    """Writes the rows of a tick after the first `found`: a container's threads on one CPU together. The number of rows.

    What a thread got less of its CPU than it could have used, it waited, in turns, while the others there ran.
    """
    of, cpu_of, ran, late, done = plan.container_of[turn.runs[:count]], turn.cpu_of, turn.ran, turn.late, turn.done
    first = found
    for k in range(len(of)):
        c, cpu, time, waited, own = of[k], cpu_of[k], int(ran[k]), 0, 0
        if late[k] >= 1.0:
            others, largest = 0, -1
            for other in range(len(of)):
                if other != k and cpu_of[other] == cpu:
                    others += int(ran[other])
                    if largest < 0 or ran[other] > ran[largest]:
                        largest = other
            waited = min(int(late[k]), others)
            left = waited
            for other in range(len(of)):
                if other == k or cpu_of[other] != cpu or waited == 0:
                    continue
                share = waited * int(ran[other]) // others
                behind[c, of[other]] += share
                own += share if of[other] == c else 0
                left -= share
            if left > 0:
                behind[c, of[largest]] += left
                own += left if of[largest] == c else 0
            ready[c] += waited
        if time < 1 and waited < 1:
            continue
        at = first
        while at < found and (rows[at, 1] != cpu or rows[at, 2] != c):
            at += 1
        if at == found:
            found += 1
            rows[at, 0], rows[at, 1], rows[at, 2] = tick, cpu, c
            rows[at, 3:] = 0
        rows[at, 3] += time
        rows[at, 4] += int(done[k, 0])
        rows[at, 5] += int(done[k, 1])
        rows[at, 6] += int(done[k, 2] + 0.5)
        rows[at, 7] += time < TICK_NS
        rows[at, 8] += waited > 0
        rows[at, 9] += waited
        rows[at, 10] += own
    return found
