// SPDX-License-Identifier: GPL-2.0-only
/*
 * CPU time, context switches and counters per cgroup, CPU and tick.
 *
 * Two events end an interval of a CPU's time: sched_switch and the tick. The interval belongs to the cgroup of the
 * task that ran until then, and is added to that cgroup's accumulator on this CPU. When a tick is over, its
 * accumulators leave for the CPU's ring. An interval that crosses tick boundaries is divided among the ticks: its
 * time exactly, its counters in proportion to the time.
 *
 * Both programs run with interrupts off (the tick is an hrtimer), so they never interleave on a CPU and the state
 * needs no lock. Compiled by BCC with
 *   TICK_NS     length of a tick
 *   CPUS        size of the per-CPU tables: possible CPUs
 *   COUNTED     bit i: counter i is open in the perf arrays
 *   RING_PAGES  pages of the ring template; the loader puts a ring of its own size in for each CPU
 */
#include "records.h"

BPF_F_TABLE("array", int, struct cpu_state, states, CPUS, BPF_F_MMAPABLE);
BPF_RINGBUF_OUTPUT(ring_template, RING_PAGES);
BPF_ARRAY_OF_MAPS(rings, "ring_template", CPUS);
BPF_PERF_ARRAY(counter0, CPUS);
BPF_PERF_ARRAY(counter1, CPUS);
BPF_PERF_ARRAY(counter2, CPUS);

/* What is known at the end of an interval: the moment, the readings, and who ran until then. */
struct observation {
	u64 now_ns;
	u64 cgroup_id; /* 0: idle */
	u64 counters[COUNTERS];
};

/* Where the tracer is in a time namespace, its clock is another than the one bpf_ktime_get_ns reads. */
static inline u64 monotonic_ns(struct cpu_state *state)
{
	return bpf_ktime_get_ns() + state->clock_offset_ns;
}

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
	sum->time_ns = 0;
	sum->switches = 0;
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

/* The first event of a CPU, or the first after it was offline: nothing is known of the time before. */
static inline void begin(struct cpu_state *state, u32 cpu, struct observation *seen)
{
	flush_tick(state, cpu, 0);
	state->settled = 0;
	state->restart = 0;
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

/*
 * Who ran in the interval that ends now. A kernel may keep switches to itself (this was seen of the threads of a virtual
 * machine's own agent): then another task runs than the last event left, and the interval is not wholly its own. At a
 * tick it is found as well, so that no such interval is longer than a tick.
 */
static inline void see_task(struct cpu_state *state, u64 task, u64 now_ns)
{
	if (state->task && state->task != task && !state->restart) {
		state->unseen++;
		if (now_ns > state->last_ns)
			state->unseen_ns += now_ns - state->last_ns;
	}
	state->task = task;
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
	seen.now_ns = monotonic_ns(state);
	/* Each CPU's idle task has pid 0. */
	if (bpf_get_current_pid_tgid())
		seen.cgroup_id = bpf_get_current_cgroup_id();
	see_task(state, bpf_get_current_task(), seen.now_ns);
	read_counters(&seen);
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

/* In sched_switch `current` is still the outgoing task. Arguments: preempt, prev, next. */
int sched_switch(struct bpf_raw_tracepoint_args *ctx)
{
	int key = bpf_get_smp_processor_id();
	struct cpu_state *state = states.lookup(&key);
	struct observation seen = {};
	struct accumulator *sum;

	if (!state)
		return 0;
	seen.now_ns = monotonic_ns(state);
	if (!state->idle_task && !bpf_get_current_pid_tgid())
		state->idle_task = ctx->args[1];
	if (ctx->args[1] != state->idle_task)
		seen.cgroup_id = bpf_get_current_cgroup_id();
	see_task(state, ctx->args[1], seen.now_ns);
	state->task = ctx->args[2];
	state->switches++;
	read_counters(&seen);
	sum = account(state, key, &seen);
	if (!sum)
		return 0;
	sum->switches++;
	/* An idle CPU may not tick for long: what it gathered leaves now. */
	if (ctx->args[2] == state->idle_task)
		flush_slots(state, key, 0);
	return 0;
}

/*
 * The same rules on events given as arguments instead of the node's own, for tests through BPF_PROG_TEST_RUN:
 * now_ns, cgroup_id, counters[0..2], cpu, kind (0 tick, 1 switch, 2 switch to idle), task, next task.
 */
int replay(struct bpf_raw_tracepoint_args *ctx)
{
	int key = ctx->args[5];
	struct cpu_state *state = states.lookup(&key);
	struct observation seen = {
		.now_ns = ctx->args[0],
		.cgroup_id = ctx->args[1],
		.counters = {ctx->args[2], ctx->args[3], ctx->args[4]},
	};
	struct accumulator *sum;

	if (!state)
		return 0;
	see_task(state, ctx->args[7], seen.now_ns);
	if (ctx->args[6]) {
		state->task = ctx->args[8];
		state->switches++;
	}
	sum = account(state, key, &seen);
	if (!sum || !ctx->args[6])
		return 0;
	sum->switches++;
	if (ctx->args[6] == 2)
		flush_slots(state, key, 0);
	return 0;
}
