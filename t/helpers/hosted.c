/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hosted [MODE]: a program for tools that run, watch or record others (preload/hosts.sh). It uses
 * each member of the family, with one thread and with four, and ends with "N checks, M failed". The
 * test also compiles it itself, for sanitizers.
 *
 *	one		with one thread
 *	threads		with four (the default)
 *	waits		with one more; allocates blocks, waits for a line on standard input, and
 *			checks the blocks
 *	overflows	writes one byte after the end of a block
 *	races		two threads write a word without synchronization
 */
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 4
#define BLOCKS 500
#define ROUNDS 10

void free_sized(void *p, size_t size) __attribute__((weak));
void free_aligned_sized(void *p, size_t align, size_t size) __attribute__((weak));

static unsigned checks;
static unsigned failed;
static unsigned raced;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void check(int good)
{
	pthread_mutex_lock(&lock);
	checks++;
	if (!good)
		failed++;
	pthread_mutex_unlock(&lock);
}

static void fill(unsigned char **block)
{
	for (unsigned i = 0; i < BLOCKS; i++) {
		block[i] = malloc(16 + i * 7);
		memset(block[i], (int)i, 16 + i * 7);
	}
}

static void look(unsigned char **block)
{
	int good = 1;

	for (unsigned i = 0; i < BLOCKS; i++) {
		for (unsigned at = 0; at < 16 + i * 7; at++)
			good &= block[i][at] == (unsigned char)i;
		free(block[i]);
	}
	check(good);
}

static void *work(void *arg)
{
	for (int r = 0; r < ROUNDS; r++) {
		unsigned char *block[BLOCKS];

		fill(block);
		look(block);
	}
	return arg;
}

static void family(void)
{
	char *p = malloc(100);
	void *q = NULL;

	q = realloc(p, 5000);
	p = reallocarray(q, 10, 1000);
	check(p && malloc_usable_size(p) >= 10000);
	free(p);
	p = calloc(10, 1000);
	check(p && !p[0] && !p[9999]);
	free(p);
	p = memalign(64, 640);
	check((uintptr_t)p % 64 == 0);
	free(p);
	check(posix_memalign(&q, 4096, 10000) == 0 && (uintptr_t)q % 4096 == 0);
	free(q);
	if (free_sized && free_aligned_sized) {
		free_sized(malloc(100), 100);
		free_aligned_sized(memalign(64, 128), 64, 128);
	}
	p = malloc(50 << 20);
	p[0] = 1;
	q = realloc(p, 60 << 20);
	check(q && *(char *)q == 1);
	free(q);
	p = strdup("text");
	check(p && p[3] == 't');
	free(p);
}

static void *race(void *arg)
{
	raced++;
	return arg;
}

static pthread_barrier_t gone_on;

/* A thread that holds blocks and does nothing. */
static void *stay(void *arg)
{
	unsigned char *block[BLOCKS];

	fill(block);
	pthread_barrier_wait(&gone_on);
	pthread_barrier_wait(&gone_on);
	look(block);
	return work(arg);
}

static void wait_for_line(void)
{
	pthread_t t;

	pthread_barrier_init(&gone_on, NULL, 2);
	check(pthread_create(&t, NULL, stay, NULL) == 0);
	pthread_barrier_wait(&gone_on);
	puts("ready");
	fflush(stdout);
	check(getchar() != EOF);
	pthread_barrier_wait(&gone_on);
	pthread_join(t, NULL);
}

static void together(void *(*fn)(void *), unsigned n)
{
	pthread_t t[THREADS];

	for (unsigned i = 0; i < n; i++)
		check(pthread_create(&t[i], NULL, fn, NULL) == 0);
	for (unsigned i = 0; i < n; i++)
		pthread_join(t[i], NULL);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "threads";
	unsigned char *block[BLOCKS];
	static volatile unsigned at = 100;

	fill(block);
	family();
	if (strcmp(mode, "one") == 0)
		work(NULL);
	else
		together(work, THREADS);
	if (strcmp(mode, "waits") == 0) {
		wait_for_line();
		together(work, THREADS);
	}
	if (strcmp(mode, "overflows") == 0) {
		char *p = malloc(at);

		p[at] = 1;
		free(p);
	}
	if (strcmp(mode, "races") == 0)
		together(race, 2);
	look(block);
	printf("%u checks, %u failed\n", checks, failed);
	return failed != 0;
}
