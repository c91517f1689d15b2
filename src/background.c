/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * background.c - the thread named "sluice".
 * Used by the shim (pthread_create) and fork; uses reclaim, pressure, control.
 *
 * Every TICKS_th part of idle_ms (or decay_ms, whichever is less) it wakes up. Once each idle_ms it
 * empties the heaps that made no call since the last time, and marks the others anew; what that
 * frees goes to the kernel at once. Bins of threads that made no call while it marked have a turn. Once each decay_ms it gives as many dirty pages to the kernel
 * as were free all that time: the lowest count it saw at a tick; and makes holes in the un-owned slabs
 * that nobody touched all that time. Page caches of running threads shrink by an eighth of their
 * surplus.
 *
 * (A) When nothing is cached anywhere it parks: it sleeps without a timer until somebody caches
 *     something (park.h).
 * (B) It blocks all signals but SIGSYS, which a seccomp filter answers a system call with (a
 *     blocked one kills the process, whatever its handler would have done), allocates nothing after its start, and never holds a lock over a
 *     system call.
 * (C) It is started at a safe point only, by default never while the process has one thread: such
 *     a process stays single-threaded, and gives memory back as it frees (dirty_max).
 * (D) It has ordinary priority, and the processors that the process had at its start (background_cpus),
 *     whoever makes it: a real-time thread that is pinned makes it as well.
 *
 * Source: kswapd and vmstat_update of the Linux kernel; the low-water rule is that of TCMalloc's
 * thread caches.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "background.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "buddy.h"
#include "clock.h"
#include "control.h"
#include "cpulist.h"
#include "delay.h"
#include "heap.h"
#include "holes.h"
#include "log.h"
#include "longrun.h"
#include "options.h"
#include "ourfd.h"
#include "park.h"
#include "pcp.h"
#include "pressure.h"
#include "reclaim.h"
#include "reserve.h"
#include "sandbox.h"
#include "vm.h"

#define TICKS 4u
#define STACK_BYTES ((size_t)256 << 10)

static _Atomic uint32_t running;
static sigset_t signals; /* blocked by who started the thread */

struct round {
	uint64_t generation; /* of the marks on the heaps, 0: none */
	uint64_t low;        /* dirty pages, the least seen in this decay */
	uint64_t idle_at;    /* ms when each is due */
	uint64_t decay_at;
	bool decayed; /* since the last marks: empty heaps that still cost memory are due */
};

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
	sandbox_own = true;
	if (cpus_bytes)
		(void)syscall(SYS_sched_setaffinity, 0, (size_t)cpus_bytes, cpus);
	(void)syscall(SYS_prctl, PR_SET_NAME, name, 0, 0, 0);
	sandbox_leave();
}

/* ---- the rounds ------------------------------------------------------------------------------ */

static uint64_t now_ms(void)
{
	return clock_ns() / 1000000;
}

static uint64_t dirty_pages(void)
{
	return zones_sum(dirty_pages);
}

static bool anything_cached(void)
{
	if (dirty_pages() || longrun_pages() || zones_sum(ready_pages) || heap_idle_any() ||
	    heap_bins_any() || holes_wanted())
		return true;
	for (struct pcp *p = pcp_first(); p; p = pcp_next(p))
		if (atomic_load_explicit(&p->count, memory_order_relaxed))
			return true;
	return false;
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
	passed = heap_barrier();
	DELAY_HERE(park_barrier);
	if (!passed || anything_cached()) {
		atomic_store_explicit(&park_word, 0, memory_order_relaxed);
		return false;
	}
	park_wait();
	return true;
}

static void idle_round(struct round *r)
{
	struct reclaim_report report;

	reclaim_idle(r->generation, &report);
	r->generation = r->decayed ? heap_idle_mark_all(true) : heap_idle_mark(true);
	r->decayed = false;
	/* The barrier took 8 to 20 ms, which is a nap. */
	reclaim_visit(r->generation);
	if (report.bytes_drained && r->low > dirty_pages())
		r->low = dirty_pages();
}

static void decay_round(struct round *r)
{
	for (struct pcp *p = pcp_first(); p; p = pcp_next(p))
		pcp_decay(p);
	slab_pool_age();
	longrun_age();
	holes_punch(false, UINT64_MAX);
	if (r->low)
		zones_purge(0, r->low);
	zones_purge_descriptors();
	r->low = dirty_pages();
	r->decayed = true;
}

static void tick(struct round *r)
{
	uint64_t now = now_ms();

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
	pressure_look(r->generation);
}

/*
 * A process whose first thread has ended ends, with exit(0), when its last thread does. That must not be one
 * of ours: once they are alone (the first thread is there as a zombie) they end, too.
 */
#define LEADER_GONE_MS 20u

static bool alone(void)
{
	struct stat tasks;
	nlink_t ours = 1 + (reserve_wanted() ? 1 : 0);
	bool known = sandbox_enter();

	if (known) {
		known = ourfd_good(&ourfd_proc) &&
			fstatat(ourfd_proc.fd, "self/task", &tasks, 0) == 0;
		sandbox_leave();
	}
	/* Where nobody can tell (no /proc) they end at once: others that are there lose no more than a
	 * background. */
	if (!known) {
		reserve_end();
		buddy_trim_inline = true;
		return true;
	}
	/* A directory for each, and two links more. */
	if (tasks.st_nlink > 2 + 1 + ours)
		return false;
	if (tasks.st_nlink == 2 + 1 + 1)
		return true;
	reserve_end();
	return false;
}

static void *background_main(void *arg)
{
	struct round r = {
		.idle_at = now_ms() + options.idle_ms,
		.decay_at = now_ms() + options.decay_ms,
	};
	bool served = false;

	(void)arg;
	thread_begins("sluice");
	for (;;) {
		uint64_t ms = options.idle_ms < options.decay_ms ? options.idle_ms
								 : options.decay_ms;
		int asked = -1;
		bool leader = !atomic_load_explicit(&heap_leader_gone, memory_order_relaxed);

		if (sandbox_enter()) {
			asked = control_socket();
			vm_limits_read();
			sandbox_leave();
		}
		if (!leader) {
			if (alone())
				break;
			ms = min_size(ms, TICKS * LEADER_GONE_MS);
		}
		/* A parked thread would not see requests. */
		if (leader && asked < 0 && !r.generation && park()) {
			r.low = 0;
			r.idle_at = now_ms() + options.idle_ms;
			r.decay_at = now_ms() + options.decay_ms;
		}
		/* Who asks all the time is answered once a tick, and changes nothing else. */
		served = pressure_wait(ms / TICKS ? ms / TICKS : 1, r.generation,
				       served ? -1 : asked);
		if (served && sandbox_enter()) {
			control_serve();
			sandbox_leave();
		}
		tick(&r);
	}
	/* The handlers of exit are the program's, and run here. */
	pthread_sigmask(SIG_SETMASK, &signals, NULL);
	return NULL;
}

/* A detached thread with all signals blocked, and of ordinary priority, whoever makes it. */
static bool start(void *(*main)(void *))
{
	const struct sched_param ordinary = { .sched_priority = 0 };
	sigset_t all;
	pthread_attr_t attr;
	pthread_t t;
	bool good;

	/* Where there is a filter it would have that, too. Until thread_begins nobody installs one. */
	if (!sandbox_enter())
		return false;
	sigfillset(&all);
	sigdelset(&all, SIGSYS);
	pthread_sigmask(SIG_SETMASK, &all, &signals);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
	pthread_attr_setschedpolicy(&attr, SCHED_OTHER);
	pthread_attr_setschedparam(&attr, &ordinary); /* else glibc takes the caller's */
	good = pthread_create(&t, &attr, main, NULL) == 0;
	if (!good)
		sandbox_leave();
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &signals, NULL);
	return good;
}

static void *reserve_thread(void *arg)
{
	thread_begins("sluice-reserve");
	return reserve_main(arg);
}

static bool wanted(bool threads)
{
	if (options.background == BACKGROUND_AUTO)
		return threads;
	return options.background == BACKGROUND_ALWAYS;
}

void background_init(void)
{
	find_cpus();
	background_start(false);
}

void background_start(bool threads)
{
	uint32_t no = 0;

	if (likely(atomic_load_explicit(&running, memory_order_relaxed)) || !wanted(threads) ||
	    !atomic_compare_exchange_strong_explicit(&running, &no, 1, memory_order_relaxed,
						     memory_order_relaxed))
		return;
	if (!start(background_main)) {
		atomic_store_explicit(&running, 0, memory_order_relaxed);
		return;
	}
	buddy_trim_inline = false;
	if (reserve_wanted())
		start(reserve_thread);
}

void background_fork_child(void)
{
	reserve_fork_child();
	atomic_store_explicit(&running, 0, memory_order_relaxed);
	atomic_store_explicit(&park_word, 0, memory_order_relaxed);
	buddy_trim_inline = true;
}
