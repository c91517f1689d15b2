/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pace.h - loops that repeat something until it would show a fault: as often as a good machine does
 * it in a few seconds, and on a slow one as often as it does it in ten.
 */
#ifndef T_PACE_H
#define T_PACE_H

#include <stdbool.h>
#include <time.h>

#define PACE_SECONDS 10

struct pace {
	unsigned done;
	time_t end;
};

/* Whether there is another turn: at most `most`, and after a tenth of them only for a while. */
static inline bool pace_goes_on(struct pace *p, unsigned most)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (p->done == 0)
		p->end = now.tv_sec + PACE_SECONDS;
	if (p->done == most || (p->done >= most / 10 && now.tv_sec >= p->end))
		return false;
	p->done++;
	return true;
}

#endif
