/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * region_types.h - the address space that a zone has reserved for its regions.
 */
#ifndef SLUICE_REGION_TYPES_H
#define SLUICE_REGION_TYPES_H

#include "types.h"

/* Guarded by: zone.grow. */
struct va_rest {
	uintptr_t next; /* where the next region begins */
	uintptr_t end;
	bool bare;    /* it is usable already; see va_map_bare */
	bool refused; /* the kernel reserves no more */
};

#endif
