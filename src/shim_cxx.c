/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * shim_cxx.c - the C++ operators new and delete, by their mangled names, without the C++ runtime.
 * Uses heap and shim_nomem; used by C++ programs.
 *
 * What is done when there is no memory stands in shim_nomem.c; our frames are compiled with -fexceptions, so that
 * what is thrown passes through. Source: the Itanium C++ ABI's mangling, with size_t as `m` (LP64).
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <stdint.h>

#include "export.h"
#include "heap.h"
#include "shim_nomem.h"

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
static noinline void *failed(const char *name, const char *plain, size_t size, size_t align,
			     const struct nothrow *tag, const void *caller)
{
	const struct new_form form = { name, plain, tag, align };

	return new_no_memory(&form, size, caller);
}
#define FAILED(name, plain, size, align, tag)                                                      \
	failed(name, plain, size, align, tag, __builtin_return_address(0))

#define NEW(name)                                                                                  \
	void *name(size_t size);                                                                   \
	EXPORT void *name(size_t size)                                                             \
	{                                                                                          \
		void *p = new_bytes(size);                                                         \
                                                                                                   \
		return likely(p != NULL) ? p : FAILED(#name, NULL, size, ALIGN_MIN, NULL);         \
	}

#define NEW_NOTHROW(name)                                                                          \
	void *name(size_t size, const struct nothrow *tag);                                        \
	EXPORT void *name(size_t size, const struct nothrow *tag)                                  \
	{                                                                                          \
		void *p = new_bytes(size);                                                         \
                                                                                                   \
		return likely(p != NULL) ? p : FAILED(#name, NULL, size, ALIGN_MIN, tag);          \
	}

#define NEW_ALIGNED(name, plain)                                                                   \
	void *name(size_t size, size_t align);                                                     \
	EXPORT void *name(size_t size, size_t align)                                               \
	{                                                                                          \
		void *p = new_aligned(size, align);                                                \
                                                                                                   \
		return likely(p != NULL) ? p : FAILED(#name, #plain, size, align, NULL);           \
	}

#define NEW_ALIGNED_NOTHROW(name, plain)                                                           \
	void *name(size_t size, size_t align, const struct nothrow *tag);                          \
	EXPORT void *name(size_t size, size_t align, const struct nothrow *tag)                    \
	{                                                                                          \
		void *p = new_aligned(size, align);                                                \
                                                                                                   \
		return likely(p != NULL) ? p : FAILED(#name, #plain, size, align, tag);            \
	}

#define DELETE(name, ...)                                                                          \
	void name(void *p, ##__VA_ARGS__);                                                         \
	EXPORT void name(void *p, ##__VA_ARGS__)                                                   \
	{                                                                                          \
		heap_free(p);                                                                      \
	}

#pragma GCC diagnostic ignored "-Wunused-parameter"

NEW(_Znwm)
NEW(_Znam)
NEW_NOTHROW(_ZnwmRKSt9nothrow_t)
NEW_NOTHROW(_ZnamRKSt9nothrow_t)
NEW_ALIGNED(_ZnwmSt11align_val_t, _Znwm)
NEW_ALIGNED(_ZnamSt11align_val_t, _Znam)
NEW_ALIGNED_NOTHROW(_ZnwmSt11align_val_tRKSt9nothrow_t, _ZnwmRKSt9nothrow_t)
NEW_ALIGNED_NOTHROW(_ZnamSt11align_val_tRKSt9nothrow_t, _ZnamRKSt9nothrow_t)

DELETE(_ZdlPv)
DELETE(_ZdaPv)
DELETE(_ZdlPvm, size_t size)
DELETE(_ZdaPvm, size_t size)
DELETE(_ZdlPvRKSt9nothrow_t, const struct nothrow *tag)
DELETE(_ZdaPvRKSt9nothrow_t, const struct nothrow *tag)
DELETE(_ZdlPvSt11align_val_t, size_t align)
DELETE(_ZdaPvSt11align_val_t, size_t align)
DELETE(_ZdlPvmSt11align_val_t, size_t size, size_t align)
DELETE(_ZdaPvmSt11align_val_t, size_t size, size_t align)
DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, size_t align, const struct nothrow *tag)
DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, size_t align, const struct nothrow *tag)
