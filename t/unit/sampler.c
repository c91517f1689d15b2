/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * While allocations are sampled, a loop that allocates and frees in turn rarely takes a slow path,
 * and no object is handed out twice or lost.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <string.h>

#include "base/options.h"
#include "heap/cache_bin.h"
#include "heap/dealt.h"
#include "heap/heap.h"
#include "heap/heap_slabs.h"
#include "heap/sampler.h"
#include "lib/tap.h"

#define SLOTS 2000u
#define ROUNDS 200000u

static void pairs(size_t size, unsigned n)
{
	while (n--) {
		void *p = heap_alloc(size);

		if (!p)
			tap_bail_out("no memory");
		heap_free(p);
	}
}

/* Objects of the class that the thread has for its next calls. */
static int ready(size_t size)
{
	unsigned cls = class_of(size);

	return (int)bin_objects_now(heap_self, cls) + dealt_beside(heap_self, cls);
}

static void test_pairs(void)
{
	uint64_t before;

	pairs(64, 1000);
	ok(ready(64) >= (int)RETURNED_MAX / 2, "a loop of one small object has some to take");
	tap_diag("%d objects of 64 bytes", ready(64));
	pairs(4096, 1);
	before = heap_self->refills;
	pairs(4096, 1000);
	is_int((int)(heap_self->refills - before), 0,
	       "a loop of one of 4 KiB takes no more of them");
}

struct slot {
	unsigned *p;
	size_t words;
};
static struct slot slot[SLOTS];

/* Whether it still holds what was written. */
static bool put(struct slot *s, unsigned i)
{
	bool good = !s->p || (s->p[0] == i && s->p[s->words - 1] == i);

	heap_free(s->p);
	s->p = NULL;
	return good;
}

static void take(struct slot *s, unsigned i, size_t words)
{
	s->words = words;
	s->p = heap_alloc(words * sizeof(unsigned));
	if (!s->p)
		tap_bail_out("no memory");
	s->p[0] = i;
	s->p[words - 1] = i;
}

static void test_random(void)
{
	unsigned wrong = 0;
	unsigned random = 1;

	for (unsigned n = 0; n < ROUNDS; n++) {
		unsigned i;

		random = random * 1103515245 + 12345;
		i = (random >> 8) % SLOTS;
		wrong += !put(&slot[i], i);
		if (n % 20000 < 15000) /* then most are freed */
			take(&slot[i], i, 1 + (random >> 20) % 200);
	}
	for (unsigned i = 0; i < SLOTS; i++)
		wrong += !put(&slot[i], i);
	heap_check_bins();
	heap_check();
	is_int((int)wrong, 0, "no object is handed out twice");
}

int main(void)
{
	tap_plan(3);
	if (options_parse("guard_sample:100000000", "test"))
		tap_bail_out("settings are refused");
	heap_init();
	sampler_init();
	if (!heap_sampling)
		tap_bail_out("nothing is sampled");
	test_pairs();
	test_random();
	return tap_done();
}
