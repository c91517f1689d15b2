/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mallctl_rows.c - what the names of mallctl.def read and do. Uses info, reclaim, background,
 * options.
 *
 * Statistics are a snapshot, which a write of "epoch" renews, as in jemalloc. Threads may renew it
 * at the same time as others read it: each figure is one word, so a reader may see some from before
 * and some from after, which does no harm.
 * No lock, allocates nothing.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/malloc_conf.h"
#include "base/options.h"
#include "base/stats.h"
#include "heap/heap.h"
#include "heap/heap_slabs.h"
#include "heap/profile.h"
#include "heap/sweep.h"
#include "heap/tally.h"
#include "os/seal.h"
#include "os/vm.h"
#include "page/zone.h"
#include "reclaim/background.h"
#include "reclaim/info.h"
#include "reclaim/reclaim.h"
#include "shim/init.h"
#include "shim/jemalloc.h"
#include "shim/mallctl.h"

/* ---- the snapshot ------------------------------------------------------------------------- */

struct snapshot {
	struct info sum;
	struct info_class of[CLASSES];
};
#define SNAPSHOT_WORDS (sizeof(struct snapshot) / sizeof(uint64_t))
_Static_assert(sizeof(struct snapshot) % sizeof(uint64_t) == 0, "the snapshot is all words");

static _Atomic uint64_t snapshot[SNAPSHOT_WORDS];
static _Atomic uint64_t epoch;
static _Atomic uint32_t refreshing;
static struct snapshot fresh; /* written by the thread that set refreshing */

/* A thread that finds another at it keeps the snapshot that there is. So does a child of fork whose
 * parent was at it. */
void ctl_refresh(void)
{
	uint64_t words[1];
	uint32_t no = 0;

	if (!atomic_compare_exchange_strong_explicit(&refreshing, &no, 1, memory_order_acquire,
						     memory_order_relaxed))
		return;
	info_collect(&fresh.sum, fresh.of);
	for (size_t i = 0; i < SNAPSHOT_WORDS; i++) {
		memcpy(words, (const char *)&fresh + i * sizeof(words), sizeof(words));
		atomic_store_explicit(&snapshot[i], words[0], memory_order_relaxed);
	}
	atomic_fetch_add_explicit(&epoch, 1, memory_order_relaxed);
	atomic_store_explicit(&refreshing, 0, memory_order_release);
}

static uint64_t snapshot_word(size_t offset)
{
	if (unlikely(!atomic_load_explicit(&epoch, memory_order_relaxed)))
		ctl_refresh();
	return atomic_load_explicit(&snapshot[offset / sizeof(uint64_t)], memory_order_relaxed);
}

#define snap(field) snapshot_word(offsetof(struct snapshot, sum.field))
#define snap_class(cls, field)                                                                     \
	snapshot_word(offsetof(struct snapshot, of) + (cls) * sizeof(struct info_class) +          \
		      offsetof(struct info_class, field))

static uint64_t epoch_now(void)
{
	return atomic_load_explicit(&epoch, memory_order_relaxed);
}

static bool prof_is_active(void)
{
	return profile_on && atomic_load_explicit(&profile_active, memory_order_relaxed);
}

static uint64_t lg_sample(void)
{
	return 63u - (unsigned)__builtin_clzll(options.prof_sample);
}

static uint64_t lg_interval(void)
{
	return options.prof_interval ? 63u - (unsigned)__builtin_clzll(options.prof_interval)
				     : UINT64_MAX;
}

/* Without a profile false is what they are. */
static int set_prof_flag(_Atomic uint32_t *flag, const struct ctl_new *new)
{
	if (!profile_on)
		return new->value ? ENOENT : 0;
	atomic_store_explicit(flag, new->value != 0, memory_order_relaxed);
	return 0;
}

static int set_prof_active(const struct ctl_new *new)
{
	return set_prof_flag(&profile_active, new);
}

static bool prof_threads_are_active(void)
{
	return profile_on && atomic_load_explicit(&profile_thread_init, memory_order_relaxed);
}

static int set_prof_threads(const struct ctl_new *new)
{
	return set_prof_flag(&profile_thread_init, new);
}

static bool thread_is_active(void)
{
	return profile_on && profile_of_thread();
}

static int set_thread_prof(const struct ctl_new *new)
{
	if (!profile_on)
		return new->value ? ENOENT : 0;
	profile_set_thread(new->value != 0);
	return 0;
}

static bool prof_gdump_is_on(void)
{
	return profile_on && atomic_load_explicit(&profile_gdump, memory_order_relaxed);
}

static int set_prof_gdump(const struct ctl_new *new)
{
	return set_prof_flag(&profile_gdump, new);
}

static int do_prof_dump(const struct ctl_new *new)
{
	if (!profile_on)
		return ENOENT;
	return profile_dump(new->data ? (const char *)(uintptr_t) new->value : NULL, 'm') ? EFAULT
											  : 0;
}

/* The rate stays: the classes have drawn when they sample next. */
static int do_prof_reset(const struct ctl_new *new)
{
	if (!profile_on)
		return ENOENT;
	if (new->data &&new->value != lg_sample())
		return EINVAL;
	profile_reset();
	return 0;
}

static int set_epoch(const struct ctl_new *new)
{
	(void)new;
	ctl_refresh();
	return 0;
}

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static uint64_t allocated(void)
{
	return snap(layer_live);
}

static uint64_t small_allocated(void)
{
	return less(snap(object_bytes),
		    snap(cached_bytes) + snap(quarantine_bytes) - snap(quarantine_large_bytes));
}

static uint64_t large_allocated(void)
{
	return less(allocated(), small_allocated());
}

/* Memory of slabs and of large objects; jemalloc: pages of extents in use. */
static uint64_t active(void)
{
	return snap(layer_live) + snap(layer_cached) + snap(layer_pinned);
}

/* Free memory that costs memory. */
static uint64_t dirty(void)
{
	return snap(layer_dirty) + snap(layer_prefaulted) + snap(layer_pcp) + snap(layer_mapcache);
}

/* With what was never touched, as in jemalloc: resident is at most this. */
static uint64_t resident(void)
{
	return snap(layer_sum);
}

/* Address space that is usable and costs no memory. */
static uint64_t retained(void)
{
	return snap(clean_bytes);
}

static uint64_t mapped(void)
{
	return less(snap(region_bytes), retained()) + snap(huge_bytes) + snap(arena_bytes) +
	       snap(huge_kept_bytes) + snap(meta_bytes);
}

static uint64_t class_live(size_t cls)
{
	return less(snap_class(cls, object_bytes), snap_class(cls, cached_bytes)) /
	       class_size((unsigned)cls);
}

static uint64_t lextent_size(size_t i)
{
	if (i < CTL_RUNS)
		return (uint64_t)run_class_pages[(SMALL_MAX >> PG_SHIFT) + i] << PG_SHIFT;
	i -= CTL_RUNS;
	return ((uint64_t)(5 + i % 4) << (i / 4)) * ((uint64_t)PCP_RUN_MAX * PG_BYTES / 4);
}

static uint64_t uptime_ns(void)
{
	return clock_ns() - sluice_began_ns;
}

/* ---- arenas ------------------------------------------------------------------------------- */

/* An arena is a number: the memory of all is one. So none can be reset or destroyed. */
static _Atomic uint32_t arenas_made = 1;
static _Thread_local unsigned arena_own TLS_FAST;
static _Thread_local bool tcache_off TLS_FAST;

unsigned ctl_arenas(void)
{
	return atomic_load_explicit(&arenas_made, memory_order_relaxed);
}

static uint64_t arena_next(void)
{
	return atomic_fetch_add_explicit(&arenas_made, 1, memory_order_relaxed);
}

/* ---- what can be set ---------------------------------------------------------------------- */

static int set_background(const struct ctl_new *new)
{
	background_set(new->value != 0);
	return 0;
}

static int set_background_most(const struct ctl_new *new)
{
	return new->value ? 0 : EINVAL;
}

static int set_thread_arena(const struct ctl_new *new)
{
	if (new->value >= ctl_arenas())
		return EFAULT;
	arena_own = (unsigned)new->value;
	return 0;
}

/* A thread's caches stay; what it set reads back. */
static int set_tcache(const struct ctl_new *new)
{
	tcache_off = !new->value;
	return 0;
}

static int do_thread_flush(const struct ctl_new *new)
{
	(void)new;
	heap_abandon_own();
	heap_sweep();
	return 0;
}

static int do_peak_reset(const struct ctl_new *new)
{
	(void)new;
	tally_reset_peak();
	return 0;
}

/* Explicit caches: each is the cache of the thread that uses it. */
static uint64_t tcache_next(void)
{
	static _Atomic uint32_t made;

	return atomic_fetch_add_explicit(&made, 1, memory_order_relaxed);
}

static int do_tcache(const struct ctl_new *new)
{
	(void)new;
	return 0;
}

/* What has decayed: with a background thread it is gone already. */
static int do_arena_decay(const struct ctl_new *new)
{
	struct reclaim_report r;

	(void)new;
	if (!background_runs())
		reclaim_drain(RECLAIM_PURGE, options.dirty_max, &r);
	return 0;
}

static int do_arena_purge(const struct ctl_new *new)
{
	struct reclaim_report r;

	(void)new;
	reclaim_drain(RECLAIM_IDLE | RECLAIM_PURGE, 0, &r);
	return 0;
}

/* Memory never comes from sbrk, whatever is preferred. */
static int set_dss(const struct ctl_new *new)
{
	static const char *const words[] = { "disabled", "primary", "secondary" };
	const char *text = (const char *)(uintptr_t) new->value;

	for (unsigned i = 0; text && i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(text, words[i]) == 0)
			return 0;
	return EFAULT;
}

/* What was set reads back as it was set, whatever it becomes (malloc_conf.h). */
static _Atomic int64_t decay_set;
static _Atomic uint64_t decay_effective; /* 0: not set by mallctl yet */
static _Atomic uint64_t decay_began;     /* decay_ms before that */

static uint64_t decay_now(void)
{
	int64_t set = atomic_load_explicit(&decay_set, memory_order_relaxed);

	return options.decay_ms == atomic_load_explicit(&decay_effective, memory_order_relaxed)
		       ? (uint64_t)set
		       : options.decay_ms;
}

static uint64_t decay_at_start(void)
{
	uint64_t effective = atomic_load_explicit(&decay_effective, memory_order_relaxed);

	return effective ? atomic_load_explicit(&decay_began, memory_order_relaxed)
			 : options.decay_ms;
}

static int set_decay(const struct ctl_new *new)
{
	int64_t ms = (int64_t) new->value;
	uint64_t effective = ms < 0 || ms > DECAY_MS_MOST ? DECAY_MS_MOST
			     : ms < DECAY_MS_LEAST        ? DECAY_MS_LEAST
							  : (uint64_t)ms;

	if (ms < -1)
		return EFAULT;
	if (!atomic_load_explicit(&decay_effective, memory_order_relaxed))
		atomic_store_explicit(&decay_began, options.decay_ms, memory_order_relaxed);
	atomic_store_explicit(&decay_set, ms, memory_order_relaxed);
	atomic_store_explicit(&decay_effective, effective, memory_order_relaxed);
	seal_open();
	options.decay_ms = effective;
	return 0;
}

/* There are no muzzy pages; what was set reads back. */
static _Atomic int64_t muzzy_set;

static int set_muzzy(const struct ctl_new *new)
{
	if ((int64_t) new->value < -1)
		return EFAULT;
	atomic_store_explicit(&muzzy_set, (int64_t) new->value, memory_order_relaxed);
	return 0;
}

/* Which arena a block of ours is in. */
static int look_up(const struct ctl_new *new)
{
	void *p;

	if (!new->data || new->bytes != sizeof(p))
		return EINVAL;
	memcpy(&p, new->data, sizeof(p));
	return heap_owns(p) ? 0 : EINVAL;
}

/* An arena with hooks would need memory of its own. */
static int set_hooks(const struct ctl_new *new)
{
	return new->data ? EAGAIN : 0;
}

static const char *thp_text(void)
{
	if (options.thp == THP_NEVER)
		return "never";
	return options.thp == THP_ALWAYS ? "always" : "default";
}

/* ---- the table ---------------------------------------------------------------------------- */

#define CTL(id, name, type, value, set)                                                            \
	static uint64_t get_##id(const struct ctl_at *at)                                          \
	{                                                                                          \
		(void)at;                                                                          \
		return (uint64_t)(value);                                                          \
	}
#define FIXED(id, name, type, value, set) CTL(id, name, type, value, set)
#define RENEW(id, name, type, value, set) CTL(id, name, type, value, set)
#define CREATE(id, name, type, value, set) CTL(id, name, type, value, set)
#define ACTION(id, name, set)
#define ACTION_ON(id, name, type, set)
#define ACTION_MAY(id, name, type, set)
#include "shim/mallctl.def"
#undef CTL
#undef RENEW
#undef CREATE
#undef ACTION
#undef ACTION_ON
#undef ACTION_MAY

const struct ctl_row ctl_rows[] = {
#define CTL(id, name, type, value, set) { name, CTL_##type, get_##id, set, false, false, false },
#define RENEW(id, name, type, value, set) { name, CTL_##type, get_##id, set, false, true, false },
#define CREATE(id, name, type, value, set) { name, CTL_##type, get_##id, set, true, false, false },
#define ACTION(id, name, set) ACTION_ON(id, name, VOID, set)
#define ACTION_ON(id, name, type, set) { name, CTL_##type, NULL, set, false, false, false },
#define ACTION_MAY(id, name, type, set) { name, CTL_##type, NULL, set, false, false, true },
#include "shim/mallctl.def"
};
const unsigned ctl_rows_count = sizeof(ctl_rows) / sizeof(ctl_rows[0]);
