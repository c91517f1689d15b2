/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * jemalloc.c - the x-functions of jemalloc. Uses heap; used by the program.
 *
 * A program made for jemalloc calls them beside malloc and free, so they must serve from the same
 * heap: a block of mallocx may be freed by free, and one of malloc by dallocx.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "shim/jemalloc.h"

#include <string.h>

#include "base/export.h"
#include "base/options.h"
#include "heap/heap.h"
#include "heap/huge.h"
#include "os/vm.h"

#define SIZE_LIMIT ((size_t)PTRDIFF_MAX)

/* 0: none above the usual one. */
static size_t align_of(int flags)
{
	size_t align = (size_t)1 << ((unsigned)flags & MALLOCX_LG_ALIGN_MASK);

	return align > ALIGN_MIN ? align : 0;
}

static size_t size_of(size_t size)
{
	return size ? size : 1;
}

static void *alloc(size_t size, size_t align, bool zero)
{
	bool is_zero = false;
	void *p;

	if (size > SIZE_LIMIT || align > SIZE_LIMIT)
		return NULL;
	if (align)
		p = heap_alloc_aligned(size, align);
	else if (size <= SMALL_MAX)
		p = heap_alloc_small(size);
	else
		p = zero ? heap_alloc_large_zero(size, &is_zero) : heap_alloc_large(size);
	if (p && zero && !is_zero)
		memset(p, 0, heap_usable(p));
	return p;
}

EXPORT void *mallocx(size_t size, int flags)
{
	return alloc(size_of(size), align_of(flags), flags & MALLOCX_ZERO);
}

static void *move(void *p, size_t old, size_t size, size_t align)
{
	void *q = alloc(size, align, false);

	if (q) {
		memcpy(q, p, min_size(old, size));
		heap_free(p);
	}
	return q;
}

/* Of small blocks and of the first large ones realloc cannot change the length in place. */
static bool keeps_its_length(const void *p, size_t old)
{
	return old <= SMALL_MAX || huge_is_early(p);
}

/* The block stays where it is if that suits the alignment and such a one has the length that
 * nallocx tells. */
static void *realloc_aligned(void *p, size_t old, size_t size, size_t align)
{
	if (((uintptr_t)p & (align - 1)) == 0 && heap_fits(p, size) &&
	    (heap_good_size(size, align) == old ||
	     (!keeps_its_length(p, old) && heap_resize(p, size, size))))
		return p;
	return move(p, old, size, align);
}

/* realloc leaves such a block as it is if it shrinks by less than half. This one has the length
 * that nallocx tells. */
static void *realloc_exact(void *p, size_t old, size_t size)
{
	void *q;

	if (size >= old || !keeps_its_length(p, old) || heap_good_size(size, 1) == old)
		return heap_realloc(p, size);
	q = move(p, old, size, 0);
	return q ? q : heap_shrunk_in_place(p);
}

/* Zeroes what a block has beyond `from`. */
static void zero_tail(void *p, size_t from)
{
	size_t to = heap_usable(p);

	if (to > from)
		memset((char *)p + from, 0, to - from);
}

EXPORT void *rallocx(void *p, size_t size, int flags)
{
	size_t align = align_of(flags);
	size_t old = heap_usable(p);
	void *q;

	size = size_of(size);
	if (size > SIZE_LIMIT)
		return NULL;
	q = align ? realloc_aligned(p, old, size, align) : realloc_exact(p, old, size);
	/* A block that has moved holds no more of the old one than fits `size`. */
	if (q && flags & MALLOCX_ZERO)
		zero_tail(q, q == p ? old : min_size(old, size));
	return q;
}

EXPORT size_t xallocx(void *p, size_t size, size_t extra, int flags)
{
	size_t old = heap_usable(p);
	size_t most = size > SIZE_LIMIT - extra || extra > SIZE_LIMIT ? SIZE_LIMIT : size + extra;
	size_t now = heap_resize(p, size_of(size), size_of(most));

	if (flags & MALLOCX_ZERO)
		zero_tail(p, old);
	return now;
}

EXPORT size_t sallocx(const void *p, int flags)
{
	(void)flags;
	return heap_usable((void *)(uintptr_t)p);
}

EXPORT void dallocx(void *p, int flags)
{
	(void)flags;
	heap_free(p);
}

EXPORT void sdallocx(void *p, size_t size, int flags)
{
	if (heap_checks_sizes())
		heap_check_size(p, size_of(size), max_size(align_of(flags), 1), false);
	heap_free(p);
}

EXPORT size_t nallocx(size_t size, int flags)
{
	size_t align = align_of(flags);

	size = size_of(size);
	if (size > SIZE_LIMIT || align > SIZE_LIMIT)
		return 0;
	return heap_good_size(size, align ? align : 1);
}

SAME(void *, je_mallocx, mallocx, size_t, int);
SAME(void *, je_rallocx, rallocx, void *, size_t, int);
SAME(size_t, je_xallocx, xallocx, void *, size_t, size_t, int);
SAME(size_t, je_sallocx, sallocx, const void *, int);
SAME(void, je_dallocx, dallocx, void *, int);
SAME(void, je_sdallocx, sdallocx, void *, size_t, int);
SAME(size_t, je_nallocx, nallocx, size_t, int);
