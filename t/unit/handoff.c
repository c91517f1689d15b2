/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Objects that one thread allocates and another one frees: how they come back to the first, and
 * that neither thread leaves the short way of its call for it.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <errno.h>

#include "base/options.h"
#include "heap/heap.h"
#include "lib/core.h"
#include "lib/tap.h"
#include "shim/init.h"
#include "lib/worker.h"

#define BATCH_SIZE 256u /* a flush of such objects is as large as a batch of the outbox */
#define SMALL_SIZE 64u
#define SMALL_FIRST 150u
#define SMALL_AGAIN 120u

static struct worker w;
static void *object[OBJECTS];
static unsigned objects;
static uint32_t slow_calls;

static void allocate(size_t size, unsigned n)
{
	for (objects = 0; objects < n; objects++)
		object[objects] = alloc(size);
}

static void allocate_batches(struct worker *me)
{
	(void)me;
	allocate(BATCH_SIZE, OBJECTS);
}

static void free_objects(struct worker *me)
{
	uint32_t before;

	(void)me;
	heap_free(alloc(16)); /* so that the thread has a heap */
	before = heap_self->slow_calls;
	for (unsigned i = 0; i < objects; i++)
		heap_free(object[i]);
	slow_calls = heap_self->slow_calls - before;
}

static void by_another(void (*job)(struct worker *me))
{
	worker_begin(&w);
	worker_do(&w, job);
	worker_end(&w);
}

/* Slow are the frees before the thread's bin begins, those that give it more places, and every
 * DIRECT_CALLS-th of those that find it full. There are some 120 of these. */
static void test_spills(void)
{
	allocate(BATCH_SIZE, OBJECTS);
	by_another(free_objects);
	tap_diag("%u slow calls for %u frees", slow_calls, OBJECTS);
	ok(slow_calls <= 80, "a full bin of others' objects is emptied without a slow call");
	heap_check();
}

/* The slabs that an ended thread has left are freed into, and adopted, by the same way. */
static void test_adopts(void)
{
	unsigned owned = 0;
	bool kept = true;

	by_another(allocate_batches);
	heap_free(alloc(BATCH_SIZE)); /* a thread adopts slabs of the classes that it allocates */
	slow_calls = heap_self->slow_calls;
	errno = 77;
	for (unsigned i = 0; i < objects; i += 2) {
		heap_free(object[i]);
		kept &= errno == 77;
	}
	slow_calls = heap_self->slow_calls - slow_calls;
	for (unsigned i = 1; i < objects; i += 2)
		owned += atomic_load(&page_of(object[i])->owner) == heap_self;
	tap_diag("%u slow calls, %u of %u objects in slabs of this thread", slow_calls, owned,
		 objects / 2);
	ok(owned != 0, "slabs that were abandoned are adopted by the thread that frees");
	ok(kept, "errno stays as it is");
	for (unsigned i = 1; i < objects; i += 2)
		heap_free(object[i]);
	heap_check();
}

static void test_comes_back(void)
{
	struct cache_bin *b = &heap_self->bin[class_of(SMALL_SIZE)];
	struct page *pg;
	unsigned carved;
	unsigned most = 0;
	unsigned refills = 0;

	allocate(SMALL_SIZE, SMALL_FIRST);
	pg = page_of(object[objects - 1]);
	carved = slab_held(pg)->carved;
	by_another(free_objects);
	while (*b->top)
		alloc(SMALL_SIZE);
	for (unsigned i = 0; i < SMALL_AGAIN; i++) {
		bool empty = !*b->top;

		alloc(SMALL_SIZE);
		if (empty && i) {
			unsigned got = 1;

			for (struct object **o = b->top; *o; o--)
				got++;
			most = got > most ? got : most;
			refills++;
		}
	}
	is_int(slab_held(pg)->carved, carved,
	       "objects that others freed are used before new ones are carved");
	tap_diag("%u refills, of %u objects at most", refills, most);
	ok(most == TAKE_CAME && refills <= SMALL_AGAIN / TAKE_CAME + 2,
	   "and more of them at once than of other freed ones");
	heap_check();
}

int main(void)
{
	tap_plan(5);
	sluice_init();
	options.early_checks = false;
	options.warm_heaps = 0;
	heap_free(alloc(16));
	test_comes_back();
	test_spills();
	test_adopts();
	return tap_done();
}
