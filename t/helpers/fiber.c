/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Allocates and frees on the stack of a fiber. usage: fiber BYTES [thread]
 *
 * The stack has BYTES, and the page below it no access: what needs more is killed by SIGSEGV. The
 * first call of calloc gets a block that was used before, for which the library asks the kernel
 * what it backs. With "thread", another thread allocates meanwhile. Prints "ok".
 */
#include "lib/check.h"

#include <pthread.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { KEPT = 300, CALLS = 20000, LONGEST = 20000000, GUARD = 65536 };

static ucontext_t outside;
static ucontext_t fiber;
static void *kept[KEPT];
static unsigned seed = 1;

static unsigned some(unsigned most)
{
	return (unsigned)rand_r(&seed) % most;
}

static size_t some_size(unsigned i)
{
	switch (some(64)) {
	case 0:
		return some(60000);
	case 1:
		return some(900000);
	case 2:
		return some(i < 6 ? LONGEST : 2000);
	case 3:
		return i == 7 ? 33000000 + some(9000000) : some(2000);
	default:
		return some(2000);
	}
}

static void one_call(void)
{
	unsigned i = some(KEPT);
	size_t size = some_size(i);
	unsigned kind = some(5);
	char *p = kept[i];

	if (kind == 0) {
		p = realloc(p, size + 1);
	} else {
		free(p);
		if (kind == 1)
			p = calloc(1, size);
		else
			p = kind == 2 ? aligned_alloc(64, size) : malloc(size);
	}
	if (p && size)
		memset(p, 1, size < 100000 ? size : 100000);
	kept[i] = p;
}

static void in_fiber(void)
{
	char *p = malloc(LONGEST);

	if (p)
		memset(p, 1, LONGEST);
	free(p);
	free(calloc(1, LONGEST));
	for (unsigned i = 0; i < CALLS; i++)
		one_call();
}

static void *beside(void *arg)
{
	void *p[20];

	for (;;) {
		for (unsigned i = 0; i < 20; i++)
			p[i] = malloc((size_t)i * 500);
		for (unsigned i = 0; i < 20; i++)
			free(p[i]);
		usleep(1000);
	}
	return arg;
}

int main(int argc, char **argv)
{
	size_t bytes = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
	char *stack = mmap(NULL, GUARD + bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
	pthread_t thread;

	if (!bytes || stack == MAP_FAILED || mprotect(stack, GUARD, PROT_NONE) != 0 ||
	    getcontext(&fiber) != 0 ||
	    (argc > 2 && pthread_create(&thread, NULL, beside, NULL) != 0))
		return 99;
	fiber.uc_stack.ss_sp = stack + GUARD;
	fiber.uc_stack.ss_size = bytes;
	fiber.uc_link = &outside;
	makecontext(&fiber, in_fiber, 0);
	swapcontext(&outside, &fiber);
	helper_say("ok");
	_exit(0);
}
