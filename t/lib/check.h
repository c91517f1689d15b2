/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the helper programs of the preload tests share: counted checks, and blocks that carry a
 * pattern.
 *
 * A helper prints one line for each failed check and ends with one line "N checks, M failed"
 * (helper_end), which its script compares. It is never linked with the library: LD_PRELOAD brings
 * the malloc that answers. Output goes through write(2), so that reporting needs no memory.
 */
#ifndef SLUICE_T_HELPERS_CHECK_H
#define SLUICE_T_HELPERS_CHECK_H

#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "limit.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Changed by CHECK from any thread, hence atomic. */
static unsigned helper_checks, helper_failed;

/* Prints a line to stdout without memory or locks; at most 500 bytes. */
__attribute__((format(printf, 1, 2), unused)) static void helper_say(const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(line, sizeof line - 1, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	size_t len = (size_t)n < sizeof line - 2 ? (size_t)n : sizeof line - 2;
	line[len++] = '\n';
	if (write(STDOUT_FILENO, line, len) < 0)
		_exit(99);
}

/* Counts a check. Prints the first ten that fail. */
#define CHECK(cond, ...)                                                                           \
	do {                                                                                       \
		__atomic_fetch_add(&helper_checks, 1, __ATOMIC_RELAXED);                           \
		if (!(cond) && __atomic_fetch_add(&helper_failed, 1, __ATOMIC_RELAXED) < 10) {     \
			helper_say("FAILED at line %d: %s", __LINE__, #cond);                      \
			helper_say("    " __VA_ARGS__);                                            \
		}                                                                                  \
	} while (0)

/* A system call without libc's or our code in between. */
__attribute__((unused)) static long helper_raw_syscall(long n, long a, long b, long c)
{
#if defined(__x86_64__)
	long r = 0;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(n), "D"(a), "S"(b), "d"(c)
			 : "rcx", "r11", "memory");
	return r;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = n;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;

	__asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
	return x0;
#else
	return syscall(n, a, b, c);
#endif
}

/* Prints the last line. Returns the program's exit status. */
__attribute__((unused)) static int helper_end(void)
{
	helper_say("%u checks, %u failed", helper_checks, helper_failed);
	return helper_checks == 0 || helper_failed != 0;
}

/* A pattern that differs from block to block and from offset to offset. */
static inline unsigned char helper_byte(uintptr_t seed, size_t i)
{
	return (unsigned char)((seed >> 4) * 31 + i * 7 + (i >> 8));
}

__attribute__((unused)) static void helper_fill(void *p, size_t n, uintptr_t seed)
{
	unsigned char *b = (unsigned char *)p;

	for (size_t i = 0; i < n; i++)
		b[i] = helper_byte(seed, i);
}

/* Returns the first offset that lost its pattern, or n if none did. */
__attribute__((unused)) static size_t helper_verify(const void *p, size_t n, uintptr_t seed)
{
	const unsigned char *b = (const unsigned char *)p;

	for (size_t i = 0; i < n; i++)
		if (b[i] != helper_byte(seed, i))
			return i;
	return n;
}

/* xorshift64*: the same numbers on every run. */
__attribute__((unused)) static uint64_t helper_random(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * 0x2545F4914F6CDD1DULL;
}

/* Resident memory in KiB. Allocates a little (stdio). */
__attribute__((unused)) static long helper_rss_kib(void)
{
	char buf[4096];
	FILE *f = NULL;
	long kib = -1;

	f = fopen("/proc/self/status", "re");
	if (f == NULL)
		return -1;
	while (fgets(buf, sizeof buf, f) != NULL)
		if (sscanf(buf, "VmRSS: %ld", &kib) == 1)
			break;
	fclose(f);
	return kib;
}

/* Waits until the thread is asleep, at most a minute, without a call of the allocator. */
__attribute__((unused)) static int helper_wait_asleep(long tid)
{
	for (int tries = 0; tries < 60000; tries++) {
		char text[512] = "";
		char *name_end;
		int fd;

		snprintf(text, sizeof text, "/proc/self/task/%ld/stat", tid);
		fd = open(text, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return 0;
		ssize_t n = read(fd, text, sizeof text - 1);
		close(fd);
		text[n > 0 ? n : 0] = 0;
		name_end = strrchr(text, ')');
		if (name_end != NULL && name_end[1] == ' ' && name_end[2] == 'S')
			return 1;
		usleep(1000);
	}
	return 0;
}

/* The number of mappings of this process. Allocates a little (stdio). */
__attribute__((unused)) static int helper_mappings(void)
{
	char buf[4096];
	FILE *f = fopen("/proc/self/maps", "re");
	int n = 0;

	if (f == NULL)
		return -1;
	while (fgets(buf, sizeof buf, f) != NULL)
		n++;
	fclose(f);
	return n;
}

#ifdef __cplusplus
}
#endif

#endif
