/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lock.h - locks whose word holds the TID of the holder.
 *
 * struct lock: a free lock is taken at once, even if others wait. Otherwise a thread spins briefly,
 * then sleeps in the kernel without periodic wake-ups. A real-time thread sleeps with priority
 * inheritance (FUTEX_LOCK_PI) instead, so that it cannot livelock behind a preempted holder. Taking
 * a lock fails if this thread holds it already (a signal handler interrupted the holder), if a fork
 * holds everything for long, or if the holder does not release it (it died, or left by
 * siglongjmp). It is only tried if this thread holds a lock of the same or a later rank. Each
 * caller can do without the lock.
 *
 * struct spin: the lock of a pcp. It is only ever tried; no thread waits in it, so it needs no
 * kernel.
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
	_Atomic uint32_t word;      /* 0 or the holder's TID; the kernel may add FUTEX_WAITERS */
	_Atomic uint32_t sleep;     /* enum lock_sleep; ordinary threads sleep on it */
	_Atomic uint32_t sleepers;  /* threads that sleep on it or are about to */
	_Atomic uint16_t spins;     /* adaptive limit of the spin loop; inexact */
	_Atomic uint8_t rank;       /* enum lock_rank; does not change once the lock is in use */
	_Atomic uint32_t fork_tid;  /* thread that took it in lock_fork_prepare, else 0 */
	uint32_t frame;             /* guarded by the lock: stack frame of the holder, or 0 */
	_Atomic uint64_t contended; /* times the first try failed; statistics, inexact */
	_Atomic uint64_t wait_ns;   /* time spent waiting; statistics, inexact */
};

enum lock_sleep {
	LOCK_SLEEPERS = 1, /* a thread may sleep: the next release wakes one */
	LOCK_STUCK = 2,    /* the holder holds it for too long: no thread waits until it releases */
	LOCK_WAKES = 4,    /* from this bit on: how often the other bits were cleared */
};

#define LOCK_INIT(r)                                                                               \
	{                                                                                          \
		.rank = (r)                                                                        \
	}

struct spin {
	_Atomic uint32_t word; /* 0, or the holder's TID */
};

/* Debug: what this thread has processed in its current hold of each rank. */
extern _Thread_local uint32_t hold_count[LOCK_RANKS] TLS_FAST;
extern const uint32_t hold_most[LOCK_RANKS];

static inline void hold_begin(enum lock_rank rank)
{
	if (SLUICE_DEBUG)
		hold_count[rank] = 0;
}

/* Counts n more; debug builds stop the program above the bound of lockrank.def. */
static inline void hold_step(enum lock_rank rank, uint32_t n)
{
	if (SLUICE_DEBUG) {
		hold_count[rank] += n;
		CHECK(hold_count[rank] <= hold_most[rank]);
	}
}

/* TID of this thread, or 0 if not known yet. */
extern _Thread_local uint32_t lock_tid TLS_FAST;
uint32_t lock_tid_slow(void);

/*
 * How many locks (struct lock) this thread holds or is about to take: one byte for each rank, later
 * ranks higher. A call that begins with locks held runs in a signal handler, or in a fork.
 */
extern _Thread_local uint64_t lock_holds TLS_FAST;
_Static_assert(LOCK_RANKS <= sizeof(uint64_t), "a byte for each rank");

/* For a lock that has no initializer, before its first use. */
static inline void lock_init(struct lock *l, enum lock_rank rank)
{
	atomic_store_explicit(&l->rank, rank, memory_order_relaxed);
}

static always_inline enum lock_rank lock_rank_of(const struct lock *l)
{
	return (enum lock_rank)atomic_load_explicit(&l->rank, memory_order_relaxed);
}

static always_inline uint64_t lock_one(const struct lock *l)
{
	return UINT64_C(1) << 8 * lock_rank_of(l);
}

/*
 * Whether this thread holds a lock of the same or a later rank. Outside of a fork that is so only
 * in a signal handler that interrupted a holder. Then lock_acquire does not wait: the holder may
 * wait for the lock that is held here.
 */
static always_inline bool lock_reached_by(const struct lock *l, uint64_t holds)
{
	return holds >= lock_one(l);
}

static always_inline bool lock_only_tried(const struct lock *l)
{
	return lock_reached_by(l, lock_holds);
}

/* Debug: to be called where a call of the program begins. If it runs in a signal handler that
 * interrupted a holder, the order is no longer checked, because the ranks of the two calls cannot
 * be told apart. */
void lock_check_handler(void);

static always_inline void lock_call_begins(void)
{
	if (SLUICE_DEBUG)
		lock_check_handler();
}

/* The process, and whether a thread of it has ended and left the kernel. Returns false if the
 * kernel cannot be asked, or if another process has the number now. Keeps errno. */
uint32_t lock_process(void);
bool lock_thread_gone(uint32_t tid);

static always_inline uint32_t self_tid(void)
{
	uint32_t tid = lock_tid;

	return likely(tid != 0) ? tid : lock_tid_slow();
}

/*
 * How many forks have begun plus how many have ended: odd during a fork. A wait during a fork gives
 * up after LOCK_FORK_WAIT_MS; later waits give up at once until that fork is over. See fork.c.
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
 * Returns 0, or -EDEADLK if this thread holds the lock, or -EAGAIN if a fork holds it, or if its
 * holder is dead or has held it for LOCK_STUCK_MS (LOCK_STUCK_CONTROL_MS for CONTROL, which may be
 * held longer), or -EBUSY if another thread holds it and it is only tried. May sleep. Keeps errno.
 * Safe in a signal handler.
 */
#define LOCK_STUCK_MS 500u
#define LOCK_STUCK_CONTROL_MS 10000u
int lock_acquire(struct lock *l);
bool lock_try(struct lock *l);
void lock_release(struct lock *l);

/*
 * Between two holds of a lock by one call: if other threads sleep for the lock, waits until one of
 * them has it, ns at most. Otherwise the next hold would begin before the thread that was woken
 * runs, again and again. Keeps errno; no cancellation point.
 */
void lock_give_way(struct lock *l, uint64_t ns);

/*
 * A short sleep between two loads of a word that another thread will change, if there is no lock or
 * futex to wait for. Unlike sched_yield in a SCHED_FIFO thread, it lets a thread of any priority
 * run. Keeps errno; no cancellation point.
 */
void lock_pause(void);

/* TID of the holder, or 0 if the lock is free. */
static inline uint32_t lock_holder(struct lock *l)
{
	return atomic_load_explicit(&l->word, memory_order_relaxed) & 0x3fffffffu;
}

static inline bool lock_held(struct lock *l)
{
	return lock_holder(l) == self_tid();
}

/* Whether no thread waits for its holder any more. */
static inline bool lock_is_stuck(struct lock *l)
{
	return atomic_load_explicit(&l->sleep, memory_order_relaxed) & LOCK_STUCK;
}

/*
 * For fork. prepare takes the lock, unless the call that this thread interrupted holds it, or it is
 * stuck. parent releases it. child, of a fork or of a clone without handlers, rewrites the word: to
 * 0, or to the TID of the child if the interrupted call still holds it or no thread can ever
 * release it. The child must not unlock it: the kernel would look for the TID of the parent.
 */
void lock_fork_prepare(struct lock *l);
void lock_fork_parent(struct lock *l);
void lock_fork_child(struct lock *l);

/* In the child of a fork, before lock_fork_child: the TID and the process are new. holder: the TID
 * by which this thread took locks in the parent. */
void lock_fork_new_process(uint32_t holder);

/* Debug: whether lock_acquire no longer checks the order; see lock_call_begins. */
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
