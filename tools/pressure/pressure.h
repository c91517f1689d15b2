/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pressure.h - shared by the workloads of sluice-pressure-work, in addition to work.h.
 *
 * A workload starts its threads, reports `floor`, fills memory, reports `peak`, frees, reports
 * `idle` as its threads go to sleep, waits and reports `rest`. Each event is one line of JSON with
 * the time, the RSS, the CPU time of the process, and the bytes that the program has live.
 * sluice-pressure reads the events, and samples the RSS from outside.
 */
#ifndef SLUICE_PRESSURE_H
#define SLUICE_PRESSURE_H

#include "../common/work.h"

extern const struct workload idle_workloads[];
extern const struct workload flow_workloads[];
extern const struct workload drain_workloads[];
extern const struct workload eater_workloads[];

/* live: bytes that the workload holds now; threads: the number that may keep memory. */
void event(const char *name, uint64_t live, unsigned threads);

/* In KiB; does not call the allocator. */
uint64_t rss_kib(void);

void sleep_ms(uint64_t ms);

/*
 * The crew: n threads with small stacks that run work(index). Each calls crew_sync as often as the
 * main thread does; after work it sleeps until the process ends.
 */
void crew_start(unsigned n, void (*work)(unsigned index));
void crew_sync(void);

/*
 * The probe: a thread that allocates and frees a little all the time and times each call. It is
 * started if the parameter `probe` is set. The report has its times before and after the event
 * `idle`, and its CPU time.
 */
void probe_start(void);

/* The allocator's function that gives all free memory back at once. Returns NULL if none. */
typedef void give_back_function(void);
give_back_function *give_back_find(void);
/* The part of the last give_back by Sluice that its memory barrier took. */
uint64_t give_back_barrier_ns(void);

/* Objects that are filled and freed; the list of them is mapped. */
struct hoard {
	void **object;
	size_t count;
	size_t room;
	uint64_t bytes;
	uint64_t seed;
	uint32_t min, max;
};

/* Prepares for up to bytes of objects of min to max bytes, all sizes equally likely. */
void hoard_init(struct hoard *h, uint64_t bytes, uint64_t min, uint64_t max, uint64_t seed);
/* n hoards, each for up to bytes, with sizes as the parameters min and max say. */
struct hoard *hoards_new(unsigned n, uint64_t bytes);
void hoard_fill(struct hoard *h, uint64_t bytes);
/* Frees each step-th object from the first on; these must not be freed again. */
void hoard_free(struct hoard *h, size_t first, size_t step);

#endif
