/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * shim_cxx.c - the C++ operators new and delete, by their mangled names, without the C++ runtime.
 * Uses heap; used by C++ programs.
 *
 * When there is no memory, an operator hands over to the C++ runtime's own of the same name, which
 * runs the new_handler and throws (or, nothrow, returns NULL); our frames are compiled with
 * -fexceptions, so that what it throws passes through. Source: the Itanium C++ ABI's mangling,
 * with size_t as `m` (LP64).
 *
 * A size that no object can have goes to the plain form: libstdc++'s aligned form rounds the size
 * up to the alignment, and its sum wraps round to a small one.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <dlfcn.h>
#include <stdint.h>

#include "export.h"
#include "heap.h"

struct nothrow; /* std::nothrow_t */

/* The next definition of the symbol after ours: the C++ runtime's. */
static void *next_symbol(const char *name)
{
	void *next = dlsym(RTLD_NEXT, name);

	if (!next)
		sluice_fatal("no memory, and no C++ runtime to throw std::bad_alloc (%s)", name);
	return next;
}

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

#define NEW(name)                                                                                  \
	void *name(size_t size);                                                                   \
	EXPORT void *name(size_t size)                                                             \
	{                                                                                          \
		void *p = new_bytes(size);                                                         \
                                                                                                   \
		if (unlikely(!p))                                                                  \
			p = ((void *(*)(size_t))next_symbol(#name))(size);                         \
		return p;                                                                          \
	}

#define NEW_NOTHROW(name)                                                                          \
	void *name(size_t size, const struct nothrow *tag);                                        \
	EXPORT void *name(size_t size, const struct nothrow *tag)                                  \
	{                                                                                          \
		void *p = new_bytes(size);                                                         \
                                                                                                   \
		if (unlikely(!p))                                                                  \
			p = ((void *(*)(size_t, const struct nothrow *))next_symbol(#name))(size,  \
											    tag);  \
		return p;                                                                          \
	}

#define NEW_ALIGNED(name, plain)                                                                   \
	void *name(size_t size, size_t align);                                                     \
	EXPORT void *name(size_t size, size_t align)                                               \
	{                                                                                          \
		void *p = new_aligned(size, align);                                                \
                                                                                                   \
		if (unlikely(size > (size_t)PTRDIFF_MAX))                                          \
			return ((void *(*)(size_t))next_symbol(#plain))(size);                     \
		if (unlikely(!p))                                                                  \
			p = ((void *(*)(size_t, size_t))next_symbol(#name))(size, align);          \
		return p;                                                                          \
	}

#define NEW_ALIGNED_NOTHROW(name, plain)                                                           \
	void *name(size_t size, size_t align, const struct nothrow *tag);                          \
	EXPORT void *name(size_t size, size_t align, const struct nothrow *tag)                    \
	{                                                                                          \
		void *p = new_aligned(size, align);                                                \
                                                                                                   \
		if (unlikely(size > (size_t)PTRDIFF_MAX))                                          \
			return ((void *(*)(size_t, const struct nothrow *))next_symbol(            \
				#plain))(size, tag);                                               \
		if (unlikely(!p))                                                                  \
			p = ((void *(*)(size_t, size_t, const struct nothrow *))next_symbol(       \
				#name))(size, align, tag);                                         \
		return p;                                                                          \
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
