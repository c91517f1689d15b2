/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * syscall.c - see sluice_syscall in sys.h. Primitive; used by all layers.
 *
 * The library never calls a function named syscall. One of that name may be another library's,
 * which calls malloc when it is first used, or the program's own, with another meaning.
 *
 * Written as in the C library, in assembly: a call may return on another stack than it was made on
 * (clone). Allocates nothing, no lock; any thread, signal handlers, children of fork and vfork. For
 * x86-64 and arm64; configure refuses other machines.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "base/sys.h"

#if defined(__x86_64__)
__asm__(".text\n"
	".globl sluice_syscall\n.hidden sluice_syscall\n.type sluice_syscall, @function\n"
	"sluice_syscall:\n"
	"	.cfi_startproc\n"
	"	endbr64\n"
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
	".size sluice_syscall, .-sluice_syscall\n");
#elif defined(__aarch64__)
__asm__(".text\n"
	".globl sluice_syscall\n.hidden sluice_syscall\n.type sluice_syscall, %function\n"
	"sluice_syscall:\n"
	"	.cfi_startproc\n"
	"	hint #34\n" /* bti c */
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
	".size sluice_syscall, .-sluice_syscall\n");
#endif

__attribute__((used, visibility("hidden"))) long sluice_syscall_failed(long negative);

long sluice_syscall_failed(long negative)
{
	errno = (int)-negative;
	return -1;
}
