/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sluice-bench-drain: how long it takes to empty the pcps of many threads, and what the threads pay
 * for it. It is linked with the core; its own malloc is that of the C library, and there is no
 * background thread. `sluice-bench drain` runs it.
 *
 *	sluice-bench-drain MODE THREADS
 *
 * MODE says who empties the pcp of a thread:
 *   remote       the drainer, under the lock of the pcp: what Sluice does
 *   signal       the thread itself, in the handler of a signal that the drainer sends
 *   cooperative  the thread itself, at its next call for pages after the drainer asked
 *   none         nobody: the base of the comparison
 *
 * In each 16 threads, one computes, one is hot (it allocates and frees 64 bytes and a page block in
 * a loop; only the page block is a call for pages), and 14 sleep in read. Each has CACHED pages in
 * its pcp when the drain begins. In all modes the threads are observed for WINDOW_MS from then on.
 *
 * Prints one line of JSON: window_ms, drainer_cpu_us, and for each kind of thread: their number;
 * how many were not emptied in time (left); ms until the last one was emptied (0 if none was); and
 * the means per thread of signals received, voluntary and involuntary context switches, and CPU
 * time paid (us): all CPU time of a sleeping thread, the time of its own draining for any other.
 * worst_us and worst_cpu_us are the longest call of a hot thread, by wall time and by CPU time of
 * the thread; the latter excludes waiting for a processor.
 *
 * Exit status: 0; 1 if memory or threads are missing, 2 for bad arguments.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <sluice/sluice.h>

#include "base/atomics.h"
#include "heap/heap.h"
#include "shim/init.h"
#include "page/pcp.h"

#define THREADS_MIN 16u
#define THREADS_MAX 1024u
#define CACHED 64u
#define WINDOW_MS 500u
#define HOT_ORDERS 3u

enum mode { REMOTE, SIGNAL, COOPERATIVE, NONE, MODES };
static const char *const mode_names[MODES] = { "remote", "signal", "cooperative", "none" };

enum kind { ASLEEP, COMPUTING, HOT, KINDS };
static const char *const kind_names[KINDS] = { "asleep", "computing", "hot" };

enum asked { ASKED_NOT, ASKED, ASKED_AGAIN };

struct switches {
	unsigned long voluntary, involuntary;
};

struct worker {
	/* Set before the drain. */
	enum kind kind;
	pthread_t thread;
	pid_t tid;
	struct pcp *pcp;
	struct switches switches;
	uint64_t cpu_ns;
	/* Written by the thread or its signal handler, read by the drainer; atomic. */
	_Atomic uint64_t emptied_ns; /* 0 if not yet */
	_Atomic uint64_t paid_ns;    /* CPU time of its own draining */
	_Atomic uint64_t worst_ns, worst_cpu_ns;
	_Atomic uint32_t signals;
	/* enum asked. The drainer asks, the thread answers. */
	_Atomic uint32_t asked;
};

static enum mode mode;
static struct worker *workers;
static unsigned worker_count;
static _Thread_local struct worker *self;
static pthread_barrier_t ready;
static sem_t answered;
static int asleep_pipe[2];
static _Atomic uint32_t stop;
static _Atomic uint32_t watched; /* the window has begun */

static _Noreturn void fail(const char *what, int error)
{
	fprintf(stderr, "sluice-bench-drain: %s: %s\n", what, strerror(error));
	exit(1);
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	if (clock_gettime(clock, &ts) != 0)
		return 0;
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t now(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

static void add(_Atomic uint64_t *sum, uint64_t n)
{
	atomic_fetch_add_explicit(sum, n, memory_order_relaxed);
}

static void raise_to(_Atomic uint64_t *most, uint64_t n)
{
	if (n > atomic_load_explicit(most, memory_order_relaxed))
		atomic_store_explicit(most, n, memory_order_relaxed);
}

static uint64_t value(_Atomic uint64_t *v)
{
	return atomic_load_explicit(v, memory_order_relaxed);
}

/* ---- the threads -------------------------------------------------------------------------- */

/* Returns false if the pcp is locked. */
static bool empty(struct worker *w)
{
	if (pcp_drain(w->pcp).skipped)
		return false;
	atomic_store_explicit(&w->emptied_ns, now(), memory_order_relaxed);
	return true;
}

static void empty_own(void)
{
	uint64_t cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	bool done = empty(self);

	add(&self->paid_ns, clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu);
	/* The signal came while the thread held the lock of its pcp: ask again. */
	atomic_store_explicit(&self->asked, done ? ASKED_NOT : ASKED_AGAIN, memory_order_release);
}

static void on_signal(int number)
{
	int saved = errno;

	(void)number;
	atomic_fetch_add_explicit(&self->signals, 1, memory_order_relaxed);
	empty_own();
	sem_post(&answered);
	errno = saved;
}

static void fill(struct worker *w)
{
	void *block[CACHED];

	w->pcp = heap_pcp();
	while (!spin_trylock(&w->pcp->lock))
		cpu_relax();
	w->pcp->high_max = w->pcp->high_min = w->pcp->high = 2 * CACHED;
	spin_unlock(&w->pcp->lock);
	if (sluice_page_alloc_bulk(0, CACHED, block) != CACHED)
		fail("pages", ENOMEM);
	sluice_page_free_bulk(0, CACHED, block);
}

/* One round of the hot loop. */
static void allocate(unsigned order)
{
	void *block, *object;

	if (atomic_load_explicit(&self->asked, memory_order_acquire) == ASKED &&
	    mode == COOPERATIVE)
		empty_own();
	block = sluice_page_alloc(order);
	object = heap_alloc(64);
	if (!block || !object)
		fail("hot thread", ENOMEM);
	heap_free(object);
	sluice_page_free(block, order);
}

static void be_hot(void)
{
	uint64_t wall = now();
	uint64_t cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);

	for (unsigned i = 0; !atomic_load_explicit(&stop, memory_order_relaxed); i++) {
		uint64_t wall_end, cpu_end;

		allocate(i % HOT_ORDERS);
		wall_end = now();
		cpu_end = clock_ns(CLOCK_THREAD_CPUTIME_ID);
		if (atomic_load_explicit(&watched, memory_order_relaxed)) {
			raise_to(&self->worst_ns, wall_end - wall);
			raise_to(&self->worst_cpu_ns, cpu_end - cpu);
		}
		wall = wall_end;
		cpu = cpu_end;
	}
}

static void *work(void *arg)
{
	volatile double x = 1;
	char byte;

	self = arg;
	self->tid = (pid_t)syscall(SYS_gettid);
	fill(self);
	pthread_barrier_wait(&ready);
	switch (self->kind) {
	case ASLEEP:
		while (read(asleep_pipe[0], &byte, 1) < 0 && errno == EINTR)
			;
		break;
	case COMPUTING:
		while (!atomic_load_explicit(&stop, memory_order_relaxed))
			x = x * 1.0000001 + 1;
		break;
	default:
		be_hot();
		break;
	}
	return NULL;
}

/* ---- the drainer -------------------------------------------------------------------------- */

static struct switches switches_of(const struct worker *w)
{
	struct switches s = { 0, 0 };
	char text[128];
	FILE *f;

	snprintf(text, sizeof(text), "/proc/self/task/%d/status", (int)w->tid);
	f = fopen(text, "re");
	if (!f)
		fail(text, errno);
	while (fgets(text, sizeof(text), f)) {
		if (strncmp(text, "voluntary_ctxt_switches:", 24) == 0)
			s.voluntary = strtoul(text + 24, NULL, 10);
		else if (strncmp(text, "nonvoluntary_ctxt_switches:", 27) == 0)
			s.involuntary = strtoul(text + 27, NULL, 10);
	}
	fclose(f);
	return s;
}

static uint64_t cpu_of(const struct worker *w)
{
	clockid_t clock;

	return pthread_getcpuclockid(w->thread, &clock) == 0 ? clock_ns(clock) : 0;
}

static void drain_remote(void)
{
	unsigned left;

	do {
		left = 0;
		for (unsigned i = 0; i < worker_count; i++) {
			if (!value(&workers[i].emptied_ns) && !empty(&workers[i]))
				left++;
		}
		/* The holder of a lock may need this processor. */
		if (left)
			nanosleep(&(struct timespec){ 0, 10000 }, NULL);
	} while (left);
}

static void send(struct worker *w)
{
	atomic_store_explicit(&w->asked, ASKED, memory_order_relaxed);
	pthread_kill(w->thread, SIGRTMIN);
}

/* Returns false if there was no answer until then. */
static bool wait_answer(const struct timespec *until)
{
#ifdef __GLIBC__
	return sem_clockwait(&answered, CLOCK_MONOTONIC, until) == 0;
#else
	struct timespec now;

	while (sem_trywait(&answered) != 0) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec > until->tv_sec ||
		    (now.tv_sec == until->tv_sec && now.tv_nsec >= until->tv_nsec))
			return false;
		nanosleep(&(struct timespec){ 0, 10000 }, NULL);
	}
	return true;
#endif
}

static void drain_signal(const struct timespec *until)
{
	unsigned left = worker_count;

	for (unsigned i = 0; i < worker_count; i++)
		send(&workers[i]);
	/* Each signal is answered: the pcp is empty, or it was locked and is asked again. */
	while (left && wait_answer(until)) {
		left = 0;
		for (unsigned i = 0; i < worker_count; i++) {
			uint32_t asked = atomic_load_explicit(&workers[i].asked,
							      memory_order_acquire);

			if (asked == ASKED_AGAIN)
				send(&workers[i]);
			left += asked != ASKED_NOT;
		}
	}
}

static void drain_cooperative(void)
{
	for (unsigned i = 0; i < worker_count; i++)
		atomic_store_explicit(&workers[i].asked, ASKED, memory_order_release);
}

/* If the thread is one that sleeps, waits until it does. */
static void wait_asleep(const struct worker *w)
{
	char state = 0;

	while (w->kind == ASLEEP && state != 'S') {
		char path[64];
		FILE *f;

		nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
		snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)w->tid);
		f = fopen(path, "re");
		if (!f || fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
			fail(path, errno);
		fclose(f);
	}
}

static void start_all(void)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };

	sigaction(SIGRTMIN, &action, NULL);
	sem_init(&answered, 0, 0);
	if (pipe(asleep_pipe) != 0)
		fail("pipe", errno);
	pthread_barrier_init(&ready, NULL, worker_count + 1);
	for (unsigned i = 0; i < worker_count; i++) {
		struct worker *w = &workers[i];
		int error;

		w->kind = i % 16 == 0 ? COMPUTING : i % 16 == 1 ? HOT : ASLEEP;
		error = pthread_create(&w->thread, NULL, work, w);
		if (error)
			fail("pthread_create", error);
	}
	pthread_barrier_wait(&ready);
	for (unsigned i = 0; i < worker_count; i++)
		wait_asleep(&workers[i]);
	nanosleep(&(struct timespec){ 0, 50000000 }, NULL); /* and the others have begun */
}

static void stop_all(void)
{
	atomic_store_explicit(&stop, 1, memory_order_relaxed);
	close(asleep_pipe[1]);
	for (unsigned i = 0; i < worker_count; i++)
		pthread_join(workers[i].thread, NULL);
}

/* Returns the drainer's CPU time, and in *begin when the drain began. */
static uint64_t drain(uint64_t *begin)
{
	struct timespec end;
	uint64_t cpu;

	for (unsigned i = 0; i < worker_count; i++) {
		workers[i].switches = switches_of(&workers[i]);
		workers[i].cpu_ns = cpu_of(&workers[i]);
	}
	atomic_store_explicit(&watched, 1, memory_order_relaxed);
	clock_gettime(CLOCK_MONOTONIC, &end);
	*begin = (uint64_t)end.tv_sec * 1000000000u + (uint64_t)end.tv_nsec;
	end.tv_nsec += WINDOW_MS * 1000000;
	end.tv_sec += end.tv_nsec / 1000000000;
	end.tv_nsec %= 1000000000;
	cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	if (mode == REMOTE)
		drain_remote();
	else if (mode == SIGNAL)
		drain_signal(&end);
	else if (mode == COOPERATIVE)
		drain_cooperative();
	cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL);
	atomic_store_explicit(&watched, 0, memory_order_relaxed);
	return cpu;
}

static void print_kind(enum kind kind, uint64_t begin)
{
	unsigned n = 0, left = 0;
	double signals = 0, voluntary = 0, involuntary = 0, paid = 0;
	uint64_t last = begin, worst = 0, worst_cpu = 0;

	for (unsigned i = 0; i < worker_count; i++) {
		struct worker *w = &workers[i];
		struct switches s;

		if (w->kind != kind)
			continue;
		n++;
		left += value(&w->emptied_ns) == 0;
		if (value(&w->emptied_ns) > last)
			last = value(&w->emptied_ns);
		s = switches_of(w);
		voluntary += (double)(s.voluntary - w->switches.voluntary);
		involuntary += (double)(s.involuntary - w->switches.involuntary);
		signals += atomic_load_explicit(&w->signals, memory_order_relaxed);
		paid += (double)(kind == ASLEEP ? cpu_of(w) - w->cpu_ns : value(&w->paid_ns));
		worst = max_size(worst, value(&w->worst_ns));
		worst_cpu = max_size(worst_cpu, value(&w->worst_cpu_ns));
	}
	printf("\"%s\":{\"threads\":%u,\"left\":%u,\"ms\":%.4f,\"signals\":%.2f,"
	       "\"voluntary\":%.2f,\"involuntary\":%.2f,\"cpu_us\":%.3f,\"worst_us\":%.1f,"
	       "\"worst_cpu_us\":%.1f}",
	       kind_names[kind], n, left, (double)(last - begin) / 1e6, signals / n, voluntary / n,
	       involuntary / n, paid / 1e3 / n, (double)worst / 1e3, (double)worst_cpu / 1e3);
}

static _Noreturn void usage(void)
{
	fprintf(stderr,
		"sluice-bench-drain: two arguments: remote, signal, cooperative or none; threads, "
		"%u to %u\n",
		THREADS_MIN, THREADS_MAX);
	exit(2);
}

int main(int argc, char **argv)
{
	unsigned long n;
	uint64_t begin, cpu;
	char *end;

	if (argc != 3)
		usage();
	while (mode < MODES && strcmp(argv[1], mode_names[mode]) != 0)
		mode++;
	n = strtoul(argv[2], &end, 10);
	if (mode == MODES || *end || n < THREADS_MIN || n > THREADS_MAX)
		usage();
	worker_count = (unsigned)n;
	workers = calloc(worker_count, sizeof(*workers));
	if (!workers)
		fail("threads", ENOMEM);
	sluice_init();
	start_all();
	cpu = drain(&begin);
	printf("{\"mode\":\"%s\",\"window_ms\":%u,\"drainer_cpu_us\":%.3f,\"kinds\":{",
	       mode_names[mode], WINDOW_MS, (double)cpu / 1e3);
	for (enum kind kind = 0; kind < KINDS; kind++) {
		if (kind)
			putchar(',');
		print_kind(kind, begin);
	}
	puts("}}");
	stop_all();
	free(workers);
	return 0;
}
