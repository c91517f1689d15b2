/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The locks: exclusion, waiting in the kernel with priority inheritance, and when a waiter gives
 * up.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/child.h"
#include "base/atomics.h"
#include "base/lock.h"
#include "lib/realtime.h"
#include "base/stats.h"
#include "lib/tap.h"

#define THREADS 4u
#define TURNS 50000u
#define PATIENCE_MS 60000u /* time limit for what will happen */

static struct lock lock = LOCK_INIT(LOCK_CONTROL); /* a waiter gives up after 10 s, not 0.5 s */
static struct spin spin;
static volatile unsigned counter; /* guarded by: lock, or spin */

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void sleep_ms(long ms)
{
	const struct timespec ts = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&ts, NULL);
}

static pthread_t start(void *(*fn)(void *), void *arg)
{
	pthread_t t;

	if (pthread_create(&t, NULL, fn, arg) != 0)
		tap_bail_out("cannot start a thread");
	return t;
}

/* ---- one thread ----------------------------------------------------------------------------- */

static void test_alone(void)
{
	errno = 99;
	is_int(lock_acquire(&lock), 0, "a free lock can be taken");
	is_int(atomic_load(&lock.word), syscall(SYS_gettid),
	       "the word of a held lock is the thread's TID");
	ok(lock_held(&lock), "a thread knows that it holds a lock");
	is_int(lock_acquire(&lock), -EDEADLK, "a thread cannot take a lock twice");
	ok(!lock_try(&lock), "a try cannot take a lock twice");
	lock_release(&lock);
	is_int(atomic_load(&lock.word), 0, "the word of a released lock is 0");
	ok(!lock_held(&lock), "a thread that released a lock does not hold it");
	ok(lock_try(&lock), "a try takes a free lock");
	lock_release(&lock);
	ok(spin_trylock(&spin), "a spinlock can be taken");
	is_int(atomic_load(&spin.word), syscall(SYS_gettid),
	       "the word of a held spinlock is the thread's TID");
	ok(!spin_trylock(&spin), "a spinlock cannot be taken twice");
	spin_unlock(&spin);
	is_int(atomic_load(&spin.word), 0, "a released spinlock is free");
	is_int(errno, 99, "locks keep errno");
}

/* ---- exclusion ------------------------------------------------------------------------------ */

/* Wide enough that two threads inside meet. */
static void count(void)
{
	unsigned n = counter;

	cpu_relax();
	counter = n + 1;
}

static void *count_locked(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < TURNS; i++) {
		if (lock_acquire(&lock) != 0)
			return (void *)1;
		count();
		if (i % 64 == 0)
			sched_yield();
		lock_release(&lock);
	}
	return NULL;
}

/* A tight loop, so that threads meet between a load of the word and its change. */
static void *count_spinning(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 10 * TURNS;) {
		if (!spin_trylock(&spin))
			continue;
		count();
		i++;
		spin_unlock(&spin);
	}
	return NULL;
}

static void *count_trying(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < TURNS;) {
		if (!lock_try(&lock)) {
			sched_yield();
			continue;
		}
		count();
		i++;
		lock_release(&lock);
	}
	return NULL;
}

/* Waits until so many threads sleep for the lock, or are about to. */
static bool waited_for_by(unsigned n)
{
	for (unsigned i = 0; i < PATIENCE_MS && atomic_load(&lock.sleepers) < n; i++)
		sleep_ms(1);
	return atomic_load(&lock.sleepers) >= n;
}

static bool waited_for(void)
{
	return waited_for_by(1);
}

static unsigned count_with(void *(*fn)(void *))
{
	bool held = fn == count_locked && lock_acquire(&lock) == 0;
	pthread_t t[THREADS];
	unsigned failed = 0;

	counter = 0;
	for (unsigned i = 0; i < THREADS; i++)
		t[i] = start(fn, NULL);
	/* So that they do not run one after the other, however loaded the machine is. */
	if (held) {
		failed += !waited_for();
		lock_release(&lock);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		void *result;

		pthread_join(t[i], &result);
		failed += result != NULL;
	}
	return failed ? 0 : counter;
}

static void test_exclusion(void)
{
	is_int(count_with(count_locked), THREADS * TURNS, "four threads exclude each other");
	ok(atomic_load(&lock.contended) > 0, "some calls of four threads find the lock held");
	ok(atomic_load(&lock.wait_ns) > 0, "the time that threads waited is counted");
	is_int(atomic_load(&lock.word), 0, "the lock is free when four threads are done");
	is_int(count_with(count_trying), THREADS * TURNS,
	       "threads that only try exclude each other");
	is_int(count_with(count_spinning), THREADS * 10 * TURNS,
	       "threads with a spinlock exclude each other");
}

/* ---- waiting -------------------------------------------------------------------------------- */

static void *take_and_release(void *arg)
{
	double *took = arg;
	double begin = now();
	int err = lock_acquire(&lock);

	*took = now() - begin;
	if (err == 0)
		lock_release(&lock);
	return (void *)(intptr_t)err;
}

static void test_wait(void)
{
	uint64_t contended = atomic_load(&lock.contended);
	uint64_t wait_ns = atomic_load(&lock.wait_ns);
	pthread_t t;
	double took;
	void *err;

	if (lock_acquire(&lock) != 0)
		tap_bail_out("the lock is held");
	t = start(take_and_release, &took);
	ok(waited_for(), "a thread that waits longer sleeps in the kernel");
	ok(lock_held(&lock), "the holder still holds the lock while another sleeps for it");
	sleep_ms(50);
	lock_release(&lock);
	pthread_join(t, &err);
	is_int((intptr_t)err, 0, "the sleeping thread gets the lock");
	ok(took > 0.04,
	   "the sleeping thread gets the lock when the holder has released it, not before");
	is_int(atomic_load(&lock.contended) - contended, 1,
	       "the wait counts as one contended call");
	ok(atomic_load(&lock.wait_ns) - wait_ns > 40000000, "the wait counts with its length");
	is_int(atomic_load(&lock.word), 0, "the lock is free when both are done");
	is_int(atomic_load(&lock.sleep) % LOCK_WAKES, 0, "no thread is left to be woken");
}

#define ROUNDS 20u
#define GIVE_WAY_NS (UINT64_C(60) * 1000000000)

static atomic_uint taken;

static void *take_once(void *arg)
{
	(void)arg;
	if (lock_acquire(&lock) == 0) {
		atomic_fetch_add(&taken, 1);
		lock_release(&lock);
	}
	return NULL;
}

/* A holder that comes back at once would have the lock again before the woken thread runs. */
static void test_give_way(void)
{
	unsigned first = 0;
	pthread_t t;

	for (unsigned i = 0; i < ROUNDS; i++) {
		atomic_store(&taken, 0);
		if (lock_acquire(&lock) != 0)
			tap_bail_out("the lock is held");
		t = start(take_once, NULL);
		if (!waited_for())
			tap_bail_out("the thread does not wait");
		lock_release(&lock);
		lock_give_way(&lock, GIVE_WAY_NS);
		first += lock_holder(&lock) || atomic_load(&taken);
		pthread_join(t, NULL);
	}
	is_int(first, ROUNDS, "a holder that gives way lets a thread that sleeps have the lock");
	lock_give_way(&lock, GIVE_WAY_NS);
	is_int(atomic_load(&lock.word), 0, "nobody waits if no thread sleeps for the lock");
}

#define AGAIN 60u /* holds, which take 25 ms each: three times LOCK_STUCK_MS */
#define TRIES 50u

static struct lock retaken = LOCK_INIT(LOCK_BUDDY);
static double longest_hold;

/* It has the lock again before the woken thread runs. */
static void *take_again(void *arg)
{
	double since = now();

	longest_hold = 0;
	for (unsigned i = 0; i < AGAIN; i++) {
		if (lock_acquire(&retaken) != 0)
			return (void *)1;
		sem_post(arg);
		sleep_ms(25);
		lock_release(&retaken);
		if (now() - since > longest_hold)
			longest_hold = now() - since;
		since = now();
	}
	return NULL;
}

/* Repeats if the machine let one hold last that long. */
static void test_retaken(void)
{
	int err = 0;

	for (unsigned i = 0; i < TRIES; i++) {
		pthread_t t;
		sem_t held;
		void *failed;

		sem_init(&held, 0, 0);
		t = start(take_again, &held);
		while (sem_wait(&held) != 0)
			;
		err = lock_acquire(&retaken);
		if (err == 0)
			lock_release(&retaken);
		pthread_join(t, &failed);
		if (!failed && (err == 0 || longest_hold < LOCK_STUCK_MS / 1e3))
			break;
	}
	is_int(err, 0, "a lock whose holder takes it again and again is not stuck");
}

/* ---- many sleepers (T1, T2) ----------------------------------------------------------------- */

#define MANY 200u

static atomic_uint started;
static atomic_uint switches;
static atomic_uint had;

static struct lock patient = LOCK_INIT(LOCK_CONTROL);

static void *sleep_for_it(void *arg)
{
	struct rusage before;
	struct rusage after;

	(void)arg;
	getrusage(RUSAGE_THREAD, &before);
	if (lock_acquire(&patient) == 0) {
		atomic_fetch_add(&had, 1);
		lock_release(&patient);
	}
	getrusage(RUSAGE_THREAD, &after);
	atomic_fetch_add(&switches, (unsigned)(after.ru_nvcsw - before.ru_nvcsw));
	return NULL;
}

/* The number of sleeps that nothing ended after the lock was released. */
static unsigned many_sleep(void)
{
	uint64_t timeouts;
	pthread_t t[MANY];
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 << 10);
	atomic_store(&had, 0);
	atomic_store(&switches, 0);
	if (lock_acquire(&patient) != 0)
		tap_bail_out("the lock is held");
	for (unsigned i = 0; i < MANY; i++)
		if (pthread_create(&t[i], &attr, sleep_for_it, NULL) != 0)
			tap_bail_out("cannot start a thread");
	pthread_attr_destroy(&attr);
	for (unsigned i = 0; i < PATIENCE_MS && atomic_load(&patient.sleepers) < MANY; i++)
		sleep_ms(1);
	sleep_ms(100);
	timeouts = stat_sum(STAT_lock_timeouts);
	lock_release(&patient);
	for (unsigned i = 0; i < MANY; i++)
		pthread_join(t[i], NULL);
	return (unsigned)(stat_sum(STAT_lock_timeouts) - timeouts);
}

/* Repeats if the machine was stopped for half a second meanwhile, because that run says nothing. */
static void test_many(void)
{
	unsigned timeouts = MANY;

	for (unsigned i = 0; i < 10 && timeouts >= MANY / 4; i++)
		timeouts = many_sleep();
	is_int(atomic_load(&had), MANY, "each of 200 threads that sleep for a lock gets it");
	tap_diag("%u sleeps ended by themselves, %u switches", timeouts, atomic_load(&switches));
	ok(timeouts < MANY / 4, "threads that sleep for a lock are woken by its release");
	ok(atomic_load(&switches) < 10 * MANY,
	   "threads that sleep for a lock do not wake every few milliseconds");
	is_int(atomic_load(&patient.sleepers), 0, "no thread sleeps when all have had the lock");
}

/* ---- a holder that does not release (T3, T12) ----------------------------------------------- */

static struct lock lost = LOCK_INIT(LOCK_BUDDY);

static void *take_and_end(void *arg)
{
	(void)arg;
	return (void *)(intptr_t)lock_acquire(&lost);
}

static atomic_int may_let_go;

static void *take_and_stay(void *arg)
{
	(void)arg;
	if (lock_acquire(&lost) != 0)
		return (void *)1;
	atomic_fetch_add(&started, 1);
	while (!atomic_load(&may_let_go))
		sleep_ms(1);
	lock_release(&lost);
	return NULL;
}

static void *ask_for_lost(void *arg)
{
	(void)arg;
	return (void *)(intptr_t)lock_acquire(&lost);
}

static unsigned refused(unsigned n)
{
	pthread_t t[8];
	unsigned count = 0;
	void *err;

	for (unsigned i = 0; i < n; i++)
		t[i] = start(ask_for_lost, NULL);
	for (unsigned i = 0; i < n; i++) {
		pthread_join(t[i], &err);
		count += (intptr_t)err == -EAGAIN;
	}
	return count;
}

static void test_lost(void)
{
	pthread_t t;
	void *err;

	pthread_join(start(take_and_end, NULL), &err);
	is_int((intptr_t)err, 0, "a thread ends while it holds a lock");
	is_int(refused(8), 8, "threads that ask for the lock of an ended thread are told so");
	is_int(lock_acquire(&lost), -EAGAIN,
	       "the next thread that asks for such a lock is told so");
	ok(!lock_try(&lost), "such a lock cannot be taken by a try");

	lost = (struct lock)LOCK_INIT(LOCK_BUDDY);
	atomic_store(&started, 0);
	t = start(take_and_stay, NULL);
	while (!atomic_load(&started))
		sleep_ms(1);
	is_int(refused(8), 8,
	       "no thread waits for ever for a living thread that does not release a lock");
	ok(atomic_load(&lost.sleep) & LOCK_STUCK, "the lock is known as stuck");
	atomic_store(&may_let_go, 1);
	pthread_join(t, &err);
	is_int(atomic_load(&lost.sleep) % LOCK_WAKES, 0,
	       "the lock is no longer stuck once its holder has released it");
	is_int(lock_acquire(&lost), 0, "a lock that was stuck can be taken again");
	lock_release(&lost);
}

/* ---- a hold whose call was left ------------------------------------------------------------- */

static struct lock left = LOCK_INIT(LOCK_CONTROL); /* a waiter by itself gives up after 10 s */

static volatile int handler_err;
static volatile bool handler_stuck;

static void ask_in_handler(int sig)
{
	(void)sig;
	handler_err = lock_acquire(&left);
	handler_stuck = lock_is_stuck(&left);
}

/* A frame that is gone when it returns, as after siglongjmp. */
static noinline int take_and_leave(void)
{
	volatile int err = lock_acquire(&left);

	return err;
}

static noinline bool try_and_leave(void)
{
	volatile bool got = lock_try(&left);

	return got;
}

static void *ask_for_left(void *arg)
{
	(void)arg;
	return (void *)(intptr_t)lock_acquire(&left);
}

static void test_left(void)
{
	const struct sigaction handler = { .sa_handler = ask_in_handler };
	pthread_t t;
	void *err;

	sigaction(SIGUSR1, &handler, NULL);
	is_int(lock_acquire(&left), 0, "a call takes a lock");
	raise(SIGUSR1);
	is_int(handler_err, -EDEADLK, "a handler that interrupts the call does not get it");
	ok(!handler_stuck, "the lock is not stuck because a handler asked for it");
	lock_release(&left);

	is_int(take_and_leave(), 0, "a call is left by a jump while it holds a lock");
	t = start(ask_for_left, NULL);
	for (unsigned i = 0; i < PATIENCE_MS && !atomic_load(&left.sleepers); i++)
		sleep_ms(1);
	is_int(take_and_leave(), -EDEADLK, "the thread asks for the lock again");
	ok(lock_is_stuck(&left), "then it is known that the hold does not end");
	pthread_join(t, &err);
	is_int((intptr_t)err, -EAGAIN, "a thread that waits for the lock is told so");
	lock_release(&left);
	is_int(atomic_load(&left.sleep) % LOCK_WAKES, 0, "a lock that is released can be taken");

	ok(try_and_leave() && !try_and_leave(), "the same with a try");
	ok(lock_is_stuck(&left), "a second try shows the same");
	lock_release(&left);
}

/* A signal that arrives while this thread takes the lock, before it could note its frame. */
static void test_taking(void)
{
	is_int(take_and_leave(), 0, "a call deeper in the stack takes the lock,");
	lock_release(&left);
	atomic_store(&left.word, self_tid());
	is_int(lock_acquire(&left), -EDEADLK, "and a handler interrupts the next one that does");
	ok(!lock_is_stuck(&left), "the frame of the earlier hold does not count");
	atomic_store(&left.word, 0);

	lock_fork_prepare(&left);
	is_int(lock_acquire(&left), -EDEADLK, "a fork handler does not get what its fork holds");
	ok(!lock_is_stuck(&left), "the lock is not stuck because a fork handler asked for it");
	lock_fork_parent(&left);
}

/* A hold of a call on another stack, of which nobody knows whether it was left. */
static void test_other_stack(void)
{
	is_int(lock_acquire(&left), 0, "a call takes the lock");
	left.frame -= 256u << 20;
	is_int(lock_acquire(&left), -EDEADLK, "a handler on a stack of its own interrupts it");
	ok(!lock_is_stuck(&left), "the lock is not stuck because of it");
	lock_release(&left);
}

/* ---- vfork (T6) ----------------------------------------------------------------------------- */

static void *ask_realtime(void *arg)
{
	(void)arg;
	set_fifo(1); /* if permitted; else it asks as an ordinary thread */
	return take_and_release(arg);
}

/* The child takes the lock by its parent's TID, waits until a thread sleeps for it, and releases
 * it. */
static noinline int vfork_holds(unsigned sleepers)
{
	int status = 1;
	pid_t pid = vfork();

	if (pid == 0) {
		bool good = lock_acquire(&lock) == 0 && waited_for_by(sleepers);

		lock_release(&lock);
		_exit(good ? 0 : 3);
	}
	waitpid(pid, &status, 0);
	return status;
}

/* The kernel takes this thread for the holder, and would pass the lock on if it ended. */
static void *in_vfork(void *arg)
{
	int status;

	(void)arg;
	(void)self_tid(); /* so that the child finds it */
	status = vfork_holds(2);
	while (!atomic_load(&may_let_go))
		sleep_ms(1);
	return (void *)(intptr_t)status;
}

static void test_vfork(void)
{
	double took[2];
	pthread_t holder;
	pthread_t t[2];
	void *err;

#if defined(__SANITIZE_THREAD__)
	tap_skip(4, "TSan makes a fork of vfork");
	return;
#endif
	if (tap_emulated()) {
		tap_skip(4, "the emulator makes a fork of vfork");
		return;
	}
	atomic_store(&may_let_go, 0);
	holder = start(in_vfork, NULL);
	while (!atomic_load(&lock.word))
		sleep_ms(1);
	t[0] = start(take_and_release, &took[0]);
	t[1] = start(ask_realtime, &took[1]);
	pthread_join(t[0], &err);
	is_int((intptr_t)err, 0,
	       "an ordinary thread gets a lock that a child of vfork has released");
	pthread_join(t[1], &err);
	is_int((intptr_t)err, 0,
	       "a real-time thread gets a lock that a child of vfork has released");
	atomic_store(&may_let_go, 1);
	pthread_join(holder, &err);
	is_int((intptr_t)err, 0, "the child took the lock, was waited for, and ended");
	is_int(atomic_load(&lock.word), 0, "the lock is free after the child");
}

static void test_forking(void)
{
	pthread_t t;
	double took;
	void *err;

	if (lock_acquire(&lock) != 0)
		tap_bail_out("the lock is held");
	lock_fork_begin();
	t = start(take_and_release, &took);
	pthread_join(t, &err);
	is_int((intptr_t)err, -EAGAIN, "a waiter gives up while a fork has the lock");
	ok(took < PATIENCE_MS / 1e3, "a fork keeps the lock when a waiter gives up");
	t = start(take_and_release, &took);
	pthread_join(t, &err);
	is_int((intptr_t)err, -EAGAIN, "the next waiter gives up as well");
	lock_fork_end();
	lock_release(&lock);
	t = start(take_and_release, &took);
	pthread_join(t, &err);
	is_int((intptr_t)err, 0, "the lock can be taken after the fork");
}

/* ---- fork ----------------------------------------------------------------------------------- */

static void in_child(void *arg)
{
	struct lock *l = arg;

	lock_fork_new_process(lock_tid);
	lock_fork_child(l);
	if (atomic_load(&l->word) != 0 || lock_acquire(l) != 0)
		_exit(3);
	if (atomic_load(&l->word) != (uint32_t)getpid())
		_exit(4);
	lock_release(l);
}

/* A fork in a signal handler that interrupted the holder: the child's call goes on with the
 * lock. */
static void in_child_held(void *arg)
{
	struct lock *l = arg;

	lock_fork_new_process(lock_tid);
	lock_fork_child(l);
	if (!lock_held(l) || lock_acquire(l) != -EDEADLK)
		_exit(3);
	lock_release(l);
	if (atomic_load(&l->word) != 0)
		_exit(4);
}

static void test_fork(void)
{
	lock_fork_prepare(&lock);
	ok(lock_held(&lock), "the lock is taken before a fork");
	ok(child_is_well(in_child, &lock), "the lock is free in the child, and works");
	ok(lock_held(&lock), "the lock is held in the parent until the end of the fork");
	lock_fork_parent(&lock);
	is_int(atomic_load(&lock.word), 0, "the lock is free in the parent after the fork");
	if (lock_acquire(&lock) != 0)
		tap_bail_out("the lock is held");
	lock_fork_prepare(&lock);
	ok(child_is_well(in_child_held, &lock),
	   "a lock that the forking thread held before stays its own in the child");
	lock_fork_parent(&lock);
	ok(lock_held(&lock),
	   "a lock that the forking thread held before stays its own in the parent");
	lock_release(&lock);
}

/* ---- in a handler that interrupted a holder ------------------------------------------------- */

static struct lock ranked[2][LOCK_RANKS]; /* what is held, and what is asked for */
static sem_t told;

/* Holds the lock until it is told to release it. */
static void *hold_until_told(void *arg)
{
	struct lock *l = arg;

	if (lock_acquire(l) != 0)
		return (void *)1;
	while (sem_wait(&told) != 0)
		;
	lock_release(l);
	return NULL;
}

static pthread_t held_by_another(struct lock *l)
{
	pthread_t t = start(hold_until_told, l);

	while (!atomic_load(&l->word))
		sleep_ms(1);
	return t;
}

static void *tell_sleeper(void *arg)
{
	struct lock *l = arg;

	while (!atomic_load(&l->sleepers))
		sleep_ms(1);
	sem_post(&told);
	return NULL;
}

/* Whether a thread that holds a lock of one rank may wait for one of another: as it must not, it
 * does without. */
static bool asks_well(unsigned held, unsigned wanted)
{
	struct lock *inner = &ranked[0][held];
	struct lock *l = &ranked[1][wanted];
	pthread_t holder = held_by_another(l);
	pthread_t teller;
	bool good;

	if (lock_acquire(inner) != 0)
		return false;
	if (held >= wanted) {
		good = lock_acquire(l) == -EBUSY && !lock_is_stuck(l) &&
		       !atomic_load(&l->contended);
		sem_post(&told);
		pthread_join(holder, NULL);
	} else {
		teller = start(tell_sleeper, l);
		good = lock_acquire(l) == 0;
		pthread_join(teller, NULL);
		pthread_join(holder, NULL);
		lock_release(l);
	}
	lock_release(inner);
	return good && !lock_holds;
}

/* A fork in a handler goes on without a lock whose holder may wait for what was interrupted. */
static bool forks_well(unsigned held, unsigned wanted)
{
	struct lock *inner = &ranked[0][held];
	struct lock *l = &ranked[1][wanted];
	pthread_t holder = held_by_another(l);
	bool good;

	if (lock_acquire(inner) != 0)
		return false;
	lock_fork_prepare(l);
	good = !lock_held(l) && !lock_is_stuck(l);
	lock_fork_parent(l);
	sem_post(&told);
	pthread_join(holder, NULL);
	lock_fork_prepare(l);
	good = good && lock_held(l);
	lock_fork_parent(l);
	lock_release(inner);
	return good && !lock_holds;
}

static void take_free(void *arg)
{
	(void)arg;
	if (lock_acquire(&ranked[0][LOCK_BUDDY]) != 0)
		_exit(3);
	lock_call_begins(); /* the handler's call */
	if (lock_acquire(&ranked[1][LOCK_POOL]) != 0)
		_exit(4);
	lock_release(&ranked[1][LOCK_POOL]);
	lock_release(&ranked[0][LOCK_BUDDY]);
}

static void test_inside(void)
{
	bool asked = true;
	bool forked = true;

	sem_init(&told, 0, 0);
	for (unsigned held = 0; held < LOCK_RANKS; held++) {
		for (unsigned wanted = 0; wanted < LOCK_RANKS; wanted++) {
			ranked[0][held] = (struct lock)LOCK_INIT((uint8_t)held);
			ranked[1][wanted] = (struct lock)LOCK_INIT((uint8_t)wanted);
			asked &= asks_well(held, wanted);
			forked &= wanted == LOCK_CONTROL || held < wanted ||
				  forks_well(held, wanted);
		}
	}
	ok(asked, "a thread waits for a lock only if those that it holds are of earlier ranks");
	ok(forked, "else a fork waits briefly");
	ok(child_is_well(take_free, NULL), "a handler takes a free lock of any rank");
}

/* ---- debug: ranks --------------------------------------------------------------------------- */

static void wrong_order(void *arg)
{
	static struct lock inner = LOCK_INIT(LOCK_BUDDY);
	static struct lock outer = LOCK_INIT(LOCK_POOL);

	(void)arg;
	if (lock_acquire(&inner) != 0 || lock_acquire(&outer) != 0)
		_exit(3);
}

static void right_order(void *arg)
{
	static struct lock inner = LOCK_INIT(LOCK_BUDDY);
	static struct lock outer = LOCK_INIT(LOCK_POOL);

	(void)arg;
	if (lock_acquire(&outer) != 0 || lock_acquire(&inner) != 0)
		_exit(3);
	lock_release(&outer);
	lock_release(&inner);
	if (lock_acquire(&outer) != 0)
		_exit(4);
}

static void hold_within(void *arg)
{
	struct lock *l = arg;

	for (unsigned i = 0; i < 2; i++) {
		if (lock_acquire(l) != 0)
			_exit(3);
		hold_step((enum lock_rank)l->rank, hold_most[l->rank]);
		lock_release(l);
	}
}

static void hold_beyond(void *arg)
{
	struct lock *l = arg;

	if (lock_acquire(l) != 0)
		_exit(3);
	hold_step((enum lock_rank)l->rank, hold_most[l->rank]);
	hold_step((enum lock_rank)l->rank, 1);
}

static void test_holds(void)
{
	ok(child_is_well(hold_within, &lock),
	   "in each hold a thread can do as much as the lock's rank allows");
	if (SLUICE_DEBUG)
		ok(child_is_stopped(hold_beyond, &lock, "internal check failed"),
		   "in debug builds one thing more stops the program");
	else
		ok(child_is_well(hold_beyond, &lock), "without debug checks nothing is counted");
}

static void test_ranks(void)
{
	ok(child_is_well(right_order, NULL), "locks can be taken in the order of their ranks");
	if (SLUICE_DEBUG)
		ok(child_is_stopped(wrong_order, NULL, "internal check failed"),
		   "in debug builds another order stops the program");
	else
		ok(child_is_well(wrong_order, NULL),
		   "without debug checks the order is not checked");
}

/* ---- priorities ----------------------------------------------------------------------------- */

/*
 * All on one processor: a SCHED_OTHER thread holds the lock, a SCHED_FIFO thread of middle priority
 * hogs the processor, and one of high priority asks for the lock. By inheritance the holder runs
 * with the high priority and releases. Without it the high one would wait until the hog ends, or
 * for ever if it span. The hog ends after a time that it measures by its own use of the processor,
 * so that other load of the machine does not matter. The holder needs more than the kernel sets
 * aside for it beside a real-time thread.
 */
#define HOG_MS 1000
#define WORK_MS 150

static atomic_int stage;
static double high_waited;
static bool high_found_it_held;
static atomic_bool hog_ended;
static bool in_time;
static int cpu;

static void *low_thread(void *arg)
{
	uint64_t end;

	(void)arg;
	pin(cpu);
	if (lock_acquire(&lock) != 0)
		return NULL;
	atomic_store(&stage, 1);
	while (atomic_load(&stage) < 3)
		;
	end = thread_ms() + WORK_MS;
	while (thread_ms() < end)
		;
	lock_release(&lock);
	return NULL;
}

static void *hog_thread(void *arg)
{
	uint64_t end;

	(void)arg;
	pin(cpu);
	set_fifo(10);
	while (atomic_load(&stage) < 2)
		sleep_ms(1);
	/* Measured from the start of the wait, because the sleep before depends on the machine. */
	while (atomic_load(&stage) < 3)
		;
	end = thread_ms() + HOG_MS;
	while (atomic_load(&stage) < 4 && thread_ms() < end)
		;
	atomic_store(&hog_ended, true);
	return NULL;
}

static void *high_thread(void *arg)
{
	double begin;
	uint64_t spun;

	(void)arg;
	pin(cpu);
	set_fifo(20);
	while (atomic_load(&stage) < 1)
		sleep_ms(1);
	atomic_store(&stage, 2);
	sleep_ms(50); /* now the hog runs, and the holder does not */
	high_found_it_held = atomic_load(&lock.word) != 0;
	atomic_store(&stage, 3);
	begin = now();
	spun = thread_ms();
	if (lock_acquire(&lock) == 0)
		lock_release(&lock);
	in_time = !atomic_load(&hog_ended) && thread_ms() - spun < HOG_MS / 2;
	high_waited = now() - begin;
	atomic_store(&stage, 4);
	return NULL;
}

static void *fifo_allowed(void *arg)
{
	(void)arg;
	return set_fifo(1) ? arg : NULL;
}

static void test_priority(void)
{
	pthread_t t[3];
	void *allowed;

	pthread_join(start(fifo_allowed, &stage), &allowed);
	if (!allowed) {
		tap_skip(2, "this user may not use SCHED_FIFO");
		return;
	}
	cpu = sched_getcpu();
	t[0] = start(low_thread, NULL);
	t[1] = start(hog_thread, NULL);
	t[2] = start(high_thread, NULL);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	tap_diag("the lock was taken after %d ms", (int)(high_waited * 1000));
	ok(high_found_it_held, "a real-time thread finds a lock held by a preempted thread");
	ok(in_time, "the real-time thread gets the lock before a hog of middle priority has ended");
}

int main(void)
{
	tap_plan(83);
	test_alone();
	test_exclusion();
	test_wait();
	test_give_way();
	test_retaken();
	test_many();
	test_lost();
	test_vfork();
	test_forking();
	test_fork();
	test_inside();
	test_ranks();
	test_holds();
	test_priority();
	test_left();
	test_taking();
	test_other_stack();
	return tap_done();
}
