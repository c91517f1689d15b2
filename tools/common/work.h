/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * work.h - shared by the workloads of sluice-bench-work, sluice-latency-work and
 * sluice-pressure-work.
 *
 * A workload is a function and a row of parameters with their defaults. It warms up, calls
 * bench_begin, does a fixed amount of work and calls bench_end with the number of operations. All
 * its memory except that under test comes from bench_map, never from malloc, so that the allocator
 * sees only the pattern.
 */
#ifndef SLUICE_WORK_H
#define SLUICE_WORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define PARAMS 8

struct param {
	const char *name;
	uint64_t value;
};

struct workload {
	const char *name;
	void (*run)(void);
	const char *text; /* what one operation is */
	struct param params[PARAMS];
};

/* The program's name and its families of workloads, ended by NULL: defined in families.c. */
extern const char bench_program[];
extern const struct workload *const bench_families[];

/* The tables of the families, each ended by a row without a name. */
extern const struct workload single_workloads[];
extern const struct workload batch_workloads[];
extern const struct workload blocks_workloads[];
extern const struct workload churn_workloads[];
extern const struct workload queue_workloads[];
extern const struct workload thread_workloads[];
extern const struct workload sharing_workloads[];
extern const struct workload process_workloads[];
extern const struct workload scale_workloads[];
extern const struct workload steady_workloads[]; /* tools/common */
extern const struct workload growth_workloads[];
extern const struct workload burst_workloads[];
extern const struct workload neighbour_workloads[];
extern const struct workload periodic_workloads[];

/* The value of a parameter of the workload that runs. */
uint64_t param(const char *name);

/* Around the steady part: take its wall time and the CPU time of the process. */
void bench_begin(void);
void bench_end(uint64_t ops);

/* In place of both, for times that the workload took itself. */
void bench_measured(uint64_t ops, uint64_t wall, uint64_t cpu);

/* Adds a number to the JSON line; at most 16. */
void bench_extra(const char *name, double value);

/* Adds one value, which is JSON, to the JSON line. The text is not copied. */
void bench_json(const char *name, const char *json);

/* Zeroed resident memory from mmap, not from the allocator; never unmapped. */
void *bench_map(size_t bytes);

/* Print one line and end the program: with status 2 for bad arguments, 1 for any other failure. */
void bench_usage(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void bench_fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/*
 * Threads 0 to n - 1 each run work(index, arg). work warms up, calls team_ready, does its part of
 * the steady work, calls team_done and frees what it has. The time runs from when all are ready
 * until all are done; ops is the number of operations of all threads.
 */
void team_run(unsigned n, void (*work)(unsigned index, void *arg), void *arg, uint64_t ops);
void team_ready(void);
void team_done(void);

/* sequence of Steele and Vigna's splitmix64 */
static inline uint64_t rng_next(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* 0 to n - 1, n below 2^32. */
static inline uint32_t rng_below(uint64_t *state, uint32_t n)
{
	return (uint32_t)(((rng_next(state) >> 32) * n) >> 32);
}

/*
 * A table of sizes from min to max, with as many between 16 and 32 as between 32 and 64 and so on:
 * small sizes dominate, as in programs. Sizes are taken by index, so that the choice costs almost
 * nothing.
 */
#define SIZES 4096u
const uint32_t *sizes_make(uint32_t min, uint32_t max, uint64_t seed);

static inline size_t size_at(const uint32_t *sizes, uint64_t i)
{
	return sizes[i % SIZES];
}

static inline void touch_ends(void *p, size_t size)
{
	volatile unsigned char *c = p;

	c[0] = 1;
	c[size - 1] = 2;
}

/* One byte in each 4 KiB, and the last. */
static inline void touch_pages(void *p, size_t size)
{
	volatile unsigned char *c = p;

	for (size_t i = 0; i < size; i += 4096)
		c[i] = 1;
	c[size - 1] = 2;
}

/* malloc of a block whose ends are touched. Ends the program if there is no memory. */
static inline void *take(size_t size)
{
	void *p = malloc(size);

	if (__builtin_expect(!p, 0))
		bench_fail("malloc(%zu): no memory", size);
	touch_ends(p, size);
	return p;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

#endif
