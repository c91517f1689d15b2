/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A small TAP producer for the unit tests.
 *
 * Say the plan first, then one ok() or is_int() for each statement, and return tap_done() from main.
 * Labels are sentences that are true when the test passes. All functions may be called from any
 * thread: a line is put together on the caller's stack and written at once. None of them calls
 * malloc, so they may be used while the test holds the locks of the layer it tests; none may be
 * called from a signal handler.
 *
 * The run-time limit of a test is 120 s; a comment with the word TIMEOUT, a colon and a number of
 * seconds in the test's source changes it (build-aux/run-test).
 */
#ifndef T_TAP_H
#define T_TAP_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#define TAP_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* How many tests will be run. First call of all; a program that cannot know calls tap_plan(0). */
void tap_plan(int n);

/* One test: passed when cond is true. Returns cond. A failure says file and line. */
#define ok(cond, ...) tap_ok_at((cond), __FILE__, __LINE__, __VA_ARGS__)

/* One test: passed when both integers are equal; else both are printed. Returns whether they are. */
#define is_int(got, want, ...)                                                                     \
	tap_is_int_at((intmax_t)(got), (intmax_t)(want), __FILE__, __LINE__, __VA_ARGS__)

/* The next n tests count as run and are not: the reason is something that this machine cannot do. */
void tap_skip(int n, const char *fmt, ...) TAP_PRINTF(2, 3);

/* Instead of a plan: no test of this program can run here. Does not return. */
void tap_skip_all(const char *fmt, ...) TAP_PRINTF(1, 2) __attribute__((noreturn));

/*
 * Whether an emulator of user programs (qemu-user) runs this. It has a thread of its own and page faults of its own, makes a fork
 * of vfork, keeps blocked signals, knows no mincore, and cannot fork while it has several threads.
 */
bool tap_emulated(void);

/* A line for the reader: "# ...". */
void tap_diag(const char *fmt, ...) TAP_PRINTF(1, 2);

/* The test cannot go on, whatever comes next would mean nothing. Does not return. */
void tap_bail_out(const char *fmt, ...) TAP_PRINTF(1, 2) __attribute__((noreturn));

/* The exit status for main: 0 when all planned tests were run and none failed. */
int tap_done(void);

bool tap_ok_at(bool cond, const char *file, int line, const char *fmt, ...) TAP_PRINTF(4, 5);
bool tap_is_int_at(intmax_t got, intmax_t want, const char *file, int line, const char *fmt, ...)
	TAP_PRINTF(5, 6);

/*
 * SLUICE_TEST_PAGE is the size of the kernel's page that the library is to believe in, a power of two above the real one: it gives
 * back whole ones only, and with debug checks asks for nothing else. Before the library's constructor.
 */
extern size_t vm_os_page __attribute__((weak));

__attribute__((constructor(101))) static void with_page(void)
{
	const char *bytes = getenv("SLUICE_TEST_PAGE");

	if (&vm_os_page && bytes && *bytes)
		vm_os_page = strtoul(bytes, NULL, 10);
}

/* Threads of a test are not noticed by the library, unless a test wants that: nobody takes what they cache but the
 * test. Comes before the library's constructor, which is linked after the test. */
#ifndef WANTS_BACKGROUND
__attribute__((constructor(101))) static void without_background(void)
{
	setenv("SLUICE_CONF", "background:never", 0);
}
#endif

#endif
