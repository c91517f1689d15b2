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
 *     was asked for, and a hash of that, its address and a secret. Bytes between the two are
 *     filled by the hash, about FILL_MAX of them. A free, realloc or malloc_usable_size checks
 *     them. Blocks that were handed out before the process was hardened (LIVE_PLAIN) have none, nor
 *     have those that are mappings (huge) or lie in the arena.
 * (C) With zero_on_free a freed block reads as zero, except link and mark, until it is used again
 *     (LIVE_NOTED). Of a block above CLEAR_ALWAYS, only the first CLEAR_HEAD bytes do if the
 *     thread has spent what clear_rate gives it (LIVE_NONE).
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
#include "heap/trim.h"
#include "heap/zero.h"
#include "os/vm.h"
#include "page/region.h"
#include "page/thp.h"
#include "page/zone.h"

#define TRAILER_BYTES sizeof(uint64_t)
#define FILL_MAX ((size_t)64)
#define PURGE_MIN ((size_t)1 << 20)

/* Of trailers. */
static uint64_t secret;
static uint64_t factor; /* odd */

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

/* ---- trailers ------------------------------------------------------------------------------- */

/* What an attacker who cannot read trailers does not guess: multiply-shift with a random factor and
 * summand, of which the upper half is used (Dietzfelbinger 1996). Sizes of blocks have 25 bits. */
static always_inline uint64_t hash_of(const void *p, size_t size)
{
	return ((uint64_t)(uintptr_t)p ^ (uint64_t)size << 38) * factor + secret;
}

static always_inline uint64_t trailer_of(uint64_t hash, size_t size)
{
	return (hash & ~UINT64_C(0xffffffff)) | (uint32_t)(size ^ secret);
}

/* No zero, no text, and other bytes behind each block: a program seldom writes them by chance. */
static uint64_t fill_of(uint64_t hash)
{
	return (hash ^ hash >> 32) | UINT64_C(0x8080808080808080);
}

/* The end of what is filled, and the bytes of the first word that belong to the block. */
static size_t fill_end(size_t size, size_t room)
{
	return min_size(room, align_up(size, sizeof(uint64_t)) + FILL_MAX);
}

static uint64_t fill_keeps(size_t size)
{
	return ~(UINT64_MAX << size % sizeof(uint64_t) * 8);
}

static uint64_t word_at(const void *p, size_t at)
{
	uint64_t v;

	memcpy(&v, (const char *)p + at, sizeof(v));
	return v;
}

/* What is filled: the words from `at` to `end`, of which the first one is filled in part. */
struct fill {
	uint64_t word;
	uint64_t keeps;
	size_t at;
	size_t end;
};

static always_inline struct fill fill_for(uint64_t hash, size_t size, size_t room)
{
	return (struct fill){ fill_of(hash), fill_keeps(size), align_down(size, sizeof(uint64_t)),
			      fill_end(size, room) };
}

/* Two words, either of which lies at any word. */
typedef uint64_t fill_pair __attribute__((vector_size(16), aligned(8), may_alias));

/* Where the pair number i of at least three words lies, of which at + 8 is the second one: they
 * overlap at the end, so that how many there are takes no branch. */
#define FILL_PAIRS (FILL_MAX / sizeof(fill_pair))
static always_inline fill_pair *fill_at(void *p, const struct fill *f, size_t i)
{
	size_t at = f->at + sizeof(uint64_t) + i * sizeof(fill_pair);

	return (fill_pair *)(void *)((char *)p + min_size(at, f->end - sizeof(fill_pair)));
}

static always_inline bool fill_is_long(const struct fill *f)
{
	return f->end - f->at > sizeof(fill_pair);
}

static always_inline void trailer_put(void *p, size_t size, size_t slot)
{
	size_t room = slot - TRAILER_BYTES;
	uint64_t hash = hash_of(p, size);
	uint64_t t = trailer_of(hash, size);
	struct fill f = fill_for(hash, size, room);
	uint64_t first;

	memcpy((char *)p + room, &t, sizeof(t));
	if (size == room)
		return;
	first = (word_at(p, f.at) & f.keeps) | (f.word & ~f.keeps);
	if (fill_is_long(&f)) {
		for (size_t i = 0; i < FILL_PAIRS; i++)
			*fill_at(p, &f, i) = (fill_pair){ f.word, f.word };
	} else {
		memcpy((char *)p + f.end - sizeof(f.word), &f.word, sizeof(f.word));
	}
	memcpy((char *)p + f.at, &first, sizeof(first)); /* last: it may be the same word */
}

static noinline _Noreturn void overrun(const void *p)
{
	const struct page *pg = page_of(p);

	if (page_kind(pg) != PAGE_SLAB)
		sluice_fatal("block written to beyond its end: address %p, block %p (%zu bytes)", p,
			     p, large_usable(pg));
	sluice_fatal("object written to beyond its end: address %p, size class %u (%u bytes)", p,
		     pg->cls, (unsigned)class_size(pg->cls));
}

/* The size that was asked for. Stops the program if the bytes behind it have changed. slot: the
 * bytes of the block. */
static always_inline size_t trailer_check(const void *p, size_t slot)
{
	size_t room = slot - TRAILER_BYTES;
	uint64_t t = word_at(p, room);
	size_t size = (uint32_t)(t ^ secret);
	uint64_t hash = hash_of(p, size);
	struct fill f = fill_for(hash, size, room);
	uint64_t wrong;

	/* The lower half has told the size. */
	if (unlikely(size > room) || unlikely((t ^ hash) >> 32))
		overrun(p);
	if (size == room)
		return size;
	wrong = (word_at(p, f.at) ^ f.word) & ~f.keeps;
	if (fill_is_long(&f)) {
		fill_pair all = { 0, 0 };

		for (size_t i = 0; i < FILL_PAIRS; i++)
			all |= *fill_at((void *)(uintptr_t)p, &f, i) ^ f.word;
		wrong |= all[0] | all[1];
	} else {
		size_t last = f.end - sizeof(uint64_t);

		wrong |= (word_at(p, last) ^ f.word) & (last == f.at ? ~f.keeps : UINT64_MAX);
	}
	if (unlikely(wrong))
		overrun(p);
	return size;
}

/* Bytes that the program may use. */
static size_t usable(const void *p, const struct page *pg, enum live was)
{
	size_t slot = block_bytes(pg);

	return options.canary && was == LIVE_USED ? trailer_check(p, slot) : slot;
}

/* ---- the calls ------------------------------------------------------------------------------ */

/* Most calls are made for a set of options, so that each option is a constant in them. */
enum set {
	SET_ANY,
	SET_ALL,   /* of profile:hardened */
	SET_CHECK, /* check:full alone */
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

	CHECK(was < LIVE_USED);
	if (noted && zero)
		freed_check_zero(p, slot);
	else if (noted)
		freed_check_seal(p);
	if (is_on(set, options.canary))
		trailer_put(p, size, slot);
	return noted && zero;
}

/* In the critical section of h, which it leaves: an object that the heap has taken already. Returns
 * NULL if there are few, and every DIRECT_CALLS-th time: heap_plain_alloc takes more, and does what
 * else is due. again: before that, the call comes here once more, and must not find one then. */
static always_inline struct object *take_ready(struct heap *h, unsigned cls, bool again,
					       enum set set)
{
	struct object *o = NULL;

	if (likely(!heap_sampling)) {
		if (heap_goes_past(h))
			o = heap_pop_hidden(h, cls, is_on(set, options.random_slots));
		else if (again)
			h->direct_left = 0;
	}
	heap_exit(h);
	return o;
}

/* The rest of alloc_entered for an object of more than FREED_SHORT bytes, which makes calls. */
static noinline void *begin_long(void *p, size_t size, size_t slot)
{
	begin_block(p, size, slot, true, SET_ANY);
	return p;
}

static noinline void *draw_and_alloc(struct heap *h, size_t size)
{
	heap_random_draw();
	return heap_hooks->alloc_entered(h, size);
}

/* For malloc, of an object that the heap has taken already; other calls go through harden_alloc.
 * Calls only at its ends, so that it saves no registers. */
static always_inline void *alloc_entered(struct heap *h, size_t size, enum set set)
{
	size_t more = is_on(set, options.canary) ? TRAILER_BYTES : 0;
	unsigned cls;
	size_t slot;
	struct object *o;

	if (is_on(set, options.random_slots) && unlikely(hidden_needs_bits()))
		return draw_and_alloc(h, size);
	if (unlikely(size - 1 >= SMALL_MAX - more)) {
		heap_exit(h);
		return NULL;
	}
	cls = class_of(size + more);
	o = take_ready(h, cls, true, set);
	if (unlikely(!o))
		return NULL;
	slot = class_size(cls);
	if (is_on(set, options.zero_on_free) && slot > FREED_SHORT)
		return begin_long(o, size, slot);
	begin_block(o, size, slot, true, set);
	return o;
}

static void *take(size_t size, size_t align, bool *zero)
{
	size_t bytes = align_up(max_size(size, 1), align);
	struct heap *h = heap_self;
	void *p = NULL;

	if (options.random_slots && hidden_needs_bits())
		heap_random_draw();
	if (likely(bytes <= SMALL_MAX && align <= PG_BYTES) && likely(heap_enter(h)))
		p = take_ready(h, class_of(bytes), false, SET_ANY);
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

/* p: where a block of slot bytes begins, if it is in use. Stops the program if it is not. noted:
 * after that it is filled with zeros, goes to the kernel, or is sealed. */
static always_inline void end_block(void *p, size_t slot, bool noted, enum set set)
{
	enum live was = live_end(p, slot, noted);

	if (unlikely(was < LIVE_USED))
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

/* The object is kept, or lies ready. Returns false if that takes more. */
static always_inline bool put_entered(struct heap *h, unsigned cls, size_t slot, struct object *o,
				      enum set set)
{
	if (is_on(set, options.quarantine != 0))
		return quarantine_keep(h, cls, slot, o);
	return heap_put_hidden(h, cls, o);
}

/* In the critical section of h, which it leaves. */
static always_inline void end_entered(struct object *o, struct heap *h, unsigned cls, size_t slot,
				      enum set set)
{
	bool zero = is_on(set, options.zero_on_free);
	bool whole = !zero || clearing_takes(slot);

	end_block(o, slot, whole, set);
	if (zero)
		freed_zero(o, whole ? slot : CLEAR_HEAD);
	else
		freed_seal(o);
	if (likely(put_entered(h, cls, slot, o, set)))
		heap_exit(h);
	else
		put_and_leave(h, o);
}

/* The rest of free_entered for an object of more than FREED_SHORT bytes, which makes calls. */
static noinline void end_long(struct object *o, struct heap *h, unsigned cls, size_t slot)
{
	end_entered(o, h, cls, slot, SET_ANY);
}

/* What harden_free does with an object of a slab, if nothing else is due. The fast path has checked
 * what heap_check_object checks, except holes, whose objects are not in use. */
static always_inline void free_entered(struct object *o, struct heap *h, struct cache_bin *b,
				       enum set set)
{
	unsigned cls = (unsigned)(b - h->bin);
	size_t slot;

	if (unlikely(cls >= CLASSES) || unlikely(heap_sampling) ||
	    unlikely(atomic_load_explicit(&h->drained, memory_order_relaxed)) ||
	    unlikely(!heap_goes_past(h))) {
		heap_exit(h);
		heap_free_slow(o);
		return;
	}
	slot = class_size(cls);
	/* Of the trailer: the atomic operation before its check would not let it come earlier. */
	if (is_on(set, options.canary))
		__builtin_prefetch((char *)o + slot - TRAILER_BYTES, 1);
	if (is_on(set, options.zero_on_free) && slot > FREED_SHORT)
		end_long(o, h, cls, slot);
	else
		end_entered(o, h, cls, slot, set);
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

static void harden_free(void *p)
{
	struct page *pg = page_in_use(p);
	size_t slot;
	bool small;
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
	small = page_kind(pg) == PAGE_SLAB;
	whole = clearing_takes(slot);
	end_block(p, slot, options.zero_on_free ? whole : small, SET_ANY);
	if (unlikely(heap_sampling))
		sampler_freed(pg, p);
	if (!(whole && quarantine_hide(p, pg)) && options.zero_on_free)
		clear_block(p, whole ? slot : CLEAR_HEAD);
	else if (small)
		freed_seal(p);
	heap_free_checked(pg, p);
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
	is = live_of(p);
	if (unlikely(is < LIVE_USED))
		sluice_fatal("size asked of memory that is not ours or was freed: address %p", p);
	return usable(p, pg, is);
}

/* Stops the program unless pg's block at p is in use. */
static enum live check_used(void *p, struct page *pg)
{
	enum live is;

	heap_check_object(p, pg);
	is = live_of(p);
	if (unlikely(is < LIVE_USED))
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
		trailer_put(p, size, slot);
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
	if (pg && resize(p, pg, live_of(p), size))
		return p;
	q = heap_move(p, old, size);
	if (q || size > old)
		return q;
	/* It has more than was asked for: a sized free may tell either. */
	live_mark(p, LIVE_PLAIN);
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
	else if (pg && options.canary && live_of(p) == LIVE_USED)
		good = size == have || (size <= 1 && have <= 1); /* sdallocx: 0 counts as 1 */
	else if (pg && live_of(p) == LIVE_PLAIN)
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
	static void *alloc_entered_##set(struct heap *h, size_t size)                              \
	{                                                                                          \
		return alloc_entered(h, size, set);                                                \
	}                                                                                          \
	static void free_entered_##set(struct object *o, struct heap *h, struct cache_bin *b)      \
	{                                                                                          \
		free_entered(o, h, b, set);                                                        \
	}
ENTERED(SET_ANY)
ENTERED(SET_ALL)
ENTERED(SET_CHECK)
#undef ENTERED

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
static const struct heap_hooks hooks[SETS] = { HOOKS(SET_ANY), HOOKS(SET_ALL), HOOKS(SET_CHECK) };
#undef HOOKS

static enum set set_of_options(void)
{
	bool zero = options.zero_on_free;
	bool canary = options.canary;
	bool random = options.random_slots;

	if (options.quarantine && zero && canary && random)
		return SET_ALL;
	return options.quarantine || zero || canary || random ? SET_ANY : SET_CHECK;
}

/* What was handed out before has no trailer. What is on the free list is not in use. */
static bool mark_slab(struct page *pg)
{
	for (size_t at = 0; at < slab_carved_bytes(pg); at += class_size(pg->cls))
		live_mark(page_address(pg) + at, LIVE_PLAIN);
	for (struct object *o = pg->free; o; o = freelist_next(pg, o))
		live_mark(o, LIVE_NONE);
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
			live_mark(page_address(pg), LIVE_PLAIN);
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
	for (unsigned cls = 0; cls < CLASSES; cls++)
		bin_begin(h, cls);
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
			    "bits that they need, 1 MiB for each 64 MiB; allow more (ulimit -v)");
		return;
	}
	secret = link_random();
	factor = link_random() | 1;
	if (options.check == CHECK_FULL && !zero_has_area())
		options_say("check:full: malloc(0) gives 16 bytes with access: no 16 MiB of "
			    "address space; allow more (ulimit -v)");
	region_ready = live_ready;
	if (options.quarantine)
		heap_released_hook = quarantine_show;
	heap_slow_only = true;
	begin_bins(heap_fallback.heap);
	if (heap_is_real(h))
		begin_bins(h);
	heap_hooks = &hooks[set_of_options()];
}
