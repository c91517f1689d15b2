/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cxx_nomem.h - what a C++ operator new does when there is no memory.
 */
#ifndef SLUICE_CXX_NOMEM_H
#define SLUICE_CXX_NOMEM_H

#include <stddef.h>

struct nothrow; /* std::nothrow_t */

/* An operator as C++ names it, mangled. */
struct new_form {
	const char *name;
	const char *plain;         /* the form without alignment; NULL if this one has none */
	const struct nothrow *tag; /* NULL if this form throws */
	size_t align;
	/* The form that this one calls, if the program has replaced it; else NULL. */
	void *(*base)(size_t size);
	void *(*base_aligned)(size_t size, size_t align);
};

/*
 * While there is no memory and a new_handler is set, calls it and tries again. Without a handler it
 * throws std::bad_alloc or, in a nothrow form, returns NULL. caller: the operator's return address;
 * the exception is one of the runtime that the caller's module uses.
 *
 * A nothrow form also comes here if the program has replaced the form that it calls, which may
 * throw: the operator of a runtime catches that.
 */
void *new_no_memory(const struct new_form *form, size_t size, const void *caller);

/* One attempt to allocate. Returns NULL if there is no memory. */
void *new_try(size_t size, size_t align);

#endif
