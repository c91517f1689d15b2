/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * single.c - one thread and small objects: ping-pong, LIFO, FIFO, random replacement, growth.
 *
 * Mixed sizes are spread evenly over the doublings (sizes_make).
 */
#include "../common/work.h"

#include <string.h>

/* Allocates and frees one block: the shortest path through malloc and free. */
static void pingpong(void)
{
	size_t size = param("size");
	uint64_t ops = param("ops");

	for (uint64_t i = 0; i < ops / 10 + 1; i++)
		free(take(size));
	bench_begin();
	for (uint64_t i = 0; i < ops; i++)
		free(take(size));
	bench_end(ops);
}

/* Allocates depth objects and frees them in the opposite order, as nested calls do. */
static void lifo_rounds(void **slots, const uint32_t *sizes, uint64_t depth, uint64_t rounds)
{
	uint64_t next = 0;

	for (uint64_t r = 0; r < rounds; r++) {
		for (uint64_t i = 0; i < depth; i++)
			slots[i] = take(size_at(sizes, next++));
		for (uint64_t i = depth; i-- > 0;)
			free(slots[i]);
	}
}

static void lifo(void)
{
	uint64_t depth = param("depth");
	uint64_t rounds = param("ops") / depth + 1;
	const uint32_t *sizes = sizes_make((uint32_t)param("min"), (uint32_t)param("max"), 1);
	void **slots = bench_map(depth * sizeof(*slots));

	lifo_rounds(slots, sizes, depth, rounds / 10 + 1);
	bench_begin();
	lifo_rounds(slots, sizes, depth, rounds);
	bench_end(rounds * depth);
}

/* Frees the oldest of depth objects and allocates one, as in a queue of requests. */
static void fifo_ops(void **slots, const uint32_t *sizes, uint64_t depth, uint64_t ops)
{
	uint64_t slot = 0;

	for (uint64_t i = 0; i < ops; i++) {
		free(slots[slot]);
		slots[slot] = take(size_at(sizes, i));
		if (++slot == depth)
			slot = 0;
	}
}

static void fifo(void)
{
	uint64_t depth = param("depth");
	uint64_t ops = param("ops");
	const uint32_t *sizes = sizes_make((uint32_t)param("min"), (uint32_t)param("max"), 2);
	void **slots = bench_map(depth * sizeof(*slots));

	fifo_ops(slots, sizes, depth, depth + ops / 10);
	bench_begin();
	fifo_ops(slots, sizes, depth, ops);
	bench_end(ops);
	for (uint64_t i = 0; i < depth; i++)
		free(slots[i]);
}

/* Replaces a random live object by one of another size: cold memory, in no order. */
static void replace_ops(void **slots, const uint32_t *sizes, uint32_t live, uint64_t ops,
			uint64_t *seed)
{
	for (uint64_t i = 0; i < ops; i++) {
		uint32_t slot = rng_below(seed, live);

		free(slots[slot]);
		slots[slot] = take(size_at(sizes, i));
	}
}

static void replace(void)
{
	uint32_t live = (uint32_t)param("live");
	uint64_t ops = param("ops");
	const uint32_t *sizes = sizes_make((uint32_t)param("min"), (uint32_t)param("max"), 3);
	void **slots = bench_map(live * sizeof(*slots));
	uint64_t seed = 4;

	for (uint32_t i = 0; i < live; i++)
		slots[i] = take(size_at(sizes, i));
	replace_ops(slots, sizes, live, ops, &seed);
	bench_begin();
	replace_ops(slots, sizes, live, ops, &seed);
	bench_end(ops);
	for (uint32_t i = 0; i < live; i++)
		free(slots[i]);
}

/*
 * Builds a structure and frees it in the order in which it was built. warm=N runs N - 1 rounds
 * before those that are timed: with warm=1 the time includes fresh memory.
 */
static void grow(void)
{
	uint32_t live = (uint32_t)param("live");
	uint64_t rounds = param("rounds");
	uint64_t warm = param("warm");
	const uint32_t *sizes = sizes_make((uint32_t)param("min"), (uint32_t)param("max"), 5);
	void **slots = bench_map(live * sizeof(*slots));

	for (uint64_t r = 1; r < warm + rounds; r++) {
		if (r == warm)
			bench_begin();
		for (uint32_t i = 0; i < live; i++) {
			size_t size = size_at(sizes, i + r);

			slots[i] = take(size);
			memset(slots[i], 1, size);
		}
		for (uint32_t i = 0; i < live; i++)
			free(slots[i]);
	}
	bench_end(rounds * live);
}

const struct workload single_workloads[] = {
	{ "pingpong",
	  pingpong,
	  "malloc and free of one size",
	  { { "size", 64 }, { "ops", 20000000 } } },
	{ "lifo",
	  lifo,
	  "malloc and free, last in first out, many classes",
	  { { "depth", 100 }, { "min", 16 }, { "max", 1024 }, { "ops", 10000000 } } },
	{ "fifo",
	  fifo,
	  "malloc and free, first in first out, many classes",
	  { { "depth", 1000 }, { "min", 16 }, { "max", 1024 }, { "ops", 10000000 } } },
	{ "replace",
	  replace,
	  "free and malloc of a random one of the live objects",
	  { { "live", 100000 }, { "min", 16 }, { "max", 256 }, { "ops", 3000000 } } },
	{ "grow",
	  grow,
	  "malloc, fill and free of one object of a structure",
	  { { "live", 1000000 }, { "min", 16 }, { "max", 256 }, { "rounds", 3 }, { "warm", 1 } } },
	{ 0 },
};
