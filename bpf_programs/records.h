/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the kernel side hands to user space. tracer/kernel/records.py describes the same layouts to numpy, and a
 * test asserts that both sides agree on each offset and size.
 */
#ifndef TRACER_RECORDS_H
#define TRACER_RECORDS_H

#define COUNTERS 3 /* cycles, instructions, llc_misses: in this order everywhere */
#define SLOTS 32   /* accumulators of a CPU, a power of two, at most 64 */
#define HELD 8     /* intervals of a CPU that are remembered, a power of two */
#define LONGEST_WAIT_TICKS (1 << 15) /* what a wait has beyond these is cut off and counted */

/*
 * What one cgroup did on one CPU in one tick, or in each of a run of whole ticks. One ring record.
 *
 * With a tick_count of 0 it is the part of one task's wait that lies in ticks before the one in which it ended:
 * counters[0] is its beginning, counters[1] its end, a tick's boundary, and counters[2] the time within its first tick
 * in which the task's own cgroup held the CPU, or all ones where that is not known. The other sums are 0.
 */
struct tick_record {
	u64 tick;               /* number of the first tick: CLOCK_MONOTONIC divided by the tick length */
	u64 cgroup_id;          /* inode of the cgroup2 directory; 0: the CPU was idle */
	u64 counters[COUNTERS]; /* increments over all tick_count ticks together */
	u32 sequence;           /* number of the record on its CPU, modulo 2^32; a gap is a lost record */
	u16 cpu;
	u16 unread;             /* bit i: counters[i] could not be read for a part of the time */
	u32 time_ns;            /* CPU time in each of the ticks */
	u32 switches;           /* times a task of the cgroup was switched out, over all tick_count ticks */
	u32 tick_count;         /* 1, or the length of a run of ticks in which no event came, or 0: see above */
	u32 lateness_ns;        /* how long after the tick's end the tick was closed; 0: sent before its end */
	u64 wait_ns;            /* time in this tick for which tasks that then ran here were ready and did not run */
	u64 wait_self_ns;       /* of that, time in which the cgroup itself held this CPU */
	u32 waits;              /* waits that ended here in this tick */
	u32 involuntary;        /* of the switches, those of tasks that were still ready to run */
	u64 stolen_ns;          /* of the CPU time found until this tick, what hypervisor and interrupts took */
};

/* The sum for one cgroup since the CPU's current tick began, or since its last record was sent. */
struct accumulator {
	u64 cgroup_id;
	u64 counters[COUNTERS];
	u64 wait_ns;
	u64 wait_self_ns;
	u64 stolen_ns;
	u32 time_ns;
	u32 switches;
	u32 waits;
	u32 involuntary;
	u32 unread;
	u32 reserved;
};

/* Who held the CPU until when. */
struct held {
	u64 end_ns;
	u64 cgroup_id;
};

/* Everything one CPU needs; only that CPU writes it, but for `restart` and the clock. User space maps it read-write. */
struct cpu_state {
	u64 last_ns;                 /* CLOCK_MONOTONIC of the last event, in the tracer's time namespace */
	u64 last_counters[COUNTERS]; /* readings at that moment */
	u64 tick;                    /* current tick */
	u64 tick_end_ns;
	u64 idle_task;               /* address of this CPU's idle task_struct, learnt when it is switched out */
	u64 task;                    /* address of the task that runs, as far as the events tell; 0: not known */
	u64 used;                    /* bit i: slots[i] holds something */
	u64 clock_offset_ns;         /* set by user space: what its CLOCK_MONOTONIC is ahead of the kernel's own */
	u64 wait_since_ns;           /* the running task waited until it was switched in from then on; 0: not charged yet */
	u64 exec_ns;                 /* sum_exec_runtime of the running task when its stint here began */
	u64 exec_seen_ns;            /* the same when it was last looked at */
	u64 stint_ns;                /* time it has held the CPU since its stint began */
	u64 stolen_told_ns;          /* of that, what was told to be stolen */
	u64 switches;                /* context switches that the program saw */
	u64 unseen;                  /* times another task was found running than the last event had left */
	u64 unseen_ns;               /* time of the intervals at whose ends it was found */
	u64 waits_unknown;           /* tasks that ran without its being known since when they had waited */
	u64 waits_cut_ns;            /* what was cut off waits that were too long */
	u64 lost_ring_full;          /* records that found no room in the ring */
	u64 lost_no_ring;            /* records of a CPU that has no ring */
	u32 sequence;                /* of the next record */
	u32 settled;                 /* 0 until the first tick boundary: a tick seen in part is not sent */
	u32 last_unread;             /* bit i: last_counters[i] is not a reading */
	u32 restart;                 /* set by user space when the CPU went offline: begin anew at the next event */
	u32 wait_preempted;          /* the wait began with being switched out, which is only known now that it has ended */
	u32 held_last;               /* place in `held` of the latest interval */
	struct held held[HELD];
	struct accumulator idle;
	struct accumulator slots[SLOTS];
};

#endif
