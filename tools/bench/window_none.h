/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * window_none.h - a heap without a window, for libsluice-nowindow.so (make variants), which shows
 * what the window costs. Comes before every file (-include), in place of critical.h. Nothing claims heaps in
 * it, and no signal handler may allocate.
 */
#ifndef SLUICE_CRITICAL_H
#define SLUICE_CRITICAL_H

#define HEAP_HAS_CLAIMS false

#define heap_enter(h) ((void)(h), true)
#define heap_exit(h) ((void)(h))

/* A heap that is always empty and has no room, so that every call takes the slow way. */
#define WINDOW_NONE_BINS (sizeof(((struct heap *)NULL)->bin) / sizeof(struct cache_bin))
#define HEAP_NEVER                                                                                 \
	{                                                                                          \
		.bin = { [0 ... WINDOW_NONE_BINS - 1] = { window_none_bottom,                      \
							  window_none_bottom } },                  \
	}

struct object;
__attribute__((unused)) static struct object *window_none_bottom[1];

#endif
