/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * limits.c - see limits.h.
 * Used by pressure, psi, reserve and background; uses reclaim, cgroup, buddy, pcp, huge.
 *
 * In a memory cgroup mmap does not fail: the page fault kills the process. Therefore a thread that
 * is about to take clean pages checks how much is left, at the latest when it has taken a quarter
 * of what the last check found. What is left is what the process's cgroup and all groups above it
 * may still use, less a margin of 1/16 of the limit. The kernel's files give that figure. They are
 * read at the start and by the background thread only, because a calling thread may be in a sandbox
 * that kills it for reading them. Between two readings, what is left is the figure of the last
 * reading less what we have taken since. A process without a background thread therefore does not
 * notice what other processes of its group take, nor that a limit was changed.
 *
 * (A) One thread at a time checks (`checking`). While little is left, other threads wait for it,
 *     at most 20 ms, because it may be making room.
 * (B) soft_limit and cache_limit: after each free of pages and each refill of a pcp, the calling
 *     thread purges until no more is kept than is allowed (keep_below). What other threads see
 *     above the limit is therefore what the threads inside such a call are about to purge, and what
 *     cache bins have grown since. The room of cache bins counts as kept; it is at most a quarter.
 * (C) Nothing is sized by the number of processors.
 *
 * Bound: a check sums some counters, at most once for a quarter of what is left. A check by the
 * background thread reads three short files for each cgroup above the process. Making room is
 * bounded as in reclaim, and runs at most once in VAIN_MS while it finds next to nothing. Waiting
 * for another thread's check takes WAIT_TRIES of 0.1 ms. keep_below purges the excess, then drains
 * one pcp after the other until nothing is in excess or it has seen KEEP_CACHES of them; where more
 * threads hold more than is allowed, the following calls go on from there.
 *
 * Takes no lock but `checking`, which holds a TID and is only tried. Called outside critical
 * sections of heaps and without locks; a signal handler that interrupted the holder of a lock does
 * not check. Allocates nothing, uses no stdio, keeps errno, may sleep.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "reclaim/limits.h"

#include <errno.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/options.h"
#include "base/probe.h"
#include "base/sandbox.h"
#include "base/stats.h"
#include "heap/cache_bin.h"
#include "heap/drain.h"
#include "heap/heap_pcps.h"
#include "heap/holes.h"
#include "heap/huge.h"
#include "page/buddy.h"
#include "page/growth.h"
#include "page/longrun.h"
#include "page/mapcache.h"
#include "page/pcp.h"
#include "page/prefault.h"
#include "page/purge.h"
#include "reclaim/reclaim.h"

#define MIB (UINT64_C(1) << 20)
#define MARGIN_MIN MIB
#define MARGIN_MAX (64 * MIB)
#define STEP_MIN MIB /* growth between two checks, at least this, */
#define STEP_PART 4u /* or this part of what is left */
#define LEFT_LITTLE (16 * MIB)
#define LEFT_SOME (64 * MIB)
#define WAIT_TRIES 200u     /* of 100 us each */
#define REFRESH_MS 1000u    /* limits are read again, they may have changed */
#define VAIN_MS 20u         /* growth: pause after a reclaim that gave next to nothing */
#define CHECK_VAIN_MS 1000u /* the same for the background thread */
#define CHECK_MS 250u       /* longest sleep between two checks of the background thread, */
#define CHECK_NEAR_MS 50u   /* and while less than LEFT_SOME is left */
#define KEEP_PART 32u       /* dirty_max is at most 1/KEEP_PART of the limit */
#define BINS_PART 4u        /* cache bins may hold 1/BINS_PART of what may be kept */
#define KEEP_CACHES 64u     /* pcps that one call of keep_below sees at most */

static _Atomic uint32_t checking;

/* Guarded by: checking. */
static struct cgroup group;
static uint64_t group_at; /* ms: when its limits were read */
static struct {           /* what the files said when they were last read */
	uint64_t left;    /* bytes below all limits; UINT64_MAX if there is no limit */
	uint64_t margin;  /* bytes of `left` that must stay free */
	uint64_t ours;    /* bytes that the library had from the kernel at that time */
} last_read = { UINT64_MAX, 0, 0 };
static uint64_t events; /* of the group, at the last check */
static bool events_known;
static uint64_t vain_until;       /* ms: growth */
static uint64_t check_vain_until; /* ms: the background thread */

/* ---- one thread at a time ---------------------------------------------------------------- */

/* Whether the last check found less than this many bytes left. Relaxed: a stale answer makes a wait
 * longer or shorter, within its bound. */
static bool left_below(uint64_t bytes)
{
	uint64_t most = atomic_load_explicit(&zone_main.growth.ask_most, memory_order_relaxed);

	return most && most < bytes / STEP_PART >> PG_SHIFT;
}

static bool check_begin(void)
{
	uint32_t holder = 0;

	for (unsigned i = 0; i < WAIT_TRIES; i++) {
		/* Acquire pairs with the release in check_end. */
		if (atomic_compare_exchange_strong_explicit(&checking, &holder, self_tid(),
							    memory_order_acquire,
							    memory_order_relaxed))
			return true;
		if (holder == self_tid() || !left_below(LEFT_LITTLE))
			return false;
		holder = 0;
		lock_pause();
	}
	return false;
}

static void check_end(void)
{
	atomic_store_explicit(&checking, 0, memory_order_release);
}

/* ---- how much is left -------------------------------------------------------------------- */

/* Pages of the zones in pcps and kept long runs, and as many as the cache bins have room for. */
static uint64_t cached_pages(void)
{
	return pcp_pages_all() + longrun_pages() +
	       (atomic_load_explicit(&heap_bins_bytes, memory_order_relaxed) >> PG_SHIFT);
}

/* Pages in use by the program, without the holes in slabs. */
static uint64_t live_pages(void)
{
	uint64_t cached = cached_pages() + (holes_bytes_all() >> PG_SHIFT);
	uint64_t used = zone_used_pages(&zone_main);

	return (used > cached ? used - cached : 0) + (huge_bytes() >> PG_SHIFT);
}

/* Free pages of the zones that the kernel backs. */
static uint64_t backed_pages(void)
{
	return zones_sum(dirty_pages) + zones_sum(prefaulted_pages);
}

/* Free pages that cost memory, wherever they are. */
static uint64_t kept_pages(void)
{
	return backed_pages() + cached_pages() + (mapcache_bytes() >> PG_SHIFT);
}

/* Bytes that the kernel backs, or would back if the program touched all that it was given. */
static uint64_t ours_bytes(void)
{
	return (live_pages() + kept_pages()) << PG_SHIFT;
}

/* At the start, and by the background thread unless it is in a sandbox. */
static void read_files(void)
{
	uint64_t margin;

	if (!group.levels)
		return;
	if (clock_ms() - group_at >= REFRESH_MS) {
		cgroup_refresh(&group);
		group_at = clock_ms();
	}
	margin = max_size(cgroup_limit(&group) / 16, MARGIN_MIN);
	last_read.margin = min_size(margin, MARGIN_MAX);
	/* More than what counts as near, because the figure must serve until the next reading. */
	last_read.left = cgroup_headroom(&group, 2 * last_read.margin + 4 * LEFT_SOME);
	last_read.ours = ours_bytes();
}

/* Bytes that may be taken before memory is short; negative if it is short already. Returns
 * INT64_MAX if no limit is known. */
static int64_t spare_bytes(void)
{
	int64_t spare = INT64_MAX;

	if (last_read.left < INT64_MAX)
		spare = (int64_t)(last_read.left + last_read.ours - ours_bytes() -
				  last_read.margin);
	if (options.soft_limit) {
		int64_t left = (int64_t)options.soft_limit - (int64_t)ours_bytes() -
			       (int64_t)MARGIN_MIN;

		if (left < spare)
			spare = left;
	}
	return spare;
}

/* Bytes to give back before `coming` more are taken; 0 if enough is left. Sets when growth checks
 * again. */
static uint64_t shortage(uint64_t coming)
{
	int64_t spare = spare_bytes();
	int64_t need = (int64_t)(coming + STEP_MIN);
	uint64_t step;

	if (spare == INT64_MAX) {
		growth_ask_within(&zone_main, 0);
		return 0;
	}
	step = spare > 0 ? (uint64_t)spare / STEP_PART : 0;
	growth_ask_within(&zone_main, max_size(step, STEP_MIN) >> PG_SHIFT);
	if (spare >= need)
		return 0;
	stat_add(STAT_pressure_near_limit, 1);
	return (uint64_t)(need - spare) + STEP_MIN;
}

uint64_t limits_sleep_ms(void)
{
	return left_below(LEFT_SOME) ? CHECK_NEAR_MS : CHECK_MS;
}

/* ---- growth ------------------------------------------------------------------------------ */

/* Give back `want` bytes by all means. If that was in vain within VAIN_MS, give back only what came
 * free since. Returns the bytes. */
static uint64_t make_room(uint64_t want)
{
	uint64_t given;

	if (clock_ms() < vain_until) {
		reclaim_before_growth();
		return zones_purge(0, want / PG_BYTES + 1);
	}
	given = reclaim_pressure(want, 0, true);
	if (given < want / 4)
		vain_until = clock_ms() + VAIN_MS;
	return given;
}

static bool before_growth(uint64_t pages)
{
	uint64_t want = 0;
	uint64_t given = 0;
	int saved = errno;

	if (!lock_holds && check_begin()) {
		want = shortage(pages << PG_SHIFT);
		if (want)
			given = make_room(want);
		check_end();
	}
	errno = saved;
	return want ? given != 0 : reclaim_before_growth();
}

/* ---- what may be kept -------------------------------------------------------------------- */

/* Free pages that may be kept. An eighth of cache_limit is set aside for what slabs keep beside
 * live objects, because nothing counts that. */
static uint64_t allowed_pages(void)
{
	uint64_t allowed = UINT64_MAX;
	uint64_t live = live_pages();

	if (options.cache_limit & OPTION_PERCENT)
		allowed = live * (options.cache_limit & ~OPTION_PERCENT) / 100;
	else if (options.cache_limit)
		allowed = options.cache_limit >> PG_SHIFT;
	if (options.cache_limit)
		allowed -= allowed / 8;
	if (options.soft_limit) {
		uint64_t soft = options.soft_limit >> PG_SHIFT;

		allowed = min_size(allowed, soft > live ? soft - live : 0);
	}
	return allowed;
}

/* Pages kept above what is allowed. */
static uint64_t excess_pages(uint64_t *allowed)
{
	uint64_t kept = kept_pages();

	*allowed = allowed_pages();
	return kept > *allowed ? kept - *allowed : 0;
}

/* Purges an eighth more than needed, so that the next free need not purge as well. */
static void purge_excess(void)
{
	uint64_t allowed;
	uint64_t excess = excess_pages(&allowed);

	if (!excess)
		return;
	excess += allowed / 8;
	excess -= min_size(excess, prefault_release(&zone_main, 0, excess) >> PG_SHIFT);
	if (excess)
		zones_purge(0, excess);
}

/*
 * Empties at most n pcps, from where the last call of any thread ended, until nothing is in excess.
 * Two threads may read the same cursor: they then drain the same pcps, the second one in vain.
 */
static void drain_some_caches(unsigned n)
{
	static _Atomic(struct heap *) cursor;
	struct heap *h = atomic_load_explicit(&cursor, memory_order_acquire);
	uint64_t allowed;

	for (; n && excess_pages(&allowed); n--) {
		h = h ? heap_next(h) : NULL;
		if (!h)
			h = heap_fallback.heap;
		if (!atomic_load_explicit(&h->pcp.count, memory_order_relaxed))
			continue;
		pcp_drain(&h->pcp);
		purge_excess();
	}
	atomic_store_explicit(&cursor, h, memory_order_release);
}

static void keep_below(struct zone *z)
{
	static _Thread_local bool inside TLS_FAST; /* draining frees pages, which calls this */
	uint64_t allowed;
	bool excess = excess_pages(&allowed) != 0;
	uint64_t bins = min_size(allowed / BINS_PART, UINT64_MAX >> PG_SHIFT) << PG_SHIFT;

	(void)z; /* what is kept is summed over all zones */
	if (atomic_load_explicit(&heap_bins_most, memory_order_relaxed) != bins)
		atomic_store_explicit(&heap_bins_most, bins, memory_order_relaxed);
	if (!excess || inside)
		return;
	inside = true;
	longrun_drain();
	mapcache_drain();
	purge_excess();
	drain_some_caches(KEEP_CACHES);
	inside = false;
}

bool limits_allow(uint64_t bytes)
{
	int64_t spare;
	uint64_t allowed;

	if (!check_begin())
		return false;
	spare = spare_bytes();
	check_end();
	if (spare < (int64_t)(bytes + LEFT_LITTLE))
		return false;
	/* An eighth less, so that the next free does not purge it again. */
	allowed = allowed_pages();
	return kept_pages() + (bytes >> PG_SHIFT) <= allowed - allowed / 8;
}

/* ---- the background thread ---------------------------------------------------------------- */

/* Whether the group met a limit since the last check. A group that is full of file pages meets its
 * limit all the time, so this counts only when little else is left. */
static bool held_back(void)
{
	uint64_t seen = cgroup_events(&group);
	bool more = events_known && seen > events;

	events = seen;
	events_known = true;
	return more;
}

void limits_check(uint64_t epoch)
{
	uint64_t want;
	bool held;

	/* Cache bins grow without a free of pages. */
	if (buddy_after_free)
		keep_below(&zone_main);
	if (!check_begin())
		return;
	held = false;
	if (sandbox_enter()) {
		read_files();
		held = held_back();
		sandbox_leave();
	}
	want = shortage(0);
	if (want && held) {
		stat_add(STAT_pressure_events, 1);
		PROBE(pressure_event);
		want = UINT64_MAX;
	}
	if (want && (held || clock_ms() >= check_vain_until)) {
		uint64_t given = reclaim_pressure(want, epoch, false);

		check_vain_until = given < min_size(want, MIB) / 4 ? clock_ms() + CHECK_VAIN_MS : 0;
	}
	check_end();
}

/* ---- start and fork ---------------------------------------------------------------------- */

const struct cgroup *limits_find(void)
{
	if (options.cgroup)
		cgroup_find(&group);
	return &group;
}

/* A process without background thread does not notice what others of its group take, and a group
 * may have many such processes. So what each keeps, unless it was told, is little beside the
 * limit. */
static void keep_part(uint64_t limit)
{
	size_t part = max_size(limit / KEEP_PART, MIB);

	if (part < options.dirty_max && !options_given("dirty_max"))
		dirty_part = (struct dirty_part){ options.dirty_max, part };
}

void limits_begin(void)
{
	group_at = clock_ms();
	read_files();
	keep_part(cgroup_limit(&group));
	growth_ask_others = before_growth;
	(void)shortage(0); /* sets how soon growth asks for the first time */
	if (options.soft_limit || options.cache_limit) {
		heap_pcps_count_all();
		heap_bins_count_all();
		buddy_after_free = keep_below;
	}
}

void limits_fork_child(void)
{
	events_known = false;
	atomic_store_explicit(&checking, 0, memory_order_relaxed);
}
