/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reclaim.c - what takes free memory back from all threads: a table of triggers and their steps.
 * Used by the shim (malloc_trim), the API, control, background, limits, psi, and heap when there is
 * no memory; uses drain (the walk over heaps), slab_pool, pcp, longrun, prefault, purge, region.
 *
 *   trigger             steps, in this order
 *   ------------------  -------------------------------------------------------------------------
 *   growth              heap_growth_step: a bounded part of pcps and heaps of sleeping threads;
 *                       without a background thread some holes
 *   idle round          heaps of sleeping threads, sweep, holes; purge what that gave;
 *                       mark for the next round; an ageing step for threads in a short sleep
 *   drain, malloc_trim  mark and empty heaps now, abandon the caller's slabs, sweep, pcps, holes,
 *                       purge, regions, as the flags say
 *   no memory           mark and empty heaps now, the caller's heap, pcps, sweep
 *   pressure            prefaulted blocks, pcps of sleeping threads, all pcps, sweep, heaps of
 *                       sleeping threads, sweep, holes, until enough is given; else ask running
 *                       threads to trim
 *   emergency           the same, then heaps of all threads that are not inside a call
 *
 * Sweep (heap_sweep): the caller's own outbox and inbox, the fallback heap, heaps that a fork left,
 * and empty abandoned slabs.
 *
 * The order of a drain: first heaps, then the sweep (its slabs may go to a pcp), then pcps, so that
 * blocks meet in the buddy core and merge; then holes in abandoned slabs, and dirty blocks to the
 * kernel, the largest first; then regions that are wholly free.
 *
 * (A) A pcp is skipped when its lock is held, and tried again after a sleep (its holder may need
 *     this processor); after DRAIN_WAIT_NS it is reported as skipped.
 * (B) No lock is held over a system call, except zone.grow while regions are unmapped, and
 *     reclaim_control over the expedited membarrier (1 us) of a growth, and while the bins of a
 *     claimed heap are purged. reclaim_control is held for one heap of a drain, to mark MARK_HEAPS
 *     heaps, or for PART_STEPS steps of other work on heaps.
 *
 * Bound: a growth does what heap_growth_step may, and takes the runs of two pcps, however many
 * threads there are and whatever they hold. The next growth continues where it ended, at the latest
 * when an eighth of what is in use has been taken, or AGAIN_PAGES if there was more. With each
 * GROWTH_NEW new heaps heap_growth_step goes on as well. A drain walks each heap and each pcp once,
 * with at most 32 runs under one lock. A thread that calls malloc does this only if the kernel
 * refused memory, or if a limit is near that would kill the process. It then walks all heaps once,
 * and again as long as that gave something; at a limit it does so in parts of PART_STEPS, no more
 * of them than needed.
 *
 * Between two holds of reclaim_control a call lets those have it who sleep for it, if they run
 * within GIVE_WAY_NS: the lock is free for most of the time then, so a fork is not passed over for
 * a whole walk.
 *
 * Lock: reclaim_control (CONTROL) around heap_pcps_disable and enable, marks and claims. Allocates
 * nothing; sleeps; not for signal handlers. A fork holds reclaim_control, so that no disable is
 * half done. Source: Linux mm/page_alloc.c, drain_all_pages since "Drain remote per-cpu directly"
 * (2022), which does not ask the owners.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "reclaim/reclaim.h"

#include <errno.h>

#include "base/clock.h"
#include "base/options.h"
#include "base/park.h"
#include "base/probe.h"
#include "base/stats.h"
#include "heap/claim.h"
#include "heap/drain.h"
#include "heap/heap.h"
#include "heap/heap_call.h"
#include "heap/heap_pcps.h"
#include "heap/slab_pool.h"
#include "heap/sweep.h"
#include "page/growth.h"
#include "page/longrun.h"
#include "page/mapcache.h"
#include "page/pcp.h"
#include "page/prefault.h"
#include "page/purge.h"
#include "page/quick.h"
#include "page/region.h"
#include "page/zone.h"

/* How long a drain waits for locked pcps: for all of them, and for that of one heap. Measured by
 * the clock, because a sleep takes longer than asked for. */
#define DRAIN_WAIT_NS UINT64_C(5000000)
#define HEAP_WAIT_NS UINT64_C(1000000)

/* How long the next hold of reclaim_control waits for those who sleep for it, a fork above all. */
#define GIVE_WAY_NS UINT64_C(10000000)

/* Done in one hold of reclaim_control: steps of a walk, and heaps that are marked. */
#define PART_STEPS 16384u
#define MARK_HEAPS 256u
/* Pages until the next growth asks again, while there is more than one growth takes; if that gave
 * something the next one asks as soon as it is used up. */
#define AGAIN_PAGES (UINT64_C(1) << (19 - PG_SHIFT))

struct lock reclaim_control = LOCK_INIT(LOCK_CONTROL);

/* ---- the steps ---------------------------------------------------------------------------- */

/* One run of a trigger's steps. */
struct run {
	unsigned flags;        /* enum reclaim_flag, and those below */
	bool tries;            /* an allocation: it does not wait for reclaim_control */
	uint64_t want;         /* bytes that are to be given to the kernel */
	uint64_t given;        /* bytes that were */
	uint64_t keep;         /* dirty bytes that may stay */
	uint64_t epoch;        /* of the marks; 0: nothing was marked */
	uint64_t closed;       /* an epoch without its barrier yet */
	struct heap_walk walk; /* of a step that goes over the heaps */
	bool walking;
	struct reclaim_report *report;
	reclaim_see *see;
	void *arg;
};

/* A step, or a part of it; true: it has more to do, and wants to be called again. */
typedef bool step_part(struct run *r);

enum {
	LOCKED = 1, /* under reclaim_control; the step is skipped if the lock is not given */
	PURGES = 2, /* then dirty blocks go to the kernel, as many as are wanted still */
};

struct step {
	step_part *part;
	unsigned how;    /* LOCKED, PURGES */
	unsigned needed; /* only with one of these flags; 0: always */
};

#define DOES_HEAPS 0x100u
#define MARKS_BINS 0x200u
#define SPARES_HOT 0x400u /* threads at work keep their working sets */

static bool control(const struct run *r)
{
	return r->tries ? lock_try(&reclaim_control) : lock_acquire(&reclaim_control) == 0;
}

static void run_step(struct run *r, const struct step *s)
{
	bool more = true;

	r->walking = false;
	for (bool again = false; more && r->given < r->want; again = true) {
		if (again && (s->how & LOCKED) && !r->tries)
			lock_give_way(&reclaim_control, GIVE_WAY_NS);
		if ((s->how & LOCKED) && !control(r))
			return;
		more = s->part(r);
		if (s->how & LOCKED)
			lock_release(&reclaim_control);
		if (s->how & PURGES)
			r->given += zones_purge(0, (r->want - r->given) / PG_BYTES + 1);
	}
}

static void run_steps(struct run *r, const struct step *s, size_t n)
{
	for (; n && r->given < r->want; n--, s++) {
		if (!s->needed || (r->flags & s->needed))
			run_step(r, s);
	}
}
#define RUN_STEPS(r, steps) run_steps((r), (steps), sizeof(steps) / sizeof((steps)[0]))

/* A part of a walk over the heaps. */
static bool walk(struct run *r, enum heap_action action, uint64_t epoch)
{
	uint32_t steps = action == HEAP_MARK || action == HEAP_MARK_BINS ? MARK_HEAPS : PART_STEPS;

	if (!epoch && heap_action_claims(action))
		return false; /* nothing is marked */
	if (!r->walking)
		r->walk = heap_walk_all(action, epoch);
	r->walking = true;
	heap_walk_part(&r->walk, &steps);
	return !heap_walk_ended(&r->walk);
}

/* Pcps of threads that sleep. */
static bool pcps_asleep(struct run *r)
{
	return walk(r, HEAP_PCP_ASLEEP, 0);
}

/* All pcps, except those that are locked just now. */
static bool pcps(struct run *r)
{
	if (walk(r, r->flags & SPARES_HOT ? HEAP_PCP_COLD : HEAP_PCP, 0))
		return true;
	r->report->bytes_drained += (r->walk.pages + longrun_drain()) << PG_SHIFT;
	r->report->caches_reached = r->walk.taken;
	r->report->caches_skipped = r->walk.skipped;
	return false;
}

/* The same, with some patience. */
static bool pcps_wait(struct run *r)
{
	uint64_t end = clock_ns() + DRAIN_WAIT_NS;

	for (;;) {
		while (pcps(r))
			;
		if (!r->report->caches_skipped || clock_ns() >= end)
			return false;
		lock_pause();
		r->walking = false;
	}
}

/* Heaps whose threads made no call since the mark; the memory of their cache bins is purged. */
static bool heaps_purge(struct run *r)
{
	return walk(r, HEAP_PURGE, r->epoch);
}

/* The same with the marks of the background thread or, before its first round, of a growth. */
static bool heaps_purge_idle(struct run *r)
{
	return walk(r, HEAP_PURGE, r->epoch ? r->epoch : heap_growth_epoch());
}

/* The same; their threads may be about to go on, so they keep the memory of their bins. */
static bool heaps_empty(struct run *r)
{
	return walk(r, HEAP_EMPTY, r->epoch);
}

static bool heaps_age(struct run *r)
{
	return walk(r, HEAP_AGE, r->epoch);
}

static bool inboxes(struct run *r)
{
	return walk(r, HEAP_OPEN, r->epoch);
}

/* Mark heaps, in parts. The epoch ends in the hold of the last part. */
static bool mark(struct run *r)
{
	if (walk(r, r->flags & MARKS_BINS ? HEAP_MARK_BINS : HEAP_MARK, 0))
		return true;
	r->closed = claim_close();
	return false;
}

/* The barrier after that, without a lock: the one that interrupts, unless the flags say global. */
static bool barrier(struct run *r)
{
	if (r->closed)
		r->epoch = r->walk.marked ? claim_pass(r->closed, r->flags & RECLAIM_GLOBAL) : 0;
	r->closed = 0;
	return false;
}

/* Mappings of huge objects that were freed: they go to the kernel as they are. */
static bool mappings(struct run *r)
{
	uint64_t bytes = mapcache_drain();

	r->given += bytes;
	r->report->bytes_drained += bytes;
	r->report->bytes_unmapped += bytes;
	return false;
}

static bool sweep(struct run *r)
{
	r->report->bytes_drained += heap_sweep();
	return false;
}

static bool ask_trim(struct run *r)
{
	(void)r;
	heap_ask_trim();
	return false;
}

static bool abandon_own(struct run *r)
{
	(void)r;
	if (options.holes)
		heap_abandon_own();
	return false;
}

static bool trim_own(struct run *r)
{
	struct heap_drain own;

	if (!heap_is_real(heap_own()))
		return false;
	heap_drain(heap_own(), HEAP_EMPTY, 0, false, &own);
	r->report->bytes_drained += own.drained;
	return false;
}

static bool holes(struct run *r)
{
	uint64_t bytes = slab_pool_punch(true, r->want - r->given);

	r->given += bytes;
	r->report->bytes_purged += bytes;
	return false;
}

/* Blocks that were prefaulted for the reserve, which makes no more for a while. */
static bool prefaulted(struct run *r)
{
	prefault_hold(&zone_main);
	r->given += prefault_release(&zone_main, 0, r->want / PG_BYTES + 1);
	return false;
}

/* Dirty pages that stay for the threads at work: at most a quarter of what is in use. */
static uint64_t hot_pages(const struct run *r)
{
	uint64_t all = zones_sum(total_pages);
	uint64_t unused = zones_sum(free_pages);
	uint64_t used = all > unused ? all - unused : 0;

	return min_size(r->report->heaps_hot * HEAP_HOT_DIRTY, used / 4);
}

static bool purge_to_keep(struct run *r)
{
	uint64_t hot = hot_pages(r);

	r->report->bytes_purged += zones_purge(max_size(r->keep >> PG_SHIFT, hot), UINT64_MAX);
	r->report->bytes_hot += min_size(hot, zones_sum(dirty_pages)) << PG_SHIFT;
	/* Little memory for many system calls: the background thread, if any, does it later. */
	if (trim_inline)
		zones_purge_descriptors();
	return false;
}

static bool regions(struct run *r)
{
	r->report->bytes_unmapped += zones_release_regions();
	return false;
}

/* ---- a drain, heap by heap ------------------------------------------------------------------ */

/*
 * Threads at work take their marks back. Once no heap is in doubt there is nothing to wait for; the
 * longest wait is for a thread that holds something and has fallen asleep just now. Few sleeps,
 * because each wake-up may take the processor of a thread at work.
 */
static bool mark_for_drain(struct run *r)
{
	static const uint64_t looks[] = { HEAP_HOT_NS / 40, HEAP_HOT_NS / 6, HEAP_HOT_NS };
	uint64_t start = clock_ns();

	r->epoch = reclaim_mark(true, r->flags & RECLAIM_GLOBAL);
	if (r->epoch && !(r->flags & RECLAIM_ALL)) {
		r->flags |= SPARES_HOT;
		for (unsigned i = 0; i < sizeof(looks) / sizeof(looks[0]) && heap_in_doubt(); i++) {
			uint64_t past = clock_ns() - start;

			if (past < looks[i])
				park_sleep_us((looks[i] - past) / 1000);
		}
	}
	r->report->barrier_ns = clock_ns() - start;
	return false;
}

/* One heap. wait_ns: the time left for waiting, for all heaps together. The lock is held for this
 * heap only, so that a fork does not wait for more, and not at all if the heap holds nothing: each
 * hold may have to be waited for. The caller empties its own heap without it, which is most of the
 * work while other threads are busy: a debugger may stop it there. */
static void drain_heap(struct heap *h, const struct run *r, uint64_t *wait_ns, struct heap_drain *d)
{
	unsigned how = (r->see ? HEAP_COUNTS : 0) | (r->flags & SPARES_HOT ? HEAP_SPARES : 0);
	uint64_t begin;
	uint64_t waited = 0;

	if (!(r->flags & RECLAIM_IDLE)) {
		heap_drain(h, HEAP_PCP, 0, how, d);
	} else if (h == heap_own()) {
		heap_drain(h, HEAP_EMPTY, 0, how, d);
	} else if (!heap_drain_claims(h)) {
		heap_drain(h, HEAP_PCP, 0, how, d);
		d->outcome = HEAP_EMPTIED;
	} else if (lock_acquire(&reclaim_control) == 0) {
		heap_drain(h, HEAP_EMPTY, r->epoch, how, d);
		lock_release(&reclaim_control);
		lock_give_way(&reclaim_control, GIVE_WAY_NS);
	} else {
		heap_drain(h, HEAP_PCP, 0, how, d);
		d->outcome = HEAP_HELD;
	}
	if (!d->locked)
		return;
	begin = clock_ns();
	while (d->locked && waited < HEAP_WAIT_NS && waited < *wait_ns) {
		lock_pause();
		heap_drain_pcp(h, d);
		waited = clock_ns() - begin;
	}
	*wait_ns -= min_size(waited, *wait_ns);
}

/* A thread that is inside a call, or makes one between the mark and the claim, keeps its heap; if
 * all is wanted it is asked to empty that. */
static bool drain_heaps(struct run *r)
{
	uint64_t wait_ns = DRAIN_WAIT_NS;
	bool called = false;

	for (struct heap *h = heap_first(); h; h = heap_next(h)) {
		struct heap_drain d;

		drain_heap(h, r, &wait_ns, &d);
		r->report->bytes_drained += d.drained;
		if (d.outcome == HEAP_EMPTIED && !d.locked)
			r->report->heaps_emptied++;
		else
			r->report->heaps_skipped++;
		r->report->heaps_hot += d.hot;
		r->report->bytes_hot += d.kept;
		called |= d.outcome == HEAP_CALLING || d.outcome == HEAP_INSIDE;
		if (r->see)
			r->see(r->arg, &d);
	}
	if (called && (r->flags & RECLAIM_ALL))
		heap_ask_trim();
	return false;
}

/* ---- the table ------------------------------------------------------------------------------ */

/* clang-format off */
static const struct step mark_steps[] = {
	{ mark,			LOCKED,			0 },
	{ barrier,		0,			0 },
};

static const struct step drain_steps[] = {
	{ mark_for_drain,	0,			RECLAIM_IDLE },
	{ drain_heaps,		0,			DOES_HEAPS },
	{ abandon_own,		0,			RECLAIM_PURGE },
	{ sweep,		0,			RECLAIM_CACHES | RECLAIM_IDLE },
	{ pcps_wait,		0,			RECLAIM_CACHES | RECLAIM_IDLE },
	{ mappings,		0,			RECLAIM_CACHES | RECLAIM_IDLE },
	{ holes,		0,			RECLAIM_PURGE },
	{ purge_to_keep,	0,			RECLAIM_PURGE },
	{ regions,		0,			RECLAIM_REGIONS },
};

static const struct step idle_steps[] = {
	{ heaps_purge,		LOCKED,			0 },
	{ sweep,		0,			0 },
};

static const struct step age_steps[] = {
	{ heaps_age,		LOCKED,			0 },
};

/* The kernel refused to grow, so dirty pages are as good as clean ones and stay. */
static const struct step no_memory_steps[] = {
	{ mark,			LOCKED,			0 },
	{ barrier,		0,			0 },
	{ heaps_empty,		LOCKED,			0 },
	{ mappings,		0,			0 },
	{ trim_own,		0,			0 },
	{ pcps_wait,		0,			0 },
	{ sweep,		0,			0 },
};

/* Blocks merge once the pcps are empty, so the first steps purge nothing. */
static const struct step pressure_steps[] = {
	{ prefaulted,		0,			0 },
	{ mappings,		0,			0 },
	{ pcps_asleep,		0,			0 },
	{ pcps,			0,			0 },
	{ sweep,		PURGES,			0 },
	{ heaps_purge_idle,	LOCKED | PURGES,	0 },
	{ sweep,		PURGES,			0 },
	{ holes,		0,			0 },
	{ ask_trim,		0,			0 },
};

/* After those. The second marks are for threads that came out of their call meanwhile. */
static const struct step emergency_steps[] = {
	{ mark,			LOCKED,			0 },
	{ barrier,		0,			0 },
	{ heaps_purge,		LOCKED | PURGES,	0 },
	{ mark,			LOCKED,			0 },
	{ barrier,		0,			0 },
	{ inboxes,		LOCKED,			0 },
	{ pcps,			0,			0 },
	{ sweep,		PURGES,			0 },
	{ abandon_own,		0,			0 },
	{ holes,		0,			0 },
};
/* clang-format on */

/* ---- the triggers --------------------------------------------------------------------------- */

uint64_t reclaim_mark(bool bins, bool global)
{
	struct run r = { .flags = (bins ? MARKS_BINS : 0) | (global ? RECLAIM_GLOBAL : 0),
			 .want = UINT64_MAX };

	RUN_STEPS(&r, mark_steps);
	return r.epoch;
}

bool reclaim_drain_each(unsigned flags, uint64_t keep, struct reclaim_report *report,
			reclaim_see *see, void *arg)
{
	struct run r = { .flags = flags,
			 .want = UINT64_MAX,
			 .keep = keep,
			 .report = report,
			 .see = see,
			 .arg = arg };
	int saved = errno;
	uint64_t start = clock_ns();

	heap_copy_check();
	lock_call_begins();
	PROBE1(drain_start, flags);
	*report = (struct reclaim_report){ 0 };
	if ((flags & RECLAIM_IDLE) || ((flags & RECLAIM_CACHES) && see)) {
		if (lock_acquire(&reclaim_control) == 0) {
			lock_release(&reclaim_control);
			r.flags |= DOES_HEAPS;
		} else if (see) { /* a fork is under way, or the lock cannot be had here */
			errno = saved;
			return false;
		} else {
			r.flags &= ~(unsigned)RECLAIM_IDLE;
			r.flags |= RECLAIM_CACHES;
		}
	}
	RUN_STEPS(&r, drain_steps);
	report->time_ns = clock_ns() - start;
	PROBE3(drain_end, report->bytes_drained, report->bytes_purged, report->time_ns);
	errno = saved;
	return true;
}

void reclaim_drain(unsigned flags, uint64_t keep, struct reclaim_report *report)
{
	reclaim_drain_each(flags, keep, report, NULL, NULL);
}

void reclaim_idle(uint64_t epoch, struct reclaim_report *report)
{
	struct run r = { .want = UINT64_MAX, .epoch = epoch, .report = report };
	uint64_t before = zones_sum(dirty_pages);
	uint64_t after;

	*report = (struct reclaim_report){ 0 };
	RUN_STEPS(&r, idle_steps);
	report->caches_reached = r.walk.taken;
	report->bytes_purged = slab_pool_punch(false, UINT64_MAX);
	after = zones_sum(dirty_pages);
	if (after > before) {
		report->bytes_drained += (after - before) << PG_SHIFT;
		report->bytes_purged += zones_purge(before, UINT64_MAX);
		zones_purge_descriptors();
	}
}

void reclaim_age(uint64_t epoch)
{
	struct run r = { .want = UINT64_MAX, .epoch = epoch };

	RUN_STEPS(&r, age_steps);
}

static bool reclaim_for_alloc(void)
{
	struct reclaim_report report = { 0 };
	struct run r = { .tries = true, .want = UINT64_MAX, .report = &report };
	uint64_t before = zones_sum(free_pages);
	int saved = errno;

	RUN_STEPS(&r, no_memory_steps);
	errno = saved;
	return report.bytes_drained || zones_sum(free_pages) > before;
}

/*
 * Before the process grows: take what pcps hold, what the heaps of threads hold that made no call
 * since the last time, and what other threads freed into slabs of threads that do not collect it.
 * Each growth takes a part, and the next one comes soon if there is more. One thread at a time does
 * it; others grow meanwhile. The pages are dirty, and are used again as they are. Without a
 * background thread holes in one slab go to the kernel as well, whichever thread grows.
 */
bool reclaim_before_growth(void)
{
	uint64_t before = zones_sum(free_pages);
	int saved = errno;
	bool more;
	bool gave;
	uint64_t after;

	if (!lock_try(&reclaim_control))
		return false;
	longrun_drain();
	zones_quick_merge();
	mapcache_drain();
	more = heap_growth_step();
	lock_release(&reclaim_control);
	/* Nobody else makes them. A process that does not grow keeps what it has. */
	if (trim_inline && slab_pool_punch_some(AGAIN_PAGES << PG_SHIFT))
		more = true;
	after = zones_sum(free_pages);
	gave = after > before;
	if (more)
		growth_ask_again(&zone_main, gave ? 1 : AGAIN_PAGES);
	errno = saved;
	return gave;
}

/* Where threads start one after the other, and then sleep, the next one gets what they had. Not in
 * a small process, whose growth asks nobody either, nor in a child of fork, which would copy what
 * it writes to. */
static void heaps_are_new(void)
{
	int saved = errno;

	if (heap_process || zone_used_pages(&zone_main) < GROWTH_ASK_PAGES ||
	    !lock_try(&reclaim_control))
		return;
	heap_growth_step();
	lock_release(&reclaim_control);
	errno = saved;
}

uint64_t reclaim_pressure(uint64_t want, uint64_t epoch, bool emergency)
{
	struct reclaim_report report = { 0 };
	struct run r = { .want = want, .epoch = epoch, .report = &report };
	int saved = errno;

	stat_add(STAT_pressure_reclaims, 1);
	RUN_STEPS(&r, pressure_steps);
	if (emergency)
		RUN_STEPS(&r, emergency_steps);
	errno = saved;
	return r.given;
}

void reclaim_init(void)
{
	heap_reclaim = reclaim_for_alloc;
	heap_new_asks = heaps_are_new;
}

int reclaim_pcp_disable(void)
{
	int err = lock_acquire(&reclaim_control);

	if (err)
		return err;
	if (!heap_pcps_disable()) {
		heap_pcps_enable();
		err = -EBUSY;
	}
	lock_release(&reclaim_control);
	return err;
}

/*
 * Waits for a fork, but not for a lost lock: nobody else can disable or enable pcps then. In a
 * signal handler that interrupted the holder of a later lock (-EBUSY), too: whoever holds this one
 * waits for that for LOCK_STUCK_MS at most. If it died nobody may see it, so the wait has an end.
 */
void reclaim_pcp_enable(void)
{
	uint64_t end = clock_ns() + LOCK_STUCK_CONTROL_MS * UINT64_C(1000000);
	int err;

	while ((err = lock_acquire(&reclaim_control)) == -EAGAIN || err == -EBUSY) {
		if (lock_is_stuck(&reclaim_control) || (err == -EBUSY && clock_ns() >= end))
			break;
		lock_pause();
	}
	heap_pcps_enable();
	if (!err)
		lock_release(&reclaim_control);
}
