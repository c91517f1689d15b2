/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Eight threads allocate while the first one forks repeatedly, with so much memory that a fork
 * takes long. The statistics count what the threads allocate during the forks.
 *
 * usage: arena FORKS
 *
 * Status 77: no call met a fork.
 */
#include "lib/check.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum { THREADS = 8, BLOCKS = 500, BALLAST_MIB = 200, CHILD_SECONDS = 100 };

static atomic_int over;
static atomic_uint failed;

/* A block that any thread may take from the table: its length, and a pattern. */
static _Atomic(size_t *) block[BLOCKS];

static uint64_t statistic(const char *name)
{
	int (*get)(const char *, uint64_t *) =
		(int (*)(const char *, uint64_t *))dlsym(RTLD_DEFAULT, "sluice_stat");
	uint64_t v = 0;

	CHECK(get != NULL && get(name, &v) == 0, "%s", name);
	return v;
}

static size_t *fresh(uint64_t *seed)
{
	uint64_t r = helper_random(seed);
	size_t n = 16 + (r % 16 ? r / 64 % 500 : r % 256 ? r / 64 % 20000 : r / 64 % 250000);
	int zeroed = r / 32 % 2;
	size_t *p = zeroed ? calloc(1, n) : malloc(n);

	if (p == NULL) {
		atomic_fetch_add(&failed, 1);
		return NULL;
	}
	if (zeroed)
		for (size_t i = 0; i < n; i++)
			if (((unsigned char *)p)[i] != 0) {
				CHECK(0, "calloc(%zu): byte %zu is not zero", n, i);
				break;
			}
	CHECK(malloc_usable_size(p) >= n, "%zu", n);
	helper_fill(p + 1, n - sizeof *p, n);
	*p = n;
	return p;
}

static void give_back(size_t *p)
{
	if (p == NULL)
		return;
	CHECK(helper_verify(p + 1, *p - sizeof *p, *p) == *p - sizeof *p, "%zu bytes", *p);
	free(p);
}

static void step(uint64_t *seed)
{
	uint64_t r = helper_random(seed);
	_Atomic(size_t *) *at = &block[r % BLOCKS];
	size_t *p = atomic_exchange(at, NULL);

	if (p != NULL && r / BLOCKS % 8 == 0) {
		size_t n = 16 + r / BLOCKS / 8 % 1000;
		size_t kept = n < *p ? n : *p;
		size_t *q = realloc(p, n);

		if (q == NULL) {
			atomic_fetch_add(&failed, 1);
			give_back(p);
			return;
		}
		CHECK(helper_verify(q + 1, kept - sizeof *q, *q) == kept - sizeof *q,
		      "realloc of %zu to %zu", *q, n);
		free(q);
		p = NULL;
	}
	give_back(p);
	give_back(atomic_exchange(at, fresh(seed)));
}

static void *thread(void *arg)
{
	uint64_t seed = (uintptr_t)arg;

	while (!over)
		for (int i = 0; i < 20; i++)
			step(&seed);
	return NULL;
}

/* The child also has copies of what the threads had, wherever that was. */
static void child(void)
{
	uint64_t seed = 99;

	alarm(test_limit(CHILD_SECONDS));
	for (int i = 0; i < 200; i++)
		step(&seed);
	for (int i = 0; i < BLOCKS; i++)
		give_back(atomic_exchange(&block[i], NULL));
	_exit(helper_failed != 0 || failed != 0);
}

int main(int argc, char **argv)
{
	int forks = argc > 1 ? atoi(argv[1]) : 200;
	pthread_t t[THREADS];
	char *ballast = malloc((size_t)BALLAST_MIB << 20);

	if (ballast == NULL)
		return 98;
	memset(ballast, 1, (size_t)BALLAST_MIB << 20);
	for (uintptr_t i = 0; i < THREADS; i++)
		if (pthread_create(&t[i], NULL, thread, (void *)(i + 1)) != 0)
			return 98;
	for (int i = 0; i < forks; i++) {
		int status = -1;
		pid_t pid = fork();

		if (pid == 0)
			child();
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		CHECK(pid > 0 && status == 0, "child %d ended with 0x%x", i, (unsigned)status);
	}
	over = 1;
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < BLOCKS; i++)
		give_back(atomic_exchange(&block[i], NULL));
	CHECK(failed == 0, "%u calls failed", failed);
	CHECK(statistic("emergency_maps") <= 4 * (uint64_t)forks, "%lu mappings in %d forks",
	      (unsigned long)statistic("emergency_maps"), forks);
	CHECK(statistic("arena_bytes") == 0, "%lu bytes are left",
	      (unsigned long)statistic("arena_bytes"));
	CHECK(statistic("huge_objects") == 1, "%lu mappings of objects are left",
	      (unsigned long)statistic("huge_objects"));
	ballast[0] = 2;
	free(ballast);
	fprintf(stderr, "%lu calls in %lu mappings, %d forks\n",
		(unsigned long)statistic("emergency_objects"),
		(unsigned long)statistic("emergency_maps"), forks);
	if (helper_failed == 0 && statistic("emergency_objects") == 0)
		return 77;
	return helper_end();
}
