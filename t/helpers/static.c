/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A C program that is linked statically with the library's archive.
 * usage: static all|twice|beyond|none
 *
 *   all    threads of both kinds (POSIX, C11) allocate, free each other's objects, and fork; the
 *          library serves them
 *   twice  frees a block twice
 *   beyond writes a byte behind a block and frees it
 *   none   does no more than begin and end
 */
#include "lib/check.h"

#include <malloc.h>
#include <pthread.h>
#include <sluice/sluice.h>
#include <sys/wait.h>
#include <threads.h>

enum { THREADS = 8, BLOCKS = 2000 };

static void *passed[THREADS][BLOCKS];

static void *work(void *arg)
{
	void **p = arg;
	uint64_t state = (uintptr_t)arg;

	for (int i = 0; i < BLOCKS; i++) {
		size_t n = helper_random(&state) % (i % 100 == 0 ? 300000 : 3000) + 1;

		p[i] = malloc(n);
		if (p[i] == NULL)
			abort();
		memset(p[i], i, n);
		p[i] = realloc(p[i], n + 100);
		if (*(unsigned char *)p[i] != (unsigned char)i)
			abort();
	}
	return arg;
}

static int c11_work(void *arg)
{
	return work(arg) != arg;
}

static int child(void)
{
	pthread_t t;

	if (pthread_create(&t, NULL, work, passed[0]) != 0 || pthread_join(t, NULL) != 0)
		return 1;
	free(passed[0][1]);
	return 0;
}

static void all(void)
{
	pthread_t posix[THREADS];
	thrd_t c11[THREADS];
	uint64_t made = 0;
	int status;
	int result;

	for (int i = 0; i < THREADS; i += 2) {
		CHECK(pthread_create(&posix[i], NULL, work, passed[i]) == 0, "thread %d", i);
		CHECK(thrd_create(&c11[i], c11_work, passed[i + 1]) == thrd_success, "thread %d",
		      i);
	}
	for (int i = 0; i < THREADS; i += 2) {
		CHECK(pthread_join(posix[i], NULL) == 0, "thread %d", i);
		CHECK(thrd_join(c11[i], &result) == thrd_success && result == 0, "thread %d", i);
	}
	for (int i = 0; i < THREADS; i++)
		for (int k = 0; k < BLOCKS; k++)
			free(passed[i][k]);
	for (int i = 0; i < 20; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(child());
		CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "child %#x",
		      status);
	}
	CHECK(sluice_stat("slabs_made", &made) == 0 && made > 0, "%lu slabs", (unsigned long)made);
	CHECK(malloc_usable_size(passed[0][0] = calloc(1, 33000)) == 49152, "not the library");
}

int main(int argc, char **argv)
{
	void *volatile p = malloc(100);

	if (argc == 2 && strcmp(argv[1], "twice") == 0) {
		free(p);
		free(p);
		return 0;
	}
	if (argc == 2 && strcmp(argv[1], "beyond") == 0) {
		((char *)p)[100] = 1;
		free(p);
		return 0;
	}
	free(p);
	if (argc == 2 && strcmp(argv[1], "none") == 0)
		return 0;
	all();
	return helper_end();
}
