/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * meta.c - see meta.h: a bump pointer over mappings, the chunks, which grow with what is in them.
 * What does not fit into the shortest gets a mapping of its own, with a header before it; all of
 * these are on a list that only grows.
 * Used by heap; uses vm. Lock-free: the pointer moves by CAS, and a thread that finds the chunk
 * used up maps a new one and puts it in place by CAS; the loser of that race unmaps its own.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "page/meta.h"

#include "base/atomics.h"
#include "base/share.h"
#include "os/vm.h"

/* The shortest chunk, and the longest: below a huge page, so that the kernel backs no page that
 * nobody touched. */
#define META_CHUNK ((size_t)256 << 10)
#define META_CHUNK_MOST ((size_t)1 << 20)
#define META_ROOM (META_CHUNK - META_ALIGN)
#define SAME_CHUNKS 4u

/* At the end of its room. */
struct chunk {
	size_t room; /* set once, and the next */
	struct chunk *older;
	_Atomic size_t used;
};
_Static_assert(sizeof(struct chunk) <= META_ALIGN, "the end of a chunk is one page");

/* Too long for a chunk. */
struct own {
	size_t bytes;      /* of the mapping */
	struct own *older; /* set once */
};

static _Atomic(struct chunk *) current;
static _Atomic(struct own *) own;
static _Atomic uint64_t returned;

uint64_t meta_bytes(void)
{
	/* Both acquires pair with the releases of the CAS that put a mapping on its list. */
	struct chunk *c = atomic_load_explicit(&current, memory_order_acquire);
	struct own *o = atomic_load_explicit(&own, memory_order_acquire);
	uint64_t bytes = 0;
	uint64_t backed = 0;

	for (; c && backed != VM_UNKNOWN; c = c->older) {
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

/* A chunk that comes after `older`, four of which are as long as it before a longer one is mapped:
 * what a process with few threads reserves for nothing stays small. Returns NULL if there is no
 * memory. */
static struct chunk *chunk_map(struct chunk *older)
{
	struct chunk *same = older;
	size_t length = older ? older->room + META_ALIGN : META_CHUNK;
	char *start;
	struct chunk *c;

	for (unsigned i = 1; i < SAME_CHUNKS && same; i++)
		same = same->older;
	if (same && same->room == older->room && length < META_CHUNK_MOST)
		length *= 2;
	start = vm_map(length, META_ALIGN);
	if (!start && length > META_CHUNK) {
		length = META_CHUNK;
		start = vm_map(length, META_ALIGN);
	}
	if (!start)
		return NULL;
	c = (struct chunk *)(void *)(start + length - META_ALIGN);
	c->room = length - META_ALIGN;
	c->older = older;
	return c;
}

void *meta_alloc(size_t bytes)
{
	bytes = align_up(bytes, META_ALIGN);
	counter_add_shared(&returned, bytes);
	if (bytes > META_ROOM)
		return alloc_own(bytes);
	for (;;) {
		/* Acquire pairs with the release below. */
		struct chunk *c = atomic_load_explicit(&current, memory_order_acquire);
		struct chunk *fresh;

		if (c) {
			SHARE_COUNT(meta_used);
			size_t at = atomic_fetch_add_explicit(&c->used, bytes,
							      memory_order_relaxed);

			if (at <= c->room - bytes)
				return (char *)c - c->room + at;
		}
		fresh = chunk_map(c);
		if (!fresh)
			return NULL;
		if (!atomic_compare_exchange_strong_explicit(&current, &c, fresh,
							     memory_order_release,
							     memory_order_relaxed))
			vm_unmap((char *)fresh - fresh->room, fresh->room + META_ALIGN);
	}
}
