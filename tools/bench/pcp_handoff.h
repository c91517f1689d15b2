/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pcp_handoff.h - pcp_lock=handoff: see pcp_variants.h. Comes before pcp.c (-include), in place of
 * the ways in of that file.
 */
#ifndef PCP_HANDOFF_H
#define PCP_HANDOFF_H

#define PCP_OTHER_WAYS

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#define PCP_VARIANT handoff
#include "pcp_variants.h"

/* Returns false if this call interrupted another one of its thread. */
static always_inline bool handoff_enter(struct pcp **p)
{
	struct handoff *h = handoff_of(*p);
	uint32_t section = atomic_load_explicit(&h->section, memory_order_relaxed);

	if (unlikely(section & 1))
		return false;
	atomic_store_explicit(&h->section, section + 1, memory_order_relaxed);
	/* A compiler barrier, which pairs with the drainer's membarrier. The acquire pairs with its
	 * store of current. */
	atomic_signal_fence(memory_order_seq_cst);
	*p = atomic_load_explicit(&h->current, memory_order_acquire);
	hold_begin(LOCK_PCP);
	return true;
}

/* The caller goes on with the half that it is in. */
#define pcp_enter(p) handoff_enter(&(p))

static always_inline void pcp_leave(struct pcp *p)
{
	struct handoff *h = handoff_of(p);
	uint32_t section = atomic_load_explicit(&h->section, memory_order_relaxed);

	atomic_signal_fence(memory_order_seq_cst);
	/* Release pairs with the drainer's acquire load of section. */
	atomic_store_explicit(&h->section, section + 1, memory_order_release);
}

/* For a drainer, in the half that it took; no other thread uses that half. */
static always_inline bool pcp_enter_remote(struct pcp *p)
{
	return spin_trylock(&p->lock);
}

static always_inline void pcp_leave_remote(struct pcp *p)
{
	spin_unlock(&p->lock);
}

#endif
