/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * meta.c - see meta.h: a bump pointer over mappings of META_CHUNK bytes. What does not fit there
 * gets a mapping of its own, with a header before it; all of these are on a list that only grows.
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

#define META_CHUNK ((size_t)256 << 10)
#define META_ROOM (META_CHUNK - META_ALIGN)

struct chunk {
	char room[META_ROOM];
	_Atomic size_t used;
	struct chunk *older; /* set once */
};

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
		backed = vm_resident(c, META_CHUNK);
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

			if (at <= META_ROOM - bytes)
				return c->room + at;
		}
		fresh = vm_map(META_CHUNK, META_ALIGN);
		if (!fresh)
			return NULL;
		fresh->older = c;
		if (!atomic_compare_exchange_strong_explicit(&current, &c, fresh,
							     memory_order_release,
							     memory_order_relaxed))
			vm_unmap(fresh, META_CHUNK);
	}
}
