/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * background.c - the thread named "sluice".
 * Used by the shim (pthread_create) and fork; uses reclaim, pressure, control.
 *
 * Every TICKS_th part of idle_ms (or decay_ms, whichever is less) it wakes up. Once each idle_ms it
 * empties the heaps that made no call since the last time, and marks the others anew; what that
 * frees goes to the kernel at once. Bins of threads that made no call while it marked have a turn. Once each decay_ms it gives as many dirty pages to the kernel
 * as were free all that time: the lowest count it saw at a tick; and makes holes in the abandoned slabs
 * that nobody touched all that time. Pcps of running threads shrink by an eighth of their
 * surplus.
 *
 * (A) When nothing is cached anywhere it parks: it sleeps without a timer until somebody caches
 *     something (park.h).
 * (B) It blocks all signals but SIGSYS, which a seccomp filter answers a system call with (a
 *     blocked one kills the process, whatever its handler would have done), allocates nothing after its start, and never holds a lock over a
 *     system call.
 * (C) It is started at a safe point only (heap_due), by default never while the process has one thread: such
 *     a process stays single-threaded, and gives memory back as it frees (dirty_max).
 * (D) It has ordinary priority, and the processors that the process had at its start (background_cpus),
 *     whoever makes it: a real-time thread that is pinned makes it as well.
 *
 * (E) It ends when no thread but the first one and ours is there (a process that is to be single-threaded may
 *     enter namespaces, and drop privileges for all of itself), after `grace`, and is started with the next thread. Whoever
 *     ends tells it to look (park_notify_exit), a moment too early, so it looks a few times; a thread that never called malloc
 *     does not tell, so while there is no other kind it looks ten times a second. Its last work is to
 *     give back what nobody uses. What it was the only one to touch it leaves before `running` is 0; then it looks again, for
 *     who makes a thread looks at `running` after that.
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
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "page/buddy.h"
#include "base/clock.h"
#include "reclaim/control.h"
#include "base/cpulist.h"
#include "base/delay.h"
#include "heap/heap.h"
#include "heap/drain.h"
#include "heap/slab_pool.h"
#include "page/longrun.h"
#include "base/options.h"
#include "base/ourfd.h"
#include "base/park.h"
#include "page/pcp.h"
#include "page/prefault.h"
#include "page/purge.h"
#include "reclaim/limits.h"
#include "reclaim/psi.h"
#include "reclaim/reclaim.h"
#include "reclaim/reserve.h"
#include "base/sandbox.h"
#include "os/membarrier.h"
#include "os/vm.h"

#define TICKS 4u
#define STACK_BYTES ((size_t)256 << 10)

#define LOOK_MS 10u      /* after a thread said that it ends, then twice as long each time, */
#define LOOK_MOST_MS 80u /* up to that */
#define GRACE_MS                                                                                   \
	20u /* alone for that long before the end; more for a program that goes on making threads, */
#define GRACE_MOST_MS 1000u
#define AGAIN_MS 2000u /* this soon after the last end */
#define LEAVE_MS 2000u
#define LEAVE_FORK_MS 200u
#define TRIES_MOST 65536u

/* Who starts it: the program where it calls libc, or a call that allocates or frees. */
enum from { FROM_LIBC, FROM_ALLOC, FROM_FREE };

enum { STAY, LEAVE_ALONE, LEAVE };

_Thread_local bool background_inside TLS_FAST;
static _Atomic uint32_t running;
static _Atomic uint32_t tid; /* of the background thread; 0: it has not begun, or there is none */
static _Atomic uint32_t reserve_tid; /* likewise; 1: being made */
static _Atomic uint32_t leave;       /* STAY, or what background_leave asks for */
static _Atomic uint32_t thread_made; /* since the last look */
static uint64_t grace = GRACE_MS;    /* by who starts it, with running */
static _Atomic uint32_t tries;       /* of calls that found it due; inexact */
static uint64_t
	usual_mask; /* signals that a thread may have blocked outside of a handler; 0 as well */
static uint64_t ended_at; /* ms: guarded by running */
static uint64_t signals;  /* blocked by who started the thread */

struct round {
	uint64_t epoch;   /* of the marks on the heaps, 0: none */
	uint64_t low;     /* dirty pages, the least seen in this decay */
	uint64_t idle_at; /* ms when each is due */
	uint64_t decay_at;
	uint64_t look_at; /* ms: when to look whether others are there; 0: nobody has said that it ends */
	uint64_t look_ms;  /* until the look after that */
	uint64_t alone_at; /* ms: alone since; 0: others are there */
	bool decayed;      /* since the last marks: empty heaps that still cost memory are due */
};

/* ---- signals --------------------------------------------------------------------------------- */

/* SIGSYS answers a system call that a filter refused; 32 and 33 are the C library's: with the latter it sets the user
 * of each thread. */
#define OUR_MASK (~(UINT64_C(1) << (SIGSYS - 1) | UINT64_C(3) << (32 - 1)))

/* libc's own way lets none of its signals be blocked, but a thread of it has one blocked that we may run in. */
static void set_mask(int how, const uint64_t *mask, uint64_t *before)
{
	(void)syscall(SYS_rt_sigprocmask, how, mask, before, sizeof(*mask));
}

/* ---- which processors ---------------------------------------------------------------------- */

#define CPUS_MAX 8192u
#define CPU_BITS (8 * sizeof(unsigned long))
static unsigned long cpus[CPUS_MAX / CPU_BITS]; /* those of our threads; written before the first */
static long cpus_bytes;                         /* 0: not known */

/* Reads a list as 0-3+8 (a comma would end the setting); returns false if it is not one. */
static bool read_cpus(const char *text)
{
	unsigned first;
	unsigned last;

	do {
		if (!cpulist_next(&text, '+', &first, &last) || last >= CPUS_MAX)
			return false;
		for (unsigned cpu = first; cpu <= last; cpu++)
			cpus[cpu / CPU_BITS] |= 1ul << (cpu % CPU_BITS);
	} while (text[-1] == '+');
	return *text == '\0';
}

/* As the process is now, before a thread of its own may be pinned. */
static void find_cpus(void)
{
	int saved = errno;
	long n = syscall(SYS_sched_getaffinity, 0, sizeof(cpus), cpus);

	errno = saved;
	cpus_bytes = n > 0 ? n : 0;
	if (!options.background_cpus[0])
		return;
	memset(cpus, 0, sizeof(cpus));
	cpus_bytes = sizeof(cpus);
	if (!read_cpus(options.background_cpus)) {
		options_say("option background_cpus: '%s' is not a list of processors below 8192, as 0-3+8",
			    options.background_cpus);
		cpus_bytes = 0;
	}
}

/*
 * Each of our threads calls it for itself, and is inside (sandbox.h) since before it was made. The kernel leaves out what the
 * process may not use. libc would name another thread by way of a file of /proc.
 */
static void thread_begins(const char *name)
{
	uint64_t ours = OUR_MASK;

	sandbox_own = true;
	set_mask(SIG_SETMASK, &ours, NULL);
	if (cpus_bytes)
		(void)syscall(SYS_sched_setaffinity, 0, (size_t)cpus_bytes, cpus);
	(void)syscall(SYS_prctl, PR_SET_NAME, name, 0, 0, 0);
	sandbox_leave();
}

/* ---- the rounds ------------------------------------------------------------------------------ */

static uint64_t dirty_pages(void)
{
	return zones_sum(dirty_pages);
}

static bool anything_cached(void)
{
	if (dirty_pages() || longrun_pages() || zones_sum(prefaulted_pages) || heap_idle_any() ||
	    heap_bins_any() || slab_pool_wants_punch())
		return true;
	for (struct pcp *p = pcp_first(); p; p = pcp_next(p))
		if (atomic_load_explicit(&p->count, memory_order_relaxed))
			return true;
	return false;
}

static bool is_always(void)
{
	return options.background == BACKGROUND_ALWAYS;
}

/* With background:always others need not be looked for, so the word is left alone. */
static bool asked_to_look(void)
{
	return atomic_load_explicit(&leave, memory_order_relaxed) != STAY ||
	       (!is_always() && atomic_load_explicit(&park_exit_word, memory_order_relaxed));
}

/* Sleep without a timer if nothing is cached. False: something is. */
static bool park(void)
{
	bool passed;

	if (anything_cached())
		return false;
	zones_purge_descriptors();
	atomic_store_explicit(&park_word, 1, memory_order_seq_cst);
	DELAY_HERE(park_set);
	/* Who cached something before it could see the word has done so visibly now. */
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
	/* The barrier took 8 to 20 ms, which is a nap. */
	reclaim_age(r->epoch);
	if (report.bytes_drained && r->low > dirty_pages())
		r->low = dirty_pages();
}

static void decay_round(struct round *r)
{
	for (struct pcp *p = pcp_first(); p; p = pcp_next(p))
		pcp_decay(p);
	slab_pool_next_epoch();
	longrun_age();
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

/* ---- where nobody makes a thread by way of us ------------------------------------------------ */

/* C11's threads, those of libc itself and raw ones are noticed by their first call. */
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
 * A handler of a signal may have interrupted libc while it held what pthread_create needs; while one runs its signal is
 * blocked, as a rule. Only libc can block 32, and it allocates so in threads of its own alone; it frees so at a thread's end.
 * Who asks has made sure that it is not pthread_create that calls us (background_inside).
 */
static bool may_make_threads(uint64_t mask, bool allocates)
{
	if (allocates && mask & UINT64_C(1) << (32 - 1))
		return true;
	return !(mask & OUR_MASK) || mask == usual_mask;
}

/* ---- the end --------------------------------------------------------------------------------- */

/* No thread but ours and the first one, which may have ended: then it is there as a zombie. */
static bool alone(void)
{
	uint32_t reserve = atomic_load_explicit(&reserve_tid, memory_order_acquire);
	unsigned threads = 0;

	if (sandbox_enter()) {
		threads = ourfd_threads();
		sandbox_leave();
	}
	/* Where nobody can tell (no /proc, a child of fork) those count that have a heap: others lose no more than a background. */
	if (!threads)
		return !heap_others(reserve);
	return threads <= 1u + 1u + (reserve ? 1u : 0u);
}

/*
 * What libc calls at a thread's end is not among what a filter must allow (system-calls.md): where ours have one they stay, asleep. When
 * the first thread has ended, which called the same, they may.
 */
static bool may_end(bool leader)
{
	return !leader || !sandbox_all();
}

/*
 * Whether it is to end. A process whose first thread has ended ends, with exit(0), when its last thread does, which
 * runs the program's exit handlers. That must not be one of ours, whose stack is small: the first thread sees them end before
 * it does itself (leader_ends). One that did not, because it left by a system call, is not known; once ours are alone they end.
 */
static bool is_over(struct round *r)
{
	bool leader = !atomic_load_explicit(&heap_leader_gone, memory_order_relaxed);
	uint32_t asked = atomic_load_explicit(&leave, memory_order_acquire);
	uint64_t now = clock_ms();

	if (!may_end(leader))
		return false;
	if (asked == LEAVE || !leader)
		return true;
	if (!r->look_at && asked_to_look()) {
		r->look_ms = LOOK_MS;
		r->look_at = now + LOOK_MS;
	}
	if (asked == STAY && (!r->look_at || now < r->look_at))
		return false;
	/* Who ends from here on says it again. */
	atomic_store_explicit(&park_exit_word, 0, memory_order_seq_cst);
	/* Before the kernel is asked: a store, of whatever order, may pass what comes behind it but on x86-64. */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_exchange_explicit(&thread_made, 0, memory_order_relaxed))
		r->alone_at = 0;
	if ((!is_always() || asked == LEAVE_ALONE) && alone()) {
		r->look_at = now + LOOK_MS;
		if (!r->alone_at)
			r->alone_at = now;
		return asked == LEAVE_ALONE || now - r->alone_at >= grace;
	}
	atomic_compare_exchange_strong_explicit(&leave, &(uint32_t){ LEAVE_ALONE }, STAY,
						memory_order_relaxed, memory_order_relaxed);
	r->alone_at = 0;
	r->look_ms = min_size(2 * max_size(r->look_ms, LOOK_MS), LOOK_MOST_MS);
	r->look_at = now + r->look_ms;
	if (r->look_ms == LOOK_MOST_MS &&
	    (is_always() || heap_others(atomic_load_explicit(&reserve_tid, memory_order_relaxed))))
		r->look_at = 0;
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

/* The next one may run before this one has returned. */
static void finish(void)
{
	struct reclaim_report report;
	bool leader = !atomic_load_explicit(&heap_leader_gone, memory_order_relaxed);
	bool room = leader && atomic_load_explicit(&leave, memory_order_relaxed) == LEAVE;

	if (!room) {
		reclaim_drain(RECLAIM_IDLE | RECLAIM_PURGE, 0, &report);
		/* And what heaps cost that hold nothing: of threads that ended there may be many. */
		reclaim_idle(reclaim_mark(true, false), &report);
		zones_purge_descriptors();
	}
	end_reserve();
	trim_inline = true;
	watch();
	ended_at = room ? 0 : clock_ms();
	/* Pairs with the load in background_start: the thread that was made before it is seen here. */
	atomic_store_explicit(&running, 0, memory_order_seq_cst);
	atomic_thread_fence(memory_order_seq_cst); /* likewise */
	if (!room && leader && !alone())
		background_start(true);
}

static void *background_main(void *arg)
{
	struct round r = {
		.idle_at = clock_ms() + options.idle_ms,
		.decay_at = clock_ms() + options.decay_ms,
	};
	bool served = false;
	uint64_t mask;

	(void)arg;
	thread_begins("sluice");
	atomic_store_explicit(&tid, self_tid(), memory_order_release);
	/* A program's only thread may be gone before it. */
	atomic_store_explicit(&park_exit_word, 1, memory_order_relaxed);
	while (!is_over(&r)) {
		uint64_t ms = options.idle_ms < options.decay_ms ? options.idle_ms
								 : options.decay_ms;
		int asked = -1;

		if (sandbox_enter()) {
			asked = control_socket();
			vm_limits_read();
			sandbox_leave();
		}
		ms = max_size(ms / TICKS, 1);
		if (r.look_at)
			ms = min_size(ms, LOOK_MS);
		/* A parked thread would not see requests. */
		if (!r.look_at && asked < 0 && !r.epoch && park()) {
			r.low = 0;
			r.idle_at = clock_ms() + options.idle_ms;
			r.decay_at = clock_ms() + options.decay_ms;
			continue;
		}
		/* Who asks all the time is answered once a tick, and changes nothing else. */
		served = psi_wait(ms, r.epoch, served ? -1 : asked);
		if (served && sandbox_enter()) {
			control_serve();
			sandbox_leave();
		}
		tick(&r);
	}
	finish();
	/* The handlers of exit are the program's, and run here. */
	mask = signals;
	set_mask(SIG_SETMASK, &mask, NULL);
	return NULL;
}

/* A detached thread with all signals blocked, and of ordinary priority, whoever makes it. */
static bool start(void *(*main)(void *), enum from from)
{
	const struct sched_param ordinary = { .sched_priority = 0 };
	const uint64_t all = OUR_MASK;
	uint64_t before = 0;
	pthread_attr_t attr;
	pthread_t t;
	bool good = false;

	/* Where there is a filter it would have that, too. Until thread_begins nobody installs one. */
	if (!sandbox_enter())
		return false;
	set_mask(SIG_BLOCK, &all, &before);
	if (atomic_load_explicit(&tid, memory_order_relaxed) != self_tid())
		signals = before; /* else they are what the first one was started with */
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
	pthread_attr_setschedpolicy(&attr, SCHED_OTHER);
	pthread_attr_setschedparam(&attr, &ordinary); /* else glibc takes the caller's */
	if (from == FROM_LIBC || may_make_threads(before, from == FROM_ALLOC))
		good = pthread_create(&t, &attr, main, NULL) == 0;
	pthread_attr_destroy(&attr);
	set_mask(SIG_SETMASK, &before, NULL);
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

static bool wanted(bool threads)
{
	if (options.background == BACKGROUND_AUTO)
		return threads;
	return options.background == BACKGROUND_ALWAYS;
}

static void start_all(bool threads, enum from from)
{
	uint32_t no = 0;

	/* The first store pairs with is_over's exchange, the load of running with its store in finish. */
	if (threads && !atomic_load_explicit(&thread_made, memory_order_relaxed))
		atomic_store_explicit(&thread_made, 1, memory_order_relaxed);
	if (likely(atomic_load_explicit(&running, memory_order_seq_cst)) || !wanted(threads) ||
	    !atomic_compare_exchange_strong_explicit(&running, &no, 1, memory_order_seq_cst,
						     memory_order_relaxed))
		return;
	/* Pairs with the store in thread_exit: either this sees it, or leader_ends sees `running`. */
	if (atomic_load_explicit(&heap_leader_gone, memory_order_seq_cst)) {
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

/* heap_due_begins. Ever more seldom, when it cannot be now. */
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
	/* It has been made, and has not said who it is yet. */
	while (!(t = atomic_load_explicit(&tid, memory_order_acquire)) &&
	       atomic_load_explicit(&running, memory_order_relaxed) && clock_ms() < end)
		park_sleep_ms(1);
	if (!t || t == self_tid())
		return false;
	if (atomic_load_explicit(&running, memory_order_relaxed)) {
		atomic_store_explicit(&leave, asked, memory_order_seq_cst);
		park_notify_exit();
		park_wake();
	}
	while (!lock_thread_gone(t) || (reserve > 1 && !lock_thread_gone(reserve))) {
		if (clock_ms() >= end)
			return false;
		/* Others are there. */
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

void background_leave_alone(void)
{
	if (atomic_load_explicit(&running, memory_order_relaxed) && !is_always() &&
	    atomic_load_explicit(&tid, memory_order_relaxed) != self_tid() && alone())
		leave_within(true, LEAVE_FORK_MS);
}

static void leader_ends(void)
{
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&running, memory_order_relaxed))
		background_leave(false);
}

void background_init(void)
{
	find_cpus();
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
	atomic_store_explicit(&leave, STAY, memory_order_relaxed);
	atomic_store_explicit(&park_word, 0, memory_order_relaxed);
	atomic_store_explicit(&park_exit_word, 0, memory_order_relaxed);
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
