/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What cgroup_lifecycle.c hands to user space. tracer/kernel/cgroup_events.py describes the same layouts, and a test
 * asserts that both sides agree on each offset and size.
 */
#ifndef TRACER_LIFECYCLE_RECORDS_H
#define TRACER_LIFECYCLE_RECORDS_H

/* The kernel gives its tracepoints no more of a path than this, the final NUL included (TRACE_CGROUP_PATH_LEN). */
#define PATH_BYTES 1024

enum lifecycle_kind {
	LIFECYCLE_CREATED = 1,
	LIFECYCLE_REMOVED = 2,
	LIFECYCLE_POPULATED = 3,
	LIFECYCLE_EMPTIED = 4,
};

/* One ring record; only path_length bytes of the path are sent. */
struct lifecycle_record {
	u64 time_ns;   /* CLOCK_MONOTONIC */
	u64 cgroup_id; /* inode of the cgroup2 directory */
	u32 kind;
	u32 path_length; /* without the final NUL; 0: the path could not be read */
	char path[PATH_BYTES];
};

/* User space maps it read-only. */
struct lifecycle_state {
	u64 lost; /* events that found no room in the ring */
	struct lifecycle_record record; /* where the next record is put together */
};

#endif
