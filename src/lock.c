/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lock.c - see lock.h. Primitive; used by all layers.
 *
 * (A) A word is 0, or TID of its holder, perhaps with FUTEX_WAITERS set by the kernel.
 * (B) Only the holder makes the word 0, or the kernel on its behalf in FUTEX_UNLOCK_PI.
 * (C) Nobody waits longer than LOCK_FORK_WAIT_MS for a fork that holds the locks (or WAIT_MS, when
 *     the wait began before the fork): the forking thread may itself be waiting, inside libc, for
 *     a stdio lock of a thread that is waiting here. After the first such wait nobody waits.
 * (D) In debug builds a thread takes locks in the order of lockrank.def only, and does no more in one
 *     hold than that says (hold_step).
 *
 * Bound: SPINS looks at the word, then one system call each WAIT_MS until the holder lets go, to whom
 * the kernel lends the waiter's priority; one system call to let go of a lock that others wait for.
 *
 * Allocates nothing; may sleep; may run in a signal handler (then -EDEADLK is what keeps it from
 * waiting for itself).
 * Source: glibc's PI mutexes; Linux Documentation/locking/pi-futex.rst.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "lock.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"

#define SPINS 100
#define WAIT_MS 10 /* a sleep, after which we look whether there is a fork */
#define PAUSE_US 100
#define TID_MASK FUTEX_TID_MASK

_Thread_local uint32_t lock_tid TLS_FAST;
_Atomic uint32_t lock_forking;
_Atomic uint32_t lock_ranks_off;
_Thread_local uint32_t lock_depth TLS_FAST;
static _Thread_local uint32_t ranks_held TLS_FAST; /* debug: a bit for each rank */
_Thread_local uint32_t hold_count[LOCK_RANKS] TLS_FAST;

const uint32_t hold_most[LOCK_RANKS] = {
#define LOCKRANK(name, most, text) most,
#include "lockrank.def"
#undef LOCKRANK
};

uint32_t lock_tid_slow(void)
{
	lock_tid = (uint32_t)syscall(SYS_gettid);
	return lock_tid;
}

static void rank_push(uint8_t rank)
{
	CHECK((ranks_held >> rank) == 0 || lock_ranks_off);
	ranks_held |= 1u << rank;
}

static void rank_pop(uint8_t rank)
{
	ranks_held &= ~(1u << rank);
}

static void rank_reset(void)
{
	ranks_held = 0;
}

/* Acquire pairs with the release in lock_release (and with the kernel's own barriers). */
static bool take(struct lock *l, uint32_t tid)
{
	uint32_t free_word = 0;

	return atomic_compare_exchange_strong_explicit(&l->word, &free_word, tid,
						       memory_order_acquire, memory_order_relaxed);
}

static uint32_t forking(void)
{
	return atomic_load_explicit(&lock_forking, memory_order_relaxed);
}

/*
 * One bounded sleep. 0: the kernel gave us the lock. FUTEX_LOCK_PI counts its timeout on
 * CLOCK_REALTIME. Where the kernel (or a sandbox) has no PI futex we sleep and try again.
 */
static int wait_for(struct lock *l, uint32_t tid)
{
	struct timespec ts;

	DELAY_HERE(lock_sleep);
	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_nsec += (forking() ? LOCK_FORK_WAIT_MS : WAIT_MS) * 1000000L;
	if (ts.tv_nsec >= 1000000000L) {
		ts.tv_sec++;
		ts.tv_nsec -= 1000000000L;
	}
	if (syscall(SYS_futex, &l->word, FUTEX_LOCK_PI | FUTEX_PRIVATE_FLAG, 0, &ts, NULL, 0) ==
	    0) {
		/* The kernel wrote the word. Acquire pairs with the release in lock_release that
		 * came before its call. */
		(void)atomic_load_explicit(&l->word, memory_order_acquire);
		return 0;
	}
	if (errno == ETIMEDOUT || errno == EINTR || errno == EAGAIN)
		return take(l, tid) ? 0 : -errno;
	if (errno == EDEADLK)
		return -EDEADLK;
	lock_pause();
	return take(l, tid) ? 0 : -ETIMEDOUT;
}

static noinline int acquire_slow(struct lock *l, uint32_t tid)
{
	int saved = errno;
	uint64_t start = clock_ns();
	int err = -EAGAIN;

	if ((atomic_load_explicit(&l->word, memory_order_relaxed) & TID_MASK) == tid)
		return -EDEADLK;
	for (unsigned i = 0; i < SPINS; i++) {
		cpu_relax();
		if (atomic_load_explicit(&l->word, memory_order_relaxed) == 0 && take(l, tid)) {
			err = 0;
			goto out;
		}
	}
	while (forking() != LOCK_FORK_STUCK) {
		bool in_fork = forking() == LOCK_FORKING;

		err = wait_for(l, tid);
		if (err == 0 || err == -EDEADLK)
			break;
		err = -EAGAIN;
		if (in_fork && forking() == LOCK_FORKING)
			atomic_store_explicit(&lock_forking, LOCK_FORK_STUCK, memory_order_relaxed);
	}
out:
	atomic_fetch_add_explicit(&l->contended, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&l->wait_ns, clock_ns() - start, memory_order_relaxed);
	errno = saved;
	return err;
}

int lock_acquire(struct lock *l)
{
	uint32_t tid = self_tid();

	if (unlikely(!take(l, tid))) {
		int err = acquire_slow(l, tid);

		if (err)
			return err;
	}
	lock_depth++;
	if (SLUICE_DEBUG)
		rank_push(l->rank);
	hold_begin((enum lock_rank)l->rank);
	DELAY_HELD(l->rank);
	return 0;
}

bool lock_try(struct lock *l)
{
	if (!take(l, self_tid()))
		return false;
	lock_depth++;
	hold_begin((enum lock_rank)l->rank);
	DELAY_HELD(l->rank);
	return true;
}

void lock_release(struct lock *l)
{
	uint32_t tid = self_tid();
	uint32_t mine = tid;

	DCHECK(lock_held(l));
	lock_depth--;
	if (SLUICE_DEBUG)
		rank_pop(l->rank);
	/* Release pairs with the acquire in take. */
	if (likely(atomic_compare_exchange_strong_explicit(&l->word, &mine, 0, memory_order_release,
							   memory_order_relaxed)))
		return;
	int saved = errno;

	DELAY_HERE(lock_wake);
	/* There is a waiter; the kernel gives it the lock. Changes nothing but the order. */
	atomic_fetch_or_explicit(&l->word, 0, memory_order_release);
	syscall(SYS_futex, &l->word, FUTEX_UNLOCK_PI | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, 0);
	errno = saved;
}

void lock_pause_us(uint32_t us)
{
	const struct timespec ts = { us / 1000000, (long)(us % 1000000) * 1000 };
	int saved = errno;

	syscall(SYS_nanosleep, &ts, NULL);
	errno = saved;
}

void lock_pause(void)
{
	lock_pause_us(PAUSE_US);
}

void lock_fork_begin(void)
{
	atomic_store_explicit(&lock_forking, LOCK_FORKING, memory_order_relaxed);
}

void lock_fork_end(void)
{
	atomic_store_explicit(&lock_forking, 0, memory_order_relaxed);
}

void lock_fork_prepare(struct lock *l)
{
	int err;

	/* The holder may be a call that is itself about to give up on us. */
	while ((err = lock_acquire(l)) == -EAGAIN)
		lock_pause();
	l->fork_held = err == 0;
	rank_reset(); /* locks of one rank are held together here */
}

void lock_fork_parent(struct lock *l)
{
	if (l->fork_held)
		lock_release(l);
}

void lock_fork_child(struct lock *l)
{
	lock_depth -= l->fork_held;
	atomic_store_explicit(&l->word, l->fork_held ? 0 : self_tid(), memory_order_relaxed);
}
