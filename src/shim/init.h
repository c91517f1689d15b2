/* SPDX-License-Identifier: BSD-2-Clause */
/* init.h - what the library's constructor does; only unit tests call it otherwise. */
#ifndef SLUICE_INIT_H
#define SLUICE_INIT_H

#include <stdint.h>

void sluice_init(void);

/* When it did that, by clock_ns. */
extern uint64_t sluice_began_ns;

/* In thread.c, which unit tests do not have: finds what its functions call in the end. */
void thread_init(void) __attribute__((weak));

/* The last constructor, in malloc.o. */
void malloc_start_ends(void);

#endif
