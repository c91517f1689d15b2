/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The arena: objects of calls that can use neither heap nor lock.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/backed.h"
#include "heap/arena.h"
#include "lib/child.h"
#include "lib/free_once.h"
#include "heap/huge.h"
#include "base/lock.h"
#include "base/park.h"
#include "base/options.h"
#include "lib/refuse.h"
#include "base/stats.h"
#include "lib/pace.h"
#include "lib/tap.h"
#include "os/vm.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define THREADS 4u
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif
#define TURNS (SANITIZED ? 5000u : 40000u)

static uint64_t maps(void)
{
	return stat_sum(STAT_emergency_maps);
}

static void *get(size_t size, size_t align)
{
	char *p = arena_alloc(size, align);

	if (!p)
		tap_bail_out("no memory");
	memset(p, 0x5a, size);
	return p;
}

static bool mapped(void *p)
{
	unsigned char vec[1];

	return backed_pages((void *)align_down((uintptr_t)p, vm_os_page), vm_os_page, vec) == 0;
}

static void test_one(void)
{
	uint64_t before = maps();
	char *p = get(100, 1);
	char *q = get(0, 1);

	is_int((uintptr_t)p % 16, 0, "an object is aligned to 16 bytes");
	is_int(arena_usable(p), 112, "an object's length is known");
	ok(q && q != p && arena_usable(q) >= 1, "an allocation of no bytes gives an object");
	is_int(maps() - before, 1, "two small objects are in one mapping");
	ok(arena_covers(p) && arena_covers(p + 5000) && !arena_covers(&before),
	   "a pointer into the arena is recognized");
	is_int(arena_usable(p + 16) + arena_usable(p + 1) + arena_usable(NULL), 0,
	       "a pointer into an object is not its start");
	ok(!arena_free(p + 16) && !arena_free(p - 16) && !arena_free(p + 1) && !arena_free(NULL) &&
		   !arena_free(&before),
	   "a free of a pointer into an object frees nothing");
	arena_check();
	ok(arena_free(p) && !arena_free(p) && arena_usable(p) == 0, "an object is freed once");
	ok(mapped(p), "a mapping stays while one of its objects is in use");
	ok(arena_free(q) && !mapped(p) && !mapped(q), "a mapping goes with its last object");
	ok(!arena_free(q) && !arena_covers(q),
	   "a pointer into an unmapped mapping is not recognized");
	is_int(arena_bytes(), 0, "nothing is left of freed objects");
	arena_check();
}

static void test_sizes(void)
{
	static char *p[400];
	bool good = true;
	unsigned n = 0;

	for (size_t size = 1; size <= ARENA_SIZE_MAX; size += 1 + size / 7)
		for (size_t align = 1; align <= ARENA_ALIGN_MAX && n < 400; align *= 16) {
			p[n] = arena_alloc(size, align);
			good &= p[n] && (uintptr_t)p[n] % align == 0 &&
				arena_usable(p[n]) >= size && !((uintptr_t)p[n] % 16);
			if (!p[n])
				continue;
			memset(p[n], (int)n, arena_usable(p[n]));
			n++;
		}
	ok(good && n > 300, "the arena gives objects of each size and each alignment");
	arena_check();
	for (unsigned i = 0; i < n; i++)
		for (size_t k = 0; k < arena_usable(p[i]); k++)
			good &= p[i][k] == (char)i;
	ok(good, "objects of the arena do not overlap");
	ok(arena_takes(ARENA_SIZE_MAX, 1) && !arena_takes(ARENA_SIZE_MAX + 1, 1) &&
		   arena_takes(1, ARENA_ALIGN_MAX) && !arena_takes(1, 2 * ARENA_ALIGN_MAX),
	   "the arena refuses larger objects");
	for (unsigned i = 0; i < n; i += 2)
		good &= arena_free(p[i]);
	arena_check();
	for (unsigned i = 1; i < n; i += 2)
		good &= arena_free(p[i]);
	ok(good && arena_bytes() == 0, "all objects are freed");
}

/* When all objects of a block are freed its room is used again, and objects beside it stay. */
static void test_reuse(void)
{
	uint64_t before = maps();
	char *stays = get(1000, 1);
	bool good = true;

	for (unsigned i = 0; i < 20000; i++) {
		char *p = get(2000, 1);
		char *q = get(30 * KIB, 1);

		good &= arena_free(p) && arena_free(q);
	}
	is_int(maps() - before, 1, "room of freed objects is used again in the same mapping");
	ok(good && stays[999] == 0x5a && arena_free(stays), "no other mapping is made for them");
	arena_check();
}

/* ---- refusal -------------------------------------------------------------------------------- */

static void limited(void *arg)
{
	struct rlimit rl = { 0, 0 };
	char *p;

	(void)arg;
	getrlimit(RLIMIT_AS, &rl);
	rl.rlim_cur = 1;
	setrlimit(RLIMIT_AS, &rl);
	if (arena_alloc(100, 1) != NULL)
		_exit(2);
	rl.rlim_cur = rl.rlim_max;
	setrlimit(RLIMIT_AS, &rl);
	rl.rlim_cur = (rlim_t)1 << 60; /* limited, but enough for a sanitizer */
	setrlimit(RLIMIT_AS, &rl);
	p = arena_alloc(100, 1);
	if (!p || arena_bytes() > 256 * KIB)
		_exit(3);
	if (!arena_free(p) || !arena_alloc(ARENA_SIZE_MAX, 1))
		_exit(4);
	arena_check();
}

static void refused(void *arg)
{
	char *p;

	(void)arg;
	options.vm_fail_at = 1;
	options.vm_fail_count = 1 << 30;
	if (arena_alloc(100, 1) || arena_alloc(ARENA_SIZE_MAX, 1) || arena_bytes())
		_exit(2);
	arena_check();
	options.vm_fail_at = 0;
	p = arena_alloc(100, 1);
	if (!p || !arena_free(p))
		_exit(3);
	arena_check();
}

/* The kernel refuses the largest length, then another one. */
static void refused_some(void *arg)
{
	unsigned n = (unsigned)(uintptr_t)arg;
	static const size_t length[] = { 960 * KIB, 480 * KIB, 240 * KIB, 64 * KIB };

	options.vm_fail_at = 1;
	options.vm_fail_count = n;
	if (n == 4)
		_exit(arena_alloc(100, 1) ? 2 : 0);
	if (!arena_alloc(100, 1) || arena_bytes() != length[n])
		_exit(3);
	arena_check();
	options.vm_fail_at = 0;
	/* Objects that do not fit into the chunk go into another one. */
	for (unsigned i = 0; i < 100; i++)
		if (!arena_alloc(20000, 1))
			_exit(4);
	arena_check();
}

/* Runs until no place for a chunk is left. */
static void exhausted(void *arg)
{
	char **last = NULL;
	size_t n = 0;
	char **p;

	(void)arg;
	while ((p = arena_alloc(200 * KIB, 1)) != NULL) {
		*p = (char *)last;
		last = p;
		n++;
	}
	arena_check();
	/* 250 KiB of 960 MiB; huge objects work as before. */
	if (n < 3000 || arena_bytes() < 800 * MIB || !huge_free(huge_alloc(40 * MIB, 1)))
		_exit(2);
	while ((p = arena_alloc(100, 1)) != NULL && n < 5000000) {
		*p = (char *)last;
		last = p;
		n++;
	}
	arena_check();
	for (; last; last = p) {
		p = (char **)(void *)*last;
		if (!arena_free(last))
			_exit(3);
	}
	arena_check();
	if (arena_bytes())
		_exit(4);
}

/* There are too many mappings to unmap the middle of one. */
static void not_unmapped(void *arg)
{
	char *p = get(100, 1);
	uint64_t bytes = arena_bytes();

	(void)arg;
	if (!refuse(SYS_munmap, 1, (uint32_t)bytes, ENOMEM))
		_exit(0);
	if (!arena_free(p) || arena_bytes() != bytes || !mapped(p))
		_exit(2);
	arena_check();
	if (arena_usable(p) || arena_free(p))
		_exit(3);
	for (unsigned i = 0; i < 100; i++) {
		p = get(1000, 1);
		if (!arena_covers(p) || arena_bytes() != bytes || !arena_free(p))
			_exit(4);
	}
	arena_check();
}

static void test_refusal(void)
{
	bool good = true;

	if (tap_emulated())
		tap_skip(1, "the limit is the emulator's as well");
	else
		ok(child_is_well(limited, NULL), "a chunk is small where address space is limited");
	ok(child_is_well(refused, NULL), "a call fails when the kernel refuses a chunk");
	for (uintptr_t n = 0; n <= 4; n++)
		good &= child_is_well(refused_some, (void *)n);
	ok(good, "a shorter chunk serves when the kernel refuses a long one");
	ok(child_is_well(not_unmapped, NULL),
	   "a chunk that the kernel does not unmap is used again");
	ok(child_is_well(exhausted, NULL),
	   "without a place for a chunk calls fail, but not those for huge objects");
}

static void overwritten(void *arg)
{
	char *p = get(100, 1);

	(void)arg;
	p[-1] ^= 1; /* whatever it was */
	arena_free(p);
}

static void zeroed(void *arg)
{
	unsigned nonzero = 0;

	(void)arg;
	options.zero_on_free = 1;
	lock_fork_begin(); /* the chunk stays, so its first block comes back as it was */
	for (unsigned i = 0; i < 200; i++) {
		unsigned char *p = arena_alloc(300, 1);

		if (!p)
			_exit(2);
		for (unsigned k = 0; k < 300; k++)
			nonzero += p[k] != 0;
		memset(p, 0x55, 300);
		arena_free(p);
	}
	lock_fork_end();
	if (nonzero)
		_exit(1);
}

/* ---- fork ----------------------------------------------------------------------------------- */

static void test_kept(void)
{
	uint64_t before = maps();
	char *p;
	char *q;
	bool good = true;

	lock_fork_begin();
	for (unsigned i = 0; i < 1000; i++)
		good &= arena_free(get(500, 1));
	is_int(maps() - before, 1, "one chunk is kept for later calls while a fork is under way");
	ok(good && arena_bytes() > 0, "an empty chunk is kept while a fork is under way");
	p = get(ARENA_SIZE_MAX, 1);
	for (unsigned i = 0; i < 2; i++)
		get(ARENA_SIZE_MAX, 1);
	q = get(ARENA_SIZE_MAX, 1); /* of another chunk */
	good &= arena_free(q);
	ok(good && maps() - before == 2, "a second chunk is made when the first is full");
	lock_fork_end();
	arena_sweep();
	ok(arena_bytes() > 0 && arena_bytes() <= MIB && !mapped(q) && p[5] == 0x5a,
	   "empty chunks, and no others, are unmapped after the fork");
	arena_check();
}

/* After test_kept, with three objects. */
static void in_child(void *arg)
{
	void *p[500];

	(void)arg;
	arena_fork_child(0);
	arena_check();
	for (unsigned i = 0; i < 500; i++)
		p[i] = get(i * 10, 1);
	for (unsigned i = 0; i < 500; i++)
		if (!arena_free(p[i]))
			_exit(2);
	arena_check();
}

static atomic_bool over;

static void *busy_thread(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	void *p[8] = { NULL };

	while (!atomic_load(&over)) {
		void **at = &p[(unsigned)rand_r(&seed) % 8];

		if (*at && !arena_free(*at))
			tap_bail_out("an object is lost");
		*at = arena_alloc(16 + (size_t)rand_r(&seed) % 40000, 1);
	}
	for (unsigned i = 0; i < 8; i++)
		if (p[i])
			arena_free(p[i]);
	return NULL;
}

/* In the child of a fork that came at any step of other threads. */
static void after_threads(void *arg)
{
	void *p[300];

	(void)arg;
	arena_fork_child((uint32_t)getppid());
	for (unsigned i = 0; i < 300; i++) {
		p[i] = arena_alloc(i * 100, 1);
		if (!p[i])
			_exit(2);
		memset(p[i], 1, i * 100);
	}
	for (unsigned i = 0; i < 300; i++)
		if (!arena_free(p[i]))
			_exit(3);
}

static void test_children(void)
{
	pthread_t t[THREADS];
	bool good = true;

	ok(child_is_well(in_child, NULL),
	   "a child of fork has the parent's objects, and can allocate more");
	if (tap_emulated()) {
		tap_skip(1, "the emulator cannot fork while it has several threads");
		return;
	}
	atomic_store(&over, false);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, busy_thread, (void *)(uintptr_t)(i + 1));
	for (unsigned i = 0; i < (SANITIZED ? 20 : 200); i++)
		good &= child_is_well(after_threads, NULL);
	atomic_store(&over, true);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	ok(good, "a child that was forked while threads were inside can allocate");
}

/* ---- threads -------------------------------------------------------------------------------- */

#define PLACES 128u

static _Atomic(size_t *) places[PLACES];
static atomic_uint wrong;

static void check(size_t *p)
{
	if (arena_usable(p) < p[0] || p[p[0] / 8 - 1] != p[0])
		atomic_fetch_add(&wrong, 1);
}

static void put_back(size_t *p)
{
	if (!p)
		return;
	check(p);
	if (!arena_free(p))
		atomic_fetch_add(&wrong, 1);
}

/* mostly_empty: few objects live at a time, so that chunks come and go. */
static void stress(unsigned seed, bool mostly_empty)
{
	struct pace pace = { 0 };

	while (pace_goes_on(&pace, TURNS / (mostly_empty ? 4 : 1))) {
		unsigned r = (unsigned)rand_r(&seed);
		size_t size = 16 + (r % 8 ? r % 600 : r % 64 ? r % 20000 : r % 250000) / 8 * 8;
		size_t *p = arena_alloc(size, (size_t)1 << r % 8);

		if (!p) {
			atomic_fetch_add(&wrong, 1);
			continue;
		}
		p[0] = size;
		p[size / 8 - 1] = size;
		if (mostly_empty)
			put_back(p);
		else
			put_back(atomic_exchange(&places[r / 512 % PLACES], p));
	}
}

static void *fill_places(void *arg)
{
	stress((unsigned)(uintptr_t)arg, false);
	return NULL;
}

static void *come_and_go(void *arg)
{
	stress((unsigned)(uintptr_t)arg, true);
	return NULL;
}

static void *make_one(void)
{
	return get(100, 1);
}

static void *free_same(void *arg)
{
	return (void *)(uintptr_t)arena_free(arg);
}

/* Forks begin and end meanwhile. */
static void *forks(void *arg)
{
	while (!atomic_load(&over)) {
		lock_fork_begin();
		park_sleep_us(100);
		lock_fork_end();
		arena_sweep();
		park_sleep_us(100);
	}
	return arg;
}

static void run(void *(*fn)(void *arg), bool with_forks)
{
	pthread_t t[THREADS];
	pthread_t forker;

	atomic_store(&over, false);
	if (with_forks)
		pthread_create(&forker, NULL, forks, NULL);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, fn, (void *)(uintptr_t)(i + 1));
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	atomic_store(&over, true);
	if (with_forks)
		pthread_join(forker, NULL);
	for (unsigned i = 0; i < PLACES; i++)
		put_back(atomic_exchange(&places[i], NULL));
	arena_check();
}

static void test_threads(void)
{
	run(fill_places, false);
	is_int(atomic_load(&wrong), 0, "threads allocate and free each other's objects");
	is_int(arena_bytes(), 0, "no mapping is left after that");
	run(come_and_go, false);
	is_int(atomic_load(&wrong), 0, "threads allocate and free while chunks come and go");
	is_int(arena_bytes(), 0, "no mapping is left after chunks came and went");
	run(come_and_go, true);
	run(fill_places, true);
	is_int(atomic_load(&wrong), 0, "threads allocate and free while forks begin and end");
	is_int(arena_bytes(), 0, "no mapping is left after forks");
	is_int(freed_not_once(make_one, free_same), 0,
	       "exactly one of several threads that free an object succeeds");
}

int main(void)
{
	tap_plan(38);
	vm_init();
	test_one();
	test_sizes();
	test_reuse();
	test_refusal();
	ok(child_is_stopped(overwritten, NULL, "the memory in front of a block was overwritten"),
	   "a write in front of an object is seen when it is freed");
	ok(child_is_well(zeroed, NULL), "with zero_on_free an object holds nothing old");
	test_threads();
	test_kept();
	test_children();
	return tap_done();
}
