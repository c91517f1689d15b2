/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pcp_none.h - pcp_lock=none: see pcp_variants.h. Comes before pcp.c (-include), in place of
 * the ways in of that file.
 */
#ifndef PCP_NONE_H
#define PCP_NONE_H

#define PCP_OTHER_WAYS

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#ifdef PCP_RENAMED
#define PCP_VARIANT none
#include "pcp_variants.h"
#else
#include "page/pcp.h"
#endif

static always_inline bool pcp_enter(struct pcp *p)
{
	(void)p;
	hold_begin(LOCK_PCP);
	return true;
}

static always_inline void pcp_leave(struct pcp *p)
{
	(void)p;
}

/* Only the owner may use it. */
static always_inline bool pcp_enter_remote(struct pcp *p)
{
	(void)p;
	return false;
}

static always_inline void pcp_leave_remote(struct pcp *p)
{
	(void)p;
}

#endif
