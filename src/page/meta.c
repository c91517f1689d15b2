/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * meta.c - see meta.h: a bump pointer over mappings of META_CHUNK bytes.
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

static _Atomic(struct chunk *) current;
static _Atomic uint64_t returned;
static _Atomic uint64_t longer; /* the part of it that is too long for a chunk */

uint64_t meta_bytes(void)
{
	uint64_t bytes = atomic_load_explicit(&longer, memory_order_relaxed);
	struct chunk *c = atomic_load_explicit(&current, memory_order_acquire);

	for (; c; c = c->older) {
		uint64_t backed = vm_resident(c, META_CHUNK);

		if (backed == VM_UNKNOWN)
			return atomic_load_explicit(&returned, memory_order_relaxed);
		bytes += backed;
	}
	return bytes;
}

void *meta_alloc(size_t bytes)
{
	bytes = align_up(bytes, META_ALIGN);
	counter_add_shared(&returned, bytes);
	if (bytes > META_ROOM) {
		counter_add_shared(&longer, bytes);
		return vm_map(bytes, META_ALIGN);
	}
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
