/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lock.h - locks whose word holds the TID of the holder.
 *
 * struct lock: take it when it is free, whoever waits; spin briefly; then sleep in the kernel without
 * periodic wake-ups. A real-time thread sleeps with priority inheritance (FUTEX_LOCK_PI) instead, so
 * that it never live-locks behind a preempted holder. Taking a lock can fail: when this thread holds
 * it already (a signal handler interrupted it), when a fork has been holding everything for long, and
 * when the holder does not let go (it died, or left by siglongjmp). Every caller has a way to do
 * without.
 *
 * struct spin: the pcp's lock. It is only ever tried; nobody waits in it, so it needs no kernel.
 */
#ifndef SLUICE_LOCK_H
#define SLUICE_LOCK_H

#include "base/check.h"
#include "base/delay.h"
#include "types.h"

enum lock_rank {
#define LOCKRANK(name, most, text) LOCK_##name,
#include "base/lockrank.def"
#undef LOCKRANK
	LOCK_RANKS
};

struct lock {
	_Atomic uint32_t word;     /* 0, or the holder's TID, with FUTEX_WAITERS by the kernel */
	_Atomic uint32_t sleep;    /* enum lock_sleep; ordinary threads sleep on it */
	_Atomic uint32_t sleepers; /* threads that sleep on it, or are about to */
	_Atomic uint16_t spins;    /* looks at the word that are worth it; inexact */
	uint8_t rank;
	_Atomic uint32_t fork_tid;  /* the thread that took it in lock_fork_prepare, else 0 */
	_Atomic uint64_t contended; /* times the first try failed; statistics, inexact */
	_Atomic uint64_t wait_ns;   /* time spent in waiting; statistics, inexact */
};

enum lock_sleep {
	LOCK_SLEEPERS = 1, /* somebody may sleep: the next release wakes one thread */
	LOCK_STUCK = 2,    /* the holder did not let go for long: nobody waits until it does */
	LOCK_WAKES = 4,    /* the bits from here on count the times that the others were cleared */
};

#define LOCK_INIT(r)                                                                               \
	{                                                                                          \
		.rank = (r)                                                                        \
	}

struct spin {
	_Atomic uint32_t word; /* 0, or the holder's TID */
};

/* Debug: what was handled in the hold of each rank that this thread began last. */
extern _Thread_local uint32_t hold_count[LOCK_RANKS] TLS_FAST;
extern const uint32_t hold_most[LOCK_RANKS];

static inline void hold_begin(enum lock_rank rank)
{
	if (SLUICE_DEBUG)
		hold_count[rank] = 0;
}

/* n more; debug builds stop the program when they are more than lockrank.def allows. */
static inline void hold_step(enum lock_rank rank, uint32_t n)
{
	if (SLUICE_DEBUG) {
		hold_count[rank] += n;
		CHECK(hold_count[rank] <= hold_most[rank]);
	}
}

/* This thread's TID, 0 until asked for. Any value but this thread's own is as good as 0. */
extern _Thread_local uint32_t lock_tid TLS_FAST;
uint32_t lock_tid_slow(void);

/*
 * How many locks (struct lock) this thread holds. A call that begins with some held is a signal
 * handler's: it must not wait for a lock under which those are taken.
 */
extern _Thread_local uint32_t lock_depth TLS_FAST;

/* Whose process this is, and whether a thread of it is no more (false: that cannot be asked, or another
 * process has its number by now). Not even one that is about to leave the kernel. Keeps errno. */
uint32_t lock_process(void);
bool lock_thread_gone(uint32_t tid);

static always_inline uint32_t self_tid(void)
{
	uint32_t tid = lock_tid;

	return likely(tid != 0) ? tid : lock_tid_slow();
}

/*
 * The number of forks that began and ended: odd while one is under way. A wait that meets a fork gives up
 * after LOCK_FORK_WAIT_MS, and from then on nobody waits until this fork is over. See fork.c.
 */
extern _Atomic uint32_t lock_forking;
#define LOCK_FORK_WAIT_MS 10
void lock_fork_begin(void);
void lock_fork_end(void);

static inline bool lock_fork_under_way(void)
{
	return atomic_load_explicit(&lock_forking, memory_order_relaxed) & 1;
}

/*
 * 0; -EDEADLK: this thread holds it; -EAGAIN: a fork holds it, or its holder is gone or did not let go for
 * LOCK_STUCK_MS (LOCK_STUCK_CONTROL_MS for CONTROL, which is held for long by right). May sleep, with errno
 * kept. Safe in a signal handler.
 */
#define LOCK_STUCK_MS 500u
#define LOCK_STUCK_CONTROL_MS 10000u
int lock_acquire(struct lock *l);
bool lock_try(struct lock *l);
void lock_release(struct lock *l);

/*
 * Between two looks at what somebody else has to change, where there is nothing to wait in: a short
 * sleep, so that a thread of the least priority gets the processor. sched_yield would not let it have
 * that from a SCHED_FIFO thread. Keeps errno; no cancellation point.
 */
void lock_pause(void);

/* The TID of the holder; 0: it is free. */
static inline uint32_t lock_holder(struct lock *l)
{
	return atomic_load_explicit(&l->word, memory_order_relaxed) & 0x3fffffffu;
}

static inline bool lock_held(struct lock *l)
{
	return lock_holder(l) == self_tid();
}

/* Nobody waits for its holder any more. */
static inline bool lock_is_stuck(struct lock *l)
{
	return atomic_load_explicit(&l->sleep, memory_order_relaxed) & LOCK_STUCK;
}

/*
 * fork: take it, unless the interrupted call of this thread has it, or it is stuck; let go of it in the
 * parent; in the child, of a fork or of a call that runs no handlers, write its word again (it is never unlocked there: the kernel would look for the
 * parent's TID), to 0, or to the child's own TID if the interrupted call goes on with it, or if nobody can.
 */
void lock_fork_prepare(struct lock *l);
void lock_fork_parent(struct lock *l);
void lock_fork_child(struct lock *l);

/* The child of a fork: the calling thread's TID and the process are other ones. Before lock_fork_child. */
void lock_fork_new_process(void);

/* Debug: lock_acquire stops the program when the order is wrong. Off from the moment that a signal
 * handler allocates while the call it interrupted holds a lock: their ranks cannot be told apart. */
extern _Atomic uint32_t lock_ranks_off;

/* Acquire pairs with the release of spin_unlock. */
static always_inline bool spin_trylock(struct spin *s)
{
	uint32_t free_word = 0;

	if (atomic_load_explicit(&s->word, memory_order_relaxed) != 0 ||
	    !atomic_compare_exchange_strong_explicit(&s->word, &free_word, self_tid(),
						     memory_order_acquire, memory_order_relaxed))
		return false;
	hold_begin(LOCK_PCP);
	DELAY_HELD(LOCK_PCP);
	return true;
}

static always_inline void spin_unlock(struct spin *s)
{
	DCHECK(atomic_load_explicit(&s->word, memory_order_relaxed) == self_tid());
	atomic_store_explicit(&s->word, 0, memory_order_release);
}

#endif
