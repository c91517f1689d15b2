/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * longrun.h - keeps a few long runs that were freed, for the next request of the same length. A
 * program that repeatedly frees and reallocates big blocks then needs no zone's lock.
 */
#ifndef SLUICE_LONGRUN_H
#define SLUICE_LONGRUN_H

#include "page/pcp.h"
#include "types.h"

/* Takes a run of exactly npages (above PCP_RUN_MAX) in state PAGE_LIMBO, which may have been
 * written. Returns NULL if none is kept; the runs in this thread's line were then freed to the
 * buddy core, where they may merge. */
struct page *longrun_take(uint32_t npages);

/* Keeps a run in state PAGE_LIMBO. Returns false if it is too short, or enough are kept. */
bool longrun_put(struct page *pg);

/* Frees the runs in this thread's line to the buddy core, where they may merge. */
void longrun_give_up(void);

/* Frees all runs that are kept to the buddy core. Returns their pages. */
uint64_t longrun_drain(void);

/* Frees the runs that have been kept since the last call. Returns their pages. */
uint64_t longrun_age(void);

/* Pages that are kept. */
uint64_t longrun_pages(void);

/* In a fork child: counts the runs again that it has. */
void longrun_fork_child(void);

#endif
