/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Mappings of freed huge objects that are kept: which are, who gets them, and how they go.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/options.h"
#include "heap/huge.h"
#include "lib/core.h"
#include "lib/statm.h"
#include "lib/pace.h"
#include "lib/tap.h"
#include "os/vm.h"
#include "page/longrun.h"
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

static void *taken(size_t bytes, bool grows)
{
	return mapcache_take(&bytes, grows);
}

static void freed(void *p, size_t bytes)
{
	mapcache_free(p, bytes, 0);
}

static void *resized(void *p, size_t size)
{
	bool scarce;

	return huge_realloc(p, size, &scarce);
}

static void test_pieces(void)
{
	char *p = map(16 * MIB);
	size_t bytes = 0;

	freed(p, 16 * MIB);
	is_int(mapcache_bytes(), 16 * MIB, "a mapping that is freed is kept");
	ok(taken(17 * MIB, false) == NULL, "a longer one than is kept is not found");
	ok(taken(4 * MIB, false) == p, "a shorter one is the front of what is kept");
	is_int(mapcache_bytes(), 12 * MIB, "the rest stays");
	is_int(mapcache_take_at(p + 5 * MIB, MIB), 0, "nothing is kept from the middle on");
	is_int(mapcache_take_at(p + 4 * MIB, 2 * MIB), 2 * MIB, "what lies behind can be taken");
	freed(p + 4 * MIB, 2 * MIB);
	freed(p, 4 * MIB);
	ok(taken(16 * MIB, false) == p, "neighbours become one again");
	freed(p, 100 * 1024);
	is_int(mapcache_bytes(), 0, "a short one is not kept");
	p += 128 * 1024;
	freed(p + 2 * MIB, 7 * MIB);
	freed(p, 2 * MIB - 4096);
	is_int(mapcache_bytes(), 9 * MIB - 4096, "two that are not adjacent stay apart");
	freed(p + 2 * MIB - 4096, 4096);
	is_int(mapcache_bytes(), 9 * MIB, "a short one between two is kept with them");
	ok(mapcache_take_longest(10 * MIB, &bytes) == NULL, "nothing has as much as that");
	ok(mapcache_take_longest(9 * MIB, &bytes) == p && bytes == 9 * MIB, "the longest is whole");
	freed(p, 9 * MIB);
	is_int(mapcache_drain(), 9 * MIB, "a drain says how much it unmaps");
	is_int(mapcache_bytes(), 0, "nothing is kept after a drain");
}

/* What a take leaves is kept if it is long enough, and stays with the object if it is short. */
static void test_rests(void)
{
	char *p = map(16 * MIB);
	size_t bytes = 16 * MIB - 4096;

	freed(p, 16 * MIB);
	ok(mapcache_take(&bytes, false) == p && bytes == 16 * MIB,
	   "a short rest stays with what is taken");
	freed(p, 16 * MIB);
	bytes = 16 * MIB - 256 * 1024;
	ok(mapcache_take(&bytes, false) == p && bytes == 16 * MIB, "of 256 KiB at most");
	freed(p, 16 * MIB);
	bytes = MIB;
	ok(mapcache_take(&bytes, false) == p && bytes == MIB && mapcache_bytes() == 15 * MIB,
	   "a long one is kept");
	is_int(mapcache_take_at(p + MIB, 15 * MIB - 200 * 1024), 15 * MIB,
	       "so it is when an object grows in place");
	freed(p, 2 * MIB);
	bytes = 2 * MIB - 200 * 1024;
	ok(mapcache_take(&bytes, false) == p && bytes == 2 * MIB - 200 * 1024 &&
		   mapcache_bytes() == 0,
	   "one that is neither is unmapped");
	vm_unmap(p, bytes);
	vm_unmap(p + 2 * MIB, 14 * MIB);
}

static void test_age(void)
{
	char *p = map(8 * MIB);

	freed(p, 8 * MIB);
	is_int(mapcache_age(), 0, "what was kept lately stays");
	ok(taken(2 * MIB, false) == p, "an old mapping can be taken in part");
	freed(p, 2 * MIB);
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
		freed(map(3 * MIB), 3 * MIB);
	most = 4 * options.dirty_max + (zone_used_pages(&zone_main) << PG_SHIFT);
	ok(mapcache_bytes() > 0 && mapcache_bytes() <= most, "dirty_max bounds what is kept (%lu)",
	   (unsigned long)mapcache_bytes());
	options.dirty_max = dirty_max;
	mapcache_drain();
	for (unsigned i = 0; i < 128; i++) {
		map(4096); /* so that they are not adjacent */
		freed(map(MIB), MIB);
	}
	ok(mapcache_bytes() <= 128 * MIB, "more pieces than there are slots do no harm");
	mapcache_drain();
	is_int(mapcache_bytes(), 0, "a drain reaches all of them");
}

/* The bound falls with what is in use. */
static void test_bound_falls(void)
{
	uint64_t dirty_max = options.dirty_max;

	options.dirty_max = 4 * MIB;
	mapcache_free(map(64 * MIB), 64 * MIB, 256 * MIB);
	is_int(mapcache_bytes(), 64 * MIB, "a quarter of what is in use may be kept as well");
	mapcache_free(map(2 * MIB), 2 * MIB, 0);
	ok(mapcache_bytes() <= 64 * MIB, "no more is kept when the rest is freed");
	mapcache_drain();
	options.dirty_max = dirty_max;
}

/* Sets the limit on address space to `bytes` more than there is; 0: no limit. */
static void limit_space(size_t bytes)
{
	static struct rlimit before;
	struct rlimit rl;

	if (!bytes) {
		setrlimit(RLIMIT_AS, &before);
	} else if (getrlimit(RLIMIT_AS, &before) == 0) {
		rl = before;
		rl.rlim_cur = (size_t)statm_pages(STATM_SIZE) * vm_os_page + bytes;
		setrlimit(RLIMIT_AS, &rl);
	}
}

static void test_limited(void)
{
	if (tap_emulated()) {
		tap_skip(2, "the emulator does not limit address space");
		return;
	}
	limit_space(64 * MIB);
	vm_limits_read();
	freed(map(8 * MIB), 8 * MIB);
	is_int(mapcache_bytes(), 0, "nothing is kept while address space is limited");
	limit_space(0);
	vm_limits_read();
	freed(map(8 * MIB), 8 * MIB);
	limit_space(64 * MIB);
	vm_limits_read();
	is_int(mapcache_age(), 8 * MIB, "what was kept goes when a limit is noticed");
	limit_space(0);
	vm_limits_read();
}

/* The object's growth fits into the limit only without what is kept. */
static void test_realloc_limited(void)
{
	bool zero = false;
	bool scarce = true;
	char *p;
	char *wall;
	char *q;

	if (tap_emulated()) {
		tap_skip(2, "the emulator does not limit address space");
		return;
	}
	p = huge_alloc_kept(64 * MIB, false, &zero);
	wall = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	freed(map(100 * MIB), 100 * MIB);
	*p = 'r';
	limit_space(32 * MIB);
	q = huge_realloc(p, 160 * MIB, &scarce);
	ok(q && *q == 'r' && !scarce && mapcache_bytes() == 0,
	   "realloc near a limit gets what is kept");
	ok(!huge_realloc(q, 400 * MIB, &scarce) && scarce && *q == 'r',
	   "where even that is too little it says so");
	limit_space(0);
	vm_limits_read();
	huge_free(q);
	mapcache_drain();
	munmap(wall, 4096);
}

static void test_hardened(void)
{
	options.zero_on_free = true;
	freed(map(8 * MIB), 8 * MIB);
	is_int(mapcache_bytes(), 0, "nothing is kept if freed memory is to be zero");
	options.zero_on_free = false;
	options.check = CHECK_FULL;
	freed(map(8 * MIB), 8 * MIB);
	is_int(mapcache_bytes(), 0, "nor if each access to a freed object is to be found");
	options.check = 0;
}

/* What the program does to its memory does not reach the next user. */
static void test_ordinary(void)
{
	char *p = map(8 * MIB);
	int status = 1;
	pid_t child;

	memset(p, 'o', 8 * MIB);
	if (mprotect(p + MIB, MIB, PROT_READ) != 0 || madvise(p, MIB, MADV_DONTFORK) != 0 ||
	    madvise(p + 4 * MIB, MIB, MADV_WIPEONFORK) != 0)
		tap_bail_out("cannot advise");
	freed(p, 8 * MIB);
	is_int(mapcache_bytes(), 8 * MIB, "memory that the program has protected can be kept");
	ok(taken(8 * MIB, false) == p, "and taken");
	memset(p, 'p', 8 * MIB);
	child = fork();
	if (child == 0)
		_exit(*p == 'p' && p[4 * MIB] == 'p' ? 0 : 1);
	ok(child > 0 && waitpid(child, &status, 0) == child && status == 0,
	   "it can be written then, and a fork child has it");
	munmap(p + 2 * MIB, MIB);
	freed(p, 8 * MIB);
	is_int(mapcache_bytes(), 0, "memory in which the program has unmapped a part is not kept");
}

/* For the kernel the object is two mappings. */
static void test_two_mappings(void)
{
	bool zero = false;
	bool scarce = true;
	char *p;

	if (tap_emulated()) {
		tap_skip(1, "the emulator moves both");
		return;
	}
	p = huge_alloc_kept(8 * MIB, false, &zero);
	if (madvise(p, 4 * MIB, MADV_DONTDUMP) != 0)
		tap_bail_out("cannot advise");
	*p = 't';
	/* As if no room were kept behind it. */
	while (mapcache_drain())
		;
	ok(!huge_realloc(p, 64 * MIB, &scarce) && !scarce && *p == 't' && huge_usable(p) == 8 * MIB,
	   "an object that is two mappings is not said to lack memory when it cannot grow");
	huge_free(p);
	mapcache_drain();
}

/* Without a background thread. */
static void test_earned(void)
{
	uint64_t decay_ms = options.decay_ms;

	trim_inline = true;
	options.decay_ms = 60000;
	freed(map(8 * MIB), 8 * MIB);
	is_int(mapcache_bytes(), 0, "what was freed once is not kept");
	mapcache_missed(8 * MIB);
	freed(map(8 * MIB), 8 * MIB);
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
	freed(map(8 * MIB), 8 * MIB);
	is_int(mapcache_bytes(), 0, "and then what is freed is not kept any more");
	is_int(mapcache_live, 0, "and no call looks at it any more");
	options.decay_ms = decay_ms;
	trim_inline = false;
}

/* Calls off the fast paths, of which none frees pages. */
static bool goes_by_calls(void)
{
	for (unsigned i = 0; i < 200 && mapcache_bytes(); i++) {
		usleep(5000);
		heap_free(heap_alloc_large(300 * 1024));
		heap_free_slow(heap_alloc_slow(100));
	}
	return mapcache_bytes() == 0;
}

/* Kept beside a background thread that then ends, or that a fork child does not have. */
static void test_inherited(void)
{
	uint64_t decay_ms = options.decay_ms;
	int status = 1;
	pid_t child;

	options.decay_ms = 3600000;
	freed(map(8 * MIB), 8 * MIB);
	heap_free(heap_alloc_large(4 * MIB));
	ok(longrun_pages(), "a long run is kept as well");
	child = fork();
	if (child == 0) {
		bool kept;

		trim_inline = true;
		longrun_fork_child();
		mapcache_fork_child(longrun_pages() != 0);
		kept = mapcache_bytes() && longrun_pages();
		heap_free_slow(heap_alloc_slow(100));
		syscall(SYS_exit_group, kept && !mapcache_bytes() && !longrun_pages() ? 0 : 1);
	}
	ok(child > 0 && waitpid(child, &status, 0) == child && status == 0,
	   "the first call of a fork child lets go what was kept before the fork");
	longrun_drain();
	options.decay_ms = 20;
	is_int(mapcache_bytes(), 8 * MIB, "with a background thread, calls leave what is kept");
	trim_inline = true;
	ok(goes_by_calls(), "without one, any call off the fast paths lets it go");
	trim_inline = false;
	options.decay_ms = decay_ms;
}

static bool all_bytes(const char *p, size_t n, char c)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != c)
			return false;
	return true;
}

/* calloc takes a mapping of which `backed` bytes were written. Returns what it is told. */
static bool calloc_zero(size_t backed, bool *reads_zero)
{
	bool zero = false;
	char *p = huge_alloc_kept(40 * MIB, false, &zero);

	memset(p, 'x', backed);
	huge_free(p);
	zero = true;
	p = huge_alloc_kept(40 * MIB, false, &zero);
	*reads_zero = all_bytes(p, 40 * MIB, 0);
	huge_free(p);
	mapcache_drain();
	return zero;
}

static void test_calloc(void)
{
	struct reclaim_report report;
	bool reads_zero;

	reclaim_drain(RECLAIM_CACHES, 0, &report);
	ok(calloc_zero(10 * MIB, &reads_zero) && reads_zero,
	   "a mapping that is backed in part is purged for calloc");
	if (vm_resident(&report, 1) == VM_UNKNOWN)
		tap_skip(1, "the kernel does not say what is backed");
	else
		ok(!calloc_zero(36 * MIB, &reads_zero) && !reads_zero,
		   "calloc writes zeros into a mapping that is mostly backed");
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
	is_int(mapcache_bytes(), 40 * MIB + 2 * vm_os_page,
	       "the mapping of a freed object is kept");
	is_int(huge_bytes(), 0, "it is no object any more");
	ok(!huge_free(p) && !huge_usable(p), "it cannot be freed twice");
	zero = true;
	q = huge_alloc_kept(36 * MIB, false, &zero);
	ok(q == p && (!zero || all_bytes(q, 36 * MIB, 0)),
	   "an object for calloc says whether it reads as zero");
	memset(q, 'y', 36 * MIB);
	ok(resized(q, 40 * MIB) == q && huge_usable(q) == 40 * MIB && all_bytes(q, 36 * MIB, 'y'),
	   "an object grows in place into what is kept behind it");
	ok(resized(q, 34 * MIB) == q && huge_usable(q) == 34 * MIB, "an object shrinks in place");
	is_int(mapcache_bytes(), 6 * MIB, "what it gives up is kept");
	ok(resized(q, 34 * MIB - 8192) == q && huge_usable(q) == 34 * MIB,
	   "a short tail stays with it");
	q = resized(q, 48 * MIB);
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
	options.vm_fail_count = 2; /* with guards, and without */
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
	struct pace pace = { 0 };

	while (pace_goes_on(&pace, TURNS)) {
		unsigned i = pace.done - 1;
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
			q = resized(p, bytes + 2 * MIB);
			p = q ? q : p;
			check(p, bytes, me);
		} else if (bytes > 2 * MIB) {
			p = resized(p, bytes - MIB);
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
	tap_plan(70);
	trim_inline = false; /* as with a background thread */
	test_pieces();
	test_rests();
	test_age();
	test_most();
	test_bound_falls();
	test_limited();
	test_hardened();
	test_ordinary();
	test_earned();
	test_inherited();
	test_calloc();
	test_objects();
	test_refused();
	test_realloc_limited();
	test_two_mappings();
	test_threads();
	return tap_done();
}
