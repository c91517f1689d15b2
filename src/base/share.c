/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * share.c - see share.h. Primitive; used by all layers. Allocates nothing, takes no lock.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "base/share.h"

#define SHARDS 64u /* power of two */

static const char *const names[SHARES] = {
#define LOCKRANK(name, most, text) "lock_" #name,
#include "base/lockrank.def"
#undef LOCKRANK
#define SHARE(name, text) #name,
#include "base/share.def"
#undef SHARE
};

#if SLUICE_SHARING
static struct {
	cache_aligned _Atomic uint64_t count[SHARES];
} shards[SHARDS];

void share_add(enum share_id s)
{
	static _Atomic uint32_t next;
	static _Thread_local uint32_t mine TLS_FAST; /* index + 1; 0 until first used */

	if (unlikely(!mine))
		mine = (atomic_fetch_add_explicit(&next, 1, memory_order_relaxed) & (SHARDS - 1)) +
		       1;
	atomic_fetch_add_explicit(&shards[mine - 1].count[s], 1, memory_order_relaxed);
}

uint64_t share_sum(enum share_id s)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < SHARDS; i++)
		sum += atomic_load_explicit(&shards[i].count[s], memory_order_relaxed);
	return sum;
}
#else
void share_add(enum share_id s)
{
	(void)s;
}

uint64_t share_sum(enum share_id s)
{
	(void)s;
	return 0;
}
#endif

const char *share_name(enum share_id s)
{
	return names[s];
}
