/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * flow.c - memory that keeps moving: through queues, from one thread to the next, in endless loops,
 * with threads that start and end.
 */
#include "pressure.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

static unsigned threads;
static atomic_bool stop;

static bool stopped(void)
{
	return atomic_load_explicit(&stop, memory_order_relaxed);
}

/* ---- m1-queue: objects through queues to a thread that only frees ------------------------- */

#define DEPTH 256u

struct queue {
	_Alignas(64) _Atomic uint64_t put;
	_Alignas(64) _Atomic uint64_t got;
	void *slot[DEPTH];
};

static struct queue *queues;
static uint64_t objects_each;
static size_t object_size;
static _Atomic uint64_t replaced;

/* A queue has one producer. Returns false if it is full. */
static bool queue_put(struct queue *q, void *p)
{
	uint64_t put = atomic_load_explicit(&q->put, memory_order_relaxed);

	/* Pairs with the release in queue_drain: the slot has been read. */
	if (put - atomic_load_explicit(&q->got, memory_order_acquire) == DEPTH)
		return false;
	q->slot[put % DEPTH] = p;
	/* Pairs with the acquire in queue_drain. */
	atomic_store_explicit(&q->put, put + 1, memory_order_release);
	return true;
}

/* Frees all objects in the queue; returns their number. */
static uint64_t queue_drain(struct queue *q)
{
	uint64_t got = atomic_load_explicit(&q->got, memory_order_relaxed);
	uint64_t put = atomic_load_explicit(&q->put, memory_order_acquire);
	uint64_t n = put - got;

	for (; got < put; got++)
		free(q->slot[got % DEPTH]);
	atomic_store_explicit(&q->got, got, memory_order_release);
	return n;
}

static void produce(unsigned index)
{
	void **objects = bench_map(objects_each * sizeof(*objects));
	uint64_t seed = index + 1;

	crew_sync();
	for (uint64_t i = 0; i < objects_each; i++)
		objects[i] = memset(take(object_size), 1, object_size);
	crew_sync();
	while (!stopped()) {
		uint32_t i = rng_below(&seed, (uint32_t)objects_each);
		void *p = memset(take(object_size), 1, object_size);

		while (!queue_put(&queues[index], objects[i]) && !stopped())
			sched_yield();
		objects[i] = p;
	}
}

static void queue_thread(unsigned index)
{
	if (index > 0) {
		produce(index - 1);
	} else {
		crew_sync();
		crew_sync();
		while (!stopped()) {
			uint64_t n = 0;

			for (unsigned i = 0; i < threads; i++)
				n += queue_drain(&queues[i]);
			replaced += n;
			if (n == 0)
				sched_yield();
		}
	}
	crew_sync();
}

static void queue(void)
{
	uint64_t live;

	threads = (unsigned)param("threads");
	object_size = param("size");
	objects_each = (param("mib") << 20) / threads / object_size;
	live = objects_each * threads * object_size;
	queues = bench_map(threads * sizeof(*queues));
	crew_start(threads + 1, queue_thread);
	probe_start();
	event("floor", 0, threads + 1);
	crew_sync();
	crew_sync();
	event("peak", live, threads + 1);
	sleep_ms(param("ms"));
	event("steady", live, threads + 1);
	bench_extra("replaced", (double)replaced);
	stop = true;
	crew_sync();
	event("idle", live, threads + 1);
	sleep_ms(3000);
	event("rest", live, threads + 1);
}

/* ---- m5-first-free: foreign frees come first, then a small endless loop ------------------- */

static struct hoard others;

static void first_free_thread(unsigned index)
{
	void *objects[2500];

	(void)index;
	crew_sync();
	hoard_free(&others, 0, 1);
	crew_sync();
	while (!stopped()) {
		for (unsigned i = 0; i < 2500; i++)
			objects[i] = take(1090);
		for (unsigned i = 0; i < 2500; i++)
			free(objects[i]);
		sleep_ms(1);
	}
	crew_sync();
}

static void first_free(void)
{
	uint64_t bytes = param("mib") << 20;
	uint64_t loop = 2500 * 1090;

	hoard_init(&others, bytes, param("min"), param("max"), 1);
	crew_start(1, first_free_thread);
	probe_start();
	event("floor", 0, 2);
	hoard_fill(&others, bytes);
	event("peak", bytes, 2);
	crew_sync();
	crew_sync();
	event("idle", loop, 2);
	sleep_ms(param("ms"));
	event("rest", loop, 2);
	stop = true;
	crew_sync();
}

/* ---- m6-exits: threads that never call malloc start and end ------------------------------- */

static void *brief_life(void *arg)
{
	return arg;
}

static void exits_round(pthread_t *thread)
{
	for (unsigned i = 0; i < threads; i++) {
		if (pthread_create(&thread[i], NULL, brief_life, NULL) != 0)
			bench_fail("cannot create a thread");
	}
	sleep_ms(100);
	for (unsigned i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
}

static void exits(void)
{
	uint64_t rounds = param("ms") / 100;
	pthread_t *thread = bench_map(sizeof(*thread) * param("threads"));

	threads = (unsigned)param("threads");
	probe_start();
	/* The C library keeps some stacks, which is not growth. */
	for (uint64_t i = 0; i < 5; i++)
		exits_round(thread);
	event("floor", 0, threads);
	event("peak", 0, threads);
	event("idle", 0, threads);
	for (uint64_t i = 0; i < rounds; i++)
		exits_round(thread);
	event("rest", 0, threads);
}

/* ---- m7-cap: a limit on kept free memory --------------------------------------------------- */

static struct hoard *hoards;
static uint64_t each;

/* With powers of two all that is kept is free memory, not rounding to size classes. */
static size_t cap_size(struct hoard *h)
{
	return (size_t)h->min << rng_below(&h->seed, (uint32_t)__builtin_ctz(h->max / h->min) + 1);
}

/* Threads that fill their hoards, free all but a part (0 for none), and then work with little until
 * they are stopped. */
static void fill_and_free(void (*thread)(unsigned index), unsigned part)
{
	uint64_t live;

	threads = (unsigned)param("threads");
	each = (param("mib") << 20) / threads;
	hoards = hoards_new(threads, each);
	live = part ? each * threads / part : 0;
	crew_start(threads, thread);
	probe_start();
	event("floor", 0, threads);
	crew_sync();
	crew_sync();
	event("peak", each * threads, threads);
	crew_sync();
	crew_sync();
	event("idle", live, threads);
	sleep_ms(param("ms"));
	event("rest", live, threads);
	stop = true;
	crew_sync();
}

/* Repeatedly fills, frees three quarters and works on the rest. */
static void cap_thread(unsigned index)
{
	struct hoard *h = &hoards[index];
	uint32_t *sizes = bench_map(h->room * sizeof(*sizes));

	crew_sync();
	while (h->bytes < each && h->count < h->room) {
		size_t size = cap_size(h);

		h->object[h->count] = memset(take(size), 1, size);
		sizes[h->count++] = (uint32_t)size;
		h->bytes += size;
	}
	crew_sync();
	crew_sync();
	while (h->bytes > each / 4) {
		free(h->object[--h->count]);
		h->bytes -= sizes[h->count];
	}
	crew_sync();
	while (!stopped()) {
		for (unsigned i = 0; i < 100; i++) {
			size_t at = rng_below(&h->seed, (uint32_t)h->count);

			free(h->object[at]);
			h->object[at] = memset(take(sizes[at]), 1, sizes[at]);
		}
		sleep_ms(1);
	}
	crew_sync();
}

static void cap(void)
{
	fill_and_free(cap_thread, 4);
}

/* ---- m4-cap: many threads that never sleep for long ----------------------------------------- */

static void beat_thread(unsigned index)
{
	struct hoard *h = &hoards[index];
	void *objects[8];

	crew_sync();
	hoard_fill(h, each);
	crew_sync();
	crew_sync();
	hoard_free(h, 0, 1);
	crew_sync();
	while (!stopped()) {
		for (unsigned i = 0; i < 8; i++)
			objects[i] = take(h->min + rng_below(&h->seed, h->max - h->min + 1));
		for (unsigned i = 0; i < 8; i++)
			free(objects[i]);
		sleep_ms(param("beat"));
	}
	crew_sync();
}

static void beat(void)
{
	fill_and_free(beat_thread, 0);
}

/* ---- turns: one thread after the other; the limit fits the memory of one ------------------- */

static struct hoard shared;
static pthread_mutex_t turn_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn_changed = PTHREAD_COND_INITIALIZER;
static unsigned turn;
static bool handed;

static void turns_thread(unsigned index)
{
	crew_sync();
	pthread_mutex_lock(&turn_lock);
	while (turn != index)
		pthread_cond_wait(&turn_changed, &turn_lock);
	pthread_mutex_unlock(&turn_lock);
	for (unsigned pass = 0; pass < 2; pass++) {
		/* With handed=1 it first frees what its predecessor left, else what it allocated.
		 */
		if (pass == !handed) {
			hoard_free(&shared, 0, 1);
			shared.count = 0;
			shared.bytes = 0;
		} else {
			hoard_fill(&shared, each);
		}
	}
	pthread_mutex_lock(&turn_lock);
	turn++;
	pthread_cond_broadcast(&turn_changed);
	pthread_mutex_unlock(&turn_lock);
}

static void turns(void)
{
	threads = (unsigned)param("threads");
	each = param("mib") << 20;
	handed = param("handed") != 0;
	hoard_init(&shared, each, param("min"), param("max"), 1);
	crew_start(threads, turns_thread);
	probe_start();
	event("floor", 0, threads);
	bench_begin();
	crew_sync();
	pthread_mutex_lock(&turn_lock);
	while (turn < threads)
		pthread_cond_wait(&turn_changed, &turn_lock);
	pthread_mutex_unlock(&turn_lock);
	bench_end(threads);
	event("peak", shared.bytes, threads);
	event("idle", shared.bytes, threads);
	sleep_ms(param("ms"));
	event("rest", shared.bytes, threads);
}

const struct workload flow_workloads[] = {
	{ "queue",
	  queue,
	  "producers replace objects; one thread frees the old ones",
	  { { "threads", 16 }, { "mib", 370 }, { "size", 592 }, { "ms", 8000 }, { "probe", 0 } } },
	{ "first-free",
	  first_free,
	  "a thread frees another's memory, then loops over 2,500 objects",
	  { { "mib", 256 }, { "min", 16 }, { "max", 4096 }, { "ms", 4000 }, { "probe", 0 } } },
	{ "exits",
	  exits,
	  "threads that never call malloc end each 100 ms and are started again",
	  { { "threads", 39 }, { "ms", 5000 }, { "probe", 0 } } },
	{ "cap",
	  cap,
	  "threads free three quarters and go on working with the rest",
	  { { "threads", 8 },
	    { "mib", 512 },
	    { "min", 64 },
	    { "max", 8192 },
	    { "ms", 4000 },
	    { "probe", 0 } } },
	{ "beat",
	  beat,
	  "threads free what they filled, and allocate a little again and again",
	  { { "threads", 400 },
	    { "mib", 100 },
	    { "min", 16 },
	    { "max", 1024 },
	    { "beat", 100 },
	    { "ms", 4000 },
	    { "probe", 0 } } },
	{ "turns",
	  turns,
	  "threads in turn fill and free memory, and sleep",
	  { { "threads", 32 },
	    { "mib", 100 },
	    { "min", 16 },
	    { "max", 1024 },
	    { "handed", 0 },
	    { "ms", 1000 },
	    { "probe", 0 } } },
	{ 0 },
};
