/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The one place of a heap for an object above 256 KiB of a length that its thread allocates again
 * and again: when it is used, for what, how it is counted, and how it is emptied.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "lib/child.h"
#include "lib/core.h"
#include "lib/worker.h"
#include "heap/cache_bin.h"
#include "heap/large.h"
#include "shim/init.h"
#include "sluice/sluice.h"
#include "lib/tap.h"

#define LONG ((size_t)1 << 20)
#define SAME (LONG / 8 * 7 + 1) /* blocks of this size are as long */
#define OTHER ((size_t)2 << 20)
#define ROUNDS (REPEATS_MIN + 2)

static void *handed; /* from the thread to another */

static void repeat(size_t size)
{
	for (unsigned i = 0; i < ROUNDS; i++)
		heap_free(alloc(size));
}

static bool is_kept(struct heap *h)
{
	return *h->bin[LARGE_REPEAT_BIN].top != NULL;
}

static void test_few(void)
{
	for (unsigned i = 0; i < REPEATS_MIN; i++)
		heap_free(alloc(LONG));
	ok(!is_kept(heap_self), "a length that was allocated a few times goes to the pcp");
	for (unsigned i = 0; i < ROUNDS; i++) {
		heap_free(alloc(LONG));
		heap_free(alloc(OTHER));
	}
	ok(!is_kept(heap_self), "so do two lengths in turn");
}

static void test_taken(void)
{
	uint64_t refills;
	uint64_t pcp;
	bool same = true;
	char *p;
	void *q;
	bool zero;

	repeat(LONG);
	ok(is_kept(heap_self), "an object of a length that is allocated again and again is kept");
	pcp = value("pcp_bytes");
	is_int(value("cached_large_bytes"), LONG, "it counts as cached");
	p = alloc(LONG);
	refills = value("pcp_refills");
	for (unsigned i = 0; i < 100; i++) {
		heap_free(p);
		same &= alloc(LONG) == p && value("pcp_bytes") == pcp;
	}
	ok(same && value("pcp_refills") == refills, "it is allocated again, without the pcp");
	heap_free(p);
	q = alloc(OTHER);
	ok(q != p && heap_usable(q) == OTHER, "another length does not get it");
	heap_free(q);
	q = alloc(SAME);
	ok(q != p, "nor does a size that needs the same length, the first time");
	heap_free(q);
	heap_free(alloc(SAME));
	q = alloc(SAME);
	ok(q == p, "when that size comes again it does");
	heap_free(q);
	q = heap_alloc_large_zero(LONG, &zero);
	ok(q != p, "a call that needs zeros does not, because few pages of it may be backed");
	heap_free(q);
	heap_check();
}

static void test_one_place(void)
{
	void *p[4];
	uint64_t most = 0;

	for (unsigned i = 0; i < ROUNDS; i++)
		handed = alloc(LONG); /* stays */
	for (unsigned i = 0; i < 4; i++)
		p[i] = alloc(LONG);
	for (unsigned i = 0; i < 4; i++) {
		heap_free(p[i]);
		most = max_size(most, value("cached_large_bytes"));
	}
	is_int(most, LONG, "one object is kept, not more");
	ok(alloc(LONG) == p[3], "it is the one that was freed last");
	heap_free(p[3]);
	repeat(OTHER);
	heap_free(alloc(OTHER));
	is_int(value("cached_large_bytes"), OTHER, "the place goes to a length that comes more");
}

static void take_one(struct worker *w)
{
	(void)w;
	repeat(LONG);
	handed = alloc(LONG);
}

static void free_other(struct worker *w)
{
	(void)w;
	heap_free(handed);
}

static void use_one_free_other(struct worker *w)
{
	void *p = alloc(LONG);

	free_other(w);
	heap_free(p);
}

static void drain_all(void)
{
	struct sluice_drain_report r;

	if (sluice_drain(0, &r) != 0)
		tap_bail_out("no drain");
}

static void test_threads(void)
{
	static struct worker w;
	static struct worker other;

	worker_begin(&w);
	worker_begin(&other);
	worker_do(&w, take_one);
	worker_do(&other, free_other);
	ok(!is_kept(other.heap), "a thread that only frees keeps none");
	worker_do(&w, take_one);
	worker_do(&other, use_one_free_other);
	ok(!is_kept(other.heap), "nor does one that allocates the length now and then");
	worker_do(&w, take_one);
	worker_do(&w, free_other);
	ok(is_kept(w.heap), "the thread that allocates does");
	drain_all();
	ok(!is_kept(w.heap) && !bin_room(w.heap, LARGE_REPEAT_BIN) &&
		   value("cached_large_bytes") == 0 && value("pcp_bytes") == 0,
	   "a drain by another thread takes it and its place away");
	worker_do(&w, take_one);
	worker_do(&w, free_other);
	worker_end(&w);
	worker_end(&other);
	ok(bin_room(w.heap, LARGE_REPEAT_BIN) == 0 || w.heap->warm, "so does the thread's end");
	drain_all();
}

static void test_bounded(void)
{
	drain_all();
	atomic_store(&heap_bins_most, LARGE_REPEAT_MAX - 1);
	repeat(LONG);
	heap_free(alloc(LONG));
	ok(!is_kept(heap_self), "none is kept where a limit on what is cached leaves no room");
	atomic_store(&heap_bins_most, UINT64_MAX);
}

static void free_twice(void *arg)
{
	void *p = alloc(LONG);

	(void)arg;
	heap_free(p);
	heap_free(p);
}

static void free_inside(void *arg)
{
	(void)arg;
	heap_free((char *)alloc(LONG) + 16);
}

static void test_misuse(void)
{
	repeat(LONG);
	ok(child_is_stopped(free_twice, NULL, "block freed twice"), "a second free is noticed");
	ok(child_is_stopped(free_inside, NULL, "free of the middle of a large block"),
	   "a free of its middle is, too");
}

static void test_resized(void)
{
	char *p;
	char *q;

	repeat(LONG);
	p = alloc(LONG);
	memset(p, 7, LONG);
	q = heap_realloc(p, LONG / 2);
	ok(q[0] == 7 && q[LONG / 2 - 1] == 7 && page_of(q)->cls != LARGE_REPEAT_BIN,
	   "an object that was resized is none for the place");
	heap_free(q);
	heap_check();
}

int main(void)
{
	sluice_init();
	alloc(16);
	tap_plan(21);
	test_few();
	test_taken();
	test_one_place();
	test_resized();
	test_misuse();
	test_bounded();
	test_threads();
	return tap_done();
}
