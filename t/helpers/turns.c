/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * turns CASE [THREADS [MIB]]: threads take turns; each allocates MIB of memory, uses and frees it,
 * and sleeps. Only one thread's memory is live at a time. Prints the process's peak RSS in MiB.
 *
 * CASE: small (16 to 1,024 bytes), handed (the same, freed by the next thread), blocks (4 to 64
 * KiB).
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static const char *kind;
static size_t bytes_each;
static void **object; /* mapped, so that the list itself is not the allocator's */
static size_t count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long turn;

static void free_all(void)
{
	while (count)
		free(object[--count]);
}

static void fill(uint64_t seed)
{
	for (size_t total = 0; total < bytes_each;) {
		size_t n;
		void *p;

		seed = seed * 6364136223846793005u + 1442695040888963407u;
		n = strcmp(kind, "blocks") == 0 ? 4096 + (size_t)(seed >> 33) % 61441
						: 16 + (size_t)(seed >> 33) % 1009;
		p = malloc(n);
		if (p == NULL)
			abort();
		memset(p, 1, n);
		object[count++] = p;
		total += n;
	}
}

static void *work(void *arg)
{
	long me = (long)(intptr_t)arg;

	pthread_mutex_lock(&lock);
	while (turn != me)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
	free_all(); /* blocks of the thread before */
	fill((uint64_t)me + 1);
	if (strcmp(kind, "handed") != 0)
		free_all();
	pthread_mutex_lock(&lock);
	turn++;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	for (;;)
		pause();
	return NULL;
}

int main(int argc, char **argv)
{
	long threads = argc > 2 ? atol(argv[2]) : 32;
	struct rusage ru;
	pthread_attr_t attr;

	if (argc < 2 || threads < 1) {
		fprintf(stderr, "usage: turns small|handed|blocks [THREADS [MIB]]\n");
		return 2;
	}
	kind = argv[1];
	bytes_each = (size_t)(argc > 3 ? atol(argv[3]) : 100) << 20;
	object = mmap(NULL, bytes_each / 16 * sizeof(void *), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (object == MAP_FAILED)
		return 1;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 << 10);
	for (long i = 0; i < threads; i++) {
		pthread_t t;

		if (pthread_create(&t, &attr, work, (void *)(intptr_t)i) != 0)
			return 1;
	}
	pthread_mutex_lock(&lock);
	while (turn < threads)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
	getrusage(RUSAGE_SELF, &ru);
	printf("peak %ld\n", ru.ru_maxrss / 1024);
	return 0;
}
