/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * churn [ROUNDS]: in each round 32 threads allocate and free blocks and objects, and one drain
 * gives all memory back, regions included. The number of mappings of the process may never exceed
 * that after the first round by more than 64.
 */
#include "lib/check.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sluice/sluice.h>

enum { THREADS = 32, BLOCKS = 8, OBJECTS = 50, EXTRA = 64 };

static pthread_barrier_t begin;
static pthread_barrier_t full;
static pthread_barrier_t end;
static unsigned rounds = 1000;
static unsigned failures; /* errors of malloc; guarded by the barriers */

/* Uses a buffer on the stack, because stdio would allocate one. */
static unsigned mappings(void)
{
	static char text[65536];
	int fd = open("/proc/self/maps", O_RDONLY);
	unsigned lines = 0;
	ssize_t n;

	if (fd < 0)
		abort();
	while ((n = read(fd, text, sizeof text)) > 0)
		for (ssize_t i = 0; i < n; i++)
			lines += text[i] == '\n';
	close(fd);
	return lines;
}

struct worker {
	uint64_t seed;
	unsigned char *p[2][BLOCKS + OBJECTS];
};

/* Only the ends of a block are touched, so that many regions come and go at little cost. */
static void take(struct worker *w, unsigned char **p)
{
	for (unsigned i = 0; i < BLOCKS + OBJECTS; i++) {
		uint64_t r = helper_random(&w->seed);
		size_t n = i < BLOCKS ? (64 + r % 4032) << 10 : 16 + r % 3000;

		p[i] = malloc(n);
		if (p[i] == NULL)
			__atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED);
		else
			p[i][0] = p[i][n - 1] = 1;
	}
}

/* A third of what was taken in an even round lives until the end of the odd round after it, so that
 * memory comes back in pieces, then as a whole. */
static void turn(struct worker *w, unsigned round)
{
	unsigned char **p = w->p[round % 2];

	take(w, p);
	pthread_barrier_wait(&full);
	for (unsigned i = 0; i < BLOCKS + OBJECTS; i++) {
		if (round % 2 == 0 && i % 3 == 0)
			continue;
		free(p[i]);
		p[i] = NULL;
	}
	for (unsigned i = 0; round % 2 && i < BLOCKS + OBJECTS; i++) {
		free(w->p[0][i]);
		w->p[0][i] = NULL;
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < rounds; i++) {
		pthread_barrier_wait(&begin);
		turn(w, i);
		pthread_barrier_wait(&end);
	}
	return NULL;
}

static struct worker worker[THREADS];

int main(int argc, char **argv)
{
	int (*drain)(unsigned, struct sluice_drain_report *) =
		(int (*)(unsigned, struct sluice_drain_report *))dlsym(RTLD_DEFAULT,
								       "sluice_drain");
	pthread_t t[THREADS];
	unsigned first = 0;
	unsigned most = 0;
	unsigned large = 0;

	if (drain == NULL) {
		helper_say("not the library");
		return 97;
	}
	if (argc > 1)
		rounds = (unsigned)atoi(argv[1]);
	pthread_barrier_init(&begin, NULL, THREADS + 1);
	pthread_barrier_init(&full, NULL, THREADS);
	pthread_barrier_init(&end, NULL, THREADS + 1);
	for (unsigned i = 0; i < THREADS; i++) {
		worker[i].seed = i + 1;
		if (pthread_create(&t[i], NULL, work, &worker[i]) != 0)
			return 98;
	}
	for (unsigned i = 0; i < rounds; i++) {
		struct sluice_drain_report r;
		unsigned n;

		pthread_barrier_wait(&begin);
		pthread_barrier_wait(&end);
		n = mappings();
		first = i == 0 ? n : first;
		most = n > most ? n : most;
		CHECK(drain(SLUICE_DRAIN_IDLE | SLUICE_DRAIN_PURGE | SLUICE_DRAIN_REGIONS, &r) == 0,
		      "drain %u", i);
		large += r.bytes_unmapped > 0;
		n = mappings();
		most = n > most ? n : most;
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	CHECK(failures == 0, "malloc failed %u times", failures);
	CHECK(large * 3 > rounds, "regions were unmapped in %u rounds of %u", large, rounds);
	CHECK(most <= first + EXTRA, "%u mappings after a round, later %u", first, most);
	fprintf(stderr, "%u mappings after a round, at most %u\n", first, most);
	return helper_end();
}
