/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * critical_none.h - heaps without critical sections, for libsluice-nocritical.so (make variants),
 * which shows what these cost. Comes before every file (-include) and replaces critical.h. There
 * are no heap claims in such a build, and no signal handler may allocate.
 */
#ifndef SLUICE_CRITICAL_H
#define SLUICE_CRITICAL_H

#define HEAP_HAS_CLAIMS false

#define heap_enter(h) ((void)(h), true)
#define heap_exit(h) ((void)(h))

/* Every call takes the slow path: malloc finds NULL on top of each bin, and free finds that no
 * object is at a multiple of the size, because the divisor is 0. */
#define CRITICAL_NONE_BINS (sizeof(((struct heap *)NULL)->bin) / sizeof(struct cache_bin))
#define HEAP_NEVER                                                                                 \
	{                                                                                          \
		.bin = { [0 ... CRITICAL_NONE_BINS - 1] = { .top = critical_none_bottom } },       \
	}

struct object;
__attribute__((unused)) static struct object *critical_none_bottom[1];

#endif
