/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cxx.c - the C++ operators new and delete, by their mangled names, without the C++ runtime.
 * Uses heap and cxx_nomem.c; used by C++ programs.
 *
 * A program may have operators of its own for some forms, and count on that the others come by way of those, as libstdc++'s do:
 *   new[]     by new          delete[]      by delete
 *   nothrow   by the same without it, of both kinds
 *   sized     by the same without it
 * (the aligned ones likewise by theirs). So ours do, too: by a jump through the table of the dynamic linker, or, in
 * an archive, to what the linker took: ours are weak.
 *
 * What is done when there is no memory stands in cxx_nomem.c; our frames are compiled with -fexceptions, so that
 * what is thrown passes through. Source: the Itanium C++ ABI's mangling, with size_t as `m` (LP64).
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <stdbool.h>
#include <stdint.h>

#include "base/export.h"
#include "heap/heap.h"
#include "shim/cxx_nomem.h"

static inline void *new_bytes(size_t size)
{
	return likely(size <= (size_t)PTRDIFF_MAX) ? heap_alloc(size) : NULL;
}

static inline void *new_aligned(size_t size, size_t align)
{
	if (size > (size_t)PTRDIFF_MAX || !is_pow2(align))
		return NULL;
	return align <= ALIGN_MIN ? heap_alloc(size) : heap_alloc_aligned(size, align);
}

void *new_try(size_t size, size_t align)
{
	return new_aligned(size, align);
}

/* Out of line, so that an operator that hits has no room for it on its stack. */
static noinline void *failed(struct new_form form, size_t size, const void *caller)
{
	return new_no_memory(&form, size, caller);
}
#define FAILED(size, ...)                                                                          \
	failed((struct new_form){ __VA_ARGS__ }, size, __builtin_return_address(0))

/* The program's may come before ours. */
#define OPERATOR EXPORT __attribute__((weak))

/* Whether it does: what the linker found is compared with ours by a name that it cannot have. */
#define OWN_NAME(op, ...)                                                                          \
	static void *own##op(__VA_ARGS__) __attribute__((alias(#op)));                             \
	static void *(*const volatile used##op)(__VA_ARGS__) = op
#define IS_OURS(op) likely(used##op == own##op)

#define NEW(op)                                                                                    \
	void *op(size_t size);                                                                     \
	OPERATOR void *op(size_t size)                                                             \
	{                                                                                          \
		void *p = new_bytes(size);                                                         \
                                                                                                   \
		return likely(p != NULL) ? p : FAILED(size, .name = #op, .align = ALIGN_MIN);      \
	}                                                                                          \
	OWN_NAME(op, size_t)

#define NEW_ALIGNED(op, unaligned)                                                                 \
	void *op(size_t size, size_t align);                                                       \
	OPERATOR void *op(size_t size, size_t align)                                               \
	{                                                                                          \
		void *p = new_aligned(size, align);                                                \
                                                                                                   \
		return likely(p != NULL)                                                           \
			       ? p                                                                 \
			       : FAILED(size, .name = #op, .plain = #unaligned, .align = align);   \
	}                                                                                          \
	OWN_NAME(op, size_t, size_t)

#define NEW_ARRAY(op, by)                                                                          \
	void *op(size_t size);                                                                     \
	OPERATOR void *op(size_t size)                                                             \
	{                                                                                          \
		return by(size);                                                                   \
	}                                                                                          \
	OWN_NAME(op, size_t)

#define NEW_ARRAY_ALIGNED(op, by)                                                                  \
	void *op(size_t size, size_t align);                                                       \
	OPERATOR void *op(size_t size, size_t align)                                               \
	{                                                                                          \
		return by(size, align);                                                            \
	}                                                                                          \
	OWN_NAME(op, size_t, size_t)

/* With a base that may be another one's: its own, and for an array that of the single object. */
#define NEW_NOTHROW(op, by, single)                                                                \
	void *op(size_t size, const struct nothrow *tag);                                          \
	OPERATOR void *op(size_t size, const struct nothrow *tag)                                  \
	{                                                                                          \
		bool ours = IS_OURS(by) && IS_OURS(single);                                        \
		void *p = ours ? new_bytes(size) : NULL;                                           \
                                                                                                   \
		return likely(p != NULL)                                                           \
			       ? p                                                                 \
			       : FAILED(size, .name = #op, .tag = tag, .align = ALIGN_MIN,         \
					.base = ours ? NULL : used##by);                           \
	}

#define NEW_ALIGNED_NOTHROW(op, unaligned, by, single)                                             \
	void *op(size_t size, size_t align, const struct nothrow *tag);                            \
	OPERATOR void *op(size_t size, size_t align, const struct nothrow *tag)                    \
	{                                                                                          \
		bool ours = IS_OURS(by) && IS_OURS(single);                                        \
		void *p = ours ? new_aligned(size, align) : NULL;                                  \
                                                                                                   \
		return likely(p != NULL)                                                           \
			       ? p                                                                 \
			       : FAILED(size, .name = #op, .plain = #unaligned, .tag = tag,        \
					.align = align, .base_aligned = ours ? NULL : used##by);   \
	}

#define DELETE(op, ...)                                                                            \
	void op(void *p, ##__VA_ARGS__);                                                           \
	OPERATOR void op(void *p, ##__VA_ARGS__)                                                   \
	{                                                                                          \
		heap_free(p);                                                                      \
	}

#define DELETE_BY(by, op, ...)                                                                     \
	void op(void *p, ##__VA_ARGS__);                                                           \
	OPERATOR void op(void *p, ##__VA_ARGS__)                                                   \
	{                                                                                          \
		by(p);                                                                             \
	}

#define DELETE_BY_ALIGNED(by, op, ...)                                                             \
	void op(void *p, ##__VA_ARGS__);                                                           \
	OPERATOR void op(void *p, ##__VA_ARGS__)                                                   \
	{                                                                                          \
		by(p, align);                                                                      \
	}

#pragma GCC diagnostic ignored "-Wunused-parameter"

NEW(_Znwm);
NEW_ARRAY(_Znam, _Znwm);
NEW_NOTHROW(_ZnwmRKSt9nothrow_t, _Znwm, _Znwm)
NEW_NOTHROW(_ZnamRKSt9nothrow_t, _Znam, _Znwm)
NEW_ALIGNED(_ZnwmSt11align_val_t, _Znwm);
NEW_ARRAY_ALIGNED(_ZnamSt11align_val_t, _ZnwmSt11align_val_t);
NEW_ALIGNED_NOTHROW(_ZnwmSt11align_val_tRKSt9nothrow_t, _ZnwmRKSt9nothrow_t, _ZnwmSt11align_val_t,
		    _ZnwmSt11align_val_t)
NEW_ALIGNED_NOTHROW(_ZnamSt11align_val_tRKSt9nothrow_t, _ZnamRKSt9nothrow_t, _ZnamSt11align_val_t,
		    _ZnwmSt11align_val_t)

DELETE(_ZdlPv)
DELETE_BY(_ZdlPv, _ZdaPv)
DELETE_BY(_ZdlPv, _ZdlPvm, size_t size)
DELETE_BY(_ZdaPv, _ZdaPvm, size_t size)
DELETE_BY(_ZdlPv, _ZdlPvRKSt9nothrow_t, const struct nothrow *tag)
DELETE_BY(_ZdaPv, _ZdaPvRKSt9nothrow_t, const struct nothrow *tag)
DELETE(_ZdlPvSt11align_val_t, size_t align)
DELETE_BY_ALIGNED(_ZdlPvSt11align_val_t, _ZdaPvSt11align_val_t, size_t align)
DELETE_BY_ALIGNED(_ZdlPvSt11align_val_t, _ZdlPvmSt11align_val_t, size_t size, size_t align)
DELETE_BY_ALIGNED(_ZdaPvSt11align_val_t, _ZdaPvmSt11align_val_t, size_t size, size_t align)
DELETE_BY_ALIGNED(_ZdlPvSt11align_val_t, _ZdlPvSt11align_val_tRKSt9nothrow_t, size_t align,
		  const struct nothrow *tag)
DELETE_BY_ALIGNED(_ZdaPvSt11align_val_t, _ZdaPvSt11align_val_tRKSt9nothrow_t, size_t align,
		  const struct nothrow *tag)
