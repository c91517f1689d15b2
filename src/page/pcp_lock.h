/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pcp_lock.h - how the owner of a pcp, and any other thread, get into it (pcp_lock=spin): by a
 * try of its lock.
 *
 * A header of its own for the sake of sluice-bench, which compiles pcp.c again with each of the two
 * ways that K1 weighs against this one: they are in tools/bench, and in no library that is installed.
 */
#ifndef SLUICE_PCP_LOCK_H
#define SLUICE_PCP_LOCK_H

#include "page/pcp.h"

/* False: the caller has to go past the cache. *p is the cache that the thread is in from now on. */
static always_inline bool pcp_enter(struct pcp **p)
{
	return spin_trylock(&(*p)->lock);
}

static always_inline void pcp_leave(struct pcp *p)
{
	spin_unlock(&p->lock);
}

/* Any thread but the owner. */
static always_inline bool pcp_enter_remote(struct pcp *p)
{
	return spin_trylock(&p->lock);
}

static always_inline void pcp_leave_remote(struct pcp *p)
{
	spin_unlock(&p->lock);
}

#endif
