/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A preloaded library like many others (faketime, fakeroot, a sanitizer's runtime): it replaces
 * functions of the C library, asks dlsym for the real ones at their first call, and allocates.
 * Those that malloc calls at its start are called before malloc is ready. At the end it says on
 * stderr how many of the functions were called, and how many of the blocks that they kept have
 * changed.
 */
#include <dlfcn.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <time.h>
#include <pthread.h>
#include <unistd.h>

#define KEPT 5

static const size_t sizes[KEPT] = { 1, 100, 5000, 300000, 3 << 20 };

struct asked {
	void *_Atomic real;
	unsigned char *kept[KEPT];
	struct asked *next;
};

static struct asked *_Atomic asked;
static _Atomic unsigned bad;

static void expect(bool good)
{
	if (!good)
		bad++;
}

static void allocate(struct asked *a)
{
	for (int i = 0; i < KEPT; i++) {
		unsigned char *p = malloc(sizes[i]);
		unsigned char *q = calloc(1, sizes[i]);
		void *aligned = NULL;

		if (!p || !q)
			abort();
		expect(malloc_usable_size(p) >= sizes[i]);
		memset(p, i + 1, sizes[i]);
		expect(q[0] == 0 && q[sizes[i] - 1] == 0);
		a->kept[i] = realloc(p, sizes[i] + 1);
		free(q);
		expect(posix_memalign(&aligned, 4096, sizes[i]) == 0 &&
		       (uintptr_t)aligned % 4096 == 0);
		free(aligned);
	}
}

static void *begin(struct asked *a, const char *name)
{
	void *real = atomic_load(&a->real);
	void *none = NULL;

	if (real)
		return real;
	(void)dlsym(RTLD_NEXT, "no_such_function"); /* its error message is allocated */
	real = dlsym(RTLD_NEXT, name);
	if (!real)
		abort();
	/* The allocations of dlsym may have come here as well. */
	if (!atomic_compare_exchange_strong(&a->real, &none, real))
		return real;
	a->next = atomic_load(&asked);
	while (!atomic_compare_exchange_weak(&asked, &a->next, a))
		;
	allocate(a);
	return real;
}

#define FRONT(type, name, params, args)                                                            \
	type name params;                                                                          \
	type name params                                                                           \
	{                                                                                          \
		static struct asked a;                                                             \
		type(*real) params;                                                                \
		void *symbol = begin(&a, #name);                                                   \
                                                                                                   \
		memcpy(&real, &symbol, sizeof(real));                                              \
		return real args;                                                                  \
	}

FRONT(pid_t, getpid, (void), ())
FRONT(long, sysconf, (int name), (name))
FRONT(int, getrlimit, (__rlimit_resource_t r, struct rlimit *rl), (r, rl))
FRONT(char *, strpbrk, (const char *s, const char *accept), (s, accept))
FRONT(int, fstatfs, (int fd, struct statfs *s), (fd, s))
FRONT(int, clock_gettime, (clockid_t id, struct timespec *ts), (id, ts))
FRONT(int, pthread_key_create, (pthread_key_t * key, void (*end)(void *)), (key, end))
FRONT(int, sched_getcpu, (void), ())

__attribute__((destructor)) static void report(void)
{
	unsigned n = 0;

	for (struct asked *a = atomic_load(&asked); a; a = a->next, n++) {
		for (int i = 0; i < KEPT; i++) {
			for (size_t at = 0; at < sizes[i]; at++)
				expect(a->kept[i][at] == i + 1);
			free(a->kept[i]);
		}
	}
	fprintf(stderr, "asks: %u functions, %u bad\n", n, atomic_load(&bad));
}
