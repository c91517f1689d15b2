/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * background.c - the thread named "sluice".
 * Used by the shim (init, fork, thread, seccomp); uses reclaim, limits, psi, control, reserve.
 *
 * It wakes TICKS times in each idle_ms (or decay_ms, whichever is less). Once each idle_ms it
 * empties the heaps whose threads made no call since the last time, gives what that frees to the
 * kernel at once, and marks the others again; heaps whose threads made no call during the barrier
 * of the mark get an ageing step. Once each decay_ms it gives as many dirty pages to the kernel as
 * were free all that time (the lowest count at a tick), punches holes in abandoned slabs that no
 * thread touched in that time, and shrinks the pcps of running threads by an eighth of their
 * surplus.
 *
 * (A) When nothing is cached anywhere, it parks: it sleeps without a timer until a thread caches
 *     something (park.h).
 * (B) It allocates nothing after its start, holds no lock over a system call but as reclaim.c (B)
 *     says, and blocks all signals except SIGSYS and two of libc. A seccomp filter raises SIGSYS
 *     for a system call; if it is blocked, the kernel kills the process, whatever its handler would
 *     do. So a SIGSYS that is sent to a process whose threads all block it, without a handler, ends
 *     that: when a filter or a handler comes, our thread cannot know in time.
 * (C) It is started at a safe point only (heap_due), by default never while the process has one
 *     thread: such a process stays single-threaded, and gives memory back as it frees (dirty_max).
 * (D) It has an ordinary scheduling policy, with the nice value of its maker, and the processors
 *     that the process had at its start (cpus.c), whichever thread starts it: that may be a pinned
 *     real-time thread.
 * (E) It ends when for `grace` no thread has existed except the process's first one and ours (a
 *     process must be single-threaded to enter namespaces), and starts with the next thread. A
 *     thread that ends notifies it (park_notify_exit), a moment before it is gone, so it checks a
 *     few times. A thread that never called malloc does not notify it; while all other threads are
 *     of that kind, it checks about ten times a second. Its last work is to give back what no
 *     thread uses. It finishes with its own state before it sets `running` to 0, then checks once
 *     more for other threads, because a thread that makes one reads `running` after that.
 * (F) It is never older than a change of what the kernel keeps for each thread (differ.h): it ends
 *     before that, also beside other threads. Whether it starts again: attributes.c.
 *
 * Source: kswapd and vmstat_update of the Linux kernel; the low-water rule is that of TCMalloc's
 * thread caches.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "reclaim/background.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/delay.h"
#include "base/options.h"
#include "base/ourfd.h"
#include "base/park.h"
#include "base/probe.h"
#include "base/sandbox.h"
#include "base/sys.h"
#include "heap/drain.h"
#include "heap/heap_pcps.h"
#include "heap/heap_thread.h"
#include "heap/slab_pool.h"
#include "heap/tally.h"
#include "os/membarrier.h"
#include "os/vm.h"
#include "page/longrun.h"
#include "page/mapcache.h"
#include "page/prefault.h"
#include "page/purge.h"
#include "page/zone.h"
#include "reclaim/control.h"
#include "reclaim/cpus.h"
#include "reclaim/differ.h"
#include "reclaim/ending.h"
#include "reclaim/export.h"
#include "reclaim/limits.h"
#include "reclaim/psi.h"
#include "reclaim/reclaim.h"
#include "reclaim/reserve.h"

#define TICKS 4u
#define STACK_BYTES ((size_t)256 << 10) /* without what libc takes of it for TLS */

/* After a thread has notified us of its end: time to the first check, doubled up to the second. In
 * a program whose threads keep ending beside others the first one comes later, up to the same time.
 * It does not if the last checks are AGAIN_MS ago. */
#define LOOK_MS 10u
#define LOOK_MOST_MS 80u
/* Alone for this long before the end; doubled up to GRACE_MOST_MS for a program that makes a thread
 * within AGAIN_MS after the last end. */
#define GRACE_MS 20u
#define GRACE_MOST_MS 1000u
#define AGAIN_MS 2000u
#define LEAVE_MS 2000u
#define TRIES_MOST 65536u

/* Where it is started from: a call of the shim, or a call that allocates or frees. */
enum from { FROM_LIBC, FROM_ALLOC, FROM_FREE };

enum { STAY, LEAVE_ALONE, LEAVE };

enum { OVERRIDE_NOT, OVERRIDE_ON, OVERRIDE_OFF };

static size_t no_more(const pthread_attr_t *attr)
{
	(void)attr;
	return 0;
}

_Thread_local bool background_inside TLS_FAST;
background_create_fn *background_create = pthread_create;
size_t (*background_stack_more)(const pthread_attr_t *) = no_more;
static _Atomic uint32_t running;
static _Atomic uint32_t tid;         /* of the background thread; 0 if it has not begun */
static _Atomic uint32_t reserve_tid; /* of the reserve's thread; 0: none, 1: being started */
static _Atomic uint32_t leave;       /* STAY, or what background_leave asks for */
static _Atomic uint32_t thread_made; /* since the last check for other threads */
static _Atomic uint32_t override;    /* what background_set asked for */
static uint64_t grace = GRACE_MS;    /* written by the thread that sets running to 1 */
/* Calls that found the start due. Relaxed: a lost count only delays or repeats a try. */
static _Atomic uint32_t tries;
static uint64_t usual_mask; /* signals that a thread may block outside a handler, besides none */
static uint64_t ended_at;   /* ms: guarded by running */
static uint64_t signals;    /* blocked in the thread that started the background thread */

struct round {
	uint64_t epoch;    /* of the marks on the heaps; 0: no marks */
	uint64_t low;      /* the lowest count of dirty pages in this decay_ms */
	uint64_t idle_at;  /* ms: when the next idle round is due */
	uint64_t decay_at; /* ms: when the next decay round is due */
	uint64_t look_at;  /* ms: when to check for other threads; 0: no thread has notified us */
	uint64_t look_ms;  /* from that check to the next one */
	uint64_t first_ms; /* from the next notice to the check */
	uint64_t seen_at;  /* ms: of the last check that no other followed */
	uint64_t alone_at; /* ms: alone since; 0: other threads exist */
	bool decayed;      /* since the last marks: purge also empty heaps that cost memory */
};

/* ---- signals --------------------------------------------------------------------------------- */

/* All except SIGSYS and signals 32 and 33, which are libc's: by 33 it sets the user of each
 * thread. */
#define OUR_MASK (~(UINT64_C(1) << (SIGSYS - 1) | UINT64_C(3) << (32 - 1)))

/*
 * Each of our threads calls this first. sandbox_enter was called before the thread was made. The
 * thread names itself by prctl: libc would write to a file of /proc.
 */
static void thread_begins(const char *name)
{
	uint64_t ours = OUR_MASK;

	sandbox_own = true;
	sys_sigmask(SIG_SETMASK, &ours, NULL);
	cpus_take();
	(void)sluice_syscall(SYS_prctl, PR_SET_NAME, name, 0, 0, 0);
	sandbox_leave();
}

/* ---- the rounds ------------------------------------------------------------------------------ */

static uint64_t dirty_pages(void)
{
	return zones_sum(dirty_pages);
}

static bool anything_cached(void)
{
	return dirty_pages() || longrun_pages() || mapcache_bytes() ||
	       zones_sum(prefaulted_pages) || heap_idle_any() || heap_bins_any() ||
	       slab_pool_wants_punch() || heap_pcps_pages();
}

static bool is_always(void)
{
	return options.background == BACKGROUND_ALWAYS;
}

/* With background:always there is no check for other threads, so the word is not read. */
static bool asked_to_look(void)
{
	return atomic_load_explicit(&leave, memory_order_relaxed) != STAY ||
	       (!is_always() &&
		atomic_load_explicit(&park_exit_word, memory_order_relaxed) != PARK_NOT);
}

/* Sleeps without a timer if nothing is cached. Returns false if something is. */
static bool park(void)
{
	bool passed;

	if (anything_cached())
		return false;
	zones_purge_descriptors();
	atomic_store_explicit(&park_word, 1, memory_order_seq_cst);
	DELAY_HERE(park_set);
	/* After the barrier we see what any thread cached before it could see the word. */
	passed = membarrier_global();
	DELAY_HERE(park_barrier);
	if (!passed || anything_cached() || asked_to_look()) {
		atomic_store_explicit(&park_word, 0, memory_order_relaxed);
		return false;
	}
	park_wait();
	return true;
}

static void idle_round(struct round *r)
{
	struct reclaim_report report;

	reclaim_idle(r->epoch, &report);
	r->epoch = reclaim_mark(r->decayed, true);
	r->decayed = false;
	/* The barrier took 8 to 20 ms: a thread that made no call in that time sleeps. */
	reclaim_age(r->epoch);
	if (report.bytes_drained && r->low > dirty_pages())
		r->low = dirty_pages();
}

static void decay_round(struct round *r)
{
	heap_pcps_decay();
	slab_pool_next_epoch();
	longrun_age();
	mapcache_age();
	slab_pool_punch(false, UINT64_MAX);
	if (r->low)
		zones_purge(0, r->low);
	zones_purge_descriptors();
	r->low = dirty_pages();
	r->decayed = true;
}

static void tick(struct round *r)
{
	uint64_t now = clock_ms();

	if (dirty_pages() < r->low)
		r->low = dirty_pages();
	if (now >= r->idle_at) {
		idle_round(r);
		r->idle_at = now + options.idle_ms;
	}
	if (now >= r->decay_at) {
		decay_round(r);
		r->decay_at = now + options.decay_ms;
	}
	limits_check(r->epoch);
}

/* ---- threads that are not made by pthread_create --------------------------------------------- */

/* Threads of C11, of libc itself and raw ones are noticed at their first call. */
static void watch(void)
{
	atomic_store_explicit(&heap_watch, options.background == BACKGROUND_AUTO,
			      memory_order_relaxed);
}

static void watch_no_more(void)
{
	atomic_store_explicit(&heap_watch, 0, memory_order_relaxed);
	atomic_store_explicit(&heap_due, HEAP_DUE_NOT, memory_order_relaxed);
	atomic_store_explicit(&tries, 0, memory_order_relaxed);
}

/*
 * A signal handler may have interrupted libc while it held a lock that pthread_create needs. While
 * a handler runs, its signal is blocked as a rule, so a thread that blocks signals may be in one.
 * Only libc can block signal 32. With it blocked, libc allocates only in threads of its own, which
 * is safe, and frees at the end of any thread. The caller has checked that pthread_create is not
 * what calls us (background_inside).
 */
static bool may_make_threads(uint64_t mask, bool allocates)
{
	if (allocates && mask & UINT64_C(1) << (32 - 1))
		return true;
	return !(mask & OUR_MASK) || mask == usual_mask;
}

/* ---- the end --------------------------------------------------------------------------------- */

/* Whether the only threads are ours and the first one. If that has ended, it counts as a zombie. */
static bool alone(void)
{
	uint32_t reserve = atomic_load_explicit(&reserve_tid, memory_order_acquire);
	unsigned threads = 0;

	if (sandbox_enter()) {
		threads = ourfd_threads();
		sandbox_leave();
	}
	/* If the number is not known (no /proc, a child of fork), count threads that have a heap. A
	 * thread without one loses nothing but the background thread. */
	if (!threads)
		return !heap_others(reserve);
	return threads <= 1u + 1u + (reserve ? 1u : 0u);
}

/*
 * A filter need not allow the system calls that libc makes at the end of a thread
 * (system-calls.md): if our threads have a filter, they stay, asleep. They may end when the first
 * thread has ended, because it made the same calls.
 */
static bool may_end(bool leader)
{
	return !leader || !sandbox_all();
}

static void begin_looks(struct round *r, uint64_t now)
{
	if (now - r->seen_at >= AGAIN_MS)
		r->first_ms = LOOK_MS;
	r->look_ms = r->first_ms;
	r->look_at = now + r->first_ms;
}

/* Others exist. If threads that will notify us are among them, a few checks are enough. */
static void next_look(struct round *r, uint64_t now)
{
	r->alone_at = 0;
	r->look_ms = min_size(2 * max_size(r->look_ms, LOOK_MS), LOOK_MOST_MS);
	r->look_at = now + r->look_ms;
	if (r->look_ms == LOOK_MOST_MS &&
	    (is_always() ||
	     heap_others(atomic_load_explicit(&reserve_tid, memory_order_relaxed)))) {
		r->look_at = 0;
		r->seen_at = now;
		r->first_ms = min_size(2 * max_size(r->first_ms, LOOK_MS), LOOK_MOST_MS);
	}
}

/*
 * Whether the thread must end. If the first thread of a process has ended, the process ends when
 * its last thread does; that thread calls exit(0) and runs the program's exit handlers. It must not
 * be one of ours, whose stack is small: the first thread waits for ours before it ends
 * (leader_ends). A first thread that ended by a raw system call did not; ours then end as soon as
 * they are alone.
 */
static bool must_end(struct round *r)
{
	bool leader = !atomic_load_explicit(&heap_leader_gone, memory_order_relaxed);
	uint32_t asked = atomic_load_explicit(&leave, memory_order_acquire);
	uint64_t now = clock_ms();

	if (!may_end(leader)) {
		r->look_at = 0; /* nor does it look any more */
		return false;
	}
	if (asked == LEAVE || !leader)
		return true;
	if (!r->look_at && asked_to_look())
		begin_looks(r, now);
	if (asked == STAY && (!r->look_at || now < r->look_at))
		return false;
	/* A thread that ends from here on notifies us again, unless another check will follow. */
	atomic_store_explicit(&park_exit_word, PARK_NOT, memory_order_seq_cst);
	/* The store comes before the question to the kernel. Except on x86-64, a store of any order
	 * could be delayed past it. Nor is a request lost whose PARK_ASKED it has overwritten. */
	atomic_thread_fence(memory_order_seq_cst);
	asked = atomic_load_explicit(&leave, memory_order_acquire);
	if (asked == LEAVE)
		return true;
	if (atomic_exchange_explicit(&thread_made, 0, memory_order_relaxed))
		r->alone_at = 0;
	if ((!is_always() || asked == LEAVE_ALONE) && alone()) {
		if (!r->alone_at)
			r->alone_at = now;
		r->look_at = r->alone_at + grace;
		park_will_look();
		return asked == LEAVE_ALONE || now >= r->look_at;
	}
	atomic_compare_exchange_strong_explicit(&leave, &(uint32_t){ LEAVE_ALONE }, STAY,
						memory_order_relaxed, memory_order_relaxed);
	next_look(r, now);
	if (r->look_at)
		park_will_look();
	return false;
}

static bool is_over(struct round *r)
{
	if (!must_end(r))
		return false;
	if (ending_begins(atomic_load_explicit(&reserve_tid, memory_order_acquire)) ||
	    atomic_load_explicit(&heap_leader_gone, memory_order_relaxed))
		return true;
	r->look_at = clock_ms() + LOOK_MS;
	return false;
}

static void end_reserve(void)
{
	reserve_end();
	while (atomic_load_explicit(&reserve_tid, memory_order_acquire)) {
		park_sleep_ms(1);
		prefault_wake(&zone_main);
	}
}

/* The last work. The next background thread may run before this one has returned. */
static void finish(void)
{
	struct reclaim_report report;
	bool leader = !atomic_load_explicit(&heap_leader_gone, memory_order_relaxed);
	bool room = leader && atomic_load_explicit(&leave, memory_order_relaxed) == LEAVE;

	if (!room) {
		reclaim_drain(RECLAIM_IDLE | RECLAIM_PURGE, 0, &report);
		/* Also what empty heaps cost: threads that ended may have left many. */
		reclaim_idle(reclaim_mark(true, false), &report);
		zones_purge_descriptors();
	}
	end_reserve();
	trim_inline = true;
	watch();
	ended_at = room ? 0 : clock_ms();
	/* Store and fence pair with the load in start_all: a thread whose maker still read 1 there
	 * is seen by alone() here. */
	atomic_store_explicit(&running, 0, memory_order_seq_cst);
	atomic_thread_fence(memory_order_seq_cst);
	if (!room && leader && !alone())
		background_start(true);
}

/* Until then; at least 1 ms. */
static uint64_t time_left(uint64_t end)
{
	uint64_t now = clock_ms();

	return now < end ? end - now : 1;
}

static void *background_main(void *arg)
{
	struct round r = {
		.idle_at = clock_ms() + options.idle_ms,
		.decay_at = clock_ms() + options.decay_ms,
	};
	uint64_t mask = signals;
	bool served = false;
	size_t limit;

	(void)arg;
	thread_begins("sluice");
	atomic_store_explicit(&tid, self_tid(), memory_order_release);
	/* The program's only further thread may have ended before: check for others. */
	atomic_store_explicit(&park_exit_word, PARK_LOOK, memory_order_relaxed);
	while (!is_over(&r)) {
		uint64_t ms = options.idle_ms < options.decay_ms ? options.idle_ms
								 : options.decay_ms;
		int asked = -1;

		if (sandbox_enter()) {
			asked = control_socket();
			vm_limits_read();
			sandbox_leave();
		}
		if (mapcache_bytes() && vm_address_limited(&limit))
			mapcache_drain();
		ms = max_size(ms / TICKS, 1);
		if (r.look_at)
			ms = min_size(ms, time_left(r.look_at));
		if (export_wanted())
			ms = min_size(ms, EXPORT_MS);
		/* Asked since is_over has looked, perhaps too late to end the next wait. */
		if (atomic_load_explicit(&leave, memory_order_relaxed) != STAY && may_end(true))
			ms = 1;
		export_tick();
		/* A parked thread would not see requests of sluice-ctl. */
		if (!r.look_at && asked < 0 && !export_wanted() && !r.epoch && park()) {
			r.low = 0;
			r.idle_at = clock_ms() + options.idle_ms;
			r.decay_at = clock_ms() + options.decay_ms;
			continue;
		}
		/* After an answer, do not poll the socket in the next wait: a peer that asks all
		 * the time is answered every second time and does not change the ticks. */
		served = psi_wait(ms, r.alone_at, r.epoch, served ? -1 : asked);
		if (served && sandbox_enter()) {
			control_serve();
			sandbox_leave();
		}
		PROBE(background_wake);
		tick(&r);
	}
	finish();
	DELAY_HERE(background_ends);
	/* If this is the last thread, the program's exit handlers run in it, with its usual
	 * signals. Not otherwise: no handler of the program may run here. */
	if (atomic_load_explicit(&heap_leader_gone, memory_order_relaxed))
		sys_sigmask(SIG_SETMASK, &mask, NULL);
	return NULL;
}

/* A detached thread with all signals blocked and ordinary priority, whichever thread makes it. What
 * libc allocates for it does not count as the maker's. */
static bool start(void *(*main)(void *), enum from from)
{
	const struct sched_param ordinary = { .sched_priority = 0 };
	const uint64_t all = OUR_MASK;
	uint64_t before = 0;
	struct tally tally;
	pthread_attr_t attr;
	pthread_t t;
	bool good = false;

	/* With a filter, no thread is made, because it would inherit that. Until thread_begins
	 * calls sandbox_leave, no filter is installed. */
	if (!sandbox_enter())
		return false;
	sys_sigmask(SIG_BLOCK, &all, &before);
	if (atomic_load_explicit(&tid, memory_order_relaxed) != self_tid())
		signals = before; /* the background thread itself keeps what it was started with */
	tally = tally_save();
	pthread_attr_init(&attr);
	if (background_stack_more)
		pthread_attr_setstacksize(&attr, STACK_BYTES + background_stack_more(&attr));
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
	pthread_attr_setschedpolicy(&attr, SCHED_OTHER);
	pthread_attr_setschedparam(&attr, &ordinary); /* else glibc takes the caller's */
	if (from == FROM_LIBC || may_make_threads(before, from == FROM_ALLOC))
		good = background_create(&t, &attr, main, NULL) == 0;
	pthread_attr_destroy(&attr);
	tally_restore(&tally);
	sys_sigmask(SIG_SETMASK, &before, NULL);
	if (!good)
		sandbox_leave();
	return good;
}

static void *reserve_thread(void *arg)
{
	thread_begins("sluice-reserve");
	atomic_store_explicit(&reserve_tid, self_tid(), memory_order_relaxed);
	reserve_main(arg);
	atomic_store_explicit(&reserve_tid, 0, memory_order_release);
	return NULL;
}

bool background_is_on(void)
{
	uint32_t set = atomic_load_explicit(&override, memory_order_relaxed);

	return !differ_stops() &&
	       (set ? set == OVERRIDE_ON : options.background != BACKGROUND_NEVER);
}

static bool wanted(bool threads)
{
	uint32_t set = atomic_load_explicit(&override, memory_order_relaxed);

	if (unlikely(differ_stops()))
		return false;
	if (unlikely(set != OVERRIDE_NOT))
		return set == OVERRIDE_ON && threads;
	if (options.background == BACKGROUND_AUTO)
		return threads;
	return options.background == BACKGROUND_ALWAYS;
}

static void start_all(bool threads, enum from from)
{
	uint32_t no = 0;

	/* The store pairs with the exchange in is_over, the load of running with the store in
	 * finish. */
	if (threads && !atomic_load_explicit(&thread_made, memory_order_relaxed))
		atomic_store_explicit(&thread_made, 1, memory_order_relaxed);
	if (likely(atomic_load_explicit(&running, memory_order_seq_cst)) || !wanted(threads) ||
	    !atomic_compare_exchange_strong_explicit(&running, &no, 1, memory_order_seq_cst,
						     memory_order_relaxed))
		return;
	/* Pairs with the store at the end of the first thread: either this load sees it, or
	 * leader_ends sees `running`. For differ_stops see differ.c. */
	if (atomic_load_explicit(&heap_leader_gone, memory_order_seq_cst) || differ_stops()) {
		atomic_store_explicit(&running, 0, memory_order_relaxed);
		return;
	}
	grace = ended_at && clock_ms() - ended_at < AGAIN_MS ? min_size(2 * grace, GRACE_MOST_MS)
							     : GRACE_MS;
	atomic_store_explicit(&leave, STAY, memory_order_relaxed);
	atomic_store_explicit(&reserve_tid, reserve_wanted() ? 1 : 0, memory_order_relaxed);
	reserve_again();
	trim_inline = false;
	if (!start(background_main, from)) {
		trim_inline = true;
		atomic_store_explicit(&reserve_tid, 0, memory_order_relaxed);
		atomic_store_explicit(&running, 0, memory_order_release);
		return;
	}
	watch_no_more();
	if (reserve_wanted() && !start(reserve_thread, FROM_LIBC))
		atomic_store_explicit(&reserve_tid, 0, memory_order_release);
}

void background_start(bool threads)
{
	start_all(threads, FROM_LIBC);
}

/* heap_due_begins. If the thread cannot be started now, tries again at the 2nd, 4th, 8th, ...
 * call. */
static void notice(bool allocates)
{
	uint32_t n = atomic_load_explicit(&tries, memory_order_relaxed) + 1;
	int saved = errno;

	if (background_inside)
		return;
	atomic_store_explicit(&tries, n, memory_order_relaxed);
	if (n & (n - 1) || !heap_in_process())
		return;
	if (n >= TRIES_MOST) {
		atomic_store_explicit(&heap_due, HEAP_DUE_NOT, memory_order_relaxed);
		atomic_store_explicit(&tries, 0, memory_order_relaxed);
	}
	background_inside = true;
	start_all(true, allocates ? FROM_ALLOC : FROM_FREE);
	background_inside = false;
	if (atomic_load_explicit(&running, memory_order_relaxed))
		watch_no_more();
	errno = saved;
}

static bool leave_within(bool only_alone, uint64_t ms)
{
	uint64_t end = clock_ms() + ms;
	uint32_t asked = only_alone ? LEAVE_ALONE : LEAVE;
	uint32_t reserve = atomic_load_explicit(&reserve_tid, memory_order_relaxed);
	uint32_t t;

	if (!may_end(!atomic_load_explicit(&heap_leader_gone, memory_order_relaxed)))
		return false;
	/* The thread has been made and has not stored its TID yet. */
	while (!(t = atomic_load_explicit(&tid, memory_order_acquire)) &&
	       atomic_load_explicit(&running, memory_order_relaxed) && clock_ms() < end)
		park_sleep_ms(1);
	if (!t || t == self_tid())
		return false;
	if (atomic_load_explicit(&running, memory_order_relaxed)) {
		atomic_store_explicit(&leave, asked, memory_order_seq_cst);
		park_ask();
	}
	while (!lock_thread_gone(t) || (reserve > 1 && !lock_thread_gone(reserve))) {
		if (clock_ms() >= end)
			return false;
		/* It has found other threads. */
		if (only_alone && atomic_load_explicit(&running, memory_order_relaxed) &&
		    atomic_load_explicit(&leave, memory_order_relaxed) == STAY)
			return false;
		park_sleep_ms(1);
	}
	atomic_compare_exchange_strong_explicit(&tid, &t, 0, memory_order_relaxed,
						memory_order_relaxed);
	return true;
}

bool background_leave(bool only_alone)
{
	return leave_within(only_alone, LEAVE_MS);
}

void background_leave_alone(uint32_t ms)
{
	if (atomic_load_explicit(&running, memory_order_relaxed) && !is_always() &&
	    atomic_load_explicit(&tid, memory_order_relaxed) != self_tid() && alone())
		leave_within(true, ms);
}

void background_leave_all(uint32_t ms)
{
	uint64_t end = clock_ms() + ms;

	background_leave_alone(ms);
	while (atomic_load_explicit(&running, memory_order_seq_cst) && may_end(true) &&
	       clock_ms() < end) {
		/* A thread that was just made: its maker's store of STAY may have come later. */
		if (atomic_load_explicit(&leave, memory_order_relaxed) != LEAVE) {
			atomic_store_explicit(&leave, LEAVE, memory_order_seq_cst);
			park_ask();
		}
		park_sleep_ms(1);
	}
	ending_wait(false, (uint32_t)time_left(end));
}

bool background_exists(void)
{
	return atomic_load_explicit(&running, memory_order_seq_cst) || ending_any();
}

bool background_is_alone(void)
{
	bool ours = background_exists();

	ending_wait(false, LEAVE_MS); /* else one that is ending may be counted as the program's */
	return ours && alone();
}

void background_comes_again(bool others)
{
	if (differ_stops())
		watch_no_more();
	else if (others || is_always()) {
		atomic_store_explicit(&heap_due, HEAP_DUE_ALLOC, memory_order_relaxed);
		/* At once if that is safe here: the program may not call us for long. */
		if (!background_inside) {
			background_inside = true;
			start_all(others, FROM_ALLOC);
			background_inside = false;
		}
	}
}

bool background_runs(void)
{
	return atomic_load_explicit(&running, memory_order_relaxed) != 0;
}

void background_set(bool on)
{
	atomic_store_explicit(&override, on ? OVERRIDE_ON : OVERRIDE_OFF, memory_order_relaxed);
	if (on)
		background_start(true);
	else
		background_leave(false);
}

static void leader_ends(void)
{
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&running, memory_order_relaxed))
		background_leave(false);
}

void background_init(void)
{
	cpus_find();
	heap_leader_ends = leader_ends;
	heap_due_begins = notice;
	watch();
	background_start(false);
}

void background_fork_child(bool copy)
{
	reserve_again();
	atomic_store_explicit(&running, 0, memory_order_relaxed);
	atomic_store_explicit(&tid, 0, memory_order_relaxed);
	atomic_store_explicit(&reserve_tid, 0, memory_order_relaxed);
	ending_fork_child();
	differ_fork_child();
	atomic_store_explicit(&leave, STAY, memory_order_relaxed);
	atomic_store_explicit(&park_word, 0, memory_order_relaxed);
	atomic_store_explicit(&park_exit_word, PARK_NOT, memory_order_relaxed);
	ended_at = 0;
	trim_inline = true;
	watch_no_more();
	watch();
	if (is_always() && !copy)
		atomic_store_explicit(&heap_due, HEAP_DUE_CALL, memory_order_relaxed);
}

void background_fork_mask(uint64_t mask)
{
	usual_mask = mask;
}
