/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sharing - small versions of the rows of `sluice-bench scale`, and how often they use locks and
 * lines that threads share (src/base/share.h): one line "ROW NAME COUNT" each, COUNT for 1,000
 * operations.
 *
 * Eight threads run strictly one after another, with fixed seeds and fixed numbers of operations,
 * so that the counts do not depend on the scheduler: no lock is found held, and no compare-and-swap
 * fails. Each row is a process of its own.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "heap/heap.h"
#include "shim/init.h"
#include "base/share.h"

#define THREADS 8u
#define SLOTS 128u

struct thread {
	pthread_t thread;
	sem_t go;
	sem_t done;
	void (*job)(struct thread *t); /* NULL: the thread ends */
	unsigned index;
	uint64_t seed;
	uint64_t ops;
	void *slot[SLOTS];
};

static struct thread threads[THREADS];

static void fail(const char *text)
{
	fprintf(stderr, "sharing: %s\n", text);
	_exit(1);
}

static uint32_t below(uint64_t *seed, uint32_t n)
{
	*seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(((*seed >> 32) * n) >> 32);
}

/* Sizes from min on, equally many in each doubling. */
static size_t size_of(uint64_t *seed, unsigned min, unsigned doublings)
{
	size_t low = (size_t)min << below(seed, doublings);

	return low + below(seed, (uint32_t)low);
}

static void *take(size_t size)
{
	void *p = heap_alloc(size);

	if (!p) {
		fail("no memory");
		return NULL;
	}
	*(volatile char *)p = 1;
	return p;
}

/* ---- threads in turn ------------------------------------------------------------------------- */

static void wait_for(sem_t *sem)
{
	while (sem_wait(sem) != 0)
		;
}

static void *thread_main(void *arg)
{
	struct thread *t = arg;

	for (;;) {
		wait_for(&t->go);
		if (!t->job)
			return NULL;
		t->job(t);
		sem_post(&t->done);
	}
}

static void begin(struct thread *t)
{
	if (pthread_create(&t->thread, NULL, thread_main, t) != 0)
		fail("cannot create a thread");
}

static void tell(struct thread *t, void (*job)(struct thread *t))
{
	t->job = job;
	sem_post(&t->go);
	if (job)
		wait_for(&t->done);
	else
		pthread_join(t->thread, NULL);
}

static void each(void (*job)(struct thread *t))
{
	for (unsigned i = 0; i < THREADS; i++)
		tell(&threads[i], job);
}

/* ---- what is counted ------------------------------------------------------------------------- */

static uint64_t from[SHARES];

static void count_from_here(void)
{
	for (unsigned s = 0; s < SHARES; s++)
		from[s] = share_sum((enum share_id)s);
	for (unsigned i = 0; i < THREADS; i++)
		threads[i].ops = 0;
}

static void show(const char *row)
{
	uint64_t ops = 0;

	for (unsigned i = 0; i < THREADS; i++)
		ops += threads[i].ops;
	for (unsigned s = 0; s < SHARES; s++) {
		uint64_t n = share_sum((enum share_id)s) - from[s];

		if (n)
			printf("%-8s %-16s %10.3f\n", row, share_name((enum share_id)s),
			       1000.0 * (double)n / (double)ops);
	}
	printf("%-8s %-16s %10lu\n", row, "operations", (unsigned long)ops);
	fflush(stdout);
}

/* ---- the rows -------------------------------------------------------------------------------- */

static void start_job(struct thread *t)
{
	void *page = take(65536);

	for (unsigned i = 0; i < 100; i++)
		t->slot[i] = take(size_of(&t->seed, 16, 6));
	for (unsigned i = 0; i < 100; i++)
		heap_free(t->slot[i]);
	heap_free(page);
	t->ops += 101;
}

static void start_row(void)
{
	for (unsigned round = 0; round < 18; round++) {
		if (round == 2)
			count_from_here();
		for (unsigned i = 0; i < THREADS; i++)
			begin(&threads[i]);
		each(start_job);
		each(NULL);
	}
}

static void churn_job(struct thread *t)
{
	for (unsigned i = 0; i < 500; i++) {
		unsigned slot = below(&t->seed, SLOTS);

		if (t->slot[slot])
			heap_free(t->slot[slot]);
		t->slot[slot] = take(size_of(&t->seed, 16, 6));
	}
	t->ops += 500;
}

static void steady(void (*job)(struct thread *t), unsigned warm, unsigned rounds)
{
	for (unsigned i = 0; i < THREADS; i++)
		begin(&threads[i]);
	for (unsigned round = 0; round < warm + rounds; round++) {
		if (round == warm)
			count_from_here();
		each(job);
	}
}

static void churn_row(void)
{
	steady(churn_job, 40, 100);
}

static void big_job(struct thread *t)
{
	heap_free(take(3000000));
	t->ops++;
}

static void big_row(void)
{
	steady(big_job, 4, 100);
}

/* Sizes of 64 to 300 KiB, 32 at a time. */
static void pages_job(struct thread *t)
{
	for (unsigned i = 0; i < 32; i++)
		t->slot[i] = take(65536 + below(&t->seed, 300000 - 65536));
	for (unsigned i = 0; i < 32; i++)
		heap_free(t->slot[i]);
	t->ops += 32;
}

/* The threads together grow to 86 MiB, and ask others for memory after each 16 MiB: the fifth time
 * in round 11, and not again. So the rounds that are counted have no growth. */
static void pages_row(void)
{
	steady(pages_job, 12, 50);
}

static void handoff_job(struct thread *t)
{
	struct thread *other = &threads[t->index & ~1u];

	for (unsigned i = 0; i < SLOTS; i++) {
		if (t == other) {
			t->slot[i] = take(size_of(&t->seed, 16, 4));
			t->ops++;
		} else {
			heap_free(other->slot[i]);
		}
	}
}

static void handoff_row(void)
{
	steady(handoff_job, 60, 100);
}

/* One grows to 64 MiB; all have something cached. */
static void growth_row(void)
{
	static void *all[65536];
	struct thread *t = &threads[0];
	size_t have = 0;
	unsigned n = 0;

	steady(start_job, 2, 0);
	count_from_here();
	for (; have < (size_t)64 << 20 && n < 65536; n++) {
		size_t size = size_of(&t->seed, 16, 12);

		all[n] = take(size);
		have += size;
	}
	t->ops = n;
	while (n)
		heap_free(all[--n]);
}

static void fork_job(struct thread *t)
{
	pid_t pid = fork();
	int status = 1;

	if (pid == 0) {
		heap_free(take(100));
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		fail("a child did not end well");
	t->ops++;
}

/* Here one operation is a fork. */
static void fork_row(void)
{
	steady(start_job, 2, 0);
	count_from_here();
	for (unsigned i = 0; i < 20; i++)
		fork_job(&threads[0]);
}

static const struct {
	const char *name;
	void (*run)(void);
} rows[] = {
	{ "start", start_row }, { "churn", churn_row },     { "big", big_row },
	{ "pages", pages_row }, { "handoff", handoff_row }, { "growth", growth_row },
	{ "fork", fork_row },
};

int main(void)
{
	for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
		int status = 1;
		pid_t pid = fork();

		if (pid == 0) {
			sluice_init();
			for (unsigned i = 0; i < THREADS; i++) {
				threads[i].index = i;
				threads[i].seed = i + 1;
				sem_init(&threads[i].go, 0, 0);
				sem_init(&threads[i].done, 0, 0);
			}
			count_from_here();
			rows[r].run();
			show(rows[r].name);
			_exit(0);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
			fprintf(stderr, "sharing: %s: status %#x\n", rows[r].name,
				(unsigned)status);
			return 1;
		}
	}
	return 0;
}
