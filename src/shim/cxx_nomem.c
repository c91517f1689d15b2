/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cxx_nomem.c - see cxx_nomem.h. Used by cxx.c; uses the dynamic loader and, by their mangled
 * names, functions of the C++ runtime.
 *
 * If there is a dynamic loader, the operator of the same name in a C++ runtime does the work. A
 * process may have two runtimes, and neither catches what the other throws. We take, in this order,
 * the runtime that the caller's module sees, the next one behind us, or one that is loaded where
 * neither search finds it (a plug-in of a C program: RTLD_LOCAL). A nothrow form needs no runtime.
 *
 * In a statically linked program our operators replace those of the runtime, so they do the work
 * themselves, with those parts of the runtime that the program contains. All references are weak,
 * so that a C program linked with our whole archive needs no runtime. A program that can catch an
 * exception contains the functions that throw one. A program that never names std::bad_alloc may
 * lack its type: it gets a type from here, which is caught as a std::exception. If a new_handler
 * throws out of a nothrow form, the exception is not caught there: that would take a C++ compiler.
 *
 * Allocates only through the loader. Compiled with -fexceptions. Source: the Itanium C++ ABI.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "shim/cxx_nomem.h"

#include <dlfcn.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "base/sys.h"
#include "types.h"

typedef void handler_fn(void);

/* Parts of the runtime. */
handler_fn *_ZSt15get_new_handlerv(void) __attribute__((weak));
_Noreturn void _ZSt17__throw_bad_allocv(void) __attribute__((weak));
void *__cxa_allocate_exception(size_t size) __attribute__((weak));
_Noreturn void __cxa_throw(void *object, const void *type, void (*destroy)(void *))
	__attribute__((weak));
extern const void *const _ZTISt9bad_alloc[] __attribute__((weak));
extern const void *const _ZTVSt9bad_alloc[] __attribute__((weak));
extern const void *const _ZTISt9exception[] __attribute__((weak));
extern const void *const _ZTVN10__cxxabiv120__si_class_type_infoE[] __attribute__((weak));

/* ---- by a runtime that is loaded ------------------------------------------------------------- */

static const char *const runtimes[] = { "libstdc++.so.6", "libc++abi.so.1", "libc++.so.1" };

static bool is_ours(const void *address)
{
	Dl_info there;
	Dl_info here;

	return dladdr(address, &there) && dladdr((const void *)runtimes, &here) &&
	       there.dli_fbase == here.dli_fbase;
}

static void *theirs(void *symbol)
{
	return symbol && !is_ours(symbol) ? symbol : NULL;
}

/* In a module that is loaded already. It stays loaded after dlclose, because it is calling us. */
static void *symbol_in(const char *module, const char *name)
{
	void *handle = sys_dlopen(module, RTLD_LAZY | RTLD_NOLOAD);
	void *symbol;

	if (!handle)
		return NULL;
	symbol = theirs(dlsym(handle, name));
	dlclose(handle);
	return symbol;
}

/* In the caller's module or one that it needs. Returns NULL if the caller is the program itself,
 * which sees the next module behind us. */
static void *symbol_of_caller(const void *caller, const char *name)
{
#ifdef DLFO_STRUCT_HAS_EH_DBASE
	struct dl_find_object module;
	const struct link_map *map;

	if (_dl_find_object((void *)(uintptr_t)caller, &module))
		return NULL;
	map = module.dlfo_link_map;
	return map && map->l_name[0] ? symbol_in(map->l_name, name) : NULL;
#elif defined(__GLIBC__)
	Dl_info info;
	struct link_map *map = NULL;

	if (!dladdr1(caller, &info, (void **)&map, RTLD_DL_LINKMAP) || !map || !map->l_name[0])
		return NULL;
	return symbol_in(map->l_name, name);
#else
	Dl_info info;

	return dladdr(caller, &info) && info.dli_fname ? symbol_in(info.dli_fname, name) : NULL;
#endif
}

static void *find(const char *name, const void *caller)
{
	/* An operator of the runtime that we called may call another form, which is ours again. */
	static _Thread_local const void *outer TLS_FAST;
	void *symbol;

	if (!is_ours(caller))
		outer = caller;
	symbol = outer ? symbol_of_caller(outer, name) : NULL;
	if (!symbol)
		symbol = theirs(dlsym(RTLD_NEXT, name));
	for (size_t i = 0; !symbol && i < sizeof(runtimes) / sizeof(runtimes[0]); i++)
		symbol = symbol_in(runtimes[i], name);
	return symbol;
}

static void *call(void *symbol, const struct new_form *form, bool aligned, size_t size)
{
	if (aligned && form->tag)
		return ((void *(*)(size_t, size_t,
				   const struct nothrow *))symbol)(size, form->align, form->tag);
	if (aligned)
		return ((void *(*)(size_t, size_t))symbol)(size, form->align);
	if (form->tag)
		return ((void *(*)(size_t, const struct nothrow *))symbol)(size, form->tag);
	return ((void *(*)(size_t))symbol)(size);
}

/* ---- by ourselves ---------------------------------------------------------------------------- */

static void bad_alloc_destroy(void *object)
{
	(void)object;
}

static const char *bad_alloc_what(const void *object)
{
	(void)object;
	return "std::bad_alloc";
}

/* A type like std::bad_alloc, and its table of virtual functions. */
struct type {
	const void *kind;
	const char *name;
	const void *base;
};
static struct type own_type = { NULL, "St9bad_alloc", NULL };
static struct {
	intptr_t to_top;
	const struct type *type;
	void (*destroy[2])(void *);
	const char *(*what)(const void *);
} own_table = { 0, &own_type, { bad_alloc_destroy, bad_alloc_destroy }, bad_alloc_what };

static _Noreturn void throw_bad_alloc(const char *name)
{
	const void **object;

	if (_ZSt17__throw_bad_allocv)
		_ZSt17__throw_bad_allocv();
	if (!__cxa_throw || !__cxa_allocate_exception || !_ZTISt9exception)
		sluice_fatal("no memory, and no C++ runtime to throw std::bad_alloc (%s)", name);
	object = __cxa_allocate_exception(sizeof(*object));
	if (_ZTISt9bad_alloc && _ZTVSt9bad_alloc) {
		*object = _ZTVSt9bad_alloc + 2;
		__cxa_throw(object, _ZTISt9bad_alloc, bad_alloc_destroy);
	}
	/* Every thread writes the same values, so a race is benign. */
	own_type.kind = _ZTVN10__cxxabiv120__si_class_type_infoE + 2;
	own_type.base = _ZTISt9exception;
	*object = &own_table.destroy;
	__cxa_throw(object, &own_type, bad_alloc_destroy);
}

static void *try_again(const struct new_form *form, size_t size)
{
	for (;;) {
		handler_fn *handler = _ZSt15get_new_handlerv ? _ZSt15get_new_handlerv() : NULL;
		void *p;

		if (handler)
			handler();
		else if (form->tag)
			return NULL;
		else
			throw_bad_alloc(form->name);
		p = new_try(size, form->align);
		if (p)
			return p;
	}
}

void *new_no_memory(const struct new_form *form, size_t size, const void *caller)
{
	/* The aligned form of libstdc++ rounds the size up. For a size that no object can have the
	 * sum wraps to a small one, so the unaligned form fails in its place. */
	bool aligned = form->plain && (size <= (size_t)PTRDIFF_MAX || form->base_aligned);
	void *symbol = find(form->plain && !aligned ? form->plain : form->name, caller);

	if (symbol)
		return call(symbol, form, aligned, size);
	if (form->base_aligned)
		return form->base_aligned(size, form->align);
	return form->base ? form->base(size) : try_again(form, size);
}
