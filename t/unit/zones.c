/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Several zones: which memory comes first, what is summed, which thread uses which zone, and that a
 * zone whose lock is lost for good costs its memory and nothing else. Built with delay points, to
 * stop at certain places.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "page/block.h"
#include "page/buddy.h"
#include "lib/child.h"
#include "lib/core.h"
#include "base/delay.h"
#include "heap/heap.h"
#include "heap/slab.h"
#include "heap/slab_pool.h"
#include "base/options.h"
#include "page/pagemap.h"
#include "page/pcp.h"
#include "base/stats.h"
#include "lib/tap.h"
#include "os/vm.h"
#include "page/prefault.h"
#include "page/purge.h"
#include "page/region.h"
#include "page/zone.h"

#define ZONES 4u
#define ALL_FAIL ((uint64_t)1 << 30)

static void vm_refuse(bool refuse)
{
	options.vm_fail_count = ALL_FAIL;
	options.vm_fail_at = refuse ? 1 : 0;
}

static struct page *get(unsigned zone, uint32_t npages)
{
	struct page *pg = buddy_alloc(&zone_all[zone], npages);

	if (!pg)
		tap_bail_out("no memory");
	return pg;
}

static unsigned zone_of(const struct page *pg)
{
	return (unsigned)(region_of(pg)->zone - zone_all);
}

static void free_dirty(struct page *pg)
{
	memset(page_address(pg), 'd', (size_t)pg->npages << PG_SHIFT);
	pg->backing = BACKING_DIRTY;
	buddy_free(pg);
}

static uint64_t used(void)
{
	return zone_used_pages(&zone_main);
}

static void check_all(void)
{
	for (unsigned i = 0; i < zones_count(); i++)
		zone_check(&zone_all[i]);
}

static void begin(unsigned zones)
{
	vm_init();
	options.zones = zones;
	zones_init();
	options.va_reserve = (uint64_t)1 << 30;
	options.decay_ms = 3600000;
}

/* ---- the order ------------------------------------------------------------------------------ */

/* n runs of every zone, one zone after the other. */
static void take_of_each(struct page **run, uint32_t npages, unsigned n)
{
	for (unsigned i = 0; i < ZONES * n; i++) {
		run[i] = get(i % ZONES, npages);
		if (zone_of(run[i]) != i % ZONES)
			tap_bail_out("a run of zone %u came from %u", i % ZONES, zone_of(run[i]));
	}
}

static void test_order(void)
{
	struct page *run[ZONES];
	struct page *a;
	struct page *b;
	uint64_t total;

	begin(ZONES);
	is_int(zones_count(), ZONES, "there are as many zones as the option says");
	take_of_each(run, RUN_PAGES_MAX, 1);
	ok(true, "a zone grows when no zone has as much as is wanted");
	buddy_free_bulk(run, ZONES);
	is_int(used(), 0, "memory in use is summed over all zones");
	a = get(2, 10);
	is_int(zone_of(a), 2, "a zone's own clean memory comes before that of other zones");
	free_dirty(get(1, 10));
	b = get(2, 5);
	ok(zone_of(b) == 1 && b->backing == BACKING_DIRTY,
	   "dirty memory of another zone comes before clean memory");
	free_dirty(a);
	a = get(2, 4);
	ok(zone_of(a) == 2 && a->backing == BACKING_DIRTY,
	   "a zone's own dirty memory comes first of all");
	free_dirty(a);
	free_dirty(b);
	zones_purge(0, UINT64_MAX);
	total = zones_sum(total_pages);
	for (unsigned i = 0; i < ZONES; i++)
		run[i] = get(3, RUN_PAGES_MAX);
	ok(zones_sum(total_pages) == total && zone_of(run[0]) == 3 && zone_of(run[1]) != 3,
	   "free memory of other zones comes before a growth");
	vm_refuse(true);
	ok(!buddy_alloc(&zone_all[3], RUN_PAGES_MAX),
	   "the kernel is asked when no zone has free memory");
	vm_refuse(false);
	a = get(3, RUN_PAGES_MAX);
	ok(zone_of(a) == 3 && zones_sum(total_pages) > total, "the zone that is asked grows");
	buddy_free(a);
	buddy_free_bulk(run, ZONES);
	check_all();
	is_int(used(), 0, "several zones lose nothing");
}

/* ---- giving back ---------------------------------------------------------------------------- */

static _Atomic unsigned holds;

static void count_holds(enum delay_point p)
{
	if (p == DELAY_held_BUDDY)
		atomic_fetch_add(&holds, 1);
}

static void test_batches(void)
{
	struct page *run[ZONES * 8];

	take_of_each(run, 3, 8);
	delay_hook(count_holds);
	buddy_free_drained(run, ZONES * 8);
	delay_hook(NULL);
	is_int(holds, ZONES, "a batch takes the lock of each zone that it has runs of once");
	is_int(used(), 0, "all runs of a batch are free");
	check_all();
}

static void make_dirty(unsigned pages)
{
	struct page *run[ZONES];

	take_of_each(run, pages, 1);
	for (unsigned i = 0; i < ZONES; i++)
		free_dirty(run[i]);
}

static void test_sums(void)
{
	uint64_t dirty_max = options.dirty_max;
	uint64_t hard = 64 + 4 * 64;

	trim_inline = false;
	make_dirty(20);
	is_int(zones_sum(dirty_pages), ZONES * 20, "each zone has dirty pages");
	is_int(zones_purge(68, 4), 4 * PG_BYTES,
	       "a purge gives back no more of all zones than is wanted");
	is_int(zones_purge(8, UINT64_MAX), (ZONES * 20 - 4 - 8) * PG_BYTES,
	       "a purge gives back what all zones have above what may stay");
	is_int(zones_sum(dirty_pages), 8, "a purge leaves what may stay, summed over all zones");
	zones_purge(0, UINT64_MAX);
	make_dirty(200);
	options.dirty_max = 64 * PG_BYTES;
	trim_inline = true;
	for (unsigned i = 0; i < 64; i++)
		free_dirty(get(i % ZONES, 1));
	ok(zones_sum(dirty_pages) <= hard, "dirty_max holds for the sum of all zones");
	options.dirty_max = dirty_max;
	zones_purge(0, UINT64_MAX);
	is_int(zones_release_regions() >> PG_SHIFT,
	       ZONES * (REGION_PAGES - region_first()) + (REGION_PAGES - region_first()),
	       "regions of all zones are released");
	is_int(zones_sum(total_pages), 0, "no region is left");
	check_all();
}

/* ---- threads, each with a pcp on a zone of its own ----------------------------------- */

#define SLOTS 64u

static _Atomic(struct page *) slot[SLOTS];
static struct pcp cache[ZONES];
static _Atomic unsigned running;

static bool marked(const struct page *pg)
{
	const uint32_t *p = (const uint32_t *)(void *)page_address(pg);

	return p[0] == pg->npages && p[((size_t)pg->npages << PG_SHIFT) / 4 - 1] == ~pg->npages;
}

static void mark(struct page *pg)
{
	uint32_t *p = (uint32_t *)(void *)page_address(pg);

	p[0] = pg->npages;
	p[((size_t)pg->npages << PG_SHIFT) / 4 - 1] = ~pg->npages;
	pg->backing = BACKING_DIRTY;
}

static void *exchange(void *arg)
{
	struct pcp *p = arg;
	unsigned state = (unsigned)(p - cache) + 17;
	bool good = true;

	for (unsigned i = 0; i < 20000 && good; i++) {
		unsigned r = (unsigned)rand_r(&state);
		uint32_t n = r % 64 ? 1 + r / 64 % 16 : 129 + r / 64 % 300;
		struct page *pg = n > PCP_RUN_MAX ? buddy_alloc(p->zone, n)
						  : pcp_alloc(p, run_class_of(n));
		struct page *old;

		if (!pg)
			break;
		mark(pg);
		old = atomic_exchange(&slot[r / 8 % SLOTS], pg);
		if (!old)
			continue;
		good = marked(old);
		pcp_free(p, old);
	}
	atomic_fetch_sub(&running, 1);
	return good ? arg : NULL;
}

static void test_threads(void)
{
	pthread_t t[ZONES];
	bool good = true;
	void *end;

	options.pcp_high_min = 16 * PG_BYTES;
	options.pcp_high_max = 64 * PG_BYTES;
	options.pcp_batch = 8 * PG_BYTES;
	running = ZONES;
	for (unsigned i = 0; i < ZONES; i++) {
		pcp_init(&cache[i], &zone_all[i]);
		pcp_open(&cache[i]);
		if (pthread_create(&t[i], NULL, exchange, &cache[i]) != 0)
			tap_bail_out("cannot start a thread");
	}
	while (atomic_load(&running)) {
		for (unsigned i = 0; i < ZONES; i++)
			pcp_drain(&cache[i]);
		zones_purge(100, UINT64_MAX);
		zones_purge_descriptors();
		zones_release_regions();
		check_all();
	}
	for (unsigned i = 0; i < ZONES; i++) {
		pthread_join(t[i], &end);
		good &= end != NULL;
	}
	ok(good,
	   "runs that threads of four zones free for each other, beside drains, keep their data");
	for (unsigned i = 0; i < SLOTS; i++)
		if (slot[i])
			pcp_free(&cache[i % ZONES], slot[i]);
	for (unsigned i = 0; i < ZONES; i++)
		pcp_drain(&cache[i]);
	check_all();
	is_int(used(), 0, "threads of four zones lose nothing");
}

/* A heap that a new thread takes over serves it from the zone of that thread's processor. */
static void test_set_zone(void)
{
	static struct pcp other;
	struct page *pg;

	pcp_init(&other, &zone_all[0]);
	pcp_open(&other);
	pcp_set_zone(&other, &zone_all[2]);
	ok(other.zone == &zone_all[2], "a pcp without runs goes over to another zone");
	pg = pcp_alloc(&other, run_class_of(1));
	if (!pg)
		tap_bail_out("no memory");
	pcp_free(&other, pg);
	pcp_set_zone(&other, &zone_all[1]);
	ok(other.zone == &zone_all[2], "a pcp that has runs stays with its zone");
	pcp_drain(&other);
	pcp_set_zone(&other, &zone_all[1]);
	ok(other.zone == &zone_all[1], "a pcp that was drained can go over to another zone");
	check_all();
}

/* ---- locks that are lost -------------------------------------------------------------------- */

static void must(bool good, const char *what)
{
	if (!good) {
		if (write(STDERR_FILENO, what, strlen(what)) < 0)
			_exit(2);
		_exit(1);
	}
}

static void *alloc_elsewhere(void *arg)
{
	struct page *pg = buddy_alloc(&zone_main, 2);

	must(pg && region_of(pg)->zone == &zone_all[1], "another thread has no memory");
	buddy_free(pg);
	return arg;
}

static void lost(void *arg)
{
	struct page *of_main;
	struct page *pg;
	pthread_t t;

	(void)arg;
	begin(1);
	must(zones_count() == 1, "there is more than one zone");
	of_main = buddy_alloc(&zone_main, 5);
	lock_ranks_off = 1; /* as a signal handler's call does */
	must(lock_acquire(&zone_main.lock) == 0, "the zone's lock was not taken");
	lock_fork_begin();
	must(!buddy_alloc(&zone_main, 3) && zones_count() == 1, "a zone came because of a fork");
	lock_fork_end();
	pg = buddy_alloc(&zone_main, 3);
	must(pg && region_of(pg)->zone == &zone_all[1], "no other zone serves");
	must(zones_count() == 2 && stat_sum(STAT_zones_added) == 1, "the other zone is not in use");
	buddy_free(pg);
	buddy_free(of_main);
	must(stat_sum(STAT_page_frees_deferred) == 1,
	     "a free into the zone did not wait for its lock");
	pthread_create(&t, NULL, alloc_elsewhere, NULL);
	pthread_join(t, NULL);
	must(zones_count() == 2, "more than one zone was added");
	lock_release(&zone_main.lock);
	pg = buddy_alloc(&zone_main, 1);
	must(pg != NULL, "the zone is not used again");
	buddy_free(pg);
	must(used() == 0, "something is lost");
	check_all();
}

/* A handler that interrupted the holder of one zone's lock does not wait for another zone's
 * lock. */
static void *hold(void *arg)
{
	_Atomic unsigned *step = arg;

	must(lock_acquire(&zone_all[1].lock) == 0, "the other lock was not taken");
	atomic_store(step, 1);
	while (atomic_load(step) != 2)
		lock_pause();
	lock_release(&zone_all[1].lock);
	return NULL;
}

static _Atomic unsigned hold_step_at;
static struct page *in_handler;

static void alloc_in_hold(enum delay_point p)
{
	if (p != DELAY_held_BUDDY || atomic_load(&hold_step_at) != 1)
		return;
	delay_hook(NULL);
	in_handler = buddy_alloc(&zone_all[1], 1);
	atomic_store(&hold_step_at, 2);
}

static void tried(void *arg)
{
	struct page *pg;
	pthread_t t;

	(void)arg;
	begin(2);
	pthread_create(&t, NULL, hold, &hold_step_at);
	while (atomic_load(&hold_step_at) != 1)
		lock_pause();
	delay_hook(alloc_in_hold);
	pg = buddy_alloc(&zone_main, 1); /* would not return if it waited for the other lock */
	pthread_join(t, NULL);
	must(pg && !in_handler, "the handler's call got memory");
	must(zones_count() == 2, "a zone came into use although the other is not lost");
	buddy_free(pg);
	check_all();
}

static _Thread_local sigjmp_buf out;
static _Thread_local bool jumps;
static enum delay_point jump_at;

static void jump(int sig)
{
	(void)sig;
	siglongjmp(out, 1);
}

static void interrupt(enum delay_point p)
{
	if (!jumps || p != jump_at)
		return;
	jumps = false;
	raise(SIGUSR1);
}

static void use(unsigned rounds, unsigned seed)
{
	static const size_t size[] = { 40, 200, 3000, 30000, 100000, 700000, 3000000, 5000000 };
	void *p[32] = { NULL };

	for (unsigned i = 0; i < rounds; i++) {
		unsigned r = (unsigned)rand_r(&seed);
		unsigned k = r % 32;

		if (p[k])
			heap_free(p[k]);
		p[k] = alloc(size[r / 32 % 8]);
		memset(p[k], (int)k, 40);
	}
	for (unsigned k = 0; k < 32; k++)
		if (p[k])
			heap_free(p[k]);
}

#define BLOCKS 64u
#define BLOCK_BYTES ((size_t)30 << 20)

static void *block[BLOCKS];
static unsigned blocks;

/* A call is left by siglongjmp with a lock held; then the thread goes on, and ends. */
static void *jumper(void *arg)
{
	if (sigsetjmp(out, 1) == 0) {
		jumps = true;
		while (blocks < BLOCKS) {
			block[blocks] = alloc(BLOCK_BYTES);
			blocks++;
		}
		must(false, "no call was interrupted");
	}
	while (blocks)
		heap_free(block[--blocks]);
	use(500, 2);
	return arg;
}

static _Atomic bool enough;
static _Atomic unsigned rounds;

static void *go_on(void *arg)
{
	for (unsigned i = 1; !atomic_load(&enough); i++) {
		use(50, i);
		atomic_fetch_add(&rounds, 1);
	}
	return arg;
}

static void wait_rounds(unsigned n)
{
	for (n += atomic_load(&rounds); atomic_load(&rounds) < n;)
		lock_pause();
}

/* One thread holds a pool's lock. A handler of another one, which holds the zone's, does without,
 * because the first one's handler may wait for the zone's. */
static _Atomic unsigned crossing; /* both hold their lock; the handler's call returned */

static void cross(enum delay_point p)
{
	static _Thread_local bool crossed;
	unsigned until = p == DELAY_held_POOL ? 3 : 2;

	if ((p != DELAY_held_BUDDY && p != DELAY_held_POOL) || crossed)
		return;
	crossed = true;
	atomic_fetch_add(&crossing, 1);
	while (atomic_load(&crossing) < until)
		lock_pause();
	if (p == DELAY_held_POOL)
		return;
	must(!slab_pool_take(1), "a slab was taken from a pool that another thread holds");
	must(!lock_is_stuck(slab_pool_lock(1)), "the handler waited for the pool");
	atomic_fetch_add(&crossing, 1);
}

static void *take_run(void *arg)
{
	buddy_free(buddy_alloc(&zone_main, 1));
	return arg;
}

static void *take_slab(void *arg)
{
	must(slab_pool_take(1) != NULL, "the abandoned slab is not there");
	return arg;
}

static void try_across(void *arg)
{
	struct object *o;
	struct page *pg;
	pthread_t t[2];

	(void)arg;
	begin(1);
	pg = buddy_alloc(&zone_main, run_class_pages[run_class_of(size_classes[1].pages)]);
	slab_make(pg, 1);
	must(slab_take(pg, &o + 1, 1, true) == 1, "a fresh slab has no object");
	must(slab_pool_put(pg, SLAB_RECENT) == POOL_PUT, "a slab cannot be abandoned");
	lock_ranks_off = 1;
	delay_hook(cross);
	pthread_create(&t[0], NULL, take_run, NULL);
	pthread_create(&t[1], NULL, take_slab, NULL);
	pthread_join(t[0], NULL);
	pthread_join(t[1], NULL);
	delay_hook(NULL);
	check_all();
}

static void jumped(void *arg)
{
	const enum delay_point at[] = { DELAY_held_BUDDY, DELAY_held_GROW, DELAY_held_BUDDY };
	pthread_t t[3];
	pthread_t j;
	uint64_t pages;

	(void)arg;
	signal(SIGUSR1, jump);
	lock_ranks_off = 1; /* the thread that jumps has a rank for good */
	delay_hook(interrupt);
	for (unsigned i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, go_on, NULL);
	for (unsigned i = 0; i < 3; i++) {
		jump_at = at[i];
		pthread_create(&j, NULL, jumper, NULL);
		pthread_join(j, NULL);
		wait_rounds(20);
	}
	must(zones_count() >= 2 && zones_count() <= 4,
	     "more than one zone was added for a lost one");
	/* Each zone grows when it is used for the first time, which may come late. */
	for (unsigned tries = 0;; tries++) {
		must(tries < 8, "memory is not bounded");
		pages = zones_sum(total_pages);
		wait_rounds(200);
		if (zones_sum(total_pages) <= pages + REGION_PAGES)
			break;
	}
	atomic_store(&enough, true);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
}

static void test_lost(void)
{
	ok(child_is_well(lost, NULL), "another zone serves where a zone's lock is not available");
	ok(child_is_well(tried, NULL), "a handler inside a zone's lock waits for no other zone's");
	ok(child_is_well(try_across, NULL), "a handler inside a zone's lock waits for no pool's");
	ok(child_is_well(jumped, NULL),
	   "threads that jump out of a zone's locks stop no thread and cost bounded memory");
}

/* ---- the reserve's count -------------------------------------------------------------------- */

static struct zone ready_zone = {
	.lock = LOCK_INIT(LOCK_BUDDY),
	.grow = LOCK_INIT(LOCK_GROW),
	.marks.over = UINT64_MAX,
};

static void hold_ready(enum delay_point p)
{
	if (p == DELAY_prefault_filled && lock_acquire(&ready_zone.lock) != 0)
		tap_bail_out("the lock of a fresh zone is held");
}

static void test_ready_taken(void)
{
	struct zone *z = &ready_zone;
	uint32_t n;

	options.reserve = OPTION_AUTO;
	zone_init(z);
	delay_hook(hold_ready);
	n = prefault_fill(z, 0, 8);
	delay_hook(NULL);
	lock_release(&z->lock);
	buddy_free(buddy_alloc_aligned(z, 1, 0));
	ok(n && zone_prefaulted_pages(z) >= n,
	   "a block that was prefaulted without the lock counts later");
	is_int(z->growth.prefaulted_taken, 0, "no page of that block counts as taken");
	zone_check(z);
	options.reserve = 0;
}

/* ---- who uses which ------------------------------------------------------------------------- */

static unsigned chosen(const char *topology, uint64_t zones)
{
	memcpy(options.zones_topology, topology, strlen(topology) + 1);
	options.zones = zones;
	zones_init();
	return zones_chosen();
}

static unsigned number_of(unsigned processor)
{
	return (unsigned)(zone_of_processor(processor) - zone_all);
}

static void put(const char *name, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/devices/system/node/%s", name);
	if (strchr(name, '/')) {
		*strrchr(path, '/') = '\0';
		if (mkdir(path, 0755) != 0)
			_exit(3);
		path[strlen(path)] = '/';
	}
	f = fopen(path, "w");
	if (!f || fputs(text, f) < 0 || fclose(f) != 0)
		_exit(4);
}

#define NO_ROOT 77

/* The system has two nodes; the first of the processors that we may run on is on node 12. */
static void two_nodes(void *arg)
{
	cpu_set_t ours;
	char first[16];
	char others[32];
	unsigned n = 0;

	(void)arg;
	if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("none", "/sys/devices/system/node", "tmpfs", 0, NULL) != 0)
		_exit(NO_ROOT);
	if (sched_getaffinity(0, sizeof(ours), &ours) != 0 || CPU_COUNT(&ours) < 2)
		_exit(NO_ROOT);
	while (!CPU_ISSET(n, &ours))
		n++;
	snprintf(first, sizeof(first), "%u\n", n);
	snprintf(others, sizeof(others), "%u-1023\n", n + 1);
	put("online", "0,12\n");
	put("node0/cpulist", others);
	put("node12/cpulist", first);
	if (chosen("", OPTION_AUTO) < 2)
		_exit(5);
	/* Zones are given out node by node. */
	if (number_of(n) != zones_chosen() - 1)
		_exit(6);
	for (unsigned i = n + 1; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &ours) && number_of(i) == zones_chosen() - 1)
			_exit(7);
	put("online", "0\n");
	if (CPU_COUNT(&ours) <= 4 && chosen("", OPTION_AUTO) != 1)
		_exit(8);
	put("online", "3-1,x\n");
	if (CPU_COUNT(&ours) <= 4 && chosen("", OPTION_AUTO) != 1)
		_exit(9);
}

static void test_nodes(void)
{
	struct child c;

	child_run(&c, two_nodes, NULL);
	if (WIFEXITED(c.status) && WEXITSTATUS(c.status) == NO_ROOT)
		tap_skip(1, "needs root, mounts, and two processors");
	else
		is_int(c.status, 0, "the system's nodes are those of its files");
}

static void test_topology(void)
{
	is_int(chosen("2", OPTION_AUTO), 1, "two processors have one zone");
	is_int(chosen("1+1", OPTION_AUTO), 2, "two nodes with one processor each have two zones");
	is_int(chosen("4+4", OPTION_AUTO), 2, "four processors of a node share one zone");
	ok(number_of(0) == 0 && number_of(3) == 0 && number_of(4) == 1 && number_of(7) == 1,
	   "a node's zone belongs to its processors alone");
	is_int(chosen("9+3", OPTION_AUTO), 4, "a zone has processors of one node");
	ok(number_of(7) == 1 && number_of(8) == 2 && number_of(9) == 3,
	   "the last zone of a node has processors of that node");
	is_int(chosen("96", OPTION_AUTO), 12, "with many processors more of them share a zone");
	is_int(chosen("64", OPTION_AUTO), 16, "there are at most 16 zones");
	is_int(chosen("20+12", 4), 4, "there are as many zones as the option says");
	ok(number_of(0) == 0 && number_of(19) == 2 && number_of(20) == 2 && number_of(31) == 3,
	   "zones of the option have equally many processors");
	is_int(chosen("2", 4), 4, "the option may ask for more zones than processors");
	ok(zone_pick() != zone_pick(), "such zones are given out in rotation");
	options.reserve = 1 << 20;
	is_int(chosen("64", OPTION_AUTO), 1, "with a reserve there is one zone");
	options.reserve = 0;
	ok(chosen("", OPTION_AUTO) >= 1 && number_of(0) < zones_chosen(),
	   "the nodes of this machine are found");
}

int main(void)
{
	tap_plan(45);
	test_lost();
	test_order();
	test_batches();
	test_sums();
	test_threads();
	test_set_zone();
	test_ready_taken();
	test_nodes();
	test_topology();
	return tap_done();
}
