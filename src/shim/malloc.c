/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * malloc.c - the malloc family under its own names: errno, bad arguments, overflow; no policy.
 * Uses heap and reclaim; used by the program.
 *
 * Semantics: glibc 2.36, and POSIX where glibc leaves it open.
 *   malloc(0)          a unique pointer; no byte of it may be used (guard_zero:0: 16, as glibc)
 *   realloc(p, 0)      frees p and returns NULL, as glibc (C23: undefined)
 *   memalign           rounds an alignment that is not a power of two up to one, as glibc
 *   aligned_alloc      EINVAL unless the alignment is a power of two (C17; glibc from 2.38 on);
 *                      size need not be a multiple of it
 *   posix_memalign     returns EINVAL unless the alignment is a power of two and a multiple of
 *                      sizeof(void *), and keeps errno then; ENOMEM also sets errno, as glibc
 *   alignment          at least 16 for every size
 *   failure            NULL with errno ENOMEM in every function; success leaves errno unchanged
 *   free, cfree, ...   keep errno
 *   malloc_usable_size the length of the size class or of the run; all of it may be used
 *   calloc             the whole usable size reads as zero, as glibc
 *
 * Signal handlers may call malloc and free at any time, which POSIX does not ask for.
 *
 * No function calls another one by its exported name: that name may be a wrapper's, which puts a
 * header in front of each block and calls us. The exceptions are reallocarray, free_sized and
 * free_aligned_sized: another malloc in front of ours (the program's own, or valgrind's) often
 * lacks them, so they must end in its realloc and free.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/export.h"
#include "base/options.h"
#include "base/stats.h"
#include "heap/heap.h"
#include "os/seal.h"
#include "os/vm.h"
#include "reclaim/reclaim.h"
#include "shim/glibc_malloc.h"
#include "shim/init.h"

#define SIZE_LIMIT ((size_t)PTRDIFF_MAX)

void cfree(void *p);
size_t malloc_size(const void *p);
size_t malloc_good_size(size_t size);
void free_sized(void *p, size_t size);
void free_aligned_sized(void *p, size_t align, size_t size);

static noinline void *out_of_memory(void)
{
	errno = ENOMEM;
	return NULL;
}

static noinline void *malloc_slow(size_t size)
{
	void *p = NULL;

	if (likely(size <= SMALL_MAX))
		p = heap_alloc_slow(size);
	else if (size <= SIZE_LIMIT)
		p = heap_alloc_run(size);
	return likely(p != NULL) ? p : out_of_memory();
}

/* Out of line, so that malloc_next saves no registers for it. */
static noinline void *malloc_freed(size_t size, struct heap *h, size_t scaled)
{
	return heap_alloc_freed(size, h, scaled, malloc_slow);
}

static noinline void *malloc_next(size_t size, struct heap *h, size_t scaled)
{
	if (unlikely(heap_hooks != NULL))
		return heap_hooks->alloc_entered(size, h, scaled, malloc_slow);
	return malloc_freed(size, h, scaled);
}

static noinline void *malloc_large(size_t size)
{
	void *p = NULL;

	if (size <= LARGE_BIN_PAGES * PG_BYTES)
		p = heap_alloc_binned(heap_self, size);
	return likely(p != NULL) ? p : malloc_slow(size);
}

static always_inline void *alloc(size_t size)
{
	/* The order of these tests makes one of them enough for most sizes. */
	if (unlikely(size > CLASS_TABLE_MAX) && unlikely(size > SMALL_MAX))
		return malloc_large(size);
	return heap_alloc_fast(size, malloc_slow, malloc_next);
}

EXPORT HOT void *malloc(size_t size)
{
	return alloc(size);
}

/* Out of line, so that realloc stays small. */
static noinline void *own_malloc(size_t size)
{
	return alloc(size);
}

EXPORT HOT void free(void *p)
{
	heap_free(p);
}

EXPORT void cfree(void *p)
{
	heap_free(p);
}

/* Whether the program's blocks are ours as we made them. A malloc in front of ours may ask us for
 * other sizes than it is asked for; it has a free as well. */
OWN_FREE(free);

static noinline void check_size(void *p, size_t size, size_t align)
{
	if (IS_OURS(free) && is_pow2(align))
		heap_check_size(p, size, align, false);
}

EXPORT void free_sized(void *p, size_t size)
{
	if (heap_checks_sizes())
		check_size(p, size, 1);
	free(p);
}

EXPORT void free_aligned_sized(void *p, size_t align, size_t size)
{
	if (heap_checks_sizes())
		check_size(p, size, align);
	free(p);
}

static noinline void *calloc_slow(size_t bytes)
{
	void *p = heap_calloc_slow(bytes);

	return likely(p != NULL) ? p : out_of_memory();
}

EXPORT void *calloc(size_t n, size_t size)
{
	bool zero = false;
	size_t bytes;
	void *p;

	if (__builtin_mul_overflow(n, size, &bytes) || bytes > SIZE_LIMIT)
		return out_of_memory();
	if (likely(bytes <= SMALL_MAX)) {
		p = heap_alloc_hit(bytes);
		return likely(p != NULL) ? memset(p, 0, class_size(class_of(bytes)))
					 : calloc_slow(bytes);
	}
	p = heap_alloc_large_zero(bytes, &zero);
	if (unlikely(!p))
		return out_of_memory();
	return zero ? p : memset(p, 0, heap_usable(p));
}

EXPORT void *realloc(void *p, size_t size)
{
	void *q;

	if (!p)
		return own_malloc(size);
	if (size == 0) {
		stat_add(STAT_zero_reallocs, 1);
		heap_free(p);
		return NULL;
	}
	q = size <= SIZE_LIMIT ? heap_realloc(p, size) : NULL;
	return likely(q != NULL) ? q : out_of_memory();
}

EXPORT void *reallocarray(void *p, size_t n, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(n, size, &bytes))
		return out_of_memory();
	return realloc(p, bytes);
}

/* align: a power of two. Returns NULL if there is no memory. */
static void *alloc_aligned(size_t align, size_t size)
{
	void *p = NULL;

	if (size > SIZE_LIMIT || align > SIZE_LIMIT)
		return NULL;
	if (align <= ALIGN_MIN)
		p = heap_alloc(size);
	else
		p = heap_alloc_aligned(size, align);
	return p;
}

static void *own_memalign(size_t align, size_t size)
{
	void *p;

	if (align > SIZE_MAX / 2 + 1) {
		errno = EINVAL;
		return NULL;
	}
	if (!is_pow2(align))
		align = align ? (size_t)1 << (64 - __builtin_clzl(align)) : ALIGN_MIN;
	p = alloc_aligned(align, size);
	return likely(p != NULL) ? p : out_of_memory();
}

EXPORT void *memalign(size_t align, size_t size)
{
	return own_memalign(align, size);
}

EXPORT void *aligned_alloc(size_t align, size_t size)
{
	if (!is_pow2(align)) {
		errno = EINVAL;
		return NULL;
	}
	return own_memalign(align, size);
}

EXPORT int posix_memalign(void **out, size_t align, size_t size)
{
	void *p;

	if (!is_pow2(align) || align % sizeof(void *))
		return EINVAL;
	p = alloc_aligned(align, size);
	if (!p) {
		errno = ENOMEM;
		return ENOMEM;
	}
	*out = p;
	return 0;
}

EXPORT void *valloc(size_t size)
{
	return own_memalign(vm_os_page, size);
}

EXPORT void *pvalloc(size_t size)
{
	if (size > SIZE_LIMIT)
		return out_of_memory();
	return own_memalign(vm_os_page, align_up(size ? size : 1, vm_os_page));
}

EXPORT size_t malloc_usable_size(void *p)
{
	return p ? heap_usable(p) : 0;
}

/* The name that other allocators have for malloc_usable_size. */
EXPORT size_t malloc_size(const void *p)
{
	return p ? heap_usable((void *)(uintptr_t)p) : 0;
}

/* What malloc_usable_size returns for an object of this size. */
EXPORT size_t malloc_good_size(size_t size)
{
	return size <= SIZE_LIMIT ? heap_good_size(size, 1) : size;
}

/*
 * Second names under which glibc exports the family. Wrappers call them to avoid calling
 * themselves; what they return reaches our free, so it must come from us. (__posix_memalign is a
 * name of other allocators only.)
 */
SAME(void *, __libc_malloc, malloc, size_t);
SAME(void, __libc_free, free, void *);
SAME(void *, __libc_calloc, calloc, size_t, size_t);
SAME(void *, __libc_realloc, realloc, void *, size_t);
SAME(void *, __libc_memalign, memalign, size_t, size_t);
SAME(void *, __libc_valloc, valloc, size_t);
SAME(void *, __libc_pvalloc, pvalloc, size_t);
SAME(int, __posix_memalign, posix_memalign, void **, size_t, size_t);

/* The names of a jemalloc that was built with its prefix. */
SAME(void *, je_malloc, malloc, size_t);
SAME(void, je_free, free, void *);
SAME(void *, je_calloc, calloc, size_t, size_t);
SAME(void *, je_realloc, realloc, void *, size_t);
SAME(int, je_posix_memalign, posix_memalign, void **, size_t, size_t);
SAME(void *, je_aligned_alloc, aligned_alloc, size_t, size_t);
SAME(void *, je_memalign, memalign, size_t, size_t);
SAME(void *, je_valloc, valloc, size_t);
SAME(size_t, je_malloc_usable_size, malloc_usable_size, void *);

/* Returns 1 if memory was given back to the kernel. pad: bytes of free memory that may stay. */
EXPORT int malloc_trim(size_t pad)
{
	struct reclaim_report r;

	reclaim_drain(RECLAIM_IDLE | RECLAIM_PURGE, pad, &r);
	return r.bytes_purged != 0;
}

/* After the other constructors of the library. In the shared library sluice_init has run by now.
 * From the archive the linker takes only objects that something refers to, and nothing else refers
 * to init.o: without it there are no fork handlers, and options such as profile:hardened and
 * stats_file have no effect. */
__attribute__((constructor(103))) void malloc_start_ends(void)
{
	sluice_init();
	seal_close();
}
