/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The background thread: when it exists, that memory comes back without a call of the program, and
 * that it sleeps when there is nothing to do.
 */
#define WANTS_BACKGROUND
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <dirent.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "reclaim/background.h"
#include "lib/barrier.h"
#include "lib/core.h"
#include "page/block.h"
#include "page/buddy.h"
#include "heap/heap.h"
#include "reclaim/info.h"
#include "shim/init.h"
#include "base/clock.h"
#include "base/options.h"
#include "lib/realtime.h"
#include "lib/statm.h"
#include "lib/tap.h"

#define MIB ((size_t)1 << 20)
#define IDLE_MS 50u
#define DECAY_MS 100u
#define WAIT_MS 60000u /* for what should take some IDLE_MS; a machine may be slow */
#define SLACK_MIB 3.0

static void sleep_ms(unsigned ms)
{
	struct timespec ts = { ms / 1000, (long)(ms % 1000) * 1000000 };

	nanosleep(&ts, NULL);
}

static double rss_mib(void)
{
	return (double)statm_rss_kib() / 1024;
}

/* ---- what /proc says of the thread ---------------------------------------------------------- */

/* Reads the line of /proc/self/task/TID/status that begins with key, without the key. Returns false
 * if there is no such thread. */
static bool task_line(const char *tid, const char *key, char *out, size_t len)
{
	char path[64];
	char line[256];
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%.20s/status", tid);
	f = fopen(path, "r");
	while (f && !found && fgets(line, sizeof(line), f)) {
		found = strncmp(line, key, strlen(key)) == 0;
		line[strcspn(line, "\n")] = 0;
		if (found)
			snprintf(out, len, "%s", line + strlen(key));
	}
	if (f)
		fclose(f);
	return found;
}

/* Returns how many threads have the name, and one of their TIDs in tid. NULL stands for any
 * name. */
static unsigned threads_named(const char *name, char *tid)
{
	DIR *d = opendir("/proc/self/task");
	unsigned n = 0;

	for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
		char is[64];

		if (e->d_name[0] != '.' && task_line(e->d_name, "Name:\t", is, sizeof(is)) &&
		    (!name || strcmp(is, name) == 0)) {
			n++;
			if (tid)
				snprintf(tid, 24, "%.20s", e->d_name);
		}
	}
	if (d)
		closedir(d);
	return n;
}

static char background_tid[24];

/* The thread gets its name a moment after it was made. */
static bool background_found(void)
{
	for (unsigned ms = 0; ms < WAIT_MS; ms += 10) {
		if (threads_named("sluice", background_tid))
			return true;
		sleep_ms(10);
	}
	return false;
}

static unsigned long switches(void)
{
	char text[64] = "0";

	task_line(background_tid, "voluntary_ctxt_switches:", text, sizeof(text));
	return strtoul(text, NULL, 10);
}

/* Returns whether it sleeps, and does not wait for a processor. */
static bool asleep(void)
{
	char state[64] = "";

	return task_line(background_tid, "State:\t", state, sizeof(state)) && state[0] == 'S';
}

/* Returns whether it sleeps and has not run for ten times its period. */
static bool parks(void)
{
	unsigned long before = switches();
	unsigned quiet = 0;

	for (unsigned ms = 0; ms < WAIT_MS && quiet < 10 * IDLE_MS; ms += 10) {
		unsigned long now;

		sleep_ms(10);
		now = switches();
		quiet = now == before && asleep() ? quiet + 10 : 0;
		before = now;
	}
	return quiet >= 10 * IDLE_MS;
}

/* Returns whether RSS falls to limit while the program calls nothing. */
static bool back_within(double limit)
{
	for (unsigned ms = 0; ms < WAIT_MS; ms += 20) {
		if (rss_mib() <= limit)
			return true;
		sleep_ms(20);
	}
	tap_diag("%.1f MiB are left, %.1f would be good", rss_mib(), limit);
	return false;
}

/* Expedited barriers while no thread allocated; growth makes its own. */
static uint64_t interrupted;

static bool comes_back(double limit)
{
	uint64_t before = value("barriers_expedited");
	bool good = back_within(limit);

	interrupted += value("barriers_expedited") - before;
	return good;
}

/* ---- threads that sleep --------------------------------------------------------------------- */

#define THREADS 4u
#define OBJECTS 20000u

struct sleeper {
	pthread_t thread;
	sem_t go;
	sem_t done;
	void (*job)(struct sleeper *s); /* NULL ends the thread */
	void *p[OBJECTS];
};

static struct sleeper sleepers[THREADS];

static void *sleeper_main(void *arg)
{
	struct sleeper *s = arg;

	for (;;) {
		while (sem_wait(&s->go) != 0)
			;
		if (!s->job)
			return NULL;
		s->job(s);
		sem_post(&s->done);
	}
}

static void sleepers_begin(void)
{
	for (struct sleeper *s = sleepers; s < sleepers + THREADS; s++) {
		sem_init(&s->go, 0, 0);
		sem_init(&s->done, 0, 0);
		if (pthread_create(&s->thread, NULL, sleeper_main, s) != 0)
			tap_bail_out("cannot start a thread");
	}
}

static void sleepers_do(void (*job)(struct sleeper *s))
{
	for (struct sleeper *s = sleepers; s < sleepers + THREADS; s++) {
		s->job = job;
		sem_post(&s->go);
		while (job && sem_wait(&s->done) != 0)
			;
		if (!job)
			pthread_join(s->thread, NULL);
	}
}

static void fill(struct sleeper *s)
{
	for (unsigned i = 0; i < OBJECTS; i++) {
		size_t size = 16 + (size_t)i * 37 % 1000;

		s->p[i] = alloc(size);
		memset(s->p[i], 'f', size);
	}
}

static void empty(struct sleeper *s)
{
	for (unsigned i = 0; i < OBJECTS; i++) {
		heap_free(s->p[i]);
		s->p[i] = NULL;
	}
}

static void empty_half(struct sleeper *s)
{
	for (unsigned i = 0; i < OBJECTS; i += 2) {
		heap_free(s->p[i]);
		s->p[i] = NULL;
	}
}

static void use_blocks(struct sleeper *s)
{
	for (unsigned i = 0; i < 64; i++) {
		size_t size = 4096 + (size_t)i * 1009 % 61440;

		s->p[i] = alloc(size);
		memset(s->p[i], 'b', size);
	}
	for (unsigned i = 0; i < 64; i++) {
		heap_free(s->p[i]);
		s->p[i] = NULL;
	}
}

static void call_once(struct sleeper *s)
{
	(void)s;
	heap_free(alloc(100));
}

/* ---- tests ---------------------------------------------------------------------------------- */

static void *keeper(void *arg)
{
	heap_free(alloc(100));
	sem_post(arg);
	for (;;)
		pause();
	return NULL;
}

/* Keeps a thread beside the first one all the time, without which the background thread ends. */
static void keep_thread(void)
{
	pthread_t t;
	sem_t ready;

	sem_init(&ready, 0, 0);
	if (pthread_create(&t, NULL, keeper, &ready) != 0)
		tap_bail_out("cannot start a thread");
	while (sem_wait(&ready) != 0)
		;
}

static void test_start(void)
{
	const unsigned others = tap_emulated() ? threads_named(NULL, NULL) - 1 : 0;

	is_int(threads_named(NULL, NULL), others + 1, "a program with one thread gets no other");
	options.background = BACKGROUND_NEVER;
	background_start(true);
	is_int(threads_named(NULL, NULL), others + 1, "background:never makes no thread");
	options.background = BACKGROUND_AUTO;
	background_start(false);
	is_int(threads_named(NULL, NULL), others + 1,
	       "background:auto makes no thread for a program with one thread");
	keep_thread();
	background_start(true);
	ok(background_found(), "a program with several threads gets a thread named sluice");
	background_start(true);
	background_start(true);
	is_int(threads_named(NULL, NULL), others + 3,
	       "a program gets one such thread, however often it asks");
}

static void test_park(void)
{
	const uint64_t never_blocked = UINT64_C(1) << (SIGKILL - 1) | UINT64_C(1) << (SIGSTOP - 1) |
				       UINT64_C(3) << 31; /* the last ones are the C library's
							   * own */
	char text[64] = "0";
	unsigned long before;

	ok(parks(), "the thread sleeps without a timer while nothing is cached");
	/* The C library blocks them before the thread has run. */
	task_line(background_tid, "SigBlk:\t", text, sizeof(text));
	if (tap_emulated())
		tap_skip(1, "the emulator blocks signals by itself");
	else
		is_int((int64_t)(strtoull(text, NULL, 16) | never_blocked),
		       (int64_t) ~(UINT64_C(1) << (SIGSYS - 1)),
		       "the thread blocks all signals except that of a refused system call");
	before = switches();
	sleepers_do(call_once);
	sleep_ms(2 * IDLE_MS);
	for (unsigned ms = 0; ms < WAIT_MS && switches() == before; ms += 10)
		sleep_ms(10);
	ok(switches() > before, "the thread wakes up when another thread caches something");
	ok(parks(), "the thread takes cached memory and sleeps again");
	ok(!heap_idle_any(), "no cached memory is left while the thread sleeps");
}

/* Does job and checks that all but `keeps` MiB of at least `more` MiB comes back. */
static void test_back(void (*job)(struct sleeper *s), const char *label)
{
	double floor = rss_mib();
	double most;

	sleepers_do(fill);
	most = rss_mib();
	if (most < floor + 30)
		tap_bail_out("the threads should have used 38 MiB, not %.1f", most - floor);
	if (job)
		sleepers_do(job);
	else
		for (unsigned i = 0; i < THREADS; i++)
			empty(&sleepers[i]);
	ok(comes_back(floor + SLACK_MIB), "%s", label);
}

static void test_idle(void)
{
	uint64_t global = value("barriers_global");
	double floor;

	test_back(empty, "what threads freed themselves comes back while they sleep");
	test_back(NULL, "what another thread freed comes back while they sleep");
	floor = rss_mib();
	sleepers_do(fill);
	sleepers_do(empty_half);
	for (unsigned i = 0; i < THREADS; i++)
		empty(&sleepers[i]);
	ok(comes_back(floor + SLACK_MIB), "what both freed in halves comes back");
	sleepers_do(use_blocks);
	ok(comes_back(floor + SLACK_MIB), "blocks of 4 to 64 KiB come back");
	ok(parks(), "the thread sleeps again when memory is back");
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) != 0)
		tap_skip(1, "the kernel has no global barrier");
	else
		ok(interrupted == 0 && value("barriers_global") > global,
		   "giving memory back has interrupted no processor");
	zone_check(&zone_main);
}

static void *ends(void *arg)
{
	heap_free(alloc(100));
	return arg;
}

/* A wake-up for each 20 ms, and some: ticks come each second, and a poll lasts 40 ms. */
static void test_ends_seldom_wake(void)
{
	unsigned long before = switches();
	uint64_t begin = clock_ms();
	unsigned threads = 0;
	uint64_t ms;

	options.idle_ms = options.decay_ms = 4000;
	do {
		pthread_t t;

		if (pthread_create(&t, NULL, ends, NULL) != 0)
			tap_bail_out("cannot start a thread");
		pthread_join(t, NULL);
		threads++;
		sleep_ms(2);
		ms = clock_ms() - begin;
	} while (ms < 2000);
	before = switches() - before;
	options.idle_ms = IDLE_MS;
	options.decay_ms = DECAY_MS;
	ok(before <= ms / 20 + 20, "threads that end beside others seldom wake it");
	tap_diag("%lu times for %u threads in %lu ms", before, threads, (unsigned long)ms);
}

/* Threads that end leave nothing that needs a call. */
static void test_ended(void)
{
	double floor = rss_mib();

	sleepers_do(fill);
	for (unsigned i = 0; i < THREADS; i++)
		for (unsigned k = 0; k < OBJECTS; k += 3) {
			heap_free(sleepers[i].p[k]);
			sleepers[i].p[k] = NULL;
		}
	sleepers_do(NULL);
	for (unsigned i = 0; i < THREADS; i++)
		empty(&sleepers[i]);
	ok(comes_back(floor + SLACK_MIB), "memory of threads that ended comes back");
	ok(parks(), "nothing is left to do for threads that ended");
}

static int in_child(void)
{
	double floor = rss_mib();

	if (threads_named(NULL, NULL) != 1)
		return 2;
	sleepers_begin();
	background_start(true);
	if (!background_found() || threads_named("sluice", background_tid) != 1)
		return 3;
	sleepers_do(fill);
	if (rss_mib() < floor + 30)
		return 4;
	sleepers_do(empty);
	if (!comes_back(floor + SLACK_MIB))
		return 5;
	return parks() ? CHILD_GOOD : 6;
}

static int always(void)
{
	options.background = BACKGROUND_ALWAYS;
	background_start(false);
	return background_found() ? CHILD_GOOD : CHILD_BAD;
}

/* Started by a thread that is real-time, if permitted, and pinned to one processor. */
static int started_by_other(void)
{
	cpu_set_t all;
	cpu_set_t one;
	cpu_set_t its;
	pid_t tid;

	if (sched_getaffinity(0, sizeof(all), &all) != 0)
		return 10;
	CPU_ZERO(&one);
	CPU_SET((unsigned)sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	set_fifo(1);
	options.background = BACKGROUND_ALWAYS;
	background_start(false);
	if (!background_found())
		return CHILD_BAD;
	tid = (pid_t)strtol(background_tid, NULL, 10);
	if (syscall(SYS_sched_getscheduler, tid) != SCHED_OTHER)
		return 11;
	/* The thread sets them first of all. */
	for (unsigned ms = 0; ms < WAIT_MS; ms += 10) {
		if (sched_getaffinity(tid, sizeof(its), &its) != 0)
			return 12;
		if (CPU_EQUAL(&its, &all))
			return CHILD_GOOD;
		sleep_ms(10);
	}
	return 13;
}

static void test_fork(void)
{
	if (tap_emulated()) {
		tap_skip(3, "the emulator cannot fork while it has several threads");
		return;
	}
	is_int(run_child(started_by_other), CHILD_GOOD,
	       "the thread has ordinary priority and all processors, whichever thread starts it");
	is_int(run_child(in_child), CHILD_GOOD,
	       "a child has one thread, and on request a background thread that works");
	is_int(run_child(always), CHILD_GOOD, "background:always works without other threads");
}

/* Runs above 1 MiB bypass the pcps. */
#define RUNS 24u
#define KEPT 8u

static void *runs[RUNS];

static void runs_make(unsigned from)
{
	for (unsigned i = from; i < RUNS; i++) {
		runs[i] = alloc(2 * MIB);
		memset(runs[i], 'r', 2 * MIB);
	}
}

static void runs_free(unsigned from)
{
	for (unsigned i = from; i < RUNS; i++) {
		heap_free(runs[i]);
		runs[i] = NULL;
	}
}

static long faults(void)
{
	struct rusage use;

	getrusage(RUSAGE_THREAD, &use);
	return use.ru_minflt;
}

#define LONG_MS 3000u  /* a decay, long against the stalls of a loaded machine */
#define STALL_MS 2000u /* a stall that is too long to tell anything; then repeat, */
#define STALLS 20u     /* at most this often */

static uint64_t since(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)((now.tv_sec - start->tv_sec) * 1000 +
			  (now.tv_nsec - start->tv_nsec) / 1000000);
}

/* Waits until the thread has checked how much is dirty: it sleeps from one check to the next. */
static void until_it_looked(void)
{
	unsigned long before = switches();

	/* It checks every 250 ms, and may sleep in parts in between. */
	sleep_ms(600);
	for (unsigned ms = 0; ms < WAIT_MS && switches() < before + 2; ms += 10)
		sleep_ms(10);
}

/* All but KEPT runs are in use now and then; only the others are free all the time. */
static void test_now_and_then(void)
{
	const long run = (long)(2 * MIB / (size_t)sysconf(_SC_PAGESIZE));
	struct timespec start;
	struct timespec looked;
	unsigned stalls = 0;
	uint64_t decays;
	long before;

	runs_make(0);
	runs_free(0);
	runs_make(KEPT);
	until_it_looked();
	before = faults();
	clock_gettime(CLOCK_MONOTONIC, &start);
	looked = start;
	for (unsigned i = 0;
	     i < WAIT_MS / 600 && (since(&start) < 3 * LONG_MS || value("dirty_bytes")); i++) {
		runs_free(KEPT);
		/* Longer than they are in use: a library that gives back all free memory would do
		 * so now. */
		sleep_ms(600);
		runs_make(KEPT);
		until_it_looked();
		if (since(&looked) > STALL_MS && stalls++ < STALLS) {
			before = faults();
			clock_gettime(CLOCK_MONOTONIC, &start);
		}
		clock_gettime(CLOCK_MONOTONIC, &looked);
	}
	decays = since(&start) / LONG_MS + 1;
	is_int(value("dirty_bytes"), 0,
	       "memory that is free all the time goes back beside memory in use now and then");
	/* A block of the latter that merged with memory that is free all the time may go
	 * instead. */
	tap_diag("%ld page faults, %ju decays, %u stalls", faults() - before, (uintmax_t)decays,
		 stalls);
	ok(faults() - before <= (long)decays * 2 * run,
	   "memory in use now and then stays in between");
	runs_free(KEPT);
}

static void test_decay(void)
{
	unsigned stalls = 0;
	struct timespec freed;
	uint64_t purged;
	uint64_t dirty;

	options.idle_ms = 3600000; /* so that no idle thread is emptied */
	options.decay_ms = LONG_MS;
	sleep_ms(2 * DECAY_MS); /* the old period is over */
	do {
		runs_make(0);
		purged = value("purged_bytes");
		clock_gettime(CLOCK_MONOTONIC, &freed);
		runs_free(0);
		sleep_ms(200);
		dirty = value("dirty_bytes");
		purged = value("purged_bytes") - purged;
	} while (since(&freed) > STALL_MS && stalls++ < STALLS);
	ok(dirty >= (RUNS - 2) * 2 * MIB && purged <= 4 * MIB,
	   "dirty memory stays for a decay period");
	for (unsigned ms = 0; ms < WAIT_MS && value("dirty_bytes"); ms += 20)
		sleep_ms(20);
	is_int(value("dirty_bytes"), 0, "dirty memory that was not used again is given back");
	test_now_and_then();
}

int main(void)
{
	if (UNDER_TSAN)
		tap_skip_all("ThreadSanitizer knows nothing of membarrier");
	sluice_init();
	if (!membarrier_global())
		tap_skip_all("the kernel has no membarrier, or forbids it");
	tap_plan(26);
	options.idle_ms = IDLE_MS;
	options.decay_ms = DECAY_MS;
	options.psi = 0; /* so that pressure of the machine does not matter */
	options.cgroup = 0;
	test_start();
	sleepers_begin();
	test_park();
	test_idle();
	test_ended();
	test_ends_seldom_wake();
	test_fork();
	test_decay();
	return tap_done();
}
