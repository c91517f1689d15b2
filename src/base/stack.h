/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stack.h - where a call came from: the return addresses of a thread's stack, kept for a report.
 */
#ifndef SLUICE_STACK_H
#define SLUICE_STACK_H

#include <stdint.h>

#define STACK_FRAMES 32u

/* The frames of the library itself are left out. tid: of the thread. */
struct stack {
	uint32_t n;
	uint32_t tid;
	uintptr_t pc[STACK_FRAMES];
};

/* Loads what stack_take needs; may call malloc. Before the first stack_take, without locks. */
void stack_init(void);

/* Notes the stack of the caller. Allocates nothing. Signal handlers may call it. */
void stack_take(struct stack *s);

/* The same from the frame with that address on, if there is one: for a signal handler, where it is
 * that of the instruction that was interrupted. */
void stack_take_from(struct stack *s, uintptr_t pc);

/* Writes a line "sluice: WHAT thread TID:" and a line for each frame to standard error. Takes at
 * most BACKTRACE_MS. Any thread, any context, with any locks. Changes errno. */
void stack_write(const char *what, const struct stack *s);

#endif
