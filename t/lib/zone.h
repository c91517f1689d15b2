/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zone.h - zones of a test's own.
 */
#ifndef SLUICE_T_ZONE_H
#define SLUICE_T_ZONE_H

#include "lib/tap.h"
#include "page/zone.h"

/* A new zone without pages. It is never freed; a test has 40 at most. */
static inline struct zone *zone_new(void)
{
	static struct zone zones[40];
	static unsigned used;
	struct zone *z = &zones[used++];

	if (used > sizeof(zones) / sizeof(zones[0]))
		tap_bail_out("too few zones");
	lock_init(&z->lock, LOCK_BUDDY);
	lock_init(&z->grow, LOCK_GROW);
	return z;
}

#endif
