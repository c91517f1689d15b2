/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Our walk over the stack finds what libgcc's unwinder finds, or says that it does not know.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/unwind.h"
#include "lib/tap.h"

#ifdef __GLIBC__
#include <execinfo.h>

#define MOST 64
#define DEPTH 20u

enum found { SAME, UNKNOWN, OTHER };

static volatile unsigned found[3];

/* Both begin in this function, at different calls. */
__attribute__((noinline)) static void compare(void)
{
	uintptr_t ours[MOST];
	void *theirs[MOST];
	unsigned n;
	int m = backtrace(theirs, MOST);
	bool same = unwind_walk(ours, MOST, &n);

	if (!same) {
		found[UNKNOWN]++;
		return;
	}
	same = n > 2 && n == (unsigned)m;
	for (unsigned i = 1; same && i < n; i++)
		same = ours[i] == (uintptr_t)theirs[i];
	found[same ? SAME : OTHER]++;
}

static unsigned count(enum found f)
{
	unsigned n = found[f];

	found[f] = 0;
	return n;
}

__attribute__((noinline)) static unsigned recurse(unsigned depth)
{
	if (!depth) {
		compare();
		return 1;
	}
	return recurse(depth - 1) + 1;
}

/* Its frame is found by rbp. */
__attribute__((noinline)) static unsigned with_room(size_t bytes, unsigned depth)
{
	volatile char *room = __builtin_alloca(bytes);

	room[0] = 1;
	if (depth)
		return with_room(bytes + 48, depth - 1) + (unsigned)room[0];
	return recurse(3) + (unsigned)room[0];
}

/* It may need a stack that is realigned. */
__attribute__((noinline)) static unsigned aligned(size_t bytes)
{
	volatile char at __attribute__((aligned(128)));
	volatile char *room = __builtin_alloca(bytes);

	at = 1;
	room[0] = 1;
	compare();
	return (unsigned)(at + room[0]);
}

static int order(const void *a, const void *b)
{
	compare();
	return *(const int *)a - *(const int *)b;
}

static void on_signal(int sig)
{
	(void)sig;
	compare();
}

static void test_walks(void)
{
	int numbers[] = { 3, 1, 2, 5, 4 };

	recurse(DEPTH);
	is_int(count(SAME), 1, "a walk finds the return addresses that backtrace finds");
	for (unsigned i = 0; i < DEPTH; i++)
		recurse(i);
	is_int(count(SAME), DEPTH, "with rules that are kept, too");
	with_room(100, 5);
	with_room(3000, 2);
	is_int(count(SAME), 2, "functions whose stack grows");
	qsort(numbers, 5, sizeof(numbers[0]), order);
	ok(count(SAME) >= 4 && !found[UNKNOWN], "calls from the C library");
}

static void test_unknown(void)
{
	struct sigaction sa;

	aligned(100);
	ok(count(SAME) + count(UNKNOWN) == 1, "a stack that is realigned: the same, or unknown");
	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = on_signal;
	sigaction(SIGUSR1, &sa, NULL);
	raise(SIGUSR1);
	is_int(count(UNKNOWN), 1, "the frame of a signal handler is not known");
	is_int(found[OTHER], 0, "no walk finds anything else");
}

static void test_short(void)
{
	uintptr_t pc[3];
	unsigned n = 0;
	bool walked = unwind_walk(pc, 2, &n);

	ok(walked && n == 2, "a walk ends where there is no room for more addresses");
}

int main(void)
{
	uintptr_t pc[MOST];
	void *first[1];
	unsigned n;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
	tap_skip_all("the sanitizers' backtrace finds other return addresses");
#endif
	backtrace(first, 1); /* loads what it needs */
	if (!unwind_walk(pc, MOST, &n))
		tap_skip_all("this machine or this build has no walk of its own");
	tap_plan(8);
	test_walks();
	test_unknown();
	test_short();
	return tap_done();
}

#else

int main(void)
{
	tap_skip_all("no backtrace to compare with");
}

#endif
