/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * meta.h - memory for the library's own structures that live as long as the process.
 */
#ifndef SLUICE_META_H
#define SLUICE_META_H

#include "types.h"

#define META_ALIGN 4096u

/* Zeroed memory, aligned to META_ALIGN, that is never freed. Returns NULL if there is none. Any
 * thread and signal handlers; wait-free, except in the kernel. */
void *meta_alloc(size_t bytes);

/* What of it the kernel backs; if that is not known, what meta_alloc has returned so far. Bytes. */
uint64_t meta_bytes(void);

#endif
