/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Holes: what is given back of a slab with live objects, what stays, and what is carved again.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/backed.h"
#include "page/block.h"
#include "page/buddy.h"
#include "lib/child.h"
#include "heap/heap.h"
#include "heap/heap_call.h"
#include "heap/holes.h"
#include "base/options.h"
#include "page/pagemap.h"
#include "page/purge.h"
#include "heap/slab.h"
#include "heap/slab_pool.h"
#include "heap/sweep.h"
#include "base/stats.h"
#include "lib/take.h"
#include "lib/tap.h"
#include "os/vm.h"

#define CLS 15u /* 256 bytes, 16 of them to a unit, 256 in a slab of 4 pages */
#define EACH 16u
#define OBJECTS 256u
#define OBJECTS_MAX 2048u

static struct zone zone = {
	.lock = LOCK_INIT(LOCK_BUDDY),
	.grow = LOCK_INIT(LOCK_GROW),
};

/* The same numbers each time. */
static unsigned next_random(unsigned below)
{
	static uint64_t seed = 7;

	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(seed >> 33) % below;
}

static struct page *slab_new(unsigned cls)
{
	struct page *pg = buddy_alloc(&zone, size_classes[cls].pages);

	if (!pg)
		tap_bail_out("no memory");
	slab_make(pg, cls);
	return pg;
}

static void free_one(struct page *pg, struct object *o)
{
	mark_set(o, mark_base(pg));
	slab_free_remote(pg, o, o, 1);
}

static struct object *object_at(struct page *pg, unsigned i)
{
	return (struct object *)(void *)(page_address(pg) + i * class_size(pg->cls));
}

/* Which of a slab's units the kernel backs with memory. */
static uint64_t resident(struct page *pg)
{
	unsigned char in[64] = { 0 };
	size_t n = size_classes[pg->cls].pages * PG_BYTES / vm_os_page;
	size_t each = vm_os_page / HOLE_BYTES;
	uint64_t units = 0;

	if (backed_pages(page_address(pg), n * vm_os_page, in) != 0)
		tap_bail_out("no mincore");
	for (size_t i = 0; i < n * each; i++)
		units |= (uint64_t)(in[i / each] & 1) << i;
	return units;
}

/* Returns a slab whose objects were all taken and written to. In each group of `stride` objects the
 * one numbered `keep` stays, and the others are freed. */
static struct page *slab_thinned(unsigned cls, unsigned stride, unsigned keep)
{
	struct page *pg = slab_new(cls);
	struct object *o[OBJECTS_MAX];
	unsigned n = take(pg, o, OBJECTS_MAX);

	memset(page_address(pg), 0x5a, size_classes[cls].pages * PG_BYTES);
	for (unsigned i = 0; i < n; i++)
		if (i % stride != keep)
			free_one(pg, o[i]);
	slab_collect_to(pg, STATE_LIMBO);
	return pg;
}

static void slab_end(struct page *pg)
{
	slab_held(pg)->used = 0;
	slab_unmake(pg);
	buddy_free(pg);
}

/* The kernel does not take back locked memory. A raw call, because sanitizers let mlock do
 * nothing. */
static bool lock_unit(struct page *pg, unsigned u)
{
	return syscall(SYS_mlock, page_address(pg) + u * HOLE_BYTES, HOLE_BYTES) == 0;
}

static void unlock_unit(struct page *pg, unsigned u)
{
	syscall(SYS_munlock, page_address(pg) + u * HOLE_BYTES, HOLE_BYTES);
}

/* ---- one slab ------------------------------------------------------------------------------- */

static void test_punch(void)
{
	struct page *pg = slab_thinned(CLS, 4 * EACH, 2 * EACH);
	uint64_t calls = stat_sum(STAT_purge_calls);
	uint64_t live = UINT64_C(0x4444); /* units 2, 6, 10 and 14 hold one object each */
	struct object *o[OBJECTS] = { NULL };
	unsigned again = 0;

	is_int(resident(pg), 0xffff, "all of a slab that was written to costs memory");
	is_int(holes_punch_slab(pg), 12 * HOLE_BYTES,
	       "12 units of 16 hold no live object and are given back");
	is_int(resident(pg), live, "units without live objects cost no memory, the others do");
	is_int(stat_sum(STAT_purge_calls) - calls, 5,
	       "each stretch of units is given back by one call");
	is_int(holes_bytes(pg), 12 * HOLE_BYTES, "the slab knows how much of it costs no memory");
	is_int(holes_bytes_all(), 11 * HOLE_BYTES, "the total of holes between objects is known");
	slab_check(pg);
	is_int(slab_held(pg)->used, 4, "four objects are live");
	is_int(slab_carved_bytes(pg), 15 * HOLE_BYTES,
	       "what is behind the last live object is not carved");
	calls = stat_sum(STAT_purge_calls);
	is_int(holes_punch_slab(pg), 0, "a second punch gives nothing back");
	is_int(stat_sum(STAT_purge_calls), calls, "a second punch does not ask the kernel");

	is_int(take(pg, o, 60), 60, "objects can be taken from a slab with holes");
	for (unsigned i = 0; i < 60; i++)
		again += page_of(o[i]) == pg &&
			 (live >> (((size_t)((char *)o[i] - page_address(pg))) >> HOLE_SHIFT) & 1);
	is_int(again, 60, "objects between live ones are taken first");
	is_int(resident(pg), live, "objects between live ones cost no new memory");
	is_int(take(pg, o, 1), 1, "an object can then be taken from a hole");
	ok((char *)o[0] == page_address(pg), "the lowest hole is used first");
	is_int(holes_bytes(pg), 11 * HOLE_BYTES, "a hole in use is no hole any more");
	slab_check(pg);
	is_int(take(pg, o, OBJECTS), 191, "all other objects can be taken");
	ok(!slab_has_room(pg) && holes_bytes(pg) == 0, "a full slab has no hole");
	slab_check(pg);
	is_int(holes_punch_slab(pg), 0, "a punch of a full slab gives nothing back");
	slab_end(pg);
}

static void test_never_written(void)
{
	uint64_t calls = stat_sum(STAT_purge_calls);
	struct page *pg;
	struct object *o;

	zone_purge(&zone, 0, UINT64_MAX);
	calls = stat_sum(STAT_purge_calls);
	pg = slab_new(CLS);
	take(pg, &o, 1);
	is_int(holes_bytes(pg), 15 * HOLE_BYTES, "clean memory that is not carved costs nothing");
	is_int(holes_punch_slab(pg), 0, "clean memory that is not carved need not be given back");
	is_int(stat_sum(STAT_purge_calls), calls, "the kernel is not asked for clean memory");
	slab_end(pg);
	pg = slab_new(CLS);
	take(pg, &o, 1);
	is_int(holes_bytes(pg), 0, "used memory that is not carved costs memory");
	is_int(holes_punch_slab(pg), 15 * HOLE_BYTES,
	       "used memory that is not carved is given back");
	slab_end(pg);
}

/* The test's model of a slab. */
struct shadow {
	struct page *pg;
	unsigned objects;
	unsigned live;
	unsigned wrong;
	uint8_t mark[OBJECTS_MAX]; /* what a live object is filled with; 0 if it is free */
};

static void shadow_take(struct shadow *s, unsigned n)
{
	struct object *o[OBJECTS_MAX];
	size_t size = class_size(s->pg->cls);

	n = take(s->pg, o, n);
	s->live += n;
	while (n--) {
		size_t off = (size_t)((char *)o[n] - page_address(s->pg));

		if (off % size || off / size >= s->objects || s->mark[off / size]) {
			s->wrong++;
			continue;
		}
		s->mark[off / size] = (uint8_t)(1 + next_random(255));
		memset(o[n], s->mark[off / size], size);
	}
}

static void shadow_free(struct shadow *s, unsigned i)
{
	const unsigned char *at = (const unsigned char *)object_at(s->pg, i);

	for (size_t k = 0; k < class_size(s->pg->cls); k++)
		s->wrong += at[k] != s->mark[i];
	s->mark[i] = 0;
	s->live--;
	free_one(s->pg, object_at(s->pg, i));
}

/* Checks one byte of each object: no unit with a live object may be given back, every other one has
 * to be. */
static void shadow_punch(struct shadow *s, size_t each)
{
	size_t size = class_size(s->pg->cls);
	size_t bytes = size_classes[s->pg->cls].pages * PG_BYTES;
	uintptr_t base = (uintptr_t)page_address(s->pg);
	size_t gone = 0;

	holes_punch_slab(s->pg);
	for (size_t at = align_up(base, each) - base; at + each <= bytes; at += each) {
		bool live = false;

		for (size_t i = at / size; i * size < at + each && i < s->objects; i++)
			live |= s->mark[i] != 0;
		gone += live ? 0 : each;
	}
	if (holes_bytes(s->pg) != gone)
		s->wrong++;
}

static unsigned random_walk(unsigned cls, unsigned steps, size_t each)
{
	static struct shadow s;

	memset(&s, 0, sizeof(s));
	s.pg = slab_new(cls);
	s.objects = size_classes[cls].objects;
	shadow_take(&s, 1 + next_random(s.objects));
	for (unsigned step = 0; step < steps; step++) {
		unsigned few = 1 + next_random(20);

		for (unsigned i = 0; i < s.objects; i++)
			if (s.mark[i] && s.live > 1 && next_random(20) < few)
				shadow_free(&s, i);
		slab_collect_to(s.pg, STATE_LIMBO);
		if (next_random(3))
			shadow_punch(&s, each);
		slab_check(s.pg);
		shadow_take(&s, next_random(s.objects / (1 + next_random(8)) + 1));
		slab_check(s.pg);
	}
	shadow_take(&s, s.objects);
	s.wrong += s.live != s.objects;
	for (unsigned i = 0; i < s.objects; i++)
		if (s.mark[i])
			shadow_free(&s, i);
	slab_collect_to(s.pg, STATE_LIMBO);
	s.wrong += slab_held(s.pg)->used != 0;
	slab_end(s.pg);
	return s.wrong;
}

static void test_walk(void)
{
	unsigned wrong = 0;
	size_t os_page = vm_os_page;

	for (unsigned cls = 0; cls < CLASSES; cls++)
		for (unsigned turn = 0; turn < 4; turn++)
			wrong += random_walk(cls, 12, vm_os_page);
	is_int(wrong, 0,
	       "in slabs of each class exactly the units without live objects are given back, "
	       "no live object changes, and each free one is handed out once");
	vm_os_page = 4 * HOLE_BYTES;
	wrong = 0;
	for (unsigned cls = 0; cls < CLASSES; cls++)
		wrong += random_walk(cls, 12, vm_os_page);
	is_int(wrong, 0, "the same holds on a kernel with pages of 16 KiB");
	vm_os_page = os_page;
}

static void test_refused(void)
{
	struct page *pg = slab_thinned(CLS, 4 * EACH, 2 * EACH);
	struct object *o[OBJECTS];

	if (!lock_unit(pg, 8)) {
		tap_skip(5, "memory cannot be locked here");
		slab_end(pg);
		return;
	}
	/* Unit 8 is in the stretch of 7 to 9. */
	is_int(holes_punch_slab(pg), 9 * HOLE_BYTES,
	       "memory that the kernel refuses to take is not given back");
	slab_check(pg);
	is_int(holes_bytes(pg), 9 * HOLE_BYTES, "refused memory is no hole and stays carved");
	unlock_unit(pg, 8);
	is_int(holes_punch_slab(pg), 3 * HOLE_BYTES, "the next punch tries refused memory again");
	slab_check(pg);
	is_int(take(pg, o, OBJECTS), OBJECTS - 4, "a refusal loses no object");
	ok(!slab_has_room(pg), "a refusal hands out no object twice");
	slab_end(pg);
}

/* A unit in the middle of an object is refused, with holes on both sides of it. */
static void test_refused_inside(void)
{
	struct page *pg = slab_thinned(CLASSES - 1, 8, 0); /* 32 KiB, 8 of them */
	struct object *o[8];

	if (!lock_unit(pg, 60)) {
		tap_skip(3, "memory cannot be locked here");
		slab_end(pg);
		return;
	}
	free_one(pg, object_at(pg, 0));
	slab_collect_to(pg, STATE_LIMBO);
	take(pg, o, 1);
	is_int(holes_punch_slab(pg), 0, "the stretch with the refused unit stays");
	slab_check(pg);
	unlock_unit(pg, 60);
	is_int(holes_punch_slab(pg), 56 * HOLE_BYTES, "all of the stretch is given back later");
	is_int(take(pg, o, 8), 7, "the stretch can be carved again");
	slab_check(pg);
	slab_end(pg);
}

/* ---- misuse that is seen -------------------------------------------------------------------- */

static void write_after_free(void *arg)
{
	struct page *pg = slab_thinned(CLS, 4 * EACH, 0);

	(void)arg;
	memset(object_at(pg, 5), 0x77, 256);
	holes_punch_slab(pg);
}

static void write_to_mark(void *arg)
{
	struct page *pg = slab_thinned(CLS, 4 * EACH, 0);

	(void)arg;
	object_at(pg, 5)->mark ^= 1;
	holes_punch_slab(pg);
}

static void listed_twice(void *arg)
{
	struct page *pg = slab_thinned(CLS, 4 * EACH, 0);

	(void)arg;
	link_set(object_at(pg, 5), object_at(pg, 200));
	holes_punch_slab(pg);
}

/* Frees an object that lies in a hole: it came back long ago. */
static void free_in_hole(void *arg)
{
	struct page *pg = slab_thinned(CLS, 4 * EACH, 2 * EACH);

	(void)arg;
	holes_punch_slab(pg);
	slab_pool_put(pg, SLAB_SCANNED);
	heap_free(object_at(pg, 3));
	for (unsigned i = 0; i < 200; i++) /* until it goes from the bin to its slab */
		heap_free(heap_alloc(256));
	heap_abandon_own();
}

static void free_behind(void *arg)
{
	struct page *pg = slab_thinned(CLS, 4 * EACH, 2 * EACH);

	(void)arg;
	holes_punch_slab(pg);
	slab_pool_put(pg, SLAB_SCANNED);
	heap_free(object_at(pg, 255));
}

static void test_misuse(void)
{
	ok(child_is_stopped(write_after_free, NULL, "object written to after it was freed"),
	   "an overwritten free list stops the program");
	ok(child_is_stopped(write_to_mark, NULL, "object freed twice, or written to after it was"),
	   "an overwritten mark stops the program before the object goes to the kernel");
	ok(child_is_stopped(listed_twice, NULL, "object freed twice"),
	   "an object that is twice on a free list stops the program");
	ok(child_is_stopped(free_in_hole, NULL, "free of memory that was never handed out"),
	   "a free of an object in a hole stops the program");
	ok(child_is_stopped(free_behind, NULL, "free of memory that was never handed out"),
	   "a free of an object behind the last live one stops the program at once");
}

/* ---- abandoned slabs ------------------------------------------------------------------------ */

static void test_pool(void)
{
	struct page *pg = slab_thinned(CLS, 4 * EACH, 0);
	struct object *o[OBJECTS];
	unsigned n = 0;

	ok(!slab_pool_wants_punch(), "no slab waits to be punched where none is abandoned");
	slab_pool_put(pg, SLAB_RECENT);
	ok(slab_pool_wants_punch(), "an abandoned slab waits to be punched");
	is_int(slab_pool_punch(false, UINT64_MAX), 0, "an abandoned slab is not punched at once");
	slab_pool_next_epoch();
	is_int(slab_pool_punch(false, UINT64_MAX), 0,
	       "an abandoned slab waits for one decay at least");
	slab_pool_next_epoch();
	is_int(slab_pool_punch(false, UINT64_MAX), 12 * HOLE_BYTES,
	       "an abandoned slab is punched after the decay");
	ok(!slab_pool_wants_punch(), "a punched slab waits no more");
	slab_pool_next_epoch();
	slab_pool_next_epoch();
	is_int(slab_pool_punch(true, UINT64_MAX), 0, "a punched slab is not punched again");
	ok(slab_pool_take(CLS) == pg, "a heap that needs a slab of the class gets the punched one");
	n = take(pg, o, 61);
	is_int(n, 61, "the objects of a punched slab and one of its holes can be used");
	slab_pool_put(pg, SLAB_RECENT);
	is_int(slab_pool_punch(true, UINT64_MAX), 0, "units in use are not given back");
	while (n)
		free_one(pg, o[--n]);
	ok(slab_pool_adopt(pg, CLS), "a thread that frees into the slab adopts it");
	slab_pool_put(pg, SLAB_IDLE);
	is_int(slab_pool_punch(false, UINT64_MAX), HOLE_BYTES,
	       "the slab of an idle thread is punched at once");
	slab_check(slab_pool_take(CLS));
	slab_end(pg);
	is_int(holes_bytes_all(), 0, "holes of a slab that is given back no longer count");
}

static void test_pool_order(void)
{
	struct page *recent = slab_thinned(CLS, 4 * EACH, 0);
	struct page *idle = slab_thinned(CLS, 4 * EACH, 0);
	struct page *used = slab_thinned(CLS, EACH, 0);
	struct page *full = slab_thinned(CLS, EACH, 0);
	struct object *o[OBJECTS];

	take(full, o, OBJECTS - EACH - EACH + 1);
	options.holes = 0;
	slab_pool_put(idle, SLAB_IDLE);
	ok(!slab_pool_wants_punch() && slab_pool_punch(true, UINT64_MAX) == 0,
	   "no hole is made with holes:0");
	options.holes = 1;
	ok(slab_pool_adopt(idle, CLS), "a slab can be adopted with holes:0");
	slab_pool_put(full, SLAB_IDLE);
	ok(!slab_pool_wants_punch(),
	   "a slab with less than a unit free does not wait to be punched");
	slab_pool_put(used, SLAB_SCANNED);
	ok(!slab_pool_wants_punch(), "a slab that was examined does not wait to be punched");
	slab_pool_put(recent, SLAB_RECENT);
	slab_pool_put(idle, SLAB_IDLE);
	is_int(slab_pool_count_new(CLS), 2, "two of four abandoned slabs wait to be punched");
	is_int(slab_pool_count(CLS), 4, "four slabs are abandoned");
	is_int(slab_pool_punch(false, UINT64_MAX), 12 * HOLE_BYTES,
	       "an idle thread's slab is punched first, though it came last");
	slab_pool_put(slab_thinned(CLS, 4 * EACH, 0), SLAB_IDLE);
	is_int(slab_pool_punch(true, 1), 12 * HOLE_BYTES,
	       "no more slabs are punched than necessary");
	ok(slab_pool_take(CLS) == recent, "a heap that needs a slab gets one without holes first");
	slab_end(recent);
	for (unsigned i = 0; i < 4; i++)
		slab_end(slab_pool_take(CLS));
	is_int(slab_pool_count(CLS), 0, "no slab is lost");
}

/* All its live objects came back while it waited. */
static void test_pool_empty(void)
{
	struct page *pg = slab_thinned(CLS, OBJECTS, 0);
	uint64_t used = zone.total_pages - zone.free_pages;

	slab_pool_put(pg, SLAB_RECENT);
	free_one(pg, object_at(pg, 0));
	slab_pool_punch(true, UINT64_MAX);
	is_int(used - (zone.total_pages - zone.free_pages), 4,
	       "a slab that is found empty is given back whole");
	is_int(slab_pool_count(CLS), 0, "a slab that is given back is not abandoned any more");
}

/* A running thread when memory is short. */
static void test_asked(void)
{
	static void *o[2000];
	unsigned cls = class_of(1024);

	for (unsigned i = 0; i < 2000; i++)
		o[i] = heap_alloc(1024);
	for (unsigned i = 0; i < 2000; i++)
		if (i % 20)
			heap_free(o[i]);
	is_int(slab_pool_count(cls), 0, "a thread owns its slabs with room");
	heap_ask_trim();
	heap_free(heap_alloc(64));
	for (unsigned i = 0; i < 200; i++)
		o[2 * i + 1] = heap_alloc_slow(64); /* each call does a part */
	ok(slab_pool_count(cls) >= 31,
	   "a thread that is asked to trim abandons its slabs with room");
	ok(slab_pool_punch(true, UINT64_MAX) > 1000000, "slabs abandoned by a trim get holes");
	for (unsigned i = 0; i < 200; i++)
		heap_free(o[2 * i + 1]);
	for (unsigned i = 0; i < 2000; i += 20)
		heap_free(o[i]);
	heap_abandon_own();
	heap_sweep();
	is_int(slab_pool_count(cls), 0, "no slab is left when all is freed");
}

/* ---- stress --------------------------------------------------------------------------------- */

/*
 * Takers take abandoned slabs, some objects out of them, fill these, and abandon the slabs. Objects
 * go through the exchange to freers, who adopt the slab and abandon it. One thread makes holes all
 * the time.
 */
#define TAKERS 2u
#define PLACES 8192u
#define TURNS 12000u
#define TURNS_MOST (50 * TURNS)
#define BURST 600u /* rounds after which most of what is in the places is freed */

static _Atomic(struct object *) places[PLACES];
static atomic_uint takers_left;
static atomic_bool carved_again;
static atomic_uint wrong;

static void stress_leave(struct page *pg)
{
	if (slab_pool_put(pg, SLAB_RECENT) == POOL_EMPTY) {
		slab_unmake(pg);
		buddy_free(pg);
	}
}

static uintptr_t stress_mark(const struct object *o, unsigned i)
{
	return ((uintptr_t)o >> 4) * 31 + i;
}

static void stress_free(struct object *o)
{
	struct page *pg = page_of(o);
	uintptr_t *word = (uintptr_t *)(void *)o;

	for (unsigned i = 0; i < 256 / sizeof(*word); i++)
		if (word[i] != stress_mark(o, i))
			atomic_fetch_add(&wrong, 1);
	memset(word, 0, 256);
	mark_set(o, mark_base(pg));
	if (slab_free_remote(pg, o, o, 1) == SLAB_ADOPT && slab_pool_adopt(pg, CLS))
		stress_leave(pg);
}

/* Puts an object (or none) into a place and frees what was there. */
static void stress_place(struct object *o, unsigned *seed)
{
	struct object *old = atomic_exchange(&places[(unsigned)rand_r(seed) % PLACES], o);

	if (old)
		stress_free(old);
}

static void stress_turn(unsigned *seed)
{
	struct page *pg = slab_pool_take(CLS);
	struct object *o[24];
	unsigned n;

	if (!pg)
		pg = slab_new(CLS);
	n = take(pg, o, (unsigned)rand_r(seed) % 24);
	stress_leave(pg);
	for (unsigned k = 0; k < n; k++) {
		uintptr_t *word = (uintptr_t *)(void *)o[k];

		for (unsigned i = 0; i < 256 / sizeof(*word); i++)
			word[i] = stress_mark(o[k], i);
		stress_place(o[k], seed);
	}
}

static void *taker_main(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;

	/* Runs until there were holes as well: the thread that makes them may have to wait for a
	 * processor. */
	for (unsigned turn = 0; turn < TURNS || (turn < TURNS_MOST && !atomic_load(&carved_again));
	     turn++) {
		stress_turn(&seed);
		for (unsigned i = 0; turn % BURST == BURST - 1 && i < 4 * PLACES; i++)
			stress_place(NULL, &seed);
	}
	atomic_fetch_sub(&takers_left, 1);
	return NULL;
}

static void test_stress(void)
{
	pthread_t t[TAKERS];
	struct page *pg;
	uint64_t bytes = 0;
	uint64_t carved = stat_sum(STAT_holes_reused);

	atomic_store(&takers_left, TAKERS);
	for (unsigned i = 0; i < TAKERS; i++)
		pthread_create(&t[i], NULL, taker_main, (void *)(uintptr_t)(101 + i));
	while (atomic_load(&takers_left)) {
		bytes += slab_pool_punch(true, UINT64_MAX);
		if (stat_sum(STAT_holes_reused) > carved)
			atomic_store(&carved_again, true);
		sched_yield();
	}
	for (unsigned i = 0; i < TAKERS; i++)
		pthread_join(t[i], NULL);
	slab_pool_punch(true, UINT64_MAX);
	for (unsigned i = 0; i < PLACES; i++)
		if (places[i])
			stress_free(places[i]);
	while ((pg = slab_pool_take_empty(CLS)) != NULL) {
		slab_unmake(pg);
		buddy_free(pg);
	}
	carved = stat_sum(STAT_holes_reused) - carved;
	tap_diag("%lu KiB given back, %lu units carved again", (unsigned long)(bytes >> 10),
		 (unsigned long)carved);
	is_int(atomic_load(&wrong), 0, "no live object changes while holes are made around it");
	ok(bytes && carved, "holes were made, and carved again");
	is_int(slab_pool_count(CLS), 0, "every slab is found empty at the end");
	is_int(zone.total_pages, zone.free_pages, "the pages of all slabs come back");
	zone_check(&zone);
}

int main(void)
{
	heap_init();
	options.va_reserve = (uint64_t)1 << 30;
	if (vm_os_page != HOLE_BYTES)
		tap_skip_all("the figures are for a kernel with pages of 4 KiB");
	tap_plan(72);
	buddy_free(buddy_alloc(&zone, 1));
	test_punch();
	test_never_written();
	test_walk();
	test_refused();
	test_refused_inside();
	test_misuse();
	test_pool();
	test_pool_order();
	test_pool_empty();
	test_asked();
	test_stress();
	return tap_done();
}
