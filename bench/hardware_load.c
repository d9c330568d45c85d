// SPDX-License-Identifier: Apache-2.0
// A victim on one CPU and, on another, an aggressor and a decoy, each of which counts by millisecond what it does.
//
//   cc -O2 -Wall -Werror -pthread hardware_load.c -o hardware_load
//   hardware_load SCHEDULE OUTPUT SET_BYTES STREAM_BYTES LLC_HIT_BYTES COMPUTE CPU OTHER_CPU [TYPE:CONFIG ×3]
//
// SCHEDULE has a byte for each millisecond of the run: who is to work in it (1 the victim, 2 the aggressor, 4 the
// decoy). The victim follows pointers in a circle through SET_BYTES in random order, with COMPUTE steps of computing
// after each 64. The aggressor reads through STREAM_BYTES again and again. The decoy computes, and reads a line of them
// now and then; the aggressor goes before it. Where it may, each goes before others on its CPU.
//
// How often the victim misses its last-level cache is told without a PMU from how long loads take: one in 32 is timed,
// and is slow if it takes longer than the geometric mean of a load from the cache (the median in a circle of
// LLC_HIT_BYTES) and one from memory (the median after clflush). With three events (perf_event_open: cycles,
// instructions, cache misses) they are counted as well; it exits with 2 if they cannot be.
//
// OUTPUT: a header, then by thread and millisecond a cell, as the two structs below have them.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define LINE 64
#define BATCH 64
#define TIMED_EVERY 32
#define AGGRESSOR_LINES 1024
#define DECOY_LINES 20
#define DECOY_STEPS 4000
#define TICK_NS 1000000ull
#define HUGE_PAGE (1ul << 21)
#define SAMPLES 20001
#define EVENTS 3
#define NICE -10

enum { VICTIM, AGGRESSOR, DECOY, THREADS };

struct header {
	uint64_t first_tick, ticks;
	// Of the time stamp counter: median load from the last-level cache and from memory, and what counts as slow.
	uint64_t hit, miss, slow;
};

struct cell {
	uint64_t accesses, steps, timed, slow, cpu_time_ns, counters[EVENTS];
};

struct worker {
	int number, cpu, events;
	uint64_t before_ns, before[EVENTS];
	size_t bytes;
};

static struct header *header;
static struct cell *cells;
static const uint8_t *schedule;
static uint64_t ticks, llc_hit_bytes;
static int compute, has_events;
static uint32_t event_types[EVENTS];
static uint64_t event_configs[EVENTS];
static pthread_barrier_t ready;
static volatile uint64_t sink;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static void *memory(size_t bytes)
{
	void *found;

	bytes = (bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
	found = aligned_alloc(HUGE_PAGE, bytes);
	if (!found)
		die("memory");
	// Else what page tables take of the caches is a part of it.
	madvise(found, bytes, MADV_HUGEPAGE);
	memset(found, 1, bytes);
	return found;
}

// A circle of pointers through all lines (Sattolo's shuffle makes a single one); gives its beginning.
static void **circle(size_t bytes, char **lines)
{
	size_t count = bytes / LINE;
	uint32_t *order = malloc(count * sizeof(*order));

	if (!order)
		die("memory");
	*lines = memory(bytes);
	for (size_t i = 0; i < count; i++)
		order[i] = i;
	for (size_t i = count - 1; i > 0; i--) {
		size_t other = (((uint64_t)random() << 31) ^ random()) % i;
		uint32_t line = order[i];

		order[i] = order[other];
		order[other] = line;
	}
	for (size_t i = 0; i < count; i++)
		*(void **)(*lines + (size_t)order[i] * LINE) = *lines + (size_t)order[(i + 1) % count] * LINE;
	free(order);
	return (void **)*lines;
}

static inline uint64_t timed_load(void ***place)
{
	unsigned processor;
	uint64_t begin = __rdtscp(&processor);

	_mm_lfence();
	*place = (void **)**place;
	// Waits until what is before it is done.
	uint64_t end = __rdtscp(&processor);
	_mm_lfence();
	return end - begin;
}

static int by_size(const void *one, const void *other)
{
	uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;

	return (a > b) - (a < b);
}

static uint64_t median_load(void **place, int is_flushed)
{
	static uint32_t took[SAMPLES];

	for (int i = 0; i < SAMPLES; i++) {
		for (int j = 0; j < TIMED_EVERY; j++)
			place = (void **)*place;
		if (is_flushed) {
			_mm_clflush(place);
			_mm_mfence();
		}
		took[i] = timed_load(&place);
	}
	sink += (uintptr_t)place;
	qsort(took, SAMPLES, sizeof(*took), by_size);
	return took[SAMPLES / 2];
}

static void calibrate(void)
{
	char *lines;
	void **place = circle(llc_hit_bytes, &lines);

	// Brings them in.
	median_load(place, 0);
	for (size_t i = 0; i < 2 * llc_hit_bytes / LINE; i++)
		place = (void **)*place;
	header->hit = median_load(place, 0);
	header->miss = median_load(place, 1);
	// No square root without libm: the largest whole number that is not above the geometric mean.
	while ((header->slow + 1) * (header->slow + 1) <= header->hit * header->miss)
		header->slow++;
	free(lines);
}

static int open_events(void)
{
	int leader = -1;

	for (int i = 0; i < EVENTS; i++) {
		struct perf_event_attr attributes = {
			.size = sizeof(attributes), .type = event_types[i], .config = event_configs[i],
			.read_format = PERF_FORMAT_GROUP, .exclude_hv = 1,
		};
		int event = syscall(SYS_perf_event_open, &attributes, 0, -1, leader, 0);

		if (event < 0) {
			perror("perf_event_open");
			exit(2);
		}
		if (leader < 0)
			leader = event;
	}
	return leader;
}

static void read_events(const struct worker *worker, uint64_t *values)
{
	uint64_t group[1 + EVENTS];

	if (read(worker->events, group, sizeof(group)) != sizeof(group))
		die("read of events");
	memcpy(values, group + 1, sizeof(group) - sizeof(*group));
}

static void begin(struct worker *worker)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(worker->cpu, &cpus);
	if (pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus))
		die("affinity");
	if (has_events)
		worker->events = open_events();
}

// Best effort: who may not do so measures on what is left. sched(7): with autogroups, `nice` alone is among the threads
// of a session.
static void go_first(void)
{
	int file;

	setsid();
	setpriority(PRIO_PROCESS, 0, NICE);
	file = open("/proc/self/autogroup", O_WRONLY);
	if (file < 0)
		return;
	dprintf(file, "%d", NICE);
	close(file);
}

static void start(struct worker *worker)
{
	pthread_barrier_wait(&ready);
	if (worker->number == VICTIM) {
		header->first_tick = clock_ns(CLOCK_MONOTONIC) / TICK_NS + 1;
		header->ticks = ticks;
	}
	pthread_barrier_wait(&ready);
	if (has_events)
		read_events(worker, worker->before);
	worker->before_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

// What it had since the last time is of the tick in which it then was: whoever was held up in it did nothing after.
static void account(struct worker *worker, struct cell *cell)
{
	uint64_t now = clock_ns(CLOCK_THREAD_CPUTIME_ID), values[EVENTS];

	cell->cpu_time_ns += now - worker->before_ns;
	worker->before_ns = now;
	if (!has_events)
		return;
	read_events(worker, values);
	for (int i = 0; i < EVENTS; i++) {
		cell->counters[i] += values[i] - worker->before[i];
		worker->before[i] = values[i];
	}
}

// The cell to count in, after the last batch; sleeps while the schedule has nothing to do. NULL at the end.
static struct cell *next_cell(struct worker *worker, struct cell *last)
{
	struct cell *own = cells + worker->number * ticks;
	uint64_t now = clock_ns(CLOCK_MONOTONIC), first = header->first_tick;
	int64_t tick = (int64_t)(now / TICK_NS) - (int64_t)first;

	if (last && last == own + tick)
		return last;
	if (last)
		account(worker, last);
	for (;;) {
		uint64_t due = tick < 0 ? 0 : tick;

		while (due < ticks && !(schedule[due] & 1 << worker->number))
			due++;
		if (due >= ticks)
			return NULL;
		if ((int64_t)due == tick)
			return own + tick;
		uint64_t at = (first + due) * TICK_NS;
		struct timespec until = {at / 1000000000ull, at % 1000000000ull};

		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
		tick = (int64_t)(clock_ns(CLOCK_MONOTONIC) / TICK_NS) - (int64_t)first;
	}
}

static void compute_steps(int steps)
{
	uint64_t value = sink;

	for (int i = 0; i < steps; i++)
		value = value * 6364136223846793005ull + 1442695040888963407ull;
	sink = value;
}

static void *run_victim(void *argument)
{
	struct worker *worker = argument;
	struct cell *cell = NULL;
	char *lines;

	begin(worker);
	calibrate();
	void **place = circle(worker->bytes, &lines);

	for (size_t i = 0; i < 2 * worker->bytes / LINE; i++)
		place = (void **)*place;
	start(worker);
	while ((cell = next_cell(worker, cell))) {
		for (int i = 0; i < BATCH / TIMED_EVERY; i++) {
			for (int j = 1; j < TIMED_EVERY; j++)
				place = (void **)*place;
			cell->slow += timed_load(&place) > header->slow;
			cell->timed++;
		}
		cell->accesses += BATCH;
		if (compute) {
			compute_steps(compute);
			cell->steps += compute;
		}
	}
	sink += (uintptr_t)place;
	return NULL;
}

static void *run_other(void *argument)
{
	struct worker *worker = argument;
	int is_decoy = worker->number == DECOY, lines = is_decoy ? DECOY_LINES : AGGRESSOR_LINES;
	struct cell *cell = NULL;
	uint64_t sum = 0;
	size_t at = 0;
	char *stream;

	begin(worker);
	// They sleep most of the time: what they take of their CPU is what the schedule says. What the aggressor does must
	// not depend on whether the decoy is there.
	struct sched_param priority = {.sched_priority = is_decoy ? 1 : 2};

	pthread_setschedparam(pthread_self(), SCHED_FIFO, &priority);
	stream = memory(worker->bytes);
	start(worker);
	while ((cell = next_cell(worker, cell))) {
		for (int i = 0; i < lines; i++) {
			sum += *(volatile uint64_t *)(stream + at);
			at += LINE;
			if (at >= worker->bytes)
				at = 0;
		}
		cell->accesses += lines;
		if (is_decoy) {
			compute_steps(DECOY_STEPS);
			cell->steps += DECOY_STEPS;
		}
	}
	sink += sum;
	return NULL;
}

int main(int count, char **arguments)
{
	if (count != 9 && count != 9 + EVENTS) {
		fprintf(stderr, "see the head of hardware_load.c\n");
		return 1;
	}
	int file = open(arguments[1], O_RDONLY);
	struct stat status;

	if (file < 0 || fstat(file, &status))
		die(arguments[1]);
	ticks = status.st_size;
	schedule = mmap(NULL, ticks, PROT_READ, MAP_SHARED, file, 0);
	if (schedule == MAP_FAILED)
		die("mmap");
	size_t size = sizeof(*header) + THREADS * ticks * sizeof(*cells);

	file = open(arguments[2], O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (file < 0 || ftruncate(file, size))
		die(arguments[2]);
	header = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file, 0);
	if (header == MAP_FAILED)
		die("mmap");
	cells = (struct cell *)(header + 1);
	size_t set = strtoull(arguments[3], NULL, 10), stream = strtoull(arguments[4], NULL, 10);

	llc_hit_bytes = strtoull(arguments[5], NULL, 10);
	compute = atoi(arguments[6]);
	int cpu = atoi(arguments[7]), other = atoi(arguments[8]);

	has_events = count > 9;
	for (int i = 0; i < EVENTS && has_events; i++)
		if (sscanf(arguments[9 + i], "%u:%lu", &event_types[i], &event_configs[i]) != 2)
			die(arguments[9 + i]);
	struct worker workers[THREADS] = {
		{.number = VICTIM, .cpu = cpu, .bytes = set},
		{.number = AGGRESSOR, .cpu = other, .bytes = stream},
		{.number = DECOY, .cpu = other, .bytes = stream},
	};
	pthread_t threads[THREADS];

	go_first();
	pthread_barrier_init(&ready, NULL, THREADS);
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, i == VICTIM ? run_victim : run_other, &workers[i]))
			die("thread");
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
