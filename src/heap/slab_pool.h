/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * slab_pool.h - the pools of abandoned slabs, one for each size class: abandoning a slab, adopting
 * it, and making holes in the slabs of the pools. "Holds a slab" and "limbo" are defined in slab.h.
 */
#ifndef SLUICE_SLAB_POOL_H
#define SLUICE_SLAB_POOL_H

#include "base/lock.h"
#include "heap/slab.h"
#include "types.h"

enum slab_put {
	POOL_PUT,    /* the slab is abandoned, or will be (see slab_pool_put) */
	POOL_EMPTY,  /* no object of it is live: the caller has it in limbo and unmakes it */
	POOL_POSTED, /* it is in an inbox or on the way there: it stays with its heap */
	POOL_LOCKED, /* the pool's lock was not available: it stays with its heap */
};

enum slab_age {
	SLAB_RECENT, /* may have been used just now: scan it for holes after a decay */
	SLAB_IDLE,   /* was not used for long: scan it for holes at once */
	SLAB_SCANNED /* was scanned for holes, and not touched since */
};

/*
 * Abandon a slab that the caller holds. If the pool's lock is not available (a fork holds it, or
 * the call that this signal handler interrupted), a slab in limbo waits for the next holder of the
 * lock, which abandons it.
 */
enum slab_put slab_pool_put(struct page *pg, enum slab_age age);

/* Adopt any abandoned slab of the class with room: it is in limbo then. Returns NULL if there is
 * none, or the lock is not available. */
struct page *slab_pool_take(unsigned cls);

/* Adopt this slab, which a remote free found abandoned. Returns false if it has been adopted
 * meanwhile, or the lock is not available. */
bool slab_pool_adopt(struct page *pg, unsigned cls);

/*
 * For drains: take an abandoned slab of the class out of the pool, into limbo, that is empty once
 * its remote list is collected. Returns NULL if there is none. Walks all slabs of the pool, some in
 * each hold of the lock, but only if a free into an abandoned slab was not followed by a try to
 * adopt it. Otherwise costs nothing.
 */
struct page *slab_pool_take_empty(unsigned cls);

/* Begin a new epoch of the pools; called once each decay. A SLAB_RECENT slab is scanned for holes
 * when two epochs have begun since it was abandoned, so that one decay has passed in full. */
void slab_pool_next_epoch(void);

/* Number of abandoned slabs of the class, and how many of these wait to be scanned for holes. */
uint64_t slab_pool_count(unsigned cls);
uint64_t slab_pool_count_new(unsigned cls);

/* For fork: the lock of the class's pool. */
struct lock *slab_pool_lock(unsigned cls);

/*
 * Make holes in abandoned slabs that nobody touched for a decay, or that were left SLAB_IDLE; with
 * `all`, in all of them. Skips slabs that were scanned since they were last touched. Stops when
 * `most` bytes were given back. Returns how many bytes. Does nothing with the option holes:0.
 * Enters the kernel, with no lock held.
 */
uint64_t slab_pool_punch(bool all, uint64_t most);

/* The same for few slabs, whenever they were abandoned, and `most` bytes. */
uint64_t slab_pool_punch_some(uint64_t most);

/* Whether an abandoned slab waits to be scanned by slab_pool_punch. */
bool slab_pool_wants_punch(void);

#endif
