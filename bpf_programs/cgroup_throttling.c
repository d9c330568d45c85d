// SPDX-License-Identifier: GPL-2.0-only
/*
 * When a cgroup's CPU limit kept it from a CPU: from throttle_cfs_rq to unthrottle_cfs_rq (kernel/sched/fair.c).
 *
 * The kernel has no tracepoint there; both are functions with a struct cfs_rq as first argument, the run queue of one
 * cgroup on one CPU. The first may find that there is time left after all and do nothing: then it is called again
 * before the second, and the last call counts. Both run rarely, twice in a period of the limit at the most.
 *
 * Compiled by BCC with
 *   RING_PAGES   pages of the ring, a power of two
 *   ARGUMENT     place of a function's first argument among the registers as a kprobe has them
 *   CFS_RQ_TG, CFS_RQ_RQ, RQ_CPU, TASK_GROUP_CSS, CSS_CGROUP and those of cgroup_ids.h
 */
#include "cgroup_ids.h"

/* One ring record. */
struct throttling {
	u64 begin_ns; /* CLOCK_MONOTONIC */
	u64 end_ns;
	u64 cgroup_id; /* whose limit it was; of those below it none ran either */
	u64 cpu;
};

struct registers {
	u64 words[ARGUMENT + 1];
};

/* By run queue, since when it is throttled: as many as cgroups can be at once on all CPUs. */
BPF_HASH(begun, u64, u64, 16384);
BPF_RINGBUF_OUTPUT(throttlings, RING_PAGES);
/* What found no room in one of them. */
BPF_F_TABLE("array", int, u64, lost, 1, BPF_F_MMAPABLE);

static inline void lose_one(void)
{
	int zero = 0;
	u64 *count = lost.lookup(&zero);

	if (count)
		__sync_fetch_and_add(count, 1);
}

int throttle(struct registers *ctx)
{
	u64 run_queue = ctx->words[ARGUMENT];
	u64 now_ns = bpf_ktime_get_ns();

	if (begun.update(&run_queue, &now_ns))
		lose_one();
	return 0;
}

int unthrottle(struct registers *ctx)
{
	u64 run_queue = ctx->words[ARGUMENT];
	u64 *begin_ns = begun.lookup(&run_queue);
	struct throttling one = {.end_ns = bpf_ktime_get_ns()};
	int cpu = 0;

	if (!begin_ns)
		return 0;
	one.begin_ns = *begin_ns;
	begun.delete(&run_queue);
	one.cgroup_id = id_of(word_at(word_at(run_queue + CFS_RQ_TG) + TASK_GROUP_CSS + CSS_CGROUP));
	if (!one.cgroup_id)
		return 0;
	bpf_probe_read_kernel(&cpu, sizeof(cpu), (void *)(word_at(run_queue + CFS_RQ_RQ) + RQ_CPU));
	one.cpu = cpu;
	if (throttlings.ringbuf_output(&one, sizeof(one), BPF_RB_NO_WAKEUP))
		lose_one();
	return 0;
}
