/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * slab_pool.h - the pools of abandoned slabs, one a size class.
 */
#ifndef SLUICE_SLAB_POOL_H
#define SLUICE_SLAB_POOL_H

#include "base/lock.h"
#include "heap/slab.h"
#include "types.h"

enum slab_put {
	POOL_PUT,    /* it is abandoned now */
	POOL_EMPTY,  /* no object of it is live: it is the caller's to unmake */
	POOL_POSTED, /* it is in an inbox or on the way there: it has to stay with its heap */
	POOL_LOCKED, /* the pool's lock could not be had: likewise; only of a slab that has an owner */
};

enum slab_age {
	SLAB_RECENT,   /* may have been used just now: look for holes after a decay */
	SLAB_IDLE,     /* was not used for long: look for holes at once */
	SLAB_LOOKED_AT /* for holes, and not touched since */
};

/* Abandon a slab that is in hand. */
enum slab_put slab_pool_put(struct page *pg, enum slab_age age);

/* An abandoned slab of the class with room, in limbo; NULL: there is none. */
struct page *slab_pool_take(unsigned cls);

/* Take this slab, which was abandoned a moment ago. False: somebody else has it, or had it. */
bool slab_pool_adopt(struct page *pg, unsigned cls);

/* Take off an abandoned slab of the class that is empty once its remote list is collected, in
 * limbo; NULL: none is left. For drains; costs nothing unless a free into an abandoned slab was not
 * followed by its adoption, else looks at every abandoned slab of the class, some in each hold. */
struct page *slab_pool_take_empty(unsigned cls);

/* Once each decay: what was left SLAB_RECENT before the last call is due from now on. */
void slab_pool_next_epoch(void);

/* Abandoned slabs of the class; and of them, those that wait to be looked at for holes. */
uint64_t slab_pool_count(unsigned cls);
uint64_t slab_pool_count_new(unsigned cls);

/* fork: the locks of the pools. */
struct lock *slab_pool_lock(unsigned cls);

/*
 * Make holes in the abandoned slabs that nobody touched for a decay, or for long before they were left
 * (all: in all abandoned ones), and that were not looked at since they were touched last, until `most`
 * bytes were given back. Returns how many. Does nothing with the option holes:0. Enters the kernel, with
 * no lock held.
 */
uint64_t slab_pool_punch(bool all, uint64_t most);

/* Whether an abandoned slab waits for slab_pool_punch. */
bool slab_pool_wants_punch(void);

#endif
