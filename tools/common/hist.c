/* SPDX-License-Identifier: BSD-2-Clause */
/* hist.c - reading the histogram of hist.h. Called after the measurement only. */
#include "hist.h"

#include <string.h>

/* The largest value of a bucket. */
static uint64_t bucket_top(unsigned b)
{
	unsigned shift = b < 2 * HIST_STEPS ? 0 : b / HIST_STEPS - 1;

	return ((b - shift * HIST_STEPS + UINT64_C(1)) << shift) - 1;
}

void hist_clear(struct hist *h)
{
	memset(h, 0, sizeof(*h));
}

void hist_merge(struct hist *to, const struct hist *from)
{
	for (unsigned b = 0; b < HIST_BUCKETS; b++)
		to->counts[b] += from->counts[b];
	to->count += from->count;
	if (from->max > to->max)
		to->max = from->max;
}

uint64_t hist_at(const struct hist *h, double share)
{
	/* 0.999 is not exact in binary: the product may be slightly above a whole number. */
	double wanted = share * (double)h->count * (1 - 1e-12);
	uint64_t seen = 0;

	for (unsigned b = 0; b < HIST_BUCKETS; b++) {
		seen += h->counts[b];
		if (seen && (double)seen >= wanted) {
			uint64_t top = bucket_top(b);

			return top < h->max ? top : h->max;
		}
	}
	return h->max;
}

uint64_t hist_above(const struct hist *h, uint64_t value)
{
	uint64_t above = 0;

	for (unsigned b = hist_bucket(value) + 1; b < HIST_BUCKETS; b++)
		above += h->counts[b];
	return above;
}
