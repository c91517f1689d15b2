/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * delay.h - points at which a test build waits, to make any step of any protocol slow and so bring
 * out races.
 *
 * In all other builds, such as the installed one, SLUICE_DELAYS is 0 and the macros are empty. With
 * delays, the environment variable SLUICE_DELAY says where to wait and how long:
 *
 *	SLUICE_DELAY=vm_purge=20000             20 ms at each call that purges
 *	SLUICE_DELAY=all=50/64,held_BUDDY=0     1 to 50 us in one pass of 64 at each point, but
 *	                                        never with the zone's lock held
 *
 * A wait below SPIN_US spins, a longer one sleeps. Tests that are linked with the core set a hook
 * instead (delay_hook), which is called at each point and may wait for anything.
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

/* Whether a point waits or a hook is set. */
extern _Atomic bool delay_on;

void delay_pass(enum delay_point p);

/* Sets a function that is called instead of waiting, or NULL. It runs in any thread and in any
 * context that has a point. */
void delay_hook(void (*fn)(enum delay_point p));

const char *delay_name(enum delay_point p);

/* Reads "POINT=US[/N],..."; later settings override earlier ones. At the first error it writes one
 * line to standard error, sets nothing more and returns false. from: source, for that line. */
bool delay_set(const char *text, const char *from);

/* Reads the environment variable, if it is set. */
void delay_load(void);

#if SLUICE_DELAYS
static always_inline void delay_at(enum delay_point p)
{
	if (p != DELAY_NONE && unlikely(atomic_load_explicit(&delay_on, memory_order_relaxed)))
		delay_pass(p);
}

/* name: a row of delay.def. rank: of a lock that was just taken; share.h counts it. */
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
