/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The heaps of threads that have ended stay as they are for the next ones: so many as the option
 * warm_heaps says, with little in their pcps, only where a background thread drains what nobody
 * uses; and drains, forks and other threads' frees find them as those of threads that sleep.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/options.h"
#include "heap/claim.h"
#include "heap/heap.h"
#include "heap/sweep.h"
#include "lib/core.h"
#include "lib/tap.h"
#include "page/purge.h"
#include "reclaim/reclaim.h"
#include "shim/init.h"
#define OBJECTS 200u /* so few that no growth drains a thread that has done its work */
#include "lib/worker.h"

#define THREADS 6u

static struct worker w[THREADS];

static bool holds(const struct heap *h)
{
	return !heap_is_empty(h);
}

/* So many threads at the same time allocate and free, and end. Returns how many heaps hold
 * something then. */
static unsigned run(unsigned n)
{
	unsigned full = 0;

	for (unsigned i = 0; i < n; i++) {
		worker_begin(&w[i]);
		worker_do(&w[i], fill_and_free_all);
	}
	for (unsigned i = 0; i < n; i++)
		worker_end(&w[i]);
	for (unsigned i = 0; i < n; i++)
		full += holds(w[i].heap);
	return full;
}

static void empty_all(void)
{
	heap_idle_take(heap_idle_mark(false));
	heap_idle_take(heap_idle_mark(false));
}

static void test_next_thread(void)
{
	uint64_t slabs;
	struct heap *first;

	is_int(run(1), 1, "the heap of a thread that has ended stays as it is");
	first = w[0].heap;
	ok(first->tid == 0 && first->unattached, "it waits for a thread");
	slabs = value("slabs_made");
	is_int(run(1), 1, "so does that of the next thread");
	ok(w[0].heap == first, "the next thread takes it");
	is_int((int)(value("slabs_made") - slabs), 0, "a thread that does the same makes no slab");
	empty_all();
	ok(!holds(first), "a drain empties it as that of a thread that sleeps");
	run(1);
	ok(w[0].heap == first && holds(first), "it can be used, and stay as it is, again");
	empty_all();
}

/* Frees more runs than a heap that waits may have. */
static void free_runs(struct worker *at)
{
	(void)at;
	for (unsigned i = 0; i < 20; i++) {
		void *p[4];

		for (unsigned k = 0; k < 4; k++)
			p[k] = alloc(300000 + 50000 * i);
		for (unsigned k = 0; k < 4; k++)
			heap_free(p[k]);
	}
}

static void test_bounds(void)
{
	worker_begin(&w[0]);
	worker_do(&w[0], free_runs);
	tap_diag("%u pages in its pcp", w[0].heap->pcp.count);
	worker_end(&w[0]);
	ok(w[0].heap->pcp.count << PG_SHIFT <= 1u << 20,
	   "such a heap has 1 MiB in its pcp at most");
	empty_all();
	options.warm_heaps = 2;
	is_int(run(THREADS), 2, "of threads that end at once so many stay as the option says");
	is_int(run(THREADS), 2, "and of the next ones");
	empty_all();
	is_int(run(THREADS), 2, "and when they were drained meanwhile");
	empty_all();
	options.warm_heaps = 0;
	is_int(run(2), 0, "with warm_heaps:0 none does");
	options.warm_heaps = 8;
	trim_inline = true;
	is_int(run(2), 0, "without a background thread none does");
	trim_inline = false;
}

/* Objects that outlive their thread are freed by another one. */
static void test_remote(void)
{
	uint64_t slabs = value("slab_bytes");

	worker_begin(&w[0]);
	worker_do(&w[0], fill);
	worker_end(&w[0]);
	ok(holds(w[0].heap) && intact(&w[0]), "objects outlive their thread");
	free_all(&w[0]);
	worker_begin(&w[1]);
	worker_do(&w[1], fill);
	ok(w[1].heap == w[0].heap, "others free them, and the next thread has its heap");
	ok(intact(&w[1]), "what it allocates there is its own");
	worker_do(&w[1], free_all);
	worker_end(&w[1]);
	heap_abandon_own();
	heap_sweep();
	empty_all();
	heap_sweep();
	ok(value("slab_bytes") <= slabs, "a drain finds all that was freed");
}

static void test_fork(void)
{
	int status = 1;
	pid_t pid;

	worker_begin(&w[0]);
	worker_do(&w[0], fill_and_free_odd);
	worker_end(&w[0]);
	pid = fork();
	if (pid == 0) {
		bool good = intact(&w[0]);

		worker_begin(&w[1]);
		worker_do(&w[1], fill);
		good = good && intact(&w[0]) && intact(&w[1]);
		worker_do(&w[1], free_all);
		worker_end(&w[1]);
		empty_all();
		for (struct heap *h = heap_first(); h; h = heap_next(h))
			good = good && (h == heap_own() || !heap_may_hold(h));
		_exit(!good);
	}
	waitpid(pid, &status, 0);
	ok(status == 0, "a child of fork uses and drains the heaps that waited for threads");
	ok(intact(&w[0]), "the parent's is as it was");
	free_all(&w[0]);
	run(1);
	empty_all();
	ok(!holds(w[0].heap), "it can be drained");
}

int main(void)
{
	tap_plan(20);
	sluice_init();
	trim_inline = false;  /* as when the background thread runs */
	heap_free(alloc(16)); /* this thread has a heap of its own */
	test_next_thread();
	test_bounds();
	test_remote();
	test_fork();
	return tap_done();
}
