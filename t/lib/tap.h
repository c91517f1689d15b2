/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A small TAP producer for the unit tests.
 *
 * Call tap_plan first, then ok() or is_int() once for each statement, and return tap_done() from
 * main. Labels are sentences that can be read alone and are true when the test passes. All
 * functions may be called from any thread: a line is built on the caller's stack and written at
 * once. None of them calls malloc, so a test may call them while it holds the locks of the layer it
 * tests. None may be called from a signal handler.
 *
 * A test may run for 120 s; a comment in its source with the word TIMEOUT, a colon and a number of
 * seconds changes that (build-aux/run-test).
 */
#ifndef T_TAP_H
#define T_TAP_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#define TAP_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* How many tests will run. Called first; a program that cannot know calls tap_plan(0). */
void tap_plan(int n);

/* One test: passes if cond is true. Returns cond. A failure prints file and line. */
#define ok(cond, ...) tap_ok_at((cond), __FILE__, __LINE__, __VA_ARGS__)

/* One test: passes if both integers are equal, else prints both. Returns whether they are. */
#define is_int(got, want, ...)                                                                     \
	tap_is_int_at((intmax_t)(got), (intmax_t)(want), __FILE__, __LINE__, __VA_ARGS__)

/* Counts the next n tests as run although they are not; the reason is what this machine cannot
 * do. */
void tap_skip(int n, const char *fmt, ...) TAP_PRINTF(2, 3);

/* Instead of a plan, when no test of this program can run here. Does not return. */
void tap_skip_all(const char *fmt, ...) TAP_PRINTF(1, 2) __attribute__((noreturn));

/*
 * Returns whether an emulator of user programs (qemu-user) runs this. The emulator has a thread and
 * page faults of its own, turns vfork into fork, keeps blocked signals, has no mincore, and cannot
 * fork while it has several threads.
 */
bool tap_emulated(void);

/* A line for the reader: "# ...". */
void tap_diag(const char *fmt, ...) TAP_PRINTF(1, 2);

/* The test cannot go on because later results would mean nothing. Does not return. */
void tap_bail_out(const char *fmt, ...) TAP_PRINTF(1, 2) __attribute__((noreturn));

/* Returns main's exit status: 0 if all planned tests ran and none failed. */
int tap_done(void);

bool tap_ok_at(bool cond, const char *file, int line, const char *fmt, ...) TAP_PRINTF(4, 5);
bool tap_is_int_at(intmax_t got, intmax_t want, const char *file, int line, const char *fmt, ...)
	TAP_PRINTF(5, 6);

/*
 * SLUICE_TEST_PAGE is the kernel page size that the library is to assume, a power of two above the
 * real one. The library then gives back whole pages of that size only, and debug checks hold it to
 * that. Runs before the library's constructor.
 */
extern size_t vm_os_page __attribute__((weak));

__attribute__((constructor(101))) static void with_page(void)
{
	const char *bytes = getenv("SLUICE_TEST_PAGE");

	if (&vm_os_page && bytes && *bytes)
		vm_os_page = strtoul(bytes, NULL, 10);
}

/* The library does not notice a test's threads unless the test wants that, so that only the test
 * itself takes what they cache. Runs before the library's constructor, which is linked after the
 * test. */
#ifndef WANTS_BACKGROUND
__attribute__((constructor(101))) static void without_background(void)
{
	setenv("SLUICE_CONF", "background:never", 0);
}
#endif

#endif
