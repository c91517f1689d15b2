/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cxx.c - the C++ operators new and delete, by their mangled names, without the C++ runtime.
 * Uses heap and cxx_nomem.c; used by C++ programs.
 *
 * A program may replace some forms of the operators, and expect that the other forms call these, as
 * the forms of libstdc++ do:
 *   new[]     calls new       delete[]      calls delete
 *   nothrow   calls the same form without nothrow, for new and for delete
 *   sized     calls the same form without the size
 * The aligned forms call each other in the same way. So do ours: by a jump through the table of the
 * dynamic linker or, in an archive, to the function that the linker took, because ours are weak.
 *
 * What happens when there is no memory is in cxx_nomem.c. Our frames are compiled with
 * -fexceptions, so that an exception passes through them. Source: the mangling of the Itanium C++
 * ABI, with size_t as `m` (LP64).
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <stdbool.h>
#include <stdint.h>

#include "base/export.h"
#include "base/options.h"
#include "heap/heap.h"
#include "shim/cxx_nomem.h"
#include "shim/init.h"

static always_inline void *new_bytes(size_t size)
{
	/* One test is enough for most sizes. */
	if (unlikely(size > SMALL_MAX) && unlikely(size > (size_t)PTRDIFF_MAX))
		return NULL;
	return heap_alloc(size);
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

/* Out of line, so that the common path of an operator needs no stack for it. */
static noinline void *failed(struct new_form form, size_t size, const void *caller)
{
	return new_no_memory(&form, size, caller);
}

/* No hit. All of it is out of line, so that the operator's hit needs no stack. */
static noinline void *missed(const struct new_form *form, size_t size, const void *caller)
{
	void *p = NULL;

	if (likely(size <= SMALL_MAX))
		p = heap_alloc_again(size);
	else if (size <= (size_t)PTRDIFF_MAX)
		p = heap_alloc_large(size);
	return likely(p != NULL) ? p : new_no_memory(form, size, caller);
}

#define FAILED(size, ...)                                                                          \
	failed((struct new_form){ __VA_ARGS__ }, size, __builtin_return_address(0))

/* Weak: an operator of the program replaces ours. */
#define OPERATOR EXPORT __attribute__((weak))

/* Whether it did: what the linker found under the name is compared with our function, which has a
 * second, local name. */
#define OWN_NAME(op, ...)                                                                          \
	static void *own##op(__VA_ARGS__) __attribute__((alias(#op)));                             \
	static void *(*const volatile used##op)(__VA_ARGS__) = op

#define NEW(op)                                                                                    \
	void *op(size_t size);                                                                     \
	OPERATOR void *op(size_t size)                                                             \
	{                                                                                          \
		static const struct new_form form = { .name = #op, .align = ALIGN_MIN };           \
		void *p = likely(size <= SMALL_MAX) ? heap_alloc_hit(size) : NULL;                 \
                                                                                                   \
		return likely(p != NULL) ? p : missed(&form, size, __builtin_return_address(0));   \
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

/* by: the form that a nothrow form calls; single: for an array, the form for one object that `by`
 * calls. The program may have replaced either. */
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
	}                                                                                          \
	OWN_NAME(op, size_t, const struct nothrow *)

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
	}                                                                                          \
	OWN_NAME(op, size_t, size_t, const struct nothrow *)

#define DELETE(op, ...)                                                                            \
	void op(void *p, ##__VA_ARGS__);                                                           \
	OPERATOR void op(void *p, ##__VA_ARGS__)                                                   \
	{                                                                                          \
		heap_free(p);                                                                      \
	}                                                                                          \
	OWN_FREE(op, ##__VA_ARGS__)

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

/*
 * The sized forms jump through a pointer: to the form without the size, which ignores the register
 * that has it, or to a function that compares the size with what the block has. They do the latter
 * with the option check_classes (or check_sizes) if the forms that allocate and free are ours. A
 * form of the program may give blocks of another size than it was asked for.
 */
typedef void (*generic_fn)(void);
typedef void (*sized_fn)(void *p, size_t size);

#define DELETE_SIZED(by, op)                                                                       \
	static sized_fn to##op = (sized_fn)(generic_fn)by;                                         \
	void op(void *p, size_t size);                                                             \
	OPERATOR void op(void *p, size_t size)                                                     \
	{                                                                                          \
		to##op(p, size);                                                                   \
	}

static void delete_checked(void *p, size_t size)
{
	heap_free_sized(p, size);
}

/* With canaries a hardened process knows more than the class. */
static void delete_exact(void *p, size_t size)
{
	heap_free_other_size(p, size);
}

/* The form without the size has the alignment as its second argument. */
static bool check_aligned;
#define DELETE_SIZED_ALIGNED(by, op)                                                               \
	void op(void *p, size_t size, size_t align);                                               \
	OPERATOR void op(void *p, size_t size, size_t align)                                       \
	{                                                                                          \
		if (unlikely(check_aligned) && is_pow2(align))                                     \
			heap_check_size(p, size, align, true);                                     \
		by(p, align);                                                                      \
	}

#pragma GCC diagnostic ignored "-Wunused-parameter"

NEW(_Znwm);
NEW_ARRAY(_Znam, _Znwm);
NEW_NOTHROW(_ZnwmRKSt9nothrow_t, _Znwm, _Znwm);
NEW_NOTHROW(_ZnamRKSt9nothrow_t, _Znam, _Znwm);
NEW_ALIGNED(_ZnwmSt11align_val_t, _Znwm);
NEW_ARRAY_ALIGNED(_ZnamSt11align_val_t, _ZnwmSt11align_val_t);
NEW_ALIGNED_NOTHROW(_ZnwmSt11align_val_tRKSt9nothrow_t, _ZnwmRKSt9nothrow_t, _ZnwmSt11align_val_t,
		    _ZnwmSt11align_val_t);
NEW_ALIGNED_NOTHROW(_ZnamSt11align_val_tRKSt9nothrow_t, _ZnamRKSt9nothrow_t, _ZnamSt11align_val_t,
		    _ZnwmSt11align_val_t);

DELETE(_ZdlPv);
DELETE_BY(_ZdlPv, _ZdaPv)
OWN_FREE(_ZdaPv);
DELETE_SIZED(_ZdlPv, _ZdlPvm)
DELETE_SIZED(_ZdaPv, _ZdaPvm)
DELETE_BY(_ZdlPv, _ZdlPvRKSt9nothrow_t, const struct nothrow *tag)
DELETE_BY(_ZdaPv, _ZdaPvRKSt9nothrow_t, const struct nothrow *tag)
DELETE(_ZdlPvSt11align_val_t, size_t align);
DELETE_BY_ALIGNED(_ZdlPvSt11align_val_t, _ZdaPvSt11align_val_t, size_t align)
OWN_FREE(_ZdaPvSt11align_val_t, size_t align);
DELETE_SIZED_ALIGNED(_ZdlPvSt11align_val_t, _ZdlPvmSt11align_val_t)
DELETE_SIZED_ALIGNED(_ZdaPvSt11align_val_t, _ZdaPvmSt11align_val_t)
DELETE_BY_ALIGNED(_ZdlPvSt11align_val_t, _ZdlPvSt11align_val_tRKSt9nothrow_t, size_t align,
		  const struct nothrow *tag)
DELETE_BY_ALIGNED(_ZdaPvSt11align_val_t, _ZdaPvSt11align_val_tRKSt9nothrow_t, size_t align,
		  const struct nothrow *tag)

/* After library_begins has read the options. The call takes init.o out of the archive for a program
 * that uses the operators, and no malloc: see malloc_start_ends. */
__attribute__((constructor(102))) static void sizes_begin(void)
{
	sized_fn checked;

	sluice_init();
	if (!heap_checks_sizes())
		return;
	/* While allocations are sampled, heads name no class. */
	if (IS_OURS(_Znwm) && IS_OURS(_ZnwmRKSt9nothrow_t) && IS_OURS(_ZdlPv) &&
	    (!heap_sampling || options.check_sizes)) {
		checked = options.check_sizes ? delete_exact : delete_checked;
		to_ZdlPvm = checked;
		if (IS_OURS(_Znam) && IS_OURS(_ZnamRKSt9nothrow_t) && IS_OURS(_ZdaPv))
			to_ZdaPvm = checked;
	}
	check_aligned = IS_OURS(_ZnwmSt11align_val_t) && IS_OURS(_ZnamSt11align_val_t) &&
			IS_OURS(_ZnwmSt11align_val_tRKSt9nothrow_t) &&
			IS_OURS(_ZnamSt11align_val_tRKSt9nothrow_t) &&
			IS_OURS(_ZdlPvSt11align_val_t) && IS_OURS(_ZdaPvSt11align_val_t);
}
