/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * log.h - what the library says on standard error, and how it stops the program.
 *
 * All of it formats into a buffer on the stack and uses write(2): no allocation, no lock, safe in
 * signal handlers and in fork children. For the backtrace see backtrace.h.
 */
#ifndef SLUICE_LOG_H
#define SLUICE_LOG_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef SLUICE_DEBUG
#define SLUICE_DEBUG 0
#endif

/*
 * Format into buf (at most len bytes with the ending NUL), returns the length. Knows %s %d %u %x
 * %zu %lu %llu %p %% only, without widths.
 */
size_t log_format(char *buf, size_t len, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

size_t log_vformat(char *buf, size_t len, const char *fmt, va_list ap)
	__attribute__((format(printf, 3, 0)));

/*
 * write(2) that no program can notice: it is not stopped or killed by the signals of a pipe that nobody reads, a file that is too
 * large (RLIMIT_FSIZE) or a terminal that is not its own, nor does it wait for longer than ms for one that takes nothing.
 * -1: with errno.
 */
long log_write(int fd, const char *text, size_t len, int ms);

/* One line "sluice: ..." on standard error; none if nobody takes it for 0.1 s. Keeps errno. */
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* One line "sluice: fatal: ..." on standard error, a backtrace where built in, then abort. */
_Noreturn void sluice_fatal(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* What an errno means. */
static inline const char *log_error(int err)
{
#ifdef __GLIBC__
	const char *text = strerrordesc_np(err); /* in English, and allocates nothing */

	return text ? text : "unknown error";
#else
	(void)err;
	return "it is refused";
#endif
}

/* Whether sluice_fatal adds a backtrace; set from the option. */
extern bool log_backtrace;

/* Always compiled in. */
#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (__builtin_expect(!(cond), 0))                                                  \
			sluice_fatal("internal check failed: %s (%s:%d)", #cond, __FILE__,         \
				     __LINE__);                                                    \
	} while (0)

/* Debug builds only; the condition is always compiled. */
#define DCHECK(cond)                                                                               \
	do {                                                                                       \
		if (SLUICE_DEBUG)                                                                  \
			CHECK(cond);                                                               \
	} while (0)

#endif
