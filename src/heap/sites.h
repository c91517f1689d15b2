/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sites.h - the tables of the heap profile: sampled objects, and the stacks that allocated them.
 */
#ifndef SLUICE_SITES_H
#define SLUICE_SITES_H

#include "base/stack.h"
#include "types.h"

/* How long objects lived, in steps: step n counts lifetimes of 2^(n-1) to 2^n nanoseconds. */
#define LIFE_STEPS 48u

/* Sums over samples; not multiplied up. */
struct site_figures {
	uint64_t live_objects;
	uint64_t live_bytes;
	uint64_t ever_objects;
	uint64_t ever_bytes;
	uint64_t freed_objects; /* whose lifetimes are known, */
	uint64_t freed_ns;      /* and their sum */
};

/* Takes memory for the tables. Returns false if there is none. While the process has one thread. */
bool sites_init(void);

/* Notes an object with the stack that allocated it. Returns false if the table is full. */
bool sites_add(const struct stack *s, const void *p, size_t bytes);

/* What was noted of an object; bytes are 0 if it was not. */
struct profile_note {
	size_t bytes;
	uint32_t site;
	uint32_t epoch; /* of sites_reset */
	uint32_t tid;
	uint64_t born_ns;
	uint64_t lived_ns; /* at its end */
};

/* The object is not in use any more. */
struct profile_note sites_remove(const void *p);
size_t sites_bytes(const void *p);

/* It is in use after all, where it was. */
void sites_restore(const void *p, const struct profile_note *n);

/* All figures become 0, and what is live now counts no more. */
void sites_reset(void);

/* Bytes that a sample of so many bytes stands for, given the mean distance of samples. */
uint64_t sites_weight(uint64_t bytes);

/* What the live objects are estimated to add up to. */
uint64_t sites_live_bytes(void);

/* The i-th site of sites_count. Returns its stack, which may have no frame, or NULL if none. */
uint32_t sites_count(void);
const struct stack *sites_get(uint32_t i, struct site_figures *f);
uint32_t sites_lifetimes(uint32_t i, unsigned step);

/* A live object of the site i, allocated by thread tid age_ns ago. */
typedef void sites_see(void *arg, uint32_t i, uint32_t tid, uint64_t bytes, uint64_t age_ns);
void sites_each_live(sites_see *see, void *arg);

/* One line for each reason why samples are missing. */
void sites_say_missing(void);

#endif
