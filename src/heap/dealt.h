/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dealt.h - cache bins that count what malloc takes, without a word of it in malloc.
 *
 * While allocations are sampled, a thread's frees do not go where its mallocs come from, so the top
 * of a bin moves down only, by one for each malloc. A call that finds nothing above the NULL takes
 * the slow path, which counts what was taken, and deals as many objects as may be taken before the
 * next sample is due. So each allocation counts, and the sampled one is in the slow path.
 *
 * The caller is in the critical section of h, or has claimed it, or (fallback heap) holds its lock.
 */
#ifndef SLUICE_DEALT_H
#define SLUICE_DEALT_H

#include "heap/heap_types.h"

/* Makes the bin what it is in other processes, with as much as fits of what was freed. Nothing that
 * malloc pops may be seen by it then: dealt_hide follows before the critical section ends. */
void dealt_show(struct heap *h, unsigned bin);

/* As dealt_show, without the freed ones, of which it returns the number. Of a class that is dealt
 * (dealt.c (D)). */
unsigned dealt_show_bin(struct heap *h, unsigned bin);

/* What fits of the freed ones goes on top of the bin, in which one place stays; the n oldest ones,
 * which fit. */
void dealt_take_returned(struct heap *h, unsigned cls);
void dealt_move(struct heap *h, unsigned cls, unsigned n);

/* Hides from malloc what it must not take before a sample is due. There is a place above the top
 * unless the bin is empty. */
void dealt_hide(struct heap *h, unsigned bin);

/* Frees of the class need no slow path until there are as many as the bin's room allows. */
void dealt_open(struct heap *h, unsigned cls);

/* Counts an allocation of the class unless it is to be sampled. Returns whether it did. */
bool dealt_count_plain(struct heap *h, unsigned cls);

/* An allocation of the class: which kinds of samples are due (bits). */
unsigned dealt_count(struct heap *h, unsigned cls);

/* Objects of the class that are in no bin that malloc sees; from any thread, inexact. */
unsigned dealt_others(struct heap *h, unsigned cls);

/* What bin_objects_now is to be corrected by: the freed ones, and a NULL among those of the bin. */
int dealt_beside(struct heap *h, unsigned cls);

/* A random number, for samples. */
uint64_t dealt_random(struct heap *h);

/* The mean distance of samples: allocations; of SAMPLE_PROF bytes. 0: no samples of this kind. */
extern uint64_t dealt_mean[SAMPLE_KINDS];

#endif
