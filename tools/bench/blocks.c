/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * blocks.c - one thread and larger blocks: churn of big blocks, realloc, calloc, alignment.
 *
 * Unless its parameters say otherwise, a workload touches each 4 KiB of what it allocates, so that
 * its time includes the page faults of memory that went back to the kernel.
 */
#include "../common/work.h"

#include <string.h>

static void *check(void *p, size_t size)
{
	if (!p)
		bench_fail("%zu bytes: no memory", size);
	return p;
}

/* ---- big blocks --------------------------------------------------------------------------- */

static void big_ops(void **slots, uint32_t live, const uint32_t *sizes, uint64_t ops,
		    uint64_t *seed)
{
	for (uint64_t i = 0; i < ops; i++) {
		uint32_t slot = rng_below(seed, live);
		size_t size = size_at(sizes, i);

		free(slots[slot]);
		slots[slot] = check(malloc(size), size);
		touch_pages(slots[slot], size);
	}
}

static void big(void)
{
	uint32_t live = (uint32_t)param("live");
	uint64_t ops = param("ops");
	const uint32_t *sizes = sizes_make((uint32_t)param("min"), (uint32_t)param("max"), 12);
	void **slots = bench_map(live * sizeof(*slots));
	uint64_t seed = 13;

	big_ops(slots, live, sizes, ops / 4 + live, &seed);
	bench_begin();
	big_ops(slots, live, sizes, ops, &seed);
	bench_end(ops);
	for (uint32_t i = 0; i < live; i++)
		free(slots[i]);
}

/* ---- realloc ------------------------------------------------------------------------------ */

/* Vectors, one after the other, grow by half of their size until they exceed max bytes. */
static void vectors_ops(void **slots, size_t *lengths, uint32_t live, size_t max, uint64_t ops,
			uint64_t *seed)
{
	for (uint64_t i = 0; i < ops; i++) {
		uint32_t slot = rng_below(seed, live);

		if (lengths[slot] > max) {
			free(slots[slot]);
			slots[slot] = NULL;
			lengths[slot] = 0;
		}
		lengths[slot] = (lengths[slot] + lengths[slot] / 2 + 16) & ~(size_t)15;
		slots[slot] = check(realloc(slots[slot], lengths[slot]), lengths[slot]);
		touch_ends(slots[slot], lengths[slot]);
	}
}

static void vectors(void)
{
	uint32_t live = (uint32_t)param("live");
	uint64_t ops = param("ops");
	size_t max = param("max");
	void **slots = bench_map(live * sizeof(*slots));
	size_t *lengths = bench_map(live * sizeof(*lengths));
	uint64_t seed = 14;

	vectors_ops(slots, lengths, live, max, ops / 4, &seed);
	bench_begin();
	vectors_ops(slots, lengths, live, max, ops, &seed);
	bench_end(ops);
	for (uint32_t i = 0; i < live; i++)
		free(slots[i]);
}

/* One buffer grown to max by steps: touch=1 writes one byte of each step, touch=2 each page. */
static void buffer_round(size_t step, size_t max, bool all)
{
	unsigned char *p = NULL;

	for (size_t length = step; length <= max; length += step) {
		p = check(realloc(p, length), length);
		if (all)
			touch_pages(p + length - step, step);
		else
			p[length - 1] = 1;
	}
	free(p);
}

static void buffer(void)
{
	size_t step = param("step");
	size_t max = param("max");
	uint64_t rounds = param("rounds");
	bool all = param("touch") > 1;

	buffer_round(step, max, all);
	bench_begin();
	for (uint64_t r = 0; r < rounds; r++)
		buffer_round(step, max, all);
	bench_end(rounds * (max / step));
}

/* ---- calloc ------------------------------------------------------------------------------- */

/* One page in `every` is read, checked to be zero, and written. */
static void zeroed_ops(void **slots, uint32_t live, const uint32_t *sizes, uint64_t every,
		       uint64_t ops)
{
	for (uint64_t i = 0; i < ops; i++) {
		size_t size = size_at(sizes, i);
		unsigned char *p = check(calloc(size / 16 + 1, 16), size);

		for (size_t at = 0; at < size; at += 4096 * every) {
			if (p[at])
				bench_fail("calloc(%zu): byte %zu is not zero", size, at);
			p[at] = 1;
		}
		free(slots[i % live]);
		slots[i % live] = p;
	}
}

static void zeroed(void)
{
	uint32_t live = (uint32_t)param("live");
	uint64_t ops = param("ops");
	uint64_t every = param("every");
	const uint32_t *sizes = sizes_make((uint32_t)param("min"), (uint32_t)param("max"), 15);
	void **slots = bench_map(live * sizeof(*slots));

	zeroed_ops(slots, live, sizes, every, ops / 10 + live);
	bench_begin();
	zeroed_ops(slots, live, sizes, every, ops);
	bench_end(ops);
	for (uint32_t i = 0; i < live; i++)
		free(slots[i]);
}

/* ---- alignment ---------------------------------------------------------------------------- */

static void aligned_ops(void **slots, uint32_t live, const uint32_t *sizes, uint32_t shifts,
			uint64_t ops, uint64_t *seed)
{
	for (uint64_t i = 0; i < ops; i++) {
		uint32_t slot = rng_below(seed, live);
		size_t align = (size_t)32 << rng_below(seed, shifts);
		size_t size = size_at(sizes, i);
		void *p = NULL;

		if (posix_memalign(&p, align, size) != 0)
			bench_fail("posix_memalign(%zu, %zu): no memory", align, size);
		if ((uintptr_t)p & (align - 1))
			bench_fail("posix_memalign(%zu, %zu) gave %p", align, size, p);
		touch_ends(p, size);
		free(slots[slot]);
		slots[slot] = p;
	}
}

/* Alignments from 32 to 32 << (shifts - 1), each equally often. */
static void aligned(void)
{
	uint32_t live = (uint32_t)param("live");
	uint32_t shifts = (uint32_t)param("shifts");
	uint64_t ops = param("ops");
	const uint32_t *sizes = sizes_make((uint32_t)param("min"), (uint32_t)param("max"), 16);
	void **slots = bench_map(live * sizeof(*slots));
	uint64_t seed = 17;

	aligned_ops(slots, live, sizes, shifts, ops / 10 + live, &seed);
	bench_begin();
	aligned_ops(slots, live, sizes, shifts, ops, &seed);
	bench_end(ops);
	for (uint32_t i = 0; i < live; i++)
		free(slots[i]);
}

const struct workload blocks_workloads[] = {
	{ "big",
	  big,
	  "free and malloc of a random one of some big blocks",
	  { { "live", 32 }, { "min", 4096 }, { "max", 16 << 20 }, { "ops", 4000 } } },
	{ "vectors",
	  vectors,
	  "realloc of one of the vectors to 1.5 times its length",
	  { { "live", 1000 }, { "max", 65536 }, { "ops", 3000000 } } },
	{ "buffer",
	  buffer,
	  "realloc of one buffer by a step, up to max",
	  { { "step", 65536 }, { "max", 64 << 20 }, { "touch", 1 }, { "rounds", 3 } } },
	{ "zeroed",
	  zeroed,
	  "calloc of a large block and free of an older one",
	  {
		  { "live", 8 },
		  { "min", 65536 },
		  { "max", 4 << 20 },
		  { "every", 16 },
		  { "ops", 5000 },
	  } },
	{ "aligned",
	  aligned,
	  "posix_memalign and free of a random one of the live blocks",
	  {
		  { "live", 1000 },
		  { "min", 16 },
		  { "max", 4096 },
		  { "shifts", 8 },
		  { "ops", 3000000 },
	  } },
	{ 0 },
};
