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
 *   CGROUP_KN, CGROUP_ROOT, KERNFS_NODE_ID, CGROUP_ROOT_HIERARCHY_ID
 *                             offsets of the fields in their structs
 */
#include "lifecycle_records.h"

BPF_F_TABLE("array", int, struct lifecycle_state, state, 1, BPF_F_MMAPABLE);
BPF_RINGBUF_OUTPUT(events, RING_PAGES);

/* The id of a cgroup of the version 2 hierarchy, or 0 for one of another. */
static inline u64 id_of(u64 cgroup)
{
	u64 root = 0, kernfs_node = 0, id = 0;
	/* The version 2 hierarchy is number 0, as /proc/<pid>/cgroup shows it. */
	int hierarchy_id = -1;

	bpf_probe_read_kernel(&root, sizeof(root), (void *)(cgroup + CGROUP_ROOT));
	bpf_probe_read_kernel(&hierarchy_id, sizeof(hierarchy_id), (void *)(root + CGROUP_ROOT_HIERARCHY_ID));
	if (hierarchy_id)
		return 0;
	bpf_probe_read_kernel(&kernfs_node, sizeof(kernfs_node), (void *)(cgroup + CGROUP_KN));
	bpf_probe_read_kernel(&id, sizeof(id), (void *)(kernfs_node + KERNFS_NODE_ID));
	return id;
}

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
