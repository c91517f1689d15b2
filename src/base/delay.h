/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * delay.h - places at which a build for tests waits, so that each step of each protocol can be made
 * as slow as one likes, and what depends on it be seen.
 *
 * In all other builds (SLUICE_DELAYS 0: what is installed) the macros are nothing at all. With
 * delays the environment variable SLUICE_DELAY says where and how long:
 *
 *	SLUICE_DELAY=vm_purge=20000             20 ms at each call that gives memory back
 *	SLUICE_DELAY=all=50/64,held_BUDDY=0     at each point one pass in 64, at random, 1 to 50 us; with
 *	                                        the zone's lock held never
 *
 * A wait below SPIN_US is spun, a longer one is slept. Tests that are linked with the core set a
 * function instead, which is called at each point (delay_hook) and may wait for whatever it likes.
 */
#ifndef SLUICE_DELAY_H
#define SLUICE_DELAY_H

#include <stdbool.h>

#include "base/share.h"
#include "types.h"

#ifndef SLUICE_DELAYS
#define SLUICE_DELAYS 0
#endif

enum delay_point {
#define LOCKRANK(name, most, text) DELAY_held_##name,
#include "base/lockrank.def"
#undef LOCKRANK
#define DELAY(name, text) DELAY_##name,
#include "base/delay.def"
#undef DELAY
	DELAY_POINTS,
	DELAY_NONE = DELAY_POINTS, /* no point: nothing waits there */
};

/* Some point waits, or there is a hook. */
extern _Atomic bool delay_on;

void delay_pass(enum delay_point p);

/* In place of all waiting, NULL: none. Any thread, any context in which the point may lie. */
void delay_hook(void (*fn)(enum delay_point p));

/* The name of a point. */
const char *delay_name(enum delay_point p);

/* Read "POINT=US[/N],...", later ones last. False: something is wrong, it was said in one line on
 * standard error, and nothing from there on is set. */
bool delay_set(const char *text, const char *from);

/* The environment variable, if there is one. */
void delay_load(void);

#if SLUICE_DELAYS
static always_inline void delay_at(enum delay_point p)
{
	if (p != DELAY_NONE && unlikely(atomic_load_explicit(&delay_on, memory_order_relaxed)))
		delay_pass(p);
}

/* name: a row of delay.def; rank: of a lock that was just taken, which is counted, too
 * (share.h). */
#define DELAY_HERE(name) delay_at(DELAY_##name)
#define DELAY_HELD(rank)                                                                           \
	(SHARE_LOCK(rank), delay_at((enum delay_point)(DELAY_held_CONTROL + (rank))))
#define DELAY_AT(point) delay_at(point)
#define DELAY_LOAD() delay_load()
#else
#define DELAY_HERE(name) ((void)0)
#define DELAY_HELD(rank) SHARE_LOCK(rank)
#define DELAY_AT(point) ((void)(point))
#define DELAY_LOAD() ((void)0)
#endif

#endif
