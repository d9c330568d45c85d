# SPDX-License-Identifier: Apache-2.0
"""Drains the CPUs' ring buffers into columns: compiled by numba, without the GIL, without Python code per record.

The protocol of BPF_MAP_TYPE_RINGBUF is the kernel's Documentation/bpf/ringbuf.rst and kernel/bpf/ringbuf.c: a record
is an 8-byte header (u32 length with bit 31 busy and bit 30 discarded, u32 page offset) and its data, padded to 8
bytes. The reader takes the producer's position and each header with acquire, stops at a busy header, and hands the
space back by storing the consumer's position with release.
"""

import numpy as np
from numba import njit, types

from tracer.kernel.atomics import load_acquire_u32, load_acquire_u64, load_u64, store_release_u64
from tracer.kernel.clock import SHORTEST_SLEEP_NS
from tracer.kernel.record_block import OPEN
from tracer.kernel.records import TICK_RECORD

_HEADER_BYTES = 8
_BUSY = np.uint32(1 << 31)
_DISCARDED = np.uint32(1 << 30)
_LENGTH = np.uint32((1 << 30) - 1)
_RECORD_BYTES = TICK_RECORD.itemsize

# Columns of the ring table, u64 each: where a CPU's ring is mapped. Consumer 0: the CPU has no ring.
CONSUMER, PRODUCER, DATA, SIZE = range(4)

# Columns of the progress table, u64 each. All but the first two only rise.
EXPECTED, EXPANDED, RECORDS, BYTES, MISSING, MALFORMED, FILL_PEAK, FURTHER_TICKS, OUTSIDE = range(9)
PROGRESS_COLUMNS = 9

# Places in the bounds: rows of ticks outside [first, last] are left out. TICK_NS is their length.
FIRST_TICK, LAST_TICK, TICK_NS = range(3)

# Places in the pace: all but STOP in ns. LONGEST_GAP is the longest time between two drains, SLEPT what CLOCK_BOOTTIME
# is ahead of CLOCK_MONOTONIC, and AWAKE the last drain before the machine's latest sleep.
STOP, LAST_DRAIN, LONGEST_GAP, SLEPT, AWAKE = range(5)
PACE_PLACES = 5

# The kernel side cuts what is longer (bpf_programs/records.h), so that no wait becomes millions of rows.
_LONGEST_WAIT_TICKS = np.uint64((1 << 15) + 1)

_CLOCK_MONOTONIC = 1
_CLOCK_BOOTTIME = 7
_TIMER_ABSTIME = 1
# Resolved by name when the function is linked, so that the compiled code can be cached (a ctypes address cannot).
_clock_gettime = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.intp))
_clock_nanosleep = types.ExternalFunction(
    "clock_nanosleep", types.int32(types.int32, types.int32, types.intp, types.intp)
)

_U64 = types.uint64[::1]
_U64_TABLE = types.uint64[:, ::1]
_COLUMNS = (
    _U64,  # tick
    types.uint16[::1],  # cpu
    _U64,  # cgroup_id
    types.uint32[::1],  # cpu_time_ns
    _U64_TABLE,  # counters
    types.uint16[::1],  # unread
    types.uint32[::1],  # context_switches
    types.uint32[::1],  # lateness_ns
    _U64_TABLE,  # waited
)
_drain_signature = types.int64(_U64_TABLE, _U64_TABLE, _U64, *_COLUMNS, types.int64)
_expand_signature = types.void(types.uint64, types.uint64, types.uint64, *_COLUMNS, types.uint64)
_spread_signature = types.void(types.uint64, types.uint64, types.uint64, types.uint64, *_COLUMNS, types.uint64)
_follow_signature = types.int64(
    _U64_TABLE,
    _U64_TABLE,
    _U64,
    *_COLUMNS,
    types.int64,
    types.int64[::1],
    types.int64,
    types.int64,
    types.int64,
)


@njit(_expand_signature, nogil=True, cache=True, error_model="numpy")
def _expand(  # type: ignore[no-untyped-def]
    address, done, rows, tick, cpu, cgroup_id, cpu_time_ns, counters, unread, context_switches, lateness_ns, waited,
    row,
):  # fmt: skip
    """Writes `rows` ticks of the run of ticks at `address`, of which `done` are written, from `row` on."""
    value0 = load_u64(address + np.uint64(16))
    value1 = load_u64(address + np.uint64(24))
    value2 = load_u64(address + np.uint64(32))
    sequence_cpu_unread = load_u64(address + np.uint64(40))
    count_lateness = load_u64(address + np.uint64(56))
    count = count_lateness & np.uint64(0xFFFFFFFF)
    for _ in range(rows):
        tick[row] = load_u64(address) + done
        cpu[row] = np.uint16(sequence_cpu_unread >> np.uint64(32))
        cgroup_id[row] = load_u64(address + np.uint64(8))
        cpu_time_ns[row] = np.uint32(load_u64(address + np.uint64(48)))
        # Ticks without an event share the increments evenly; the last ones take the remainder.
        left = count - done
        counters[0, row] = value0 // count + np.uint64(left <= value0 % count)
        counters[1, row] = value1 // count + np.uint64(left <= value1 % count)
        counters[2, row] = value2 // count + np.uint64(left <= value2 % count)
        unread[row] = np.uint16(sequence_cpu_unread >> np.uint64(48))
        context_switches[row] = 0
        lateness_ns[row] = np.uint32(count_lateness >> np.uint64(32)) if done == 0 else 0
        waited[row, 0] = 0
        waited[row, 1] = 0
        waited[row, 2] = 0
        waited[row, 3] = 0
        row += np.uint64(1)
        done += np.uint64(1)


@njit(_spread_signature, nogil=True, cache=True, error_model="numpy")
def _spread(  # type: ignore[no-untyped-def]
    address, tick_ns, done, rows, tick, cpu, cgroup_id, cpu_time_ns, counters, unread, context_switches, lateness_ns,
    waited, row,
):  # fmt: skip
    """Writes `rows` ticks of the part of a wait at `address`, of which `done` are written, from `row` on."""
    begin_ns = load_u64(address + np.uint64(16))
    end_ns = load_u64(address + np.uint64(24))
    first_tick = begin_ns // tick_ns
    for _ in range(rows):
        number = first_tick + done
        from_ns = max(begin_ns, number * tick_ns)
        until_ns = min(end_ns, (number + np.uint64(1)) * tick_ns)
        tick[row] = number
        cpu[row] = np.uint16(load_u64(address + np.uint64(40)) >> np.uint64(32))
        cgroup_id[row] = load_u64(address + np.uint64(8))
        cpu_time_ns[row] = 0
        counters[0, row] = 0
        counters[1, row] = 0
        counters[2, row] = 0
        # In no time nothing is counted: where the others of a row are null, this must not make it 0.
        unread[row] = 0b111
        context_switches[row] = 0
        lateness_ns[row] = 0
        waited[row, 0] = until_ns - from_ns
        # Of ticks for which it lasted from end to end, it was in proportion to everybody's time in them.
        waited[row, 1] = load_u64(address + np.uint64(32)) if done == 0 else OPEN
        waited[row, 2] = 0
        waited[row, 3] = 0
        row += np.uint64(1)
        done += np.uint64(1)


@njit(_drain_signature, nogil=True, cache=True, error_model="numpy")
def drain(  # type: ignore[no-untyped-def]
    rings,
    progress,
    bounds,
    tick,
    cpu,
    cgroup_id,
    cpu_time_ns,
    counters,
    unread,
    context_switches,
    lateness_ns,
    waited,
    row,
):
    """Takes what all rings hold into the columns from `row` on; returns the row after the last one written.

    Stops early, with nothing lost, when the columns are full: a run of ticks that did not fit goes on at the next
    call. A record of another length, of another CPU than its ring's, or of no time is skipped and counted as
    malformed; a length that leads beyond the producer's position gives up all that the ring holds, as nothing behind
    it can be found.
    """
    capacity = np.uint64(len(tick))
    first_tick = bounds[FIRST_TICK]
    last_tick = bounds[LAST_TICK]
    tick_ns = bounds[TICK_NS]
    # An unsigned index: numba checks a signed one for being below zero at each use.
    place = np.uint64(row)
    for ring in range(len(rings)):
        consumer_address = load_acquire_u64(np.uint64(rings.ctypes.data + ring * 32))
        if consumer_address == 0:
            continue
        data = rings[ring, DATA]
        size = rings[ring, SIZE]
        mask = size - np.uint64(1)
        start = load_u64(consumer_address)
        producer = load_acquire_u64(rings[ring, PRODUCER])
        position = start
        # In registers while the ring is drained: the header's acquire would make each a load and a store a record.
        expected = progress[ring, EXPECTED]
        expanded = progress[ring, EXPANDED]
        records = np.uint64(0)
        missing = np.uint64(0)
        malformed = np.uint64(0)
        further_ticks = np.uint64(0)
        outside = np.uint64(0)
        fill = producer - start
        if fill > size:
            # Only a ring that is not the kernel's looks like this.
            malformed += np.uint64(1)
            position = producer
        elif fill > progress[ring, FILL_PEAK]:
            progress[ring, FILL_PEAK] = fill
        while position < producer and place < capacity:
            several = False
            # Nothing is called in here: for a call's sake, all else would leave the registers.
            while position < producer and place < capacity:
                address = data + (position & mask)
                header = load_acquire_u32(address)
                if header & _BUSY:
                    break
                length = header & _LENGTH
                step = np.uint64((np.int64(length) + _HEADER_BYTES + 7) & ~7)
                if step > producer - position:
                    malformed += np.uint64(1)
                    position = producer
                    break
                if header & _DISCARDED:
                    position += step
                    continue
                address += np.uint64(_HEADER_BYTES)
                if length != _RECORD_BYTES:
                    malformed += np.uint64(1)
                    position += step
                    continue
                sequence_cpu_unread = load_u64(address + np.uint64(40))
                if (sequence_cpu_unread >> np.uint64(32)) & np.uint64(0xFFFF) != np.uint64(ring):
                    malformed += np.uint64(1)
                    position += step
                    continue
                count_lateness = load_u64(address + np.uint64(56))
                if count_lateness & np.uint64(0xFFFFFFFF) != 1:
                    several = True
                    break
                sequence = sequence_cpu_unread & np.uint64(0xFFFFFFFF)
                missing += (sequence - expected) & np.uint64(0xFFFFFFFF)
                expected = (sequence + np.uint64(1)) & np.uint64(0xFFFFFFFF)
                record_tick = load_u64(address)
                if first_tick <= record_tick <= last_tick:
                    time_switches = load_u64(address + np.uint64(48))
                    tick[place] = record_tick
                    cpu[place] = np.uint16(ring)
                    cgroup_id[place] = load_u64(address + np.uint64(8))
                    cpu_time_ns[place] = np.uint32(time_switches)
                    counters[0, place] = load_u64(address + np.uint64(16))
                    counters[1, place] = load_u64(address + np.uint64(24))
                    counters[2, place] = load_u64(address + np.uint64(32))
                    unread[place] = np.uint16(sequence_cpu_unread >> np.uint64(48))
                    context_switches[place] = np.uint32(time_switches >> np.uint64(32))
                    lateness_ns[place] = np.uint32(count_lateness >> np.uint64(32))
                    # As they lie in the record: with a column for each, the drain takes a fifth longer.
                    waited[place, 0] = load_u64(address + np.uint64(64))
                    waited[place, 1] = load_u64(address + np.uint64(72))
                    waited[place, 2] = load_u64(address + np.uint64(80))
                    waited[place, 3] = load_u64(address + np.uint64(88))
                    place += np.uint64(1)
                else:
                    outside += np.uint64(1)
                records += np.uint64(1)
                position += step
            if not several:
                break
            # A run of ticks, or the part of a wait that lies in earlier ticks: so many rows, from this tick on.
            count = count_lateness & np.uint64(0xFFFFFFFF)
            record_tick = load_u64(address)
            of_wait = count == 0
            if of_wait:
                # Its beginning and its end lie in place of counters.
                wait_begin_ns = load_u64(address + np.uint64(16))
                wait_end_ns = load_u64(address + np.uint64(24))
                record_tick = wait_begin_ns // tick_ns
                if wait_end_ns > wait_begin_ns:
                    count = (wait_end_ns - np.uint64(1)) // tick_ns - record_tick + np.uint64(1)
                if count == 0 or count > _LONGEST_WAIT_TICKS:
                    malformed += np.uint64(1)
                    position += step
                    continue
            if expanded == 0:
                sequence = sequence_cpu_unread & np.uint64(0xFFFFFFFF)
                missing += (sequence - expected) & np.uint64(0xFFFFFFFF)
                expected = (sequence + np.uint64(1)) & np.uint64(0xFFFFFFFF)
            # Only the part that lies within the bounds gives rows.
            end = count
            if record_tick > last_tick:
                end = np.uint64(0)
            elif count > last_tick - record_tick:
                end = last_tick - record_tick + np.uint64(1)
            begin = min(first_tick - record_tick, count) if record_tick < first_tick else np.uint64(0)
            done = max(begin, expanded)
            rows = min(end - done, capacity - place) if done < end else np.uint64(0)
            if of_wait:
                _spread(
                    address, tick_ns, done, rows, tick, cpu, cgroup_id, cpu_time_ns, counters, unread,
                    context_switches, lateness_ns, waited, place,
                )  # fmt: skip
            else:
                _expand(
                    address, done, rows, tick, cpu, cgroup_id, cpu_time_ns, counters, unread, context_switches,
                    lateness_ns, waited, place,
                )  # fmt: skip
            place += rows
            expanded = done + rows
            if expanded < end:
                break
            if expanded > begin:
                further_ticks += expanded - begin - np.uint64(1)
            else:
                outside += np.uint64(1)
            expanded = np.uint64(0)
            records += np.uint64(1)
            position += step
        progress[ring, EXPECTED] = expected
        progress[ring, EXPANDED] = expanded
        progress[ring, RECORDS] += records
        progress[ring, BYTES] += position - start
        progress[ring, MISSING] += missing
        progress[ring, MALFORMED] += malformed
        progress[ring, FURTHER_TICKS] += further_ticks
        progress[ring, OUTSIDE] += outside
        store_release_u64(consumer_address, position)
    return np.int64(place)


@njit(types.int64(types.int32, types.int64[::1]), nogil=True, cache=True)
def _clock_ns(clock, time):  # type: ignore[no-untyped-def]
    _clock_gettime(clock, time.ctypes.data)
    return time[0] * 1_000_000_000 + time[1]


@njit(_follow_signature, nogil=True, cache=True, error_model="numpy")
def follow(  # type: ignore[no-untyped-def]
    rings, progress, bounds, tick, cpu, cgroup_id, cpu_time_ns, counters, unread, context_switches, lateness_ns,
    waited, row, pace, interval_ns, phase_ns, deadline_ns,
):  # fmt: skip
    """Drains each `interval_ns`, `phase_ns` after its multiples of CLOCK_MONOTONIC, until `deadline_ns`.

    Returns early when the columns are nearly full or when another thread sets pace[STOP]; the row after the last.
    """
    time = np.zeros(2, np.int64)
    nearly_full = len(tick) - len(tick) // 4
    while True:
        boottime = _clock_ns(_CLOCK_BOOTTIME, time)
        now = _clock_ns(_CLOCK_MONOTONIC, time)
        # Read in this order, it is too little where something came between, never too much.
        if pace[LAST_DRAIN] == 0 or boottime - now >= pace[SLEPT] + SHORTEST_SLEEP_NS:
            pace[SLEPT] = boottime - now
            pace[AWAKE] = pace[LAST_DRAIN]
        if pace[LAST_DRAIN] != 0 and now - pace[LAST_DRAIN] > pace[LONGEST_GAP]:
            pace[LONGEST_GAP] = now - pace[LAST_DRAIN]
        pace[LAST_DRAIN] = now
        row = drain(
            rings, progress, bounds, tick, cpu, cgroup_id, cpu_time_ns, counters, unread, context_switches,
            lateness_ns, waited, row,
        )  # fmt: skip
        if row >= nearly_full or now >= deadline_ns or pace[STOP] != 0:
            return row
        wake = (now - phase_ns) // interval_ns * interval_ns + interval_ns + phase_ns
        time[0] = wake // 1_000_000_000
        time[1] = wake % 1_000_000_000
        _clock_nanosleep(_CLOCK_MONOTONIC, _TIMER_ABSTIME, time.ctypes.data, 0)
