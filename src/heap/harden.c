/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * harden.c - what a hardened process does at each malloc and free. Used by init; uses heap,
 * livebits, quarantine, huge.
 *
 * The cache bins of a hardened process have no room, so that each call leaves the fast path, and
 * heap_hooks leads here. The fast paths of other processes have no instruction for it. Most calls
 * are done in the critical section that the fast path has entered (harden_alloc_entered,
 * harden_free_entered); the others, and every DIRECT_CALLS-th, go through the slow path.
 *
 * (A) Each block in a region has a bit that says whether it is in use (livebits.h). A free that
 *     finds it clear stops the program.
 * (B) With the option canary a block has a trailer in the last 8 bytes of its slot: the size that
 *     was asked for, and what follows from its address and a secret. Bytes between the two are
 *     filled by that, FILL_MAX of them at least. A free, realloc or malloc_usable_size checks
 *     them. Blocks that were handed out before the process was hardened (LIVE_PLAIN) have none, nor
 *     have those that are mappings (huge) or lie in the arena.
 * (C) With zero_on_free a freed block reads as zero, except link and mark, until it is used again
 *     (LIVE_NOTED). Of a block above CLEAR_ALWAYS, only the first CLEAR_HEAD bytes do if the
 *     thread has spent what clear_rate gives it (LIVE_HEAD; a large one: LIVE_NONE).
 *
 * No lock of its own. Bound: that of heap.c; each call writes or reads the block. Signal handlers
 * and fork: as heap.c.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/harden.h"

#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/links.h"
#include "base/log.h"
#include "base/options.h"
#include "heap/claim.h"
#include "heap/clearing.h"
#include "heap/freed.h"
#include "heap/heap.h"
#include "heap/heap_call.h"
#include "heap/heap_slabs.h"
#include "heap/hidden.h"
#include "heap/huge.h"
#include "heap/livebits.h"
#include "heap/quarantine.h"
#include "heap/sampler.h"
#include "heap/slab.h"
#include "heap/trailer.h"
#include "heap/trim.h"
#include "heap/zero.h"
#include "os/vm.h"
#include "page/region.h"
#include "page/thp.h"
#include "page/zone.h"

#define PURGE_MIN ((size_t)1 << 20)

struct trailer_key trailer_key;

#define EIGHT_ONES 255, 255, 255, 255, 255, 255, 255, 255
const uint8_t fill_mask[2 * FILL_MAX] = {
	[FILL_MAX] = EIGHT_ONES,
	EIGHT_ONES,
	EIGHT_ONES,
	EIGHT_ONES,
	EIGHT_ONES,
	EIGHT_ONES,
	EIGHT_ONES,
	EIGHT_ONES,
};

/* Between the two words of fill_short. */
void fill_middle(void *p, size_t size, size_t room, uint64_t fill)
{
	for (size_t at = align_up(size, sizeof(fill)); at < room; at += sizeof(fill))
		*word_at(p, at) = fill;
}

bool fill_middle_changed(const void *p, size_t size, size_t room, uint64_t fill)
{
	uint64_t wrong = 0;

	for (size_t at = align_up(size, sizeof(fill)); at < room; at += sizeof(fill))
		wrong |= *word_at(p, at) ^ fill;
	return wrong != 0;
}

noinline _Noreturn void trailer_overrun(const void *p)
{
	const struct page *pg = page_of(p);

	if (page_kind(pg) != PAGE_SLAB)
		sluice_fatal("block written to beyond its end: address %p, block %p (%zu bytes)", p,
			     p, large_usable(pg));
	sluice_fatal("object written to beyond its end: address %p, size class %u (%u bytes)", p,
		     pg->cls, (unsigned)class_size(pg->cls));
}

static size_t trailer_bytes(void)
{
	return options.canary ? TRAILER_BYTES : 0;
}

/* The descriptor of the slab or large object that p lies in. Returns NULL if in none. */
static struct page *page_in_use(const void *p)
{
	struct page *pg = pagemap_ours(p) ? page_of(p) : NULL;

	return pg && (page_kind(pg) == PAGE_SLAB || page_kind(pg) == PAGE_LARGE) ? pg : NULL;
}

/* ---- the calls ------------------------------------------------------------------------------ */

/* Bytes that the program may use. */
static size_t usable(const void *p, const struct page *pg, enum live was)
{
	size_t slot = block_bytes(pg);

	return options.canary && was == LIVE_USED ? trailer_check(p, slot) : slot;
}

/* Most calls are made for a set of options, so that each option is a constant in them. */
enum set {
	SET_ANY,
	SET_ALL,   /* of profile:hardened */
	SET_CHECK, /* check:full alone */
	SET_SLOW,  /* allocations are to be sampled: each call takes the slow path */
	SETS
};

static always_inline bool is_on(enum set set, bool option)
{
	return set == SET_ALL || (set == SET_ANY && option);
}

/* The slot is the caller's. Returns whether it reads as zero. */
static always_inline bool begin_block(void *p, size_t size, size_t slot, bool small, enum set set)
{
	enum live was = live_begin(p, slot);
	bool noted = was == LIVE_NOTED && small;
	bool zero = is_on(set, options.zero_on_free);

	CHECK(!live_is_used(was));
	if (noted && zero)
		freed_check_zero(p, slot);
	else if (noted)
		freed_check_seal(p);
	else if (zero && small && was == LIVE_HEAD)
		freed_check_head(p, slot);
	if (is_on(set, options.canary))
		trailer_put(p, size, slot, false);
	return noted && zero;
}

/* In the critical section of h: an object that the heap has taken already. Returns NULL if there
 * are few, and every DIRECT_CALLS-th time: heap_plain_alloc takes more, and does what else is due.
 * again: before that, the call comes here once more, and must not find one then. */
static always_inline struct object *take_ready(struct heap *h, unsigned cls, bool again,
					       enum set set)
{
	if (unlikely(!heap_goes_past(h))) {
		if (again)
			h->direct_left = 0;
		return NULL;
	}
	return heap_pop_hidden(h, cls, is_on(set, options.random_slots));
}

static noinline void *begin_and_alloc(size_t size, struct heap *h, void *(*slow)(size_t))
{
	heap_random_begin();
	heap_exit(h);
	return slow(size);
}

/* The rest of alloc_entered. Of an object of more than FREED_SHORT bytes it makes calls. */
static always_inline void *begin_entered(void *p, size_t size, size_t slot, enum set set)
{
	begin_block(p, size, slot, true, set);
	return p;
}

static noinline void *begin_long_SET_ANY(void *p, size_t size, size_t slot)
{
	return begin_entered(p, size, slot, SET_ANY);
}

static noinline void *begin_long_SET_ALL(void *p, size_t size, size_t slot)
{
	return begin_entered(p, size, slot, SET_ALL);
}

/* For malloc, of an object that the heap has taken already; other calls go through harden_alloc.
 * Calls only at its ends, so that it saves no registers. */
static always_inline void *alloc_entered(size_t size, struct heap *h, size_t scaled,
					 void *(*slow)(size_t), enum set set)
{
	size_t more = is_on(set, options.canary) ? TRAILER_BYTES : 0;
	unsigned cls = (unsigned)scaled / CLASS_SCALE;
	size_t slot;
	struct object *o = NULL;

	if (is_on(set, options.random_slots) && unlikely(hidden_needs_random()))
		return begin_and_alloc(size, h, slow);
	if (likely(more ? size - 1 < SMALL_MAX - more : cls < CLASSES)) {
		if (more)
			cls = class_of(size + more);
		o = take_ready(h, cls, true, set);
	}
	heap_exit(h);
	if (unlikely(!o))
		return slow(size);
	slot = class_size(cls);
	if (is_on(set, options.zero_on_free) && slot > FREED_SHORT)
		return set == SET_ALL ? begin_long_SET_ALL(o, size, slot)
				      : begin_long_SET_ANY(o, size, slot);
	return begin_entered(o, size, slot, set);
}

/* A large object that lies ready. Returns NULL if there is none. */
static void *take_large(struct heap *h, size_t size, bool *zero)
{
	unsigned bin = large_bin(size);
	void *p = NULL;

	if (unlikely(!heap_enter(h)))
		return NULL;
	if (likely(h->hidden[bin]))
		p = hidden_pop(h, bin, h->hidden[bin], options.random_slots);
	heap_exit(h);
	if (p)
		*zero = hidden_check_large(p);
	return p;
}

static void *take(size_t size, size_t align, bool *zero)
{
	size_t bytes = align_up(max_size(size, 1), align);
	struct heap *h = heap_self;
	void *p = NULL;

	if (options.random_slots && hidden_needs_random())
		heap_random_begin();
	if (size > SMALL_MAX && size <= LARGE_BIN_PAGES * PG_BYTES && align <= ALIGN_MIN) {
		p = take_large(h, size, zero);
		return p ? p : heap_plain_alloc(size, align, zero);
	}
	if (likely(bytes <= SMALL_MAX && align <= PG_BYTES) && likely(heap_enter(h))) {
		if (likely(!heap_sampling))
			p = take_ready(h, class_of(bytes), false, SET_ANY);
		heap_exit(h);
	}
	if (unlikely(!p))
		return heap_plain_alloc(size, align, zero);
	*zero = false;
	return p;
}

static void *harden_alloc(size_t size, size_t align, bool *zero)
{
	struct page *pg;
	void *p;

	if (unlikely(heap_in_copy))
		return heap_plain_alloc(size, align, zero);
	if (!size && align <= ALIGN_MIN && (p = zero_alloc()) != NULL) {
		*zero = true;
		return p;
	}
	p = take(size + trailer_bytes(), align, zero);
	if (!p || (pg = page_in_use(p)) == NULL)
		return p;
	if (begin_block(p, size, block_bytes(pg), page_kind(pg) == PAGE_SLAB, SET_ANY))
		*zero = true;
	return p;
}

static noinline _Noreturn void not_in_use(void *p)
{
	struct page *pg = page_of(p);

	heap_check_object(p, pg); /* in a hole it was never handed out */
	heap_freed_twice(p, pg);
}

/* p: where a block of slot bytes begins, if it is in use. Stops the program if it is not. to: what
 * the block is then; the caller makes that true: it fills it with zeros, gives it to the kernel, or
 * seals it. */
static always_inline void end_block(void *p, size_t slot, enum live to, enum set set)
{
	enum live was = live_end(p, slot, to);

	if (unlikely(!live_is_used(was)))
		not_in_use(p);
	if (is_on(set, options.canary) && likely(was == LIVE_USED))
		(void)trailer_check(p, slot);
}

/* Leaves the critical section as well. What else is due is done, and errno kept. */
static noinline void put_and_leave(struct heap *h, struct object *o)
{
	int saved = errno;
	struct due_list d;

	d.n = 0;
	heap_work_begin(true, false);
	quarantine_put(h, page_of(o), o, &d);
	heap_work_begin(false, false);
	if (likely(!h->release && !d.n && !quarantine_shows_more())) {
		heap_exit(h);
		return;
	}
	heap_exit_free(h);
	for (unsigned i = 0; i < d.n; i++)
		heap_adopt(d.due[i].pg, d.due[i].cls);
	errno = saved;
}

/* Whether it takes no more than put_entered for an object to be kept, or to lie ready. */
static always_inline bool puts_entered(struct heap *h, unsigned cls, size_t slot, enum set set)
{
	const struct quarantine *q;

	if (!is_on(set, options.quarantine != 0))
		return h->hidden[cls] < h->hidden_room[cls];
	q = quarantine_of(h);
	return q && quarantine_has_room(q, slot);
}

static always_inline void put_entered(struct heap *h, unsigned cls, size_t slot, struct object *o,
				      enum set set)
{
	struct quarantine *q;

	if (!is_on(set, options.quarantine != 0)) {
		heap_put_hidden(h, cls, o);
		return;
	}
	q = quarantine_of(h);
	quarantine_push(q, o, cls);
	q->weight += slot;
}

/* In the critical section of h, which it leaves. puts: of puts_entered. */
static always_inline void end_entered(struct object *o, struct heap *h, unsigned cls, bool puts,
				      enum set set)
{
	size_t slot = class_size(cls);
	bool zero = is_on(set, options.zero_on_free);
	bool whole = !zero || clearing_takes(slot);

	end_block(o, slot, whole ? LIVE_NOTED : LIVE_HEAD, set);
	if (zero)
		freed_zero(o, whole ? slot : CLEAR_HEAD);
	else
		freed_seal(o);
	if (!puts) {
		put_and_leave(h, o);
		return;
	}
	put_entered(h, cls, slot, o, set);
	heap_exit(h);
}

/* The rest of free_entered for an object of more than FREED_SHORT bytes, which makes calls. */
static noinline void end_long_SET_ANY(struct object *o, struct heap *h, unsigned cls)
{
	end_entered(o, h, cls, true, SET_ANY);
}

static noinline void end_long_SET_ALL(struct object *o, struct heap *h, unsigned cls)
{
	end_entered(o, h, cls, true, SET_ALL);
}

/* As heap_goes_past, of frees that find no room, which are one in 4 to 16. A count of their own:
 * where mallocs and frees take turns, both take the general way. */
#define FREES_PAST 8u
static always_inline bool frees_go_past(struct heap *h)
{
	h->frees_past = (uint8_t)((h->frees_past + 1) % FREES_PAST);
	return likely(h->frees_past != 0);
}

/* The same for an object that does not fit. One of FREES_PAST times, and while nothing is in the
 * heap, that takes the slow path, which does what else is due. */
static noinline void end_past(struct object *o, struct heap *h, unsigned cls)
{
	if (unlikely(atomic_load_explicit(&h->drained, memory_order_relaxed)) ||
	    unlikely(!frees_go_past(h))) {
		heap_exit(h);
		heap_free_slow(o);
		return;
	}
	end_entered(o, h, cls, false, SET_ANY);
}

/* Fills a block with zeros. A long one, of which no page may be backed, goes to the kernel. */
static void clear_block(void *p, size_t bytes)
{
	if (bytes >= PURGE_MIN && vm_os_page <= PG_BYTES) {
		thp_split(p, bytes);
		if (vm_purge(p, bytes))
			return;
	}
	memset(p, 0, bytes);
}

/* A block that was in use and is not any more, outside of critical sections. */
static void free_ended(struct page *pg, void *p, size_t slot, bool whole)
{
	if (!(whole && quarantine_hide(p, pg)) && options.zero_on_free)
		clear_block(p, whole ? slot : CLEAR_HEAD);
	else if (page_kind(pg) == PAGE_SLAB)
		freed_seal(p);
	heap_free_checked(pg, p);
}

/* What harden_free does with a large object that has a bin. Those that are filled with zeros as a
 * whole, or may lose access, leave the critical section for it. */
static noinline void free_large_entered(struct object *o, struct heap *h, unsigned bin)
{
	struct page *pg = page_of(o);
	size_t slot = large_usable(pg);
	bool costs = options.zero_on_free || (options.quarantine && slot >= HIDE_MIN);
	bool whole;

	if (unlikely(atomic_load_explicit(&h->drained, memory_order_relaxed)) ||
	    (!hidden_has_room(h, bin) && !frees_go_past(h))) {
		heap_exit(h);
		heap_free_slow(o);
		return;
	}
	whole = costs && clearing_takes(slot);
	end_block(o, slot, whole && options.zero_on_free ? LIVE_NOTED : LIVE_NONE, SET_ANY);
	if (whole) {
		int saved = errno;

		heap_exit(h);
		free_ended(pg, o, slot, true);
		errno = saved;
		return;
	}
	if (options.zero_on_free)
		freed_zero(o, CLEAR_HEAD);
	put_and_leave(h, o);
}

/* What harden_free does with an object of a slab. The fast path has checked what heap_check_object
 * checks, except holes, whose objects are not in use. */
static always_inline void free_entered(struct object *o, struct heap *h, struct cache_bin *b,
				       enum set set)
{
	unsigned cls = (unsigned)(b - h->bin);
	size_t slot;

	if (unlikely(cls >= CLASSES)) {
		free_large_entered(o, h, cls);
		return;
	}
	slot = class_size(cls);
	if (unlikely(atomic_load_explicit(&h->drained, memory_order_relaxed)) ||
	    unlikely(!puts_entered(h, cls, slot, set))) {
		end_past(o, h, cls);
		return;
	}
	/* Before the atomic operation, which would let them come one after the other. */
	__builtin_prefetch(o, 1);
	if (is_on(set, options.canary))
		__builtin_prefetch((char *)o + slot - TRAILER_BYTES, 1);
	if (!is_on(set, options.zero_on_free) || slot <= FREED_SHORT)
		end_entered(o, h, cls, true, set);
	else if (set == SET_ALL)
		end_long_SET_ALL(o, h, cls);
	else
		end_long_SET_ANY(o, h, cls);
}

static void harden_free(void *p)
{
	struct page *pg = page_in_use(p);
	size_t slot;
	bool whole;

	if (!pg) {
		if (zero_owns(p))
			zero_free(p);
		else
			heap_plain_free(p);
		return;
	}
	heap_check_object(p, pg);
	slot = block_bytes(pg);
	whole = clearing_takes(slot);
	if (page_kind(pg) == PAGE_SLAB)
		end_block(p, slot, whole || !options.zero_on_free ? LIVE_NOTED : LIVE_HEAD,
			  SET_ANY);
	else
		end_block(p, slot, whole && options.zero_on_free ? LIVE_NOTED : LIVE_NONE, SET_ANY);
	if (unlikely(heap_sampling))
		sampler_freed(pg, p);
	free_ended(pg, p, slot, whole);
}

/* What the bits say of p, which may lie inside of pg's block. */
static enum live live_in(const void *p, const struct page *pg)
{
	size_t off = (size_t)((const char *)p - page_address(pg));

	if (page_kind(pg) == PAGE_SLAB ? !class_divides(pg->cls, off) : off != 0)
		return LIVE_NONE;
	return live_of(p, block_bytes(pg));
}

static size_t harden_usable(void *p)
{
	struct page *pg = page_in_use(p);
	enum live is;

	if (zero_owns(p)) {
		zero_check(p);
		return 0;
	}
	if (!pg || heap_in_copy)
		return heap_plain_usable(p);
	is = live_in(p, pg);
	if (unlikely(!live_is_used(is)))
		sluice_fatal("size asked of memory that is not ours or was freed: address %p", p);
	return usable(p, pg, is);
}

/* Stops the program unless pg's block at p is in use. */
static enum live check_used(void *p, struct page *pg)
{
	enum live is;

	heap_check_object(p, pg);
	is = live_of(p, block_bytes(pg));
	if (unlikely(!live_is_used(is)))
		sluice_fatal("realloc of a block that was freed: address %p", p);
	return is;
}

/* In place, if the slot suits the size. */
static bool resize(void *p, struct page *pg, enum live is, size_t size)
{
	size_t full = size + trailer_bytes();
	size_t slot = block_bytes(pg);

	if (page_kind(pg) == PAGE_LARGE) {
		if (is == LIVE_PLAIN || full <= SMALL_MAX || !heap_resize_large(pg, p, full))
			return false;
		slot = block_bytes(pg);
	} else if (is == LIVE_PLAIN) {
		return size <= slot && size > slot / 2;
	} else if (full > slot || (full <= slot / 2 && class_of(full) != pg->cls)) {
		return false;
	}
	if (options.canary)
		trailer_put(p, size, slot, true);
	return true;
}

static bool harden_resize(void *p, size_t size)
{
	struct page *pg = page_in_use(p);
	enum live is;
	size_t old;

	if (!pg || heap_in_copy) {
		old = harden_usable(p);
		return size <= old && size > old / 2;
	}
	is = check_used(p, pg);
	(void)usable(p, pg, is);
	return resize(p, pg, is, size);
}

static void *harden_realloc(void *p, size_t size)
{
	struct page *pg = page_in_use(p);
	size_t old;
	void *q;

	if (heap_in_copy || (!pg && !zero_owns(p)))
		return heap_plain_realloc(p, size);
	if (pg)
		check_used(p, pg);
	old = harden_usable(p);
	if (pg && resize(p, pg, live_of(p, block_bytes(pg)), size))
		return p;
	q = heap_move(p, old, size);
	if (q || size > old)
		return q;
	/* It has more than was asked for: a sized free may tell either. */
	if (pg)
		live_mark(p, block_bytes(pg), LIVE_PLAIN);
	return p;
}

/* What was asked for last is not known without a trailer. realloc leaves a block where more than
 * half of it is used; slabs alone round a size up to its alignment. */
static bool size_suits(const struct page *pg, size_t size, size_t align, size_t have)
{
	size_t full = align_up(max_size(size, 1), align);

	if (size > have)
		return false;
	return !pg || page_kind(pg) != PAGE_SLAB || size > have / 2 || class_of(size) == pg->cls ||
	       (full <= have && class_of(full) == pg->cls);
}

/* align: 1 if the caller knows none. */
static void harden_check_size(void *p, size_t size, size_t align)
{
	struct page *pg = page_in_use(p);
	size_t have;
	bool good;

	if (!p || heap_in_copy)
		return;
	have = harden_usable(p);
	if (zero_owns(p))
		good = size <= 1;
	else if (pg && options.canary && live_in(p, pg) == LIVE_USED)
		good = size == have || (size <= 1 && have <= 1); /* sdallocx: 0 counts as 1 */
	else if (pg && live_in(p, pg) == LIVE_PLAIN)
		good = size <= have;
	else
		good = size_suits(pg, size, max_size(align, 1), have);
	if (unlikely(!good))
		sluice_fatal("free with a wrong size (%zu instead of %zu bytes): address %p", size,
			     have, p);
}

/* As harden_alloc does it. */
static size_t harden_good_size(size_t size, size_t align)
{
	size_t full = size + trailer_bytes();

	if (!size && align <= ALIGN_MIN && zero_has_area())
		return 0;
	if (!options.canary || full > LARGE_MAX || align > LARGE_MAX)
		return heap_plain_good_size(full, align);
	return size;
}

/* ---- the start ------------------------------------------------------------------------------ */

#define ENTERED(set)                                                                               \
	static void *alloc_entered_##set(size_t size, struct heap *h, size_t scaled,               \
					 void *(*slow)(size_t))                                    \
	{                                                                                          \
		return alloc_entered(size, h, scaled, slow, set);                                  \
	}                                                                                          \
	static void free_entered_##set(struct object *o, struct heap *h, struct cache_bin *b)      \
	{                                                                                          \
		free_entered(o, h, b, set);                                                        \
	}
ENTERED(SET_ANY)
ENTERED(SET_ALL)
ENTERED(SET_CHECK)
#undef ENTERED

static void *alloc_entered_SET_SLOW(size_t size, struct heap *h, size_t scaled,
				    void *(*slow)(size_t))
{
	(void)scaled;
	heap_exit(h);
	return slow(size);
}

static void free_entered_SET_SLOW(struct object *o, struct heap *h, struct cache_bin *b)
{
	(void)b;
	heap_exit(h);
	heap_free_slow(o);
}

#define HOOKS(set)                                                                                 \
	[set] = {                                                                                  \
		.alloc = harden_alloc,                                                             \
		.free = harden_free,                                                               \
		.realloc = harden_realloc,                                                         \
		.usable = harden_usable,                                                           \
		.resize = harden_resize,                                                           \
		.good_size = harden_good_size,                                                     \
		.check_size = harden_check_size,                                                   \
		.alloc_entered = alloc_entered_##set,                                              \
		.free_entered = free_entered_##set,                                                \
	}
static const struct heap_hooks hooks[SETS] = { HOOKS(SET_ANY), HOOKS(SET_ALL), HOOKS(SET_CHECK),
					       HOOKS(SET_SLOW) };
#undef HOOKS

static enum set set_of_options(void)
{
	bool zero = options.zero_on_free;
	bool canary = options.canary;
	bool random = options.random_slots;

	if (options.guard_sample || options.prof)
		return SET_SLOW;
	if (options.quarantine && zero && canary && random)
		return SET_ALL;
	return options.quarantine || zero || canary || random ? SET_ANY : SET_CHECK;
}

/* What was handed out before has no trailer. What is on the free list is not in use. */
static bool mark_slab(struct page *pg)
{
	size_t slot = class_size(pg->cls);

	for (size_t at = 0; at < slab_carved_bytes(pg); at += slot)
		live_mark(page_address(pg) + at, slot, LIVE_PLAIN);
	for (struct object *o = slab_held(pg)->free; o; o = freelist_next(pg, o))
		live_mark(o, slot, LIVE_NONE);
	return true;
}

static bool mark_region(struct region *r)
{
	uint32_t end;

	if (!live_ready(r))
		return false;
	for (uint32_t i = region_first(); i < r->pages; i = end) {
		struct page *pg = &r->page[i];
		enum page_kind kind = page_kind(pg);

		end = region_run_end(r, i, kind);
		if (kind == PAGE_SLAB)
			mark_slab(pg);
		else if (kind == PAGE_LARGE)
			live_mark(page_address(pg), block_bytes(pg), LIVE_PLAIN);
	}
	return true;
}

static bool mark_all(void)
{
	for (uint32_t i = 0; i < zones_count(); i++)
		for (struct region *r = zone_first_region(&zone_all[i]); r; r = r->next)
			if (!mark_region(r))
				return false;
	return true;
}

/* They are empty. */
static void begin_bins(struct heap *h)
{
	for (unsigned bin = 0; bin < BINS; bin++)
		bin_begin(h, bin);
}

static bool wanted(void)
{
	return options.check == CHECK_FULL || options.quarantine || options.zero_on_free ||
	       options.canary || options.random_slots || options.check_sizes;
}

void harden_init(void)
{
	struct heap *h = heap_own();

	if (!wanted())
		return;
	/* Other threads may be in their fast paths. */
	if (heap_first() && heap_next(heap_first())) {
		options_say("the options of profile:hardened have no effect: another thread "
			    "allocated before the library's start");
		return;
	}
	if (heap_is_real(h) && heap_enter_slow(h)) {
		heap_trim(h);
		heap_exit_free(h);
	}
	heap_drain_fallback();
	if (!mark_all()) {
		options_say("the options of profile:hardened have no effect: no memory for the "
			    "bits that they need, 5 MiB for each 64 MiB; allow more (ulimit -v)");
		return;
	}
	trailer_key.secret = link_random();
	trailer_key.factor = link_random() | 1;
	if (options.check == CHECK_FULL && !zero_has_area())
		options_say("check:full: malloc(0) gives 16 bytes with access: no 16 MiB of "
			    "address space; allow more (ulimit -v)");
	live_init();
	region_ready = live_ready;
	slab_ends = hidden_check_slab;
	if (options.quarantine)
		heap_released_hook = quarantine_show;
	heap_slow_only = true;
	begin_bins(heap_fallback.heap);
	if (heap_is_real(h))
		begin_bins(h);
	heap_hooks = &hooks[set_of_options()];
}
