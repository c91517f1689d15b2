/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * seccomp.c - prctl and syscall, by which programs and libseccomp install seccomp filters: we
 * notice the filter before it is installed. Uses sandbox, heap, background, ending, attributes,
 * next; used by the program.
 *
 * syscall is written in assembly, as the library's own (base/syscall.c), with a look at a table of
 * numbers in front: a call that is not in it may return on another stack than it was made on
 * (clone). Both functions end in the next of their name, or in the kernel (next.h).
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/export.h"
#include "base/lock.h"
#include "base/sandbox.h"
#include "base/sys.h"
#include "heap/heap_thread.h"
#include "reclaim/background.h"
#include "reclaim/ending.h"
#include "shim/attributes.h"
#include "shim/next.h"

#if defined(__x86_64__)
/* syscall(n, up to six arguments): returns the result, or -1 with errno. */
__asm__(".text\n"
	".globl syscall\n.type syscall, @function\n"
	"syscall:\n"
	"	.cfi_startproc\n"
	"	endbr64\n"
	"	cmpq $511, %rdi\n"
	"	ja 1f\n"
	"	leaq sluice_syscall_bits(%rip), %rax\n"
	"	btq %rdi, (%rax)\n"
	"	jc sluice_syscall_seen\n"
	"1:	movq sluice_next_syscall(%rip), %r11\n"
	"	testq %r11, %r11\n"
	"	jz sluice_syscall\n"
	"	jmp *%r11\n"
	"	.cfi_endproc\n"
	".size syscall, .-syscall\n");
#elif defined(__aarch64__)
__asm__(".text\n"
	".globl syscall\n.type syscall, %function\n"
	"syscall:\n"
	"	.cfi_startproc\n"
	"	hint #34\n" /* bti c */
	"	cmp x0, #511\n"
	"	b.hi 1f\n"
	"	adrp x16, sluice_syscall_bits\n"
	"	add x16, x16, :lo12:sluice_syscall_bits\n"
	"	lsr x17, x0, #6\n"
	"	ldr x16, [x16, x17, lsl #3]\n"
	"	lsr x16, x16, x0\n" /* by x0 modulo 64 */
	"	tst x16, #1\n"
	"	b.ne sluice_syscall_seen\n"
	"1:	adrp x16, sluice_next_syscall\n"
	"	ldr x16, [x16, :lo12:sluice_next_syscall]\n"
	"	cbz x16, 2f\n"
	"	br x16\n"
	"2:	b sluice_syscall\n"
	"	.cfi_endproc\n"
	".size syscall, .-syscall\n");
#endif

#define BIT(n, word) ((n) / 64 == (word) ? UINT64_C(1) << (n) % 64 : 0)
#define WORD(word) ATTRIBUTES_CALLS(BIT, word)

/* The calls that C looks at: one bit for each number below 512. */
__attribute__((visibility("hidden"))) extern const uint64_t sluice_syscall_bits[8];
__attribute__((used))
const uint64_t sluice_syscall_bits[8] = { WORD(0), WORD(1), WORD(2), WORD(3),
					  WORD(4), WORD(5), WORD(6), WORD(7) };

__attribute__((used, visibility("hidden"))) long sluice_syscall_seen(long n, long a, long b, long c,
								     long d, long e);

/* A child of vfork is another process in our memory. */
static bool in_vfork_child(void)
{
	heap_copy_check();
	return lock_process() && lock_process() != (uint32_t)sys_getpid();
}

/* Which filter the call installs. 0: none; 1: of the calling thread; 2: of all threads. */
static unsigned installs(long n, long op, long arg)
{
	if (n == SYS_prctl)
		return op == PR_SET_SECCOMP ? 1 : 0;
	if (op == SECCOMP_SET_MODE_STRICT)
		return 1;
	if (op != SECCOMP_SET_MODE_FILTER)
		return 0;
	return (unsigned long)arg & SECCOMP_FILTER_FLAG_TSYNC ? 2 : 1;
}

/* The program has called prctl, or syscall. */
static long by_prctl(long n, const long *arg)
{
	if (!sluice_next.prctl)
		return attributes_raw(n, arg);
	return sluice_next.prctl((int)arg[0], arg[1], arg[2], arg[3], arg[4]);
}

static long by_syscall(long n, const long *arg)
{
	if (!sluice_next_syscall)
		return attributes_raw(n, arg);
	return sluice_next_syscall(n, arg[0], arg[1], arg[2], arg[3], arg[4], 0L);
}

static long seen(long n, const long *arg, attributes_fn *call)
{
	unsigned kind = n == SYS_prctl || n == SYS_seccomp ? installs(n, arg[0], arg[1]) : 0;
	bool blind = sandbox_any();
	bool first;
	long r;

	if (!kind)
		return attributes_call(n, arg, call);
	/* in_vfork_child calls getpid, which a filter that is there already may forbid. */
	if (!blind && in_vfork_child())
		return call(n, arg);
	background_leave_alone(BACKGROUND_LEAVE_FILTER_MS);
	first = sandbox_begins(kind == 2);
	if (first && kind == 2)
		ending_wait(blind, BACKGROUND_LEAVE_FILTER_MS);
	r = call(n, arg);
	if (r != 0 && first)
		sandbox_failed(kind == 2);
	return r;
}

/* None of the calls has six arguments. A seventh parameter would be on the stack of a caller that
 * has no such place. */
long sluice_syscall_seen(long n, long a, long b, long c, long d, long e)
{
	const long arg[5] = { a, b, c, d, e };

	return seen(n, arg, by_syscall);
}

EXPORT int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);

EXPORT int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{
	const long arg[5] = { option, (long)a, (long)b, (long)c, (long)d };

	return (int)seen(SYS_prctl, arg, by_prctl);
}
