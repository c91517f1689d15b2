/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * check.h - assertions, and how the library stops the program.
 *
 * All of it may be called by any thread in any context: it allocates nothing and takes no lock.
 */
#ifndef SLUICE_CHECK_H
#define SLUICE_CHECK_H

#include <stdbool.h>

#ifndef SLUICE_DEBUG
#define SLUICE_DEBUG 0
#endif

/* Writes one line "sluice: fatal: ..." and a backtrace to standard error. Then ends the program by
 * SIGABRT, as abort does. */
_Noreturn void sluice_fatal(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The same with what `more` writes behind the line in place of the backtrace. */
_Noreturn void sluice_fatal_more(void (*more)(void *), void *arg, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Whether sluice_fatal writes a backtrace; set from the option. */
extern bool fatal_backtrace;

/* In all builds. */
#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (__builtin_expect(!(cond), 0))                                                  \
			sluice_fatal("internal check failed: %s (%s:%d)", #cond, __FILE__,         \
				     __LINE__);                                                    \
	} while (0)

/*
 * Debug builds count the cache lines that this thread reads or writes on slow paths, and may not
 * have touched for long: one for each free object, and two for each step of a list of slabs or runs
 * (a descriptor and its neighbour). t/unit/cold.c makes a histogram of them.
 */
extern _Thread_local unsigned cold_lines __attribute__((tls_model("initial-exec")));
static inline void cold_count(unsigned n)
{
	if (SLUICE_DEBUG)
		cold_lines += n;
}

/* In debug builds only; the condition is compiled in all of them. */
#define DCHECK(cond)                                                                               \
	do {                                                                                       \
		if (SLUICE_DEBUG)                                                                  \
			CHECK(cond);                                                               \
	} while (0)

#endif
