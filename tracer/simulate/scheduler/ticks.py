# SPDX-License-Identifier: Apache-2.0
"""All CPUs through the ticks of a block: who is where, who runs, and who waits meanwhile.

Who runs stays on its CPU. Who wakes goes home if nobody is there, else where there is least to do; who waits goes there
only if what it has to do fits into the tick there. A thread is on one CPU in a tick: it wakes again where it ran.

On a CPU it is fair queueing by virtual time, which passes the faster the less a thread weighs; a container's weight is
shared by its threads that are ready or run. A thread runs until it has nothing to do, its slice is over and another is
behind it in virtual time, its container's quota is used up, or, where wake-ups preempt, one wakes that is far enough
behind. A sleeper comes back at most a slice behind the others.

Kernel: Documentation/scheduler/sched-design-CFS.rst, sched-bwc.rst.

All of it is in one file, since numba keeps what it compiled until the file of the function that was called changes. So
touch it after a change of constants in `state.py`.
"""

import numpy as np
from numba import njit

from tracer.simulate.scheduler.state import (
    ASLEEP,
    NEVER,
    NOBODY,
    NOT_KNOWN,
    QUOTA_PERIOD_TICKS,
    READY,
    RUNNING,
    TICK_NS,
)

_USUAL_WEIGHT = 100.0
# A thread that is further behind the running one preempts it.
_PREEMPTS_FROM_NS = 1_000_000.0
# Requests beyond are dropped.
_MOST_BACKLOG_NS = 20 * TICK_NS
# Who waits has to run to see that there is nothing to do any more.
_LEAST_WORK_NS = 10_000


@njit(nogil=True, cache=True)
def run_block(node, rules, wishes, doings):  # type: ignore[no-untyped-def]
    """Does what is wished, tick by tick, and files it in `doings`."""
    for row in range(len(wishes.homes)):
        begin = (wishes.first_tick + row) * TICK_NS
        _take_wishes(node, wishes, row, begin)
        members, begins = _place(node, wishes.homes[row], wishes.work_ns[row])
        for cpu in range(len(node.cpus)):
            _run_tick(node, rules, wishes, doings, row, cpu, members[begins[cpu] : begins[cpu + 1]])
        for number in range(len(node.threads)):
            thread = node.threads[number]
            doings.slots[row, number].cpu = thread.cpu
            if thread.state == READY:
                if thread.ready_since >= begin:
                    thread.own_first_ns = thread.own_ns
                thread.own_ns = 0
        if (wishes.first_tick + row + 1) % QUOTA_PERIOD_TICKS == 0:
            _begin_period(node)
            _end_throttling(node, doings, begin + TICK_NS)
    _end_throttling(node, doings, (wishes.first_tick + len(wishes.homes)) * TICK_NS)


@njit(nogil=True, cache=True)
def _take_wishes(node, wishes, row, begin):  # type: ignore[no-untyped-def]
    for container in node.containers:
        container.threads = 0
    for number in range(len(node.threads)):
        thread = node.threads[number]
        work_ns = wishes.work_ns[row, number]
        thread.arrives = NEVER
        if not wishes.is_alive[row, number]:
            _take_away(node, number)
            continue
        if thread.state != ASLEEP:
            node.containers[thread.container].threads += 1
        if thread.is_batch and thread.state != ASLEEP:
            thread.backlog_ns = max(_LEAST_WORK_NS, _of_batch(work_ns))
        elif work_ns > 0:
            thread.arrives = begin + wishes.offset_ns[row, number]


@njit(nogil=True, cache=True)
def _of_batch(work_ns):  # type: ignore[no-untyped-def]
    """It runs for the time it is given. Who wants the whole tick does not pause between two."""
    return work_ns if work_ns < TICK_NS else 2 * TICK_NS


@njit(nogil=True, cache=True)
def _begin_period(node):  # type: ignore[no-untyped-def]
    for container in node.containers:
        if container.quota_ns == NEVER:
            continue
        container.periods += container.left_ns < container.quota_ns
        container.throttled_periods += container.was_throttled
        container.left_ns = container.quota_ns
        container.is_throttled = 0
        container.was_throttled = 0


@njit(nogil=True, cache=True)
def _end_throttling(node, doings, now):  # type: ignore[no-untyped-def]
    """Files what was throttled until now; what still is, is filed anew from now on."""
    for of in range(len(node.containers)):
        if node.containers[of].quota_ns == NEVER:
            continue
        for cpu in range(len(node.cpus)):
            if node.throttled_since[of, cpu] == NOT_KNOWN:
                continue
            interval = doings.throttled[doings.used[1]]
            doings.used[1] += 1
            interval.container = of
            interval.cpu = cpu
            interval.begin = node.throttled_since[of, cpu]
            interval.end = now
            node.throttled_since[of, cpu] = now if node.containers[of].is_throttled else NOT_KNOWN


@njit(nogil=True, cache=True)
def _place(node, homes, work_ns):  # type: ignore[no-untyped-def]
    """Places all threads for a tick with these homes and this new work, [J].

    Returns the threads by CPU, and where those of each CPU begin.
    """
    load_ns = np.zeros(len(node.cpus), np.int64)
    for thread in node.threads:
        if thread.state != ASLEEP:
            load_ns[thread.cpu] += min(TICK_NS, thread.backlog_ns)
    for number in range(len(node.threads)):
        thread = node.threads[number]
        if thread.state == ASLEEP and thread.arrives != NEVER:
            to = homes[number]
            if load_ns[to] > 0:
                to = _least_loaded(node, load_ns, thread.container, to)
            _move(node, number, to)
            load_ns[to] += work_ns[number]
        elif thread.state == READY:
            own_ns = min(TICK_NS, thread.backlog_ns)
            if load_ns[thread.cpu] <= TICK_NS:
                continue
            to = _least_loaded(node, load_ns, thread.container, thread.cpu)
            if load_ns[to] + own_ns <= TICK_NS:
                load_ns[thread.cpu] -= own_ns
                load_ns[to] += own_ns
                _move(node, number, to)
    begins = np.zeros(len(node.cpus) + 1, np.int64)
    for thread in node.threads:
        begins[thread.cpu + 1] += 1
    begins = np.cumsum(begins)
    filled = begins[:-1].copy()
    members = np.empty(len(node.threads), np.int64)
    for number in range(len(node.threads)):
        cpu = node.threads[number].cpu
        members[filled[cpu]] = number
        filled[cpu] += 1
    return members, begins


@njit(nogil=True, cache=True)
def _take_away(node, number):  # type: ignore[no-untyped-def]
    """The thread's life is over."""
    thread = node.threads[number]
    if thread.state == ASLEEP:
        return
    if thread.state == RUNNING:
        node.cpus[thread.cpu].thread = NOBODY
    thread.state = ASLEEP
    thread.backlog_ns = 0
    node.waited[number] = 0


@njit(nogil=True, cache=True)
def _least_loaded(node, load_ns, container, than):  # type: ignore[no-untyped-def]
    best = than
    for cpu in node.allowed[container]:
        if cpu == NOBODY:
            break
        if load_ns[cpu] < load_ns[best]:
            best = cpu
    return best


@njit(nogil=True, cache=True)
def _move(node, number, to):  # type: ignore[no-untyped-def]
    """What it is ahead of the others, it is there too."""
    thread = node.threads[number]
    if thread.cpu == to:
        return
    thread.virtual_ns += node.cpus[to].virtual_ns - node.cpus[thread.cpu].virtual_ns
    thread.cpu = to
    thread.own_first_ns = NOT_KNOWN


@njit(nogil=True, cache=True)
def _run_tick(node, rules, wishes, doings, row, cpu, members):  # type: ignore[no-untyped-def]
    """The tick of this row of the block on a CPU; `members` are the threads that are on it."""
    begin = (wishes.first_tick + row) * TICK_NS
    end = begin + TICK_NS
    stolen_from = begin + wishes.stolen_from_ns[row, cpu]
    stolen_until = begin + wishes.stolen_until_ns[row, cpu]
    state = node.cpus[cpu]
    idle = len(node.containers) + 1
    now = begin
    while True:
        arrival = _take_arrivals(node, rules, wishes, doings, row, cpu, members, now, end)
        best = _next(node, members)
        if state.thread == NOBODY:
            if best == NOBODY:
                if now == end:
                    return
                state.is_idle = 1
                state.leaves_idle = NEVER
                _hold(node, doings, row, cpu, members, idle, now, arrival)
                now = arrival
                continue
            if state.is_idle:
                if state.leaves_idle == NEVER:
                    state.leaves_idle = now + rules.leaving_idle_ns
                if state.leaves_idle > now:
                    until = min(arrival, state.leaves_idle)
                    _hold(node, doings, row, cpu, members, idle, now, until)
                    now = until
                    if now == end:
                        return
                    continue
                doings.idle_switches[row, cpu] += 1
                state.is_idle = 0
                state.leaves_idle = NEVER
            if now == end:
                return
            _start(node, rules, wishes, doings, row, cpu, best, now)
            continue
        if now == end:
            return
        thread = node.threads[state.thread]
        container = node.containers[thread.container]
        if container.is_throttled:
            _stop(node, doings, row, cpu, now, READY)
            continue
        is_stolen = stolen_from <= now < stolen_until
        if is_stolen:
            until = min(arrival, stolen_until)
        else:
            until = min(arrival, now + min(thread.backlog_ns, state.slice_ns, container.left_ns))
            if now < stolen_from:
                until = min(until, stolen_from)
        ran = until - now
        slot = doings.slots[row, state.thread]
        slot.time_ns += ran
        _hold(node, doings, row, cpu, members, thread.container, now, until)
        now = until
        if is_stolen:
            slot.stolen_ns += ran
            continue
        if container.left_ns != NEVER:
            container.left_ns -= ran
            container.is_throttled = container.left_ns == 0
        thread.backlog_ns -= ran
        state.slice_ns -= ran
        thread.virtual_ns += ran * _per_weight(container)
        if best == NOBODY:
            state.virtual_ns = max(state.virtual_ns, thread.virtual_ns)
        if thread.backlog_ns == 0:
            _stop(node, doings, row, cpu, now, ASLEEP)
        elif state.slice_ns == 0:
            if best != NOBODY and node.threads[best].virtual_ns <= thread.virtual_ns:
                _stop(node, doings, row, cpu, now, READY)
            else:
                state.slice_ns = rules.slice_ns


@njit(nogil=True, cache=True)
def _per_weight(container):  # type: ignore[no-untyped-def]
    return _USUAL_WEIGHT * max(1, container.threads) / container.weight


@njit(nogil=True, cache=True)
def _take_arrivals(node, rules, wishes, doings, row, cpu, members, now, end):  # type: ignore[no-untyped-def]
    """Gives threads the work that has come, and wakes them; returns when more comes, or the tick's end."""
    state = node.cpus[cpu]
    following = end
    for number in members:
        thread = node.threads[number]
        if thread.arrives > now:
            following = min(following, thread.arrives)
            continue
        thread.arrives = NEVER
        work_ns = wishes.work_ns[row, number]
        if thread.is_batch:
            thread.backlog_ns = _of_batch(work_ns)
        else:
            thread.backlog_ns = min(thread.backlog_ns + work_ns, _MOST_BACKLOG_NS)
        if thread.state != ASLEEP:
            continue
        thread.state = READY
        thread.ready_since = now
        thread.own_ns = 0
        thread.virtual_ns = max(thread.virtual_ns, state.virtual_ns - rules.slice_ns)
        container = node.containers[thread.container]
        if rules.wakes_preempt and state.thread != NOBODY and not container.is_throttled:
            behind = node.threads[state.thread].virtual_ns - thread.virtual_ns
            if behind > _PREEMPTS_FROM_NS * _per_weight(container):
                _stop(node, doings, row, cpu, now, READY)
    return following


@njit(nogil=True, cache=True)
def _next(node, members):  # type: ignore[no-untyped-def]
    """The thread that may run and is furthest behind, of those that wait."""
    best = NOBODY
    for number in members:
        thread = node.threads[number]
        if thread.state != READY or node.containers[thread.container].is_throttled:
            continue
        if best == NOBODY or thread.virtual_ns < node.threads[best].virtual_ns:
            best = number
    return best


@njit(nogil=True, cache=True)
def _start(node, rules, wishes, doings, row, cpu, number, now):  # type: ignore[no-untyped-def]
    """A thread runs from now on. Its wait is told as the kernel side does: by tick, on this CPU."""
    state = node.cpus[cpu]
    thread = node.threads[number]
    begin = (wishes.first_tick + row) * TICK_NS
    slot = doings.slots[row, number]
    slot.waits += 1
    slot.wait_ns += now - max(thread.ready_since, begin)
    slot.wait_self_ns += thread.own_ns
    first = thread.ready_since // TICK_NS
    for tick in range(first, begin // TICK_NS):
        earlier = doings.earlier[doings.used[0]]
        doings.used[0] += 1
        earlier.tick = tick
        earlier.cpu = cpu
        earlier.container = thread.container
        earlier.wait_ns = (tick + 1) * TICK_NS - max(thread.ready_since, tick * TICK_NS)
        earlier.wait_self_ns = thread.own_first_ns if tick == first else NOT_KNOWN
    doings.waited[thread.container] += node.waited[number]
    node.waited[number] = 0
    thread.state = RUNNING
    state.thread = number
    state.slice_ns = rules.slice_ns
    state.virtual_ns = max(state.virtual_ns, thread.virtual_ns)


@njit(nogil=True, cache=True)
def _stop(node, doings, row, cpu, now, becomes):  # type: ignore[no-untyped-def]
    """The running thread goes to sleep, or, being READY, back to the others."""
    state = node.cpus[cpu]
    thread = node.threads[state.thread]
    slot = doings.slots[row, state.thread]
    slot.switches += 1
    slot.involuntary += becomes == READY
    thread.state = becomes
    thread.ready_since = now
    thread.own_ns = 0
    state.thread = NOBODY


@njit(nogil=True, cache=True)
def _hold(node, doings, row, cpu, members, holder, since, until):  # type: ignore[no-untyped-def]
    """Files for all that wait on this CPU that it was held."""
    throttled = len(node.containers)
    for number in members:
        thread = node.threads[number]
        if thread.state != READY:
            continue
        begin = max(since, thread.ready_since)
        waited = until - begin
        if waited <= 0:
            continue
        of = thread.container
        doings.ready_ns[row, of] += waited
        if node.containers[of].is_throttled:
            node.waited[number, throttled] += waited
            node.containers[of].was_throttled = 1
            if node.throttled_since[of, cpu] == NOT_KNOWN:
                node.throttled_since[of, cpu] = begin
        else:
            node.waited[number, holder] += waited
        if of == holder:
            thread.own_ns += waited
