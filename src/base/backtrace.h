/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * backtrace.h - where the program was when it was stopped, by libunwind, which is loaded only then.
 */
#ifndef SLUICE_BACKTRACE_H
#define SLUICE_BACKTRACE_H

/*
 * One line for each frame above the caller's own on standard error; nothing where that cannot be had.
 * Takes BACKTRACE_MS at the most. Any thread, any context, whatever locks are held. Changes errno.
 */
void backtrace_write(void);
#define BACKTRACE_MS 4000u

/* If this is the copy of the process that writes the lines (backtrace.c), it ends: something is wrong there. */
void backtrace_end_copy(void);

/* What to do in the copy before anything there calls malloc; set by heap. */
extern void (*backtrace_begins)(void);

#endif
