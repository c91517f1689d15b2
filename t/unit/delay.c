/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A slow thread does not slow others down: a thread is stopped at each point of
 * delay.def, one after the other, and meanwhile another thread gets through
 * thousands of calls. The first thread stays where it is until the calls are
 * done, so the other waits for it nowhere, however long a step takes.
 *
 * While a lock that the owners share is held (POOL, GROW, BUDDY) the other
 * thread makes only calls that find what they need in its bins. While a pcp, a
 * heap, the fallback heap or a fork is held, it makes calls of all kinds.
 *
 * TIMEOUT: 300
 */
#define WANTS_BACKGROUND
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <errno.h>
#include <sluice/sluice.h>
#include <sys/mman.h>
#include <time.h>

#include "base/delay.h"
#include "base/options.h"
#include "base/park.h"
#include "heap/arena.h"
#include "heap/claim.h"
#include "heap/heap_call.h"
#include "heap/heap_slabs.h"
#include "heap/heap_work.h"
#include "heap/slab_pool.h"
#include "heap/sweep.h"
#include "lib/barrier.h"
#include "lib/child.h"
#include "lib/core.h"
#include "lib/points.h"
#include "lib/tap.h"
#include "lib/worker.h"
#include "page/block.h"
#include "page/buddy.h"
#include "page/longrun.h"
#include "page/meta.h"
#include "page/prefault.h"
#include "page/purge.h"
#include "page/region.h"
#include "reclaim/background.h"
#include "shim/init.h"

/* A sanitizer's own locks do not survive a fork, so its child must not start
 * threads. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define CHILD_MAY_START_THREADS 0
#else
#define CHILD_MAY_START_THREADS 1
#endif

#define CALLS 5000u
#define SLOTS 256u
#define PATIENCE_S 60

/* ---- the threads
 * ----------------------------------------------------------------------------
 */

static _Thread_local bool slow;

static struct worker owner;   /* makes the calls meanwhile */
static struct worker sleeper; /* has objects in its heap */

static struct {
	enum delay_point at;
	bool anybody;       /* any thread, not the slow one only */
	bool (*when)(void); /* stops only if it returns true; NULL: each time */
	_Atomic bool armed; /* no thread has been stopped yet */
	_Atomic bool arrived;
	_Atomic bool go;
} stop;

static void at_point(enum delay_point p)
{
	bool armed = true;

	if (p != stop.at || !(slow || stop.anybody) || (stop.when && !stop.when()) ||
	    !atomic_compare_exchange_strong(&stop.armed, &armed, false))
		return;
	atomic_store(&stop.arrived, true);
	while (!atomic_load(&stop.go))
		sleep_us(200);
}

/* At the owner's heap, not at some other heap. */
static bool owner_is_held(void)
{
	return (atomic_load(&owner.heap->claim) & CLAIM_STATE) == CLAIM_HELD;
}

/* ---- what brings the slow thread there ------------------------------------------------------ */

static void age_heaps(void)
{
	heap_age_all(heap_idle_mark(false));
}

static void drain_owners_pages(void)
{
	pcp_drain(&owner.heap->pcp);
}

static void purge(void)
{
	void *p = alloc((size_t)RUN * PG_BYTES * 4);

	memset(p, 1, (size_t)RUN * PG_BYTES * 4);
	heap_free(p);
	longrun_drain();
	zone_purge(&zone_main, 0, UINT64_MAX);
}

static void fill_ready(void)
{
	prefault_fill(&zone_main, 1, UINT64_MAX);
	prefault_release(&zone_main, 0, UINT64_MAX);
}

/* Frees all that the sleeper has. */
static void free_sleepers(void)
{
	free_all(&sleeper);
	heap_abandon_own();
	heap_sweep();
}

/* The same when no thread owns the sleeper's slabs. */
static void free_abandoned(void)
{
	heap_idle_take(heap_idle_mark(false));
	free_sleepers();
}

/* What another thread freed waits in the sleeper's inbox. */
static void drain_posted(void)
{
	for (unsigned i = 0; i < sleeper.n; i += 2) {
		heap_free(sleeper.p[i]);
		sleeper.p[i] = NULL;
	}
	heap_abandon_own();
	heap_sweep();
	heap_idle_take(heap_idle_mark(false));
}

static void punch_holes(void)
{
	for (unsigned i = 0; i < sleeper.n; i++) {
		if (i % 64 == 0)
			continue;
		heap_free(sleeper.p[i]);
		sleeper.p[i] = NULL;
	}
	heap_abandon_own();
	heap_sweep();
	heap_idle_take(heap_idle_mark(false));
	slab_pool_punch(true, UINT64_MAX);
}

static void release_regions(void)
{
	grow();
	longrun_drain();
	zone_release_regions(&zone_main);
}

static void long_runs(void)
{
	for (unsigned i = 0; i < 2; i++)
		heap_free(alloc((size_t)3 << 20));
}

static void map(void)
{
	heap_free(alloc((size_t)RUN_PAGES_MAX * PG_BYTES + 1));
}

/* What was unmapped and needed again is kept the next time. */
static void map_again(void)
{
	for (unsigned i = 0; i < 4; i++)
		map();
}

static void use_up_meta(void)
{
	while (!atomic_load(&stop.arrived))
		if (!meta_alloc(32 * META_ALIGN))
			tap_bail_out("no memory");
}

static void free_deferred(void)
{
	struct page *pg = buddy_alloc(&zone_main, 1);

	if (!pg || lock_acquire(&zone_main.lock) != 0)
		tap_bail_out("no page");
	buddy_free(pg);
	lock_release(&zone_main.lock);
	one_call();
	drain_all();
}

static void *hold_zone(void *arg)
{
	sem_t *held = arg;

	if (lock_acquire(&zone_main.lock) != 0)
		tap_bail_out("cannot take the zone's lock");
	sem_post(held);
	while (!atomic_load(&stop.arrived) && !atomic_load(&stop.go))
		sleep_us(200);
	lock_release(&zone_main.lock);
	return NULL;
}

/* A slab of each class, and more, waits in the bins. */
static void drain_all_classes(void)
{
	void *p[8];

	for (unsigned cls = 0; cls < CLASSES; cls++) {
		for (unsigned i = 0; i < 8; i++)
			p[i] = alloc(class_size(cls));
		for (unsigned i = 0; i < 8; i++)
			heap_free(p[i]);
	}
	drain_all();
}

static void wait_for_zone(void)
{
	pthread_t t;
	sem_t held;

	sem_init(&held, 0, 0);
	start(&t, hold_zone, &held);
	while (sem_wait(&held) != 0)
		;
	if (lock_acquire(&zone_main.lock) == 0)
		lock_release(&zone_main.lock);
	pthread_join(t, NULL);
}

static void *want_zone(void *arg)
{
	if (lock_acquire(&zone_main.lock) == 0)
		lock_release(&zone_main.lock);
	return arg;
}

static void wake_for_zone(void)
{
	pthread_t t;

	if (lock_acquire(&zone_main.lock) != 0)
		tap_bail_out("cannot take the zone's lock");
	start(&t, want_zone, NULL);
	/* A thread that waits counts itself first and asks to be woken later. */
	while (!(atomic_load(&zone_main.lock.sleep) & LOCK_SLEEPERS))
		sleep_us(200);
	lock_release(&zone_main.lock);
	pthread_join(t, NULL);
}

static void *mark_all(void *arg)
{
	heap_idle_mark(false);
	return arg;
}

static void be_marked(void)
{
	pthread_t t;

	one_call();
	start(&t, mark_all, NULL);
	pthread_join(t, NULL);
	one_call();
}

static void wake_the_parked(void)
{
	for (unsigned i = 0; i < 100000 && !atomic_load(&park_word); i++)
		sleep_us(1000);
	pages();
}

static void arena_alone(void)
{
	arena_free(arena_alloc(100, 1));
}

static void arena_in_fork(void)
{
	lock_fork_begin();
	arena_alone();
	lock_fork_end();
	arena_sweep();
}

/* In a child of fork; test_orphan. */
static void take_orphans(void)
{
	while (!atomic_load(&stop.arrived)) {
		one_call();
		heap_take_orphan();
	}
}

/* Waits for the background thread to pass. */
static void wait_for_it(void)
{
	one_call();
	while (!atomic_load(&stop.arrived) && !atomic_load(&stop.go))
		sleep_us(1000);
}

static void end_it(void)
{
	background_set(false);
}

/* ---- what the other thread does meanwhile
 * --------------------------------------------------- */

static uint32_t seed = 1;

static uint32_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 17;
	seed ^= seed << 5;
	return seed;
}

/* Small objects, blocks of pages, now and then a mapping. Leaves objects of the
 * sleeper's heap alone, because the slow thread may be using them. */
static void all_kinds(struct worker *w)
{
	static unsigned char *p[SLOTS];

	(void)w;
	for (unsigned i = 0; i < CALLS; i++) {
		unsigned at = rnd() % SLOTS;
		uint32_t kind = rnd() % 1024;
		size_t size = kind < 960    ? 16 + rnd() % 4000
			      : kind < 1022 ? 16 + rnd() % 600000
					    : RUN_PAGES_MAX * PG_BYTES + 1;

		if (p[at] && *p[at] != (unsigned char)at)
			tap_bail_out("an object was overwritten");
		if (p[at])
			heap_free(p[at]);
		p[at] = alloc(size);
		*p[at] = (unsigned char)at;
	}
	for (unsigned i = 0; i < SLOTS; i++) {
		if (p[i])
			heap_free(p[i]);
		p[i] = NULL;
	}
}

static void from_bins(struct worker *w)
{
	(void)w;
	for (unsigned i = 0; i < CALLS; i++) {
		void *a = alloc(100);
		void *b = alloc(100);

		heap_free(a);
		heap_free(b);
	}
}

/* Calls that can use neither heap nor lock. One object always stays, so that
 * they need not make a chunk each time. */
static void arena_calls(struct worker *w)
{
	void *p[8] = { NULL };

	(void)w;
	for (unsigned i = 0; i < CALLS; i++) {
		void **at = &p[i % 8];

		if (*at && !arena_free(*at))
			tap_bail_out("an object is lost");
		*at = arena_alloc(16 + rnd() % 30000, 1);
		if (!*at)
			tap_bail_out("no memory");
	}
	for (unsigned i = 0; i < 8; i++)
		arena_free(p[i]);
}

static void meta_calls(struct worker *w)
{
	(void)w;
	for (unsigned i = 0; i < CALLS; i++) {
		char *p = meta_alloc(META_ALIGN);

		if (!p || p[0])
			tap_bail_out("no memory, or somebody else's");
		p[0] = 1;
	}
}

static void warm_up(struct worker *w)
{
	from_bins(w);
	for (unsigned i = 0; i < 4; i++)
		pages();
}

enum { BARRIER = 1, DRAIN = 2, ANYBODY = 4 };

static const struct {
	void (*job)(void);               /* of the slow thread */
	void (*calls)(struct worker *w); /* of the owner meanwhile */
	unsigned flags; /* BARRIER: needs membarrier; DRAIN: a drain also gets through */
	bool (*when)(void);
} steps[DELAY_POINTS] = {
	[DELAY_held_CONTROL] = { drain_all, all_kinds, 0, NULL },
	[DELAY_held_REGISTRY] = { one_call, all_kinds, 0, NULL },
	[DELAY_held_FALLBACK] = { fall_back, all_kinds, 0, NULL },
	[DELAY_held_POOL] = { abandon_own, from_bins, 0, NULL },
	[DELAY_held_GROW] = { grow, from_bins, 0, NULL },
	[DELAY_held_PCP] = { drain_owners_pages, all_kinds, 0, NULL },
	[DELAY_held_BUDDY] = { pages, from_bins, 0, NULL },
	[DELAY_lock_sleep] = { wait_for_zone, all_kinds, DRAIN, NULL },
	[DELAY_lock_marked] = { wait_for_zone, all_kinds, DRAIN, NULL },
	[DELAY_lock_stuck] = { wait_for_zone, all_kinds, DRAIN, NULL },
	[DELAY_lock_wake] = { wake_for_zone, all_kinds, DRAIN, NULL },
	[DELAY_longrun_take] = { long_runs, all_kinds, DRAIN, NULL },
	[DELAY_pcp_refill] = { pages, all_kinds, DRAIN, NULL },
	[DELAY_pcp_spill] = { pages, all_kinds, DRAIN, NULL },
	[DELAY_pcp_drain_taken] = { drain_owners_pages, all_kinds, DRAIN, NULL },
	[DELAY_pcp_drain_again] = { drain_owners_pages, all_kinds, DRAIN, NULL },
	[DELAY_buddy_defer] = { free_deferred, from_bins, 0, NULL },
	[DELAY_grow_committed] = { grow, from_bins, 0, NULL },
	[DELAY_region_taken] = { release_regions, from_bins, 0, NULL },
	[DELAY_purge_taken] = { purge, all_kinds, DRAIN, NULL },
	[DELAY_vm_purge] = { purge, all_kinds, DRAIN, NULL },
	[DELAY_purge_done] = { purge, all_kinds, DRAIN, NULL },
	[DELAY_vm_populate] = { fill_ready, all_kinds, DRAIN, NULL },
	[DELAY_prefault_taken] = { fill_ready, all_kinds, DRAIN, NULL },
	[DELAY_prefault_filled] = { fill_ready, all_kinds, DRAIN, NULL },
	[DELAY_critical_enter] = { one_call, all_kinds, DRAIN, NULL },
	[DELAY_critical_exit] = { one_call, all_kinds, DRAIN, NULL },
	[DELAY_claim_take_back] = { be_marked, all_kinds, DRAIN | BARRIER, NULL },
	[DELAY_claim_taken_back] = { be_marked, all_kinds, DRAIN | BARRIER, NULL },
	[DELAY_claim_marking] = { drain_all, all_kinds, BARRIER, NULL },
	[DELAY_claim_marked] = { drain_all, all_kinds, BARRIER, NULL },
	[DELAY_claim_barrier] = { drain_all, all_kinds, BARRIER, NULL },
	[DELAY_claim_held] = { drain_all, all_kinds, BARRIER, owner_is_held },
	[DELAY_claim_taken] = { drain_all, all_kinds, BARRIER, owner_is_held },
	[DELAY_claim_emptied] = { drain_all, all_kinds, BARRIER, owner_is_held },
	[DELAY_claim_aged] = { age_heaps, all_kinds, BARRIER, owner_is_held },
	[DELAY_drain_batch] = { drain_all_classes, all_kinds, DRAIN, NULL },
	[DELAY_claim_exit] = { one_call, all_kinds, DRAIN, NULL },
	[DELAY_orphan_taken] = { take_orphans, NULL, 0, NULL }, /* test_orphan */
	[DELAY_slab_remote] = { free_sleepers, all_kinds, DRAIN, NULL },
	[DELAY_slab_posting] = { free_sleepers, all_kinds, DRAIN, NULL },
	[DELAY_inbox_push] = { free_sleepers, all_kinds, DRAIN, NULL },
	[DELAY_inbox_taken] = { drain_posted, all_kinds, BARRIER, NULL },
	[DELAY_slab_collect] = { drain_posted, all_kinds, BARRIER, NULL },
	[DELAY_slab_abandon] = { abandon_own, from_bins, 0, NULL },
	[DELAY_slab_adopt] = { free_abandoned, all_kinds, DRAIN | BARRIER, NULL },
	[DELAY_holes_limbo] = { punch_holes, all_kinds, DRAIN | BARRIER, NULL },
	[DELAY_holes_carve] = { punch_holes, all_kinds, DRAIN | BARRIER, NULL },
	[DELAY_holes_purged] = { punch_holes, all_kinds, DRAIN | BARRIER, NULL },
	[DELAY_holes_return] = { punch_holes, all_kinds, DRAIN | BARRIER, NULL },
	[DELAY_huge_claimed] = { map, all_kinds, DRAIN, NULL },
	[DELAY_huge_seized] = { map, all_kinds, DRAIN, NULL },
	[DELAY_mapcache_take] = { map_again, all_kinds, DRAIN, NULL },
	[DELAY_mapcache_put] = { map_again, all_kinds, DRAIN, NULL },
	[DELAY_arena_making] = { arena_alone, arena_calls, DRAIN, NULL },
	[DELAY_arena_taken] = { arena_alone, arena_calls, DRAIN, NULL },
	[DELAY_arena_freed] = { arena_alone, arena_calls, DRAIN, NULL },
	[DELAY_arena_emptied] = { arena_alone, arena_calls, DRAIN, NULL },
	[DELAY_arena_kept] = { arena_in_fork, arena_calls, 0, NULL },
	[DELAY_arena_unmap] = { arena_alone, arena_calls, DRAIN, NULL },
	[DELAY_meta_chunk] = { use_up_meta, meta_calls, DRAIN, NULL },
	[DELAY_fork_claimed] = { fork_once, all_kinds, BARRIER, NULL },
	[DELAY_fork_locked] = { fork_once, all_kinds, 0, NULL },
	/* Last, because from here on there is a background thread. */
	[DELAY_park_set] = { wait_for_it, all_kinds, ANYBODY | BARRIER, NULL },
	[DELAY_park_barrier] = { wait_for_it, all_kinds, ANYBODY | BARRIER, NULL },
	[DELAY_park_sleep] = { wait_for_it, all_kinds, ANYBODY | BARRIER, NULL },
	[DELAY_park_wake] = { wake_the_parked, all_kinds, DRAIN | BARRIER, NULL },
	[DELAY_background_ends] = { end_it, all_kinds, ANYBODY | DRAIN | BARRIER, NULL },
};

static bool is_of_background(unsigned p)
{
	return p >= DELAY_park_set && p <= DELAY_background_ends;
}

/* ---- one step
 * -------------------------------------------------------------------------------
 */

static void *slow_main(void *arg)
{
	void (*job)(void) = steps[*(enum delay_point *)arg].job;

	slow = true;
	job();
	return NULL;
}

static bool arrives(void)
{
	for (unsigned i = 0; i < PATIENCE_S * 1000 && !atomic_load(&stop.arrived); i++)
		sleep_us(1000);
	return atomic_load(&stop.arrived);
}

/* The owner gets through its calls while the slow thread stays where it is. */
static bool goes_on(void (*calls)(struct worker *w))
{
	struct timespec until;
	bool done;

	worker_tell(&owner, calls);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE_S;
	while (!(done = sem_timedwait(&owner.done, &until) == 0) && errno == EINTR)
		;
	if (!done) {
		atomic_store(&stop.go, true);
		while (sem_wait(&owner.done) != 0)
			;
	}
	return done && !atomic_load(&stop.go);
}

/* Slabs may be in transit while the background thread runs. */
static uint64_t slabs_left(uint64_t expected)
{
	for (unsigned i = 0; i < PATIENCE_S * 50; i++) {
		drain_all();
		if (value("slab_bytes") <= expected)
			break;
		sleep_us(20000);
	}
	return value("slab_bytes");
}

static void test_step(enum delay_point p)
{
	uint64_t slabs;
	bool arrived;
	pthread_t t;

	if ((steps[p].flags & BARRIER) && (UNDER_TSAN || !membarrier_global())) {
		tap_skip(3, "no membarrier, or ThreadSanitizer, which does not know it");
		return;
	}
	drain_all();
	slabs = value("slab_bytes");
	worker_begin(&sleeper);
	worker_do(&sleeper, fill);
	worker_begin(&owner);
	worker_do(&owner, warm_up);

	stop.at = p;
	stop.anybody = steps[p].flags & ANYBODY;
	stop.when = steps[p].when;
	atomic_store(&stop.arrived, false);
	atomic_store(&stop.go, false);
	atomic_store(&stop.armed, true);
	start(&t, slow_main, &p);
	arrived = arrives();
	ok(arrived, "%s: a thread is stopped there", delay_name(p));
	ok(arrived && goes_on(steps[p].calls), "%s: another thread makes %u calls meanwhile",
	   delay_name(p), CALLS);
	if (arrived && (steps[p].flags & DRAIN))
		drain_all();
	atomic_store(&stop.armed, false);
	atomic_store(&stop.go, true);
	pthread_join(t, NULL);

	worker_do(&owner, check);
	arrived = intact(&sleeper);
	worker_do(&sleeper, free_all);
	worker_end(&sleeper);
	worker_end(&owner);
	ok(arrived && slabs_left(slabs) <= slabs, "delays lose nothing and overwrite nothing");
	zone_check(&zone_main);
}

/* ---- orphans
 * -------------------------------------------------------------------------------
 */

/* Threads of a child that stay until all have a heap. */
#define SEATS 64u
static struct heap *seat[SEATS];
static _Atomic unsigned seated;
static _Atomic bool *stand_up; /* shared with the child */
static bool slow_at_first;     /* the slow thread is so in its first call already */

static void *sit(void *arg)
{
	struct heap **at = arg;

	one_call();
	*at = heap_self;
	atomic_fetch_add(&seated, 1);
	while (!atomic_load(stand_up))
		sleep_us(200);
	one_call();
	return NULL;
}

static void *sit_slowly(void *arg)
{
	if (!slow_at_first)
		one_call();
	slow = true;
	if (!slow_at_first)
		take_orphans();
	return sit(arg);
}

static void wait_for_seats(unsigned n)
{
	for (unsigned i = 0; i < PATIENCE_S * 5000 && atomic_load(&seated) < n; i++)
		sleep_us(200);
}

/* A thread that meets the registry's lock has no heap. */
static bool seats_differ(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		for (unsigned k = 0; k < i; k++)
			if (seat[i] == seat[k] && heap_is_real(seat[i]))
				return false;
	return true;
}

static unsigned heaps_that_wait(void)
{
	unsigned n = 0;

	for (struct heap *h = heap_first(); h; h = heap_next(h))
		n += atomic_load(&h->unattached);
	return n;
}

enum { ORPHAN_NOT_MET = 3, ORPHAN_SHARED = 4, MORE = 6 };

/* Starts n further threads, of which all, or all but one, get a heap soon. */
static unsigned seat_more(pthread_t *t, unsigned have, unsigned n, bool all)
{
	for (unsigned i = have; i < have + n; i++)
		start(&t[i], sit, &seat[i]);
	wait_for_seats(have + n - !all);
	return have + n;
}

static void end_seats(pthread_t *t, unsigned n)
{
	atomic_store(stand_up, true);
	while (n)
		pthread_join(t[--n], NULL);
	atomic_store(stand_up, false);
	atomic_store(&seated, 0);
}

/* reap takes a heap only if its thread is gone, in the parent, too. */
static void end_parents_seats(void)
{
	unsigned n = atomic_load(&seated);

	atomic_store(stand_up, true);
	for (unsigned i = 0; i < n; i++)
		while (!lock_thread_gone(atomic_load(&seat[i]->tid)))
			sleep_us(200);
	atomic_store(stand_up, false);
	atomic_store(&seated, 0);
}

/* No heap waits for a thread. One is stopped while it takes an orphan, in its
 * first call or in a later one; others begin meanwhile, reap it, and begin
 * afterwards as well. */
static void child_orphans(void *arg)
{
	pthread_t t[SEATS];
	unsigned n = 1;

	(void)arg;
	end_parents_seats();
	start(&t[0], sit_slowly, &seat[0]);
	if (!arrives())
		_exit(ORPHAN_NOT_MET);
	n = seat_more(t, n, MORE, false);
	atomic_store(&stop.go, true);
	n = seat_more(t, n, MORE, true);
	if (!seats_differ(n))
		_exit(ORPHAN_SHARED);
	end_seats(t, n);
	heap_check();
	zone_check(&zone_main);
	_exit(0);
}

static void test_orphan(enum delay_point p, bool at_first)
{
	unsigned n = heaps_that_wait();
	pthread_t t[SEATS];
	struct child c;

	if (!CHILD_MAY_START_THREADS || tap_emulated()) {
		tap_skip(3, "a child of a process with threads cannot start threads here");
		return;
	}
	if (n + MORE > SEATS)
		tap_bail_out("%u heaps wait for threads", n);
	stand_up = mmap(NULL, sizeof(*stand_up), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			-1, 0);
	if (stand_up == MAP_FAILED)
		tap_bail_out("no memory");
	n = seat_more(t, 0, n + MORE, true);
	slow_at_first = at_first;
	stop.at = p;
	stop.anybody = false;
	stop.when = NULL;
	atomic_store(&stop.arrived, false);
	atomic_store(&stop.go, false);
	atomic_store(&stop.armed, true);
	child_run(&c, child_orphans, NULL);
	atomic_store(&stop.armed, false);
	ok(WIFEXITED(c.status) && WEXITSTATUS(c.status) != ORPHAN_NOT_MET,
	   "%s: a thread is stopped there in %s call", delay_name(p),
	   at_first ? "its first" : "a later");
	ok(WIFEXITED(c.status) && WEXITSTATUS(c.status) != ORPHAN_SHARED,
	   "%s: others begin meanwhile and afterwards, and no two have one heap", delay_name(p));
	ok(c.status == 0, "%s: all end well", delay_name(p));
	if (c.status != 0)
		tap_diag("status 0x%x, standard error: %s", (unsigned)c.status, c.stderr);
	end_seats(t, n);
	munmap(stand_up, sizeof(*stand_up));
}

/* ---- what a drain holds
 * ---------------------------------------------------------------------------
 */

static unsigned own_calls;
static unsigned own_under_control;

static void count_own_calls(enum delay_point p)
{
	if (p != DELAY_critical_exit || !slow)
		return;
	own_calls++;
	own_under_control += lock_held(&reclaim_control);
}

/* A fork waits for reclaim_control: a thread that is stopped in its own heap must not hold it. */
static void test_own_heap(void)
{
	void *p[RUN];

	for (unsigned i = 0; i < RUN; i++)
		p[i] = alloc(200);
	for (unsigned i = 0; i < RUN; i++)
		heap_free(p[i]);
	slow = true;
	delay_hook(count_own_calls);
	drain_all();
	delay_hook(at_point);
	slow = false;
	ok(own_calls > 0, "a drain empties the heap of its own thread");
	is_int(own_under_control, 0, "it does so without the lock that a fork waits for");
}

static uint64_t used_pages(void)
{
	drain_all();
	return zones_sum(total_pages) - zones_sum(free_pages);
}

static uint64_t used_before;

/* The batch that was out of the heap is lost: slabs of the first classes, which are small. */
static void child_takes_rest(void *arg)
{
	uint64_t used = used_pages();
	uint64_t lost = used > used_before ? used - used_before : 0;
	uint64_t all = 0;

	(void)arg;
	for (unsigned cls = 0; cls < CLASSES; cls++)
		all += size_classes[cls].pages;
	fprintf(stderr, "%lu of at least %lu pages are lost\n", (unsigned long)lost,
		(unsigned long)all);
	if (lost > all / 2)
		_exit(3);
}

static void *drains_slowly(void *arg)
{
	slow = true;
	drain_all_classes();
	return arg;
}

/* A child gets what another thread's drain of its own heap has not freed yet. */
static void test_own_batches(void)
{
	pthread_t t;
	bool arrived;

	if (tap_emulated()) {
		tap_skip(1, "the emulator cannot fork while it has several threads");
		return;
	}
	used_before = used_pages();
	stop.at = DELAY_drain_batch;
	stop.anybody = false;
	stop.when = NULL;
	atomic_store(&stop.arrived, false);
	atomic_store(&stop.go, false);
	atomic_store(&stop.armed, true);
	start(&t, drains_slowly, NULL);
	arrived = arrives();
	ok(arrived && child_is_well(child_takes_rest, NULL),
	   "a child finds what a drain of the own heap has not freed yet, but for a batch");
	atomic_store(&stop.armed, false);
	atomic_store(&stop.go, true);
	pthread_join(t, NULL);
}

/* ---- the variable
 * ---------------------------------------------------------------------------
 */

static void set(void *arg)
{
	_exit(delay_set(arg, "SLUICE_DELAY") ? 0 : 3);
}

static bool refused(const char *text, const char *line)
{
	struct child c;
	const char *end;

	child_run(&c, set, (void *)(uintptr_t)text);
	end = strchr(c.stderr, '\n');
	if (WIFEXITED(c.status) && WEXITSTATUS(c.status) == 3 && end && !end[1] &&
	    strncmp(c.stderr, line, strlen(line)) == 0)
		return true;
	tap_diag("%s", c.stderr);
	return false;
}

static void test_variable(void)
{
	struct child c;

	child_run(&c, set, (void *)(uintptr_t) "all=20/64,held_BUDDY=0,vm_purge=20000");
	ok(c.status == 0 && !c.stderr[0], "delays are set by name, all at once or each");
	ok(refused("vm_purge=5,nowhere=5", "sluice: SLUICE_DELAY: there is no point "
					   "'nowhere', use all, held_CONTROL, "),
	   "an unknown name is refused by one line that lists all names");
	ok(refused("vm_purge", "sluice: SLUICE_DELAY: 'vm_purge' is not of the form"),
	   "a setting without a time is refused");
	ok(refused("vm_purge=1x", "sluice: SLUICE_DELAY: 'vm_purge=1x' is not of the form"),
	   "a setting with more than a number is refused");
	ok(refused("vm_purge=60000001", "sluice: SLUICE_DELAY: 'vm_purge=60000001' is not"),
	   "a time that is too long is refused");
	ok(refused("all=1/0,vm_purge=1", "sluice: SLUICE_DELAY: 'all=1/0' is not"),
	   "a share with a denominator of 0 is refused");
}

int main(void)
{
	options.reserve = RUN * PG_BYTES; /* so that the zone keeps ready blocks segregated */
	sluice_init();
	atomic_store(&heap_watch, 0); /* the test starts it */
	options.reserve = 0;
	alloc(16);
	tap_plan(6 + 3 * DELAY_POINTS + 3 + 2 + 1); /* test_orphan twice */
	test_variable();
	delay_hook(at_point);
	for (unsigned p = 0; p < DELAY_POINTS; p++) {
		if (!steps[p].job)
			tap_bail_out("%s: no test stops there", delay_name(p));
		if (p == DELAY_orphan_taken) {
			test_orphan(p, true);
			test_orphan(p, false);
		} else if (!is_of_background(p))
			test_step(p);
	}
	test_own_heap();
	test_own_batches();
	options.idle_ms = 20;
	options.decay_ms = 20;
	options.background = BACKGROUND_ALWAYS; /* so that it stays when the program
                                           * has one thread */
	background_start(true);
	for (unsigned p = 0; p < DELAY_POINTS; p++) {
		if (is_of_background(p))
			test_step(p);
	}
	delay_hook(NULL);
	return tap_done();
}
