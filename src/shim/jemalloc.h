/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * jemalloc.h - what jemalloc 5.3 offers beyond the malloc family, under its names. Programs have
 * the declarations from <jemalloc/jemalloc.h>; doc/jemalloc.md says name by name what is behind
 * them here.
 */
#ifndef SLUICE_JEMALLOC_H
#define SLUICE_JEMALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Flags of the x-functions: the binary logarithm of the alignment, and zeroed memory. The bits
 * above name a cache and an arena, of which we have one each. */
#define MALLOCX_LG_ALIGN_MASK 0x3f
#define MALLOCX_ZERO 0x40

/* An index of arena.<i> and stats.arenas.<i> that stands for all arenas. */
#define MALLCTL_ARENAS_ALL 4096u

/* mallocx and rallocx return NULL if there is no memory, and leave errno alone. A size of 0, which
 * jemalloc does not define, counts as 1. */
void *mallocx(size_t size, int flags);
void *rallocx(void *p, size_t size, int flags);

/* Tries to make the block size to size + extra bytes long where it is. Returns its length, at the
 * end of the call, whatever came of it. */
size_t xallocx(void *p, size_t size, size_t extra, int flags);

/* The length of the block, and of one that mallocx would return (0 if there can be none). */
size_t sallocx(const void *p, int flags);
size_t nallocx(size_t size, int flags);

void dallocx(void *p, int flags);
void sdallocx(void *p, size_t size, int flags);

/*
 * Read and write a value by its name. Returns 0, ENOENT (no such name), EPERM (read-only or
 * write-only), EINVAL (a length that does not fit, or a value that is not valid), EFAULT or EAGAIN.
 * Never sets errno. Any thread; not in a signal handler.
 */
int mallctl(const char *name, void *old, size_t *old_len, void *new, size_t new_len);
int mallctlnametomib(const char *name, size_t *mib, size_t *mib_len);
int mallctlbymib(const size_t *mib, size_t mib_len, void *old, size_t *old_len, void *new,
		 size_t new_len);

/* Writes statistics by calls of write, or to standard error if write is NULL. opts: letters, NULL
 * for none; J: as JSON; g, m, d, a, b, l, x, e, h: leave parts out, as jemalloc does. stats_print:
 * the library's own name for it, because the program may have a function of the other. */
void malloc_stats_print(void (*write)(void *arg, const char *text), void *arg, const char *opts);
void stats_print(void (*write)(void *arg, const char *text), void *arg, const char *opts)
	__attribute__((visibility("hidden")));

#endif
