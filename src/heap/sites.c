/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sites.c - see sites.h. Used by profile; uses meta, clock, options.
 *
 * (A) A site is a stack with its counts. It is made by CAS from SITE_NONE to SITE_BUSY, then stored
 *     as SITE_READY with its frames, and never removed. Two threads may make two sites of one
 *     stack: readers of profiles add them up.
 * (B) A sample is a noted object, in a table by its address. Its place is taken by CAS from 0 to
 *     PLACE_BUSY, gets the object's address when its fields are there, and is left by a store of 0.
 *     It is looked for in all PROBES places of its address, so no place has to say that another was
 *     there.
 * (C) live of a site is the sum over the samples that name it, except while a call changes both.
 * (D) The bit of a group of places is set before a place of it is taken, and stays. A walk reads
 *     only groups with a bit: a read of memory that was never written makes the kernel map its page
 *     of zeros there, which then counts as resident (mincore), and costs a page fault.
 *
 * The tables have fixed lengths, and cost memory as they fill. What finds no site counts for the
 * first one, which has no frames; what finds no place is counted as lost.
 *
 * No lock: any thread, signal handlers. A child of fork has the profile of its parent; a site that
 * another thread was making stays busy there. Allocates nothing after sites_init.
 * Bound: PROBES places of each table.
 * Source: gperftools, jemalloc (prof.c).
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/sites.h"

#include <string.h>

#include "base/atomics.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/options.h"
#include "page/meta.h"

#define SITES (1u << 14)
#define PROBES 64u
#define PLACE_BUSY 1u /* no object has this address */

enum { SAMPLES = 1 << 17 }; /* tools/gdb reads it */
enum { SITE_NONE, SITE_BUSY, SITE_READY };

struct counts {
	_Atomic uint64_t objects;
	_Atomic uint64_t bytes;
};

struct site {
	_Atomic uint32_t state;
	uint32_t hash;
	struct counts live;
	struct counts ever;
	_Atomic uint64_t freed_objects;
	_Atomic uint64_t freed_ns;
	_Atomic uint32_t lifetimes[LIFE_STEPS];
	struct stack stack;
};

struct sample {
	_Atomic uintptr_t address;
	_Atomic uint32_t site;
	_Atomic uint32_t epoch; /* of sites_reset */
	_Atomic uint64_t bytes;
	_Atomic uint64_t born_ns;
	_Atomic uint32_t tid;
};

#define SITES_GROUP 8u /* some 4 KiB each */
#define SAMPLES_GROUP 128u

static struct site *sites; /* SITES of them; the first stands for stacks that found no place */
static struct sample *samples;
static _Atomic uint64_t sites_used[SITES / SITES_GROUP / 64]; /* bits of (D) */
static _Atomic uint64_t samples_used[SAMPLES / SAMPLES_GROUP / 64];
static _Atomic uint64_t lost;
static _Atomic uint64_t homeless; /* counted for the first site */
static _Atomic uint32_t epoch;
static _Atomic uint64_t live_bytes;
static _Atomic uint64_t lost_said; /* how many were lost when that was last said, */
static _Atomic uint64_t homeless_said;

/* Relaxed: what a place has is read behind an acquire of its own word. A walk that does not see the
 * bit yet goes past a place that is being taken. */
static void use_group(_Atomic uint64_t *used, uint32_t group)
{
	uint64_t bit = UINT64_C(1) << group % 64;

	if (!(atomic_load_explicit(&used[group / 64], memory_order_relaxed) & bit))
		atomic_fetch_or_explicit(&used[group / 64], bit, memory_order_relaxed);
}

static bool is_used(const _Atomic uint64_t *used, uint32_t group)
{
	return atomic_load_explicit(&used[group / 64], memory_order_relaxed) >> group % 64 & 1;
}

bool sites_init(void)
{
	sites = meta_alloc(SITES * sizeof(*sites));
	samples = meta_alloc(SAMPLES * sizeof(*samples));
	if (!sites || !samples)
		return false;
	use_group(sites_used, 0);
	atomic_store_explicit(&sites[0].state, SITE_READY, memory_order_relaxed);
	return true;
}

static uint64_t load(const _Atomic uint64_t *v)
{
	return atomic_load_explicit(v, memory_order_relaxed);
}

/* A figure that a race has brought below zero is 0. */
static uint64_t figure(const _Atomic uint64_t *v)
{
	uint64_t n = load(v);

	return n >> 63 ? 0 : n;
}

static void count(struct counts *c, uint64_t objects, uint64_t bytes)
{
	counter_add_shared(&c->objects, objects);
	counter_add_shared(&c->bytes, bytes);
}

/* s / (1 - exp(-s / R)), for s bytes and the mean distance R: within 3 %, by the first terms of its
 * series, or s itself. */
uint64_t sites_weight(uint64_t bytes)
{
	double mean = (double)options.prof_sample;
	double x = (double)bytes / mean;

	if (x >= 4)
		return bytes;
	return (uint64_t)(mean * (1 + x / 2 + x * x / 12 - x * x * x * x / 720));
}

uint64_t sites_live_bytes(void)
{
	return figure(&live_bytes);
}

/* ---- sites ---------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t v)
{
	v = (v ^ (v >> 32)) * UINT64_C(0x9e3779b97f4a7c15);
	return v ^ (v >> 29);
}

static uint32_t hash_of(const struct stack *s)
{
	uint64_t h = s->n;

	for (uint32_t i = 0; i < s->n; i++)
		h = mix(h ^ s->pc[i]);
	return (uint32_t)(h >> 32);
}

static bool is_site(const struct site *t, uint32_t hash, const struct stack *s)
{
	return t->hash == hash && t->stack.n == s->n &&
	       memcmp(t->stack.pc, s->pc, s->n * sizeof(s->pc[0])) == 0;
}

static struct site *site_of(const struct stack *s)
{
	uint32_t hash = hash_of(s);

	for (uint32_t i = 0; i < PROBES && s->n; i++) {
		struct site *t = &sites[(hash + i) % (SITES - 1) + 1];
		uint32_t state = atomic_load_explicit(&t->state, memory_order_acquire);

		if (state == SITE_NONE)
			use_group(sites_used, (uint32_t)(t - sites) / SITES_GROUP);
		if (state == SITE_NONE &&
		    atomic_compare_exchange_strong_explicit(&t->state, &state, SITE_BUSY,
							    memory_order_acquire,
							    memory_order_acquire)) {
			t->hash = hash;
			t->stack = *s;
			atomic_store_explicit(&t->state, SITE_READY, memory_order_release);
			return t;
		}
		if (state == SITE_READY && is_site(t, hash, s))
			return t;
	}
	counter_add_shared(&homeless, 1);
	return &sites[0];
}

uint32_t sites_count(void)
{
	return SITES;
}

/* Objects and bytes change one after the other: with none of one there is none of the other. */
static void make_whole(uint64_t *objects, uint64_t *bytes)
{
	if (!*objects || !*bytes)
		*objects = *bytes = 0;
}

/* The acquire pairs with site_of: the caller sees the frames of a site that is ready. */
const struct stack *sites_get(uint32_t i, struct site_figures *f)
{
	const struct site *t = &sites[i];

	*f = (struct site_figures){ 0 };
	if (!is_used(sites_used, i / SITES_GROUP) ||
	    atomic_load_explicit(&t->state, memory_order_acquire) != SITE_READY)
		return NULL;
	*f = (struct site_figures){ figure(&t->live.objects),  figure(&t->live.bytes),
				    figure(&t->ever.objects),  figure(&t->ever.bytes),
				    figure(&t->freed_objects), figure(&t->freed_ns) };
	make_whole(&f->live_objects, &f->live_bytes);
	make_whole(&f->ever_objects, &f->ever_bytes);
	return &t->stack;
}

uint32_t sites_lifetimes(uint32_t i, unsigned step)
{
	return atomic_load_explicit(&sites[i].lifetimes[step], memory_order_relaxed);
}

/* ---- samples -------------------------------------------------------------------------------- */

static struct sample *place(uintptr_t address, uint32_t probe)
{
	return &samples[(mix(address >> 4) + probe) % SAMPLES];
}

static struct sample *find(const void *p)
{
	for (uint32_t i = 0; i < PROBES; i++) {
		struct sample *s = place((uintptr_t)p, i);

		if (atomic_load_explicit(&s->address, memory_order_acquire) == (uintptr_t)p)
			return s;
	}
	return NULL;
}

static bool is_current(const struct sample *s)
{
	return atomic_load_explicit(&s->epoch, memory_order_relaxed) ==
	       atomic_load_explicit(&epoch, memory_order_relaxed);
}

/* Returns false if the object finds no place. */
static bool note(const void *p, const struct profile_note *n)
{
	for (uint32_t i = 0; i < PROBES; i++) {
		struct sample *s = place((uintptr_t)p, i);
		uintptr_t none = 0;

		use_group(samples_used, (uint32_t)(s - samples) / SAMPLES_GROUP);
		if (!atomic_compare_exchange_strong_explicit(&s->address, &none, PLACE_BUSY,
							     memory_order_acquire,
							     memory_order_relaxed))
			continue;
		atomic_store_explicit(&s->site, n->site, memory_order_relaxed);
		atomic_store_explicit(&s->bytes, n->bytes, memory_order_relaxed);
		atomic_store_explicit(&s->epoch, n->epoch, memory_order_relaxed);
		atomic_store_explicit(&s->born_ns, n->born_ns, memory_order_relaxed);
		atomic_store_explicit(&s->tid, n->tid, memory_order_relaxed);
		if (is_current(s)) {
			count(&sites[n->site].live, 1, n->bytes);
			counter_add_shared(&live_bytes, sites_weight(n->bytes));
		}
		/* Pairs with find and sites_each_live. */
		atomic_store_explicit(&s->address, (uintptr_t)p, memory_order_release);
		return true;
	}
	counter_add_shared(&lost, 1);
	return false;
}

bool sites_add(const struct stack *stack, const void *p, size_t bytes)
{
	struct site *site = site_of(stack);
	struct profile_note n = {
		.bytes = bytes,
		.site = (uint32_t)(site - sites),
		.epoch = atomic_load_explicit(&epoch, memory_order_relaxed),
		.tid = stack->tid,
		.born_ns = clock_ns(),
	};

	count(&site->ever, 1, bytes);
	return note(p, &n);
}

size_t sites_bytes(const void *p)
{
	struct sample *s = find(p);

	return s ? load(&s->bytes) : 0;
}

static uint64_t age_of(const struct sample *s, uint64_t now_ns)
{
	uint64_t born = load(&s->born_ns);

	return now_ns > born ? now_ns - born : 0;
}

/* times: 1, or -1 if the object lives after all. */
static void count_lifetime(struct site *site, uint64_t ns, int times)
{
	unsigned step = ns ? 64u - (unsigned)__builtin_clzll(ns) : 0;

	if (step >= LIFE_STEPS)
		step = LIFE_STEPS - 1;
	atomic_fetch_add_explicit(&site->lifetimes[step], (uint32_t)times, memory_order_relaxed);
	counter_add_shared(&site->freed_objects, (uint64_t)times);
	counter_add_shared(&site->freed_ns, times > 0 ? ns : 0 - ns);
}

struct profile_note sites_remove(const void *p)
{
	struct sample *s = find(p);
	struct profile_note n = { 0 };

	if (!s)
		return n;
	n.bytes = load(&s->bytes);
	n.site = atomic_load_explicit(&s->site, memory_order_relaxed);
	n.epoch = atomic_load_explicit(&s->epoch, memory_order_relaxed);
	n.tid = atomic_load_explicit(&s->tid, memory_order_relaxed);
	n.born_ns = load(&s->born_ns);
	n.lived_ns = age_of(s, clock_ns());
	if (is_current(s)) {
		count(&sites[n.site].live, UINT64_MAX, 0 - (uint64_t)n.bytes);
		counter_add_shared(&live_bytes, 0 - sites_weight(n.bytes));
		count_lifetime(&sites[n.site], n.lived_ns, 1);
	}
	atomic_store_explicit(&s->address, 0, memory_order_release);
	return n;
}

void sites_restore(const void *p, const struct profile_note *n)
{
	if (note(p, n) && n->epoch == atomic_load_explicit(&epoch, memory_order_relaxed))
		count_lifetime(&sites[n->site], n->lived_ns, -1);
}

/* What is freed and used for another object meanwhile is seen as one of the two, or as a mixture
 * that counts once: the race is benign. */
void sites_each_live(sites_see *see, void *arg)
{
	uint64_t now = clock_ns();

	for (uint32_t i = 0; i < SAMPLES; i++) {
		struct sample *s = &samples[i];

		if (is_used(samples_used, i / SAMPLES_GROUP) &&
		    atomic_load_explicit(&s->address, memory_order_acquire) > PLACE_BUSY &&
		    is_current(s))
			see(arg, atomic_load_explicit(&s->site, memory_order_relaxed),
			    atomic_load_explicit(&s->tid, memory_order_relaxed), load(&s->bytes),
			    age_of(s, now));
	}
}

/* ---- all of them ---------------------------------------------------------------------------- */

static void clear(_Atomic uint64_t *v)
{
	atomic_store_explicit(v, 0, memory_order_relaxed);
}

static void clear_site(struct site *t)
{
	clear(&t->live.objects);
	clear(&t->live.bytes);
	clear(&t->ever.objects);
	clear(&t->ever.bytes);
	clear(&t->freed_objects);
	clear(&t->freed_ns);
	for (unsigned k = 0; k < LIFE_STEPS; k++)
		atomic_store_explicit(&t->lifetimes[k], 0, memory_order_relaxed);
}

/* What other threads note at this moment may count in part. */
void sites_reset(void)
{
	atomic_fetch_add_explicit(&epoch, 1, memory_order_relaxed);
	for (uint32_t i = 0; i < SITES; i++)
		if (is_used(sites_used, i / SITES_GROUP) &&
		    atomic_load_explicit(&sites[i].state, memory_order_acquire) == SITE_READY)
			clear_site(&sites[i]);
	clear(&live_bytes);
	clear(&lost);
	clear(&homeless);
	clear(&lost_said);
	clear(&homeless_said);
}

/* Not at each dump, which may be due often: whenever there are twice as many. */
static bool is_news(_Atomic uint64_t *told, uint64_t n)
{
	uint64_t old = load(told);

	return n && n / 2 >= old &&
	       atomic_compare_exchange_strong_explicit(told, &old, n, memory_order_relaxed,
						       memory_order_relaxed);
}

void sites_say_missing(void)
{
	uint64_t none = load(&homeless);
	uint64_t gone = load(&lost);

	if (is_news(&homeless_said, none))
		log_warn("heap profile: %lu samples without a stack, because it could not be taken "
			 "or the table of %u is full",
			 (unsigned long)none, SITES);
	if (is_news(&lost_said, gone))
		log_warn("heap profile: %lu samples lost, because the table of %u is full",
			 (unsigned long)gone, (unsigned)SAMPLES);
}
