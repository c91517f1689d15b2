/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pressure.h - what the workloads of sluice-pressure-work share, beside bench.h.
 *
 * A workload starts its threads, says `floor`, fills memory, says `peak`, frees, says `idle` as its
 * threads go to sleep, waits and says `rest`: one line of JSON for each event, with the clock's time,
 * the RSS, the CPU time of the process, and what the program itself has live then. sluice-pressure
 * reads them, and samples the RSS between them from outside.
 */
#ifndef SLUICE_PRESSURE_H
#define SLUICE_PRESSURE_H

#include "../common/work.h"

extern const struct workload idle_workloads[];
extern const struct workload flow_workloads[];
extern const struct workload drain_workloads[];
extern const struct workload eater_workloads[];

/* live: bytes that the workload holds now; threads: those that may keep something. */
void event(const char *name, uint64_t live, unsigned threads);

/* KiB, without a call of the allocator. */
uint64_t rss_kib(void);

void sleep_ms(uint64_t ms);

/*
 * The crew: n threads that run work(index), with small stacks. Each calls crew_sync as often as the
 * main thread does; at the end of work it sleeps until the process ends.
 */
void crew_start(unsigned n, void (*work)(unsigned index));
void crew_sync(void);

/*
 * A thread that nobody touches and that allocates and frees a little all the time, each call timed.
 * Started when the parameter `probe` is set; its times until the event `idle` and from it on, and the
 * CPU time it took, are part of the report.
 */
void probe_start(void);

/* The allocator's own way to give all that is free back at once. NULL: it has none. */
typedef void give_back_function(void);
give_back_function *give_back_find(void);
/* Of a give_back by Sluice: how much of it was the memory barrier's. */
uint64_t give_back_barrier_ns(void);

/* Objects that are filled and freed; the list itself is mapped. */
struct hoard {
	void **object;
	size_t count;
	size_t room;
	uint64_t bytes;
	uint64_t seed;
	uint32_t min, max;
};

/* For up to bytes of objects of min to max bytes, each size as likely as another. */
void hoard_init(struct hoard *h, uint64_t bytes, uint64_t min, uint64_t max, uint64_t seed);
/* n of them, each for up to bytes, of the sizes that the parameters min and max say. */
struct hoard *hoards_new(unsigned n, uint64_t bytes);
void hoard_fill(struct hoard *h, uint64_t bytes);
/* Frees each step-th of its objects from the first on; they must not be freed again. */
void hoard_free(struct hoard *h, size_t first, size_t step);

#endif
