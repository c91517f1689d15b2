/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A tracer as many are written: it defines malloc and free, and finds the next
 * one by dlsym in its first call. Says at the end on stderr how many calls it
 * passed on.
 */
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

static void *(*next_malloc)(size_t);
static void (*next_free)(void *);
static _Atomic unsigned long mallocs, frees;

void *malloc(size_t n)
{
	if (next_malloc == NULL)
		*(void **)&next_malloc = dlsym(RTLD_NEXT, "malloc");
	atomic_fetch_add(&mallocs, 1);
	return next_malloc(n);
}

void free(void *p)
{
	if (next_free == NULL)
		*(void **)&next_free = dlsym(RTLD_NEXT, "free");
	atomic_fetch_add(&frees, 1);
	next_free(p);
}

__attribute__((destructor)) static void report(void)
{
	fprintf(stderr, "wrapper: %lu mallocs, %lu frees\n", mallocs, frees);
}
