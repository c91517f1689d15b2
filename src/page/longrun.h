/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * longrun.h - a few long runs that were freed lately, for the next request of the same length: so a
 * program that takes and frees big blocks in next_thread needs no zone's lock.
 */
#ifndef SLUICE_LONGRUN_H
#define SLUICE_LONGRUN_H

#include "page/pcp.h"
#include "types.h"

/* A run of exactly npages (above PCP_RUN_MAX) in state PAGE_LIMBO, which may have been written. Returns NULL if
 * none is kept; then those that this thread kept have gone to the buddy core, where they may merge. */
struct page *longrun_take(uint32_t npages);

/* Keep a run in state PAGE_LIMBO. Returns false if it is too short, or enough are kept. */
bool longrun_put(struct page *pg);

/* All runs that are kept go to the buddy core. Returns their pages. */
uint64_t longrun_drain(void);

/* Those that were kept at the last call, and since, go to the buddy core. Returns their pages. */
uint64_t longrun_age(void);

/* Pages that are kept. */
uint64_t longrun_pages(void);

/* What other threads were about to keep or to take is not the child's. */
void longrun_fork_child(void);

#endif
