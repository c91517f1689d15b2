/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * backtrace.h - a backtrace when the program is stopped, by libunwind, which is loaded only then.
 */
#ifndef SLUICE_BACKTRACE_H
#define SLUICE_BACKTRACE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Writes one line for each frame above its caller to standard error, or nothing if the stack cannot
 * be unwound. Takes at most BACKTRACE_MS. Any thread, any context, with any locks. Changes errno.
 */
void backtrace_write(void);
#define BACKTRACE_MS 4000u

/* The same for the n frames of a stack that was noted before. Returns false if nothing can be
 * written, because the program is in a sandbox, or clone is refused. */
bool backtrace_write_frames(const uintptr_t *pc, unsigned n);

/* Ends the process if it is the copy that writes the backtrace (backtrace.c): it has failed. */
void backtrace_end_copy(void);

/* Called in the copy before anything there calls malloc; set by heap. */
extern void (*backtrace_begins)(void);

#endif
