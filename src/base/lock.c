/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lock.c - see lock.h. Primitive; used by all layers.
 *
 * (A) A word is 0, or the TID of its holder, perhaps with FUTEX_WAITERS set by the kernel.
 * (B) Only the holder sets the word to 0, or the kernel on its behalf in FUTEX_UNLOCK_PI.
 * (C) A lock is not handed off to an ordinary thread: the first thread that finds it free takes it.
 *     A release wakes one sleeper, and none more until that one has run (it clears LOCK_SLEEPERS).
 * (D) A thread that stops waiting for a lock, with it or without, sets LOCK_SLEEPERS again while
 *     others sleep. So a free lock with a sleeper always has LOCK_SLEEPERS set, or a woken thread
 *     on its way. (t/model/lock.pml)
 * (E) No wait is endless. A wait for a fork ends after LOCK_FORK_WAIT_MS: the forking thread may
 *     itself wait, inside libc, for a stdio lock of a thread that waits here. Once one wait ended
 *     so, no other call waits or spins for that fork. If any other holder is dead, or alive and
 *     keeps the lock in one hold for LOCK_STUCK_MS, the lock becomes stuck (LOCK_STUCK): no thread
 *     waits for it, and each call does without, until it is released after all. It is so at once
 *     if the holder asks for it again after the call that took it was left (look_left).
 * (F) A thread waits for a lock only if all locks that it holds, those of the calls that its signal
 *     handlers interrupted included, are of earlier ranks. So no two threads wait for each other. A
 *     fork in a handler waits for each other lock for LOCK_FORK_WAIT_MS at most.
 * (G) In debug builds a thread takes locks only in the order of lockrank.def, and does no more in
 *     one hold than lockrank.def allows (hold_step).
 *
 * A child of vfork shares the memory and the TLS of the thread that waits for it, so it takes locks
 * by the TID of that thread. The kernel refuses its FUTEX_UNLOCK_PI; then the word is set to 0
 * here.
 *
 * Pairing: the release CAS of the word pairs with the acquire CAS in take, for what the lock
 * guards. For sleeping, a waiter stores LOCK_SLEEPERS and then loads the word; a release stores the
 * word and then loads LOCK_SLEEPERS. All four are sequentially consistent, so one of them sees the
 * other.
 *
 * Bound: SPINS_MAX loads of the word, then one sleep each time that another thread takes the
 * released lock first, and one each LOCK_STUCK_MS. A release makes one system call if a thread
 * sleeps.
 *
 * Allocates nothing; may sleep; may run in a signal handler (-EDEADLK keeps it from waiting for the
 * thread that it interrupted, -EBUSY from waiting for one that waits for that thread).
 * Source: the two-word sleep of eventcounts; barging and one wake-up at a time as in WTF::Lock
 * (Pizlo 2016); adaptive spinning after glibc's; Linux Documentation/locking/pi-futex.rst.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "base/lock.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/atomics.h"
#include "base/clock.h"
#include "base/park.h"
#include "base/probe.h"
#include "base/sandbox.h"
#include "base/stats.h"
#include "base/sys.h"

#define SPINS_MAX 500u /* about what a sleep and a wake-up cost */
#define SPINS_MIN 10u
#define SPIN_PROBE 16u
#define RT_WAIT_MS 20u /* one sleep of a real-time thread, between two checks of the holder */
#define PAUSE_US 100
#define FRAME_NEAR 512u      /* bytes of stack; a signal takes 1 KiB or more */
#define FRAME_FAR (8u << 20) /* what is farther away is another stack */
_Static_assert(FUTEX_TID_MASK == 0x3fffffff, "as lock_holder says");

_Thread_local uint32_t lock_tid TLS_FAST;
_Atomic uint32_t lock_forking;
static _Atomic uint32_t fork_in_vain; /* value of lock_forking during which a wait timed out */
static _Atomic int32_t process;       /* ours; a child of vfork keeps that of its parent */
_Atomic uint32_t lock_ranks_off;
_Thread_local uint64_t lock_holds TLS_FAST;
static _Thread_local uint64_t fork_holds TLS_FAST; /* those of lock_holds that a fork took */
_Thread_local uint32_t hold_count[LOCK_RANKS] TLS_FAST;

const uint32_t hold_most[LOCK_RANKS] = {
#define LOCKRANK(name, most, text) most,
#include "base/lockrank.def"
#undef LOCKRANK
};

/*
 * The TID that libc knows, without a system call: the id of a thread's CPU clock contains it
 * (posix-timers.h of the kernel). Wrong in a thread made by a raw clone, whose TLS is empty or that
 * of another thread.
 */
static uint32_t tid_of_libc(void)
{
	clockid_t clock;

	CHECK(pthread_getcpuclockid(pthread_self(), &clock) == 0);
	return ~(uint32_t)(clock >> 3) & FUTEX_TID_MASK;
}

/* In a sandbox. A child of vfork has the TLS and so the TID of its parent; any other child comes
 * here by a fork. */
static uint32_t tid_in_sandbox(void)
{
	uint32_t tid = tid_of_libc();

	if (!atomic_load_explicit(&process, memory_order_relaxed))
		atomic_store_explicit(&process, (int32_t)tid, memory_order_relaxed);
	lock_tid = tid;
	return tid;
}

uint32_t lock_tid_slow(void)
{
	int32_t none = 0;
	uint32_t tid;
	int32_t pid;

	if (!sandbox_enter())
		return tid_in_sandbox();
	tid = (uint32_t)sys_gettid();
	pid = (int32_t)sys_getpid();
	sandbox_leave();
	if ((int32_t)tid < 0 || pid < 0) /* refused by a filter that the library does not know */
		return tid_in_sandbox();

	if (!atomic_load_explicit(&process, memory_order_relaxed))
		atomic_compare_exchange_strong_explicit(&process, &none, pid, memory_order_relaxed,
							memory_order_relaxed);
	/* Not in a child of vfork: its parent goes on to use the same TLS. */
	if (atomic_load_explicit(&process, memory_order_relaxed) == pid)
		lock_tid = tid;
	return tid;
}

/* The locks of this thread that are not its fork's. */
static uint64_t holds_of_calls(void)
{
	return lock_holds - fork_holds;
}

void lock_check_handler(void)
{
	if (holds_of_calls())
		atomic_store_explicit(&lock_ranks_off, 1, memory_order_relaxed);
}

/* The lock was just taken. */
static void check_order(const struct lock *l)
{
	CHECK(holds_of_calls() < 2 * lock_one(l) || lock_ranks_off);
}

/* Acquire pairs with the release in lock_release. Sequentially consistent because it is the last
 * load of the word by a waiter. */
static bool take(struct lock *l, uint32_t tid)
{
	uint32_t free_word = 0;

	return atomic_compare_exchange_strong_explicit(&l->word, &free_word, tid,
						       memory_order_seq_cst, memory_order_relaxed);
}

static uint32_t word_of(struct lock *l)
{
	return atomic_load_explicit(&l->word, memory_order_seq_cst);
}

static uint32_t forking(void)
{
	return atomic_load_explicit(&lock_forking, memory_order_relaxed);
}

static uint32_t sleep_flags(struct lock *l)
{
	return atomic_load_explicit(&l->sleep, memory_order_seq_cst) & (LOCK_WAKES - 1);
}

static void sleep_mark(struct lock *l)
{
	atomic_fetch_or_explicit(&l->sleep, LOCK_SLEEPERS, memory_order_seq_cst);
}

static void wake(struct lock *l, int n)
{
	sluice_syscall(SYS_futex, &l->sleep, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, n, NULL, NULL, 0);
}

/* ---- waiting ------------------------------------------------------------------------------- */

struct wait {
	uint32_t tid;
	uint32_t holder;   /* when the wait for this hold began */
	uint32_t wakes;    /* the count of wake-ups then */
	uint64_t since_ns; /* time of that */
	uint64_t end_ns;   /* when it ends at the latest; 0: no limit */
	bool forker;       /* it waits on behalf of a fork, so a fork does not shorten it */
	bool realtime;
};

/*
 * Spins twice as long as was recently enough, and shorter after each failure. One wait in
 * SPIN_PROBE spins to the maximum: otherwise a lock whose holds become a little longer would never
 * be spun for again.
 */
static bool spin(struct lock *l, uint32_t tid)
{
	unsigned usual = atomic_load_explicit(&l->spins, memory_order_relaxed);
	unsigned most = usual < SPINS_MIN ? SPINS_MIN : usual;
	bool got = false;
	unsigned n;

	if (atomic_load_explicit(&l->contended, memory_order_relaxed) % SPIN_PROBE == 0)
		most = SPINS_MAX;
	for (n = 0; n < most && !got; n++) {
		cpu_relax();
		got = atomic_load_explicit(&l->word, memory_order_relaxed) == 0 && take(l, tid);
	}
	if (!got)
		usual -= usual / 8;
	else if (2 * n > usual)
		usual = 2 * n < SPINS_MAX ? 2 * n : SPINS_MAX;
	else
		usual -= (usual - 2 * n) / 8;
	/* A benign race: it is a hint. */
	atomic_store_explicit(&l->spins, (uint16_t)usual, memory_order_relaxed);
	return got;
}

/* Whether this thread waits with priority inheritance. Other threads have no priority to lend. */
static bool is_realtime(void)
{
	long policy;

	if (!sandbox_enter())
		return false;
	policy = sluice_syscall(SYS_sched_getscheduler, 0);
	sandbox_leave();
	policy &= ~(long)SCHED_RESET_ON_FORK;
	return policy == SCHED_FIFO || policy == SCHED_RR || policy == 6 /* SCHED_DEADLINE */;
}

uint32_t lock_process(void)
{
	return (uint32_t)atomic_load_explicit(&process, memory_order_relaxed);
}

/* By TID alone, not tgkill: a process made by clone with our memory is another process to the
 * kernel. */
bool lock_thread_gone(uint32_t tid)
{
	int saved = errno;
	bool gone;

	if (!sandbox_enter())
		return false;
	gone = sluice_syscall(SYS_tkill, tid, 0) != 0 && errno == ESRCH;
	sandbox_leave();
	/* Orders all that the thread did before this; the answer of the kernel is no acquire. */
	if (gone)
		atomic_thread_fence(memory_order_seq_cst);
	errno = saved;
	return gone;
}

static uint64_t patience_ns(const struct lock *l)
{
	return (lock_rank_of(l) == LOCK_CONTROL ? LOCK_STUCK_CONTROL_MS : LOCK_STUCK_MS) *
	       UINT64_C(1000000);
}

/* How many wake-ups there were. */
static uint32_t wakes_of(struct lock *l)
{
	return atomic_load_explicit(&l->sleep, memory_order_relaxed) / LOCK_WAKES;
}

/* Called after a sleep. Returns true if waiting for this holder is pointless. A release during the
 * sleep counted a wake-up, because the flag for sleepers was set: a thread that takes the lock
 * again and again does not keep it. */
static bool is_stuck(struct lock *l, struct wait *w)
{
	uint32_t holder = lock_holder(l);
	uint32_t wakes = wakes_of(l);

	if (holder != w->holder || wakes != w->wakes) {
		w->holder = holder;
		w->wakes = wakes;
		w->since_ns = clock_ns();
		return false;
	}
	return holder && (clock_ns() - w->since_ns >= patience_ns(l) || lock_thread_gone(holder));
}

/* Ends all waits. A release at the same time may have seen neither the flag nor the waiters. */
static void say_stuck(struct lock *l)
{
	DELAY_HERE(lock_stuck);
	atomic_fetch_or_explicit(&l->sleep, LOCK_STUCK, memory_order_seq_cst);
	if (word_of(l) == 0)
		atomic_fetch_and_explicit(&l->sleep, ~(uint32_t)LOCK_STUCK, memory_order_relaxed);
	wake(l, INT_MAX);
}

static struct timespec in_ms(clockid_t clock, unsigned ms)
{
	struct timespec ts = { 0, 0 };

	if (clock != CLOCK_MONOTONIC) /* FUTEX_WAIT takes an interval */
		clock_get(clock, &ts);
	ts.tv_sec += (time_t)(ms / 1000);
	ts.tv_nsec += (long)(ms % 1000) * 1000000L;
	if (ts.tv_nsec >= 1000000000L) {
		ts.tv_sec++;
		ts.tv_nsec -= 1000000000L;
	}
	return ts;
}

/*
 * One sleep of a real-time thread. FUTEX_LOCK_PI counts its timeout on CLOCK_REALTIME. After any
 * error except a timeout (the holder has ended or is a child of vfork, or the kernel has no PI
 * futexes) it sleeps briefly instead.
 */
static bool sleep_realtime(struct lock *l)
{
	struct timespec ts = in_ms(CLOCK_REALTIME, RT_WAIT_MS);

	if (sluice_syscall(SYS_futex, &l->word, FUTEX_LOCK_PI | FUTEX_PRIVATE_FLAG, 0, &ts, NULL,
			   0) == 0) {
		/* The kernel wrote the word. Acquire pairs with the release in release_pi. */
		(void)atomic_load_explicit(&l->word, memory_order_acquire);
		return true;
	}
	if (errno != ETIMEDOUT && errno != EINTR && errno != EAGAIN)
		lock_pause();
	return false;
}

/* One sleep of an ordinary thread, unless the lock is free by now. */
static void sleep_ordinary(struct lock *l, unsigned ms)
{
	struct timespec ts = in_ms(CLOCK_MONOTONIC, ms);
	uint32_t seen;

	seen = atomic_fetch_or_explicit(&l->sleep, LOCK_SLEEPERS, memory_order_seq_cst) |
	       LOCK_SLEEPERS;
	DELAY_HERE(lock_marked);
	if (word_of(l) == 0 || (seen & LOCK_STUCK))
		return;
	if (sluice_syscall(SYS_futex, &l->sleep, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, seen, &ts, NULL,
			   0) != 0 &&
	    errno == ETIMEDOUT)
		stat_add(STAT_lock_timeouts, 1);
}

/* The number of the fork that is under way, or 0 if none concerns this wait. */
static uint32_t fork_met(const struct wait *w)
{
	uint32_t fork = forking();

	return !w->forker && (fork & 1) ? fork : 0;
}

/* A wait for the fork that is under way was in vain, so no other thread waits for it. */
static bool fork_met_in_vain(const struct wait *w)
{
	uint32_t fork = fork_met(w);

	return fork && atomic_load_explicit(&fork_in_vain, memory_order_relaxed) == fork;
}

/* Sleeps until it has the lock, or until waiting is pointless. */
static int wait_for(struct lock *l, struct wait *w)
{
	for (;;) {
		uint32_t fork = fork_met(w);
		bool brief = fork || w->end_ns;

		if (take(l, w->tid))
			return 0;
		if (lock_is_stuck(l) || fork_met_in_vain(w))
			return -EAGAIN;
		DELAY_HERE(lock_sleep);
		if (w->realtime) {
			if (sleep_realtime(l))
				return 0;
		} else {
			sleep_ordinary(l, brief ? LOCK_FORK_WAIT_MS : LOCK_STUCK_MS);
		}
		if (take(l, w->tid))
			return 0;
		if (w->end_ns && clock_ns() >= w->end_ns)
			return -EBUSY;
		if (fork && forking() == fork) {
			if (clock_ns() - w->since_ns >= LOCK_FORK_WAIT_MS * UINT64_C(1000000))
				atomic_store_explicit(&fork_in_vain, fork, memory_order_relaxed);
		} else if (is_stuck(l, w)) {
			say_stuck(l);
		}
	}
}

static uint32_t fork_tid(struct lock *l)
{
	return atomic_load_explicit(&l->fork_tid, memory_order_relaxed);
}

/*
 * This thread holds the lock that it asks for, and `frame` is that of lock_acquire or lock_try now.
 * A handler of a signal runs below the frames of the call that it interrupted. So if the hold began
 * in a frame that is not above this one, that call was left by siglongjmp and never releases the
 * lock: then nobody has to wait LOCK_STUCK_MS to see it. On a stack of its own, not far above, a
 * handler may be taken for such a call. Then others do without the lock until the interrupted call
 * releases it.
 *
 * No frame is known (0) while the lock is being taken or released, and that of lock_fork_prepare
 * says nothing: other fork handlers of this thread run beside it, not below.
 */
static noinline void look_left(struct lock *l, uint32_t frame)
{
	uint32_t above = frame - l->frame + FRAME_NEAR;
	int saved = errno;

	if (l->frame && !fork_tid(l) && above - 1 < FRAME_FAR && !lock_is_stuck(l))
		say_stuck(l);
	errno = saved;
}

/* (F). lock_holds counts the lock already. */
static bool may_wait(const struct lock *l, bool forker)
{
	return !lock_reached_by(l, (forker ? holds_of_calls() : lock_holds) - lock_one(l));
}

static noinline int acquire_slow(struct lock *l, uint32_t tid, bool forker, uint32_t frame)
{
	struct wait w = { .tid = tid, .forker = forker };
	bool patient = may_wait(l, forker);
	int saved = errno;
	int err = 0;
	uint64_t waited;
	uint64_t start;

	w.holder = lock_holder(l);
	w.wakes = wakes_of(l);
	if (w.holder == tid) {
		look_left(l, frame);
		return -EDEADLK;
	}
	/* Not even spinning: each call of a thousand threads may come here while the forking thread
	 * waits for a processor. */
	if (lock_is_stuck(l) || fork_met_in_vain(&w))
		return take(l, tid) ? 0 : -EAGAIN;
	if (!patient && !forker)
		return -EBUSY;
	start = w.since_ns = clock_ns();
	if (!patient)
		w.end_ns = start + LOCK_FORK_WAIT_MS * UINT64_C(1000000);
	if (!spin(l, tid)) {
		w.realtime = is_realtime();
		atomic_fetch_add_explicit(&l->sleepers, 1, memory_order_seq_cst);
		err = wait_for(l, &w);
		/* (D): a release may have woken this thread. */
		if (atomic_fetch_sub_explicit(&l->sleepers, 1, memory_order_seq_cst) > 1) {
			sleep_mark(l);
			if (err && word_of(l) == 0)
				wake(l, 1);
		}
	}
	waited = clock_ns() - start;
	PROBE2(lock_wait, lock_rank_of(l), waited);
	atomic_fetch_add_explicit(&l->contended, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&l->wait_ns, waited, memory_order_relaxed);
	errno = saved;
	return err;
}

/* lock_holds is raised before the lock is taken and lowered after its release, so that a handler in
 * between does not find a thread without locks. */
static always_inline int acquire(struct lock *l, bool forker)
{
	uint32_t frame = (uint32_t)(uintptr_t)__builtin_frame_address(0);
	uint32_t tid = self_tid();

	lock_holds += lock_one(l);
	atomic_signal_fence(memory_order_seq_cst);
	if (unlikely(!take(l, tid))) {
		int err = acquire_slow(l, tid, forker, frame);

		if (err) {
			lock_holds -= lock_one(l);
			return err;
		}
	}
	l->frame = frame;
	/* A handler may fork while the call that it interrupted holds a lock of a later rank. */
	if (SLUICE_DEBUG && !forker)
		check_order(l);
	hold_begin(lock_rank_of(l));
	DELAY_HELD(lock_rank_of(l));
	return 0;
}

int lock_acquire(struct lock *l)
{
	return acquire(l, false);
}

bool lock_try(struct lock *l)
{
	uint32_t frame = (uint32_t)(uintptr_t)__builtin_frame_address(0);

	lock_holds += lock_one(l);
	atomic_signal_fence(memory_order_seq_cst);
	if (!take(l, self_tid())) {
		lock_holds -= lock_one(l);
		if (unlikely(lock_held(l)))
			look_left(l, frame);
		return false;
	}
	l->frame = frame;
	hold_begin(lock_rank_of(l));
	DELAY_HELD(lock_rank_of(l));
	return true;
}

/* A real-time thread waits; the kernel hands it the lock. */
static noinline void release_pi(struct lock *l)
{
	/* Changes only the order: release pairs with the acquire in sleep_realtime. */
	atomic_fetch_or_explicit(&l->word, 0, memory_order_release);
	if (sluice_syscall(SYS_futex, &l->word, FUTEX_UNLOCK_PI | FUTEX_PRIVATE_FLAG, 0, NULL, NULL,
			   0) == 0)
		return;
	/* The kernel refuses in a child of vfork. Waiters in the kernel time out and check the
	 * word. */
	atomic_store_explicit(&l->word, 0, memory_order_seq_cst);
}

static noinline void release_slow(struct lock *l, bool pi)
{
	uint32_t seen;
	int saved = errno;

	DELAY_HERE(lock_wake);
	if (pi)
		release_pi(l);
	seen = atomic_load_explicit(&l->sleep, memory_order_seq_cst);
	/* The count keeps a waiter that set the flag before this from falling asleep on the same
	 * flag, set after this by a waiter that has given up. */
	while (!atomic_compare_exchange_weak_explicit(&l->sleep, &seen,
						      (seen | (LOCK_WAKES - 1)) + 1,
						      memory_order_seq_cst, memory_order_relaxed))
		;
	if (seen & LOCK_SLEEPERS)
		wake(l, 1);
	errno = saved;
}

void lock_release(struct lock *l)
{
	uint32_t mine = self_tid();
	bool pi;

	DCHECK(lock_held(l));
	l->frame = 0;
	/* Release pairs with the acquire in take. */
	pi = !atomic_compare_exchange_strong_explicit(&l->word, &mine, 0, memory_order_seq_cst,
						      memory_order_relaxed);
	if (unlikely(pi || sleep_flags(l)))
		release_slow(l, pi);
	atomic_signal_fence(memory_order_seq_cst);
	lock_holds -= lock_one(l);
	/* If this was a handler's, the interrupted hold of this rank starts counting again. */
	hold_begin(lock_rank_of(l));
}

/* A free lock with sleepers has a woken thread on its way, (D). One that takes it and releases it
 * between two of these loads was not kept from it either. */
void lock_give_way(struct lock *l, uint64_t ns)
{
	uint64_t end = 0;

	while (atomic_load_explicit(&l->sleepers, memory_order_relaxed) && !lock_holder(l)) {
		uint64_t now = clock_ns();

		if (!end)
			end = now + ns;
		if (now >= end)
			return;
		lock_pause();
	}
}

void lock_pause(void)
{
	park_sleep_us(PAUSE_US);
}

/* ---- fork ---------------------------------------------------------------------------------- */

/* Makes it odd and a new number, even if the last fork did not end. */
void lock_fork_begin(void)
{
	/* Pairs with the load in take_back (claim.c). */
	atomic_store_explicit(&lock_forking, (forking() + 1) | 1, memory_order_seq_cst);
}

void lock_fork_end(void)
{
	/* Release pairs with the acquire in take_back: a heap is used again. */
	atomic_store_explicit(&lock_forking, (forking() | 1) + 1, memory_order_release);
}

static uint32_t parent_tid; /* in a child: TID of the thread that made it */

void lock_fork_new_process(uint32_t holder)
{
	parent_tid = holder;
	lock_tid = 0;
	fork_holds = 0;
	atomic_store_explicit(&process, 0, memory_order_relaxed);
	(void)self_tid();
}

void lock_fork_prepare(struct lock *l)
{
	int saved = errno;

	/* Only the holder writes it: if acquire fails, another fork may hold the lock. */
	if (acquire(l, true) == 0) {
		atomic_store_explicit(&l->fork_tid, self_tid(), memory_order_relaxed);
		fork_holds += lock_one(l);
	}
	/* Threads that slept before the fork began now limit their wait to LOCK_FORK_WAIT_MS. */
	if (atomic_load_explicit(&l->sleepers, memory_order_seq_cst))
		wake(l, INT_MAX);
	errno = saved;
}

void lock_fork_parent(struct lock *l)
{
	if (fork_tid(l) != self_tid())
		return;
	atomic_store_explicit(&l->fork_tid, 0, memory_order_relaxed);
	fork_holds -= lock_one(l);
	lock_release(l);
}

void lock_fork_child(struct lock *l)
{
	uint32_t forker = fork_tid(l);
	bool whole = forker || atomic_load_explicit(&l->word, memory_order_relaxed) == 0;

	/* A write would cost the child a copy of the page. */
	if (whole && !forker && !atomic_load_explicit(&l->sleepers, memory_order_relaxed))
		return;
	if (forker && forker == parent_tid)
		lock_holds -= lock_one(l);
	if (whole)
		l->frame = 0;
	atomic_store_explicit(&l->word, whole ? 0 : self_tid(), memory_order_relaxed);
	atomic_store_explicit(&l->sleep, 0, memory_order_relaxed);
	atomic_store_explicit(&l->sleepers, 0, memory_order_relaxed);
	atomic_store_explicit(&l->fork_tid, 0, memory_order_relaxed);
}
