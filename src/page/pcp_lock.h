/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pcp_lock.h - how a thread gets into a pcp, its own or another's: by a try of its lock.
 *
 * This header is separate so that sluice-bench can compile pcp.c again with two other ways, which
 * the Linux kernel had before (tools/bench/pcp_variants.h). They are in no library that is
 * installed.
 */
#ifndef SLUICE_PCP_LOCK_H
#define SLUICE_PCP_LOCK_H

#include "page/pcp.h"

/* Owner thread. Returns false if the caller has to use the buddy core. *p is the pcp to use from
 * now on: one of the variants changes it. */
static always_inline bool pcp_enter(struct pcp **p)
{
	return spin_trylock(&(*p)->lock);
}

static always_inline void pcp_leave(struct pcp *p)
{
	spin_unlock(&p->lock);
}

/* Any other thread. */
static always_inline bool pcp_enter_remote(struct pcp *p)
{
	return spin_trylock(&p->lock);
}

static always_inline void pcp_leave_remote(struct pcp *p)
{
	spin_unlock(&p->lock);
}

#endif
