/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A program whose threads start and end: which threads the process has, and what a process with a
 * single thread may do. Usage: alone CASE. Status 77: the machine cannot do it.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>

#include "lib/check.h"
#include "lib/statm.h"

#define MIB (1 << 20)
#define TRIES 12000 /* of 5 ms */

static void nap(void)
{
	const struct timespec ts = { 0, 5000000 };

	nanosleep(&ts, NULL);
}

/* The number of threads of the process, or of its threads that have this name. */
static unsigned threads(const char *name)
{
	DIR *d = opendir("/proc/self/task");
	unsigned n = 0;

	for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
		char path[300];
		char is[32] = "";
		FILE *f;

		if (e->d_name[0] == '.')
			continue;
		if (!name) {
			n++;
			continue;
		}
		snprintf(path, sizeof path, "/proc/self/task/%s/comm", e->d_name);
		f = fopen(path, "r");
		if (f && fscanf(f, "%31s", is) == 1 && strcmp(is, name) == 0)
			n++;
		if (f)
			fclose(f);
	}
	if (d)
		closedir(d);
	return n;
}

static int becomes(const char *name, unsigned n)
{
	for (int i = 0; i < TRIES; i++, nap())
		if (threads(name) == n)
			return 1;
	return 0;
}

/* What the kernel allows only to a process with one thread, and without privileges. */
static int single(void)
{
	return unshare(CLONE_VM | CLONE_SIGHAND | CLONE_THREAD) == 0;
}

static long resident(void)
{
	return (statm_rss_kib() << 10) / MIB;
}

static void *allocates(void *arg)
{
	free(malloc(100));
	return arg;
}

static void *allocates_much(void *arg)
{
	enum { N = 40000 };
	void **p = malloc(N * sizeof *p);

	for (int i = 0; i < N; i++)
		p[i] = memset(malloc(1000), 1, 1000);
	for (int i = 0; i < N; i++)
		free(p[i]);
	free(p);
	return arg;
}

static void *does_nothing(void *arg)
{
	return arg;
}

static void *ends_by_exit(void *arg)
{
	free(malloc(50));
	pthread_exit(arg);
}

static volatile int hold;

/* Never calls malloc. */
static void *is_held(void *arg)
{
	while (hold)
		syscall(SYS_sched_yield);
	return arg;
}

static pthread_t make(void *(*fn)(void *))
{
	pthread_t t;

	if (pthread_create(&t, NULL, fn, NULL) != 0)
		abort();
	return t;
}

static void *(*const kinds[])(void *) = { allocates, allocates_much, does_nothing, ends_by_exit };
enum { KINDS = sizeof kinds / sizeof *kinds };

static void join_some(int n)
{
	pthread_t t[16];

	for (int i = 0; i < n; i++)
		t[i] = make(kinds[i % KINDS]);
	for (int i = 0; i < n; i++)
		pthread_join(t[i], NULL);
}

static int case_ends(void)
{
	pthread_t t;

	CHECK(threads(NULL) == 1, "%u threads at the start", threads(NULL));
	for (int round = 0; round < 3; round++) {
		join_some(round == 1 ? 1 : 8);
		CHECK(becomes(NULL, 1), "%u threads are left, round %d", threads(NULL), round);
		CHECK(single(), "round %d: %s", round, strerror(errno));
		hold = 1;
		t = make(is_held);
		CHECK(becomes("sluice", 1), "it does not start again, round %d", round);
		hold = 0;
		pthread_join(t, NULL);
	}
	for (int i = 0; i < 8; i++)
		pthread_detach(make(kinds[i % KINDS]));
	CHECK(becomes(NULL, 1), "%u threads are left of those detached", threads(NULL));
	CHECK(becomes("sluice", 0) && resident() < 20, "%ld MiB are left", resident());
	return helper_end();
}

/* Does not wait: after the join the process must have a single thread, as without the library. */
static int case_at_once(void)
{
	for (int i = 0; i < 50; i++) {
		int good = 0;

		join_some(1 + i % 4);
		/* The kernel ends a thread a little after the join. */
		for (int k = 0; k < 100 && !good; k++)
			good = single();
		CHECK(good, "round %d: %s", i, strerror(errno));
	}
	hold = 1;
	pthread_t t = make(is_held);
	CHECK(!single() && errno == EINVAL, "there is another thread");
	CHECK(becomes("sluice", 1), "it is there as long as another thread is");
	hold = 0;
	pthread_join(t, NULL);
	return helper_end();
}

static void *makes_one_more(void *arg)
{
	join_some(1);
	return arg;
}

/* Threads end while others are made: there is always one thread of ours, not two. */
static int case_churn(void)
{
	for (int i = 0; i < 300; i++) {
		pthread_t a = make(makes_one_more);
		pthread_t b = make(does_nothing);

		if (i % 16 == 0)
			nap();
		if (i % 50 == 0)
			single();
		pthread_join(b, NULL);
		if (i % 37 == 0)
			CHECK(threads("sluice") <= 2, "%u of ours", threads("sluice"));
		pthread_join(a, NULL);
	}
	CHECK(becomes(NULL, 1), "%u threads are left", threads(NULL));
	return helper_end();
}

static int forks_well(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	return pid > 0 && waitpid(pid, NULL, 0) == pid;
}

/* As many threads as the limit allows. */
static int case_limit(void)
{
	struct rlimit room = { 4, 4 };
	unsigned failed = 0;
	pthread_t t[3];

	if (setgid(64321) != 0 || setuid(64321) != 0)
		return 77;
	if (setrlimit(RLIMIT_NPROC, &room) != 0)
		return 77;
	for (int round = 0; round < 20; round++) {
		hold = 1;
		for (int i = 0; i < 2; i++)
			failed += pthread_create(&t[i], NULL, is_held, NULL) != 0;
		/* Four with the library's own thread; a child needs room as well. */
		if (round % 4 == 0)
			CHECK(becomes("sluice", 1), "it does not start, round %d", round);
		failed += !forks_well();
		failed += pthread_create(&t[2], NULL, is_held, NULL) != 0;
		if (failed)
			break;
		CHECK(pthread_create(&(pthread_t){ 0 }, NULL, is_held, NULL) == EAGAIN,
		      "five threads where four may be");
		hold = 0;
		for (int i = 0; i < 3; i++)
			pthread_join(t[i], NULL);
		/* The kernel still counts a thread for a moment after the join. */
		becomes(NULL, 1);
	}
	CHECK(failed == 0, "%u threads could not be made", failed);
	return helper_end();
}

/* ---- threads that are not made by pthread_create --------------------------------------------- */

static int c11_thread(void *arg)
{
	(void)arg;
	allocates_much(NULL);
	while (hold)
		nap();
	return 0;
}

static int case_c11(void)
{
	thrd_t t[2];

	for (int round = 0; round < 2; round++) {
		hold = 1;
		for (int i = 0; i < 2; i++)
			CHECK(thrd_create(&t[i], c11_thread, NULL) == thrd_success, "no thread");
		CHECK(becomes("sluice", 1), "it does not start, round %d", round);
		hold = 0;
		for (int i = 0; i < 2; i++)
			thrd_join(t[i], NULL);
		CHECK(becomes(NULL, 1), "%u threads are left", threads(NULL));
	}
	return helper_end();
}

static uint64_t counted(void)
{
	static int (*ctl)(const char *, void *, size_t *, void *, size_t);
	uint64_t bytes = 0;
	size_t len = sizeof bytes;

	if (!ctl)
		*(void **)&ctl = dlsym(RTLD_DEFAULT, "mallctl");
	if (!ctl || ctl("thread.allocated", &bytes, &len, NULL, 0) != 0)
		_exit(96);
	return bytes;
}

/* It makes our thread by one of its calls, and that costs memory. */
static int counting_thread(void *arg)
{
	unsigned *wrong = arg;

	for (int i = 0; i < 1000; i++) {
		uint64_t before = counted();
		void *p = malloc(100);

		*wrong += counted() - before != malloc_usable_size(p);
		free(p);
	}
	while (hold)
		nap();
	return 0;
}

static int case_counted(void)
{
	unsigned wrong = 0;
	thrd_t t;

	counted(); /* finds mallctl */
	hold = 1;
	CHECK(thrd_create(&t, counting_thread, &wrong) == thrd_success, "no thread");
	CHECK(becomes("sluice", 1), "it does not start");
	hold = 0;
	thrd_join(t, NULL);
	CHECK(wrong == 0, "%u calls count wrongly", wrong);
	return helper_end();
}

static volatile int expired;

static void expires(union sigval value)
{
	(void)value;
	allocates_much(NULL);
	expired++;
}

/* The C library's own threads: a helper for all timers, and one for each timer that expires. */
static int case_timer(void)
{
	struct sigevent event = { .sigev_notify = SIGEV_THREAD, .sigev_notify_function = expires };
	const struct itimerspec soon = { { 0, 200000000 }, { 0, 1000000 } };
	timer_t timer;

	if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0)
		return 77;
	timer_settime(timer, 0, &soon, NULL);
	CHECK(becomes("sluice", 1), "it does not start");
	for (int i = 0; i < TRIES && !expired; i++)
		nap();
	CHECK(expired > 0, "no timer expired");
	timer_delete(timer);
	return helper_end();
}

/* A handler interrupts anything and calls malloc, makes threads and a child. */
static volatile int handlers;

static void handles(int sig)
{
	int saved = errno;
	pthread_t t;

	(void)sig;
	handlers++;
	free(malloc(5000));
	allocates(NULL);
	if (handlers % 8 == 0 && pthread_create(&t, NULL, allocates, NULL) == 0)
		pthread_detach(t);
	errno = saved;
}

static int case_handler(void)
{
	struct sigaction sa = { .sa_handler = handles };

	alarm(test_limit(100));
	sigaction(SIGUSR1, &sa, NULL);
	for (int i = 0; i < 200; i++) {
		raise(SIGUSR1);
		allocates_much(NULL);
	}
	CHECK(handlers == 200, "%d handlers", handlers);
	CHECK(becomes(NULL, 1), "%u threads are left", threads(NULL));
	return helper_end();
}

/* ---- children -------------------------------------------------------------------------------- */

static unsigned in_handler; /* threads that its fork handler saw; 0 if it has not run */

static void child_handler(void)
{
	allocates_much(NULL);
	in_handler = threads(NULL);
}

static int ends_well(pid_t pid)
{
	int status;

	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	       WEXITSTATUS(status) == 0;
}

static void *forks(void *arg)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(in_handler == 1 && allocates_much(&pid) && becomes("sluice", 1) ? 0 : 1);
	CHECK(ends_well(pid), "a child of another thread");
	return arg;
}

/* With background:always. */
static int case_children(void)
{
	enum { N = 40000 };
	static char *p[N];

	pthread_atfork(NULL, NULL, child_handler);
	for (int i = 0; i < N; i++)
		p[i] = memset(malloc(1000), 1, 1000);
	CHECK(becomes("sluice", 1), "it is there");
	for (int round = 0; round < 5; round++) {
		pid_t pid;

		in_handler = 0;
		pid = fork();
		if (pid == 0) {
			unsigned now = threads(NULL);

			CHECK(in_handler == 1, "%u threads inside the fork", in_handler);
			CHECK(now <= 2, "%u threads", now);
			/* Calls free before it calls malloc. */
			if (round % 2)
				for (int i = 0; i < N; i++)
					free(p[i]);
			else
				allocates_much(NULL);
			CHECK(becomes("sluice", 1), "the child has none, round %d", round);
			for (int i = 0; round % 2 && i < TRIES && resident() > 15; i++)
				nap();
			CHECK(!(round % 2) || resident() <= 15, "%ld MiB are left", resident());
			pid = fork();
			if (pid == 0) {
				allocates_much(NULL);
				_exit(becomes("sluice", 1) ? 0 : 1);
			}
			CHECK(ends_well(pid), "a grandchild");
			_exit(helper_failed ? 1 : 0);
		}
		CHECK(ends_well(pid), "a child, round %d", round);
	}
	pthread_join(make(forks), NULL);
	CHECK(threads("sluice") == 1, "%u in the parent", threads("sluice"));
	return helper_end();
}

/* A process that forks after its last thread has ended is single-threaded: Python 3.12 and others
 * check that, and warn. */
static int case_forks_alone(void)
{
	enum { ROUNDS = 50 };
	int ours = 0;

	for (int i = 0; i < ROUNDS; i++) {
		pid_t pid;

		join_some(4);
		pid = fork();
		if (pid == 0)
			_exit(0);
		/* A joined thread may exist for a moment longer; then our thread cannot know
		 * that it is alone. */
		ours += threads("sluice") != 0;
		CHECK(ends_well(pid), "child %d", i);
	}
	CHECK(ours < ROUNDS / 2, "it is there after %d of %d forks", ours, ROUNDS);
	return helper_end();
}

enum { MANY = 100, MANY_STACK = 128 << 10, MANY_OBJECTS = 64 };
static pthread_barrier_t all_there;

/* Uses every cache bin. */
static void *fills_bins(void *arg)
{
	void *p[MANY_OBJECTS];

	(void)arg;
	pthread_barrier_wait(&all_there);
	for (size_t size = 16; size <= 32768; size += size / 8) {
		for (unsigned i = 0; i < MANY_OBJECTS; i++)
			p[i] = malloc(size);
		for (unsigned i = 0; i < MANY_OBJECTS; i++)
			free(p[i]);
	}
	pthread_barrier_wait(&all_there);
	return NULL;
}

/* What many threads leave behind: at most 16 KiB each. The program makes their stacks, because libc
 * would keep some. */
static int case_many(void)
{
	char *stacks = mmap(NULL, (size_t)MANY * MANY_STACK, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_t t[MANY];
	pthread_attr_t attr;
	long before;
	long after;

	CHECK(stacks != MAP_FAILED, "no memory");
	join_some(4);
	CHECK(becomes(NULL, 1), "%u threads", threads(NULL));
	before = statm_rss_kib();
	pthread_attr_init(&attr);
	pthread_barrier_init(&all_there, NULL, MANY);
	for (unsigned i = 0; i < MANY; i++) {
		pthread_attr_setstack(&attr, stacks + (size_t)i * MANY_STACK, MANY_STACK);
		CHECK(pthread_create(&t[i], &attr, fills_bins, NULL) == 0, "thread %u", i);
	}
	for (unsigned i = 0; i < MANY; i++)
		pthread_join(t[i], NULL);
	munmap(stacks, (size_t)MANY * MANY_STACK);
	CHECK(becomes(NULL, 1), "%u threads", threads(NULL));
	after = statm_rss_kib();
	CHECK(after - before < MANY * 16, "%ld KiB before, %ld after", before, after);
	return helper_end();
}

static pid_t last_to_end;

/* Includes the stacks of the program's own threads. */
static void at_the_end(void)
{
	volatile char room[2 * MIB];

	room[0] = room[sizeof room - 1] = 1;
	CHECK(syscall(SYS_gettid) == last_to_end, "the handlers of exit run in another thread");
	CHECK(room[0] == 1, "no room");
	_exit(helper_end());
}

/* The first thread ends, by pthread_exit, then the others. In the second case the last of them has
 * never called malloc. */
static int leader(void *(*fn)(void *))
{
	enum { MORE = 3 };

	atexit(at_the_end);
	hold = 1;
	for (int i = 0; i < MORE; i++)
		make(kinds[i]);
	make(fn);
	for (int i = 0; i < TRIES && threads(NULL) > 3; i++)
		nap();
	CHECK(becomes("sluice", 1), "it is not there");
	pthread_exit(NULL);
}

/* Waits until the first thread has ended: it is a zombie then. */
static void wait_for_leader(void)
{
	char state[300] = "";

	for (int i = 0; i < TRIES && !strstr(state, ") Z "); i++, nap()) {
		int fd = open("/proc/self/stat", O_RDONLY);
		ssize_t n = read(fd, state, sizeof state - 1);

		state[n > 0 ? n : 0] = '\0';
		close(fd);
	}
	last_to_end = (pid_t)syscall(SYS_gettid);
}

static void *last_allocates(void *arg)
{
	allocates_much(NULL);
	wait_for_leader();
	allocates_much(NULL);
	return arg;
}

static void *last_does_not(void *arg)
{
	wait_for_leader();
	return arg;
}

static int case_leader(void)
{
	return leader(last_allocates);
}

static int case_leader_idle(void)
{
	return leader(last_does_not);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(void);
	} cases[] = {
		{ "ends", case_ends },
		{ "at-once", case_at_once },
		{ "churn", case_churn },
		{ "limit", case_limit },
		{ "c11", case_c11 },
		{ "counted", case_counted },
		{ "timer", case_timer },
		{ "handler", case_handler },
		{ "children", case_children },
		{ "leader", case_leader },
		{ "leader-idle", case_leader_idle },
		{ "forks-alone", case_forks_alone },
		{ "many", case_many },
	};

	for (size_t i = 0; argc > 1 && i < sizeof cases / sizeof *cases; i++)
		if (strcmp(cases[i].name, argv[1]) == 0)
			return cases[i].run();
	return 2;
}
