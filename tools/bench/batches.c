/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * batches.c - threads that allocate batches of objects and free whole batches, in several orders.
 * For sluice-bench-work.
 *
 * Batches wait in slots, from which threads take them by one atomic exchange. In `batches` each
 * thread puts its batch in the place of an older one, which it frees: its own, or, for a share of
 * the batches, any thread's. In `pipeline` some threads only allocate and the others only free.
 */
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "../common/work.h"

enum order { IN_TURN, FIRST_FIRST, LAST_FIRST, EVERY_SECOND, ORDERS };

struct batch {
	unsigned n;
	void *objects[];
};

struct slot {
	_Alignas(64) _Atomic(struct batch *) batch;
};

struct batches {
	unsigned threads;
	unsigned objects;
	unsigned keep;  /* slots of a thread */
	unsigned share; /* of the batches, in percent, that may go to any thread's slots */
	unsigned order;
	uint64_t each; /* batches of a thread */
	const uint32_t *sizes;
	struct slot *slots;
};

static struct batch *batch_make(unsigned n, const uint32_t *sizes, uint64_t *seed)
{
	struct batch *b = take(sizeof(*b) + n * sizeof(b->objects[0]));

	b->n = n;
	for (unsigned i = 0; i < n; i++)
		b->objects[i] = take(size_at(sizes, rng_next(seed)));
	return b;
}

static void batch_free(struct batch *b, enum order order)
{
	unsigned step = order == EVERY_SECOND ? 2 : 1;

	for (unsigned from = 0; from < step; from++)
		for (unsigned i = from; i < b->n; i += step)
			free(b->objects[order == LAST_FIRST ? b->n - 1 - i : i]);
	free(b);
}

/* Acquire and release: the objects of the batch. */
static struct batch *slot_swap(struct slot *s, struct batch *b)
{
	return atomic_exchange_explicit(&s->batch, b, memory_order_acq_rel);
}

static enum order order_of(const struct batches *w, uint64_t k)
{
	return w->order == IN_TURN ? (enum order)(FIRST_FIRST + k % (ORDERS - FIRST_FIRST))
				   : (enum order)w->order;
}

static void batches_work(struct batches *w, unsigned index, uint64_t n, uint64_t *seed)
{
	for (uint64_t k = 0; k < n; k++) {
		struct batch *b = batch_make(w->objects, w->sizes, seed);
		uint32_t first = index * w->keep;
		uint32_t most = w->keep;

		if (rng_below(seed, 100) < w->share) {
			first = 0;
			most = w->keep * w->threads;
		}
		b = slot_swap(&w->slots[first + rng_below(seed, most)], b);
		if (b)
			batch_free(b, order_of(w, k));
	}
}

static void batches_thread(unsigned index, void *arg)
{
	struct batches *w = arg;
	uint64_t seed = index + 1;

	batches_work(w, index, w->each / 10 + w->keep, &seed);
	team_ready();
	batches_work(w, index, w->each, &seed);
	team_done();
	for (unsigned i = 0; i < w->keep; i++) {
		struct batch *b = slot_swap(&w->slots[index * w->keep + i], NULL);

		if (b)
			batch_free(b, FIRST_FIRST);
	}
}

static void batches(void)
{
	struct batches w = {
		.threads = (unsigned)param("threads"),
		.objects = (unsigned)param("batch"),
		.keep = (unsigned)param("keep"),
		.share = (unsigned)param("share"),
		.order = (unsigned)param("order"),
	};

	if (w.order >= ORDERS)
		bench_usage("order: 1 (first in first out), 2 (last in first out), 3 (every second "
			    "object), 0 (all of them in turn)");
	w.each = param("ops") / w.objects / w.threads + 1;
	w.sizes = sizes_make((uint32_t)param("min"), (uint32_t)param("max"), 5);
	w.slots = bench_map((size_t)w.threads * w.keep * sizeof(*w.slots));
	team_run(w.threads, batches_thread, &w, w.each * w.threads * w.objects);
}

/* ---- pipeline ------------------------------------------------------------------------------ */

struct pipeline {
	unsigned producers;
	unsigned consumers;
	unsigned objects;
	unsigned depth;         /* slots */
	_Atomic uint64_t made;  /* batches that producers began in the steady part */
	_Atomic uint64_t freed; /* batches that consumers freed since the start */
	uint64_t each;          /* batches, and before that a tenth to warm up */
	uint64_t warm;
	const uint32_t *sizes;
	struct slot *slots;
};

/* Puts a batch into an empty slot, waiting for one. */
static void pipeline_put(struct pipeline *w, struct batch *b, uint64_t *seed)
{
	for (;;) {
		uint32_t at = rng_below(seed, w->depth);

		for (unsigned i = 0; i < w->depth; i++) {
			struct slot *s = &w->slots[(at + i) % w->depth];
			struct batch *none = NULL;

			if (!atomic_load_explicit(&s->batch, memory_order_relaxed) &&
			    atomic_compare_exchange_strong_explicit(&s->batch, &none, b,
								    memory_order_release,
								    memory_order_relaxed))
				return;
		}
		sched_yield();
	}
}

static void pipeline_produce(struct pipeline *w, uint64_t until, uint64_t *seed)
{
	while (atomic_fetch_add_explicit(&w->made, 1, memory_order_relaxed) < until)
		pipeline_put(w, batch_make(w->objects, w->sizes, seed), seed);
}

static void pipeline_consume(struct pipeline *w, uint64_t until, uint64_t *seed)
{
	while (atomic_load_explicit(&w->freed, memory_order_relaxed) < until) {
		uint32_t at = rng_below(seed, w->depth);
		bool found = false;

		for (unsigned i = 0; i < w->depth; i++) {
			struct slot *s = &w->slots[(at + i) % w->depth];
			struct batch *b = NULL;

			if (atomic_load_explicit(&s->batch, memory_order_relaxed))
				b = slot_swap(s, NULL);
			if (!b)
				continue;
			batch_free(b, FIRST_FIRST);
			atomic_fetch_add_explicit(&w->freed, 1, memory_order_relaxed);
			found = true;
			break;
		}
		if (!found)
			sched_yield();
	}
}

static void pipeline_thread(unsigned index, void *arg)
{
	struct pipeline *w = arg;
	uint64_t seed = index + 1;
	bool produces = index < w->producers;

	if (produces)
		pipeline_produce(w, w->warm, &seed);
	else
		pipeline_consume(w, w->warm, &seed);
	team_ready();
	if (produces)
		pipeline_produce(w, w->warm + w->producers + w->each, &seed);
	else
		pipeline_consume(w, w->warm + w->each, &seed);
	team_done();
}

static void pipeline(void)
{
	struct pipeline w = {
		.producers = (unsigned)param("producers"),
		.consumers = (unsigned)param("consumers"),
		.objects = (unsigned)param("batch"),
		.depth = (unsigned)param("depth"),
	};

	w.each = param("ops") / w.objects + 1;
	w.warm = w.each / 10 + 1;
	w.sizes = sizes_make((uint32_t)param("min"), (uint32_t)param("max"), 5);
	w.slots = bench_map(w.depth * sizeof(*w.slots));
	team_run(w.producers + w.consumers, pipeline_thread, &w, w.each * w.objects);
}

const struct workload batch_workloads[] = {
	{ "batches",
	  batches,
	  "malloc of one object of a batch that is freed as a whole",
	  { { "threads", 2 },
	    { "batch", 200 },
	    { "keep", 20 },
	    { "share", 0 },
	    { "order", IN_TURN },
	    { "min", 16 },
	    { "max", 1024 },
	    { "ops", 10000000 } } },
	{ "pipeline",
	  pipeline,
	  "malloc by a producer, in a batch that a consumer frees",
	  { { "producers", 1 },
	    { "consumers", 1 },
	    { "batch", 128 },
	    { "depth", 64 },
	    { "min", 64 },
	    { "max", 64 },
	    { "ops", 10000000 } } },
	{ 0 },
};
