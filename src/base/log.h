/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * log.h - lines that the library writes to standard error.
 *
 * All of it formats into a buffer on the stack and uses write(2): no allocation, no lock, safe in
 * signal handlers and in fork children. check.h has the line that stops the program.
 */
#ifndef SLUICE_LOG_H
#define SLUICE_LOG_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/*
 * Formats into buf (at most len bytes with the final NUL) and returns the length. Knows only %s %d
 * %u %x %zu %lu %llu %p %%, without widths.
 */
size_t log_format(char *buf, size_t len, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

size_t log_vformat(char *buf, size_t len, const char *fmt, va_list ap)
	__attribute__((format(printf, 3, 0)));

/*
 * write(2) without effects on the program: a pipe without a reader, a file at its size limit
 * (RLIMIT_FSIZE) or a terminal of another session raise no signal, and a reader that takes nothing
 * is waited for at most ms. Returns -1 with errno set on failure.
 */
long log_write(int fd, const char *text, size_t len, int ms);

/*
 * Text in pieces of up to LOG_PIECE bytes, gathered before it is written: by calls of write, or to
 * standard error if that is NULL. Zeroed it is empty. Small, because a thread may have a stack of
 * 16 KiB.
 */
#define LOG_TEXT 1024
#define LOG_PIECE 192
struct log_text {
	void (*write)(void *arg, const char *text);
	void *arg;
	size_t n;
	char text[LOG_TEXT];
};
void log_text_add(struct log_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void log_text_flush(struct log_text *t);

/* Writes one line "sluice: ..." to standard error, or none if that takes over 0.1 s. Keeps
 * errno. */
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Writes one line with that prefix to standard error, or none if that takes over ms. */
void log_vline(const char *prefix, int ms, const char *fmt, va_list ap)
	__attribute__((format(printf, 3, 0)));

/* Replaces control characters, because a line may go to a terminal. */
void log_clean(char *line);

/* The text of an errno. */
const char *log_error(int err);

#endif
