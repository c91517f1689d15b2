/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * idle CASE [THREADS [MIB [SECONDS [LIMIT]]]]: threads fill memory, all of it is freed, and then
 * all threads sleep and no thread calls malloc. Prints KiB of RSS above the floor at the peak, and
 * after SECONDS or as soon as the RSS is at most LIMIT.
 *
 * CASE: owner (each thread frees its own), main (the first thread frees all), half (half each),
 * blocks (as owner, with 4 to 64 KiB instead of 16 to 1,024 bytes).
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/statm.h"

#define THREADS_MAX 1024

struct worker {
	void **object; /* mapped, so that the list itself is not the allocator's */
	size_t count;
	size_t list_bytes;
	uint64_t seed;
};

static struct worker worker[THREADS_MAX];
static size_t bytes_each;
static const char *kind;
static pthread_barrier_t filled;
static pthread_barrier_t freed;

static size_t next_size(struct worker *w)
{
	w->seed = w->seed * 6364136223846793005u + 1442695040888963407u;
	if (strcmp(kind, "blocks") == 0)
		return 4096 + (size_t)(w->seed >> 33) % (61440 + 1);
	return 16 + (size_t)(w->seed >> 33) % (1008 + 1);
}

static void fill(struct worker *w)
{
	for (size_t total = 0; total < bytes_each;) {
		size_t n = next_size(w);
		void *p = malloc(n);

		if (p == NULL)
			abort();
		memset(p, 1, n);
		w->object[w->count++] = p;
		total += n;
	}
}

static void free_from(struct worker *w, size_t first, size_t step)
{
	for (size_t i = first; i < w->count; i += step)
		free(w->object[i]);
}

static void *work(void *arg)
{
	struct worker *w = arg;

	fill(w);
	pthread_barrier_wait(&filled);
	if (strcmp(kind, "owner") == 0 || strcmp(kind, "blocks") == 0)
		free_from(w, 0, 1);
	else if (strcmp(kind, "half") == 0)
		free_from(w, 0, 2);
	pthread_barrier_wait(&freed);
	for (;;)
		pause();
	return NULL;
}

static long number(int argc, char **argv, int i, long fallback)
{
	return argc > i ? atol(argv[i]) : fallback;
}

int main(int argc, char **argv)
{
	long threads = number(argc, argv, 2, 32);
	long floor = statm_rss_kib();
	long limit;
	long peak;

	if (argc < 2 || threads < 1 || threads > THREADS_MAX) {
		fprintf(stderr,
			"usage: idle owner|main|half|blocks [THREADS [MIB [SECONDS [LIMIT]]]]\n");
		return 2;
	}
	kind = argv[1];
	bytes_each = (size_t)number(argc, argv, 3, 16) << 20;
	pthread_barrier_init(&filled, NULL, (unsigned)threads + 1);
	pthread_barrier_init(&freed, NULL, (unsigned)threads + 1);
	for (long i = 0; i < threads; i++) {
		pthread_t t;

		worker[i].seed = (uint64_t)i + 1;
		worker[i].list_bytes = (bytes_each / 16 + 1) * sizeof(void *);
		worker[i].object = mmap(NULL, worker[i].list_bytes, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (worker[i].object == MAP_FAILED || pthread_create(&t, NULL, work, &worker[i]))
			return 1;
	}
	pthread_barrier_wait(&filled);
	peak = statm_rss_kib() - floor;
	for (long i = 0; i < threads; i++) {
		if (strcmp(kind, "main") == 0)
			free_from(&worker[i], 0, 1);
		else if (strcmp(kind, "half") == 0)
			free_from(&worker[i], 1, 2);
	}
	pthread_barrier_wait(&freed);
	for (long i = 0; i < threads; i++)
		madvise(worker[i].object, worker[i].list_bytes, MADV_DONTNEED);
	limit = number(argc, argv, 5, -1);
	for (long left = 10 * number(argc, argv, 4, 3); left > 0 && statm_rss_kib() - floor > limit;
	     left--)
		usleep(100000);
	printf("peak %ld rest %ld\n", peak, statm_rss_kib() - floor);
	return 0;
}
