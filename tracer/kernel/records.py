# SPDX-License-Identifier: Apache-2.0
"""numpy's view of the layouts in bpf_programs/records.h, the source of truth; a test holds the two together."""

import numpy as np

COUNTERS = 3
SLOTS = 32
HELD = 8

TICK_RECORD = np.dtype(
    [
        ("tick", np.uint64),
        ("cgroup_id", np.uint64),
        ("counters", np.uint64, (COUNTERS,)),
        ("sequence", np.uint32),
        ("cpu", np.uint16),
        ("unread", np.uint16),
        ("time_ns", np.uint32),
        ("switches", np.uint32),
        ("tick_count", np.uint32),
        ("lateness_ns", np.uint32),
        ("wait_ns", np.uint64),
        ("wait_self_ns", np.uint64),
        ("waits", np.uint32),
        ("involuntary", np.uint32),
        ("stolen_ns", np.uint64),
    ]
)

ACCUMULATOR = np.dtype(
    [
        ("cgroup_id", np.uint64),
        ("counters", np.uint64, (COUNTERS,)),
        ("wait_ns", np.uint64),
        ("wait_self_ns", np.uint64),
        ("stolen_ns", np.uint64),
        ("time_ns", np.uint32),
        ("switches", np.uint32),
        ("waits", np.uint32),
        ("involuntary", np.uint32),
        ("unread", np.uint32),
        ("reserved", np.uint32),
    ]
)

HELD_INTERVAL = np.dtype([("end_ns", np.uint64), ("cgroup_id", np.uint64)])

CPU_STATE = np.dtype(
    [
        ("last_ns", np.uint64),
        ("last_counters", np.uint64, (COUNTERS,)),
        ("tick", np.uint64),
        ("tick_end_ns", np.uint64),
        ("idle_task", np.uint64),
        ("task", np.uint64),
        ("used", np.uint64),
        ("clock_offset_ns", np.uint64),
        ("wait_since_ns", np.uint64),
        ("exec_ns", np.uint64),
        ("exec_seen_ns", np.uint64),
        ("stint_ns", np.uint64),
        ("stolen_told_ns", np.uint64),
        ("switches", np.uint64),
        ("unseen", np.uint64),
        ("unseen_ns", np.uint64),
        ("waits_unknown", np.uint64),
        ("waits_cut_ns", np.uint64),
        ("lost_ring_full", np.uint64),
        ("lost_no_ring", np.uint64),
        ("sequence", np.uint32),
        ("settled", np.uint32),
        ("last_unread", np.uint32),
        ("restart", np.uint32),
        ("wait_preempted", np.uint32),
        ("held_last", np.uint32),
        ("held", HELD_INTERVAL, (HELD,)),
        ("idle", ACCUMULATOR),
        ("slots", ACCUMULATOR, (SLOTS,)),
    ]
)
