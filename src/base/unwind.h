/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * unwind.h - return addresses of the calling thread's stack, by tables that are read once.
 */
#ifndef SLUICE_UNWIND_H
#define SLUICE_UNWIND_H

#include <stdbool.h>
#include <stdint.h>

/* Stores at most `most` of them, from the frame of unwind_walk's caller on, and their number in *n.
 * Returns false if it does not understand a frame: the unwinder of libgcc is to be asked. Allocates
 * nothing, takes no lock. Signal handlers may call it. */
bool unwind_walk(uintptr_t *pc, unsigned most, unsigned *n);

#endif
