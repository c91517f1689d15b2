/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * small.h - puts off the start of the background thread while a process with several threads has
 * taken too little memory to keep any worth a thread. Any thread; no locks.
 */
#ifndef SLUICE_SMALL_H
#define SLUICE_SMALL_H

#include <stdbool.h>

/* After limits has set what growth calls. */
void small_init(void);

/* The process has several threads and no background thread. Whether it has taken less than
 * background_from. If so, the growth beyond that makes the start due (heap_due). */
bool small_puts_off(void);

/* Whether that was the last answer, and no growth was beyond it since. */
bool small_has_put_off(void);

/* Whether the process has one thread, while ours do not run. */
bool small_is_single(void);

/* From now on the start is not put off. */
void small_end(void);

void small_fork_child(void);

#endif
