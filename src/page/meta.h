/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * meta.h - memory for the library's own structures that live as long as the process.
 */
#ifndef SLUICE_META_H
#define SLUICE_META_H

#include "types.h"

#define META_ALIGN 4096u

/* Zeroed, aligned to META_ALIGN, never freed. NULL: no memory. Any thread; wait-free but for
 * the kernel; a signal handler may call it. */
void *meta_alloc(size_t bytes);

#endif
