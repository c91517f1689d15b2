/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * points.h - for tests of a build with delays: actions that reach the points of delay.def.
 */
#ifndef T_POINTS_H
#define T_POINTS_H

#include <errno.h>
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "page/buddy.h"
#include "lib/core.h"
#include "heap/claim.h"
#include "heap/heap_call.h"
#include "heap/heap_slabs.h"
#include "heap/heap_work.h"
#include "heap/sweep.h"
#include "reclaim/reclaim.h"
#include "lib/tap.h"

#define PAGES 256u
#define RUN 64u

static inline void sleep_us(long us)
{
	const struct timespec ts = { us / 1000000, us % 1000000 * 1000L };
	int saved = errno;

	nanosleep(&ts, NULL);
	errno = saved;
}

static inline void drain_all(void)
{
	struct reclaim_report r;

	reclaim_drain(RECLAIM_FLAGS, 0, &r);
}

static inline void one_call(void)
{
	heap_free(alloc(100));
}

/* Takes more pages than a pcp holds, and frees them all. A call fails if a fork holds the locks for
 * longer than it waits. */
static inline void pages(void)
{
	struct page *pg[PAGES];
	unsigned n = 0;

	while (n < PAGES) {
		pg[n] = pcp_alloc(heap_pcp(), 0);
		if (!pg[n] && lock_fork_under_way())
			break;
		if (!pg[n]) /* the fork has ended meanwhile */
			pg[n] = pcp_alloc(heap_pcp(), 0);
		if (!pg[n])
			tap_bail_out("no memory");
		n++;
	}
	while (n-- > 0)
		pcp_free(heap_pcp(), pg[n]);
}

static inline void abandon_own(void)
{
	void *p[RUN];

	for (unsigned i = 0; i < RUN; i++)
		p[i] = alloc(200);
	heap_abandon_own();
	for (unsigned i = 0; i < RUN; i++)
		heap_free(p[i]);
}

static inline void fall_back(void)
{
	one_call();
	atomic_store(&heap_self->busy, 1);
	heap_free_slow(heap_alloc_slow(100));
	atomic_store(&heap_self->busy, 0);
}

/* Allocates runs too long for the free memory. */
static inline void grow(void)
{
	void *p[64];
	uint64_t grown = atomic_load(&zone_main.grown);
	unsigned n = 0;

	while (n < 64 && atomic_load(&zone_main.grown) == grown)
		p[n++] = alloc((size_t)RUN_PAGES_MAX * PG_BYTES);
	while (n)
		heap_free(p[--n]);
}

static inline void start(pthread_t *t, void *(*fn)(void *), void *arg)
{
	if (pthread_create(t, NULL, fn, arg) != 0)
		tap_bail_out("cannot start a thread");
}

static inline void fork_once(void)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		one_call();
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		tap_bail_out("a child of fork ended with status 0x%x", (unsigned)status);
}

#endif
