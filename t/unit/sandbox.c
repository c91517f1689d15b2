/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which threads may make a system call that memory does not need, while the program installs
 * seccomp filters; the key of links without getrandom; random numbers.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "lib/child.h"
#include "base/clock.h"
#include "base/links.h"
#include "base/park.h"
#include "base/sandbox.h"
#include "lib/refuse.h"
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
	ok(may_enter(false) && may_enter(true) && !sandbox_any(),
	   "at first every thread may make such calls");
	ok(sandbox_begins(false) && sandbox_any(), "a thread that installs a filter is the first");
	ok(!sandbox_begins(false), "a thread that installs the next filter is not the first");
	ok(!may_enter(false), "a thread of the program with a filter may not make such calls");
	ok(may_enter(true), "our thread, which has no filter, may make such calls");
	ok(sandbox_begins(true), "a filter for all threads is recognized as the first of its kind");
	ok(!may_enter(false) && !may_enter(true),
	   "no thread may make such calls under a filter for all threads");
	sandbox_failed(true);
	ok(!may_enter(false) && may_enter(true),
	   "our thread may again if a filter for all could not be installed");
	sandbox_failed(false);
	ok(may_enter(false) && !sandbox_any(),
	   "every thread may again if the first filter could not be installed");
}

/* ---- installing a filter for all threads waits ---------------------------------------------- */

static sem_t is_inside;
static atomic_bool left;

static void *inside(void *arg)
{
	if (!sandbox_enter())
		tap_bail_out("the call is refused");
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
	/* It does not wait for ever: the machine may have kept the thread from running. */
	ok(waited || clock_ms() - begin >= WAIT_MS,
	   "installing a filter for all threads waits for threads that are inside");
	pthread_join(t, NULL);
	sandbox_failed(true);
}

/* How often this thread slept while it installed a filter. */
static long sleeps(void)
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
	if (sleeps() > 100)
		_exit(2);
	sandbox_begins(false);
	sandbox_fork_child();
	if (!sandbox_any())
		_exit(3);
}

static void test_fork(void)
{
	if (!sandbox_enter())
		tap_bail_out("the call is refused");
	ok(child_is_well(in_child, NULL),
	   "in a child no thread is inside, and the parent's filters count");
	sandbox_leave();
}

/* ---- at that moment ------------------------------------------------------------------------- */

static volatile sig_atomic_t signals;

/* Runs between any two steps of sandbox_enter. */
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
	ok(sleeps() < 100, "a thread that finds that a filter came at that moment is not inside");
#endif
}

/* ---- the key of links ----------------------------------------------------------------------- */

/* With getrandom refused the key is made of what the kernel gave the process at exec. */
static void no_random(void *arg)
{
	const struct link_key unset = link_key;
	struct object o[2];

	(void)arg;
	if (!refuse(SYS_getrandom, 1, 5 * sizeof(uint64_t), EPERM))
		_exit(0);
	errno = 77;
	link_init();
	if (errno != 77)
		_exit(4);
	if (link_key.multiplier == unset.multiplier || link_key.addend == unset.addend ||
	    link_key.mark == unset.mark || link_key.addend == link_key.mark)
		_exit(5);
	if (link_key.multiplier * link_key.inverse != 1)
		_exit(6);
	link_set(&o[0], &o[1]);
	if (link_get(&o[0]) != &o[1] || o[0].link == (uintptr_t)&o[1])
		_exit(7);
}

/* Numbers of this process, and of two children of it that drew none before. */
static void draw_apart(uint64_t number[6])
{
	uint64_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
				0);
	int status;

	if (shared == MAP_FAILED)
		tap_bail_out("no memory");
	for (unsigned i = 0; i < 2; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			link_fork_child((uint32_t)getpid());
			shared[2 * i] = link_random();
			shared[2 * i + 1] = link_random();
			_exit(0);
		}
		waitpid(pid, &status, 0);
	}
	memcpy(number, shared, 4 * sizeof(*number));
	number[4] = link_random();
	number[5] = link_random();
	munmap(shared, 4096);
}

static void test_random(void)
{
	uint64_t number[6];
	bool apart = true;

	link_init();
	draw_apart(number);
	for (unsigned i = 0; i < 6; i++)
		for (unsigned j = 0; j < i; j++)
			apart = apart && number[i] != number[j];
	ok(apart, "random numbers differ, and those of children of fork from their parent's");
	ok(child_is_well(no_random, NULL), "links have a secret key where getrandom is refused");
}

int main(void)
{
	tap_plan(14);
	test_bits();
	test_wait();
	test_fork();
	test_moment();
	test_random();
	return tap_done();
}
