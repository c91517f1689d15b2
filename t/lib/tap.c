/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TAP for the unit tests, see tap.h.
 *
 * Output goes by write(2) from a buffer on the stack. stdio would allocate its buffer, and a test
 * that is killed would lose what the buffer held.
 */
#include "lib/tap.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/options.h"

#define LINE_MAX_BYTES 1024

static atomic_int planned;
static atomic_int run;
static atomic_int failed;

/* Recognized by the process's name, or because run-test says so. */
bool tap_emulated(void)
{
	const char *by = getenv("TEST_EMULATOR");
	char name[16] = "";

	prctl(PR_GET_NAME, name);
	return (by && *by) || strncmp(name, "qemu-", 5) == 0;
}

struct line {
	char text[LINE_MAX_BYTES];
	size_t len;
};

static void line_addv(struct line *l, const char *fmt, va_list ap) TAP_PRINTF(2, 0);
static void line_add(struct line *l, const char *fmt, ...) TAP_PRINTF(2, 3);

static void line_addv(struct line *l, const char *fmt, va_list ap)
{
	size_t room = sizeof(l->text) - l->len;
	int n = vsnprintf(l->text + l->len, room, fmt, ap);

	if (n > 0)
		l->len += (size_t)n < room ? (size_t)n : room - 1;
}

static void line_add(struct line *l, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	line_addv(l, fmt, ap);
	va_end(ap);
}

/* One write for the whole line, so that lines of several threads do not mix. */
static void line_write(struct line *l)
{
	size_t done = 0;

	if (l->len == sizeof(l->text) - 1)
		l->len--;
	l->text[l->len++] = '\n';
	while (done < l->len) {
		ssize_t n = write(STDOUT_FILENO, l->text + done, l->len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			_exit(99);
		done += (size_t)n;
	}
}

/*
 * The result line. A failure's diagnosis is in the same write, so that both stay together. A '#' in
 * a label would be read as a directive.
 */
static bool result(bool passed, const char *file, int line, const char *diag, const char *fmt,
		   va_list ap) TAP_PRINTF(5, 0);

static bool result(bool passed, const char *file, int line, const char *diag, const char *fmt,
		   va_list ap)
{
	/* Threads may write in another order than they take numbers; TAP allows that. */
	int number = atomic_fetch_add_explicit(&run, 1, memory_order_relaxed) + 1;
	struct line l = { .len = 0 };
	size_t label;

	line_add(&l, "%s %d - ", passed ? "ok" : "not ok", number);
	label = l.len;
	line_addv(&l, fmt, ap);
	for (char *p = l.text + label; (p = strpbrk(p, "#\n")); p++)
		*p = ' ';
	if (!passed) {
		atomic_fetch_add_explicit(&failed, 1, memory_order_relaxed);
		line_add(&l, "\n#   failed at %s:%d%s", file, line, diag);
	}
	line_write(&l);
	return passed;
}

/* Unit tests look at what frees and large blocks do later, not at the process's first ones, which
 * t/die/early.sh looks at, and know which pages a region has. */
extern struct options options __attribute__((weak));
__attribute__((constructor)) static void without_early(void)
{
	if (!&options)
		return;
	options.early_checks = 0;
	options.early_guards = 0;
	options.random_base = 0;
}

void tap_plan(int n)
{
	struct line l = { .len = 0 };

	atomic_store_explicit(&planned, n, memory_order_relaxed);
	if (n > 0) {
		line_add(&l, "1..%d", n);
		line_write(&l);
	}
}

bool tap_ok_at(bool cond, const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	result(cond, file, line, "", fmt, ap);
	va_end(ap);
	return cond;
}

bool tap_is_int_at(intmax_t got, intmax_t want, const char *file, int line, const char *fmt, ...)
{
	char diag[160];
	va_list ap;

	snprintf(diag, sizeof(diag), "\n#          got %jd (0x%jx)\n#     expected %jd (0x%jx)",
		 got, (uintmax_t)got, want, (uintmax_t)want);
	va_start(ap, fmt);
	result(got == want, file, line, diag, fmt, ap);
	va_end(ap);
	return got == want;
}

void tap_skip(int n, const char *fmt, ...)
{
	for (int i = 0; i < n; i++) {
		int number = atomic_fetch_add_explicit(&run, 1, memory_order_relaxed) + 1;
		struct line l = { .len = 0 };
		va_list ap;

		line_add(&l, "ok %d # SKIP ", number);
		va_start(ap, fmt);
		line_addv(&l, fmt, ap);
		va_end(ap);
		line_write(&l);
	}
}

void tap_skip_all(const char *fmt, ...)
{
	struct line l = { .len = 0 };
	va_list ap;

	line_add(&l, "1..0 # SKIP ");
	va_start(ap, fmt);
	line_addv(&l, fmt, ap);
	va_end(ap);
	line_write(&l);
	_exit(0);
}

void tap_diag(const char *fmt, ...)
{
	struct line l = { .len = 0 };
	va_list ap;

	line_add(&l, "# ");
	va_start(ap, fmt);
	line_addv(&l, fmt, ap);
	va_end(ap);
	line_write(&l);
}

void tap_bail_out(const char *fmt, ...)
{
	struct line l = { .len = 0 };
	va_list ap;

	line_add(&l, "Bail out! ");
	va_start(ap, fmt);
	line_addv(&l, fmt, ap);
	va_end(ap);
	line_write(&l);
	_exit(99);
}

int tap_done(void)
{
	int n = atomic_load_explicit(&run, memory_order_relaxed);
	int want = atomic_load_explicit(&planned, memory_order_relaxed);
	int bad = atomic_load_explicit(&failed, memory_order_relaxed);

	if (want == 0) {
		struct line l = { .len = 0 };

		line_add(&l, "1..%d", n);
		line_write(&l);
		want = n;
	}
	if (n != want)
		tap_diag("planned %d tests, ran %d", want, n);
	if (bad)
		tap_diag("failed %d of %d tests", bad, n);
	return n == want && bad == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
