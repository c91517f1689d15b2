/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * New processes, made in every way that Linux offers while other threads allocate. Each child
 * allocates, frees its own memory and memory of its parent, and ends. The parent's threads check
 * that their memory is unchanged.
 *
 *	clone WAY
 *
 * WAY: fork, handler (fork in a signal handler that interrupted malloc), nested (or fork), _Fork,
 * clone (a raw one), twice (_Fork, whose child forks), vfork, spawn, leader-gone (fork after the
 * initial thread has ended), first-vfork (a child of vfork makes the first call of some threads),
 * shares-memory (a process with our memory and its own TLS allocates for a while). With atfork.so
 * preloaded, whose fork handlers were registered before main: lock-stdio, lock-setuid (the handlers
 * wait for a thread inside fopen or setuid), fault (the handlers fault, and the program's signal
 * handler repairs that).
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#include "lib/check.h"

#define THREADS 3
#define SLOTS 64
#define CHILD_SECONDS 60

static volatile int stop;
static unsigned char *shared[SLOTS]; /* the parent's, which a child may free, too */
static int times = 60;

static size_t random_size(unsigned *seed)
{
	unsigned r = (unsigned)rand_r(seed);

	return 16 + (r >> 8) % ((r & 15) ? 1500 : (r & 255) ? 60000 : 3000000);
}

/* Fills blocks and checks them. Returns how many were wrong. */
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

	alarm(test_limit(CHILD_SECONDS));
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

	/* Runs in the parent's memory, so it does only what leaves nothing behind. */
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

/* ---- in a handler that interrupted malloc ---------------------------------------------------- */

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

/* A handler forks while a fork runs, at any moment of it. */
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

/* ---- whose heap is it ------------------------------------------------------------------------ */

static atomic_int ready;

static void *churns(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	long bad = 0;

	while (!stop)
		bad += churn(&seed, 500);
	return (void *)bad;
}

__attribute__((noinline)) static void allocate_in_vfork(void)
{
	int status = -1;
	pid_t pid = vfork();

	if (pid == 0) {
		free(malloc(64));
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

static void *vforks_first(void *arg)
{
	allocate_in_vfork();
	atomic_fetch_add(&ready, 1);
	return churns(arg);
}

/* Makes the library search for heaps of threads that seem dead, and find them. */
static void many_come(unsigned first)
{
	pthread_t t[12];
	void *bad;

	for (unsigned i = 0; i < 12; i++) {
		usleep(20000);
		CHECK(pthread_create(&t[i], NULL, churns, (void *)(uintptr_t)(first + i)) == 0);
	}
	usleep(500000);
	stop = 1;
	for (unsigned i = 0; i < 12; i++) {
		pthread_join(t[i], &bad);
		CHECK(!bad);
	}
}

static void first_vfork(void)
{
	pthread_t t[3];
	void *bad;

	for (unsigned i = 0; i < 3; i++)
		CHECK(pthread_create(&t[i], NULL, vforks_first, (void *)(uintptr_t)(i + 1)) == 0);
	while (atomic_load(&ready) < 3)
		usleep(1000);
	many_come(10);
	for (unsigned i = 0; i < 3; i++) {
		pthread_join(t[i], &bad);
		CHECK(!bad);
	}
}

static int process_churns(void *arg)
{
	atomic_store(&ready, 1);
	syscall(SYS_exit, churns(arg) != NULL);
	return 0;
}

/* Neither libc nor the kernel takes it for a thread, though it shares all memory. Its TLS is
 * made as libc makes one. */
static int shares_memory(void)
{
	static char stack[256 << 10] __attribute__((aligned(64)));
	void *(*allocate_tls)(void *);
	void *sym = dlsym(RTLD_DEFAULT, "_dl_allocate_tls");
	char *self = (char *)pthread_self();
	char *tls;
	int status = -1;
	pid_t pid;

	if (!sym)
		return 77;
	memcpy(&allocate_tls, &sym, sizeof(sym));
	tls = allocate_tls(NULL);
	((char **)(void *)tls)[0] = tls;
	((char **)(void *)tls)[2] = tls;
	memcpy(tls + 40, self + 40, 16); /* the guards of the stack protector and of pointers */
	pid = clone(process_churns, stack + sizeof(stack), CLONE_VM | CLONE_SETTLS | SIGCHLD,
		    (void *)(uintptr_t)7, NULL, tls, NULL);
	if (pid < 0)
		return 77;
	while (!atomic_load(&ready))
		usleep(1000);
	many_come(10);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0, "it ended with %#x",
	      (unsigned)status);
	return helper_end();
}

/* ---- fork handlers of a library that was there before ours ----------------------------------- */

static pthread_mutex_t library = PTHREAD_MUTEX_INITIALIZER;
static char *guarded;

static void lock_library(void)
{
	pthread_mutex_lock(&library);
}

static void write_guarded(void)
{
	*(volatile char *)guarded = 1;
}

static void unguard(int sig)
{
	(void)sig;
	mprotect(guarded, 4096, PROT_READ | PROT_WRITE);
}

static void *opens_a_file(void *arg)
{
	FILE *f;

	pthread_mutex_lock(&library);
	atomic_store(&ready, 1);
	usleep(200000);
	f = fopen("/dev/null", "r");
	CHECK(f != NULL);
	if (f)
		fclose(f);
	pthread_mutex_unlock(&library);
	return arg;
}

static void *changes_user(void *arg)
{
	pthread_mutex_lock(&library);
	atomic_store(&ready, 1);
	usleep(200000);
	CHECK(setuid(getuid()) == 0);
	pthread_mutex_unlock(&library);
	return arg;
}

static void fork_with(void (*handler)(void), void *(*other)(void *))
{
	void (**hook)(void) = dlsym(RTLD_DEFAULT, "atfork_prepare");
	int status = -1;
	pthread_t t;
	pid_t pid;

	CHECK(hook != NULL, "atfork.so is not there");
	if (!hook || (other && pthread_create(&t, NULL, other, NULL) != 0))
		return;
	while (other && !atomic_load(&ready))
		usleep(1000);
	*hook = handler;
	pid = fork();
	if (pid == 0)
		_exit(0);
	*hook = NULL;
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	if (!other)
		return;
	pthread_mutex_unlock(&library);
	pthread_join(t, NULL);
}

static void fault(void)
{
	struct sigaction action = { .sa_handler = unguard };

	sigaction(SIGSEGV, &action, NULL);
	guarded = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fork_with(write_guarded, NULL);
	CHECK(*guarded == 1);
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
	if (argc == 2 && strcmp(argv[1], "shares-memory") == 0)
		return shares_memory();
	if (argc == 2 && strcmp(argv[1], "first-vfork") == 0)
		return first_vfork(), helper_end();
	if (argc == 2 && strcmp(argv[1], "lock-stdio") == 0)
		return fork_with(lock_library, opens_a_file), helper_end();
	if (argc == 2 && strcmp(argv[1], "lock-setuid") == 0)
		return fork_with(lock_library, changes_user), helper_end();
	if (argc == 2 && strcmp(argv[1], "fault") == 0)
		return fault(), helper_end();
	for (size_t i = 0; argc == 2 && i < sizeof(ways) / sizeof(ways[0]); i++) {
		if (strcmp(argv[1], ways[i].name) == 0) {
			go(&ways[i]);
			return helper_end();
		}
	}
	helper_say("usage: clone WAY");
	return 2;
}
