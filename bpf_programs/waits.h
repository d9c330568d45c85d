/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Since when each task has been ready to run without running.
 *
 * A task is known by the address of its task_struct, which is never followed. The table is direct-mapped and has one
 * word a place, so that no word is seen half written. For one task, whoever wakes it and whoever switches it are in
 * order by the scheduler's own locks; two tasks that share a place drive each other out, and then the wait of one is
 * not known: a task that is switched in without an entry is counted, so all of these are. A word is
 *
 *   bits 44-63  what of the address the place does not tell: with 2^16 places, addresses of 4 TiB of memory are told apart
 *   bit  43     it was switched out, and it is not known whether it was still ready: a wake-up will tell
 *   bits 0-42   the moment, in ns: waits of up to 2.4 hours
 *
 * Compiled with WAIT_BITS, the binary logarithm of the number of places, at least 16.
 */
#ifndef TRACER_WAITS_H
#define TRACER_WAITS_H

#define TIME_MASK ((1ULL << 43) - 1)
#define MAYBE (1ULL << 43)
#define TAG_SHIFT 44

/* The task's place in the table. A task_struct is aligned to a cache line. */
static inline u32 place_of(u64 task)
{
	return (task >> 6 ^ task >> (6 + WAIT_BITS)) & ((1 << WAIT_BITS) - 1);
}

static inline u64 tag_of(u64 task)
{
	return task >> (6 + WAIT_BITS) << TAG_SHIFT;
}

/* `kind`: 0 it is ready, MAYBE it may be. */
static inline u64 entry_of(u64 task, u64 now_ns, u64 kind)
{
	return tag_of(task) | kind | (now_ns & TIME_MASK);
}

static inline int is_of(u64 entry, u64 task)
{
	return entry && !((entry ^ tag_of(task)) >> TAG_SHIFT);
}

/* How long ago an entry's moment was; the clocks of two CPUs may be some ns apart, which is no wait of hours. */
static inline u64 waited_ns(u64 entry, u64 now_ns)
{
	u64 elapsed = (now_ns - entry) & TIME_MASK;

	return elapsed > TIME_MASK - (1 << 30) ? 0 : elapsed;
}

#endif
