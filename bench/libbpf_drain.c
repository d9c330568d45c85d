// SPDX-License-Identifier: Apache-2.0
/*
 * The rival in bench/ring_drain.py: libbpf's ring_buffer__consume with a callback that does in C what
 * tracer/kernel/ring_reader.py does per record. The same checks (length, CPU, tick count, sequence, bounds, room in
 * the columns), the same runs of ticks and parts of waits, the same columns.
 *
 * What the reader need not do here: go on with a run of ticks in another block. A record that does not fit ends the
 * drain with -ENOSPC, and the bench is then wrong.
 */
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
#include "records.h"

struct columns {
	u64 *tick;
	u16 *cpu;
	u64 *cgroup_id;
	u32 *cpu_time_ns;
	u64 *counters[COUNTERS];
	u16 *unread;
	u32 *context_switches;
	u32 *lateness_ns;
	u64 (*waited)[4];
	u64 tick_ns;
	u64 capacity;
	u64 row;
	u64 first_tick;
	u64 last_tick;
	u64 ring_cpu;
	u64 expected;
	u64 records;
	u64 missing;
	u64 malformed;
};

static u64 later(u64 a, u64 b)
{
	return a > b ? a : b;
}

/* The part of a wait that lies in earlier ticks: a row for each of them. */
static int on_wait(struct columns *columns, const struct tick_record *record)
{
	u64 begin_ns = record->counters[0], end_ns = record->counters[1], row = columns->row;
	u64 first = begin_ns / columns->tick_ns;

	for (u64 tick = first; tick * columns->tick_ns < end_ns; tick++) {
		u64 tick_end_ns = (tick + 1) * columns->tick_ns;

		if (tick < columns->first_tick || tick > columns->last_tick)
			continue;
		if (row >= columns->capacity)
			return -ENOSPC;
		columns->tick[row] = tick;
		columns->cpu[row] = record->cpu;
		columns->cgroup_id[row] = record->cgroup_id;
		columns->cpu_time_ns[row] = 0;
		for (int i = 0; i < COUNTERS; i++)
			columns->counters[i][row] = 0;
		columns->unread[row] = 7;
		columns->context_switches[row] = 0;
		columns->lateness_ns[row] = 0;
		columns->waited[row][0] = (tick_end_ns < end_ns ? tick_end_ns : end_ns) - later(tick * columns->tick_ns, begin_ns);
		columns->waited[row][1] = tick == first ? record->counters[2] : (u64)-1;
		columns->waited[row][2] = 0;
		columns->waited[row][3] = 0;
		row++;
	}
	columns->row = row;
	columns->records++;
	return 0;
}

static int on_record(void *context, void *data, size_t size)
{
	struct columns *columns = context;
	const struct tick_record *record = data;
	u64 row = columns->row;
	u64 done = 0, count, end;

	if (size != sizeof(*record) || record->cpu != columns->ring_cpu ||
	    (!record->tick_count && record->counters[1] <= record->counters[0])) {
		columns->malformed++;
		return 0;
	}
	columns->missing += (u32)(record->sequence - columns->expected);
	columns->expected = (u32)(record->sequence + 1);
	if (!record->tick_count)
		return on_wait(columns, record);
	count = record->tick_count;
	end = count;
	if (record->tick > columns->last_tick)
		end = 0;
	else if (count > columns->last_tick - record->tick)
		end = columns->last_tick - record->tick + 1;
	if (record->tick < columns->first_tick) {
		done = columns->first_tick - record->tick;
		if (done > count)
			done = count;
	}
	for (; done < end; done++, row++) {
		if (row >= columns->capacity)
			return -ENOSPC;
		columns->tick[row] = record->tick + done;
		columns->cpu[row] = record->cpu;
		columns->cgroup_id[row] = record->cgroup_id;
		columns->cpu_time_ns[row] = record->time_ns;
		if (count == 1) {
			for (int i = 0; i < COUNTERS; i++)
				columns->counters[i][row] = record->counters[i];
			columns->context_switches[row] = record->switches;
			columns->lateness_ns[row] = record->lateness_ns;
			memcpy(columns->waited[row], &record->wait_ns, sizeof(columns->waited[row]));
		} else {
			for (int i = 0; i < COUNTERS; i++)
				columns->counters[i][row] =
					record->counters[i] / count + (count - done <= record->counters[i] % count);
			columns->context_switches[row] = 0;
			columns->lateness_ns[row] = done ? 0 : record->lateness_ns;
			memset(columns->waited[row], 0, sizeof(columns->waited[row]));
		}
		columns->unread[row] = record->unread;
	}
	columns->row = row;
	columns->records++;
	return 0;
}

struct ring_buffer *drain_open(int map_fd, struct columns *columns)
{
	return ring_buffer__new(map_fd, on_record, columns, NULL);
}

/* Takes what the ring holds; the number of records, or a negative errno. */
int drain(struct ring_buffer *ring)
{
	return ring_buffer__consume(ring);
}

void drain_close(struct ring_buffer *ring)
{
	ring_buffer__free(ring);
}
