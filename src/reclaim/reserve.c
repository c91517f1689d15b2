/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reserve.c - the thread named "sluice-reserve", and its watermarks.
 * Used by background (which starts it) and init; uses limits, prefault and pcp.
 *
 * The thread sleeps without a timer. An allocation that leaves less than `low` of the reserve wakes
 * it, with at most one futex call per sleep. It then fills the reserve up to `high`, and gives back
 * what is above. With reserve:auto the size follows what the process took in the last TICK_MS. It
 * falls by an eighth in each TICK_MS in which the process took less, down to nothing; while the
 * size is not zero, the thread wakes every TICK_MS.
 *
 * With thp:always and thp:reserve the thread fills whole blocks of 2 MiB only and leaves a
 * smaller rest missing, unless the whole reserve has less than HUGE_FROM pages.
 *
 * (A) Nothing is populated before the process has taken FROM_PAGES, nor while memory is short:
 *     neither within 10 s of a reclaim for pressure (prefault_hold), nor when a limit leaves
 *     little more than what would be populated. The thread then tries again every PAUSE_MS.
 * (B) As the background thread, it blocks all signals, allocates nothing after its start and holds
 *     no lock except zone.grow over a system call.
 *
 * Source: kswapd of the Linux kernel.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "reclaim/reserve.h"

#include "base/clock.h"
#include "base/options.h"
#include "base/park.h"
#include "heap/heap_pcps.h"
#include "heap/slab.h"
#include "os/vm.h"
#include "page/pagemap.h"
#include "page/prefault.h"
#include "page/zone.h"
#include "reclaim/limits.h"

#define FROM_PAGES (UINT64_C(1) << (20 - PG_SHIFT))
#define PAUSE_MS 50u
#define TICK_MS 100u
#define HUGE_FROM (UINT64_C(4) * PREFAULT_LARGE)
#define AUTO_TICKS 4u /* reserve:auto keeps the growth of so many ticks */
#define AUTO_MIN (UINT64_C(2) << (20 - PG_SHIFT))
#define AUTO_MAX (UINT64_C(256) << (20 - PG_SHIFT))

/* How reserve:auto follows the process's growth. This thread only. In pages. */
struct follow {
	uint64_t taken; /* by the process, when the tick began */
	uint64_t at;    /* ms: when the tick began */
	uint64_t size;  /* of the reserve */
	bool raised;    /* the size was raised in this tick */
};

struct marks {
	uint64_t low;
	uint64_t high;
	uint64_t step; /* a reserve that lacks less than this to high is not filled */
};

static _Atomic uint32_t ended; /* set by reserve_end */

bool reserve_wanted(void)
{
	return options.reserve != 0;
}

void reserve_init(void)
{
	if (options.low > options.high && !((options.low ^ options.high) & OPTION_PERCENT))
		options_say("option low is above option high: high is used for both");
}

void reserve_end(void)
{
	atomic_store_explicit(&ended, 1, memory_order_relaxed);
	prefault_wake(&zone_main);
}

void reserve_again(void)
{
	atomic_store_explicit(&ended, 0, memory_order_relaxed);
	atomic_store_explicit(&zone_main.marks.word, 0, memory_order_relaxed);
}

/* ---- how much ------------------------------------------------------------------------------- */

/* Pages by which the process has grown, prefaulted or not. */
static uint64_t taken(void)
{
	return atomic_load_explicit(&zone_main.growth.clean_taken, memory_order_relaxed) -
	       atomic_load_explicit(&zone_main.prefaulted_made, memory_order_relaxed) +
	       atomic_load_explicit(&zone_main.growth.prefaulted_taken, memory_order_relaxed);
}

static void follow_growth(struct follow *f, uint64_t now)
{
	uint64_t all = taken();
	uint64_t grown = all > f->taken ? all - f->taken : 0;

	if (AUTO_TICKS * grown > f->size) {
		f->size = min_size(max_size(AUTO_TICKS * grown, AUTO_MIN), AUTO_MAX);
		f->raised = true;
	}
	if (now - f->at < TICK_MS)
		return;
	if (!f->raised)
		f->size -= f->size / 8;
	if (f->size < AUTO_MIN)
		f->size = 0;
	f->raised = false;
	f->at = now;
	f->taken = all;
}

static uint64_t mark_pages(uint64_t option, uint64_t size)
{
	if (option & OPTION_PERCENT)
		return size * (option & ~OPTION_PERCENT) / 100;
	return size ? option >> PG_SHIFT : 0;
}

static struct marks marks_of(uint64_t size)
{
	struct marks m = { mark_pages(options.low, size), mark_pages(options.high, size), 1 };

	if (options.thp > THP_AUTO && m.high >= HUGE_FROM)
		m.step = PREFAULT_LARGE;
	if (m.low > m.high)
		m.low = m.high;
	else if (m.high && !m.low)
		m.low = 1;
	/* When the thread is woken, at least one step is missing. */
	if (m.low > m.high - m.step + 1)
		m.low = m.high - m.step + 1;
	return m;
}

/* ---- the thread ----------------------------------------------------------------------------- */

static bool held(uint64_t now)
{
	return now < atomic_load_explicit(&zone_main.marks.after, memory_order_relaxed);
}

/*
 * Populates the slabs that were begun before there was a reserve. There is no lock: a slab that is
 * given back meanwhile costs memory until it is used again, and still reads as zero.
 */
static void populate_slabs(struct region *r)
{
	uint32_t end;

	for (uint32_t i = region_first(); i < r->pages; i = end) {
		struct page *pg = &r->page[i];
		enum page_kind kind = page_kind(pg);

		end = region_run_end(r, i, kind);
		if (kind == PAGE_SLAB && atomic_load_explicit(&pg->owner, memory_order_relaxed))
			vm_populate(page_address(pg), (size_t)(end - i) << PG_SHIFT);
	}
}

/* The reserve was empty and is filled. The first time, what is in use is populated as well. */
static void begin(void)
{
	static bool begun;

	/* What pcps took before there was a reserve is not prefaulted: let them refill. */
	heap_pcps_drain();
	if (begun)
		return;
	begun = true;
	for (uint32_t i = 0; i < zones_count(); i++)
		for (struct region *r = zone_first_region(&zone_all[i]); r; r = r->next)
			populate_slabs(r);
}

/* Returns false if the reserve cannot be filled now. */
static bool fill(const struct marks *m)
{
	uint64_t ready = zone_prefaulted_pages(&zone_main);
	uint64_t large = m->step == 1 ? m->high / 2 : m->high;
	bool was_empty = m->high && !ready;

	for (; ready + m->step <= m->high; ready = zone_prefaulted_pages(&zone_main)) {
		if (held(clock_ms()) || !limits_allow(PREFAULT_LARGE * PG_BYTES) ||
		    !prefault_fill(&zone_main, large, m->high - ready))
			return false;
		park_wake(); /* from now on a reclaim for pressure has something to take */
	}
	if (was_empty)
		begin();
	return true;
}

static bool is_over(void)
{
	return zone_prefaulted_pages(&zone_main) >
	       atomic_load_explicit(&zone_main.marks.over, memory_order_relaxed);
}

/*
 * Sleeps until less than `low` are left (if low is 0: until any page is taken), or too much is
 * prefaulted; at most for ms (without limit if ms is 0).
 */
static void sleep_until_crossed(uint64_t low, uint64_t seen, uint64_t ms)
{
	bool crossed;

	atomic_store_explicit(&zone_main.marks.word, 1, memory_order_seq_cst);
	atomic_thread_fence(memory_order_seq_cst); /* see prefault.c */
	crossed = low ? zone_prefaulted_pages(&zone_main) < low : taken() != seen;
	if (!crossed && !is_over())
		prefault_wait(&zone_main, ms);
	atomic_store_explicit(&zone_main.marks.word, 0, memory_order_relaxed);
}

static void set_marks(const struct marks *m)
{
	/* With a low mark of 0, one page: the next allocation then finds less. */
	atomic_store_explicit(&zone_main.marks.low, m->low ? m->low : 1, memory_order_relaxed);
	atomic_store_explicit(&zone_main.marks.over, m->high + m->high / 8, memory_order_relaxed);
	/* What is locked in memory (mlock) stays: do not wake up for it again. */
	if (is_over() && !prefault_release(&zone_main, m->high, UINT64_MAX))
		atomic_store_explicit(&zone_main.marks.over, UINT64_MAX, memory_order_relaxed);
}

void *reserve_main(void *arg)
{
	bool follows = options.reserve == OPTION_AUTO;
	struct follow f = { .at = clock_ms(), .size = follows ? 0 : options.reserve >> PG_SHIFT };

	(void)arg;
	while (!atomic_load_explicit(&ended, memory_order_relaxed)) {
		uint64_t seen = taken();
		struct marks m = { 0, 0, 1 };

		if (follows)
			follow_growth(&f, clock_ms());
		if (seen >= FROM_PAGES)
			m = marks_of(f.size);
		set_marks(&m);
		if (fill(&m))
			sleep_until_crossed(m.low, seen, follows && f.size ? TICK_MS : 0);
		else
			park_sleep_ms(PAUSE_MS);
	}
	return NULL;
}
