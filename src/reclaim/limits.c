/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * limits.c - see limits.h.
 * Used by pressure, psi, reserve and background; uses reclaim, cgroup, buddy, pcp, huge.
 *
 * In a memory cgroup mmap does not fail: the fault kills. So who is about to take clean pages looks
 * at what is left (growth), at the latest when a quarter of that has been taken since the last look.
 * What is left is what the cgroup and all above it may use yet, less a margin of 1/16 of the limit.
 * Files say that, and those are read at the start and by the background thread (a calling thread may be in a sandbox
 * that kills for it); in between it is what they said, less what we have taken since. So a process without a background thread
 * does not know what others of its group take, nor that a limit was changed.
 *
 * (A) One thread at a time looks (looking); while little is left the others wait for it, 20 ms at the
 *     most, for it may be making room.
 * (B) soft_limit and cache_limit: after each free of pages, and each refill of a page cache, the
 *     calling thread purges until no more is kept than is allowed (keep_below). So the excess, as
 *     seen by others, is what the threads that are inside such a call are about to purge, and what
 *     bins have grown since. What bins have room for counts as kept, and is a quarter at the most.
 * (C) Nothing is sized by the number of processors.
 *
 * Bound: a look sums some counters, at most once in a quarter of what is left; the background thread's reads three short files for each
 * cgroup above the process; making room is as in reclaim, at most once in VAIN_MS while it is in vain; waiting for
 * another who looks, WAIT_TRIES of 0.1 ms. keep_below purges the excess, and drains one page cache after
 * the other until there is none or it has looked at KEEP_LOOKS: where more threads have more than is allowed,
 * the calls that follow go on with the others.
 * No lock but `looking`, which holds a TID and is only tried. Called outside heaps' windows and
 * without locks. In a signal handler that interrupted the holder of a lock nothing is looked at.
 * Allocates nothing, uses no stdio; keeps errno; sleeps.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "reclaim/limits.h"

#include <errno.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/options.h"
#include "base/sandbox.h"
#include "base/stats.h"
#include "heap/heap.h"
#include "heap/holes.h"
#include "heap/huge.h"
#include "page/buddy.h"
#include "page/longrun.h"
#include "page/pcp.h"
#include "reclaim/reclaim.h"

#define MIB (UINT64_C(1) << 20)
#define MARGIN_MIN MIB
#define MARGIN_MAX (64 * MIB)
#define STEP_MIN MIB /* between two looks */
#define STEP_PART 4u /* of what is left */
#define LEFT_LITTLE (16 * MIB)
#define LEFT_SOME (64 * MIB)
#define WAIT_TRIES 200u    /* of 100 us each */
#define REFRESH_MS 1000u   /* limits change */
#define VAIN_MS 20u        /* after a reclaim that gave next to nothing, */
#define LOOK_VAIN_MS 1000u /* and after one by the background thread */
#define LOOK_MS 250u       /* a sleep at most, */
#define LOOK_NEAR_MS 50u   /* and while not much is left */
#define BINS_PART 4u       /* of what may be kept, that bins may hold */
#define KEEP_LOOKS 64u     /* page caches that one call looks at for what is above */

static _Atomic uint32_t looking;

/* Guarded by: looking. */
static struct cgroup group;
static uint64_t group_at; /* ms: when its limits were read */
static struct {
	uint64_t left; /* bytes below all limits when the files were read; UINT64_MAX: there is none */
	uint64_t margin; /* of which are to stay so many */
	uint64_t ours;   /* bytes that the library had from the kernel then */
} said = { UINT64_MAX, 0, 0 };
static uint64_t events; /* of the group, seen last */
static bool events_known;
static uint64_t vain_until;      /* ms: growth's */
static uint64_t look_vain_until; /* ms: the background thread's */

/* ---- who looks --------------------------------------------------------------------------- */

/* Less than that many bytes were left at the last look. */
static bool left_below(uint64_t bytes)
{
	uint64_t most = atomic_load_explicit(&zone_main.ask_most, memory_order_relaxed);

	return most && most < bytes / STEP_PART >> PG_SHIFT;
}

static bool look_begin(void)
{
	uint32_t holder = 0;

	for (unsigned i = 0; i < WAIT_TRIES; i++) {
		/* Acquire pairs with the release in look_end. */
		if (atomic_compare_exchange_strong_explicit(&looking, &holder, self_tid(),
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

static void look_end(void)
{
	atomic_store_explicit(&looking, 0, memory_order_release);
}

/* ---- how much is left -------------------------------------------------------------------- */

/* Pages in page caches and long runs that are kept, and as many as the bins have room for. */
static uint64_t cached_pages(void)
{
	return atomic_load_explicit(&zone_main.cached, memory_order_relaxed) + longrun_pages() +
	       (atomic_load_explicit(&heap_bins_bytes, memory_order_relaxed) >> PG_SHIFT);
}

/* Pages in use by the program, holes in slabs not counted. */
static uint64_t live_pages(void)
{
	uint64_t cached = cached_pages() + (holes_bytes_all() >> PG_SHIFT);
	uint64_t used = buddy_used_pages(&zone_main);

	return (used > cached ? used - cached : 0) + (huge_bytes() >> PG_SHIFT);
}

/* Free pages that the kernel backs. */
static uint64_t backed_pages(void)
{
	return zones_sum(dirty_pages) + zones_sum(ready_pages);
}

/* Bytes that the kernel backs, or that it would if all that was handed out were touched. */
static uint64_t ours_bytes(void)
{
	return (live_pages() + cached_pages() + backed_pages()) << PG_SHIFT;
}

/* Read what the files say. At the start and by the background thread only, and not in a sandbox. */
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
	said.margin = min_size(margin, MARGIN_MAX);
	/* More than what is near, for it has to do until the next time. */
	said.left = cgroup_headroom(&group, 2 * said.margin + 4 * LEFT_SOME);
	said.ours = ours_bytes();
}

/* Bytes that may be taken before memory is short; negative: it is. INT64_MAX: no limit is known. */
static int64_t spare_bytes(void)
{
	int64_t spare = INT64_MAX;

	if (said.left < INT64_MAX)
		spare = (int64_t)(said.left + said.ours - ours_bytes() - said.margin);
	if (options.soft_limit) {
		int64_t left = (int64_t)options.soft_limit - (int64_t)ours_bytes() -
			       (int64_t)MARGIN_MIN;

		if (left < spare)
			spare = left;
	}
	return spare;
}

/* Bytes to be given back before `coming` more are taken; 0: enough is left. Says when to look again. */
static uint64_t shortage(uint64_t coming)
{
	int64_t spare = spare_bytes();
	int64_t need = (int64_t)(coming + STEP_MIN);
	uint64_t step;

	if (spare == INT64_MAX) {
		buddy_ask_within(&zone_main, 0);
		return 0;
	}
	step = spare > 0 ? (uint64_t)spare / STEP_PART : 0;
	buddy_ask_within(&zone_main, max_size(step, STEP_MIN) >> PG_SHIFT);
	if (spare >= need)
		return 0;
	stat_add(STAT_pressure_near, 1);
	return (uint64_t)(need - spare) + STEP_MIN;
}

uint64_t limits_sleep_ms(void)
{
	return left_below(LEFT_SOME) ? LOOK_NEAR_MS : LOOK_MS;
}

/* ---- growth ------------------------------------------------------------------------------ */

/* Give back `want` bytes, by all means unless that was in vain a moment ago: then what came free since. */
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


	if (!lock_depth && look_begin()) {
		want = shortage(pages << PG_SHIFT);
		if (want)
			given = make_room(want);
		look_end();
	}
	errno = saved;
	return want ? given != 0 : reclaim_before_growth();
}

/* ---- what may be kept -------------------------------------------------------------------- */

/* Of cache_limit an eighth is for what slabs keep beside live objects, which nobody counts. */
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

/* Pages above what is allowed. */
static uint64_t excess_pages(uint64_t *allowed)
{
	uint64_t kept = backed_pages() + cached_pages();

	*allowed = allowed_pages();
	return kept > *allowed ? kept - *allowed : 0;
}

/* An eighth more than need be, so that not each free has to. */
static void purge_excess(void)
{
	uint64_t allowed;
	uint64_t excess = excess_pages(&allowed);

	if (!excess)
		return;
	excess += allowed / 8;
	excess -= min_size(excess, buddy_ready_release(&zone_main, 0, excess) >> PG_SHIFT);
	if (excess)
		zones_purge(0, excess);
}

/* As many page caches, from where the last one of all ended, are looked at; each that holds something is emptied. */
static void drain_some_caches(unsigned looks)
{
	static _Atomic(struct pcp *) cursor;
	struct pcp *p = atomic_load_explicit(&cursor, memory_order_acquire);
	uint64_t allowed;

	for (; looks && excess_pages(&allowed); looks--) {
		p = p ? pcp_next(p) : NULL;
		if (!p)
			p = pcp_first();
		if (!p)
			break;
		if (!atomic_load_explicit(&p->count, memory_order_relaxed))
			continue;
		pcp_drain(p);
		purge_excess();
	}
	atomic_store_explicit(&cursor, p, memory_order_release);
}

static void keep_below(struct zone *z)
{
	static _Thread_local bool inside TLS_FAST; /* draining frees pages */
	uint64_t allowed;
	bool excess = excess_pages(&allowed) != 0;
	uint64_t bins = min_size(allowed / BINS_PART, UINT64_MAX >> PG_SHIFT) << PG_SHIFT;

	(void)z; /* what is kept is summed */
	if (atomic_load_explicit(&heap_bins_most, memory_order_relaxed) != bins)
		atomic_store_explicit(&heap_bins_most, bins, memory_order_relaxed);
	if (!excess || inside)
		return;
	inside = true;
	longrun_drain();
	purge_excess();
	drain_some_caches(KEEP_LOOKS);
	inside = false;
}

bool limits_allow(uint64_t bytes)
{
	int64_t spare;
	uint64_t allowed;
	uint64_t kept;

	if (!look_begin())
		return false;
	spare = spare_bytes();
	look_end();
	if (spare < (int64_t)(bytes + LEFT_LITTLE))
		return false;
	/* An eighth less, so that the next free does not take it back. */
	excess_pages(&allowed);
	kept = backed_pages() + cached_pages();
	return kept + (bytes >> PG_SHIFT) <= allowed - allowed / 8;
}

/* ---- the background thread ---------------------------------------------------------------- */

/* The group met a limit since the last look. Files that fill a group meet it all the time: that says
 * something only when little else is left. */
static bool held_back(void)
{
	uint64_t seen = cgroup_events(&group);
	bool more = events_known && seen > events;

	events = seen;
	events_known = true;
	return more;
}

void limits_look(uint64_t generation)
{
	uint64_t want;
	bool held;

	/* Bins grow without a free of pages. */
	if (buddy_after_free)
		keep_below(&zone_main);
	if (!look_begin())
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
		want = UINT64_MAX;
	}
	if (want && (held || clock_ms() >= look_vain_until)) {
		uint64_t given = reclaim_pressure(want, generation, false);

		look_vain_until = given < min_size(want, MIB) / 4 ? clock_ms() + LOOK_VAIN_MS : 0;
	}
	look_end();
}

/* ---- start and fork ---------------------------------------------------------------------- */

const struct cgroup *limits_find(void)
{
	if (options.cgroup)
		cgroup_find(&group);
	return &group;
}

void limits_begin(void)
{
	group_at = clock_ms();
	read_files();
	buddy_before_growth = before_growth;
	if (options.soft_limit || options.cache_limit) {
		pcp_count_all();
		heap_bins_count_all();
		buddy_after_free = keep_below;
	}
}

void limits_fork_child(void)
{
	events_known = false;
	atomic_store_explicit(&looking, 0, memory_order_relaxed);
}
