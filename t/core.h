/* SPDX-License-Identifier: BSD-2-Clause */
/* core.h - what the tests of the heap share. */
#ifndef T_CORE_H
#define T_CORE_H

#include <stddef.h>
#include <stdint.h>

#include "heap.h"
#include "info.h"
#include "tap.h"

/* Gives a gauge or counter by name. */
static inline uint64_t value(const char *name)
{
	uint64_t v;

	if (!info_lookup(name, &v))
		tap_bail_out("no such value: %s", name);
	return v;
}

static inline void *alloc(size_t size)
{
	void *p = heap_alloc(size);

	if (!p)
		tap_bail_out("no memory");
	return p;
}

#endif
