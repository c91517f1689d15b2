/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hist.h - a histogram of high dynamic range with 128 steps per doubling: values below 256 are
 * exact, all others within 1/128. Counting is one increment.
 *
 * Source of the idea: HdrHistogram (Gil Tene), of which Debian 12 has no C library.
 */
#ifndef SLUICE_HIST_H
#define SLUICE_HIST_H

#include <stdint.h>

#define HIST_STEPS_LOG 7
#define HIST_STEPS (1u << HIST_STEPS_LOG)
/* Those below 2 * HIST_STEPS are exact; each further doubling of 64-bit values has HIST_STEPS. */
#define HIST_BUCKETS ((64u - HIST_STEPS_LOG + 1) * HIST_STEPS)

struct hist {
	uint64_t count;
	uint64_t max; /* exact */
	uint64_t counts[HIST_BUCKETS];
};

static inline unsigned hist_bucket(uint64_t value)
{
	unsigned shift;

	if (value < HIST_STEPS)
		return (unsigned)value;
	shift = 63u - (unsigned)__builtin_clzll(value) - HIST_STEPS_LOG;
	return shift * HIST_STEPS + (unsigned)(value >> shift);
}

static inline void hist_add(struct hist *h, uint64_t value)
{
	h->counts[hist_bucket(value)]++;
	h->count++;
	if (value > h->max)
		h->max = value;
}

void hist_clear(struct hist *h);
void hist_merge(struct hist *to, const struct hist *from);

/* The smallest value that at least a share (0 to 1) of all counts does not exceed: the top of its
 * bucket, at most the maximum. Returns 0 if empty. */
uint64_t hist_at(const struct hist *h, double share);

/* The number of counts in buckets that lie wholly above the value. */
uint64_t hist_above(const struct hist *h, uint64_t value);

#endif
