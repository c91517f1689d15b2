/* SPDX-License-Identifier: BSD-2-Clause */
/* info.h - gauges: what there is now, summed over all layers without a lock. */
#ifndef SLUICE_INFO_H
#define SLUICE_INFO_H

#include "types.h"

/* All words; stats.def says what they are. */
struct info {
#define LAYER(name, text) uint64_t layer_##name;
#define GAUGE(name, text) uint64_t name;
#define FOLDED(name, text) uint64_t name;
#include "base/stats.def"
};

/* The slabs of one size class. */
struct info_class {
	uint64_t slabs;
	uint64_t slab_bytes;
	uint64_t object_bytes;
	uint64_t hole_bytes;
	uint64_t pinned_bytes;
	uint64_t cached_bytes;
};

/* What one heap caches, and how often its thread went past its cache bins. */
struct info_heap {
	uint32_t tid; /* of its thread; 0 if it has none */
	uint64_t cached_bytes;
	uint64_t pcp_bytes;
	uint64_t refills;
	uint64_t flushes;
};

/*
 * Any thread. Walks the regions: about 50 us per GiB; metadata are looked up with the kernel.
 * Inexact while other threads run. by_class: an array of CLASSES elements, or NULL. Leaves
 * resident_bytes and untouched_bytes 0.
 */
void info_collect(struct info *in, struct info_class *by_class);

/* For profile_by_class (heap/profile.h), which has one caller at a time. */
void info_by_class(uint64_t *live, uint64_t *pinned);

/* Sets these two: the kernel looks at each page, about 2 ms per GiB. They stay 0 in a sandbox. */
void info_measure(struct info *in);

/* Calls see for every name that info_lookup knows. see must not allocate. measure: info_measure,
 * too. */
void info_each(bool measure, void (*see)(void *arg, const char *name, uint64_t value), void *arg);

/* The n heaps with threads that hold most, the largest first. Returns how many are in top. */
unsigned info_top_heaps(struct info_heap *top, unsigned n);

/* A statistic of stats.def, by name. Returns false if there is no such name. */
bool info_lookup(const char *name, uint64_t *value);

#endif
