/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What early.c does with the first frees of heaps, by many threads at a time: each has a heap of
 * its own with such frees left, frees objects of the others, and ends while they go on. A drain
 * empties the heaps meanwhile. Before, how far the links reach behind a thread's few objects.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "lib/core.h"
#include "heap/heap.h"
#include "heap/heap_slabs.h"
#include "reclaim/info.h"
#include "reclaim/reclaim.h"
#include "shim/init.h"
#include "lib/tap.h"

#define THREADS 48u
#define OBJECTS 700u /* more than have such frees */
#define SLOTS 512u
#define LARGE (100u << 10)
#define BUILT 80000u /* takes more refills than are fenced */
#define BUILT_BYTES 64u

struct held {
	unsigned char *p;
	uint32_t bytes;
	unsigned char tag;
};

struct job {
	pthread_t thread;
	uint32_t seed;
	struct held held[OBJECTS];
};

static struct job jobs[THREADS];
static pthread_barrier_t started;
static _Atomic(struct held *) slots[SLOTS]; /* objects that change hands */
static _Atomic bool done;
static _Atomic unsigned bad;   /* objects that were not as their thread left them */
static _Atomic unsigned begun; /* heaps that still had such frees when their thread began */
static _Atomic unsigned drains;

static uint32_t rnd(uint32_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 17;
	*s ^= *s << 5;
	return *s;
}

static void make(struct held *h, uint32_t *seed)
{
	uint32_t how = rnd(seed) % 64;
	bool zeroed = how && rnd(seed) % 4 == 0;

	h->bytes = how ? 16 + rnd(seed) % (how < 48 ? 500 : 4000) : LARGE;
	h->tag = (unsigned char)rnd(seed);
	h->p = zeroed ? heap_calloc_slow(h->bytes) : heap_alloc(h->bytes);
	if (!h->p) {
		atomic_fetch_add(&bad, 1);
		return;
	}
	for (uint32_t i = 0; zeroed && i < h->bytes; i++) {
		if (h->p[i]) {
			atomic_fetch_add(&bad, 1);
			break;
		}
	}
	memset(h->p, h->tag, h->bytes);
}

static void drop(struct held *h)
{
	for (uint32_t i = 0; h->p && i < h->bytes; i++) {
		if (h->p[i] != h->tag) {
			atomic_fetch_add(&bad, 1);
			break;
		}
	}
	heap_free(h->p);
	h->p = NULL;
}

static void *work(void *arg)
{
	struct job *j = arg;
	uint32_t seed = j->seed;

	heap_free(heap_alloc(16));
	if (heap_self->looks)
		atomic_fetch_add(&begun, 1);
	pthread_barrier_wait(&started);
	for (unsigned i = 0; i < OBJECTS; i++) {
		struct held *mine = &j->held[i];
		struct held *other;

		make(mine, &seed);
		if (rnd(&seed) % 3) {
			drop(mine);
			continue;
		}
		/* What lies in the slot is of any thread, and is freed by this one. */
		other = atomic_exchange(&slots[rnd(&seed) % SLOTS], mine);
		if (other)
			drop(other);
	}
	return NULL;
}

static void *drain(void *arg)
{
	struct reclaim_report r;

	(void)arg;
	while (!atomic_load(&done)) {
		reclaim_drain(RECLAIM_FLAGS, 0, &r);
		atomic_fetch_add(&drains, 1);
	}
	return NULL;
}

/* In a heap with first frees left: the objects of its last refills have no links, so a free does
 * not look for the link of the one behind, which is in the bin. */
static void build_before_frees(void)
{
	unsigned cls = class_of(BUILT_BYTES);
	char *p = heap_alloc(BUILT_BYTES);
	struct heap *h = heap_self;
	bool behind = false;

	for (unsigned i = 0; i < BUILT && !(behind && h->refills > FENCED_REFILLS); i++) {
		p = heap_alloc(BUILT_BYTES);
		behind = (char *)*h->bin[cls].top == p + BUILT_BYTES;
	}
	ok(behind && h->looks && h->refills > FENCED_REFILLS,
	   "a heap with first frees left has refilled its bins often (%u left, %u refills)",
	   h->looks, (unsigned)h->refills);
	heap_free(p);
	ok((char *)*h->bin[cls].top == p + BUILT_BYTES, "it frees, and looks for no link");
}

#define FEW 4u
/* Whether a link lies in a page where none of the objects lies that the thread was given. */
static bool links_reach_far(unsigned cls)
{
	char *p = NULL;
	bool far = false;

	for (unsigned i = 0; i < FEW; i++) {
		const struct page *pg;
		char *link;

		p = heap_alloc(class_size(cls));
		pg = page_of(p);
		link = page_address(pg) + slab_carved_bytes(pg);
		if ((uintptr_t)link / FENCE_PAGE > (uintptr_t)(p + class_size(cls)) / FENCE_PAGE)
			far = true;
	}
	return far;
}

static void test_links(void)
{
	unsigned far = 0;

	for (unsigned cls = 0; class_size(cls) <= FENCE_OBJECT; cls++)
		if (links_reach_far(cls))
			far++;
	ok(heap_self->looks && !far,
	   "the links behind few objects lie in the pages of these (%u classes)", far);
}

int main(void)
{
	pthread_t drainer;

	tap_plan(6);
	options.early_checks = 1; /* the defaults, which tap.c takes away */
	options.early_guards = 8;
	sluice_init();
	test_links();
	build_before_frees();
	pthread_barrier_init(&started, NULL, THREADS);
	if (pthread_create(&drainer, NULL, drain, NULL) != 0)
		tap_bail_out("cannot start a thread");
	for (unsigned i = 0; i < THREADS; i++) {
		jobs[i].seed = 77 + i;
		if (pthread_create(&jobs[i].thread, NULL, work, &jobs[i]) != 0)
			tap_bail_out("cannot start a thread");
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(jobs[i].thread, NULL);
	atomic_store(&done, true);
	pthread_join(drainer, NULL);
	for (unsigned i = 0; i < SLOTS; i++)
		if (slots[i])
			drop(slots[i]);
	ok(begun > THREADS / 2, "most threads had a heap with first frees left (%u)", begun);
	ok(drains > 0, "drains ran beside them (%u)", drains);
	ok(bad == 0, "each object was as its thread left it (%u)", bad);
	return tap_done();
}
