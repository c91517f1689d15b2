/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * process.c - fork: the cost of the allocator's fork handlers, and of a child that allocates.
 */
#include "../common/work.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void replace_some(void **slots, uint32_t live, const uint32_t *sizes, uint64_t n,
			 uint64_t *seed)
{
	for (uint64_t i = 0; i < n; i++) {
		uint32_t slot = rng_below(seed, live);

		free(slots[slot]);
		slots[slot] = take(size_at(sizes, *seed >> 40));
	}
}

static void fork_ops(void **slots, uint32_t live, const uint32_t *sizes, uint64_t each,
		     uint64_t ops, uint64_t *seed)
{
	for (uint64_t i = 0; i < ops; i++) {
		int status = 0;
		pid_t child = fork();

		if (child < 0)
			bench_fail("fork: %s", strerror(errno));
		replace_some(slots, live, sizes, each, seed);
		if (child == 0)
			_exit(0);
		if (waitpid(child, &status, 0) != child || status != 0)
			bench_fail("a fork child ended with wait status %d", status);
	}
}

/* Parent and child each replace some of the objects that were there before the fork. */
static void forks(void)
{
	uint32_t live = (uint32_t)param("live");
	uint64_t each = param("each");
	uint64_t ops = param("ops");
	const uint32_t *sizes = sizes_make((uint32_t)param("min"), (uint32_t)param("max"), 20);
	void **slots = bench_map(live * sizeof(*slots));
	uint64_t seed = 21;

	for (uint32_t i = 0; i < live; i++)
		slots[i] = take(size_at(sizes, i));
	fork_ops(slots, live, sizes, each, ops / 10 + 1, &seed);
	bench_begin();
	fork_ops(slots, live, sizes, each, ops, &seed);
	bench_end(ops);
	for (uint32_t i = 0; i < live; i++)
		free(slots[i]);
}

const struct workload process_workloads[] = {
	{ "fork",
	  forks,
	  "fork; child and parent replace some objects; the child ends",
	  { { "live", 20000 }, { "each", 500 }, { "min", 16 }, { "max", 1024 }, { "ops", 500 } } },
	{ 0 },
};
