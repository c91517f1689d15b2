/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * growth.h - counts the process's growth, and asks others for free memory before it goes on.
 */
#ifndef SLUICE_GROWTH_H
#define SLUICE_GROWTH_H

#include "page/zone.h"

#define GROWTH_ASK_PAGES (UINT64_C(16) << (20 - PG_SHIFT))

/*
 * Called before memory is taken for good that was never used or was given back: each time that
 * GROWTH_ASK_PAGES, or an eighth of what is in use, of clean pages were handed out, and before a
 * zone that has regions gets more. pages: how many are about to be taken; 0 if unknown. Returns
 * true if pages came free. Set by reclaim.
 */
extern bool (*growth_ask_others)(uint64_t pages);

/* Before so many pages of growth: calls growth_ask_others if that is due. Returns whether it
 * was. */
bool growth_ask_if_due(struct zone *z, uint64_t pages);

/* The same, due or not. z: of zone_lead. Returns whether pages came free. */
bool growth_ask(struct zone *z, uint64_t pages);

/* Sets the most pages of growth between two calls, and until the first one; 0: no limit. */
void growth_ask_within(struct zone *z, uint64_t pages);

/* The next call comes after at most so many pages of growth: the last one did not do all that it
 * could. */
void growth_ask_again(struct zone *z, uint64_t pages);

/* A mapping of so many bytes is about to be made beside the zones, where there are `mapped` bytes
 * already. It is growth like any other. */
void growth_before_mapping(struct zone *z, uint64_t mapped, size_t bytes);

#endif
