/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pcp_variants.h - the pcp with other protocols than a lock, for sluice-bench-pages.
 *
 * For each variant, src/page/pcp.c and src/shim/api_pages.c are compiled again. pcp_spin.h,
 * pcp_none.h or pcp_handoff.h is included before them, renames their functions (PCP_VARIANT) and
 * replaces the functions by which a thread enters a pcp. The Linux series "Remote per-cpu lists
 * drain support" (Saenz Julienne, 2022) compared these protocols.
 *
 *   spin     a spinlock, as in Sluice.
 *   none     no lock: the series' static branch, not taken. No other thread can drain such a pcp,
 *            and no signal handler may use it.
 *   handoff  RCU, as in the first versions of the series: the owner reaches its pcp by a pointer. A
 *            drainer sets the pointer to an empty pcp and waits for a grace period, after which the
 *            owner has left the old pcp, and the drainer empties it. The owner's part is a
 *            read-side section of userspace RCU's membarrier flavour (Desnoyers et al., "User-level
 *            implementations of read-copy update", 2012): two plain stores, no fence and no atomic
 *            read-modify-write. The drainer pays with a membarrier, which interrupts the processors
 *            that run the process.
 */
#ifndef PCP_VARIANTS_H
#define PCP_VARIANTS_H

#ifdef PCP_VARIANT
#define PCP_GLUE(variant, name) variant##_##name
#define PCP_EXPAND(variant, name) PCP_GLUE(variant, name)
#define run_class_pages PCP_EXPAND(PCP_VARIANT, run_class_pages)
#define pcp_init PCP_EXPAND(PCP_VARIANT, init)
#define pcp_alloc PCP_EXPAND(PCP_VARIANT, alloc)
#define pcp_alloc_dense PCP_EXPAND(PCP_VARIANT, alloc_dense)
#define pcp_alloc_bulk PCP_EXPAND(PCP_VARIANT, alloc_bulk)
#define pcp_free PCP_EXPAND(PCP_VARIANT, free)
#define pcp_free_bulk PCP_EXPAND(PCP_VARIANT, free_bulk)
#define pcp_count_from PCP_EXPAND(PCP_VARIANT, count_from)
#define pcp_pages_all PCP_EXPAND(PCP_VARIANT, pages_all)
#define pcp_set_zone PCP_EXPAND(PCP_VARIANT, set_zone)
#define pcp_drain PCP_EXPAND(PCP_VARIANT, drain)
#define pcp_drain_part PCP_EXPAND(PCP_VARIANT, drain_part)
#define pcp_drain_to PCP_EXPAND(PCP_VARIANT, drain_to)
#define pcp_decay PCP_EXPAND(PCP_VARIANT, decay)
#define pcp_open PCP_EXPAND(PCP_VARIANT, open)
#define pcp_set_disabled PCP_EXPAND(PCP_VARIANT, set_disabled)
#define pcp_disable_begin PCP_EXPAND(PCP_VARIANT, disable_begin)
#define pcp_disable_end PCP_EXPAND(PCP_VARIANT, disable_end)
#define pcp_fork_hold PCP_EXPAND(PCP_VARIANT, fork_hold)
#define pcp_fork_parent PCP_EXPAND(PCP_VARIANT, fork_parent)
#define pcp_fork_child PCP_EXPAND(PCP_VARIANT, fork_child)
#define pcp_check PCP_EXPAND(PCP_VARIANT, check)
#define heap_pcp PCP_EXPAND(PCP_VARIANT, heap_pcp)
#define sluice_page_size PCP_EXPAND(PCP_VARIANT, page_size)
#define sluice_page_order_max PCP_EXPAND(PCP_VARIANT, page_order_max)
#define sluice_page_alloc PCP_EXPAND(PCP_VARIANT, page_alloc)
#define sluice_page_free PCP_EXPAND(PCP_VARIANT, page_free)
#define sluice_page_alloc_bulk PCP_EXPAND(PCP_VARIANT, page_alloc_bulk)
#define sluice_page_free_bulk PCP_EXPAND(PCP_VARIANT, page_free_bulk)
#define sluice_page_alloc_bulk_list PCP_EXPAND(PCP_VARIANT, page_alloc_bulk_list)
#define sluice_page_free_bulk_list PCP_EXPAND(PCP_VARIANT, page_free_bulk_list)
#define sluice_page_list_pop PCP_EXPAND(PCP_VARIANT, page_list_pop)
#endif

#include "page/pcp.h"

#define HANDOFF_ALIGN 2048u

/* A pcp and its spare, aligned so that a pointer to either leads to the struct. */
struct handoff {
	/* Written by the owner thread only: odd while it is in a section. */
	_Atomic uint32_t section;
	/* Written by drainers, one at a time. */
	_Atomic(struct pcp *) current;
	struct pcp half[2];
} __attribute__((aligned(HANDOFF_ALIGN)));
_Static_assert(sizeof(struct handoff) == HANDOFF_ALIGN, "both halves lead to the whole");

static always_inline struct handoff *handoff_of(struct pcp *half)
{
	return (struct handoff *)align_down((uintptr_t)half, HANDOFF_ALIGN);
}

#ifndef PCP_VARIANT
#define PCP_DECLARE(variant)                                                                       \
	struct pcp *variant##_heap_pcp(void); /* the bench's own */                                \
	void variant##_init(struct pcp *p, struct zone *z);                                        \
	void variant##_open(struct pcp *p);                                                        \
	struct pcp_drain variant##_drain(struct pcp *p);                                           \
	struct page *variant##_alloc(struct pcp *p, unsigned run_class);                           \
	void variant##_free(struct pcp *p, struct page *pg);                                       \
	void *variant##_page_alloc(unsigned order);                                                \
	void variant##_page_free(void *block, unsigned order);                                     \
	size_t variant##_page_alloc_bulk(unsigned order, size_t n, void **array);                  \
	void variant##_page_free_bulk(unsigned order, size_t n, void *const *array);

PCP_DECLARE(spin)
PCP_DECLARE(none)
PCP_DECLARE(handoff)
#endif

#endif
