/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who may make a system call that memory does not need, while the program installs seccomp filters.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>

#include "lib/child.h"
#include "base/clock.h"
#include "base/park.h"
#include "base/sandbox.h"
#include "lib/tap.h"

#define SIGNALS 3000
#define WAIT_MS 1000u /* sandbox.c's */

static bool may_enter(bool own)
{
	bool may;

	sandbox_own = own;
	may = sandbox_enter();
	if (may)
		sandbox_leave();
	sandbox_own = false;
	return may;
}

static void test_bits(void)
{
	ok(may_enter(false) && may_enter(true) && !sandbox_any(), "at first everybody may");
	ok(sandbox_begins(false) && sandbox_any(), "who installs a filter is the first");
	ok(!sandbox_begins(false), "and the next one is not");
	ok(!may_enter(false), "then a thread of the program may not");
	ok(may_enter(true), "but one of ours, which has no filter");
	ok(sandbox_begins(true), "one for all threads is another one");
	ok(!may_enter(false) && !may_enter(true), "then nobody may");
	sandbox_failed(true);
	ok(!may_enter(false) && may_enter(true), "unless it could not be installed");
	sandbox_failed(false);
	ok(may_enter(false) && !sandbox_any(), "nor the first one");
}

/* ---- who installs one for all waits --------------------------------------------------------- */

static sem_t is_inside;
static atomic_bool left;

static void *inside(void *arg)
{
	if (!sandbox_enter())
		tap_bail_out("it is refused");
	sem_post(&is_inside);
	while (!sandbox_any())
		park_sleep_ms(1);
	park_sleep_ms(20);
	atomic_store(&left, true);
	sandbox_leave();
	return arg;
}

static void test_wait(void)
{
	uint64_t begin;
	pthread_t t;
	bool waited;

	sem_init(&is_inside, 0, 0);
	pthread_create(&t, NULL, inside, NULL);
	while (sem_wait(&is_inside) != 0)
		;
	begin = clock_ms();
	sandbox_begins(true);
	waited = atomic_load(&left);
	/* It does not wait for ever: a machine may have kept the thread from running. */
	ok(waited || clock_ms() - begin >= WAIT_MS,
	   "who installs a filter for all threads waits for who is inside");
	pthread_join(t, NULL);
	sandbox_failed(true);
}

/* How often this thread slept while it installed a filter. */
static long naps(void)
{
	struct rusage before;
	struct rusage after;

	getrusage(RUSAGE_THREAD, &before);
	sandbox_begins(true);
	getrusage(RUSAGE_THREAD, &after);
	sandbox_failed(true);
	return after.ru_nvcsw - before.ru_nvcsw;
}

static void in_child(void *arg)
{
	(void)arg;
	sandbox_fork_child();
	if (naps() > 100)
		_exit(2);
	sandbox_begins(false);
	sandbox_fork_child();
	if (!sandbox_any())
		_exit(3);
}

static void test_fork(void)
{
	if (!sandbox_enter())
		tap_bail_out("it is refused");
	ok(child_is_well(in_child, NULL),
	   "in a child nobody is inside, and its filters are the parent's");
	sandbox_leave();
}

/* ---- at that moment ------------------------------------------------------------------------- */

static volatile sig_atomic_t signals;

/* Comes between any two steps of sandbox_enter. */
static void filter_comes_or_goes(int sig)
{
	(void)sig;
	if (signals++ % 2)
		sandbox_failed(false);
	else
		sandbox_begins(false);
}

static void test_moment(void)
{
#if defined(__SANITIZE_THREAD__)
	(void)filter_comes_or_goes;
	tap_skip(1, "ThreadSanitizer keeps signals until the next call of libc");
#else
	const struct itimerval often = { { 0, 50 }, { 0, 50 } };
	const struct itimerval never = { 0 };
	const struct sigaction action = { .sa_handler = filter_comes_or_goes,
					  .sa_flags = SA_RESTART };

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	while (signals < SIGNALS)
		if (sandbox_enter())
			sandbox_leave();
	setitimer(ITIMER_REAL, &never, NULL);
	signal(SIGALRM, SIG_IGN);
	sandbox_failed(false);
	ok(naps() < 100, "who finds that a filter came at that moment is not inside");
#endif
}

int main(void)
{
	tap_plan(12);
	test_bits();
	test_wait();
	test_fork();
	test_moment();
	return tap_done();
}
