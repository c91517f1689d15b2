/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dlopen.c - dlopen without RTLD_DEEPBIND: a library that is opened with it calls glibc's free for
 * what the rest of the program had from our malloc. Used by the program.
 *
 * glibc looks for a library along the RUNPATH of the caller, and in the caller's namespace; it
 * knows the caller by the return address. So the function leaves by a jump, with the caller's
 * return address and stack, hence in assembler. In the shared library only, and for glibc only:
 * musl has no RTLD_DEEPBIND. Allocates nothing itself; no lock; any thread, also before any
 * constructor.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <dlfcn.h>
#include <stdatomic.h>
#include <stddef.h>

#include "base/export.h"

#if defined(PIC) && defined(__GLIBC__) &&                                                          \
	((defined(__x86_64__) && defined(__LP64__)) || defined(__aarch64__))

typedef void *open_fn(const char *path, int mode);

_Static_assert(RTLD_DEEPBIND == 8, "the assembler below removes this bit");

/* With dlerror's text from dlsym, which has not found a dlopen. */
static void *open_nothing(const char *path, int mode)
{
	(void)path;
	(void)mode;
	return NULL;
}

/* The dlopen that would be called without us. Not remembered if there is none: before glibc 2.34 a
 * library may bring it later. */
open_fn *sluice_dlopen_next(void) __attribute__((used, visibility("hidden")));
open_fn *sluice_dlopen_next(void)
{
	static _Atomic(open_fn *) known;
	open_fn *next = atomic_load_explicit(&known, memory_order_relaxed);

	if (!next) {
		*(void **)&next = dlsym(RTLD_NEXT, "dlopen");
		atomic_store_explicit(&known, next, memory_order_relaxed);
	}
	return next ? next : open_nothing;
}

__asm__(".text\n"
	".globl dlopen\n"
	".type dlopen, %function\n"
	"dlopen:\n"
	".cfi_startproc\n"
#ifdef __x86_64__
	"endbr64\n"
	"push %rdi\n"
	".cfi_adjust_cfa_offset 8\n"
	"push %rsi\n"
	".cfi_adjust_cfa_offset 8\n"
	"sub $8, %rsp\n"
	".cfi_adjust_cfa_offset 8\n"
	"call sluice_dlopen_next\n"
	"add $8, %rsp\n"
	".cfi_adjust_cfa_offset -8\n"
	"pop %rsi\n"
	".cfi_adjust_cfa_offset -8\n"
	"pop %rdi\n"
	".cfi_adjust_cfa_offset -8\n"
	"and $~8, %esi\n"
	"jmp *%rax\n"
#else
	"hint #34\n" /* bti c */
	"stp x29, x30, [sp, #-32]!\n"
	".cfi_def_cfa_offset 32\n"
	".cfi_offset 29, -32\n"
	".cfi_offset 30, -24\n"
	"stp x0, x1, [sp, #16]\n"
	"bl sluice_dlopen_next\n"
	"mov x16, x0\n"
	"ldp x0, x1, [sp, #16]\n"
	"ldp x29, x30, [sp], #32\n"
	".cfi_restore 29\n"
	".cfi_restore 30\n"
	".cfi_def_cfa_offset 0\n"
	"and w1, w1, #~8\n"
	"br x16\n"
#endif
	".cfi_endproc\n"
	".size dlopen, . - dlopen\n");

#else
typedef int sluice_dlopen_not_needed; /* no empty file */
#endif
