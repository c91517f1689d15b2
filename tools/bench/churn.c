/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * churn.c - trees and strings as a compiler has them: built, rewritten in place, torn down.
 */
#include "../common/work.h"

#include <string.h>

#define KIDS 4u

/* Kinds of nodes differ in what they carry: 24 to 120 bytes, and up to four kids. */
struct node {
	uint32_t kind;
	uint32_t kids;
	uint64_t value;
	struct node *kid[];
};

static uint64_t made;

static struct node *node_make(uint64_t *seed, uint32_t kids)
{
	uint32_t extra = 8 * rng_below(seed, 9);
	struct node *n = take(sizeof(*n) + kids * sizeof(struct node *) + 8 + extra);

	n->kind = extra;
	n->kids = kids;
	n->value = made++;
	return n;
}

static struct node *tree_make(uint64_t *seed, unsigned depth)
{
	uint32_t kids = depth == 0 ? 0 : 1 + rng_below(seed, KIDS);
	struct node *n = node_make(seed, kids);

	for (uint32_t i = 0; i < kids; i++)
		n->kid[i] = tree_make(seed, depth - 1 - (depth > 1 && rng_below(seed, 4) == 0));
	return n;
}

static void tree_free(struct node *n)
{
	for (uint32_t i = 0; i < n->kids; i++)
		tree_free(n->kid[i]);
	free(n);
}

/* A pass: foldable nodes become one leaf each, and some leaves are expanded. */
static struct node *tree_rewrite(struct node *n, uint64_t *seed, unsigned depth)
{
	uint32_t chance = rng_below(seed, 32);

	if (n->kids > 0 && depth < 4 && chance < 4) {
		tree_free(n);
		return node_make(seed, 0);
	}
	if (n->kids == 0 && chance < 3) {
		free(n);
		return tree_make(seed, 2);
	}
	for (uint32_t i = 0; i < n->kids; i++)
		n->kid[i] = tree_rewrite(n->kid[i], seed, depth ? depth - 1 : 0);
	return n;
}

/* Functions are built and rewritten by three passes; the oldest is freed once `live` exist. */
static void tree_rounds(struct node **slots, uint64_t live, unsigned depth, uint64_t ops,
			uint64_t *seed)
{
	uint64_t until = made + ops;

	for (uint64_t i = 0; made < until; i++) {
		struct node *n = tree_make(seed, depth);

		for (unsigned pass = 0; pass < 3; pass++)
			n = tree_rewrite(n, seed, depth);
		if (slots[i % live])
			tree_free(slots[i % live]);
		slots[i % live] = n;
	}
}

static void tree(void)
{
	uint64_t live = param("live");
	uint64_t ops = param("ops");
	unsigned depth = (unsigned)param("depth");
	struct node **slots = bench_map(live * sizeof(struct node *));
	uint64_t seed = 18;
	uint64_t before;

	tree_rounds(slots, live, depth, ops / 4, &seed);
	before = made;
	bench_begin();
	tree_rounds(slots, live, depth, ops, &seed);
	bench_end(made - before);
	for (uint64_t i = 0; i < live; i++) {
		if (slots[i])
			tree_free(slots[i]);
	}
}

/* ---- strings ------------------------------------------------------------------------------ */

static char *string_copy(const char *from, size_t length)
{
	char *s = take(length + 1);

	memcpy(s, from, length);
	s[length] = '\0';
	return s;
}

/* Duplicates, appends to, joins and cuts random live strings. */
static void strings_ops(char **slots, uint32_t live, size_t max, uint64_t ops, uint64_t *seed)
{
	static const char text[] = "static const unsigned long identifier_of_a_longer_kind";

	for (uint64_t i = 0; i < ops; i++) {
		uint64_t r = rng_next(seed);
		char **slot = &slots[rng_below(seed, live)];
		const char *other = slots[rng_below(seed, live)];
		size_t length = strlen(*slot);
		size_t more = strlen(other);
		char *s;

		if (length > max || (r & 7) == 0) {
			s = string_copy(text + (r >> 40 & 31), 1 + (r >> 45 & 15));
		} else if ((r & 7) < 3) {
			size_t piece = 1 + (r >> 45 & 15);

			s = realloc(*slot, length + piece + 1);
			if (!s)
				bench_fail("realloc(%zu): no memory", length + piece + 1);
			memcpy(s + length, text, piece);
			s[length + piece] = '\0';
			*slot = s;
			continue;
		} else if ((r & 7) < 6) {
			s = take(length + more + 1);
			memcpy(s, *slot, length);
			memcpy(s + length, other, more + 1);
		} else {
			s = string_copy(other, more / 2 + 1 > more ? more : more / 2 + 1);
		}
		free(*slot);
		*slot = s;
	}
}

static void strings(void)
{
	uint32_t live = (uint32_t)param("live");
	uint64_t ops = param("ops");
	char **slots = bench_map(live * sizeof(*slots));
	uint64_t seed = 19;

	for (uint32_t i = 0; i < live; i++)
		slots[i] = string_copy("name", 4);
	strings_ops(slots, live, param("max"), ops / 4 + live, &seed);
	bench_begin();
	strings_ops(slots, live, param("max"), ops, &seed);
	bench_end(ops);
	for (uint32_t i = 0; i < live; i++)
		free(slots[i]);
}

const struct workload churn_workloads[] = {
	{ "tree",
	  tree,
	  "a node of syntax trees that are built, rewritten and freed",
	  { { "live", 50 }, { "depth", 7 }, { "ops", 4000000 } } },
	{ "strings",
	  strings,
	  "a string is duplicated, appended to, joined or cut",
	  { { "live", 20000 }, { "max", 200 }, { "ops", 3000000 } } },
	{ 0 },
};
