/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A process is hardened after it has allocated: without memory it is not, and says so; otherwise
 * the blocks that there are remain valid.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <stdlib.h>

#include "base/options.h"
#include "heap/harden.h"
#include "heap/heap.h"
#include "lib/child.h"
#include "lib/core.h"
#include "lib/tap.h"

#define BLOCKS 200u

static void *block[BLOCKS];

static size_t size_of(unsigned i)
{
	return 1 + (size_t)i * i * 3;
}

static void begin(const char *settings)
{
	if (options_parse(settings, "test"))
		tap_bail_out("settings are refused");
	for (unsigned i = 0; i < BLOCKS; i++)
		if (!(block[i] = heap_alloc(size_of(i))))
			tap_bail_out("no memory");
}

static void without_memory(void *arg)
{
	begin("check:full,canary:1");
	options.vm_fail_count = 1 << 30;
	options.vm_fail_at = 1;
	harden_init();
	options.vm_fail_at = 0;
	if (heap_hooks)
		_exit(1);
	for (unsigned i = 0; i < BLOCKS; i++)
		heap_free(block[i]);
	(void)arg;
}

static void test_start(void)
{
	struct child c;

	child_run(&c, without_memory, NULL);
	ok(c.status == 0 && strstr(c.stderr, "have no effect: no memory for the bits"),
	   "hardening that finds no memory says that it has no effect, and the program goes on");
}

static void with_blocks(void *arg)
{
	begin("profile:hardened");
	harden_init();
	if (!heap_hooks)
		_exit(1);
	for (unsigned i = 0; i < BLOCKS; i++) {
		if (heap_usable(block[i]) < size_of(i))
			_exit(2);
		if (i % 4 == 1)
			block[i] = heap_realloc(block[i], size_of(i) - size_of(i) / 5);
		else if (i % 4 == 2)
			block[i] = heap_realloc(block[i], size_of(i) * 2);
		if (i % 4 != 3)
			heap_check_size(block[i],
					i % 4 == 1   ? size_of(i) - size_of(i) / 5
					: i % 4 == 2 ? size_of(i) * 2
						     : size_of(i),
					1);
		heap_free(block[i]);
	}
	(void)arg;
}

static void freed_twice(void *arg)
{
	begin("check:full");
	harden_init();
	heap_free(block[100]);
	for (unsigned i = 0; i < 1000; i++)
		heap_free(heap_alloc(size_of(100)));
	heap_free(block[100]);
	(void)arg;
}

static void test_blocks_before(void)
{
	struct child c;

	child_run(&c, with_blocks, NULL);
	ok(c.status == 0 && !c.stderr[0], "blocks from before the start can be used and freed");
	ok(child_is_stopped(freed_twice, NULL, "object freed twice"),
	   "a second free of one is noticed");
}

int main(void)
{
	tap_plan(3);
	heap_init();
	test_start();
	test_blocks_before();
	return tap_done();
}
