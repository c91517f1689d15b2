/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * queue.c - producers allocate, consumers free: each malloc has its free in another thread.
 *
 * Each pair of a producer and a consumer has a ring with one writer per side, so that the queue has
 * no atomic read-modify-write. Each side publishes its progress once in BATCH objects, so that
 * moving the queue's cache lines takes little of the time. A thread that finds the ring full or
 * empty spins for a moment and then yields.
 */
#include "../common/work.h"

#include <sched.h>
#include <stdatomic.h>

#include "base/atomics.h"

#define BATCH 16u

struct ring {
	/* Producer only. */
	_Alignas(64) uint64_t put;
	uint64_t head_seen;
	/* Consumer only. */
	_Alignas(64) uint64_t got;
	uint64_t tail_seen;
	/* Written by the producer: the value of put that it published last. */
	_Alignas(64) _Atomic uint64_t tail;
	/* Written by the consumer: the value of got that it published last. */
	_Alignas(64) _Atomic uint64_t head;
	/* Set once. */
	_Alignas(64) uint64_t mask;
	void **slots;
};

struct prodcons {
	unsigned producers;
	unsigned consumers;
	uint64_t each; /* objects from a producer to a consumer, in the steady part */
	uint64_t warm; /* the same, before that part */
	const uint32_t *sizes;
	struct ring *rings; /* that of producer p and consumer c is at p * consumers + c */
};

static void wait_a_bit(unsigned *tries)
{
	if (++*tries < 64)
		cpu_relax();
	else
		sched_yield();
}

static void ring_publish_put(struct ring *r)
{
	atomic_store_explicit(&r->tail, r->put, memory_order_release);
}

static void ring_put(struct ring *r, void *p)
{
	unsigned tries = 0;

	if (r->put - r->head_seen > r->mask)
		ring_publish_put(r);
	while (r->put - r->head_seen > r->mask) {
		/* Pairs with the store of head in ring_get: the slots have been read. */
		r->head_seen = atomic_load_explicit(&r->head, memory_order_acquire);
		if (r->put - r->head_seen > r->mask)
			wait_a_bit(&tries);
	}
	r->slots[r->put++ & r->mask] = p;
	if (r->put % BATCH == 0)
		ring_publish_put(r);
}

/* Returns NULL if empty. */
static void *ring_get(struct ring *r)
{
	void *p;

	if (r->got == r->tail_seen) {
		/* Pairs with the store in ring_publish_put: the slots have been written. */
		r->tail_seen = atomic_load_explicit(&r->tail, memory_order_acquire);
		if (r->got == r->tail_seen)
			return NULL;
	}
	p = r->slots[r->got++ & r->mask];
	if (r->got % BATCH == 0 || r->got == r->tail_seen)
		atomic_store_explicit(&r->head, r->got, memory_order_release);
	return p;
}

static void produce(struct prodcons *w, unsigned index, uint64_t n)
{
	struct ring *rings = &w->rings[index * w->consumers];

	for (uint64_t i = 0; i < n; i++) {
		for (unsigned c = 0; c < w->consumers; c++)
			ring_put(&rings[c], take(size_at(w->sizes, i * 7 + c)));
	}
	for (unsigned c = 0; c < w->consumers; c++)
		ring_publish_put(&rings[c]);
}

static void consume(struct prodcons *w, unsigned index, uint64_t n)
{
	uint64_t left = n * w->producers;
	unsigned tries = 0;

	while (left > 0) {
		uint64_t before = left;

		for (unsigned p = 0; p < w->producers; p++) {
			struct ring *r = &w->rings[p * w->consumers + index];
			volatile unsigned char *object;

			/* A few from each ring. */
			for (unsigned i = 0; i < 32 && (object = ring_get(r)); i++) {
				object[1] = object[0];
				free((void *)(uintptr_t)object);
				left--;
			}
		}
		if (left == before)
			wait_a_bit(&tries);
		else
			tries = 0;
	}
}

static void prodcons_thread(unsigned index, void *arg)
{
	struct prodcons *w = arg;

	if (index < w->producers) {
		produce(w, index, w->warm);
		team_ready();
		produce(w, index, w->each);
	} else {
		consume(w, index - w->producers, w->warm);
		team_ready();
		consume(w, index - w->producers, w->each);
	}
	team_done();
}

static void prodcons(void)
{
	struct prodcons w = { .producers = (unsigned)param("producers"),
			      .consumers = (unsigned)param("consumers") };
	unsigned pairs = w.producers * w.consumers;
	uint64_t depth = param("depth");

	if (depth & (depth - 1) || depth < BATCH)
		bench_usage("prodcons: depth=%lu is not a power of two from %u on",
			    (unsigned long)depth, BATCH);
	w.each = param("ops") / pairs + 1;
	w.warm = max_u64(w.each / 10, depth);
	w.sizes = sizes_make((uint32_t)param("min"), (uint32_t)param("max"), 6);
	w.rings = bench_map(pairs * sizeof(*w.rings));
	for (unsigned i = 0; i < pairs; i++) {
		w.rings[i].mask = depth - 1;
		w.rings[i].slots = bench_map(depth * sizeof(void *));
	}
	team_run(w.producers + w.consumers, prodcons_thread, &w, w.each * pairs);
}

const struct workload queue_workloads[] = {
	{ "prodcons",
	  prodcons,
	  "malloc in a producer, free in a consumer, of one object",
	  { { "producers", 1 },
	    { "consumers", 1 },
	    { "depth", 1024 },
	    { "min", 16 },
	    { "max", 256 },
	    { "ops", 3000000 } } },
	{ 0 },
};
