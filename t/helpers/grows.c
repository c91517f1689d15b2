/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * grows MIB [FILE]: a program that grows by small objects to MIB mebibytes and frees them all.
 * Prints how many of its KiB the kernel backs with huge pages when it is large, and how many KiB it
 * has more than at the start when all is given back. FILE: where the kernel tells how much memory
 * its cgroup uses; of this it prints how many KiB came back when it had freed and trimmed three
 * quarters, in pieces of 400 objects. Ends with 77 where the kernel gives no huge page.
 *
 * grows threads: 64 threads grow by 1 MB each, all at once. Prints how many KiB of it the kernel
 * backs with huge pages, and how many KiB are resident beyond what the objects take.
 *
 * grows untouched: a program that has 18 MiB of small objects, then gets 2,000 blocks of 100,000
 * bytes, of each of which it writes one byte, with 1,000 bytes of small objects for each; then 200
 * threads, each of which has one object of each of 60 sizes. Prints how many KiB the kernel backs
 * with huge pages, and how many KiB are resident beyond the small objects.
 */
#include "lib/check.h"

#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/mman.h>

#define HUGE ((size_t)2 << 20)
#define OBJECT 1000u
#define PIECE 400u
#define SMALL ((size_t)18 << 20) /* a process of this size grows by huge pages */

static long field_kib(const char *field)
{
	FILE *f = fopen("/proc/self/smaps_rollup", "r");
	size_t n = strlen(field);
	char line[512];
	long kib = 0;

	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, field, n) == 0)
			kib = strtol(line + n, NULL, 10);
	if (f != NULL)
		fclose(f);
	return kib;
}

static long number_kib(const char *path)
{
	FILE *f = fopen(path, "r");
	char line[64] = "";

	if (f == NULL || fgets(line, sizeof(line), f) == NULL)
		abort();
	fclose(f);
	return (long)(strtoull(line, NULL, 10) >> 10);
}

static bool has_huge_pages(void)
{
	char *p = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *at;
	bool have;

	if (p == MAP_FAILED)
		return false;
	at = p + (HUGE - (uintptr_t)p % HUGE) % HUGE;
	if (madvise(at, HUGE, MADV_HUGEPAGE) != 0)
		return false;
	*(volatile char *)at = 1;
	have = field_kib("AnonHugePages:") > 0;
	munmap(p, 2 * HUGE);
	return have;
}

static pthread_barrier_t barrier;
static _Thread_local void *newest; /* no object is freed */

static void grow(size_t bytes)
{
	for (size_t i = 0; i < bytes / OBJECT; i++)
		memset(newest = malloc(OBJECT), 1, OBJECT);
}

static void *grower(void *arg)
{
	pthread_barrier_wait(&barrier);
	grow(1000000);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	return arg;
}

static int threads(void)
{
	enum { THREADS = 64 };
	pthread_t t[THREADS];
	long start = field_kib("Rss:");

	grow(SMALL);
	pthread_barrier_init(&barrier, NULL, THREADS + 1);
	for (int i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, grower, NULL);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	printf("%ld %ld\n", field_kib("AnonHugePages:"),
	       field_kib("Rss:") - start - (long)(SMALL / 1024) - THREADS * 1000000 / 1024);
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	return 0;
}

static void *one_of_each(void *arg)
{
	for (size_t i = 1; i <= 60; i++)
		*(volatile char *)(newest = malloc(i * 64)) = 1;
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	return arg;
}

static int untouched(void)
{
	enum { THREADS = 200, BLOCKS = 2000 };
	pthread_t t[THREADS];
	long start = field_kib("Rss:");

	grow(SMALL);
	for (int i = 0; i < BLOCKS; i++) {
		*(volatile char *)(newest = malloc(100000)) = 1;
		grow(1000);
	}
	pthread_barrier_init(&barrier, NULL, THREADS + 1);
	for (int i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, one_of_each, NULL);
	pthread_barrier_wait(&barrier);
	printf("%ld %ld\n", field_kib("AnonHugePages:"),
	       field_kib("Rss:") - start - (long)(SMALL / 1024) - BLOCKS * 1000 / 1024);
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	return 0;
}

int main(int argc, char **argv)
{
	size_t n = (size_t)(argc > 1 ? atol(argv[1]) : 1) * (1u << 20) / OBJECT;
	char **o = malloc(n * sizeof(*o));
	long start;
	long huge;
	long back = 0;

	if (!has_huge_pages())
		return 77;
	if (argc > 1 && strcmp(argv[1], "threads") == 0)
		return threads();
	if (argc > 1 && strcmp(argv[1], "untouched") == 0)
		return untouched();
	memset(o, 0, n * sizeof(*o));
	start = field_kib("Rss:");
	for (size_t i = 0; i < n; i++) {
		o[i] = malloc(OBJECT);
		if (o[i] == NULL)
			abort();
		memset(o[i], 1, OBJECT);
	}
	huge = field_kib("AnonHugePages:");
	if (argc > 2) {
		long full = number_kib(argv[2]);

		for (size_t i = 0; i < n; i++)
			if (i / PIECE % 4 != 0) {
				free(o[i]);
				o[i] = NULL;
			}
		malloc_trim(0);
		back = full - number_kib(argv[2]);
	}
	for (size_t i = 0; i < n; i++)
		free(o[i]);
	malloc_trim(0);
	printf("%ld %ld %ld\n", huge, field_kib("Rss:") - start, back);
	free(o);
	return 0;
}
