// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cgroups of the version 2 hierarchy that are created, removed, populated and emptied.
 *
 * Each tracepoint gives a struct cgroup and its path from the hierarchy's root; the id is read through offsets that
 * the loader takes from the kernel's type information, so no kernel header is needed. The kernel holds one global
 * lock around all these tracepoints, under which it puts the path together (TRACE_CGROUP_PATH in
 * kernel/cgroup/cgroup-internal.h): the programs never run beside each other, and records are in the order of time.
 *
 * There is no program for cgroup_rename: the version 2 hierarchy refuses to rename (EPERM). Compiled by BCC with
 *   RING_PAGES                pages of the ring, a power of two
 *   and with the offsets that cgroup_ids.h wants
 */
#include "cgroup_ids.h"
#include "lifecycle_records.h"

BPF_F_TABLE("array", int, struct lifecycle_state, state, 1, BPF_F_MMAPABLE);
BPF_RINGBUF_OUTPUT(events, RING_PAGES);

static inline int send(u64 cgroup, u64 path, u32 kind)
{
	int zero = 0;
	struct lifecycle_state *here = state.lookup(&zero);
	u64 id = id_of(cgroup);
	u32 path_length;
	int bytes;

	if (!here || !id)
		return 0;
	bytes = bpf_probe_read_kernel_str(here->record.path, PATH_BYTES, (void *)path);
	/* With the final NUL; a path that cannot be read is sent as none. */
	if (bytes < 1)
		bytes = 1;
	/* The helper returns no more than PATH_BYTES; the mask is for the verifier. */
	path_length = (bytes - 1) & (PATH_BYTES - 1);
	here->record.time_ns = bpf_ktime_get_ns();
	here->record.cgroup_id = id;
	here->record.kind = kind;
	here->record.path_length = path_length;
	if (events.ringbuf_output(&here->record, __builtin_offsetof(struct lifecycle_record, path) + path_length, 0))
		here->lost++;
	return 0;
}

/* Arguments of all: struct cgroup *, const char *path. */
int cgroup_mkdir(struct bpf_raw_tracepoint_args *ctx)
{
	return send(ctx->args[0], ctx->args[1], LIFECYCLE_CREATED);
}

int cgroup_rmdir(struct bpf_raw_tracepoint_args *ctx)
{
	return send(ctx->args[0], ctx->args[1], LIFECYCLE_REMOVED);
}

/* And: int populated, whether a process is in the cgroup or below it. */
int cgroup_notify_populated(struct bpf_raw_tracepoint_args *ctx)
{
	return send(ctx->args[0], ctx->args[1], (int)ctx->args[2] ? LIFECYCLE_POPULATED : LIFECYCLE_EMPTIED);
}
