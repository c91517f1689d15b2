/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The heap claim under load: while threads run, sleep, begin, end and pass objects to each other,
 * heaps are taken all the time. If two parties meet in a heap, objects are handed out twice.
 *
 * SLUICE_STRESS_SECONDS: how long each of the two runs takes at least, 4 by default.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "lib/barrier.h"
#include "lib/core.h"
#include "page/block.h"
#include "page/buddy.h"
#include "heap/heap.h"
#include "heap/heap_slabs.h"
#include "reclaim/info.h"
#include "shim/init.h"
#include "reclaim/reclaim.h"
#include "lib/tap.h"

#define SLOTS 256u
#define OWN 64u
#define HOT 3u
#define SLEEPY 4u
#define PATIENCE_S 40

struct stress_object {
	uint32_t size;
	uint32_t seed;
};

static _Atomic(struct stress_object *) slots[SLOTS]; /* objects that change hands */
static _Atomic bool stress_stop;
static _Atomic unsigned stress_bad;
static _Atomic uint64_t stress_calls;
static uint64_t stress_grown; /* heaps taken by growths */

static uint32_t rnd(uint32_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 17;
	*s ^= *s << 5;
	return *s;
}

static struct stress_object *object_make(uint32_t *s)
{
	uint32_t size = 16 + rnd(s) % (rnd(s) % 16 ? 240 : 4000);
	struct stress_object *o = alloc(size);
	unsigned char *c = (unsigned char *)o;

	o->size = size;
	o->seed = *s;
	for (uint32_t i = sizeof(*o); i < size; i++)
		c[i] = (unsigned char)(o->seed + i);
	return o;
}

static void object_check(const struct stress_object *o)
{
	const unsigned char *c = (const unsigned char *)o;

	if (o->size < 16 || o->size > 4016)
		goto bad;
	for (uint32_t i = sizeof(*o); i < o->size; i++)
		if (c[i] != (unsigned char)(o->seed + i))
			goto bad;
	return;
bad:
	if (atomic_fetch_add(&stress_bad, 1) < 5)
		tap_diag("object %p of %u bytes was overwritten", (const void *)o, o->size);
}

static void object_end(struct stress_object *o)
{
	if (!o)
		return;
	object_check(o);
	heap_free(o);
}

/* One step replaces or frees an object of its own or one that changes hands. */
static void stress_step(struct stress_object **own, uint32_t *s)
{
	unsigned i = rnd(s) % OWN;
	struct stress_object *o = NULL;

	object_end(own[i]);
	own[i] = rnd(s) % 4 ? object_make(s) : NULL;
	if (rnd(s) % 8 == 0) {
		if (rnd(s) % 2)
			o = object_make(s);
		object_end(atomic_exchange(&slots[rnd(s) % SLOTS], o));
	}
}

struct stress_arg {
	uint32_t seed;
	unsigned steps; /* steps between sleeps; 0: never sleeps */
	unsigned lives; /* rounds until it ends; 0: ends at the stop */
};

static void *stress_thread(void *arg)
{
	struct stress_arg *a = arg;
	struct stress_object *own[OWN] = { NULL };
	uint32_t s = a->seed;
	uint64_t calls = 0;

	for (unsigned round = 0; !atomic_load(&stress_stop); round++) {
		unsigned steps = a->steps ? rnd(&s) % a->steps + 1 : 200;

		if (a->lives && round == a->lives)
			break;
		for (unsigned i = 0; i < steps; i++)
			stress_step(own, &s);
		calls += steps;
		if (a->steps)
			usleep(rnd(&s) % (rnd(&s) % 8 ? 3000 : 60000));
	}
	for (unsigned i = 0; i < OWN; i++)
		object_end(own[i]);
	atomic_fetch_add(&stress_calls, calls);
	return NULL;
}

/* Threads that each end after a moment, one after the other. */
static void *stress_births(void *arg)
{
	struct stress_arg *a = arg;
	uint32_t s = a->seed;

	while (!atomic_load(&stress_stop)) {
		struct stress_arg child = { rnd(&s), 30, rnd(&s) % 3 + 1 };
		pthread_t t;

		if (pthread_create(&t, NULL, stress_thread, &child) != 0)
			tap_bail_out("cannot start a thread");
		pthread_join(t, NULL);
	}
	return NULL;
}

static double seconds_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static double stress_seconds(void)
{
	const char *text = getenv("SLUICE_STRESS_SECONDS");

	return text ? atof(text) : 4;
}

/* Does now and then what reclaim_before_growth does. */
static void *stress_growth(void *arg)
{
	uint32_t s = 7;

	while (!atomic_load(&stress_stop)) {
		uint32_t steps = 64 + rnd(&s) % 4096;

		lock_acquire(&reclaim_control);
		stress_grown += heap_growth_take(&steps);
		if (steps)
			heap_growth_mark(4 + rnd(&s) % 16, &steps);
		lock_release(&reclaim_control);
		usleep(rnd(&s) % 30000);
	}
	return arg;
}

/* Returns how many heaps were taken. Runs on while they are fewer than `least`. */
static uint64_t stress_run(uint64_t least)
{
	pthread_t growth;
	pthread_t thread[HOT + SLEEPY + 1];
	struct stress_arg arg[HOT + SLEEPY + 1];
	double end = seconds_now() + stress_seconds();
	uint64_t taken = 0;
	uint64_t marks = 0;
	uint32_t s = (uint32_t)getpid() * 2654435761u | 1;

	tap_diag("seed %u", s);
	atomic_store(&stress_stop, false);
	for (unsigned i = 0; i < HOT + SLEEPY + 1; i++) {
		bool births = i == HOT + SLEEPY;

		arg[i] = (struct stress_arg){ rnd(&s), i < HOT ? 0 : 40, 0 };
		if (pthread_create(&thread[i], NULL, births ? stress_births : stress_thread,
				   &arg[i]) != 0)
			tap_bail_out("cannot start a thread");
	}
	if (pthread_create(&growth, NULL, stress_growth, NULL) != 0)
		tap_bail_out("cannot start a thread");
	/* Runs on until enough were taken, which takes longer on a loaded machine. */
	while (seconds_now() < end || (taken < least && seconds_now() < end + PATIENCE_S)) {
		uint64_t g = heap_idle_mark(true);

		marks++;
		if (rnd(&s) % 64 == 0)
			usleep(rnd(&s) % 2000);
		lock_acquire(&reclaim_control);
		if (rnd(&s) % 2)
			heap_age_all(g);
		taken += heap_idle_take(g);
		lock_release(&reclaim_control);
	}
	atomic_store(&stress_stop, true);
	pthread_join(growth, NULL);
	for (unsigned i = 0; i < HOT + SLEEPY + 1; i++)
		pthread_join(thread[i], NULL);
	for (unsigned i = 0; i < SLOTS; i++)
		object_end(atomic_exchange(&slots[i], NULL));
	tap_diag("%llu steps, %llu marks, %llu heaps taken, %llu by growths",
		 (unsigned long long)stress_calls, (unsigned long long)marks,
		 (unsigned long long)taken, (unsigned long long)stress_grown);
	heap_free(alloc(16));
	heap_check();
	zone_check(&zone_main);
	return taken;
}

/* The same with barriers that take no time, so that there are many more. */
static int stress_expedited(void)
{
	uint64_t quarantined = value("heaps_quarantined");

	if (!refuse_membarrier(false, EINVAL))
		return CHILD_CANNOT;
	if (stress_run(100) < 100 || stress_bad || value("heaps_quarantined") != quarantined)
		return CHILD_BAD;
	return CHILD_GOOD;
}

static void test_stress(void)
{
	uint64_t heaps;

	child_result(run_child(stress_expedited),
		     "heaps are taken thousands of times while threads run, sleep, begin and end");
	ok(stress_run(1) > 0, "heaps are taken also with barriers that wait for a grace period");
	is_int(stress_bad, 0, "no object is ever overwritten");
	heaps = value("heaps");
	ok(heaps < 64, "heaps of threads that ended are used again (%d heaps)", (int)heaps);
	heap_idle_take(heap_idle_mark(true));
	ok(!heap_idle_any(), "in the end no heap but the caller's holds anything");
}

int main(void)
{
	if (UNDER_TSAN)
		tap_skip_all("ThreadSanitizer knows nothing of membarrier");
	sluice_init();
	alloc(16);
	if (!membarrier_global())
		tap_skip_all("the kernel has no membarrier, or forbids it");
	tap_plan(5);
	test_stress();
	return tap_done();
}
