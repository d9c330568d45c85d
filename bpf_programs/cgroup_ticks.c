// SPDX-License-Identifier: GPL-2.0-only
/*
 * CPU time, context switches, counters and waiting for a CPU, per cgroup, CPU and tick.
 *
 * Two events end an interval of a CPU's time: sched_switch and the tick. The interval belongs to the cgroup of the
 * task that ran until then, and is added to that cgroup's accumulator on this CPU. When a tick is over, its
 * accumulators leave for the CPU's ring. An interval that crosses tick boundaries is divided among the ticks: its
 * time exactly, its counters in proportion to the time.
 *
 * Both programs run with interrupts off (the tick is an hrtimer), so they never interleave on a CPU and the state
 * needs no lock. Compiled by BCC with
 *   TICK_NS       length of a tick
 *   CPUS          size of the per-CPU tables: possible CPUs
 *   COUNTED       bit i: counter i is open in the perf arrays
 *   RING_PAGES    pages of the ring template; the loader puts a ring of its own size in for each CPU
 *   WAIT_BITS     see waits.h; without it, waits are not followed
 *   EXEC_RUNTIME, TASK_CGROUPS, CSS_SET_CGROUP, CGROUP_KN, KERNFS_NODE_ID
 *                 offsets of se.sum_exec_runtime and cgroups in task_struct, of dfl_cgrp in css_set, of kn in cgroup
 *                 and of id in kernfs_node; without them, nothing is read of the kernel's memory and no stolen time told
 */
#include "records.h"
#ifdef WAIT_BITS
#include "waits.h"
#endif

BPF_F_TABLE("array", int, struct cpu_state, states, CPUS, BPF_F_MMAPABLE);
BPF_RINGBUF_OUTPUT(ring_template, RING_PAGES);
BPF_ARRAY_OF_MAPS(rings, "ring_template", CPUS);
BPF_PERF_ARRAY(counter0, CPUS);
BPF_PERF_ARRAY(counter1, CPUS);
BPF_PERF_ARRAY(counter2, CPUS);
#ifdef WAIT_BITS
BPF_F_TABLE("array", int, u64, waiting, 1 << WAIT_BITS, BPF_F_MMAPABLE);
#endif

/* What is known at the end of an interval: the moment, the readings, and who ran until then. */
struct observation {
	u64 now_ns;
	u64 cgroup_id; /* 0: idle */
	u64 task;      /* whose interval it was */
	u64 exec_ns;   /* its sum_exec_runtime */
	u64 is_switch; /* it is switched out */
	u64 counters[COUNTERS];
};

/* Where the tracer is in a time namespace, its clock is another than the one bpf_ktime_get_ns reads. */
static inline u64 monotonic_ns(struct cpu_state *state)
{
	return bpf_ktime_get_ns() + state->clock_offset_ns;
}

#define EXEC_UNKNOWN ((u64)-1)

/* A failed bpf_perf_event_read returns a negative errno. */
static inline int is_error(u64 reading)
{
	return reading > (u64)-4096;
}

/*
 * delta * part / whole for part <= whole, without overflow: exact (rounded down) for intervals under 2^32 ns, and
 * with both times cut by 16 bits for longer ones, which only idle CPUs without a tick have.
 */
static inline u64 share(u64 delta, u64 part, u64 whole)
{
	if (whole >> 32) {
		part >>= 16;
		whole >>= 16;
	}
	if (!whole)
		return 0;
	return delta / whole * part + delta % whole * part / whole;
}

/* Sends a record; nothing before the CPU's first tick boundary, so that no tick is sent that was seen in part. */
static inline void emit(struct cpu_state *state, u32 cpu, struct accumulator *sum, u64 tick, u32 tick_count,
			u64 lateness_ns)
{
	struct tick_record *record;
	int key = cpu;
	void *ring = rings.lookup(&key);
	u32 sequence;

	if (!state->settled)
		return;
	sequence = state->sequence++;
	if (!ring) {
		state->lost_no_ring++;
		return;
	}
	record = bpf_ringbuf_reserve(ring, sizeof(*record), 0);
	if (!record) {
		state->lost_ring_full++;
		return;
	}
	record->tick = tick;
	record->cgroup_id = sum->cgroup_id;
	record->counters[0] = sum->counters[0];
	record->counters[1] = sum->counters[1];
	record->counters[2] = sum->counters[2];
	record->sequence = sequence;
	record->cpu = cpu;
	record->unread = sum->unread;
	record->time_ns = sum->time_ns;
	record->switches = sum->switches;
	record->tick_count = tick_count;
	record->lateness_ns = lateness_ns >> 32 ? (u32)-1 : lateness_ns;
	record->wait_ns = sum->wait_ns;
	record->wait_self_ns = sum->wait_self_ns;
	record->waits = sum->waits;
	record->involuntary = sum->involuntary;
	record->stolen_ns = sum->stolen_ns;
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
}

/* Sends what the CPU gathered for all cgroups but idle. */
static inline void flush_slots(struct cpu_state *state, u32 cpu, u64 lateness_ns)
{
	u64 used = state->used;

	state->used = 0;
	for (int i = 0; i < SLOTS; i++) {
		if (used >> i & 1)
			emit(state, cpu, &state->slots[i], state->tick, 1, lateness_ns);
	}
}

static inline void clear(struct accumulator *sum, u64 cgroup_id)
{
	sum->cgroup_id = cgroup_id;
	sum->counters[0] = 0;
	sum->counters[1] = 0;
	sum->counters[2] = 0;
	sum->wait_ns = 0;
	sum->wait_self_ns = 0;
	sum->stolen_ns = 0;
	sum->time_ns = 0;
	sum->switches = 0;
	sum->waits = 0;
	sum->involuntary = 0;
	sum->unread = 0;
}

/* Sends everything gathered in the tick that ended lateness_ns ago. */
static inline void flush_tick(struct cpu_state *state, u32 cpu, u64 lateness_ns)
{
	flush_slots(state, cpu, lateness_ns);
	if (state->idle.time_ns | state->idle.switches) {
		emit(state, cpu, &state->idle, state->tick, 1, lateness_ns);
		clear(&state->idle, 0);
	}
}

/* The accumulator of a cgroup in the current tick; a cgroup that held its slot is sent and makes room. */
static inline struct accumulator *accumulator_of(struct cpu_state *state, u32 cpu, u64 cgroup_id)
{
	u32 index = (cgroup_id ^ cgroup_id >> 5 ^ cgroup_id >> 32) & (SLOTS - 1);
	struct accumulator *slot = &state->slots[index];
	u64 bit = 1ULL << index;

	if (!cgroup_id)
		return &state->idle;
	if (state->used & bit) {
		if (slot->cgroup_id == cgroup_id)
			return slot;
		emit(state, cpu, slot, state->tick, 1, 0);
	}
	state->used |= bit;
	clear(slot, cgroup_id);
	return slot;
}

static inline void add(struct accumulator *sum, u64 time_ns, u64 *deltas, u32 unread)
{
	sum->time_ns += time_ns;
	sum->counters[0] += deltas[0];
	sum->counters[1] += deltas[1];
	sum->counters[2] += deltas[2];
	sum->unread |= unread;
}

/* Remembers who held the CPU in the interval that ends now; one cgroup's intervals in a row are one. */
static inline void remember(struct cpu_state *state, u64 cgroup_id, u64 end_ns)
{
	u32 last = state->held_last & (HELD - 1);

	if (state->held[last].cgroup_id != cgroup_id) {
		last = (last + 1) & (HELD - 1);
		state->held_last = last;
		state->held[last].cgroup_id = cgroup_id;
	}
	state->held[last].end_ns = end_ns;
}

/* a - b, or 0 where that is negative; without a branch, for the verifier walks each way of a loop. */
static inline u64 beyond(u64 a, u64 b)
{
	return (a - b) & ~((s64)(a - b) >> 63);
}

/*
 * For how long a cgroup held this CPU between two moments, of which the latter is not after the last interval's end.
 * What lies before the intervals that are remembered is taken to be as the rest, or is `unknown`.
 */
static inline u64 held_by(struct cpu_state *state, u64 cgroup_id, u64 from_ns, u64 to_ns, u64 unknown)
{
	u32 place = state->held_last;
	u64 own_ns = 0, left_ns = to_ns - from_ns;

	for (int i = 0; i < HELD - 1 && left_ns; i++) {
		struct held *held = &state->held[place-- & (HELD - 1)];
		/* What is left when this interval and the later ones are off. */
		u64 before_ns = beyond(state->held[place & (HELD - 1)].end_ns, from_ns);
		u64 taken_ns = beyond(left_ns, before_ns);
		u64 other = held->cgroup_id ^ cgroup_id;

		own_ns += taken_ns & ~((s64)(other | -other) >> 63);
		left_ns -= taken_ns;
	}
	if (!left_ns)
		return own_ns;
	return unknown ? unknown : own_ns + share(own_ns, left_ns, to_ns - from_ns - left_ns);
}

/*
 * Charges the wait of the task that was switched in at the CPU's last event, now that its cgroup is known. What lies in
 * this tick is summed; what lies before it, where accumulators were sent already, leaves by itself.
 */
static inline void charge_wait(struct cpu_state *state, u32 cpu, struct accumulator *sum, u64 until_ns)
{
	u64 since_ns = state->wait_since_ns;
	u64 tick_ns = state->tick_end_ns - TICK_NS;
	u64 from_ns = since_ns > tick_ns ? since_ns : tick_ns;

	state->wait_since_ns = 0;
	sum->waits++;
	sum->involuntary += state->wait_preempted;
	if (from_ns < until_ns) {
		sum->wait_ns += until_ns - from_ns;
		sum->wait_self_ns += held_by(state, sum->cgroup_id, from_ns, until_ns, 0);
	}
	if (since_ns < tick_ns) {
		u64 cut_ns = beyond(tick_ns - since_ns, LONGEST_WAIT_TICKS * TICK_NS);
		u64 tick = (since_ns + cut_ns) / TICK_NS;
		struct accumulator earlier = {.cgroup_id = sum->cgroup_id};

		since_ns += cut_ns;
		state->waits_cut_ns += cut_ns;
		earlier.counters[0] = since_ns;
		earlier.counters[1] = tick_ns;
		earlier.counters[2] = held_by(state, sum->cgroup_id, since_ns, (tick + 1) * TICK_NS, (u64)-1);
		emit(state, cpu, &earlier, tick, 0, 0);
	}
}

/*
 * Of the running task's time here, what it did not get: the scheduler takes off what the hypervisor and interrupts took.
 * It does so at a switch and at its own timer; between these its sum stands still, so that until the next switch no
 * more is told than is sure. At a switch both sides are exact, but for where in the switch they end: single stints can
 * come out below 0 by that, and are added up so.
 */
static inline void charge_stolen(struct cpu_state *state, struct accumulator *sum, struct observation *seen, u64 elapsed)
{
	u64 got_ns = seen->exec_ns - state->exec_ns + state->stolen_told_ns;
	/* The last change of the scheduler's sum is not older than the last look. */
	u64 unsure_ns = seen->exec_ns == state->exec_seen_ns ? (u64)1 << 62 : elapsed;
	u64 stolen_ns;

	state->stint_ns += elapsed;
	state->exec_seen_ns = seen->exec_ns;
	if (!seen->cgroup_id || state->exec_ns == EXEC_UNKNOWN)
		return;
	stolen_ns = seen->is_switch ? state->stint_ns - got_ns : beyond(state->stint_ns, got_ns + unsure_ns);
	sum->stolen_ns += stolen_ns;
	state->stolen_told_ns += stolen_ns;
}

/* The first event of a CPU, or the first after it was offline: nothing is known of the time before. */
static inline void begin(struct cpu_state *state, u32 cpu, struct observation *seen)
{
	flush_tick(state, cpu, 0);
	state->settled = 0;
	state->restart = 0;
	state->waits_unknown += !!state->wait_since_ns;
	state->wait_since_ns = 0;
	remember(state, (u64)-1, seen->now_ns);
	state->tick = seen->now_ns / TICK_NS;
	state->tick_end_ns = (state->tick + 1) * TICK_NS;
	state->last_ns = seen->now_ns;
	state->last_unread = 0;
	for (int i = 0; i < COUNTERS; i++) {
		state->last_counters[i] = seen->counters[i];
		if (is_error(seen->counters[i]))
			state->last_unread |= 1 << i;
	}
}

/*
 * Ends the interval that began at the CPU's last event. Returns the accumulator in which the cgroup's current tick
 * is summed, or NULL where an interval only begins.
 */
static inline struct accumulator *account(struct cpu_state *state, u32 cpu, struct observation *seen)
{
	struct accumulator *sum;
	u64 elapsed = seen->now_ns - state->last_ns;
	u64 deltas[COUNTERS] = {};
	u32 unread = 0;

	if (!state->last_ns || state->restart) {
		begin(state, cpu, seen);
		return NULL;
	}
	/* The clock may step back by a few ns between two timekeeping updates. */
	if ((s64)elapsed < 0)
		elapsed = 0;
	else
		state->last_ns = seen->now_ns;

#pragma unroll
	for (int i = 0; i < COUNTERS; i++) {
		if (!(COUNTED >> i & 1))
			continue;
		if (is_error(seen->counters[i])) {
			unread |= 1 << i;
			state->last_unread |= 1 << i;
			continue;
		}
		deltas[i] = seen->counters[i] - state->last_counters[i];
		/* A reading below the last one is of a counter opened anew, not of one that wrapped at 2^64. */
		if (state->last_unread >> i & 1 || (s64)deltas[i] < 0) {
			deltas[i] = 0;
			unread |= 1 << i;
			state->last_unread &= ~(1 << i);
		}
		state->last_counters[i] = seen->counters[i];
	}

	sum = accumulator_of(state, cpu, seen->cgroup_id);
#ifdef WAIT_BITS
	if (state->wait_since_ns)
		charge_wait(state, cpu, sum, state->last_ns - elapsed);
	remember(state, seen->cgroup_id, state->last_ns);
#endif
#ifdef EXEC_RUNTIME
	charge_stolen(state, sum, seen, elapsed);
#endif
	if (state->last_ns < state->tick_end_ns) {
		add(sum, elapsed, deltas, unread);
		return sum;
	}

	/* The tick is over: its part, then the whole ticks without an event, then what belongs to the new tick. */
	u64 late = state->last_ns - state->tick_end_ns;
	u64 part = elapsed - late;
	u64 shares[COUNTERS];
	u32 whole_ticks = late / TICK_NS;

#pragma unroll
	for (int i = 0; i < COUNTERS; i++) {
		shares[i] = share(deltas[i], part, elapsed);
	}
	add(sum, part, shares, unread);
	flush_tick(state, cpu, late);
	state->settled = 1;
#pragma unroll
	for (int i = 0; i < COUNTERS; i++) {
		deltas[i] -= shares[i];
	}
	state->tick++;
	state->tick_end_ns += TICK_NS;

	if (whole_ticks) {
		struct accumulator run = {.cgroup_id = seen->cgroup_id, .time_ns = TICK_NS, .unread = unread};
		u64 whole_ns = (u64)whole_ticks * TICK_NS;

#pragma unroll
		for (int i = 0; i < COUNTERS; i++) {
			run.counters[i] = share(deltas[i], whole_ns, late);
			deltas[i] -= run.counters[i];
		}
		emit(state, cpu, &run, state->tick, whole_ticks, late - TICK_NS);
		state->tick += whole_ticks;
		state->tick_end_ns += whole_ns;
		late -= whole_ns;
	}
	sum = accumulator_of(state, cpu, seen->cgroup_id);
	add(sum, late, deltas, unread);
	return sum;
}

static inline u64 exec_runtime(u64 task)
{
	u64 exec_ns = 0;

#ifdef EXEC_RUNTIME
	bpf_probe_read_kernel(&exec_ns, sizeof(exec_ns), (void *)(task + EXEC_RUNTIME));
#endif
	return exec_ns;
}

/* A task's time on this CPU begins. */
static inline void begin_stint(struct cpu_state *state, u64 task, u64 exec_ns)
{
	state->task = task;
	state->exec_ns = exec_ns;
	state->exec_seen_ns = exec_ns;
	state->stint_ns = 0;
	state->stolen_told_ns = 0;
}

#ifdef WAIT_BITS
/* From now on a task is ready to run and does not, or may be: `kind` is 0 or MAYBE. */
static inline void begin_wait(u64 task, u64 kernel_ns, u64 kind)
{
	int key = place_of(task);
	u64 *entry = waiting.lookup(&key);

	if (entry)
		*entry = entry_of(task, kernel_ns, kind);
}

/*
 * A task that runs since the CPU's last event, found at `now_ns` or `kernel_ns`, waits no longer; charge_wait has the rest
 * to do.
 */
static inline void end_wait(struct cpu_state *state, u64 task, u64 kernel_ns, u64 now_ns)
{
	int key = place_of(task);
	u64 *entry = waiting.lookup(&key);

	if (!entry || !is_of(*entry, task)) {
		state->waits_unknown++;
		return;
	}
	state->wait_since_ns = now_ns - waited_ns(*entry, kernel_ns);
	if (state->wait_since_ns > state->last_ns)
		state->wait_since_ns = state->last_ns;
	state->wait_preempted = !!(*entry & MAYBE);
	*entry = 0;
}

/* A wake-up can come for a task that waits already: it was preempted on its way to sleep. */
static inline void wake(u64 task, u64 kernel_ns, int is_new)
{
	int key = place_of(task);
	u64 *entry = waiting.lookup(&key);

	/* A new task may lie where one has died. */
	if (entry && (is_new || !is_of(*entry, task) || *entry & MAYBE))
		*entry = entry_of(task, kernel_ns, 0);
}
#endif

#ifdef WAIT_BITS
/* Of a task that runs, it is not known any more since when it waited. Returns whether it was. */
static inline int forget(u64 task)
{
	int key = place_of(task);
	u64 *entry = waiting.lookup(&key);

	if (!entry || !is_of(*entry, task))
		return 0;
	*entry = 0;
	return 1;
}
#endif

#ifdef EXEC_RUNTIME
static inline u64 read_word(u64 address)
{
	u64 word = 0;

	bpf_probe_read_kernel(&word, sizeof(word), (void *)address);
	return word;
}

/* The cgroup of a task that does not run. */
static inline u64 cgroup_of(u64 task)
{
	u64 cgroup = read_word(read_word(task + TASK_CGROUPS) + CSS_SET_CGROUP);

	return read_word(read_word(cgroup + CGROUP_KN) + KERNFS_NODE_ID);
}

/*
 * The task that the last event left has gone unseen: what the scheduler says it ran of the interval that ends now, and how
 * it waited, leaves as a record of its own, with its part of the counters. The rest is the task's that is found.
 */
static inline void charge_unseen(struct cpu_state *state, u32 cpu, struct observation *seen)
{
	struct accumulator gone = {.cgroup_id = cgroup_of(state->task), .switches = 1};
	u64 ran_ns = beyond(exec_runtime(state->task), state->exec_ns + state->stint_ns);
	u64 whole_ns = beyond(seen->now_ns, state->last_ns);
	u64 most_ns = beyond(seen->now_ns < state->tick_end_ns ? seen->now_ns : state->tick_end_ns, state->last_ns);

	if (!gone.cgroup_id)
		return;
	if (ran_ns > most_ns)
		ran_ns = most_ns;
#pragma unroll
	for (int i = 0; i < COUNTERS; i++) {
		u64 delta = seen->counters[i] - state->last_counters[i];

		if (!(COUNTED >> i & 1))
			continue;
		if (is_error(seen->counters[i]) || state->last_unread >> i & 1 || (s64)delta < 0) {
			gone.unread |= 1 << i;
			continue;
		}
		gone.counters[i] = share(delta, ran_ns, whole_ns);
		state->last_counters[i] += gone.counters[i];
	}
#ifdef WAIT_BITS
	if (state->wait_since_ns)
		charge_wait(state, cpu, &gone, state->last_ns);
#endif
	state->last_ns += ran_ns;
	remember(state, gone.cgroup_id, state->last_ns);
	gone.time_ns = ran_ns;
	state->switches++;
	emit(state, cpu, &gone, state->tick, 1, 0);
}
#endif

/*
 * Who ran in the interval that ends now. A kernel may keep switches to itself (this was seen of the threads of a virtual
 * machine's own agent): then another task runs than the last event left, and the interval is not wholly its own. At a
 * tick it is found as well, so that no such interval is longer than a tick.
 */
static inline void see_task(struct cpu_state *state, u32 cpu, struct observation *seen)
{
	u64 is_known = state->task && !state->restart;

	if (state->task == seen->task && !state->restart)
		return;
	if (is_known) {
		state->unseen++;
		state->unseen_ns += beyond(seen->now_ns, state->last_ns);
#ifdef EXEC_RUNTIME
		if (state->task != state->idle_task && state->exec_ns != EXEC_UNKNOWN)
			charge_unseen(state, cpu, seen);
#endif
#ifdef WAIT_BITS
		state->waits_unknown += !!state->wait_since_ns;
		state->wait_since_ns = 0;
		forget(state->task);
		if (seen->task != state->idle_task)
			end_wait(state, seen->task, seen->now_ns - state->clock_offset_ns, seen->now_ns);
#endif
	}
	begin_stint(state, seen->task, is_known ? EXEC_UNKNOWN : seen->exec_ns);
}

static inline void read_counters(struct observation *seen)
{
#if COUNTED & 1
	seen->counters[0] = counter0.perf_read(CUR_CPU_IDENTIFIER);
#endif
#if COUNTED & 2
	seen->counters[1] = counter1.perf_read(CUR_CPU_IDENTIFIER);
#endif
#if COUNTED & 4
	seen->counters[2] = counter2.perf_read(CUR_CPU_IDENTIFIER);
#endif
}

/* What a running CPU does between two switches: the tick, and the loader's call at the start and at the end. */
static inline void account_running(void)
{
	int key = bpf_get_smp_processor_id();
	struct cpu_state *state = states.lookup(&key);
	struct observation seen = {};

	if (!state)
		return;
	seen.now_ns = bpf_ktime_get_ns() + state->clock_offset_ns;
	seen.task = bpf_get_current_task();
	/* Each CPU's idle task has pid 0. */
	if (bpf_get_current_pid_tgid()) {
		seen.cgroup_id = bpf_get_current_cgroup_id();
		seen.exec_ns = exec_runtime(seen.task);
	}
	read_counters(&seen);
	see_task(state, key, &seen);
	account(state, key, &seen);
}

/* The software clock event of this CPU, each TICK_NS. */
int tick(void *ctx)
{
	account_running();
	return 0;
}

/* Run by BPF_PROG_TEST_RUN on a given CPU: its interval up to now is accounted, as if the tick had come. */
int poke(void *ctx)
{
	account_running();
	return 0;
}

/* Whether a task that is switched out can go on at once. */
enum readiness { ASLEEP = 0, READY = 1, UNTOLD = 2 };

/* Accounts the interval that a switch ends, and what it means for both tasks. */
static inline void account_switch(struct cpu_state *state, u32 cpu, struct observation *seen, u64 next, u64 next_exec_ns,
				  enum readiness ready, u64 kernel_ns)
{
	struct accumulator *sum;

	see_task(state, cpu, seen);
	sum = account(state, cpu, seen);
	state->switches++;
	if (sum)
		sum->switches++;
#ifdef WAIT_BITS
	if (seen->task != state->idle_task) {
		if (ready == ASLEEP)
			forget(seen->task);
		else
			begin_wait(seen->task, kernel_ns, ready == READY ? 0 : MAYBE);
		if (ready == READY && sum)
			sum->involuntary++;
	}
	if (next != state->idle_task)
		end_wait(state, next, kernel_ns, state->last_ns);
#endif
	begin_stint(state, next, next_exec_ns);
	/* An idle CPU may not tick for long: what it gathered leaves now. */
	if (sum && next == state->idle_task)
		flush_slots(state, cpu, 0);
}

/* In sched_switch `current` is still the outgoing task. Arguments: preempt, prev, next, and since v5.18 prev's state. */
static inline int see_switch(struct bpf_raw_tracepoint_args *ctx, enum readiness ready)
{
	int key = bpf_get_smp_processor_id();
	struct cpu_state *state = states.lookup(&key);
	u64 next = ctx->args[2];
	u64 kernel_ns = bpf_ktime_get_ns();
	struct observation seen = {.is_switch = 1};

	if (!state)
		return 0;
	seen.now_ns = kernel_ns + state->clock_offset_ns;
	seen.task = ctx->args[1];
	if (!state->idle_task && !bpf_get_current_pid_tgid())
		state->idle_task = seen.task;
	if (seen.task != state->idle_task) {
		seen.cgroup_id = bpf_get_current_cgroup_id();
		seen.exec_ns = exec_runtime(seen.task);
	}
	read_counters(&seen);
	account_switch(state, key, &seen, next, next == state->idle_task ? 0 : exec_runtime(next), ready, kernel_ns);
	return 0;
}

/* TASK_RUNNING is 0. A task can be preempted on its way to sleep: it is ready all the same. */
int sched_switch(struct bpf_raw_tracepoint_args *ctx)
{
	u64 state = ctx->args[3];

	/* Without a branch: the verifier would walk everything twice. */
	return see_switch(ctx, (ctx->args[0] & 1) | (~(state | -state) >> 63));
}

#ifdef WAIT_BITS
/* Where the tracepoint has no fourth argument: whether a task was ready shows when it is woken, or runs without that. */
int sched_switch_untold(struct bpf_raw_tracepoint_args *ctx)
{
	return see_switch(ctx, ctx->args[0] & 1 ? READY : UNTOLD);
}

/* Argument: the task. */
int sched_wakeup(struct bpf_raw_tracepoint_args *ctx)
{
	wake(ctx->args[0], bpf_ktime_get_ns(), 0);
	return 0;
}

int sched_wakeup_new(struct bpf_raw_tracepoint_args *ctx)
{
	wake(ctx->args[0], bpf_ktime_get_ns(), 1);
	return 0;
}
#endif

/*
 * The same rules on events given as arguments instead of the node's own, for tests through BPF_PROG_TEST_RUN:
 * now_ns, cgroup_id, counters[0..2], cpu, kind (0 tick, 1 switch, 2 wake-up, 3 wake-up of a new task), task, its
 * sum_exec_runtime, next task, its sum_exec_runtime, readiness.
 */
int replay(struct bpf_raw_tracepoint_args *ctx)
{
	int key = ctx->args[5];
	u64 kind = ctx->args[6];
	struct cpu_state *state = states.lookup(&key);
	struct observation seen = {
		.now_ns = ctx->args[0],
		.cgroup_id = ctx->args[1],
		.task = ctx->args[7],
		.exec_ns = ctx->args[8],
		.is_switch = kind == 1,
		.counters = {ctx->args[2], ctx->args[3], ctx->args[4]},
	};

	if (!state)
		return 0;
#ifdef WAIT_BITS
	if (kind >= 2) {
		wake(seen.task, seen.now_ns, kind == 3);
		return 0;
	}
#endif
	if (kind) {
		account_switch(state, key, &seen, ctx->args[9], ctx->args[10], ctx->args[11], seen.now_ns);
		return 0;
	}
	see_task(state, key, &seen);
	account(state, key, &seen);
	return 0;
}
