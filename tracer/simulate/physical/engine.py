# SPDX-License-Identifier: Apache-2.0
"""The physical machine, tick by tick: work arrives, threads get CPUs, cores run until what they wait for is there.

Nothing here says how much one container slows down another. They meet in the lines of a cache, in the queue of a memory
controller, on a core's two siblings, in its private caches, in the clock that falls with each busy core, and where one
has to wait for a CPU that another has. A tick is run in SLICES, in which each of these is as the last one left it; the
queue at memory, which answers at once, is solved for in each.
"""

import numpy as np
from numba import njit

from tracer.simulate.physical.cache import Caches, Floats, Ints, missing, put_out, use
from tracer.simulate.physical.draws import even, following, generator, normal
from tracer.simulate.physical.plan import KINDS, PRIVATE_ACCESSES, Plan, State

TICK_NS = 1e6
SLICES = 2
# Of a row: tick, CPU, container; ns, cycles, instructions, misses; switches, waits, ns waited, and behind its own.
COLUMNS = 11
# Ticks after which the clock has followed what the cores do, and random courses have forgotten themselves.
_CLOCK_TICKS = 4.0
_LOAD_TICKS = 400.0
_PHASE_TICKS = 2_500.0
# A thread that goes on running changes its CPU once in so many ticks.
_STAYS_TICKS = 500.0
_MOST_REQUESTS = 64
_ENDLESS = 1e15
_BUSIEST_MEMORY = 0.99
_SOLVED_IN = 14
# Of a slice, that can go into filling a cold private cache.
_MOST_COLD = 0.6


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
def _missing(caches: Caches, half_share: Floats, first_set: Ints, party: int, which: int) -> float:
    """The share of a party's hot (0) or warm (1) lines that are not in the cache."""
    found = 0.0
    for half in range(2):
        found += half_share[half] * missing(caches, first_set[party, half] + which)
    return found


@njit(cache=True, forceinline=True)
def _place(plan: Plan, state: State, j: int, load: Floats, last: Ints, wants: float, random: np.uint64) -> int:
    """The CPU of a thread: where it was while there is room, else the least busy one, an idle core first."""
    home, domain = state.home[j], plan.domain_of[j]
    moves = even(random) < 1 / _STAYS_TICKS
    if state.ran[j] and not moves and load[home] + wants <= 1.0:
        return int(home)
    first, after = plan.first_cpu[domain], plan.first_cpu[domain + 1]
    count = after - first
    start = int(even(following(random)) * count) if moves else home - first
    best, least = home, 1e9
    for step in range(count):
        cpu = first + (start + step) % count
        beside = 0.5 * load[plan.sibling[cpu]] if plan.sibling[cpu] >= 0 else 0.0
        taken = load[cpu] + beside + (10.0 if last[cpu] == plan.container_of[j] else 0.0)
        if taken < least - 1e-9:
            best, least = cpu, taken
    return int(best)


@njit(cache=True, forceinline=True)
def _latency(plan: Plan, rate: float, busy: float) -> float:
    """ns of a miss: what arrives together waits for each other, and for what is being served (M/D/1)."""
    return plan.memory_ns + plan.burst_lines / rate * busy / (2 * (1 - busy))


@njit(cache=True, nogil=True)
def run(
    plan: Plan,
    state: State,
    first_tick: int,
    ticks: int,
    gone: Ints,
    replays: bool,
    costs_of_siblings: bool,
    costs_of_pauses: bool,
    sums: Floats,
    rows: Ints,
    ready: Ints,
    behind: Ints,
) -> int:
    """Runs `ticks` ticks, without those who are `gone`; returns the number of rows. With `replays`, each thread is
    where it was in the run that left its places in `state.placed`, and where it last was in ticks in which it did not
    run then.

    Adds cycles, instructions, misses and ns to `sums` [C, 4]. Unless `rows` has length 0, it also writes them, [N,
    COLUMNS], and adds ns of waiting for a CPU to `ready` [T, C] and, by who held it, to `behind` [C, C + 2].
    """
    # Taken out of their tuples once: that costs more than what is done with them.
    caches, half_share, first_set = state.caches, plan.half_share, plan.first_set
    containers, threads = len(plan.requests), len(plan.container_of)
    cpus, domains, controllers = len(plan.sibling), len(plan.controller), len(plan.memory_rate)
    cores = int(plan.core[cpus - 1]) + 1
    runs = np.empty(threads, np.int64)
    cpu_of = np.empty(threads, np.int64)
    wants = np.empty(threads)
    gets = np.empty(threads)
    planned = np.empty(threads)
    load, given = np.empty(cpus), np.empty(cpus)
    last, on_cpu = np.empty(cpus, np.int64), np.empty(cpus, np.int64)
    mix = np.zeros((containers, KINDS))
    speed, phase = np.ones(containers), np.ones(containers)
    done = np.zeros((threads, 4))
    base, stall, hot, warm = np.empty(threads), np.empty(threads), np.empty(threads), np.empty(threads)
    stream, traffic = np.empty(threads), np.empty(threads)
    room, refill = np.empty(threads), np.empty(threads)
    ran, late = np.empty(threads), np.empty(threads)
    core_busy = np.zeros(cores)
    found = 0
    for number in range(ticks):
        tick = first_tick + number
        _arrive(plan, state, tick, gone)
        busy_share = state.busy_cores[0] / cores
        clock = plan.top_ghz - (plan.top_ghz - plan.all_cores_ghz) * busy_share
        load[:] = 0.0
        last[:] = -1
        count = 0
        for turn in range(containers):
            c = (turn + tick) % containers
            first_thread = plan.first_thread[c]
            of_container = plan.first_thread[c + 1] - first_thread
            total = state.backlog[c, 0] + state.backlog[c, 1] + state.backlog[c, 2]
            if total < 1.0:
                for j in range(first_thread, first_thread + of_container):
                    state.ran[j] = 0
                continue
            random = generator(plan.seed, c + 1 + containers, tick)
            speed[c] = np.exp(plan.noise[c] * normal(random))
            phase[c] = np.exp(plan.phases[c] * state.slow[c, 1])
            party = plan.party_of[first_thread]
            memory = state.latency[plan.controller[plan.domain_of[first_thread]]]
            no_hot = _missing(caches, half_share, first_set, party, 0)
            no_warm = _missing(caches, half_share, first_set, party, 1)
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
                cpi = plan.core_cpi[c, kind] * speed[c] * phase[c]
                cpi += clock * (near + accesses * memory) / plan.overlap[c, kind]
                cpi += clock * plan.stream[c, kind] * memory / plan.stream_overlap[c, kind]
                if kind == 1:
                    both = state.backlog[c, 0] + state.backlog[c, 1]
                    requests = min(1.0, cycles_left / max(both * cpi, 1e-9))
                amount = min(state.backlog[c, 2], cycles_left / cpi) if kind == 2 else state.backlog[c, kind] * requests
                mix[c, kind] = amount
                instructions += amount
                planned_cycles += amount * cpi
                if kind == 2:
                    cycles_left -= amount * cpi
            if instructions < 1.0:
                continue
            for kind in range(KINDS):
                mix[c, kind] /= instructions
            want = min(1.0, 1.1 * planned_cycles / (runners * TICK_NS * clock))
            for one in range(of_container):
                j = first_thread + one
                if one >= runners:
                    state.ran[j] = 0
                    continue
                random = following(random)
                if not replays:
                    cpu = _place(plan, state, j, load, last, want, random)
                    state.placed[tick, j] = cpu
                elif state.placed[tick, j] >= 0:
                    cpu = int(state.placed[tick, j])
                else:
                    cpu = int(state.home[j])
                state.home[j] = cpu
                state.ran[j] = 1
                last[cpu] = c
                load[cpu] += want
                runs[count], cpu_of[count], wants[count] = j, cpu, want
                planned[count] = instructions / runners
                count += 1
        # A CPU's threads share it: none gets more than it wants, and what one leaves is there for the others.
        given[:] = 0.0
        on_cpu[:] = 0
        for k in range(count):
            on_cpu[cpu_of[k]] += 1
        for k in range(count):
            gets[k] = wants[k] if load[cpu_of[k]] <= 1.0 else -1.0
            if gets[k] >= 0:
                given[cpu_of[k]] += gets[k]
        for cpu in range(cpus):
            if load[cpu] <= 1.0:
                continue
            left, waiting, settled = 1.0, on_cpu[cpu], False
            while not settled:
                settled = True
                share = left / max(waiting, 1)
                for k in range(count):
                    if cpu_of[k] == cpu and gets[k] < 0 and wants[k] <= share:
                        gets[k] = wants[k]
                        left -= wants[k]
                        waiting -= 1
                        settled = False
            for k in range(count):
                if cpu_of[k] == cpu and gets[k] < 0:
                    gets[k] = left / waiting
            given[cpu] = 1.0
        core_busy[:] = 0.0
        for cpu in range(cpus):
            core_busy[plan.core[cpu]] = max(core_busy[plan.core[cpu]], given[cpu])
        state.busy_cores[0] += (core_busy.sum() - state.busy_cores[0]) / _CLOCK_TICKS
        done[:count] = 0.0
        # What of its lines a core's private caches still have, and how much of the others is fetched while it runs.
        for k in range(count):
            c, core = plan.container_of[runs[k]], plan.core[cpu_of[k]]
            kept = state.private[c, core] * np.exp((state.seen[c, core] - state.fills[core]) / plan.l2_lines)
            comes = -np.expm1(-PRIVATE_ACCESSES * planned[k] * gets[k] / wants[k] / plan.private_lines[c])
            refill[k] = (1 - kept) * comes * plan.private_lines[c] if costs_of_pauses else 0.0
            state.private[c, core] = kept + (1 - kept) * comes
        for part in range(SLICES):
            time = tick * SLICES + part
            for k in range(count):
                j = runs[k]
                c, party = plan.container_of[j], plan.party_of[j]
                no_hot = _missing(caches, half_share, first_set, party, 0)
                no_warm = _missing(caches, half_share, first_set, party, 1)
                core_cpi, overlap, streams, hot[k], warm[k], stream[k], written = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
                for kind in range(KINDS):
                    of_kind = mix[c, kind]
                    core_cpi += of_kind * plan.core_cpi[c, kind]
                    hot[k] += of_kind * plan.hot[c, kind]
                    warm[k] += of_kind * plan.warm[c, kind]
                    stream[k] += of_kind * plan.stream[c, kind]
                    overlap += of_kind * plan.overlap[c, kind]
                    streams += of_kind * plan.stream_overlap[c, kind]
                    written += of_kind * plan.written[c, kind]
                # A busier phase also uses more memory.
                hot[k] *= phase[c]
                warm[k] *= phase[c]
                stream[k] *= phase[c]
                beside = plan.sibling[cpu_of[k]]
                if beside >= 0 and costs_of_siblings:
                    core_cpi *= 1 + (plan.smt_cost[c] - 1) * given[beside]
                missed = hot[k] * no_hot + warm[k] * no_warm
                near = (hot[k] + warm[k] + stream[k]) * plan.llc_ns / overlap
                base[k] = core_cpi * speed[c] * phase[c] + clock * near
                stall[k] = clock * (missed / overlap + stream[k] / streams)
                traffic[k] = (missed + stream[k]) * (1 + written)
                room[k] = gets[k] * TICK_NS / SLICES * clock
                # A cold private cache is filled from the last-level cache, in the first slices.
                if refill[k] > 0:
                    each = clock * (plan.llc_ns + no_hot * state.latency[plan.controller[plan.domain_of[j]]]) / overlap
                    fetched = min(refill[k], _MOST_COLD * room[k] / each)
                    refill[k] -= fetched
                    room[k] -= fetched * each
                    done[k, 0] += fetched * each
                    done[k, 2] += fetched * no_hot
                    state.fills[plan.core[cpu_of[k]]] += fetched
                    _use(caches, half_share, first_set, party, 0, fetched, time)
            # As many lines are fetched in a slice as memory can bring, and as cores ask for while they wait so long.
            for controller in range(controllers):
                rate = plan.memory_rate[controller]
                low, high = 0.0, _BUSIEST_MEMORY
                for attempt in range(_SOLVED_IN):
                    busy = 0.0 if attempt == 0 else 0.5 * (low + high)
                    waits = _latency(plan, rate, busy)
                    asked = 0.0
                    for k in range(count):
                        if plan.controller[plan.domain_of[runs[k]]] == controller:
                            within = min(max(planned[k] - done[k, 1], 0.0), room[k] / (base[k] + stall[k] * waits))
                            asked += within * traffic[k]
                    asked /= rate * TICK_NS / SLICES
                    if attempt == 0:
                        if asked < 0.02:
                            break
                        high = min(high, asked)
                    elif asked > busy:
                        low = busy
                    else:
                        high = busy
                state.latency[controller] = _latency(plan, rate, 0.5 * (low + high) if asked >= 0.02 else 0.0)
            for k in range(count):
                j = runs[k]
                c, party = plan.container_of[j], plan.party_of[j]
                waits = state.latency[plan.controller[plan.domain_of[j]]]
                cpi = base[k] + stall[k] * waits
                amount = min(max(planned[k] - done[k, 1], 0.0), room[k] / cpi)
                missed = amount * stream[k]
                missed += _use(caches, half_share, first_set, party, 0, amount * hot[k], time)
                missed += _use(caches, half_share, first_set, party, 1, amount * warm[k], time)
                _use(caches, half_share, first_set, party, 2, amount * stream[k], time)
                state.fills[plan.core[cpu_of[k]]] += amount * (hot[k] + warm[k] + stream[k])
                done[k, 0] += amount * cpi
                done[k, 1] += amount
                done[k, 2] += missed
            for cache in range(2 * domains):
                put_out(caches, cache, time)
        for k in range(count):
            j = runs[k]
            c, core = plan.container_of[j], plan.core[cpu_of[k]]
            state.seen[c, core] = state.fills[core]
            amount = done[k, 1]
            for kind in range(KINDS):
                state.backlog[c, kind] = max(0.0, state.backlog[c, kind] - amount * mix[c, kind])
            state.since_collection[c] += amount * (mix[c, 0] + mix[c, 1])
            _call(plan, state, c, amount * mix[c, 0], amount * mix[c, 1])
            ns = min(done[k, 0] / clock, TICK_NS * gets[k])
            sums[c, 0] += done[k, 0]
            sums[c, 1] += amount
            sums[c, 2] += done[k, 2]
            sums[c, 3] += ns
            ran[k], late[k] = ns, (wants[k] - gets[k]) * TICK_NS
        if len(rows):
            of = plan.container_of[runs[:count]]
            found = _write(rows, found, tick, of, cpu_of, ran, late, done, ready[number], behind)
    return found


@njit(cache=True)
def _write(
    rows: Ints, found: int, tick: int, of: Ints, cpu_of: Ints, ran: Floats, late: Floats, done: Floats, ready: Ints,
    behind: Ints,
) -> int:  # fmt: skip
    """Writes the rows of a tick after the first `found`: a container's threads on one CPU together. `of` [threads that
    run], whose they are. The number of rows.

    What a thread got less of its CPU than it could have used, it waited, in turns, while the others there ran.
    """
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


@njit(cache=True, forceinline=True)
def _use(
    caches: Caches, half_share: Floats, first_set: Ints, party: int, which: int, accesses: float, time: int
) -> float:
    """Accesses of a party to its hot, its warm or its stream's lines; the misses."""
    missed = 0.0
    for half in range(2):
        share = 0.5 if which == 2 else half_share[half]
        missed += use(caches, first_set[party, half] + which, accesses * share, time)
    return missed
