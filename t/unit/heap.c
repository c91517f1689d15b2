/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Threads' heaps: sizes and alignments, threads that come and go, calls that cannot use their own
 * heap (re-entered, claimed, gone), and how the objects of such calls find their way back.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>

#include "heap/arena.h"
#include "page/block.h"
#include "page/buddy.h"
#include "page/purge.h"
#include "lib/child.h"
#include "lib/core.h"
#include "heap/cache_bin.h"
#include "heap/claim.h"
#include "heap/heap.h"
#include "heap/heap_slabs.h"
#include "reclaim/info.h"
#include "shim/init.h"
#include "heap/large.h"
#include "heap/sweep.h"
#include "heap/trim.h"
#include "base/options.h"
#include "base/stats.h"
#include "lib/tap.h"

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#else
#define UNDER_TSAN 0
#endif
#define MIB ((size_t)1 << 20)

static void run_thread(void *(*fn)(void *), void *arg)
{
	pthread_t t;

	if (pthread_create(&t, NULL, fn, arg) != 0)
		tap_bail_out("cannot start a thread");
	pthread_join(t, NULL);
}

/* ---- sizes and alignments ------------------------------------------------------------------- */

static void test_sizes(void)
{
	unsigned bad = 0;
	unsigned n = 0;
	void *all[512];
	size_t sizes[512];

	for (size_t size = 1; size <= 48 * MIB; size += size / 16 + 1) {
		if (n == 512)
			break;
		all[n] = alloc(size);
		sizes[n] = size;
		memset(all[n], (int)n, size < 65536 ? size : 65536);
		bad += (uintptr_t)all[n] % ALIGN_MIN != 0 || heap_usable(all[n]) < size;
		n++;
	}
	is_int(bad, 0, "blocks of all sizes are aligned to 16 and as long as asked for");
	bad = 0;
	for (unsigned i = 0; i < n; i++) {
		size_t len = sizes[i] < 65536 ? sizes[i] : 65536;

		for (size_t k = 0; k < len; k++)
			bad += ((unsigned char *)all[i])[k] != (unsigned char)i;
		heap_free(all[i]);
	}
	is_int(bad, 0, "blocks in use do not overlap");
	heap_check();
	zone_check(&zone_main);
}

static void test_zero_size(void)
{
	void *p = heap_alloc(0);
	void *q = heap_alloc(0);

	ok(p && q && p != q, "allocations of no bytes give distinct blocks");
	heap_free(p);
	heap_free(q);
	heap_free(NULL);
	ok(true, "free of NULL counts as no free");
}

static void test_aligned(void)
{
	static const size_t sizes[] = { 0, 1, 17, 100, 1000, 5000, 16384, 40000, 300000, 3 * MIB };
	unsigned misaligned = 0;
	unsigned shorter = 0;

	for (size_t align = 8; align <= 128 * MIB; align *= 2) {
		for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			char *p = heap_alloc_aligned(sizes[i], align);

			if (!p)
				tap_bail_out("no memory");
			misaligned += (uintptr_t)p % align != 0;
			shorter += heap_usable(p) < sizes[i];
			if (sizes[i])
				p[0] = p[sizes[i] - 1] = 'a';
			heap_free(p);
		}
	}
	is_int(misaligned, 0, "malloc gives blocks of each alignment up to 128 MiB");
	is_int(shorter, 0, "aligned blocks are as long as asked for");
	heap_check();
	zone_check(&zone_main);
}

static bool counts_up(const unsigned char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != (unsigned char)(i * 7 + (i >> 9)))
			return false;
	return true;
}

static void count_up(unsigned char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (unsigned char)(i * 7 + (i >> 9));
}

static void test_realloc(void)
{
	static const size_t sizes[] = {
		1,        10,    16,    17,       200,      1000,    20000,
		32768,    32769, 70000, 1000000,  40000000, 3000000, 100000000,
		40000000, 5000,  60000, 10000000, 34 * MIB, 8,
	};
	unsigned char *p = alloc(5);
	size_t old = 5;
	unsigned lost = 0;

	count_up(p, old);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		p = heap_realloc(p, sizes[i]);
		if (!p)
			tap_bail_out("no memory");
		lost += !counts_up(p, old < sizes[i] ? old : sizes[i]);
		lost += heap_usable(p) < sizes[i];
		count_up(p, sizes[i]);
		old = sizes[i];
	}
	is_int(lost, 0, "a block keeps its data through any sequence of resizes");
	heap_free(p);
	p = alloc(100);
	ok(heap_realloc(p, 101) == p && heap_realloc(p, 60) == p,
	   "a small change of size leaves a block where it is");
	p = heap_realloc(p, 16);
	ok(heap_usable(p) == 16, "a large shrink does not waste the rest of the block");
	heap_free(p);
	heap_check();
	zone_check(&zone_main);
}

/* From one size to another, which is more than half of what the block keeps. */
/* Whether the regions that the thread's heap knows to lie side by side are ours, and p's is one. */
static bool near_has(const void *p)
{
	for (uint64_t n = 0; n < heap_self->near_bytes; n += REGION_BYTES) {
		if (!pagemap_ours((void *)(heap_self->near + n)))
			return false;
	}
	return heap_is_near(heap_self, p);
}

static void test_near(void)
{
	static void *o[1000];
	char *p = alloc(100);

	heap_self->near_bytes = 0;
	heap_free(p);
	ok(near_has(p), "a free learns which regions of ours lie side by side");
	ok(!pagemap_ours((void *)(heap_self->near - 1)) &&
		   !pagemap_ours((void *)(heap_self->near + heap_self->near_bytes)),
	   "and where they end");
	p = memset(alloc(100), 'p', 100);
	heap_self->near_bytes = 0;
	p = heap_realloc(p, 1000);
	ok(near_has(p) && p[0] == 'p' && p[99] == 'p', "so does a realloc");
	heap_free(p);
	for (unsigned i = 0; i < 1000; i++)
		o[i] = alloc(48);
	/* Where nothing is ours: these do not look into it. */
	heap_self->near = REGION_BYTES;
	heap_self->near_bytes = REGION_BYTES;
	for (unsigned i = 0; i < 1000; i++)
		heap_free(o[i]);
	ok(near_has(o[0]), "frees elsewhere learn others");
	heap_check();
}

static void test_shrink_in_place(void)
{
	static const struct {
		size_t from;
		size_t to;
		size_t stays; /* usable bytes left */
	} cases[] = {
		{ 40000, 24000, 32768 },   { 33000, 32768, 32768 },  { 40000, 10000, 16384 },
		{ 100000, 60000, 65536 },  { 300000, 20000, 32768 }, { 2000000, 1100000, 1310720 },
		{ 3000000, 50000, 65536 },
	};
	unsigned moved = 0;
	unsigned wrong = 0;
	unsigned lost = 0;

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned char *p[16];

		for (unsigned k = 0; k < 16; k++) {
			p[k] = alloc(cases[i].from);
			count_up(p[k], cases[i].from);
		}
		for (unsigned k = 0; k < 16; k++) {
			unsigned char *q = heap_realloc(p[k], cases[i].to);

			moved += q != p[k];
			wrong += heap_usable(q) != cases[i].stays;
			lost += !counts_up(q, cases[i].to);
			p[k] = heap_realloc(q, cases[i].from);
			lost += !counts_up(p[k], cases[i].to);
			count_up(p[k], cases[i].from);
			p[k] = heap_realloc(p[k], cases[i].to);
		}
		for (unsigned k = 0; k < 16; k++)
			heap_free(p[k]);
	}
	is_int(moved, 0,
	       "a block that shrinks to more than half of its last page stays where it is");
	is_int(wrong, 0, "the pages behind a block that shrank are split off");
	is_int(lost, 0, "a block that shrank in place keeps its data, and grows again");
	heap_check();
	zone_check(&zone_main);
}

/* A block that grows by much and is freed, again and again, reuses its pages. */
static void test_grow_again(void)
{
	static const size_t from[] = { 600000, 3000000, 9000000 };
	unsigned lost = 0;
	uint64_t mapped = value("huge_allocs");
	struct rusage before;
	struct rusage after;
	uint64_t decay = options.decay_ms;

	options.decay_ms = 3600000; /* what is free stays, however slow the machine is */
	for (unsigned i = 0; i < sizeof(from) / sizeof(from[0]); i++) {
		for (unsigned round = 0; round < 60; round++) {
			unsigned char *p = alloc(from[i]);

			if (round == 10)
				getrusage(RUSAGE_SELF, &before);
			count_up(p, from[i]);
			p = heap_realloc(p, 2 * from[i]);
			lost += !counts_up(p, from[i]);
			count_up(p, 2 * from[i]);
			heap_free(p);
		}
		getrusage(RUSAGE_SELF, &after);
		/* Without reuse each round would fault the pages of a new mapping, at least 100. */
		ok(after.ru_minflt - before.ru_minflt < 2000,
		   "a block of %zu bytes that doubles and is freed reuses its pages", from[i]);
		tap_diag("%ld page faults in 50 rounds", after.ru_minflt - before.ru_minflt);
	}
	options.decay_ms = decay;
	is_int(value("huge_allocs") - mapped, 0, "no step of such a growth becomes a mapping");
	is_int(lost, 0, "growth in steps loses no byte");

	unsigned char *p = alloc(2000000);
	unsigned char *q = alloc(2000000);
	size_t n = 2000000;

	count_up(p, n);
	while (n < 4000000 && value("huge_allocs") == mapped)
		p = heap_realloc(p, n += 100000);
	ok(counts_up(p, 2000000), "a block that grows by a little keeps its data");
	heap_free(p);
	heap_free(q);
	heap_check();
	zone_check(&zone_main);
}

/* Bytes that are copied while n blocks grow by tenths to 3 MB in turn. */
static size_t copied_by_growth(unsigned n)
{
	unsigned char *p[8];
	size_t old = 1000;
	size_t copied = 0;
	unsigned lost = 0;

	for (unsigned i = 0; i < n; i++) {
		p[i] = alloc(old);
		count_up(p[i], old);
	}
	for (size_t size = old; old < 3000000; old = size) {
		size += size / 10;
		for (unsigned i = 0; i < n; i++) {
			unsigned char *q = heap_realloc(p[i], size);

			copied += q == p[i] ? 0 : old;
			p[i] = q;
		}
	}
	for (unsigned i = 0; i < n; i++) {
		lost += !counts_up(p[i], 1000);
		heap_free(p[i]);
	}
	return lost ? SIZE_MAX : copied;
}

/* Blocks that grow by steps find room behind them, once memory was used for it before. */
static void test_grow_by_steps(void)
{
	size_t alone = 0;
	size_t eight = 0;

	reclaim_drain(RECLAIM_CACHES, 0, &(struct reclaim_report){ 0 });
	for (unsigned round = 0; round < 10; round++)
		alone = copied_by_growth(1);
	for (unsigned round = 0; round < 10; round++)
		eight = copied_by_growth(8);
	ok(alone < 2000000, "a block that grows by tenths to 3 MB is hardly copied");
	ok(eight < 6000000, "nor are eight that grow in turn");
	tap_diag("copied: %zu, %zu bytes", alone, eight);
	heap_check();
	zone_check(&zone_main);
}

static void test_zero_flag(void)
{
	unsigned lies = 0;
	unsigned zeros = 0;

	pcp_drain(heap_pcp());
	zone_purge(&zone_main, 0, UINT64_MAX);
	for (unsigned i = 0; i < 200; i++) {
		size_t size = SMALL_MAX + 1 + (size_t)i * 9973;
		bool zero = false;
		char *p = heap_alloc_large_zero(size, &zero);

		if (!p)
			tap_bail_out("no memory");
		zeros += zero;
		for (size_t k = 0; zero && k < size; k += 64)
			lies += p[k] != 0;
		memset(p, 0xff, size);
		heap_free(p);
	}
	ok(zeros > 0, "malloc says of some large blocks that they read as zero");
	is_int(lies, 0, "each block that is said to read as zero does");
}

/* ---- threads that come and go --------------------------------------------------------------- */

#define HANDED 2000u

static void *handed[HANDED];

/* Allocates, frees every other object, ends. */
static void *maker(void *arg)
{
	unsigned n = *(unsigned *)arg;

	for (unsigned i = 0; i < n; i++) {
		handed[i] = alloc(16 + (size_t)i * 37 % 3000);
		memset(handed[i], 'h', 16);
	}
	heap_check();
	for (unsigned i = 0; i < n; i += 2) {
		heap_free(handed[i]);
		handed[i] = NULL;
	}
	return NULL;
}

static void free_handed(void)
{
	for (unsigned i = 0; i < HANDED; i++) {
		heap_free(handed[i]);
		handed[i] = NULL;
	}
}

static void *free_handed_thread(void *arg)
{
	(void)arg;
	free_handed();
	return NULL;
}

static void test_exit(void)
{
	uint64_t adopted = value("slabs_adopted");
	uint64_t unowned = value("slabs_abandoned");
	unsigned n = HANDED;
	bool kept = true;

	run_thread(maker, &n);
	ok(value("slabs_abandoned") > unowned, "a thread that ends abandons its slabs");
	for (unsigned i = 1; i < n; i += 2)
		kept &= ((char *)handed[i])[0] == 'h' && ((char *)handed[i])[15] == 'h';
	ok(kept, "what an ended thread allocated keeps its data");
	run_thread(maker, &n); /* forgets half of the first objects: leaked on purpose */
	ok(value("slabs_adopted") > adopted,
	   "the next thread adopts abandoned slabs that have room");
	adopted = value("slabs_adopted");
	free_handed();
	heap_sweep();
	ok(value("slabs_adopted") > adopted,
	   "a thread that frees into an abandoned slab adopts it");
	heap_check();
	zone_check(&zone_main);
}

static void test_many_threads(void)
{
	unsigned n = HANDED;
	uint64_t heaps = 0;
	uint64_t slab_bytes = 0;
	uint64_t region_bytes = 0;

	for (unsigned i = 0; i < 2000; i++) {
		run_thread(maker, &n);
		if (i % 3)
			free_handed();
		else
			run_thread(free_handed_thread, NULL);
		if (i == 299) {
			heap_sweep();
			heaps = value("heaps");
			slab_bytes = value("slab_bytes");
			region_bytes = value("region_bytes");
		}
	}
	heap_sweep();
	is_int(value("heaps"), heaps,
	       "2,000 threads one after the other need no more heaps than 300");
	is_int(value("region_bytes"), region_bytes,
	       "2,000 threads one after the other need no more address space than 300");
	ok(value("slab_bytes") <= slab_bytes + 2 * MIB,
	   "2,000 threads one after the other need no more object memory than 300");
	heap_check();
	zone_check(&zone_main);
}

static pthread_key_t late_key;
static unsigned with_heap[8]; /* threads that had one in that round */

/* Runs in all rounds of destructors, from the second one on after the heap's own destructor. */
static void late_destructor(void *arg)
{
	uintptr_t round = (uintptr_t)arg;

	if (heap_is_real(heap_own()))
		with_heap[round]++;
	for (unsigned i = 0; i < 50; i++) {
		void *p = alloc(100 + i);

		memset(p, 'l', 100);
		heap_free(p);
	}
	heap_free(handed[round]);
	handed[round] = NULL;
	if (round < 5)
		pthread_setspecific(late_key, (void *)(round + 1));
}

static void *late_thread(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 6; i++)
		handed[i] = alloc(500);
	pthread_setspecific(late_key, (void *)1);
	return NULL;
}

static void test_late(void)
{
	uint64_t slab_bytes = 0;

	if (UNDER_TSAN) {
		tap_skip(2, "ThreadSanitizer ends before the last destructors run");
		return;
	}
	if (pthread_key_create(&late_key, late_destructor) != 0)
		tap_bail_out("cannot create a key");
	for (unsigned i = 0; i < 500; i++) {
		run_thread(late_thread, NULL);
		free_handed();
		if (i == 49) {
			heap_sweep();
			slab_bytes = value("slab_bytes");
		}
	}
	heap_sweep();
	ok(value("slab_bytes") <= slab_bytes + MIB / 2,
	   "threads that allocate and free in their last destructors leave nothing behind");
	ok(with_heap[1] == 500 && with_heap[2] == 500 && with_heap[3] == 0,
	   "a thread has its heap in the first two rounds of destructors, and none later");
	pthread_key_delete(late_key);
}

/* Each cache bin moves to longer rows on the way. */
static void *fill_bins(void *arg)
{
	static void *all[1000];

	for (size_t size = 16; size <= 1024; size += 16) {
		unsigned n = 60 + (unsigned)(size / 16 % 8) * 20; /* full with few objects or
								   * with many */

		for (unsigned i = 0; i < n; i++)
			all[i] = alloc(size);
		for (unsigned i = 0; i < n; i++)
			heap_free(all[i]);
	}
	return arg;
}

static void test_full_bins(void)
{
	uint64_t slab_bytes;

	heap_sweep();
	slab_bytes = value("slab_bytes");
	run_thread(fill_bins, NULL);
	heap_sweep();
	is_int(value("slab_bytes"), slab_bytes,
	       "no object is lost in bins that grew to their capacity");
}

/* A thread that only frees has this many places in a bin, at most. */
#define PLACES_FREED 32u
#define SPILL_MOST (3 * PLACES_FREED + 1)

struct spill {
	size_t size;
	unsigned own; /* objects of the thread's own slab among those that leave the bin first */
	void *others[SPILL_MOST];
	void *popped[SPILL_MOST]; /* objects that the bin gave */
	unsigned n_popped;
	unsigned places;
};

static void spill_free(struct spill *s, unsigned i)
{
	heap_free(s->others[i]);
	s->others[i] = NULL;
}

/* Empties the bin. */
static void spill_pop(struct spill *s, struct heap *h, unsigned cls)
{
	while (*h->bin[cls].top && s->n_popped < SPILL_MOST)
		s->popped[s->n_popped++] = alloc(s->size);
}

/* Puts the bin in the state before a spill: empty, with all its places, and without a slab that the
 * class allocates from. Returns the heap. */
static struct heap *spill_prepare(struct spill *s, unsigned cls, void **own)
{
	struct heap *h;
	unsigned n = 0;

	for (unsigned i = 0; i < s->own; i++)
		own[i] = alloc(s->size);
	h = heap_self;
	s->places = bin_capacity(cls) < PLACES_FREED ? bin_capacity(cls) : PLACES_FREED;
	while (bin_room(h, cls) < s->places && n < 2 * PLACES_FREED)
		spill_free(s, n++);
	spill_pop(s, h, cls);
	if (h->current[cls]) {
		h->current[cls]->list = LIST_NONE;
		heap_full_add(h, h->current[cls]);
		h->current[cls] = NULL;
	}
	h->bin_next[cls] = 0;
	return h;
}

/* Half of the objects leave a full bin. Of these the own ones go to their slab, and the first
 * other one ends the spill. */
static void *spill(void *arg)
{
	struct spill *s = arg;
	unsigned cls = class_of(s->size);
	void *own[PLACES_FREED];
	struct heap *h = spill_prepare(s, cls, own);
	unsigned other = 2 * PLACES_FREED;
	unsigned half = (s->places + 1) / 2;
	unsigned first = s->places < 2 * half ? s->places - half : 0;
	unsigned twice = 0;
	unsigned before = s->n_popped;

	for (unsigned i = 0; i < s->places; i++) {
		if (i >= first && i < first + s->own)
			heap_free(own[i - first]);
		else
			spill_free(s, other++);
	}
	spill_free(s, other);
	heap_check_bins();
	spill_pop(s, h, cls);
	for (unsigned i = before; i < s->n_popped; i++)
		for (unsigned k = before; k < i; k++)
			twice += s->popped[i] == s->popped[k];
	while (s->n_popped)
		heap_free(s->popped[--s->n_popped]);
	s->own = twice;
	return NULL;
}

static void test_spill(void)
{
	unsigned twice = 0;

	for (unsigned cls = 0; cls < CLASSES; cls++) {
		unsigned places = bin_capacity(cls);

		if (places > PLACES_FREED)
			places = PLACES_FREED;
		for (unsigned own = 1; own < places / 2; own++) {
			struct spill s = { .size = class_size(cls), .own = own };

			for (unsigned i = 0; i < SPILL_MOST; i++)
				s.others[i] = alloc(s.size);
			run_thread(spill, &s);
			twice += s.own;
			for (unsigned i = 0; i < SPILL_MOST; i++)
				heap_free(s.others[i]);
		}
	}
	is_int(twice, 0, "objects that left a full bin are not in it any more, wherever they lay");
}

/* ---- bins that are full and empty in turn --------------------------------------------------- */

#define WIDE_OBJECTS 4096u
static void *wide_object[WIDE_OBJECTS + 512];

/* Allocates and frees n objects of the size, the last first. Returns the places that their bin has
 * then. */
static unsigned wide_turn(size_t size, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		wide_object[i] = alloc(size);
	for (unsigned i = n; i; i--)
		heap_free(wide_object[i - 1]);
	return bin_room(heap_self, class_of(size));
}

/* The bin of a thread that allocates and frees `objects` in turn. */
struct wide {
	size_t size;
	unsigned objects;
	unsigned first;     /* its places after the first turn, */
	unsigned last;      /* after many, */
	unsigned again;     /* and after one that followed a trim of the whole bin */
	unsigned parts;     /* calls that the trim took, */
	unsigned abandoned; /* and critical sections that a drain of the bin by its owner takes */
	unsigned old;       /* of the objects that filled it, those that it holds much later */
};

/* Fills the bin, frees twice as many objects more, and returns how many of the first it holds. */
static unsigned old_objects(size_t size)
{
	static void *p[3 * WIDE_OBJECTS];
	unsigned old = 0;

	for (unsigned i = 0; i < 3 * WIDE_OBJECTS; i++)
		p[i] = alloc(size);
	for (unsigned i = 0; i < 3 * WIDE_OBJECTS; i++)
		heap_free(p[i]);
	for (struct object **o = heap_self->bin[class_of(size)].top; *o; o--) {
		for (unsigned i = 0; i < WIDE_OBJECTS; i++)
			old += *o == p[i];
	}
	return old;
}

static bool trim_bin(unsigned cls)
{
	bool done;

	if (!heap_enter_slow(heap_self))
		tap_bail_out("the heap is claimed");
	done = heap_trim_bin(heap_self, cls);
	heap_exit_free(heap_self);
	return done;
}

static bool abandon_part(unsigned cls)
{
	bool more;

	if (!heap_enter_slow(heap_self))
		tap_bail_out("the heap is claimed");
	more = heap_abandon_some(heap_self, cls) && *heap_self->bin[cls].top;
	heap_exit_free(heap_self);
	return more;
}

static void *wide(void *arg)
{
	struct wide *w = arg;
	unsigned cls = class_of(w->size);

	w->first = wide_turn(w->size, w->objects);
	for (unsigned i = 0; i < 64; i++)
		w->last = wide_turn(w->size, w->objects);
	heap_check();
	heap_check_bins();
	w->old = old_objects(w->size);
	do {
		w->parts++;
	} while (!trim_bin(cls));
	w->again = wide_turn(w->size, w->objects);
	for (unsigned i = 0; i < 64; i++)
		wide_turn(w->size, w->objects);
	while (abandon_part(cls))
		w->abandoned++;
	for (unsigned i = 0; i < 64; i++)
		wide_turn(w->size, w->objects);
	heap_abandon_own();
	heap_check();
	return NULL;
}

static void test_wide_bins(void)
{
	struct wide few = { .size = 64, .objects = 300 };
	struct wide many = { .size = 64, .objects = WIDE_OBJECTS };
	struct wide small = { .size = 16, .objects = WIDE_OBJECTS + 512 };

	run_thread(wide, &few);
	run_thread(wide, &many);
	run_thread(wide, &small);
	is_int(many.first, bin_capacity(class_of(64)),
	       "a bin that is full once does not become wide");
	is_int(few.last, bin_capacity(class_of(64)),
	       "a bin that is full and empty in turn by few objects does not either");
	is_int(many.last, 1024, "one that flushes many before it is empty becomes wide");
	is_int(small.last, 4096, "of 16 bytes it may hold 64 KiB as well");
	ok(small.old < 64 && many.old < 64, "what filled a wide bin leaves it (%u, %u)", small.old,
	   many.old);
	ok(many.parts > 2, "a trim takes a wide bin's objects in several calls");
	is_int(many.again, bin_capacity(class_of(64)),
	       "a bin that was trimmed is not wide any more");
	ok(many.abandoned > 2,
	   "a drain by its owner empties a wide bin in several critical sections");
}

/* ---- frees by others ------------------------------------------------------------------------ */

static void *freer(void *arg)
{
	void **p = arg;

	for (; *p; p++)
		heap_free(*p);
	return NULL;
}

static void test_inbox(void)
{
	static void *all[5001];
	uint64_t slab_bytes;

	for (unsigned i = 0; i < 5000; i++)
		all[i] = alloc(1000);
	heap_check();
	slab_bytes = value("slab_bytes");
	run_thread(freer, all);
	for (unsigned i = 0; i < 4900; i++)
		all[i] = alloc(1000);
	ok(value("slab_bytes") <= slab_bytes + MIB / 4,
	   "what another thread freed is allocated again");
	heap_check();
	for (unsigned i = 0; i < 4900; i++)
		heap_free(all[i]);
	heap_check();
}

#define PASSED 4096u
#define PASSED_BYTES 64u
static char *passed[PASSED];

/* All but each 16th, so that their slabs stay. */
static void *free_passed(void *arg)
{
	for (unsigned i = 0; i < PASSED; i++)
		if (i % 16)
			heap_free(passed[i]);
	return arg;
}

static void test_passed_order(void)
{
	unsigned even = 0;
	ptrdiff_t before = 0;
	char *last = NULL;

	for (unsigned i = 0; i < PASSED; i++)
		passed[i] = alloc(PASSED_BYTES);
	run_thread(free_passed, NULL);
	for (unsigned i = 0; i < PASSED; i++) {
		if (i % 16 == 0)
			continue;
		passed[i] = alloc(PASSED_BYTES);
		if (last) {
			even += passed[i] - last == before;
			before = passed[i] - last;
		}
		last = passed[i];
	}
	ok(even > PASSED / 2,
	   "objects that another thread freed in their order come back in runs of addresses (%u "
	   "of %u)",
	   even, PASSED);
	for (unsigned i = 0; i < PASSED; i++)
		heap_free(passed[i]);
}

/* ---- a heap that its thread cannot use ------------------------------------------------------ */

static void *free_one(void *arg)
{
	heap_free(arg);
	return NULL;
}

static void test_reentry(void)
{
	uint64_t calls = value("fallback_calls");
	void *mine = alloc(300);
	void *p[4];

	memset(mine, 'm', 300);
	atomic_store(&heap_self->busy, 1);
	for (unsigned i = 0; i < 4; i++) {
		p[i] = alloc(300);
		memset(p[i], 'a' + (int)i, 300);
	}
	ok(value("fallback_calls") - calls >= 4,
	   "a call inside another call is served by the fallback heap");
	heap_free(p[0]);
	heap_free(mine);
	p[0] = alloc(50000);
	ok(p[0] != NULL, "a call inside another call gets large blocks as well");
	is_int(heap_self->busy, 1, "the interrupted call is still in its critical section");
	atomic_store(&heap_self->busy, 0);
	heap_check();
	ok(((char *)p[1])[299] == 'b' && ((char *)p[2])[0] == 'c',
	   "objects of the fallback heap are ordinary objects");
	heap_free(p[0]);
	heap_free(p[1]);
	run_thread(free_one, p[2]);
	atomic_store(&heap_self->busy, 1);
	heap_free(p[3]);
	atomic_store(&heap_self->busy, 0);
	heap_check();
	ok(true,
	   "objects of the fallback heap are freed inside and outside of calls, by any thread");
}

static void test_held(void)
{
	uint64_t calls = value("fallback_calls");
	void *mine = alloc(300);
	void *p;

	atomic_store(&heap_self->claim, CLAIM_STEP | CLAIM_HELD);
	p = alloc(300);
	ok(value("fallback_calls") > calls,
	   "a thread whose heap is claimed is served by the fallback heap");
	memset(p, 'p', 300);
	heap_free(mine);
	is_int(heap_self->claim, CLAIM_STEP | CLAIM_HELD,
	       "a call of the owner leaves the claim held");
	is_int(heap_self->busy, 0, "the owner does not enter its claimed heap");
	atomic_store(&heap_self->claim, CLAIM_FREE);
	heap_free(p);
	calls = value("fallback_calls");
	atomic_store(&heap_self->claim, CLAIM_STEP | CLAIM_PENDING);
	p = alloc(300);
	is_int(value("fallback_calls") - calls, 0,
	       "a thread whose heap has a pending claim is served by its own heap");
	is_int(heap_self->claim, CLAIM_FREE, "malloc takes a pending claim back");
	atomic_store(&heap_self->claim, CLAIM_STEP | CLAIM_PENDING);
	heap_free(p);
	heap_free_slow(alloc(3000));
	is_int(heap_self->claim, CLAIM_FREE, "free takes a pending claim back");
	heap_check();
}

/* This thread holds every lock of the heaps, as a signal handler inside them would. */
static void test_no_lock(void)
{
	uint64_t maps = value("emergency_maps");
	uint64_t objects = value("emergency_objects");
	void *mine = alloc(300);
	bool zero = true;
	char *p;
	char *q;
	char *r;

	pcp_drain(&heap_self->pcp);
	heap_fork_prepare(false);
	atomic_store(&heap_self->busy, 1);
	p = heap_alloc_small(300);
	q = heap_alloc_aligned(300, 16384);
	lock_fork_begin();                  /* else another zone comes into use */
	lock_fork_prepare(&zone_main.lock); /* and the locks that large blocks need */
	r = heap_alloc_large_zero(200000, &zero);
	lock_fork_parent(&zone_main.lock);
	lock_fork_end();
	heap_free(mine);
	atomic_store(&heap_self->busy, 0);
	heap_fork_parent();
	ok(p && q && r, "a call that can use neither heap nor lock still gets memory");
	is_int(value("emergency_objects") - objects, 3, "such a call is served by the arena");
	is_int(value("emergency_maps") - maps, 1, "the arena makes one mapping for all such calls");
	ok(!zero, "the arena's memory is not said to read as zero");
	ok(arena_usable(p) >= 300 && heap_usable(p) >= 300,
	   "the library knows the arena's objects as such");
	is_int((uintptr_t)q % 16384, 0, "the arena's objects are aligned as asked for");
	memset(p, 'p', 300);
	ok(heap_realloc(p, heap_usable(p) - 1) == p,
	   "an object of the arena that stays nearly as large stays where it is");
	p = heap_realloc(p, 1000);
	ok(p[299] == 'p', "an object of the arena can be resized");
	memset(r, 'r', 200000);
	r = heap_realloc(r, 2000000);
	ok(r[199999] == 'r', "an object of the arena can grow beyond it");
	heap_free(r);
	heap_free(p);
	heap_free(q);
	heap_check();
	arena_check();
	is_int(arena_bytes(), 0, "no mapping of the arena is left once all its objects are freed");
}

/* ---- signals -------------------------------------------------------------------------------- */

static void *in_handler[64];
static volatile sig_atomic_t handler_runs;
static volatile sig_atomic_t handler_bad;

static void handler(int sig)
{
	unsigned i = (unsigned)handler_runs % 64;
	size_t size = 16 + (size_t)handler_runs * 61 % 2000;

	(void)sig;
	if (in_handler[i] && *(unsigned char *)in_handler[i] != (unsigned char)i)
		handler_bad = 1;
	heap_free(in_handler[i]);
	in_handler[i] = heap_alloc(size);
	if (in_handler[i])
		memset(in_handler[i], (int)i, size);
	else
		handler_bad = 1;
	handler_runs = handler_runs + 1;
}

static void test_signals(void)
{
	const struct itimerval often = { { 0, 300 }, { 0, 300 } };
	const struct itimerval never = { { 0, 0 }, { 0, 0 } };
	struct sigaction sa = { .sa_handler = handler, .sa_flags = SA_RESTART };
	struct timespec start;
	struct timespec now;
	void *p[100] = { NULL };
	unsigned bad = 0;

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		for (unsigned i = 0; i < 10000; i++) {
			void **at = &p[(i * 7) % 100];

			if (*at)
				bad += *(unsigned *)*at != (i * 7) % 100;
			heap_free(*at);
			*at = alloc(16 + (size_t)i % 1500);
			*(unsigned *)*at = (i * 7) % 100;
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (handler_runs < 1000 && (handler_runs <= 50 || now.tv_sec - start.tv_sec < 20));
	setitimer(ITIMER_REAL, &never, NULL);
	heap_check();
	tap_diag("%d signals", (int)handler_runs);
	ok(handler_runs > 50 && !handler_bad && !bad,
	   "signal handlers allocate and free in the middle of malloc and free");
	for (unsigned i = 0; i < 100; i++)
		heap_free(p[i]);
	for (unsigned i = 0; i < 64; i++)
		heap_free(in_handler[i]);
	heap_check();
}

/* ---- misuse --------------------------------------------------------------------------------- */

static void free_twice(void *arg)
{
	void *p = alloc(*(size_t *)arg);

	heap_free(p);
	heap_free(p);
}

/* The call of the second free begins with an ageing step that empties the bin. */
static void free_aged(void *arg)
{
	void *p = alloc(*(size_t *)arg);
	unsigned bin = page_of(p)->cls;

	heap_free(p);
	heap_self->idle_rounds[bin] = UINT8_MAX;
	heap_self->age_next = (uint8_t)bin;
	heap_self->slow_calls = UINT32_MAX;
	heap_free(p);
}

static void free_middle(void *arg)
{
	char *p = alloc(*(size_t *)arg);

	heap_free(p + 8);
}

static void free_foreign(void *arg)
{
	heap_free(arg);
}

static void free_never_handed_out(void *arg)
{
	char *p = alloc(16);

	(void)arg;
	heap_free((char *)align_down((uintptr_t)p, PG_BYTES) + 2 * PG_BYTES - 16);
}

/* A call that can use neither heap nor lock; frees the object n times, at `at` bytes into it. */
static void free_in_arena(void *arg)
{
	const size_t *at = arg;
	char *p[2];

	heap_fork_prepare(false);
	atomic_store(&heap_self->busy, 1);
	p[0] = alloc(300);
	p[1] = alloc(300); /* so that the chunk stays */
	atomic_store(&heap_self->busy, 0);
	heap_fork_parent();
	memset(p[0], 0, 300);
	heap_free(p[0] + *at);
	heap_free(p[0] + *at);
}

static void size_of_freed(void *arg)
{
	void *p = alloc(100 * MIB);

	(void)arg;
	heap_free(p);
	heap_usable(p);
}

static void size_of_middle(void *arg)
{
	heap_usable((char *)alloc(*(size_t *)arg) + 16);
}

static void test_misuse(void)
{
	size_t small = 100;
	size_t large = 100000;
	size_t huge = 100 * MIB;
	size_t start = 0;
	size_t middle = 16;
	size_t odd = 8;
	int local;

	ok(child_is_stopped(free_twice, &small, "object freed twice"),
	   "an object freed twice in a row stops the program");
	ok(child_is_stopped(free_aged, &small, "object freed twice"),
	   "also if its bin ages between");
	ok(child_is_stopped(free_aged, &large, "block freed twice"), "and so does a large one");
	ok(child_is_stopped(free_twice, &large, "block freed twice"),
	   "a large block freed twice stops the program");
	ok(child_is_stopped(free_twice, &huge, "free of memory that is not ours"),
	   "a mapping of its own freed twice stops the program");
	ok(child_is_stopped(free_middle, &small, "free of "),
	   "a free of the middle of an object stops the program");
	ok(child_is_stopped(free_middle, &large, "free of the middle of a large block"),
	   "a free of the middle of a large block stops the program");
	ok(child_is_stopped(free_middle, &huge, "free of the middle of a large block"),
	   "a free of the middle of a mapping does, and says so");
	ok(child_is_stopped(size_of_middle, &huge, "size asked of the middle of a large block"),
	   "so does asking for the size there");
	ok(child_is_stopped(free_in_arena, &start, "block freed twice, or not at its start"),
	   "an object of the arena freed twice stops the program");
	ok(child_is_stopped(free_in_arena, &middle, "block freed twice, or not at its start") &&
		   child_is_stopped(free_in_arena, &odd, "block freed twice, or not at its start"),
	   "a free of the middle of an arena object stops the program");
	ok(child_is_stopped(free_foreign, &local, "free of memory that is not ours"),
	   "a free of a pointer to the stack stops the program");
	ok(child_is_stopped(free_never_handed_out, NULL, ""),
	   "a free of an object that was never handed out stops the program");
	ok(child_is_stopped(size_of_freed, NULL, "size asked of memory"),
	   "asking for the size of a freed mapping stops the program");
}

/* ---- no memory ------------------------------------------------------------------------------ */

static void refuse_all(void *arg)
{
	unsigned n = 0;
	void *p;

	(void)arg;
	options.vm_fail_count = 1 << 30;
	options.vm_fail_at = 1;
	while ((p = heap_alloc(1 + n % 100000)) != NULL)
		n++;
	if (heap_alloc(100 * MIB) || heap_alloc_aligned(MIB, MIB * 64))
		_exit(2);
	heap_check();
	zone_check(&zone_main);
	options.vm_fail_at = 0;
	if (!heap_alloc(100000) || !heap_alloc(100))
		_exit(3);
	heap_check();
	zone_check(&zone_main);
}

static bool holds(const unsigned char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != (unsigned char)(i * 7))
			return false;
	return true;
}

/* One object of each kind: small, large, with a mapping of its own. */
static void resize_without(void *arg)
{
	static const size_t size[] = { 1000, 100000, 40 * MIB };
	unsigned char *p[3];
	unsigned char *q;

	(void)arg;
	for (unsigned k = 0; k < 3; k++) {
		p[k] = alloc(size[k]);
		for (size_t i = 0; i < size[k]; i++)
			p[k][i] = (unsigned char)(i * 7);
	}
	options.vm_fail_count = 1 << 30;
	options.vm_fail_at = 1;
	for (size_t n = 200000; n >= 16; n -= n / 8)
		while (heap_alloc(n))
			;
	for (unsigned k = 0; k < 3; k++)
		if (heap_realloc(p[k], 4 * size[k]) || !holds(p[k], size[k]))
			_exit(2);
	q = heap_realloc(p[0], 30);
	if (q != p[0] || !holds(q, 30))
		_exit(3);
	heap_check();
	options.vm_fail_at = 0;
	q = heap_realloc(p[1], 4 * size[1]);
	if (!q || !holds(q, size[1]))
		_exit(4);
}

/* A block that would leave its run for a mapping as it grows. What is free lies behind it, and is
 * too short for a copy. */
static void grow_without(void *arg)
{
	unsigned char *p = alloc(8 * MIB);

	(void)arg;
	for (unsigned i = 0; i < 1000; i++)
		p[i] = (unsigned char)(i * 7);
	options.vm_fail_count = 1 << 30;
	options.vm_fail_at = 1;
	for (size_t n = 8 * MIB; n >= 100000; n -= n / 8)
		while (heap_alloc(n))
			;
	if (heap_realloc(p, 4 * MIB - MIB / 8) != p)
		_exit(2);
	if (heap_realloc(p, 4 * MIB + MIB / 4) != p || !holds(p, 1000))
		_exit(3);
}

static void test_no_memory(void)
{
	ok(child_is_well(resize_without, NULL),
	   "without memory a block that cannot grow keeps its data, and shrinking cannot fail");
	ok(child_is_well(grow_without, NULL),
	   "without memory a block that would leave its run grows in place");
	ok(child_is_well(refuse_all, NULL),
	   "calls fail while the kernel refuses memory, and work when it gives some again");
}

/* The kernel refuses each further mapping. */
static void keeps_free_blocks(void *arg)
{
	static char *p[21];

	for (unsigned i = 0; i < 21; i++)
		memset(p[i] = heap_alloc(2 << 20), 'a', 2 << 20);
	for (unsigned i = 0; i < 20; i++)
		heap_free(p[i]);
	options.vm_fail_count = 1 << 30;
	options.vm_fail_at = 1;
	if (heap_alloc(64 << 20))
		_exit(1);
	for (unsigned i = 0; i < 20; i++) {
		p[i] = heap_alloc(2 << 20);
		if (!p[i])
			_exit(2);
		memset(p[i], 'b', 2 << 20);
	}
	if (p[20][0] != 'a')
		_exit(3);
	(void)arg;
}

static void test_mappings_used_up(void)
{
	ok(child_is_well(keeps_free_blocks, NULL),
	   "a request for which there is no mapping left does not cost the heap its free blocks");
}

/* The bin of a class that the thread does not use any more. While it uses another class, most calls
 * go past that one's bin; the ageing of bins must not wait for the few that do not. */
static void test_ageing_past(void)
{
	static void *p[4096];
	const struct cache_bin *b = &heap_self->bin[class_of(400)];
	uint64_t turns = 0;

	for (unsigned i = 0; i < 300; i++)
		p[i] = alloc(400);
	for (unsigned i = 0; i < 300; i++)
		heap_free(p[i]);
	ok(*b->top != NULL, "a bin holds what a thread has freed");
	for (; *b->top && turns < 4000; turns++) {
		for (unsigned i = 0; i < 4096; i++)
			p[i] = alloc(512);
		for (unsigned i = 4096; i-- > 0;)
			heap_free(p[i]);
	}
	tap_diag("empty after %u times 4,096 objects of another class", (unsigned)turns);
	ok(turns < 40, "a thread that uses another class empties it soon");
	heap_check();
}

int main(void)
{
	tap_plan(89);
	sluice_init();
	test_sizes();
	test_zero_size();
	test_aligned();
	test_realloc();
	test_near();
	test_shrink_in_place();
	test_grow_again();
	test_grow_by_steps();
	test_zero_flag();
	test_exit();
	test_many_threads();
	test_late();
	test_full_bins();
	test_spill();
	test_wide_bins();
	test_ageing_past();
	test_inbox();
	test_passed_order();
	test_reentry();
	test_held();
	test_no_lock();
	test_signals();
	test_misuse();
	test_no_memory();
	test_mappings_used_up();
	return tap_done();
}
