/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stack.c - see stack.h. Primitive; used by sampler and guarded; uses libc, log and backtrace.
 *
 * libc's backtrace() unwinds by libgcc_s, which stack_init loads. From glibc 2.35 and gcc 12 on,
 * libgcc_s finds the tables of a module without a lock (_dl_find_object), so a sample in the middle
 * of dlopen or in a child of fork does not wait. On older systems libgcc_s takes the lock of
 * dl_iterate_phdr, which a child of fork may find held: there stack_take notes nothing, as on a C
 * library without backtrace().
 *
 * Allocates nothing after stack_init, takes no lock of ours. Bound: STACK_FRAMES frames.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "base/stack.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <execinfo.h>
#else
/* musl has none: no stack is known. */
static int backtrace(void **pc, int n)
{
	(void)pc;
	(void)n;
	return 0;
}
#endif

#include "base/backtrace.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/sys.h"
#include "types.h"

#define OWN_FRAMES 16u /* of the library, on top of those that are kept */
#define LINE_BYTES 160
#define LINE_MS 1000

static bool ready;

/* The bounds of the library; of the whole program if it is linked statically. */
extern const char __ehdr_start[] __attribute__((weak, visibility("hidden")));
extern const char _end[] __attribute__((weak, visibility("hidden")));

static bool is_own(uintptr_t pc)
{
	return pc >= (uintptr_t)__ehdr_start && pc < (uintptr_t)_end;
}

void stack_init(void)
{
	void *first[1] = { NULL };

	ready = dlsym(RTLD_DEFAULT, "_dl_find_object") && backtrace(first, 1) == 1;
}

void stack_take(struct stack *s)
{
	stack_take_from(s, 0);
}

noinline void stack_take_from(struct stack *s, uintptr_t at)
{
	s->n = 0;
	s->tid = self_tid();
	if (likely(ready)) {
		void *pc[STACK_FRAMES + OWN_FRAMES];
		int n = backtrace(pc, (int)(STACK_FRAMES + OWN_FRAMES));
		int from = 0;

		while (from < n && (at ? (uintptr_t)pc[from] != at : is_own((uintptr_t)pc[from])))
			from++;
		if (from == n)
			from = 0;
		if (n - from > (int)STACK_FRAMES)
			n = from + (int)STACK_FRAMES;
		s->n = (uint32_t)(n - from);
		memcpy(s->pc, pc + from, s->n * sizeof(*pc));
	}
}

static void write_line(const char *text, size_t len)
{
	long w = log_write(STDERR_FILENO, text, len, LINE_MS);

	(void)w;
}

void stack_write(const char *what, const struct stack *s)
{
	char line[LINE_BYTES];

	write_line(line, log_format(line, sizeof(line), "sluice: %s thread %u:\n", what, s->tid));
	if (!s->n)
		write_line(line, log_format(line, sizeof(line), "sluice:   (no stack is known)\n"));
	else if (!backtrace_write_frames(s->pc, s->n))
		for (uint32_t i = 0; i < s->n; i++)
			write_line(line, log_format(line, sizeof(line), "sluice:   #%u %p\n", i,
						    (void *)s->pc[i]));
}
