/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * While allocations are sampled, a loop that allocates and frees in turn rarely takes a slow path,
 * and no object is handed out twice or lost; what others ask of the heap is done.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/options.h"
#include "heap/cache_bin.h"
#include "heap/dealt.h"
#include "heap/heap.h"
#include "heap/heap_call.h"
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

/* Bins that are full again and again, and whose objects leave them while they are not full. */
static void test_teardown(void)
{
	static void *p[SLOTS];
	uint64_t before = heap_self->flushes;
	bool good = true;

	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < SLOTS; i++) {
			p[i] = heap_alloc(48);
			if (!p[i])
				tap_bail_out("no memory");
			memset(p[i], (int)i, 48);
		}
		for (unsigned i = 0; i < SLOTS; i++) {
			unsigned char *c = p[(i * 7) % SLOTS];

			good = good && c[20] == (unsigned char)(i * 7 % SLOTS) && c[47] == c[20];
			heap_free(c);
		}
		heap_check_bins();
		heap_check();
	}
	ok(good, "objects of a large teardown were handed out once");
	ok(heap_self->flushes > before, "some went to their slabs");
}

/* A trim that is asked for is done by the next slow calls. */
static void test_trim(void)
{
	uint32_t before = heap_self->slow_calls;
	uint32_t asked = heap_self->trims_seen;

	heap_ask_trim();
	for (unsigned n = 0; n < 1000 && heap_self->trims_seen == asked; n++)
		pairs(64, 100);
	is_int((int)(heap_self->trims_seen - asked), 1, "a trim is done by a loop of pairs");
	tap_diag("%u slow calls", heap_self->slow_calls - before);
	before = heap_self->age_next;
	for (unsigned n = 0; n < 1000 && heap_self->age_next == before; n++)
		pairs(64, 100);
	ok(heap_self->age_next != before, "and so are ageing steps");
}

/* The signal that ends a process which frees n other objects, and then the last of them, or the one
 * before, again. */
static int ends_by(unsigned n, unsigned back)
{
	void *p[2 * RETURNED_MAX + 2];
	int status = 0;
	pid_t child = fork();

	if (child == 0) {
		close(STDERR_FILENO);
		for (unsigned i = 0; i < n; i++)
			p[i] = heap_alloc(64);
		for (unsigned i = 0; i < n; i++)
			heap_free(p[i]);
		heap_free(p[n - 1 - back]);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		tap_bail_out("no child");
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void test_twice(void)
{
	unsigned missed = 0;

	pairs(64, 1000);
	for (unsigned n = 3; n <= 2 * RETURNED_MAX + 2; n++)
		for (unsigned back = 0; back < 2; back++)
			missed += ends_by(n, back) != SIGABRT;
	is_int((int)missed, 0, "the last two frees of a size are noticed if they come again");
}

int main(void)
{
	tap_plan(8);
	if (options_parse("guard_sample:100000000", "test"))
		tap_bail_out("settings are refused");
	heap_init();
	sampler_init();
	if (!heap_sampling)
		tap_bail_out("nothing is sampled");
	test_pairs();
	test_random();
	test_teardown();
	test_trim();
	test_twice();
	return tap_done();
}
