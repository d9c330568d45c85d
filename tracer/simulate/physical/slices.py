# SPDX-License-Identifier: Apache-2.0
"""What cores do in a tick, in slices: caches, siblings and clocks are in each as the last one left them; the queue at
memory, which answers at once, is solved for in each.
"""

import numpy as np
from numba import njit

from tracer.simulate.physical.cache import missing_share, put_out, use_lines
from tracer.simulate.physical.placing import Turn
from tracer.simulate.physical.plan import KINDS, PRIVATE_ACCESSES, TICK_NS, Plan, State

_SLICES = 2
_BUSIEST_MEMORY = 0.99
_SOLVED_IN = 14
# Of a slice, that can go into filling a cold private cache.
_MOST_COLD = 0.6


@njit(cache=True, forceinline=True)
def run_slices(
    plan: Plan, state: State, turn: Turn, tick: int, count: int, clock: float, siblings: bool, pauses: bool
) -> None:
    """Runs who has a CPU. siblings, pauses: whether busy siblings and cold private caches cost anything."""
    turn.done[:count] = 0.0
    _look_into_private_caches(plan, state, turn, count, pauses)
    for part in range(_SLICES):
        time = tick * _SLICES + part
        _ask(plan, state, turn, count, time, clock, siblings)
        _queue_at_memory(plan, state, turn, count)
        _run(plan, state, turn, count, time)
        for cache in range(2 * len(plan.controller)):
            put_out(state.caches, cache, time)


@njit(cache=True, forceinline=True)
def _look_into_private_caches(plan: Plan, state: State, turn: Turn, count: int, pauses: bool) -> None:
    """What of its lines a core's private caches still have, and how much of the others is fetched while it runs."""
    for k in range(count):
        c, core = plan.container_of[turn.runs[k]], plan.core[turn.cpu_of[k]]
        kept = state.private[c, core] * np.exp((state.seen[c, core] - state.fills[core]) / plan.l2_lines)
        comes = -np.expm1(-PRIVATE_ACCESSES * turn.planned[k] * turn.gets[k] / turn.wants[k] / plan.private_lines[c])
        turn.refill[k] = (1 - kept) * comes * plan.private_lines[c] if pauses else 0.0
        state.private[c, core] = kept + (1 - kept) * comes


@njit(cache=True, forceinline=True)
def _ask(plan: Plan, state: State, turn: Turn, count: int, time: int, clock: float, siblings: bool) -> None:
    """What each one's instructions take in this slice, and how much room it has for them."""
    caches, half_share, first_set = state.caches, plan.half_share, plan.first_set
    for k in range(count):
        j = turn.runs[k]
        c, party = plan.container_of[j], plan.party_of[j]
        no_hot = missing_share(caches, half_share, first_set, party, 0)
        no_warm = missing_share(caches, half_share, first_set, party, 1)
        core_cpi, overlap, streams, written = 0.0, 0.0, 0.0, 0.0
        turn.hot[k], turn.warm[k], turn.stream[k] = 0.0, 0.0, 0.0
        for kind in range(KINDS):
            of_kind = turn.mix[c, kind]
            core_cpi += of_kind * plan.core_cpi[c, kind]
            turn.hot[k] += of_kind * plan.hot[c, kind]
            turn.warm[k] += of_kind * plan.warm[c, kind]
            turn.stream[k] += of_kind * plan.stream[c, kind]
            overlap += of_kind * plan.overlap[c, kind]
            streams += of_kind * plan.stream_overlap[c, kind]
            written += of_kind * plan.written[c, kind]
        # A busier phase also uses more memory.
        turn.hot[k] *= turn.phase[c]
        turn.warm[k] *= turn.phase[c]
        turn.stream[k] *= turn.phase[c]
        beside = plan.sibling[turn.cpu_of[k]]
        if beside >= 0 and siblings:
            core_cpi *= 1 + (plan.smt_cost[c] - 1) * turn.given[beside]
        missed = turn.hot[k] * no_hot + turn.warm[k] * no_warm
        near = (turn.hot[k] + turn.warm[k] + turn.stream[k]) * plan.llc_ns / overlap
        turn.base[k] = core_cpi * turn.speed[c] * turn.phase[c] + clock * near
        turn.stall[k] = clock * (missed / overlap + turn.stream[k] / streams)
        turn.traffic[k] = (missed + turn.stream[k]) * (1 + written)
        turn.room[k] = turn.gets[k] * TICK_NS / _SLICES * clock
        # A cold private cache is filled from the last-level cache, in the first slices.
        if turn.refill[k] > 0:
            each = clock * (plan.llc_ns + no_hot * state.latency[plan.controller[plan.domain_of[j]]]) / overlap
            fetched = min(turn.refill[k], _MOST_COLD * turn.room[k] / each)
            turn.refill[k] -= fetched
            turn.room[k] -= fetched * each
            turn.done[k, 0] += fetched * each
            turn.done[k, 2] += fetched * no_hot
            state.fills[plan.core[turn.cpu_of[k]]] += fetched
            use_lines(caches, half_share, first_set, party, 0, fetched, time)


@njit(cache=True, forceinline=True)
def _queue_at_memory(plan: Plan, state: State, turn: Turn, count: int) -> None:
    """As many lines are fetched in a slice as memory can bring, and as cores ask for while they wait so long."""
    planned, done, traffic = turn.planned, turn.done, turn.traffic
    base, stall, room = turn.base, turn.stall, turn.room
    for controller in range(len(plan.memory_rate)):
        rate = plan.memory_rate[controller]
        low, high = 0.0, _BUSIEST_MEMORY
        for attempt in range(_SOLVED_IN):
            busy = 0.0 if attempt == 0 else 0.5 * (low + high)
            waits = _latency(plan, rate, busy)
            asked = 0.0
            for k in range(count):
                if plan.controller[plan.domain_of[turn.runs[k]]] == controller:
                    within = min(max(planned[k] - done[k, 1], 0.0), room[k] / (base[k] + stall[k] * waits))
                    asked += within * traffic[k]
            asked /= rate * TICK_NS / _SLICES
            if attempt == 0:
                if asked < 0.02:
                    break
                high = min(high, asked)
            elif asked > busy:
                low = busy
            else:
                high = busy
        state.latency[controller] = _latency(plan, rate, 0.5 * (low + high) if asked >= 0.02 else 0.0)


@njit(cache=True, forceinline=True)
def _run(plan: Plan, state: State, turn: Turn, count: int, time: int) -> None:
    caches, half_share, first_set = state.caches, plan.half_share, plan.first_set
    for k in range(count):
        j = turn.runs[k]
        party = plan.party_of[j]
        waits = state.latency[plan.controller[plan.domain_of[j]]]
        cpi = turn.base[k] + turn.stall[k] * waits
        amount = min(max(turn.planned[k] - turn.done[k, 1], 0.0), turn.room[k] / cpi)
        missed = amount * turn.stream[k]
        missed += use_lines(caches, half_share, first_set, party, 0, amount * turn.hot[k], time)
        missed += use_lines(caches, half_share, first_set, party, 1, amount * turn.warm[k], time)
        use_lines(caches, half_share, first_set, party, 2, amount * turn.stream[k], time)
        state.fills[plan.core[turn.cpu_of[k]]] += amount * (turn.hot[k] + turn.warm[k] + turn.stream[k])
        turn.done[k, 0] += amount * cpi
        turn.done[k, 1] += amount
        turn.done[k, 2] += missed


@njit(cache=True, forceinline=True)
def _latency(plan: Plan, rate: float, busy: float) -> float:
    """ns of a miss: what arrives together waits for each other, and for what is being served (M/D/1)."""
    return plan.memory_ns + plan.burst_lines / rate * busy / (2 * (1 - busy))
