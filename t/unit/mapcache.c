/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Mappings of freed huge objects that are kept: which are, who gets them, and how they go.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/options.h"
#include "heap/huge.h"
#include "lib/core.h"
#include "lib/tap.h"
#include "os/vm.h"
#include "page/mapcache.h"
#include "page/purge.h"
#include "reclaim/reclaim.h"

#define MIB ((size_t)1 << 20)
#define THREADS 6u
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define TURNS 2000u
#else
#define TURNS 20000u
#endif

static char *map(size_t bytes)
{
	char *p = vm_map(bytes, 1);

	if (!p)
		tap_bail_out("no memory");
	return p;
}

static void test_pieces(void)
{
	char *p = map(16 * MIB);
	size_t bytes = 0;

	mapcache_free(p, 16 * MIB);
	is_int(mapcache_bytes(), 16 * MIB, "a mapping that is freed is kept");
	ok(mapcache_take(17 * MIB, false) == NULL, "a longer one than is kept is not found");
	ok(mapcache_take(4 * MIB, false) == p, "a shorter one is the front of what is kept");
	is_int(mapcache_bytes(), 12 * MIB, "the rest stays");
	is_int(mapcache_take_at(p + 5 * MIB, MIB), 0, "nothing is kept from the middle on");
	is_int(mapcache_take_at(p + 4 * MIB, 2 * MIB), 2 * MIB, "what lies behind can be taken");
	mapcache_free(p + 4 * MIB, 2 * MIB);
	mapcache_free(p, 4 * MIB);
	ok(mapcache_take(16 * MIB, false) == p, "neighbours become one again");
	mapcache_free(p, 100 * 1024);
	is_int(mapcache_bytes(), 0, "a short one is not kept");
	p += 128 * 1024;
	mapcache_free(p + 2 * MIB, 7 * MIB);
	mapcache_free(p, 2 * MIB - 4096);
	is_int(mapcache_bytes(), 9 * MIB - 4096, "two that are not adjacent stay apart");
	mapcache_free(p + 2 * MIB - 4096, 4096);
	is_int(mapcache_bytes(), 9 * MIB, "a short one between two is kept with them");
	ok(mapcache_take_longest(10 * MIB, &bytes) == NULL, "nothing has as much as that");
	ok(mapcache_take_longest(9 * MIB, &bytes) == p && bytes == 9 * MIB, "the longest is whole");
	mapcache_free(p, 9 * MIB);
	is_int(mapcache_drain(), 9 * MIB, "a drain says how much it unmaps");
	is_int(mapcache_bytes(), 0, "nothing is kept after a drain");
}

static void test_age(void)
{
	char *p = map(8 * MIB);

	mapcache_free(p, 8 * MIB);
	is_int(mapcache_age(), 0, "what was kept lately stays");
	ok(mapcache_take(2 * MIB, false) == p, "an old mapping can be taken in part");
	mapcache_free(p, 2 * MIB);
	is_int(mapcache_age(), 6 * MIB, "what nobody used goes, what was used stays");
	is_int(mapcache_age(), 2 * MIB, "and goes a round later");
	is_int(mapcache_bytes(), 0, "then nothing is kept");
}

static void test_most(void)
{
	uint64_t dirty_max = options.dirty_max;
	uint64_t most;

	options.dirty_max = 4 * MIB;
	for (unsigned i = 0; i < 64; i++)
		mapcache_free(map(3 * MIB), 3 * MIB);
	most = 4 * options.dirty_max + (zone_used_pages(&zone_main) << PG_SHIFT);
	ok(mapcache_bytes() > 0 && mapcache_bytes() <= most, "dirty_max bounds what is kept (%lu)",
	   (unsigned long)mapcache_bytes());
	options.dirty_max = dirty_max;
	mapcache_drain();
	for (unsigned i = 0; i < 128; i++) {
		map(4096); /* so that they are not adjacent */
		mapcache_free(map(MIB), MIB);
	}
	ok(mapcache_bytes() <= 128 * MIB, "more pieces than there are slots do no harm");
	mapcache_drain();
	is_int(mapcache_bytes(), 0, "a drain reaches all of them");
	atomic_store(&zone_main.tight, 1);
	mapcache_free(map(2 * MIB), 2 * MIB);
	is_int(mapcache_bytes(), 0, "nothing is kept while address space is limited");
	atomic_store(&zone_main.tight, 0);
}

/* Without a background thread. */
static void test_earned(void)
{
	uint64_t decay_ms = options.decay_ms;

	trim_inline = true;
	options.decay_ms = 60000;
	mapcache_free(map(8 * MIB), 8 * MIB);
	is_int(mapcache_bytes(), 0, "what was freed once is not kept");
	mapcache_missed(8 * MIB);
	mapcache_free(map(8 * MIB), 8 * MIB);
	is_int(mapcache_bytes(), 8 * MIB, "what was needed again is kept the next time");
	options.decay_ms = 10;
	for (unsigned i = 0; i < 12 && mapcache_bytes(); i++) {
		usleep(20000);
		mapcache_tick();
	}
	is_int(mapcache_bytes(), 0, "it goes when nobody takes it");
	for (unsigned i = 0; i < 12; i++) {
		usleep(20000);
		mapcache_tick();
	}
	mapcache_free(map(8 * MIB), 8 * MIB);
	is_int(mapcache_bytes(), 0, "and then what is freed is not kept any more");
	options.decay_ms = decay_ms;
	trim_inline = false;
}

static bool all_bytes(const char *p, size_t n, char c)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != c)
			return false;
	return true;
}

static void test_objects(void)
{
	struct reclaim_report report;
	bool zero = false;
	char *p = huge_alloc_kept(40 * MIB, false, &zero);
	char *q;

	ok(p && zero, "a new mapping reads as zero");
	memset(p, 'x', 40 * MIB);
	huge_free(p);
	is_int(mapcache_bytes(), 40 * MIB, "the mapping of a freed object is kept");
	is_int(huge_bytes(), 0, "it is no object any more");
	ok(!huge_free(p) && !huge_usable(p), "it cannot be freed twice");
	zero = true;
	q = huge_alloc_kept(36 * MIB, false, &zero);
	ok(q == p && zero && all_bytes(q, 36 * MIB, 0), "an object for calloc reads as zero");
	memset(q, 'y', 36 * MIB);
	ok(huge_realloc(q, 40 * MIB) == q && huge_usable(q) == 40 * MIB &&
		   all_bytes(q, 36 * MIB, 'y'),
	   "an object grows in place into what is kept behind it");
	ok(huge_realloc(q, 34 * MIB) == q && huge_usable(q) == 34 * MIB,
	   "an object shrinks in place");
	is_int(mapcache_bytes(), 6 * MIB, "what it gives up is kept");
	ok(huge_realloc(q, 34 * MIB - 8192) == q && huge_usable(q) == 34 * MIB,
	   "a short tail stays with it");
	q = huge_realloc(q, 48 * MIB);
	ok(q && huge_usable(q) == 48 * MIB && all_bytes(q, 34 * MIB, 'y'),
	   "an object that grows beyond that keeps its data");
	is_int(huge_bytes(), 48 * MIB, "its length is counted");
	huge_free(q);
	zero = false;
	p = huge_alloc_kept(60 * MIB, false, &zero);
	ok(p && huge_usable(p) == 60 * MIB, "a mapping that is too short can be made longer");
	memset(p, 'z', 60 * MIB);
	huge_free(p);
	reclaim_drain(RECLAIM_CACHES, 0, &report);
	is_int(mapcache_bytes(), 0, "a drain of the caches reaches what is kept");
	ok(report.bytes_unmapped >= 60 * MIB, "and reports it");
}

static void test_refused(void)
{
	bool zero = false;
	char *p = huge_alloc_kept(40 * MIB, false, &zero);
	char *q;

	huge_free(p);
	options.vm_fail_count = 1;
	options.vm_fail_at = 1;
	q = huge_alloc(50 * MIB, 1);
	options.vm_fail_at = 0;
	ok(q && mapcache_bytes() == 0, "when the kernel refuses, what is kept is unmapped first");
	huge_free(q);
	mapcache_drain();
}

/* ---- threads -------------------------------------------------------------------------------- */

static _Atomic unsigned bad;

/* TSan does not see that memory is moved, or taken over by way of a slot of which only the word
 * is known. */
static void stamp(char *p, size_t bytes, char c)
{
	for (size_t at = 0; at < bytes; at += 256 * 1024)
		atomic_store_explicit((_Atomic char *)p + at, c, memory_order_relaxed);
}

static void check(char *p, size_t bytes, char c)
{
	for (size_t at = 0; at < bytes; at += 256 * 1024)
		if (atomic_load_explicit((_Atomic char *)p + at, memory_order_relaxed) != c)
			atomic_fetch_add(&bad, 1);
}

static void *worker(void *arg)
{
	char me = (char)(uintptr_t)arg;
	uint64_t seed = (uint64_t)(uintptr_t)arg * UINT64_C(0x9e3779b97f4a7c15);

	for (unsigned i = 0; i < TURNS; i++) {
		size_t bytes;
		bool zero = i % 8 == 0;
		bool wants = zero;
		char *p;
		char *q;

		seed = seed * UINT64_C(6364136223846793005) + 1;
		bytes = (1 + (seed >> 40) % 8) * MIB;
		p = huge_alloc_kept(bytes, i % 3 == 0, &zero);
		if (!p)
			continue;
		if (wants && zero)
			check(p, bytes, 0);
		stamp(p, bytes, me);
		if (i % 2 == 0) {
			q = huge_realloc(p, bytes + 2 * MIB);
			p = q ? q : p;
			check(p, bytes, me);
		} else if (bytes > 2 * MIB) {
			p = huge_realloc(p, bytes - MIB);
			check(p, bytes - MIB, me);
		}
		if (!huge_free(p))
			atomic_fetch_add(&bad, 1);
		if (i % 512 == 0)
			mapcache_age();
		if (i % 2048 == 1)
			mapcache_drain();
	}
	return NULL;
}

static void test_threads(void)
{
	uint64_t most = 4 * options.dirty_max + (zone_used_pages(&zone_main) << PG_SHIFT) +
			THREADS * 10 * MIB;
	pthread_t t[THREADS];
	bool good = true;

	for (uintptr_t i = 0; i < THREADS; i++)
		if (pthread_create(&t[i], NULL, worker, (void *)(i + 1)) != 0)
			tap_bail_out("cannot start a thread");
	for (unsigned i = 0; i < 20; i++) {
		int status = 1;
		pid_t child = fork();

		if (child == 0) {
			bool zero = false;
			char *p = huge_alloc_kept(5 * MIB, false, &zero);

			if (p)
				stamp(p, 5 * MIB, 'c');
			/* By a raw call: TSan's _exit counts the threads that the child lacks. */
			syscall(SYS_exit_group, p && huge_free(p) ? 0 : 1);
		}
		good &= child > 0 && waitpid(child, &status, 0) == child && status == 0;
		good &= mapcache_bytes() <= most;
		usleep(2000);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	ok(good, "children of a fork use what is kept, and the bound holds");
	is_int(atomic_load(&bad), 0, "no memory is given to two threads");
	is_int(huge_bytes(), 0, "no object is lost");
	mapcache_drain();
	is_int(mapcache_bytes(), 0, "nothing is kept at the end");
}

int main(void)
{
	heap_init();
	tap_plan(46);
	trim_inline = false; /* as with a background thread */
	test_pieces();
	test_age();
	test_most();
	test_earned();
	test_objects();
	test_refused();
	test_threads();
	return tap_done();
}
