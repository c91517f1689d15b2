/* SPDX-License-Identifier: BSD-2-Clause */
/* The histogram of sluice-latency: percentiles of known values, at both ends of its range. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <stdbool.h>
#include <stdlib.h>

#include "../tools/common/hist.h"
#include "lib/tap.h"

static struct hist *fresh(void)
{
	static struct hist h;

	hist_clear(&h);
	return &h;
}

/* Returns whether got is not below value, and above it by at most 1/128. */
static bool near(uint64_t got, uint64_t value)
{
	return got >= value && got - value <= value / HIST_STEPS;
}

static void test_exact(void)
{
	struct hist *h = fresh();
	bool all = true;

	for (uint64_t v = 1; v <= 200; v++)
		hist_add(h, v);
	for (uint64_t v = 1; v <= 200; v++)
		all &= hist_at(h, (double)v / 200) == v;
	ok(all, "small values are exact");
	is_int(hist_above(h, 150), 50, "values above a small value are counted exactly");
	is_int(hist_at(h, 1), h->max, "the last percentile is the maximum");
}

static void test_range(void)
{
	bool all = true;
	bool ordered = true;

	for (unsigned log = 1; log < 64; log++) {
		uint64_t values[] = { UINT64_C(1) << log, (UINT64_C(1) << log) + 1,
				      (UINT64_C(2) << log) - 1 };

		for (unsigned i = 0; i < 3; i++) {
			struct hist *h = fresh();

			hist_add(h, values[i]);
			hist_add(h, UINT64_MAX);
			all &= near(hist_at(h, 0.5), values[i]) &&
			       hist_bucket(values[i]) < HIST_BUCKETS;
			ordered &= i == 0 || hist_bucket(values[i]) >= hist_bucket(values[i - 1]);
		}
	}
	ok(all, "any value is known to within 1/128");
	ok(ordered, "a larger value is in no lower bucket");
	is_int(hist_bucket(UINT64_MAX), HIST_BUCKETS - 1, "the largest value has the last bucket");
}

static void test_tail(void)
{
	struct hist *h = fresh();

	for (unsigned i = 0; i < 999990; i++)
		hist_add(h, 30);
	for (unsigned i = 0; i < 10; i++)
		hist_add(h, 1000000 + i);
	is_int(hist_at(h, 0.5), 30, "the median of many equal values is that value");
	is_int(hist_at(h, 0.99999), 30, "ten in a million are above p99.999");
	ok(near(hist_at(h, 0.999995), 1000000),
	   "five in a million are among the values above p99.999");
	is_int(hist_above(h, 500000), 10, "all values are counted");
	is_int(h->max, 1000009, "the maximum is exact");
}

static void test_merge(void)
{
	static struct hist other;
	struct hist *h = fresh();

	is_int(hist_at(h, 0.5), 0, "every percentile of an empty histogram is 0");
	hist_add(h, 10);
	hist_add(&other, 20);
	hist_add(&other, 30);
	hist_merge(h, &other);
	ok(h->count == 3 && hist_at(h, 0.5) == 20 && h->max == 30, "two histograms can be merged");
}

int main(void)
{
	tap_plan(13);
	test_exact();
	test_range();
	test_tail();
	test_merge();
	return tap_done();
}
