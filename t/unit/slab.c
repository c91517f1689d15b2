/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Size classes, and slabs: carving, remote frees, posts, slabs that lose and find an owner.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "page/block.h"
#include "page/buddy.h"
#include "lib/child.h"
#include "base/options.h"
#include "page/pagemap.h"
#include "page/pcp.h"
#include "heap/outbox.h"
#include "heap/slab.h"
#include "heap/slab_pool.h"
#include "lib/take.h"
#include "lib/tap.h"
#include "os/vm.h"

#define CLS 15u /* 256 bytes, 256 of them in a slab of 4 pages */
#define OBJECTS 256u

static struct zone zone = {
	.lock = LOCK_INIT(LOCK_BUDDY),
	.grow = LOCK_INIT(LOCK_GROW),
};

static uint64_t pages_used(void)
{
	return zone.total_pages - zone.free_pages;
}

/* Slabs only check whether there is an owner and never read it. */
static struct heap *owner_number(unsigned i)
{
	static uint64_t stand_in[8];

	return (struct heap *)(void *)&stand_in[i];
}

static struct page *slab_new(unsigned cls)
{
	struct page *pg = buddy_alloc(&zone, size_classes[cls].pages);

	if (!pg)
		tap_bail_out("no memory");
	slab_make(pg, cls);
	return pg;
}

static void attach(struct page *pg, unsigned owner)
{
	atomic_store(&pg->owner, owner_number(owner));
	slab_collect_to(pg, STATE_OWNED);
}

static struct page *slab_owned(unsigned cls)
{
	struct page *pg = slab_new(cls);

	attach(pg, 0);
	return pg;
}

static void slab_end(struct page *pg)
{
	slab_unmake(pg);
	buddy_free(pg);
}

static enum slab_remote free_one(struct page *pg, struct object *o)
{
	mark_set(o, mark_base(pg));
	return slab_free_remote(pg, o, o, 1);
}

static unsigned flags_of(struct page *pg)
{
	return (unsigned)(atomic_load(&pg->state) & STATE_FLAGS);
}

static unsigned remote_of(struct page *pg)
{
	return state_count(atomic_load(&pg->state));
}

/* ---- size classes --------------------------------------------------------------------------- */

static void test_class_of(void)
{
	unsigned bad = 0;

	for (size_t size = 1; size <= SMALL_MAX; size++) {
		unsigned cls = class_of(size);

		bad += cls >= CLASSES || class_size(cls) < size ||
		       (cls > 0 && class_size(cls - 1) >= size);
	}
	is_int(bad, 0, "each size has the smallest class that holds it");
}

static void test_class_steps(void)
{
	unsigned steps = 0;
	unsigned waste = 0;
	unsigned aligned = 0;

	for (unsigned cls = 1; cls < CLASSES; cls++) {
		size_t size = class_size(cls);
		size_t lost = size - class_size(cls - 1) - 1;

		steps += size <= class_size(cls - 1);
		aligned += size % ALIGN_MIN != 0;
		if (size > 16384)
			waste += 5 * lost > size;
		else if (size > 256)
			waste += 9 * lost > size;
		else
			steps += size != 16 * (cls + 1);
	}
	is_int(steps, 0, "classes rise, by 16 bytes up to 256");
	is_int(aligned, 0, "each class is a multiple of 16 bytes");
	is_int(waste, 0, "rounding up wastes at most 1/9, and 1/5 above 16 KiB");
	is_int(class_size(CLASSES - 1), SMALL_MAX, "the last class is the largest small size");
}

/* The rule of sizeclass.def. */
static bool pages_will_do(unsigned cls, uint32_t pages)
{
	size_t size = class_size(cls);
	size_t bytes = pages * PG_BYTES;
	size_t least = size > 128 ? 65536 : 32768;

	return bytes / size >= 8 && bytes >= least &&
	       (bytes % size) * 10000 <= (size > 8192 ? 625 : 160) * bytes;
}

static void test_class_pages(void)
{
	unsigned bad = 0;
	unsigned not_shortest = 0;
	unsigned objects = 0;

	for (unsigned cls = 0; cls < CLASSES; cls++) {
		const struct size_class *c = &size_classes[cls];

		bad += c->pages > PCP_RUN_MAX ||
		       run_class_pages[run_class_of(c->pages)] != c->pages ||
		       !pages_will_do(cls, c->pages);
		for (unsigned rc = 0; rc < run_class_of(c->pages); rc++)
			not_shortest += pages_will_do(cls, run_class_pages[rc]);
		objects += c->objects != c->pages * PG_BYTES / c->size;
	}
	is_int(bad, 0,
	       "each slab is a run class, holds 8 objects or more, and wastes little at its end");
	is_int(not_shortest, 0, "no shorter run would satisfy that rule");
	is_int(objects, 0, "the table has the right number of objects for each slab");
}

/* ---- one slab ------------------------------------------------------------------------------- */

static void test_take(void)
{
	struct page *pg = slab_new(CLS);
	const char *first = (const char *)pg;
	struct object *o[OBJECTS + 1];
	char line[sizeof(struct page)];
	bool right = true;
	bool same;

	is_int(flags_of(pg), STATE_LIMBO, "a new slab is in limbo");
	ok(pg->owner == NULL && slab_held(pg)->used == 0 && slab_held(pg)->carved == 0,
	   "a new slab has no owner and no object in use");
	attach(pg, 0);
	is_int(flags_of(pg), STATE_OWNED, "an owner takes the slab out of limbo");
	memcpy(line, first, sizeof(line));
	is_int(take(pg, o, 10), 10, "the owner takes objects from its slab");
	is_int(slab_held(pg)->used, 10, "objects that were taken count as in use");
	is_int(slab_carved_bytes(pg), 10 * 256, "no more objects are carved than asked for");
	slab_check(pg);
	is_int(take(pg, o + 10, OBJECTS), OBJECTS - 10, "the owner can take all objects of a slab");
	is_int(take(pg, o + OBJECTS, 1), 0, "a full slab gives no object");
	ok(!slab_has_room(pg), "a full slab says that it is full");
	same = memcmp(line, first, sizeof(line)) == 0;
	slab_check(pg);
	for (unsigned i = 0; i < OBJECTS; i++)
		right &= (char *)o[i] == page_address(pg) + (size_t)i * 256 &&
			 page_of((char *)o[i] + 255) == pg;
	ok(right, "a slab's objects lie side by side and lead to their slab");
	free_one(pg, o[7]);
	free_one(pg, o[200]);
	slab_check(pg);
	is_int(slab_collect_to(pg, STATE_OWNED), 2, "the owner collects objects that others freed");
	is_int(slab_held(pg)->used, OBJECTS - 2, "collected objects are not in use");
	slab_check(pg);
	memcpy(line, first, sizeof(line));
	is_int(take(pg, o + OBJECTS - 1, 2), 2, "collected objects are taken again");
	same &= memcmp(line, first, sizeof(line)) == 0;
	ok(same, "taking objects writes no line that others read when they free some");
	ok(o[OBJECTS - 1] == o[200] && o[OBJECTS] == o[7], "the object freed last is taken first");
	slab_check(pg);
	for (unsigned i = 0; i < OBJECTS - 1; i++)
		free_one(pg, o[i]);
	free_one(pg, (struct object *)(void *)(page_address(pg) + 255 * 256));
	is_int(slab_collect_to(pg, STATE_OWNED), OBJECTS, "a slab takes all its objects back");
	slab_check(pg);
	slab_end(pg);
	is_int(pages_used(), 0, "an empty slab becomes a run again");
}

/* How many bytes of a and b differ. */
static unsigned bytes_apart(uint64_t a, uint64_t b)
{
	unsigned n = 0;

	for (uint64_t d = a ^ b; d; d >>= 8)
		n += (d & 255) != 0;
	return n;
}

static void test_marks(void)
{
	unsigned least = 8;

	for (uint32_t i = 64; i < 20000; i++) {
		for (uint32_t k = 1; k <= 64; k++) {
			unsigned n = bytes_apart(mark_number(i), mark_number(i - k));

			if (n < least)
				least = n;
		}
	}
	ok(least >= 3, "a mark of an earlier slab, in part overwritten, is none of this slab");
}

static void test_post(void)
{
	struct page *pg = slab_owned(CLS);
	struct object *o[20];

	take(pg, o, 20);
	is_int(free_one(pg, o[0]), SLAB_POST, "the first remote free has to post the slab");
	is_int(flags_of(pg), STATE_OWNED | STATE_POSTED,
	       "a slab that has to be posted is marked as posted");
	is_int(free_one(pg, o[1]), SLAB_PUT, "the second remote free does not post the slab");
	link_set(o[2], o[3]);
	link_set(o[3], o[4]);
	for (unsigned i = 2; i < 5; i++)
		mark_set(o[i], mark_base(pg));
	is_int(slab_free_remote(pg, o[2], o[4], 3), SLAB_PUT,
	       "a batch of three into a posted slab does not post it");
	is_int(remote_of(pg), 5, "five objects are on the remote list");
	is_int(slab_held(pg)->used, 20, "objects on the remote list still count as used");
	is_int(slab_pool_put(pg, SLAB_RECENT), POOL_POSTED, "a posted slab cannot be abandoned");
	ok(pg->owner == owner_number(0), "a slab that cannot be abandoned keeps its owner");
	is_int(slab_collect_to(pg, STATE_OWNED), 5, "the owner collects all five objects");
	slab_check(pg);
	is_int(free_one(pg, o[5]), SLAB_POST, "the next remote free posts the slab again");
	slab_collect_to(pg, STATE_OWNED);
	for (unsigned i = 6; i < 20; i++)
		free_one(pg, o[i]);
	slab_collect_to(pg, STATE_OWNED);
	is_int(slab_held(pg)->used, 0, "no object is in use when all have come back");
	slab_end(pg);
}

/* The owner has free objects when it collects: what others freed, in batches, comes before them. */
static void test_collect_before(void)
{
	struct page *pg = slab_owned(CLS);
	struct object *o[20];
	struct object *again[14];

	take(pg, o, 20);
	for (unsigned i = 0; i < 12; i++) {
		mark_set(o[i], mark_base(pg));
		link_set(o[i], i % 4 == 3 ? NULL : o[i + 1]);
	}
	for (unsigned i = 0; i < 2; i++) {
		slab_free_remote(pg, o[4 * i], o[4 * i + 3], 4);
		slab_collect_to(pg, STATE_OWNED);
	}
	slab_free_remote(pg, o[8], o[11], 4);
	free_one(pg, o[12]);
	free_one(pg, o[19]);
	is_int(slab_collect_to(pg, STATE_OWNED), 6, "the owner of free objects collects six more");
	slab_check(pg);
	take(pg, again, 14);
	ok(again[0] == o[19] && again[1] == o[12] && again[2] == o[8] && again[5] == o[11] &&
		   again[6] == o[4] && again[9] == o[7] && again[10] == o[0] && again[13] == o[3],
	   "collected objects come before those that were free, the last batch first");
	slab_check(pg);
	is_int(slab_held(pg)->used, 20, "all objects are in use again");
	for (unsigned i = 0; i < 20; i++)
		free_one(pg, o[i]);
	slab_collect_to(pg, STATE_OWNED);
	slab_end(pg);
}

/* ---- abandoned slabs ------------------------------------------------------------------------ */

static void test_abandoned(void)
{
	struct page *pg = slab_owned(CLS);
	struct object *o[20];
	unsigned asked = 0;

	take(pg, o, 20);
	is_int(slab_pool_put(pg, SLAB_RECENT), POOL_PUT,
	       "a slab with objects in use can be abandoned");
	ok(flags_of(pg) == STATE_ABANDONED && !pg->owner, "an abandoned slab has no owner");
	is_int(slab_pool_count(CLS), 1, "an abandoned slab counts in the pool of its class");
	is_int(slab_pool_count(CLS + 1), 0, "an abandoned slab counts in no other pool");
	is_int(free_one(pg, o[0]), SLAB_ADOPT,
	       "a thread that frees into an abandoned slab is asked to adopt it");
	is_int(free_one(pg, o[1]), SLAB_ADOPT, "each such thread is asked");
	ok(slab_pool_adopt(pg, CLS), "one thread adopts the slab");
	ok(!slab_pool_adopt(pg, CLS), "no thread adopts the slab after that");
	is_int(flags_of(pg), STATE_LIMBO, "an adopted slab is in limbo");
	is_int(slab_held(pg)->used, 18, "adoption collects the objects that were freed");
	is_int(slab_pool_count(CLS), 0, "an adopted slab is out of the pool");
	slab_check(pg);
	attach(pg, 1);
	slab_pool_put(pg, SLAB_RECENT);
	ok(!slab_pool_adopt(pg, CLS + 1), "a slab cannot be adopted as one of another class");
	ok(slab_pool_take(CLS + 1) == NULL, "an empty pool gives no slab");
	ok(slab_pool_take(CLS) == pg, "a pool gives its slab to a heap that needs one");
	ok(slab_pool_take(CLS) == NULL, "once");
	for (unsigned i = 2; i < 20; i++)
		asked += free_one(pg, o[i]) != SLAB_PUT;
	is_int(asked, 0, "a free into a slab in limbo asks for nothing");
	is_int(slab_pool_put(pg, SLAB_RECENT), POOL_EMPTY, "an empty slab is not abandoned");
	slab_end(pg);
}

static void test_abandoned_full(void)
{
	struct page *pg = slab_owned(CLS);
	struct object *o[OBJECTS];

	take(pg, o, OBJECTS);
	is_int(slab_pool_put(pg, SLAB_RECENT), POOL_PUT, "a full slab can be abandoned");
	ok(slab_pool_take(CLS) == NULL,
	   "a full abandoned slab is not given to a heap that needs room");
	ok(slab_pool_take_empty(CLS) == NULL,
	   "a search for empty slabs does not return a full one");
	for (unsigned i = 0; i + 1 < OBJECTS; i++)
		free_one(pg, o[i]);
	ok(slab_pool_take_empty(CLS) == NULL,
	   "an abandoned slab is not given as empty before its last object was freed");
	free_one(pg, o[OBJECTS - 1]);
	ok(slab_pool_take_empty(CLS) == pg,
	   "an abandoned slab is given as empty after its last free");
	is_int(slab_held(pg)->used, 0, "a slab that is given as empty has no object in use");
	ok(slab_pool_take_empty(CLS) == NULL, "an empty abandoned slab is given once");
	slab_end(pg);
	is_int(pages_used(), 0, "abandoned slabs lose no page");
}

/* More slabs than one hold of the lock checks; debug builds count. */
static void test_many_abandoned(void)
{
	enum { MANY = 200 };
	static struct page *pg[MANY];
	static struct object *o[MANY];
	struct page *found[MANY];
	unsigned n = 0;
	unsigned freed = 0;

	for (unsigned i = 0; i < MANY; i++) {
		pg[i] = slab_owned(CLS);
		take(pg[i], &o[i], 1);
		slab_pool_put(pg[i], SLAB_RECENT);
	}
	ok(slab_pool_take_empty(CLS) == NULL, "none of many abandoned slabs is empty");
	for (unsigned i = 0; i < MANY; i += 66, freed++)
		free_one(pg[i], o[i]);
	while (n < MANY && (found[n] = slab_pool_take_empty(CLS)) != NULL)
		slab_end(found[n++]);
	is_int(n, freed, "all slabs that become empty are found, wherever they are");
	for (unsigned i = 0; i < MANY; i++)
		if (i % 66)
			free_one(pg[i], o[i]);
	while (n < MANY && (found[n] = slab_pool_take_empty(CLS)) != NULL)
		slab_end(found[n++]);
	is_int(n, MANY, "in the end all abandoned slabs are found empty");
}

/* A thread has freed into an abandoned slab and is about to adopt it while others walk over the
 * pool. */
static void test_try_under_way(void)
{
	struct page *slow = slab_owned(CLS);
	struct page *lost = slab_owned(CLS);
	struct object *o[3];

	take(slow, o, 2);
	take(lost, &o[2], 1);
	slab_pool_put(slow, SLAB_RECENT);
	slab_pool_put(lost, SLAB_RECENT);
	while (slab_pool_take_empty(CLS))
		;
	is_int(free_one(slow, o[0]), SLAB_ADOPT,
	       "a thread that freed into an abandoned slab is to adopt it");
	ok(!slab_pool_take_empty(CLS),
	   "a walk over the pool before the adoption finds nothing empty");
	ok(slab_pool_adopt(slow, CLS), "the slab can be adopted after the walk");
	is_int(free_one(lost, o[2]), SLAB_ADOPT, "another slab becomes empty and is not adopted");
	ok(slab_pool_take_empty(CLS) == lost && slab_held(lost)->used == 0,
	   "the next walk finds the empty slab that was not adopted");
	free_one(slow, o[1]);
	slab_collect_to(slow, STATE_OWNED);
	slab_end(slow);
	slab_end(lost);
}

static void test_pool_locked(void)
{
	struct page *in = slab_owned(CLS);
	struct page *out = slab_owned(CLS);
	struct object *o[2];

	take(in, &o[0], 1);
	take(out, &o[1], 1);
	slab_pool_put(in, SLAB_RECENT);
	if (lock_acquire(slab_pool_lock(CLS)) != 0)
		tap_bail_out("the lock of a pool is held");
	is_int(slab_pool_put(out, SLAB_RECENT), POOL_LOCKED,
	       "a heap that cannot lock the pool is told so");
	ok(!slab_pool_take(CLS) && !slab_pool_take_empty(CLS),
	   "a heap that cannot lock the pool gets no slab");
	ok(!slab_pool_adopt(in, CLS), "a slab cannot be adopted without the lock of its pool");
	lock_release(slab_pool_lock(CLS));
	ok(slab_pool_take(CLS) == in, "a pool whose lock was held loses no slab");
	free_one(in, o[0]);
	free_one(out, o[1]);
	slab_collect_to(in, STATE_OWNED);
	slab_collect_to(out, STATE_OWNED);
	slab_end(in);
	slab_end(out);
}

#define WAITING 20u

/* Takes the pool's lock and abandons slabs with one object each. Returns how many were refused. */
static unsigned put_waiting(struct page **pg, struct object **o)
{
	unsigned bad = 0;

	for (unsigned i = 0; i < WAITING; i++) {
		pg[i] = slab_new(CLS);
		take(pg[i], &o[i], 1);
	}
	if (lock_acquire(slab_pool_lock(CLS)) != 0)
		tap_bail_out("the lock of a pool is held");
	for (unsigned i = 0; i < WAITING; i++)
		bad += slab_pool_put(pg[i], SLAB_RECENT) != POOL_PUT;
	return bad;
}

/* Slabs without an owner must not be lost when the pool's lock is not available. */
static void test_pool_waiting(void)
{
	struct page *pg[WAITING];
	struct object *o[WAITING];
	unsigned freed = 0;
	unsigned found = 0;
	unsigned bad;

	bad = put_waiting(pg, o);
	is_int(bad, 0, "slabs in limbo can be abandoned without the pool's lock");
	for (unsigned i = 0; i < WAITING; i += 4, freed++)
		bad += free_one(pg[i], o[i]) != SLAB_PUT;
	is_int(bad, 0, "objects of slabs that wait for the lock can be freed");
	lock_release(slab_pool_lock(CLS));
	for (struct page *e; (e = slab_pool_take_empty(CLS)) != NULL; found++)
		slab_end(e);
	is_int(found, freed, "the next holder of the lock finds the waiting slabs that are empty");
	for (struct page *p; (p = slab_pool_take(CLS)) != NULL; found++)
		attach(p, 0);
	is_int(found, WAITING, "the next holder of the lock finds the other waiting slabs");
	is_int(slab_pool_count(CLS), 0, "each waiting slab is given once");
	for (unsigned i = 0; i < WAITING; i++) {
		if (i % 4 == 0)
			continue;
		free_one(pg[i], o[i]);
		slab_collect_to(pg[i], STATE_OWNED);
		slab_end(pg[i]);
	}
}

/* The next holder adds a few of those that waited: a drain adds the others. */
static void test_waiting_rest(void)
{
	struct page *pg[WAITING];
	struct object *o[WAITING];
	unsigned found = 0;

	put_waiting(pg, o);
	lock_release(slab_pool_lock(CLS));
	ok(!slab_pool_take_empty(CLS), "no slab that waits is empty");
	free_one(pg[0], o[0]);
	ok(slab_pool_take_empty(CLS) == pg[0],
	   "the slab that waits longest is found when it comes empty");
	for (unsigned i = 1; i < WAITING; i++)
		free_one(pg[i], o[i]);
	for (struct page *e; (e = slab_pool_take_empty(CLS)) != NULL; found++)
		slab_end(e);
	is_int(found, WAITING - 1, "so are the others");
	slab_end(pg[0]);
}

/* A waiting slab that is empty by then is found, also when another call has held the lock since. */
static void test_waiting_empty(void)
{
	struct page *late = slab_new(CLS);
	struct page *other = slab_owned(CLS);
	struct object *o[2];

	take(late, &o[0], 1);
	take(other, &o[1], 1);
	ok(!slab_pool_take_empty(CLS), "no object was freed into abandoned slabs");
	if (lock_acquire(slab_pool_lock(CLS)) != 0)
		tap_bail_out("the lock of a pool is held");
	slab_pool_put(late, SLAB_RECENT);
	free_one(late, o[0]);
	lock_release(slab_pool_lock(CLS));
	slab_pool_put(other, SLAB_RECENT);
	ok(slab_pool_take_empty(CLS) == late,
	   "a slab that waited for the lock and is empty when it gets it is found");
	ok(slab_pool_take(CLS) == other, "a slab beside it that is not empty is left");
	slab_end(late);
	attach(other, 0);
	free_one(other, o[1]);
	slab_collect_to(other, STATE_OWNED);
	slab_end(other);
}

/* ---- misuse that is seen -------------------------------------------------------------------- */

static void free_twice(void *arg)
{
	struct page *pg = slab_owned(CLS);
	struct object *o[2];

	(void)arg;
	take(pg, o, 2);
	free_one(pg, o[0]);
	free_one(pg, o[0]);
}

/* By a thread that does not own the slab, twice in a row: neither has left its outbox yet. */
static void outbox_twice(void *arg)
{
	static struct outbox outbox;
	struct page *posted = NULL;
	struct page *pg = slab_owned(CLS);
	struct object *o[2];

	(void)arg;
	take(pg, o, 2);
	outbox_put(&outbox, pg, o[0], o[0], 1, &posted);
	outbox_put(&outbox, pg, o[1], o[1], 1, &posted);
	outbox_put(&outbox, pg, o[1], o[1], 1, &posted);
}

static void free_into_no_slab(void *arg)
{
	struct page *pg = slab_owned(CLS);
	struct object *o;

	(void)arg;
	take(pg, &o, 1);
	free_one(pg, o);
	slab_collect_to(pg, STATE_OWNED);
	slab_unmake(pg);
	free_one(pg, o);
}

static void free_too_many(void *arg)
{
	struct page *pg = slab_owned(CLS);
	struct object *o[2];

	(void)arg;
	take(pg, o, 1);
	o[1] = (struct object *)(void *)(page_address(pg) + 256);
	free_one(pg, o[0]);
	free_one(pg, o[1]);
	slab_collect_to(pg, STATE_OWNED);
}

static void overwrite_oldest(void *arg)
{
	struct page *pg = slab_owned(CLS);
	struct object *o[3];

	(void)arg;
	take(pg, o, 3);
	free_one(pg, o[0]);
	slab_collect_to(pg, STATE_OWNED);
	free_one(pg, o[1]);
	free_one(pg, o[2]);
	o[1]->link = 0x4141414141414141;
	slab_collect_to(pg, STATE_OWNED);
}

static void test_misuse(void)
{
	ok(child_is_stopped(overwrite_oldest, NULL, "object written to after it was freed"),
	   "a link that was overwritten where two lists join stops the program");
	ok(child_is_stopped(free_twice, NULL, "object freed twice"),
	   "two remote frees of an object in a row stop the program");
	ok(child_is_stopped(outbox_twice, NULL, "object freed twice"),
	   "a free of an object that waits in an outbox stops the program");
	ok(child_is_stopped(free_into_no_slab, NULL, "object freed twice"),
	   "a remote free into what is no slab any more stops the program");
	ok(child_is_stopped(free_too_many, NULL, "object freed twice"),
	   "more remote frees than objects in use stop the program");
}

/* ---- stress --------------------------------------------------------------------------------- */

/*
 * Owners take objects out of slabs and put them into the exchange; freers take them out and free
 * them. Owners abandon slabs and adopt abandoned ones; freers adopt slabs and abandon them again. A
 * flag in the second word of an object says whether it is live.
 */
#define OWNERS 2u
#define FREERS 2u
#define PLACES 1024u
#define HOLD 12u /* slabs that an owner keeps */
#define TURNS 15000u

static _Atomic(struct object *) places[PLACES];
static _Atomic(struct page *) inbox[OWNERS];
static atomic_ulong taken;
static atomic_ulong freed;
static atomic_ulong adopted;
static atomic_ulong posts;
static atomic_uint wrong;
static atomic_uint owners_left;

static atomic_ulong *live_flag(struct object *o)
{
	return (atomic_ulong *)(void *)((char *)o + sizeof(struct object));
}

static void put_somewhere(struct object *o, unsigned *seed)
{
	atomic_fetch_add(&taken, 1);
	if (atomic_exchange(live_flag(o), 1) != 0)
		atomic_fetch_add(&wrong, 1);
	/* On a loaded machine a yield may take long to return. */
	for (unsigned i = 1;; i++) {
		struct object *none = NULL;

		if (atomic_compare_exchange_strong(&places[(unsigned)rand_r(seed) % PLACES], &none,
						   o))
			return;
		if (i % PLACES == 0)
			sched_yield();
	}
}

static void stress_post(struct page *pg)
{
	struct heap *h = atomic_load(&pg->owner);
	unsigned i = h == owner_number(0) ? 0 : 1;
	struct page *head = atomic_load(&inbox[i]);

	if (h != owner_number(i))
		atomic_fetch_add(&wrong, 1);
	do {
		pg->stack_next = head;
	} while (!atomic_compare_exchange_weak(&inbox[i], &head, pg));
	atomic_fetch_add(&posts, 1);
}

static void stress_leave_again(struct page *pg)
{
	if (slab_pool_put(pg, SLAB_RECENT) == POOL_EMPTY)
		slab_end(pg);
}

static void stress_free(struct object *o)
{
	struct page *pg = page_of(o);

	atomic_fetch_add(&freed, 1);
	if (atomic_exchange(live_flag(o), 0) != 1)
		atomic_fetch_add(&wrong, 1);
	switch (free_one(pg, o)) {
	case SLAB_POST:
		stress_post(pg);
		break;
	case SLAB_ADOPT:
		if (slab_pool_adopt(pg, CLS)) {
			atomic_fetch_add(&adopted, 1);
			stress_leave_again(pg);
		}
		break;
	case SLAB_PUT:
		break;
	}
}

static void *freer_main(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;

	for (unsigned idle = 0; atomic_load(&owners_left) || idle < 20 * PLACES; idle++) {
		struct object *o = atomic_exchange(&places[(unsigned)rand_r(&seed) % PLACES], NULL);

		if (!o)
			continue;
		idle = 0;
		stress_free(o);
	}
	return NULL;
}

/* An owner's slabs; posted slabs come through the inbox and stay in the array. */
struct stress_owner {
	unsigned number;
	unsigned seed;
	struct page *slab[HOLD];
};

static void open_inbox(struct stress_owner *so)
{
	struct page *pg = atomic_exchange(&inbox[so->number], NULL);

	while (pg) {
		struct page *next = pg->stack_next;

		if (slab_collect_to(pg, STATE_OWNED) == 0)
			atomic_fetch_add(&wrong, 1); /* the poster has put something there */
		slab_check(pg);
		pg = next;
	}
}

static void owner_step(struct stress_owner *so, unsigned i)
{
	struct page *pg = so->slab[i];
	struct object *o[16];
	unsigned n;

	if (!pg) {
		pg = slab_pool_take(CLS);
		so->slab[i] = pg = pg ? pg : slab_new(CLS);
		attach(pg, so->number);
	}
	n = take(pg, o, (unsigned)rand_r(&so->seed) % 16);
	while (n)
		put_somewhere(o[--n], &so->seed);
	if (rand_r(&so->seed) % 8)
		return;
	switch (slab_pool_put(pg, SLAB_RECENT)) {
	case POOL_EMPTY:
		slab_end(pg);
		so->slab[i] = NULL;
		break;
	case POOL_PUT:
		so->slab[i] = NULL;
		break;
	case POOL_POSTED:
	case POOL_LOCKED:
		break;
	}
}

static void *owner_main(void *arg)
{
	struct stress_owner *so = arg;
	bool some = true;

	for (unsigned turn = 0; turn < TURNS; turn++) {
		owner_step(so, (unsigned)rand_r(&so->seed) % HOLD);
		if (turn % 4 == 0)
			open_inbox(so);
	}
	while (some) {
		some = false;
		open_inbox(so);
		for (unsigned i = 0; i < HOLD; i++) {
			struct page *pg = so->slab[i];
			enum slab_put put = pg ? slab_pool_put(pg, SLAB_RECENT) : POOL_PUT;

			if (put == POOL_EMPTY)
				slab_end(pg);
			if (put == POOL_EMPTY || put == POOL_PUT)
				so->slab[i] = NULL;
			else
				some = true;
		}
	}
	atomic_fetch_sub(&owners_left, 1);
	return NULL;
}

static void test_stress(void)
{
	static struct stress_owner owners[OWNERS];
	pthread_t t[OWNERS + FREERS];
	struct page *pg;

	atomic_store(&owners_left, OWNERS);
	for (unsigned i = 0; i < OWNERS; i++) {
		owners[i] = (struct stress_owner){ .number = i, .seed = 31 + i };
		pthread_create(&t[i], NULL, owner_main, &owners[i]);
	}
	for (unsigned i = 0; i < FREERS; i++)
		pthread_create(&t[OWNERS + i], NULL, freer_main, (void *)(uintptr_t)(101 + i));
	for (unsigned i = 0; i < OWNERS + FREERS; i++)
		pthread_join(t[i], NULL);
	for (unsigned i = 0; i < PLACES; i++)
		if (places[i])
			stress_free(places[i]);
	while ((pg = slab_pool_take_empty(CLS)) != NULL)
		slab_end(pg);
	tap_diag("%lu objects, %lu posts, %lu adoptions", atomic_load(&taken), atomic_load(&posts),
		 atomic_load(&adopted));
	is_int(atomic_load(&wrong), 0, "no object comes back twice, none is handed out twice");
	is_int(atomic_load(&freed), atomic_load(&taken), "each object is freed once");
	ok(atomic_load(&posts) && atomic_load(&adopted), "slabs are posted and adopted");
	is_int(slab_pool_count(CLS), 0, "every slab is found empty at the end");
	is_int(pages_used(), 0, "the pages of all slabs come back");
	zone_check(&zone);
}

int main(void)
{
	tap_plan(98);
	vm_init();
	options.va_reserve = (uint64_t)1 << 30;
	buddy_free(buddy_alloc(&zone, 1));
	test_class_of();
	test_class_steps();
	test_class_pages();
	test_take();
	test_marks();
	test_post();
	test_collect_before();
	test_abandoned();
	test_abandoned_full();
	test_many_abandoned();
	test_try_under_way();
	test_pool_locked();
	test_pool_waiting();
	test_waiting_empty();
	test_misuse();
	test_stress();
	test_waiting_rest();
	return tap_done();
}
