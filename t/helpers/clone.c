/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * New processes made in every way that Linux knows, while other threads allocate. Each child allocates, frees what
 * is its own and what its parent had, and ends; the parent's threads find what they had.
 *
 *	clone WAY
 *
 * WAY: fork, handler (fork in a signal handler that interrupted malloc), nested (or fork), _Fork, clone (a raw one), twice (_Fork, whose
 * child forks), vfork, spawn, leader-gone (fork after the initial thread has ended)
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#include "check.h"

#define THREADS 3
#define SLOTS 64
#define CHILD_SECONDS 60

static volatile int stop;
static unsigned char *shared[SLOTS]; /* the parent's, which a child may free as well */
static int times = 60;

static size_t random_size(unsigned *seed)
{
	unsigned r = (unsigned)rand_r(seed);

	return 16 + (r >> 8) % ((r & 15) ? 1500 : (r & 255) ? 60000 : 3000000);
}

/* Blocks that are filled and looked at again. Returns how many were wrong. */
static int churn(unsigned *seed, int steps)
{
	unsigned char *p[SLOTS] = { NULL };
	size_t n[SLOTS] = { 0 };
	int bad = 0;

	for (int i = 0; i < steps; i++) {
		int at = rand_r(seed) % SLOTS;

		if (p[at])
			bad += p[at][0] != (unsigned char)at ||
			       p[at][n[at] - 1] != (unsigned char)at;
		free(p[at]);
		n[at] = random_size(seed);
		p[at] = malloc(n[at]);
		if (!p[at]) {
			bad++;
			continue;
		}
		p[at][0] = (unsigned char)at;
		p[at][n[at] - 1] = (unsigned char)at;
	}
	for (int at = 0; at < SLOTS; at++) {
		if (p[at])
			bad += p[at][0] != (unsigned char)at ||
			       p[at][n[at] - 1] != (unsigned char)at;
		free(p[at]);
	}
	return bad;
}

static void *thread(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	int bad = 0;

	while (!stop)
		bad += churn(&seed, 500);
	return (void *)(intptr_t)bad;
}

static int child(void)
{
	unsigned seed = (unsigned)getpid();
	int bad;

	alarm(CHILD_SECONDS);
	bad = churn(&seed, 300);
	for (int i = 0; i < SLOTS; i++) {
		bad += shared[i][0] != (unsigned char)i;
		free(shared[i]);
	}
	bad += churn(&seed, 300);
	return bad ? 3 : 0;
}

static int wait_for(pid_t pid)
{
	int status = -1;

	while (waitpid(pid, &status, __WALL) < 0 && errno == EINTR)
		;
	return status;
}

static int ended(pid_t pid)
{
	if (pid == 0)
		_exit(child());
	return wait_for(pid);
}

static int by_fork(void)
{
	return ended(fork());
}

static int by__fork(void)
{
	return ended(_Fork());
}

static int by_clone(void)
{
	return ended((pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
}

static int by_twice(void)
{
	pid_t pid = _Fork();

	if (pid == 0) {
		int bad = child() != 0;

		for (int i = 0; i < SLOTS; i++) {
			shared[i] = malloc(100);
			shared[i][0] = (unsigned char)i;
		}
		_exit(bad || by_fork() ? 4 : 0);
	}
	return wait_for(pid);
}

static __attribute__((noinline)) int by_vfork(void)
{
	pid_t pid = vfork();

	/* In the parent's memory, so only what leaves nothing behind. */
	if (pid == 0) {
		for (int i = 0; i < 50; i++) {
			char *volatile p = malloc((size_t)(i % 5 == 0 ? 3000000 : i * 700 + 1));

			if (!p)
				_exit(5);
			p[0] = 1;
			free(p);
		}
		_exit(0);
	}
	return wait_for(pid);
}

static int by_spawn(void)
{
	static char name[] = "true";
	char *const argv[] = { name, NULL };
	char *const envp[] = { NULL };
	pid_t pid;

	return posix_spawn(&pid, "/bin/true", NULL, NULL, argv, envp) ? -1 : wait_for(pid);
}

/* ---- in a handler that interrupted malloc ------------------------------------------------------- */

static volatile int handler_status;
static volatile int handled;

static void on_alarm(int sig)
{
	int saved = errno;

	(void)sig;
	handler_status |= by_fork();
	handled++;
	errno = saved;
}

static int by_handler(void)
{
	struct sigaction sa = { .sa_handler = on_alarm };
	struct sigevent to = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM };
	struct itimerspec at = { .it_value = { 0, 20000 + 1000 * (handled % 300) } };
	unsigned seed = 1;
	int before = handled;
	timer_t timer;
	int bad = 0;

	sigaction(SIGALRM, &sa, NULL);
	if (timer_create(CLOCK_MONOTONIC, &to, &timer) != 0)
		return -1;
	timer_settime(timer, 0, &at, NULL);
	while (handled == before)
		bad += churn(&seed, 50);
	timer_delete(timer);
	return bad ? -1 : handler_status;
}

/* A handler forks while a fork is under way, at one moment of it or another. */
static int by_nested(void)
{
	static int turn;
	struct sigaction sa = { .sa_handler = on_alarm };
	struct itimerval once = { { 0, 0 }, { 0, 20 + 37 * turn++ % 1500 } };
	int before = handled;
	int status;

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &once, NULL);
	status = by_fork();
	while (handled == before)
		sched_yield();
	return status | handler_status;
}

static const struct way {
	const char *name;
	int (*make)(void);
} ways[] = {
	{ "fork", by_fork },   { "handler", by_handler }, { "_Fork", by__fork },
	{ "clone", by_clone }, { "twice", by_twice },     { "vfork", by_vfork },
	{ "spawn", by_spawn }, { "nested", by_nested },
};

static void go(const struct way *way)
{
	pthread_t t[THREADS];

	for (int i = 0; i < SLOTS; i++) {
		shared[i] = malloc((size_t)i * 90 + 1);
		shared[i][0] = (unsigned char)i;
	}
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_create(&t[i], NULL, thread, (void *)(uintptr_t)(i + 1)) == 0);
	for (int i = 0; i < times; i++) {
		unsigned seed = (unsigned)i;
		int status = way->make();

		CHECK(status == 0, "status 0x%x", (unsigned)status);
		CHECK(churn(&seed, 20) == 0);
	}
	stop = 1;
	for (int i = 0; i < THREADS; i++) {
		void *bad;

		pthread_join(t[i], &bad);
		CHECK(!bad);
	}
	for (int i = 0; i < SLOTS; i++) {
		CHECK(shared[i][0] == (unsigned char)i);
		free(shared[i]);
	}
}

static void *leader_goes(void *arg)
{
	pthread_join(*(pthread_t *)arg, NULL);
	go(&ways[0]);
	exit(helper_end());
}

int main(int argc, char **argv)
{
	static pthread_t leader;
	pthread_t t;

	if (argc == 2 && strcmp(argv[1], "leader-gone") == 0) {
		leader = pthread_self();
		if (pthread_create(&t, NULL, leader_goes, &leader) != 0)
			return 2;
		pthread_exit(NULL);
	}
	for (size_t i = 0; argc == 2 && i < sizeof(ways) / sizeof(ways[0]); i++) {
		if (strcmp(argv[1], ways[i].name) == 0) {
			go(&ways[i]);
			return helper_end();
		}
	}
	helper_say("usage: clone WAY");
	return 2;
}
