# SPDX-License-Identifier: Apache-2.0
"""Goes over counters' values in the order of time: compiled by numba, since a large node has a million a second."""

import numpy as np
from numba import njit, types

# Values of less time are as exact as the moments of reading clock and counters.
JUDGED_FROM_NS = 100_000
MOST_INSTRUCTIONS_A_CYCLE = 8
FASTER_THAN_HIGHEST = 1.2

# Which bounds hold on a CPU.
CYCLES_ARE_SUCH, INSTRUCTIONS_ARE_SUCH, OF_THE_SAME_TIME = 1, 2, 4

_CYCLES, _INSTRUCTIONS = 0, 1
_U8 = types.uint8[:, ::1]
_F64 = types.float64[:, ::1]


@njit(
    types.int64(
        types.int64, types.uint16[::1], types.uint64[::1], types.uint32[::1], types.uint64[:, ::1], types.uint16[::1],
        _U8, _F64, _F64, _U8, types.uint8[::1], types.float64[::1], _U8,
    ),
    nogil=True, cache=True,
)  # fmt: skip
def judge_values(  # type: ignore[no-untyped-def]
    rows, cpu, cgroup_id, cpu_time_ns, counters, unread, ran, limit_ns, zero_ns, stopped, bounds, highest_khz,
    refused,
):  # fmt: skip
    """Marks in `refused`, as [counter, row], values that cannot be true; returns how many.

    The first six are columns of a RecordBlock; rows of a CPU are in the order of time. All others are by counter and
    CPU: whether the counter `ran`; how long it can count nothing while the CPU works; the time since it counted last,
    infinite before it ever did, which is kept from one call to the next; and `stopped`, which is set where it fell
    silent. By CPU, `bounds` says which bounds hold, as a sum of the constants above, and `highest_khz` is the highest
    frequency.

    All zeros between two counts that are further apart than it can be are silence, and so are those that go on at the
    end. Idle CPUs need not count. More instructions than a cycle can have make both doubtful.
    """
    count = 0
    # Zeros of this call that are not judged yet: the last one by CPU, and before each one the one before.
    previous = np.empty(rows, np.int64)
    for counter in range(len(counters)):
        last = np.full(ran.shape[1], -1, np.int64)
        for row in range(rows):
            of_cpu = cpu[row]
            if not ran[counter, of_cpu] or unread[row] >> counter & 1:
                continue
            if counters[counter, row]:
                zero_ns[counter, of_cpu] = 0
                last[of_cpu] = -1
                continue
            before_ns = zero_ns[counter, of_cpu]
            if cgroup_id[row]:
                zero_ns[counter, of_cpu] += cpu_time_ns[row]
            previous[row] = last[of_cpu]
            last[of_cpu] = row
            if zero_ns[counter, of_cpu] >= limit_ns[counter, of_cpu]:
                if before_ns < np.inf:
                    stopped[counter, of_cpu] = 1
                while last[of_cpu] >= 0:
                    refused[counter, last[of_cpu]] = 1
                    last[of_cpu] = previous[last[of_cpu]]
                    count += 1
    for row in range(rows):
        of_cpu = cpu[row]
        if cpu_time_ns[row] < JUDGED_FROM_NS:
            continue
        cycles, instructions = counters[_CYCLES, row], counters[_INSTRUCTIONS, row] / MOST_INSTRUCTIONS_A_CYCLE
        # What was not read is 0, or a part.
        too_many = bounds[of_cpu] & OF_THE_SAME_TIME and not unread[row] & 3 and 0 < cycles < instructions
        most = FASTER_THAN_HIGHEST * highest_khz[of_cpu] * cpu_time_ns[row] / 1e6
        if bounds[of_cpu] & CYCLES_ARE_SUCH and (too_many or cycles > most):
            count += 1 - refused[_CYCLES, row]
            refused[_CYCLES, row] = 1
        if bounds[of_cpu] & INSTRUCTIONS_ARE_SUCH and (too_many or instructions > most):
            count += 1 - refused[_INSTRUCTIONS, row]
            refused[_INSTRUCTIONS, row] = 1
    return count
