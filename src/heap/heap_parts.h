/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * heap_parts.h - what the files of the heap share: heap.c (calls), heap_slabs.c (bins and slabs, in
 * the window), claim.c (the window and who else may enter it), heap_thread.c (threads that come
 * and go). Nobody else includes it.
 */
#ifndef SLUICE_HEAP_PARTS_H
#define SLUICE_HEAP_PARTS_H

#include "heap/heap.h"

#include <stddef.h>

#include "page/meta.h"

/* The heap of calls that cannot use their thread's; its lock stands for its window. */
struct heap_shared {
	struct lock lock;
	struct heap *const heap;
};
extern struct heap_shared heap_fallback;

/* ---- claim.c ------------------------------------------------------------------------- */

/* Into the window, also past a pending gate. False: the gate is held, or this is a re-entry. */
bool heap_enter_slow(struct heap *h);

/* The heap that serves this call, entered: the thread's own (made if there is none and create is
 * set), or the fallback under its lock. NULL: neither can be had. */
struct heap *heap_call_begin(bool create);

/* Leave it, and give back the pages of slabs that were released in it. */
void heap_call_end(struct heap *h);

/* Empty the fallback heap and its pcp. */
void heap_drain_fallback(void);

/* The owner of a held heap ends: its holder finishes it. False: it is not held. */
bool claim_owner_ends(struct heap *h);

/* fork: hold every heap but the caller's own that may hold something and that nobody holds, by a gate that *held
 * says, and list them (fork_next); wait, for a bounded
 * time, until their threads are out. False: that cannot be known (no membarrier). */
bool claim_hold_all(uint64_t *held, struct heap **list);

/* Whether the heap is held by that gate. */
bool claim_held_by(const struct heap *h, uint64_t held);
void claim_release(struct heap *h);

void claim_init(void);

/* ---- heap_slabs.c ------------------------------------------------------------------------ */

/*
 * Where in its first page a heap begins. Not at the start, where many blocks do, of which a program uses
 * the first bytes most: a load waits for a store before it to the same place in another page.
 */
#define HEAP_OFFSET ((META_ALIGN - offsetof(struct heap, outbox) % META_ALIGN) % META_ALIGN)
_Static_assert(HEAP_OFFSET % CACHE_LINE == 0 && HEAP_OFFSET != 0, "a place of its own in a page");

static inline bool heap_is_real(const struct heap *h)
{
	return h != &heap_none && h != &heap_gone;
}

/* Objects that one call moves between a bin and slabs at the most. */
#define BIN_STEP 64u

/* Of a trim that was asked for: bins, and slabs of each one's class, that one call has to do with; of a bin
 * that has its turn: slabs and objects. */
#define TRIM_BATCH 2u
#define ABANDON_BATCH 32u
#define AGE_BATCH 8u
#define AGE_OBJECTS 16u
#define INBOX_BATCH 8u

/*
 * What one call does in its windows at the most: a part of a trim, a bin's turn, a refill or a flush,
 * for which the inbox is looked at, and a slab that it brings. Debug builds count it, from
 * heap_call_begin to heap_call_end, and stop the program when it is more.
 */
#define CALL_OBJECTS (TRIM_BATCH * BIN_MAX + AGE_OBJECTS + 2 * BIN_STEP)
#define CALL_SLABS                                                                                 \
	(TRIM_BATCH * (ABANDON_BATCH + 1) + AGE_BATCH + 1 + BIN_STEP + 4 * INBOX_BATCH + 1)

/*
 * What a growth does at the most for all threads: heaps that it looks at (three times each: to take those that
 * the one before has marked, to mark the next ones, and to open their inboxes), and objects, slabs and
 * runs of pages that it moves, in steps: one for an object, SLAB_STEPS for a slab, one for a
 * run of pages, and TAKE_STEPS for a heap that it takes. It ends with the part in which its steps are used up.
 */
#define GROWTH_LOOKS 128u
#define GROWTH_STEPS 2048u
#define SLAB_STEPS 4u
#define TAKE_STEPS 64u
#define PART_OBJECTS BIN_STEP
#define PART_SLABS (BIN_STEP + INBOX_BATCH + AGE_BATCH + 2)
#define GROWTH_OBJECTS (GROWTH_STEPS + PART_OBJECTS)
#define GROWTH_SLABS (GROWTH_STEPS + PART_SLABS)

/* Debug: what this thread did in its call, or in its growth. */
struct heap_work {
	uint32_t objects;
	uint32_t slabs;
	uint32_t looks;
	bool call;
	bool growth;
};
extern _Thread_local struct heap_work heap_work TLS_FAST;

static inline void heap_work_count(uint32_t objects, uint32_t slabs)
{
	if (SLUICE_DEBUG) {
		heap_work.objects += objects;
		heap_work.slabs += slabs;
		CHECK(!heap_work.call ||
		      (heap_work.objects <= CALL_OBJECTS && heap_work.slabs <= CALL_SLABS));
		CHECK(!heap_work.growth ||
		      (heap_work.objects <= GROWTH_OBJECTS && heap_work.slabs <= GROWTH_SLABS));
	}
}

static inline void heap_step_count(void)
{
	if (SLUICE_DEBUG) {
		heap_work.looks++;
		CHECK(!heap_work.growth || heap_work.looks <= 3 * GROWTH_LOOKS);
	}
}

/* False: none are left. */
static inline bool heap_spend(uint32_t *steps, uint32_t n)
{
	*steps = *steps > n ? *steps - n : 0;
	return *steps != 0;
}

/* Adoptions that frees inside a window have left to be done after it. */
struct due_list {
	struct outbox_adopt due[BIN_STEP];
	unsigned n;
};

void heap_init_bins(struct heap *h);

/* A slab in limbo becomes the heap's. */
void heap_attach(struct heap *h, struct page *pg);

/* Soon the next slab of cls will be looked at, if the current one has nothing left. */
static always_inline void slab_prefetch_next(struct heap *h, unsigned cls)
{
	if (h->current[cls] && !h->current[cls]->free)
		__builtin_prefetch(h->partial[cls].first, 1);
}

/* Put a few objects that were freed into the current slab into the bin of cls, if it is empty and has
 * room. False: nothing was done. */
static always_inline bool heap_refill_freed(struct heap *h, unsigned cls)
{
	struct cache_bin *b = &h->bin[cls];
	struct page *pg = h->current[cls];
	unsigned far = TAKE_FAR;

	if (*b->top || !pg || !pg->free || bin_space(b) < TAKE_NEAR)
		return false;
	b->top += slab_take_freed(pg, b->top + 1, TAKE_NEAR, &far);
	slab_prefetch_next(h, cls);
	h->idle_rounds[cls] = 0;
	return true;
}

/* Put objects into the empty bin of cls without asking for pages. False: the heap has nothing. */
bool heap_refill(struct heap *h, unsigned cls);

/* Make room in the full bin of cls: more places, or those freed last go to their slabs. */
void heap_bin_room(struct heap *h, unsigned cls, struct due_list *d);

/*
 * Whether the bin of the object's class has not begun yet and the object is of another's slab: then
 * it was sent to its slab. A thread that was handed a few objects and frees them does not get them
 * back by its next malloc, beside others of their cache line that other threads write.
 */
bool heap_free_foreign(struct heap *h, struct page *pg, struct object *o, struct due_list *d);

/* Put a slab whose POSTED flag we have set into its owner's inbox. */
void heap_post(struct page *pg);

/* The same for slabs that a flush of an outbox posted, linked by stack_next. */
void heap_post_all(struct page *posted);

/* Look at some of the slabs that were posted; false: there are none. */
bool heap_open_inbox(struct heap *h);

/* Bytes that are free in a heap but for its pcp: in bins, outbox and slabs. */
uint64_t heap_free_bytes(struct heap *h);

/* The owner empties its bins and its outbox and gives up its empty slabs; those in use stay its own. */
void heap_trim(struct heap *h);

/* The same by and by, as memory is short: a bin, with some slabs of its class that have room, which are
 * left to all; and after the last one the outbox and some of the inbox. */
void heap_trim_bin(struct heap *h, unsigned bin);
void heap_trim_rest(struct heap *h);

/* Abandon all slabs of a heap, its bins and outbox empty, its bins without room: it is drained. */
void heap_abandon_slabs(struct heap *h, enum slab_age age);

/* The same for as many steps; false: they are used up, and it goes on with the next call. */
bool heap_abandon_part(struct heap *h, enum slab_age age, uint32_t *steps);

/* Look at slabs that were posted, for as many steps; false: they are used up. */
bool heap_open_part(struct heap *h, uint32_t *steps);

/* Give the memory of the bins' places back to the kernel. After heap_abandon_slabs; enters the kernel,
 * so for who holds the gate, which keeps nobody waiting. */
void heap_purge_bins(struct heap *h);

/* The same of the bin of cls and of some of its slabs that have room; false: it has no more. */
bool heap_abandon_some(struct heap *h, unsigned bin);

/* The next bin has its turn, in which up to `objects` of it go home, a multiple of AGE_OBJECTS; false: there
 * was nothing to do. */
bool heap_age_next(struct heap *h, unsigned objects);

/* Stops the program unless p is the start of an object of pg that was handed out. */
void heap_check_object(void *p, const struct page *pg);
_Noreturn void heap_bad_free(void *p, const struct page *pg);
_Noreturn void heap_freed_twice(void *p, const struct page *pg);

/* ---- heap_thread.c ----------------------------------------------------------------------- */

/* A heap for the calling thread. heap_none stays when there is no memory for one. */
struct heap *heap_create_self(void);
void heap_note_tid(struct heap *h);

/* Put a heap that has no thread where the next thread finds it. */
void heap_retire(struct heap *h);

/* Leave to all what a fork left with a thread that the child does not have; false: nothing. */
bool heap_take_orphan(void);

/* The calling thread's pcp; a thread without a heap uses the fallback's. */
struct pcp *heap_pcp_self(void);

/* ---- heap.c ------------------------------------------------------------------------------ */

/* Take over an abandoned slab that was freed into; outside of any window. */
void heap_adopt(struct page *pg, unsigned cls);

#endif
