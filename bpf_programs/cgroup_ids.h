/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which cgroup a struct cgroup of the kernel is. Compiled with the offsets of the fields in their structs, which the
 * loader takes from the kernel's type information: CGROUP_KN, CGROUP_ROOT, KERNFS_NODE_ID, CGROUP_ROOT_HIERARCHY_ID.
 */
#ifndef TRACER_CGROUP_IDS_H
#define TRACER_CGROUP_IDS_H

static inline u64 word_at(u64 address)
{
	u64 word = 0;

	bpf_probe_read_kernel(&word, sizeof(word), (void *)address);
	return word;
}

/* The id of a cgroup of the version 2 hierarchy, or 0 for one of another. */
static inline u64 id_of(u64 cgroup)
{
	/* The version 2 hierarchy is number 0, as /proc/<pid>/cgroup shows it. */
	int hierarchy_id = -1;

	bpf_probe_read_kernel(&hierarchy_id, sizeof(hierarchy_id),
			      (void *)(word_at(cgroup + CGROUP_ROOT) + CGROUP_ROOT_HIERARCHY_ID));
	return hierarchy_id ? 0 : word_at(word_at(cgroup + CGROUP_KN) + KERNFS_NODE_ID);
}

#endif
