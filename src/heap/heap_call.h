/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * heap_call.h - which heap serves a slow-path call, and what the call does for it besides.
 */
#ifndef SLUICE_HEAP_CALL_H
#define SLUICE_HEAP_CALL_H

#include "heap/heap_types.h"

/* The heap that serves this call, entered: the thread's own (made if there is none and create is
 * set), or the fallback heap under its lock. Returns NULL if the call can have neither. */
struct heap *heap_call_begin(bool create);

/* Leave it, and give back the pages of slabs that were released in it. */
void heap_call_end(struct heap *h);

/* Empty the fallback heap and its pcp. */
void heap_drain_fallback(void);

/* Each thread that runs empties its own bins, outbox and inbox when its next calls take the slow
 * path. */
void heap_ask_trim(void);

#endif
