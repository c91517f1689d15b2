/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fork while other threads do anything: the child can allocate, free what the parent had, and use
 * what the missing threads had.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sluice/sluice.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/bedroom.h"
#include "page/block.h"
#include "page/buddy.h"
#include "page/growth.h"
#include "lib/child.h"
#include "lib/pace.h"
#include "heap/heap.h"
#include "heap/heap_slabs.h"
#include "heap/sweep.h"
#include "reclaim/info.h"
#include "shim/init.h"
#include "reclaim/reclaim.h"
#include "base/log.h"
#include "base/stats.h"
#include "lib/tap.h"

/* A sanitizer's own locks do not survive a fork, so its child must not start threads. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define MAY_START_THREADS 0
#else
#define MAY_START_THREADS 1
#endif

#define HOT 4u
#define FORKS 200u
#define TABLE 512u
#define BLOCKS 300u
#define CHILD_SECONDS 110u /* limit for a child that hangs; a machine may be slow */
#define ALL (RECLAIM_CACHES | RECLAIM_PURGE | RECLAIM_REGIONS)

static atomic_bool stop;
static atomic_uint alloc_failed;
static atomic_uint data_lost;

/* Blocks that any thread may take out and free; a block's first word is its size. */
static _Atomic(size_t *) table[TABLE];

static size_t *block_new(size_t size)
{
	size_t *p = heap_alloc(size);

	if (!p) {
		atomic_fetch_add(&alloc_failed, 1);
		return NULL;
	}
	p[0] = size;
	p[size / 8 - 1] = size;
	return p;
}

static void give_block(size_t *p)
{
	if (p && p[p[0] / 8 - 1] != p[0])
		atomic_fetch_add(&data_lost, 1);
	heap_free(p);
}

static size_t random_size(unsigned *seed)
{
	unsigned r = (unsigned)rand_r(seed);
	size_t size = 16 + (r >> 10) % ((r & 15) ? 1000 : (r & 1023) ? 40000 : 1000000);

	return size & ~(size_t)7;
}

static void hot_step(unsigned *seed)
{
	unsigned i = (unsigned)rand_r(seed) % TABLE;
	size_t *mine = block_new(random_size(seed));

	give_block(atomic_exchange(&table[i], mine));
	give_block(block_new(random_size(seed)));
}

static void *hot_thread(void *arg)
{
	unsigned seed = 100 + (unsigned)(uintptr_t)arg;

	while (!atomic_load_explicit(&stop, memory_order_relaxed))
		for (unsigned i = 0; i < 100; i++)
			hot_step(&seed);
	heap_check();
	return NULL;
}

/* ---- what each child does ------------------------------------------------------------------- */

static void *child_thread(void *arg)
{
	unsigned seed = 7;

	(void)arg;
	for (unsigned i = 0; i < 500; i++)
		hot_step(&seed);
	heap_check();
	return NULL;
}

static void child_checks(void)
{
	struct reclaim_report r;
	unsigned seed = (unsigned)getpid();
	pthread_t t;

	alarm(test_limit(CHILD_SECONDS));
	for (unsigned i = 0; i < 300; i++)
		hot_step(&seed);
	for (unsigned i = 0; i < TABLE; i++)
		give_block(atomic_exchange(&table[i], NULL));
	heap_check();
	zone_check(&zone_main);
	if (MAY_START_THREADS) {
		if (pthread_create(&t, NULL, child_thread, NULL) != 0)
			_exit(3);
		pthread_join(t, NULL);
	}
	reclaim_drain(ALL, 0, &r);
	if (r.caches_skipped)
		_exit(4);
	heap_check();
	zone_check(&zone_main);
	if (atomic_load(&alloc_failed) || atomic_load(&data_lost))
		_exit(5);
}

/* Forks and waits. Returns whether the child found nothing wrong. */
static bool fork_good(void (*in_child)(void))
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		in_child();
		_exit(0);
	}
	if (pid < 0)
		tap_bail_out("cannot fork");
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (status != 0)
		tap_diag("a child ended with status 0x%x", (unsigned)status);
	return status == 0;
}

/* ---- with threads in the middle of calls ---------------------------------------------------- */

/* So many forks, or fewer on a slow machine. */
struct forked {
	unsigned n;
	unsigned bad;
};

static void forks_good(struct forked *f, unsigned most)
{
	struct pace pace = { 0 };

	while (pace_goes_on(&pace, most))
		f->bad += !fork_good(child_checks);
	f->n += pace.done;
}

static void *forking_thread(void *arg)
{
	struct forked *f = arg;

	forks_good(f, FORKS / 4);
	return NULL;
}

/* It spends as long on giving back as on its work. */
static void *new_thread(void *arg)
{
	size_t *p[64];

	(void)arg;
	for (unsigned i = 0; i < 64; i++)
		p[i] = block_new(16 + i * 128);
	for (unsigned i = 0; i < 64; i++)
		give_block(p[i]);
	return NULL;
}

/* Threads that start and end all the time, so that heaps are made and given up. */
static void *starting_thread(void *arg)
{
	(void)arg;
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		pthread_t t[3];

		for (unsigned i = 0; i < 3; i++)
			if (pthread_create(&t[i], NULL, new_thread, NULL) != 0)
				abort();
		for (unsigned i = 0; i < 3; i++)
			pthread_join(t[i], NULL);
	}
	return NULL;
}

static void test_hot(void)
{
	uint64_t forks = stat_sum(STAT_forks);
	pthread_t hot[HOT + 1];
	pthread_t forker;
	struct forked here = { 0, 0 };
	struct forked elsewhere = { 0, 0 };

	for (unsigned i = 0; i < HOT; i++)
		pthread_create(&hot[i], NULL, hot_thread, (void *)(uintptr_t)i);
	pthread_create(&hot[HOT], NULL, starting_thread, NULL);
	forks_good(&here, FORKS / 2);
	is_int(here.bad, 0, "children work that were forked while threads are in malloc and free");
	pthread_create(&forker, NULL, forking_thread, &elsewhere);
	forks_good(&here, FORKS / 4);
	pthread_join(forker, NULL);
	is_int(here.bad + elsewhere.bad, 0, "children work when two threads fork at the same time");
	atomic_store(&stop, true);
	for (unsigned i = 0; i <= HOT; i++)
		pthread_join(hot[i], NULL);
	is_int(stat_sum(STAT_forks) - forks, here.n + elsewhere.n, "each fork is counted");
	is_int(atomic_load(&alloc_failed), 0, "no allocation fails in the parent");
	is_int(atomic_load(&data_lost), 0, "no block of the parent loses its data");
	for (unsigned i = 0; i < TABLE; i++)
		give_block(atomic_exchange(&table[i], NULL));
	heap_check();
	zone_check(&zone_main);
}

/* ---- with threads that end ------------------------------------------------------------------ */

#define STARTERS 3u
#define QUICK_FORKS 150u

static atomic_bool slow_forks;

/* What test_scarce does during its fork. */
static enum { SCARCE_NOT, SCARCE_READY, SCARCE_LOCKED, SCARCE_DONE, SCARCE_OVER } _Atomic scarce;

/* Runs after our own handler, so that locks are held for longer than any thread waits for them. */
static void slow_prepare(void)
{
	const struct timespec ts = { 0, 3000000 };

	if (atomic_load(&slow_forks))
		nanosleep(&ts, NULL);
	if (atomic_load(&scarce) != SCARCE_READY)
		return;
	atomic_store(&scarce, SCARCE_LOCKED);
	while (atomic_load(&scarce) != SCARCE_DONE)
		nanosleep(&ts, NULL);
}

/* Before the library's constructor, because prepare handlers run in reverse order. */
static void register_slow_prepare(void)
{
	pthread_atfork(slow_prepare, NULL, NULL);
}
__attribute__((section(".init_array.00050"),
	       used)) static void (*const first_of_all)(void) = register_slow_prepare;

static void child_ends(void)
{
}

static void test_ending(void)
{
	uint64_t heaps = stat_sum(STAT_heaps_made);
	struct pace pace = { 0 };
	pthread_t t[STARTERS];
	unsigned bad = 0;

	atomic_store(&stop, false);
	atomic_store(&slow_forks, true);
	for (unsigned i = 0; i < STARTERS; i++)
		pthread_create(&t[i], NULL, starting_thread, NULL);
	while (pace_goes_on(&pace, QUICK_FORKS))
		bad += !fork_good(child_ends);
	atomic_store(&slow_forks, false);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < STARTERS; i++)
		pthread_join(t[i], NULL);
	is_int(bad, 0, "children work that were forked while threads start and end");
	heaps = stat_sum(STAT_heaps_made) - heaps;
	ok(heaps <= STARTERS * 4 + 4, "heaps of threads that ended during forks are used again");
	tap_diag("%lu heaps made", heaps);
}

/* ---- calls while a fork has all locks ------------------------------------------------------ */

static unsigned reclaims;

static bool count_reclaim(void)
{
	reclaims++;
	return false;
}

/* It needs slabs and page blocks, and gets none of them. */
static void *scarce_thread(void *arg)
{
	size_t *p[BLOCKS];
	void *blocks[8];
	size_t n;

	(void)arg;
	give_block(block_new(16));
	while (atomic_load(&scarce) != SCARCE_LOCKED)
		sched_yield();
	for (unsigned i = 0; i < BLOCKS; i++)
		p[i] = block_new(16 + (size_t)i * 80);
	n = sluice_page_alloc_bulk(4, 8, blocks);
	atomic_store(&scarce, SCARCE_DONE);
	for (unsigned i = 0; i < BLOCKS; i++)
		give_block(p[i]);
	sluice_page_free_bulk(4, n, blocks);
	/* A thread that ended before the fork leaks in the child, says TSan. */
	while (atomic_load(&scarce) != SCARCE_OVER)
		sched_yield();
	return NULL;
}

static void test_scarce(void)
{
	bool (*before)(void) = heap_reclaim;
	pthread_t t;

	heap_reclaim = count_reclaim;
	atomic_store(&scarce, SCARCE_READY);
	pthread_create(&t, NULL, scarce_thread, NULL);
	ok(fork_good(child_ends), "a fork ends while another thread's calls get no page");
	atomic_store(&scarce, SCARCE_OVER);
	pthread_join(t, NULL);
	is_int(reclaims, 0, "calls that get no page during a fork do not reclaim");
	is_int(atomic_load(&alloc_failed), 0, "none of them fails");
	heap_reclaim = before;
}

/* ---- what sleeping threads had -------------------------------------------------------------- */

#define SLEEPERS 6u

static size_t *kept[SLEEPERS][BLOCKS];

static void *sleeper(void *arg)
{
	size_t **mine = arg;

	for (unsigned i = 0; i < BLOCKS; i++)
		mine[i] = block_new(16 + (size_t)i * 80);
	for (unsigned i = 0; i < BLOCKS; i += 3) {
		give_block(mine[i]);
		mine[i] = NULL;
	}
	bedroom_sleep();
	heap_check();
	for (unsigned i = 0; i < BLOCKS; i++)
		give_block(mine[i]);
	return NULL;
}

static void *free_kept(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < SLEEPERS; i++)
		for (unsigned k = 0; k < BLOCKS; k++)
			give_block(kept[i][k]);
	return NULL;
}

/* The child frees everything that the parent's threads had; then nothing of it is left. */
static void child_frees_all(void)
{
	struct reclaim_report r;
	struct info in;
	uint64_t most = 0;
	pthread_t t;

	alarm(test_limit(CHILD_SECONDS));
	/* A thread that ends keeps nothing; this thread's bins would. */
	if (!MAY_START_THREADS)
		free_kept(NULL);
	else if (pthread_create(&t, NULL, free_kept, NULL) != 0 || pthread_join(t, NULL) != 0)
		_exit(8);
	heap_check();
	reclaim_drain(ALL, 0, &r);
	reclaim_drain(ALL, 0, &r);
	info_collect(&in, NULL);
	if (in.pcp_bytes)
		_exit(3);
	if (in.large_bytes)
		_exit(4);
	/* This thread's own heap may keep a slab for each class, or its bins one of each thread. */
	for (unsigned cls = 0; cls < CLASSES; cls++)
		most += (uint64_t)size_classes[cls].pages << PG_SHIFT;
	if (in.slab_bytes > most * (MAY_START_THREADS ? 1 : SLEEPERS)) {
		log_warn("%lu bytes of slabs are left", (unsigned long)in.slab_bytes);
		_exit(5);
	}
	for (struct heap *h = heap_first(); h; h = heap_next(h))
		if (h != heap_self && (!h->drained || (h->claim & CLAIM_STATE) == CLAIM_HELD))
			_exit(6);
	if (stat_sum(STAT_heaps_quarantined))
		_exit(7);
}

/* What the parent's threads had is taken only when the child needs many slabs. */
static void child_needs_slabs(void)
{
	uint64_t before = stat_sum(STAT_slabs_abandoned);

	for (size_t size = 16; size <= 2048; size *= 2)
		if (!block_new(size))
			_exit(3);
	if (stat_sum(STAT_slabs_abandoned) != before)
		_exit(4);
	for (unsigned i = 0; i < 1000 && stat_sum(STAT_slabs_abandoned) == before; i++)
		for (unsigned k = 0; k < 64; k++)
			if (!block_new(2048))
				_exit(5);
	if (stat_sum(STAT_slabs_abandoned) == before)
		_exit(6);
}

static void child_of_child(void)
{
	if (!fork_good(child_checks))
		_exit(3);
	child_checks();
}

static bool locks_are_free(void)
{
	for (struct heap *h = heap_fallback.heap; h; h = heap_next(h))
		if (atomic_load(&h->pcp.lock.word))
			return false;
	for (unsigned cls = 0; cls < CLASSES; cls++)
		if (atomic_load(&slab_pool_lock(cls)->word))
			return false;
	return !atomic_load(&zone_main.lock.word) && !atomic_load(&zone_main.grow.word) &&
	       !atomic_load(&reclaim_control.word) && !lock_fork_under_way();
}

static void child_looks_at_locks(void)
{
	if (!locks_are_free())
		_exit(3);
}

static void test_sleepers(void)
{
	bool (*before_growth)(uint64_t pages) = growth_ask_others;
	pthread_t t[SLEEPERS];

	growth_ask_others = NULL; /* it would empty the heaps of sleeping and missing threads */
	for (unsigned i = 0; i < SLEEPERS; i++)
		pthread_create(&t[i], NULL, sleeper, kept[i]);
	bedroom_wait(SLEEPERS);
	ok(fork_good(child_looks_at_locks), "no lock is held in the child");
	ok(locks_are_free(), "no lock is held in the parent");
	ok(fork_good(child_frees_all), "the child can give back all that sleeping threads had");
	ok(fork_good(child_needs_slabs),
	   "the child leaves the heaps of missing threads alone until it needs many slabs");
	ok(fork_good(child_of_child), "a child can fork");
	bedroom_wake();
	for (unsigned i = 0; i < SLEEPERS; i++)
		pthread_join(t[i], NULL);
	growth_ask_others = before_growth;
	is_int(atomic_load(&data_lost), 0, "the parent's threads go on with what they had");
}

/* ---- a thread that was inside a call -------------------------------------------------------- */

#define HAS_RUN 100000u

static struct heap *heap_inside;

static void *stays_inside(void *arg)
{
	size_t **mine = arg;

	for (unsigned i = 0; i < BLOCKS; i++)
		mine[i] = block_new(16 + (size_t)i * 80);
	heap_inside = heap_self;
	heap_free(heap_alloc(HAS_RUN));
	if (!atomic_load(&heap_self->pcp.count))
		tap_bail_out("a freed block of %u bytes is not in the pcp", HAS_RUN);
	atomic_store(&heap_self->busy, 1); /* as in the middle of a malloc */
	bedroom_sleep();
	atomic_store(&heap_self->busy, 0);
	heap_check();
	for (unsigned i = 0; i < BLOCKS; i++)
		give_block(mine[i]);
	return NULL;
}

/* A background thread would not park while something is in a pcp, and looks at no such heap. */
static void child_sweeps_quarantine(void)
{
	if (!heap_is_quarantined(heap_inside) || !atomic_load(&heap_inside->pcp.count))
		_exit(3);
	heap_sweep();
	if (atomic_load(&heap_inside->pcp.count))
		_exit(4);
}

/* The heap is left alone, but its objects can be freed. */
static void child_with_quarantine(void)
{
	struct reclaim_report r;

	alarm(test_limit(CHILD_SECONDS));
	if (stat_sum(STAT_heaps_quarantined) != 1)
		_exit(3);
	for (unsigned k = 0; k < BLOCKS; k++)
		give_block(kept[0][k]);
	reclaim_drain(ALL, 0, &r);
	heap_check();
	child_checks();
}

static void test_inside(void)
{
	pthread_t t;

	bedroom.asleep = 0;
	bedroom.wake = false;
	pthread_create(&t, NULL, stays_inside, kept[0]);
	bedroom_wait(1);
	ok(fork_good(child_with_quarantine),
	   "the child leaves the heap of a thread that stays in malloc alone");
	ok(fork_good(child_sweeps_quarantine), "a sweep of the child empties the pcp of that heap");
	ok(atomic_load(&heap_inside->busy), "the fork waits a bounded time for a thread in malloc");
	bedroom_wake();
	pthread_join(t, NULL);
	is_int(atomic_load(&data_lost), 0, "the thread in malloc goes on in the parent");
	heap_check();
	zone_check(&zone_main);
}

/* ---- a child of vfork ----------------------------------------------------------------------- */

static noinline void fork_and_look(void)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0)
		_exit(lock_holds ? 3 : 0);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		_exit(4);
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 5);
}

/* The TID of this thread is not known yet. Its child of vfork, in which it may not be noted, takes
 * the locks by its own. */
static void *vfork_that_forks(void *arg)
{
	int status = -1;
	pid_t pid;

	(void)arg;
	if (lock_tid)
		return (void *)(intptr_t)status;
	pid = vfork();
	if (pid == 0)
		fork_and_look();
	waitpid(pid, &status, 0);
	return (void *)(intptr_t)status;
}

static void test_vfork(void)
{
	pthread_t t;
	void *status;

	pthread_create(&t, NULL, vfork_that_forks, NULL);
	pthread_join(t, &status);
	is_int((intptr_t)status, 0,
	       "if a child of vfork forks, no lock counts as held in that child");
}

int main(void)
{
	if (tap_emulated())
		tap_skip_all("the emulator cannot fork while it has several threads");
	tap_plan(21);
	sluice_init();
	test_sleepers();
	test_inside();
	test_vfork();
	test_hot();
	test_ending();
	test_scarce();
	return tap_done();
}
