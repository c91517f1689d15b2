/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * guarded.h - objects that have a page of their own between pages without access (guard_sample).
 */
#ifndef SLUICE_GUARDED_H
#define SLUICE_GUARDED_H

#include "types.h"

/* Where they lie; set once, while the process has one thread. guarded_bytes is 0 without them. */
extern uintptr_t guarded_start;
extern size_t guarded_bytes;

static inline bool guarded_owns(const void *p)
{
	return (uintptr_t)p - guarded_start < guarded_bytes;
}

/* Maps the pages, and installs the handler of SIGSEGV. While the process has one thread. Returns
 * false, after a warning, if there is no memory. */
bool guarded_init(void);

/* size: bytes; the object is aligned as size is, to ALIGN_MIN at least and a page at most, and lies
 * at one end of its page. Returns NULL if it is larger than a page or no page is free. */
void *guarded_alloc(size_t size);

/* Whether it is an object that is in use, of a pointer that guarded_owns. */
bool guarded_in_use(const void *p);

/* The others take pointers that guarded_owns, and stop the program unless the object is in use. */
void guarded_free(void *p);
size_t guarded_usable(const void *p);

#endif
