/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * log.c - see log.h. Primitive: uses libc; used by all layers.
 * Allocates nothing, takes no lock of ours, may run in a signal handler and in a fork child.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/sandbox.h"
#include "base/sys.h"
#include "types.h"

#define LINE_BYTES 512

struct out {
	char *buf;
	size_t len;
	size_t at;
};

static void put_char(struct out *o, char c)
{
	if (o->at + 1 < o->len)
		o->buf[o->at++] = c;
}

static void put_string(struct out *o, const char *s)
{
	while (*s)
		put_char(o, *s++);
}

static void put_number(struct out *o, uint64_t v, unsigned base)
{
	char digits[24];
	unsigned n = 0;

	do {
		digits[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	while (n)
		put_char(o, digits[--n]);
}

static void format_args(struct out *o, const char *fmt, va_list ap)
{
	for (; *fmt; fmt++) {
		unsigned longs = 0;

		if (*fmt != '%') {
			put_char(o, *fmt);
			continue;
		}
		while (*++fmt == 'l' || *fmt == 'z')
			longs++;
		switch (*fmt) {
		case 's':
			put_string(o, va_arg(ap, const char *));
			break;
		case 'd': {
			int v = va_arg(ap, int);

			if (v < 0)
				put_char(o, '-');
			put_number(o, v < 0 ? 0u - (unsigned)v : (unsigned)v, 10);
			break;
		}
		case 'u':
			put_number(o, longs ? va_arg(ap, unsigned long) : va_arg(ap, unsigned), 10);
			break;
		case 'x':
			put_number(o, longs ? va_arg(ap, unsigned long) : va_arg(ap, unsigned), 16);
			break;
		case 'p':
			put_string(o, "0x");
			put_number(o, (uintptr_t)va_arg(ap, void *), 16);
			break;
		default:
			put_char(o, *fmt);
			break;
		}
	}
	if (o->len)
		o->buf[o->at] = '\0';
}

size_t log_vformat(char *buf, size_t len, const char *fmt, va_list ap)
{
	struct out o = { buf, len, 0 };

	format_args(&o, fmt, ap);
	return o.at;
}

size_t log_format(char *buf, size_t len, const char *fmt, ...)
{
	size_t n;
	va_list ap;

	va_start(ap, fmt);
	n = log_vformat(buf, len, fmt, ap);
	va_end(ap);
	return n;
}

void log_text_flush(struct log_text *t)
{
	long w;

	if (!t->n)
		return;
	t->text[t->n] = '\0';
	if (t->write) {
		t->write(t->arg, t->text);
	} else {
		w = sys_write(STDERR_FILENO, t->text, t->n);
		(void)w;
	}
	t->n = 0;
}

void log_text_add(struct log_text *t, const char *fmt, ...)
{
	va_list ap;

	if (t->n > LOG_TEXT - LOG_PIECE)
		log_text_flush(t);
	va_start(ap, fmt);
	t->n += log_vformat(t->text + t->n, LOG_PIECE, fmt, ap);
	va_end(ap);
}

void log_clean(char *line)
{
	for (char *c = line; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
}

#define WARN_MS 100
#define BIT(signal) (UINT64_C(1) << ((signal)-1))
/* What a write may raise, in its thread. */
#define WRITES (BIT(SIGPIPE) | BIT(SIGXFSZ) | BIT(SIGTTOU))

static uint64_t pending(void)
{
	uint64_t set = 0;

	sluice_syscall(SYS_rt_sigpending, &set, sizeof(set));
	return set & WRITES;
}

static long write_in_time(int fd, const char *text, size_t len, int ms)
{
	struct pollfd out = { .fd = fd, .events = POLLOUT };

	if (sys_poll(&out, 1, ms) == 0) {
		errno = EAGAIN;
		return -1;
	}
	return sys_write(fd, text, len);
}

long log_write(int fd, const char *text, size_t len, int ms)
{
	static const struct timespec none;
	const uint64_t set = WRITES;
	uint64_t mask;
	uint64_t before;
	uint64_t raised;
	int err;
	long n;

	if (!sandbox_enter())
		return sys_write(fd, text, len);
	before = pending();
	sys_sigmask(SIG_BLOCK, &set, &mask);
	n = write_in_time(fd, text, len, ms);
	err = errno;
	for (raised = n < 0 ? pending() & ~before : 0; raised; raised &= raised - 1) {
		uint64_t one = raised & -raised;

		sluice_syscall(SYS_rt_sigtimedwait, &one, NULL, &none, sizeof(one));
	}
	sys_sigmask(SIG_SETMASK, &mask, NULL);
	sandbox_leave();
	errno = err;
	return n;
}

void log_vline(const char *prefix, int ms, const char *fmt, va_list ap)
{
	char line[LINE_BYTES];
	struct out o = { line, sizeof(line) - 1, 0 };
	long n;

	put_string(&o, prefix);
	format_args(&o, fmt, ap);
	line[o.at++] = '\n';
	n = log_write(STDERR_FILENO, line, o.at, ms);
	(void)n; /* a failure cannot be reported anywhere */
}

void log_warn(const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	va_start(ap, fmt);
	log_vline("sluice: ", WARN_MS, fmt, ap);
	va_end(ap);
	errno = saved;
}

/* strerror may call malloc, and speaks the program's language. */
const char *log_error(int err)
{
	static const struct {
		int err;
		const char *text;
	} known[] = {
		{ EACCES, "Permission denied" },
		{ EAGAIN, "Resource temporarily unavailable" },
		{ EBADF, "Bad file descriptor" },
		{ EBUSY, "Device or resource busy" },
		{ EDQUOT, "Disk quota exceeded" },
		{ EEXIST, "File exists" },
		{ EFAULT, "Bad address" },
		{ EFBIG, "File too large" },
		{ EINTR, "Interrupted system call" },
		{ EINVAL, "Invalid argument" },
		{ EIO, "Input/output error" },
		{ EISDIR, "Is a directory" },
		{ ELOOP, "Too many levels of symbolic links" },
		{ EMFILE, "Too many open files" },
		{ ENAMETOOLONG, "File name too long" },
		{ ENFILE, "Too many open files in system" },
		{ ENODEV, "No such device" },
		{ ENOENT, "No such file or directory" },
		{ ENOMEM, "Cannot allocate memory" },
		{ ENOSPC, "No space left on device" },
		{ ENOSYS, "Function not implemented" },
		{ ENOTDIR, "Not a directory" },
		{ ENOTSUP, "Operation not supported" },
		{ ENXIO, "No such device or address" },
		{ EPERM, "Operation not permitted" },
		{ EPIPE, "Broken pipe" },
		{ EROFS, "Read-only file system" },
		{ ETIMEDOUT, "Connection timed out" },
		{ ETXTBSY, "Text file busy" },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (known[i].err == err)
			return known[i].text;
	}
	return "unknown error";
}
