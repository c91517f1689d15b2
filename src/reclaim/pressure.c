/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pressure.c - see pressure.h.
 * Used by background, init and fork; uses reclaim, cgroup, buddy, pcp, huge.
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
 * (C) All files are opened at the start (ourfd.h), for what the background thread does with them later: reads, and a trigger that is
 *     written. The children of fork have the same.
 * (D) Nothing is sized by the number of processors.
 *
 * Bound: a look sums some counters, at most once in a quarter of what is left; the background thread's reads three short files for each
 * cgroup above the process; making room is as in reclaim, at most once in VAIN_MS while it is in vain; waiting for
 * another who looks, WAIT_TRIES of 0.1 ms. keep_below purges the excess, and drains one page cache after
 * the other until there is none or it has looked at KEEP_LOOKS: where more threads have more than is allowed,
 * the calls that follow go on with the others.
 * No lock but `looking`, which holds a TID and is only tried. Called outside heaps' windows and
 * without locks. In a signal handler that interrupted the holder of a lock nothing is looked at.
 * Allocates nothing, uses no stdio; keeps errno; sleeps.
 * Source: Linux Documentation/accounting/psi.rst, admin-guide/cgroup-v1/memory.rst (memory.pressure_level).
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "reclaim/pressure.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "page/buddy.h"
#include "os/cgroup.h"
#include "base/clock.h"
#include "heap/heap.h"
#include "heap/holes.h"
#include "heap/huge.h"
#include "base/lock.h"
#include "page/longrun.h"
#include "base/log.h"
#include "base/options.h"
#include "base/ourfd.h"
#include "base/park.h"
#include "page/pcp.h"
#include "reclaim/reclaim.h"
#include "base/sandbox.h"
#include "base/stats.h"
#include "base/sys.h"

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
#define PART_MS 40u        /* of it in one go */
#define LOOK_NEAR_MS 50u   /* and while not much is left */
#define PSI_AFTER_MS 1000u
#define PSI_WINDOW_US 2000000 /* a multiple of 2 s is allowed to everybody */
#define SOURCES 2u
#define BINS_PART 4u   /* of what may be kept, that bins may hold */
#define KEEP_LOOKS 64u /* page caches that one call looks at for what is above */
#define LEVEL "medium" /* of low, medium and critical */

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

bool pressure_allows(uint64_t bytes)
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

/* ---- PSI --------------------------------------------------------------------------------- */

/* The system's PSI file and the group's own, each with a trigger once we listen; in version 1 the latter is an eventfd. Made at the start,
 * then the background thread's. */
static struct ourfd psi[SOURCES] = { OURFD_NONE, OURFD_NONE };
static struct ourfd level_file =
	OURFD_NONE; /* version 1: what the eventfd is registered with, until then */
static struct ourfd level_control = OURFD_NONE;
static bool listening;
static uint64_t awake_since; /* ms; 0: not yet */

/* Version 1 says on an eventfd when the group's memory is hard to be had. */
static void level_open(void)
{
	int level = cgroup_open(&group, "memory.pressure_level", O_RDONLY);
	int control = cgroup_open(&group, "cgroup.event_control", O_WRONLY);

	ourfd_set(&level_file, level);
	ourfd_set(&level_control, control);
	if (level >= 0 && control >= 0)
		ourfd_set_event(&psi[1], eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

/* No trigger yet: to close one takes a grace period, which a process that ends soon should not wait for. */
static void psi_open(void)
{
	if (ourfd_proc >= 0)
		ourfd_set(&psi[0], ourfd_open(ourfd_proc, "pressure/memory", O_RDWR, OURFD_PROC));
	if (group.version == 2)
		ourfd_set(&psi[1], cgroup_open(&group, "memory.pressure", O_RDWR));
	else if (group.version == 1)
		level_open();
}

/* A parent that has written one shares it with its children (EBUSY): each event tells one of them. */
static void trigger_write(struct ourfd *p)
{
	char text[64];
	size_t len = log_format(text, sizeof(text), "some %lu %u",
				(unsigned long)options.psi_stall_ms * 1000, PSI_WINDOW_US);

	if (ourfd_good(p) && sys_write(p->fd, text, len + 1) < 0 && errno != EBUSY)
		ourfd_close(p);
}

static void level_register(struct ourfd *p)
{
	char text[64];
	bool good = ourfd_good(p);

	if (ourfd_good(&level_control) && ourfd_good(&level_file)) {
		size_t len = log_format(text, sizeof(text), "%d %d " LEVEL, p->fd, level_file.fd);

		good = good && sys_write(level_control.fd, text, len) > 0;
	}
	ourfd_close(&level_control);
	ourfd_close(&level_file);
	if (!good)
		ourfd_close(p);
}

static void psi_listen(void)
{
	if (!awake_since)
		awake_since = clock_ms();
	if (listening || clock_ms() - awake_since < PSI_AFTER_MS)
		return;
	listening = true;
	trigger_write(&psi[0]);
	if (psi[1].event)
		level_register(&psi[1]);
	else
		trigger_write(&psi[1]);
}

static bool psi_event(struct ourfd *p, short revents)
{
	if (!revents || !ourfd_good(p))
		return false;
	if (revents & (POLLERR | POLLNVAL)) { /* its cgroup is gone */
		ourfd_close(p);
		return false;
	}
	/* An eventfd is ready until it has been read. */
	if (p->event) {
		uint64_t times;

		return sys_read(p->fd, &times, sizeof(times)) > 0;
	}
	return (revents & POLLPRI) != 0;
}

bool pressure_wait(uint64_t ms, uint64_t generation, int also)
{
	struct pollfd fds[SOURCES + 1] = { { .fd = also, .events = POLLIN } };
	uint64_t most = left_below(LEFT_SOME) ? LOOK_NEAR_MS : LOOK_MS;
	bool looks = atomic_load_explicit(&park_looks, memory_order_relaxed);
	uint64_t left = min_size(ms, most);
	bool event = false;
	int ready;

	if (!sandbox_enter()) {
		park_nap(min_size(ms, most));
		return false;
	}
	psi_listen();
	if (also < 0 && psi[0].fd < 0 && psi[1].fd < 0) {
		sandbox_leave();
		if (looks) /* it is known already */
			park_nap(left);
		else
			park_nap_look(left);
		return false;
	}
	for (unsigned i = 0; i < SOURCES; i++)
		fds[i + 1] = (struct pollfd){
			.fd = listening ? psi[i].fd : -1, /* without a trigger: an error */
			.events = psi[i].event ? POLLIN : POLLPRI,
		};
	/* No descriptor of ours says that a thread is about to end: it is looked for. */
	do {
		uint64_t part = min_size(left, PART_MS);

		ready = sys_poll(fds, SOURCES + 1, (int)part);
		left -= part;
	} while (ready == 0 && left &&
		 (looks || !atomic_load_explicit(&park_looks, memory_order_relaxed)));
	for (unsigned i = 0; ready > 0 && i < SOURCES; i++)
		event |= psi_event(&psi[i], fds[i + 1].revents);
	sandbox_leave();
	if (ready < 0 && errno != EINTR)
		park_nap(min_size(ms, most)); /* refused by a seccomp filter */
	if (ready <= 0)
		return false;
	if (event) {
		stat_add(STAT_pressure_events, 1);
		reclaim_pressure(UINT64_MAX, generation, false);
	}
	return fds[0].revents != 0;
}

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

void pressure_look(uint64_t generation)
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

void pressure_init(void)
{
	ourfd_init();
	if (options.cgroup)
		cgroup_find(&group);
	if (options.psi && options.background != BACKGROUND_NEVER)
		psi_open();
	cgroup_found();
	ourfd_opened();
	group_at = clock_ms();
	read_files();
	buddy_before_growth = before_growth;
	if (options.soft_limit || options.cache_limit) {
		pcp_count_all();
		heap_bins_count_all();
		buddy_after_free = keep_below;
	}
}

void pressure_fork_child(bool copy)
{
	ourfd_fork_child(copy);
	/* What a copy does with a descriptor it may do to its parent's. */
	for (unsigned i = 0; copy && i < SOURCES; i++)
		ourfd_forget(&psi[i]);
	if (copy) {
		ourfd_forget(&level_file);
		ourfd_forget(&level_control);
	}
	listening = false;
	awake_since = 0;
	events_known = false;
	atomic_store_explicit(&looking, 0, memory_order_relaxed);
}
