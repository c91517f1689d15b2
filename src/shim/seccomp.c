/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * seccomp.c - prctl and syscall, by which programs and libseccomp install seccomp filters: we
 * notice the filter before it is installed. Uses sandbox, heap, background, ending, attributes;
 * used by the program.
 *
 * syscall is written as in the C library, in assembly, with a look at a table of numbers in front:
 * a call that is not in it may return on another stack than it was made on (clone). Our own calls
 * of syscall come here as well.
 * prctl makes a raw system call, because looking up the real function may call malloc. For x86-64
 * and arm64; configure refuses other machines.
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

#if defined(__x86_64__)
/* syscall(n, up to six arguments): returns the result, or -1 with errno. */
__asm__(".text\n"
	".globl syscall\n.type syscall, @function\n"
	"syscall:\n"
	"	.cfi_startproc\n"
	"	endbr64\n"
	"	cmpq $511, %rdi\n"
	"	ja sluice_syscall\n"
	"	leaq sluice_syscall_bits(%rip), %rax\n"
	"	btq %rdi, (%rax)\n"
	"	jc sluice_syscall_seen\n"
	"sluice_syscall:\n"
	"	movq %rdi, %rax\n"
	"	movq %rsi, %rdi\n"
	"	movq %rdx, %rsi\n"
	"	movq %rcx, %rdx\n"
	"	movq %r8, %r10\n"
	"	movq %r9, %r8\n"
	"	movq 8(%rsp), %r9\n"
	"	syscall\n"
	"	cmpq $-4095, %rax\n"
	"	jae 1f\n"
	"	ret\n"
	"1:	movq %rax, %rdi\n"
	"	jmp sluice_syscall_failed\n"
	"	.cfi_endproc\n"
	".size syscall, .-syscall\n"
	".size sluice_syscall, .-sluice_syscall\n");
#elif defined(__aarch64__)
__asm__(".text\n"
	".globl syscall\n.type syscall, %function\n"
	"syscall:\n"
	"	.cfi_startproc\n"
	"	hint #34\n" /* bti c */
	"	cmp x0, #511\n"
	"	b.hi sluice_syscall\n"
	"	adrp x16, sluice_syscall_bits\n"
	"	add x16, x16, :lo12:sluice_syscall_bits\n"
	"	lsr x17, x0, #6\n"
	"	ldr x16, [x16, x17, lsl #3]\n"
	"	lsr x16, x16, x0\n" /* by x0 modulo 64 */
	"	tst x16, #1\n"
	"	b.ne sluice_syscall_seen\n"
	"sluice_syscall:\n"
	"	mov x8, x0\n"
	"	mov x0, x1\n"
	"	mov x1, x2\n"
	"	mov x2, x3\n"
	"	mov x3, x4\n"
	"	mov x4, x5\n"
	"	mov x5, x6\n"
	"	svc #0\n"
	"	cmn x0, #4095\n"
	"	b.cs sluice_syscall_failed\n"
	"	ret\n"
	"	.cfi_endproc\n"
	".size syscall, .-syscall\n"
	".size sluice_syscall, .-sluice_syscall\n");
#endif

#ifdef OWN_SYSCALL
#define BIT(n, word) ((n) / 64 == (word) ? UINT64_C(1) << (n) % 64 : 0)
#define WORD(word) ATTRIBUTES_CALLS(BIT, word)

/* The calls that C looks at: one bit for each number below 512. */
__attribute__((visibility("hidden"))) extern const uint64_t sluice_syscall_bits[8];
__attribute__((used))
const uint64_t sluice_syscall_bits[8] = { WORD(0), WORD(1), WORD(2), WORD(3),
					  WORD(4), WORD(5), WORD(6), WORD(7) };
#endif

__attribute__((used, visibility("hidden"))) long sluice_syscall_seen(long n, long a, long b, long c,
								     long d, long e, long f);

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

#ifdef OWN_SYSCALL
__attribute__((visibility("hidden"))) long sluice_syscall_failed(long negative);
__attribute__((visibility("hidden"))) long sluice_syscall_seen(long n, long a, long b, long c,
							       long d, long e, long f);

long sluice_syscall_failed(long negative)
{
	errno = (int)-negative;
	return -1;
}

long attributes_raw(long n, const long *arg)
{
	return sluice_syscall(n, arg[0], arg[1], arg[2], arg[3], arg[4], 0);
}
#else
long attributes_raw(long n, const long *arg)
{
	return syscall(n, arg[0], arg[1], arg[2], arg[3], arg[4]);
}
#endif

static long seen(long n, const long *arg)
{
	unsigned kind = n == SYS_prctl || n == SYS_seccomp ? installs(n, arg[0], arg[1]) : 0;
	bool blind = sandbox_any();
	bool first;
	long r;

	if (!kind)
		return attributes_call(n, arg, attributes_raw);
	/* in_vfork_child calls getpid, which a filter that is there already may forbid. */
	if (!blind && in_vfork_child())
		return attributes_raw(n, arg);
	background_leave_alone(BACKGROUND_LEAVE_FILTER_MS);
	first = sandbox_begins(kind == 2);
	if (first && kind == 2)
		ending_wait(blind, BACKGROUND_LEAVE_FILTER_MS);
	r = attributes_raw(n, arg);
	if (r != 0 && first)
		sandbox_failed(kind == 2);
	return r;
}

long sluice_syscall_seen(long n, long a, long b, long c, long d, long e, long f)
{
	const long arg[5] = { a, b, c, d, e };

	(void)f; /* none of the calls has six arguments */
	return seen(n, arg);
}

EXPORT int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);

EXPORT int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{
	const long arg[5] = { option, (long)a, (long)b, (long)c, (long)d };

	return (int)seen(SYS_prctl, arg);
}
