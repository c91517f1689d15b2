/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stack.c - see stack.h. Primitive; used by sampler and guarded; uses libc, log and backtrace.
 *
 * The library has an unwinder of its own, a copy of libgcc's that is linked into it (libgcc_eh).
 * The one in libgcc_s, which backtrace() and C++ exceptions use, takes a mutex once a JIT has
 * registered its frames (__register_frame), and calls malloc while it holds it: a sample of that
 * call would wait for itself. Nothing is ever registered with our copy. From glibc 2.35 and gcc 12
 * on it finds the tables of a module without a lock (_dl_find_object), so a sample in the middle of
 * dlopen or in a child of fork does not wait either. Elsewhere stack_take notes nothing: on older
 * systems, on musl, and where the program has brought the unwinder (a static library). A stack ends
 * at a frame of a JIT, whose tables our copy does not know, and at a return address where no code
 * is, as a library of coroutines puts it at the start of a stack.
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
#include <unwind.h>

#include "base/backtrace.h"
#include "base/check.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/sys.h"
#include "base/unwind.h"
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

_Unwind_Reason_Code _Unwind_Backtrace(_Unwind_Trace_Fn fn, void *arg) __attribute__((weak));
uintptr_t _Unwind_GetIP(struct _Unwind_Context *context) __attribute__((weak));

#ifdef UNWINDER_WRAPPED
/*
 * libgcc takes a frame without tables for that of a signal handler if the code at its return
 * address looks so. It reads there, whatever the address is. The linker has our copy call this
 * first: an address in no module gets a table of one row, in which the return address is undefined,
 * so that the stack ends. (Weak: a static library has no copy.)
 */
#if defined(__x86_64__)
#define CFI_STACK_POINTER 7
#define CFI_RETURN_COLUMN 16
#define CFI_CFA_OFFSET 8
#elif defined(__aarch64__)
#define CFI_STACK_POINTER 31
#define CFI_RETURN_COLUMN 30
#define CFI_CFA_OFFSET 0
#endif
#define DW_CFA_NOP 0
#define DW_CFA_UNDEFINED 0x07
#define DW_CFA_DEF_CFA 0x0c
#define SLEB_MINUS_8 0x78

static const struct {
	uint32_t cie_bytes;
	uint32_t cie_id;
	uint8_t cie[12];
	uint32_t fde_bytes;
	uint32_t fde_to_cie;
	uint32_t from[2]; /* the addresses that the row is for: all */
	uint32_t bytes[2];
	uint8_t fde[8];
} last_frame = {
	.cie_bytes = 16,
	/* Version, no augmentation, alignment of code and data, column; the row; padding. */
	.cie = { 1, 0, 1, SLEB_MINUS_8, CFI_RETURN_COLUMN, DW_CFA_DEF_CFA, CFI_STACK_POINTER,
		 CFI_CFA_OFFSET, DW_CFA_UNDEFINED, CFI_RETURN_COLUMN, DW_CFA_NOP, DW_CFA_NOP },
	.fde_bytes = 28,
	.fde_to_cie = 24,
	.bytes = { UINT32_MAX, UINT32_MAX },
};
_Static_assert(offsetof(__typeof__(last_frame), fde_to_cie) == 24 && sizeof(last_frame) == 24 + 28,
	       "the lengths of the tables are those of the structure");

struct bases {
	void *text;
	void *data;
	void *function;
};

const void *__real__Unwind_Find_FDE(void *pc, struct bases *b)
	__attribute__((weak, visibility("hidden")));
const void *__wrap__Unwind_Find_FDE(void *pc, struct bases *b)
	__attribute__((visibility("hidden")));

const void *__wrap__Unwind_Find_FDE(void *pc, struct bases *b)
{
	struct dl_find_object module;

	if (!_dl_find_object(pc, &module))
		return __real__Unwind_Find_FDE(pc, b);
	*b = (struct bases){ .function = pc };
	return &last_frame.fde_bytes;
}
#endif

struct frames {
	unsigned n;
	unsigned most;
	uintptr_t *pc;
};

static _Unwind_Reason_Code note_frame(struct _Unwind_Context *context, void *arg)
{
	struct frames *f = arg;
	uintptr_t pc = _Unwind_GetIP(context);

	if (!pc || f->n == f->most)
		return _URC_END_OF_STACK;
	f->pc[f->n++] = pc;
	return _URC_NO_REASON;
}

static void walk(struct frames *f)
{
	f->n = 0;
	_Unwind_Backtrace(note_frame, f);
}

/* Both ways find the same return addresses; those of the library itself are of different calls. */
static void check_walk(const struct frames *f)
{
	uintptr_t pc[STACK_FRAMES + OWN_FRAMES];
	struct frames all = { 0, STACK_FRAMES + OWN_FRAMES, pc };
	unsigned a = 0;
	unsigned b = 0;

	if (!SLUICE_DEBUG)
		return;
	walk(&all);
	while (a < f->n && is_own(f->pc[a]))
		a++;
	while (b < all.n && is_own(pc[b]))
		b++;
	for (; a < f->n && b < all.n; a++, b++)
		CHECK(f->pc[a] == pc[b]);
	CHECK((a == f->n || all.n == all.most) && (b == all.n || f->n == f->most));
}

void stack_init(void)
{
	uintptr_t first[1] = { 0 };
	struct frames f = { 0, 1, first };

	if (!dlsym(RTLD_DEFAULT, "_dl_find_object") || !_Unwind_Backtrace ||
	    !is_own((uintptr_t)_Unwind_Backtrace))
		return;
	/* The first one fills tables of the unwinder. */
	_Unwind_Backtrace(note_frame, &f);
	ready = f.n == 1;
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
		uintptr_t pc[STACK_FRAMES + OWN_FRAMES];
		struct frames f = { 0, STACK_FRAMES + OWN_FRAMES, pc };
		unsigned from = 0;

		if (!unwind_walk(pc, f.most, &f.n))
			walk(&f);
		check_walk(&f);
		while (from < f.n && (at ? pc[from] != at : is_own(pc[from])))
			from++;
		if (from == f.n)
			from = 0;
		s->n = f.n - from < STACK_FRAMES ? f.n - from : STACK_FRAMES;
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
