// SPDX-License-Identifier: GPL-2.0-only
/*
 * What bench/switch_cost.py compares the tracer's sched_switch program with: a program that does nothing, and one that
 * takes the same readings (clock, cgroup id, counters) and only stores them. COUNTED: the three counters are open.
 */
struct reading {
	u64 now_ns;
	u64 cgroup_id;
	u64 counters[3];
};

BPF_ARRAY(readings, struct reading, CPUS);
BPF_PERF_ARRAY(counter0, CPUS);
BPF_PERF_ARRAY(counter1, CPUS);
BPF_PERF_ARRAY(counter2, CPUS);

int empty(struct bpf_raw_tracepoint_args *ctx)
{
	return 0;
}

int readings_only(struct bpf_raw_tracepoint_args *ctx)
{
	int key = bpf_get_smp_processor_id();
	struct reading *reading = readings.lookup(&key);

	if (!reading)
		return 0;
	reading->now_ns = bpf_ktime_get_ns();
	reading->cgroup_id = bpf_get_current_cgroup_id();
#if COUNTED
	reading->counters[0] = counter0.perf_read(CUR_CPU_IDENTIFIER);
	reading->counters[1] = counter1.perf_read(CUR_CPU_IDENTIFIER);
	reading->counters[2] = counter2.perf_read(CUR_CPU_IDENTIFIER);
#endif
	return 0;
}
