/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * meta.c - see meta.h: a bump pointer over mappings, the chunks, which grow with what is in them.
 * What does not fit into the shortest gets a mapping of its own, with a header before it; all of
 * these are on a list that only grows.
 * Used by heap; uses vm.
 *
 * Lock-free, and nobody waits: the pointer moves by an atomic addition. The thread whose addition
 * reaches the end of a chunk maps the next one; in long chunks the thread that reaches the middle
 * does it already. Threads that find the chunk used up before the next one is there take mappings
 * of their own, as long as they need. They may be hundreds, because each mapping call holds up the
 * page faults of all threads. If each mapped a chunk, all but one would unmap it again.
 *
 * The next chunk may never come: its mapping is refused, or a fork does not copy the thread that
 * maps it. So of each META_CHUNK_MOST bytes that are asked of a chunk, one thread tries again.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "page/meta.h"

#include "base/atomics.h"
#include "base/delay.h"
#include "base/share.h"
#include "os/vm.h"

/* The first chunk, the longest, and the longest where address space is limited. */
#define META_CHUNK ((size_t)256 << 10)
#define META_CHUNK_MOST ((size_t)16 << 20)
#define META_CHUNK_LIMITED ((size_t)1 << 20)
#define META_ROOM (META_CHUNK - META_ALIGN)
#define CHUNK_GROWTH 4u
/* From this length on the next chunk is mapped early, and the kernel may not use huge pages: it
 * would back much that nobody touches. */
#define META_CHUNK_LONG ((size_t)1 << 20)

/* At the end of its room. */
struct chunk {
	size_t room; /* set once, and the next */
	struct chunk *older;
	_Atomic(struct chunk *) next; /* set once */
	_Atomic size_t used;          /* and what was asked of it since, in vain */
};
_Static_assert(sizeof(struct chunk) <= META_ALIGN, "the end of a chunk is one page");

/* Too long for a chunk, or allocated while the next one was being mapped. */
struct own {
	size_t bytes;      /* of the mapping */
	struct own *older; /* set once */
};

static _Atomic(struct chunk *) current;
static _Atomic(struct own *) own;
static _Atomic uint64_t returned;

uint64_t meta_bytes(void)
{
	/* All acquires pair with the releases of the CAS that put a mapping on its list. */
	struct chunk *c = atomic_load_explicit(&current, memory_order_acquire);
	struct chunk *next = c ? atomic_load_explicit(&c->next, memory_order_acquire) : NULL;
	struct own *o = atomic_load_explicit(&own, memory_order_acquire);
	uint64_t bytes = 0;
	uint64_t backed = 0;

	for (c = next ? next : c; c && backed != VM_UNKNOWN; c = c->older) {
		backed = vm_resident((char *)c - c->room, c->room + META_ALIGN);
		bytes += backed;
	}
	for (; o && backed != VM_UNKNOWN; o = o->older) {
		backed = vm_resident(o, o->bytes);
		bytes += backed;
	}
	return backed == VM_UNKNOWN ? atomic_load_explicit(&returned, memory_order_relaxed) : bytes;
}

/* In a mapping of its own. */
static void *alloc_own(size_t bytes)
{
	struct own *o = vm_map(bytes + META_ALIGN, META_ALIGN);

	if (!o)
		return NULL;
	o->bytes = bytes + META_ALIGN;
	o->older = atomic_load_explicit(&own, memory_order_relaxed);
	while (!atomic_compare_exchange_weak_explicit(&own, &o->older, o, memory_order_release,
						      memory_order_relaxed))
		;
	return (char *)o + META_ALIGN;
}

/* A chunk that comes after `older`, or the first one. Returns NULL if there is no memory. */
static struct chunk *chunk_map(struct chunk *older)
{
	size_t length = older ? CHUNK_GROWTH * (older->room + META_ALIGN) : META_CHUNK;
	size_t limit;
	char *start;
	struct chunk *c;

	length = min_size(length,
			  vm_address_limited(&limit) ? META_CHUNK_LIMITED : META_CHUNK_MOST);
	start = vm_map(length, META_ALIGN);
	if (!start && length > META_CHUNK) {
		length = META_CHUNK;
		start = vm_map(length, META_ALIGN);
	}
	if (!start)
		return NULL;
	if (length >= META_CHUNK_LONG)
		vm_thp_forbid(start, length);
	c = (struct chunk *)(void *)(start + length - META_ALIGN);
	c->room = length - META_ALIGN;
	c->older = older;
	DELAY_HERE(meta_chunk);
	return c;
}

/* A chunk is put behind c, or at the list's start if c is NULL. */
static void chunk_append(struct chunk *c)
{
	struct chunk *fresh = chunk_map(c);
	struct chunk *next = NULL;

	/* Release: what is in the chunk; pairs with the acquire loads of `next` and `current`. */
	if (fresh &&
	    !atomic_compare_exchange_strong_explicit(c ? &c->next : &current, &next, fresh,
						     memory_order_release, memory_order_relaxed))
		vm_unmap((char *)fresh - fresh->room, fresh->room + META_ALIGN);
}

/* Whether the thread that allocated [at, after), perhaps past the end, has to map the next one. */
static bool chunk_due(const struct chunk *c, size_t at, size_t after)
{
	size_t end = c->room + META_ALIGN;
	size_t early = end / 2;
	size_t limit;

	if (at < early && after >= early && end >= META_CHUNK_LONG)
		return !vm_address_limited(&limit);
	return (at < end && after >= end) || at / META_CHUNK_MOST != after / META_CHUNK_MOST;
}

void *meta_alloc(size_t bytes)
{
	bytes = align_up(bytes, META_ALIGN);
	counter_add_shared(&returned, bytes);
	/* The second time in the first chunk, or in the one after c. */
	for (unsigned tries = 0; tries < 2 && bytes <= META_ROOM; tries++) {
		/* Pairs with the release in chunk_append, and with that below. */
		struct chunk *c = atomic_load_explicit(&current, memory_order_acquire);
		struct chunk *next;
		size_t at = 0;

		if (c) {
			SHARE_COUNT(meta_used);
			at = atomic_fetch_add_explicit(&c->used, bytes, memory_order_relaxed);
		}
		if (!c || (chunk_due(c, at, at + bytes) &&
			   !atomic_load_explicit(&c->next, memory_order_relaxed)))
			chunk_append(c);
		if (!c)
			continue;
		if (at <= c->room - bytes)
			return (char *)c - c->room + at;
		/* Pairs with the release in chunk_append. */
		next = atomic_load_explicit(&c->next, memory_order_acquire);
		if (!next)
			break;
		/* Release pairs with the acquire above. If it fails, another thread did it. */
		atomic_compare_exchange_strong_explicit(&current, &c, next, memory_order_release,
							memory_order_relaxed);
	}
	return alloc_own(bytes);
}
