/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A typical tracer: it defines malloc, free and the other members, and finds the next ones by dlsym
 * in their first call. At the end it prints on stderr how many calls it passed on, and how many
 * calls the next ones made back to it: a tracer that puts a header before each block would then
 * have two there.
 */
#include <dlfcn.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

static void *(*next_malloc)(size_t);
static void (*next_free)(void *);
static _Atomic unsigned long mallocs, frees;

static _Thread_local int inside;
static _Atomic unsigned long nested;

static void enter(void)
{
	if (inside++)
		atomic_fetch_add(&nested, 1);
}

void *malloc(size_t n)
{
	void *p;

	if (next_malloc == NULL)
		*(void **)&next_malloc = dlsym(RTLD_NEXT, "malloc");
	atomic_fetch_add(&mallocs, 1);
	enter();
	p = next_malloc(n);
	inside--;
	return p;
}

void free(void *p)
{
	if (next_free == NULL)
		*(void **)&next_free = dlsym(RTLD_NEXT, "free");
	atomic_fetch_add(&frees, 1);
	enter();
	next_free(p);
	inside--;
}

#define WRAP(type, name, parameters, ...)                                                          \
	type name parameters                                                                       \
	{                                                                                          \
		static type(*next) parameters;                                                     \
		type r;                                                                            \
                                                                                                   \
		if (next == NULL)                                                                  \
			*(void **)&next = dlsym(RTLD_NEXT, #name);                                 \
		enter();                                                                           \
		r = next(__VA_ARGS__);                                                             \
		inside--;                                                                          \
		return r;                                                                          \
	}

WRAP(void *, realloc, (void *p, size_t n), p, n)
WRAP(void *, calloc, (size_t n, size_t size), n, size)
WRAP(void *, memalign, (size_t align, size_t n), align, n)
WRAP(void *, aligned_alloc, (size_t align, size_t n), align, n)
WRAP(int, posix_memalign, (void **p, size_t align, size_t n), p, align, n)
WRAP(void *, valloc, (size_t n), n)
WRAP(void *, pvalloc, (size_t n), n)

__attribute__((destructor)) static void report(void)
{
	fprintf(stderr, "wrapper: %lu mallocs, %lu frees, %lu nested\n", mallocs, frees, nested);
}
