/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * delay.c - see delay.h. Primitive; in builds for tests only (--enable-delays, libsluice-delays).
 *
 * No lock, no allocation. May wait anywhere, also in a signal handler, under any lock and in a
 * critical section. Keeps errno; is no cancellation point.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "base/delay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/atomics.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/sys.h"

#define VARIABLE "SLUICE_DELAY"
#define US_MAX 60000000u
#define ONE_IN_MAX 1000000u
#define SPIN_US 50u
#define LINE_BYTES 2048

static const char *const names[DELAY_POINTS] = {
#define LOCKRANK(name, most, text) "held_" #name,
#include "base/lockrank.def"
#undef LOCKRANK
#define DELAY(name, text) #name,
#include "base/delay.def"
#undef DELAY
};

struct delay {
	_Atomic uint32_t us; /* 0: none */
	_Atomic uint32_t one_in;
};

static struct delay delays[DELAY_POINTS];
static void (*_Atomic hook)(enum delay_point p);
_Atomic bool delay_on;

const char *delay_name(enum delay_point p)
{
	return names[p];
}

static uint64_t random_next(void)
{
	static _Thread_local uint64_t state TLS_FAST;

	if (!state) /* its address differs by thread */
		state = (clock_ns() + (uintptr_t)&state) | 1;
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state >> 8;
}

static void wait_us(uint32_t us)
{
	const struct timespec ts = { us / 1000000, us % 1000000 * 1000L };
	uint64_t end;
	int saved = errno;

	if (us >= SPIN_US) {
		sluice_syscall(SYS_nanosleep, &ts, NULL);
		errno = saved;
		return;
	}
	for (end = clock_ns() + us * 1000u; clock_ns() < end;)
		cpu_relax();
}

void delay_pass(enum delay_point p)
{
	/* Acquire pairs with the release in delay_hook, for what the test has set up. */
	void (*fn)(enum delay_point) = atomic_load_explicit(&hook, memory_order_acquire);
	uint32_t us = atomic_load_explicit(&delays[p].us, memory_order_relaxed);
	uint32_t one_in = atomic_load_explicit(&delays[p].one_in, memory_order_relaxed);

	if (fn) {
		fn(p);
		return;
	}
	if (us && one_in) {
		uint64_t r = random_next();

		us = r % one_in ? 0 : (uint32_t)(1 + (r >> 32) % us);
	}
	if (us)
		wait_us(us);
}

void delay_hook(void (*fn)(enum delay_point p))
{
	atomic_store_explicit(&hook, fn, memory_order_release);
	atomic_store_explicit(&delay_on, true, memory_order_relaxed);
}

/* ---- the variable ------------------------------------------------------------------------ */

static bool number(const char **text, uint32_t max, uint32_t *v)
{
	const char *at = *text;
	uint64_t n = 0;

	if (*at < '0' || *at > '9')
		return false;
	for (; *at >= '0' && *at <= '9' && n <= max; at++)
		n = n * 10 + (uint64_t)(*at - '0');
	*text = at;
	*v = (uint32_t)n;
	return n <= max;
}

static void unknown_point(const char *word, const char *from)
{
	char line[LINE_BYTES];
	size_t n = log_format(line, sizeof(line), "sluice: %s: there is no point '%s', use all",
			      from, word);
	ssize_t written;

	for (unsigned p = 0; p < DELAY_POINTS; p++)
		n += log_format(line + n, sizeof(line) - n, ", %s", names[p]);
	line[n++] = '\n';
	written = sys_write(STDERR_FILENO, line, n);
	(void)written;
}

static bool set_one(const char *name, size_t len, uint32_t us, uint32_t one_in)
{
	bool all = len == 3 && memcmp(name, "all", 3) == 0;
	bool found = all;

	for (unsigned p = 0; p < DELAY_POINTS; p++) {
		if (!all && (strlen(names[p]) != len || memcmp(names[p], name, len) != 0))
			continue;
		atomic_store_explicit(&delays[p].us, us, memory_order_relaxed);
		atomic_store_explicit(&delays[p].one_in, one_in, memory_order_relaxed);
		found = true;
	}
	return found;
}

bool delay_set(const char *text, const char *from)
{
	char word[64];

	while (*text) {
		uint32_t us = 0;
		uint32_t one_in = 0;
		size_t len = strcspn(text, "=,");
		const char *at = text + len;
		bool good = len && *at++ == '=' && number(&at, US_MAX, &us);

		if (good && *at == '/') {
			at++;
			good = number(&at, ONE_IN_MAX, &one_in) && one_in;
		}
		if (!good || (*at && *at != ',')) {
			log_format(word,
				   strcspn(text, ",") + 1 < sizeof(word) ? strcspn(text, ",") + 1
									 : sizeof(word),
				   "%s", text);
			log_warn("%s: '%s' is not of the form POINT=US or POINT=US/N, with 0 to %u "
				 "microseconds, in one pass of N, 1 to %u",
				 from, word, US_MAX, ONE_IN_MAX);
			return false;
		}
		if (!set_one(text, len, us, one_in)) {
			log_format(word, len + 1 < sizeof(word) ? len + 1 : sizeof(word), "%s",
				   text);
			unknown_point(word, from);
			return false;
		}
		atomic_store_explicit(&delay_on, true, memory_order_relaxed);
		text = *at ? at + 1 : at;
	}
	return true;
}

void delay_load(void)
{
	const char *text = environ ? getenv(VARIABLE) : NULL;

	if (text)
		delay_set(text, VARIABLE);
}
