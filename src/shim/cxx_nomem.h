/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cxx_nomem.h - what a C++ operator new does that finds no memory.
 */
#ifndef SLUICE_CXX_NOMEM_H
#define SLUICE_CXX_NOMEM_H

#include <stddef.h>

struct nothrow; /* std::nothrow_t */

/* An operator as C++ names it, mangled. */
struct new_form {
	const char *name;
	const char *plain;         /* the same without an alignment; NULL: it has none */
	const struct nothrow *tag; /* NULL: it throws */
	size_t align;
	void *(*base)(size_t size);                       /* the program's own; NULL: it has none */
	void *(*base_aligned)(size_t size, size_t align); /* likewise */
};

/*
 * Calls the new_handler while there is one and no memory, and throws std::bad_alloc or, nothrow, returns NULL.
 * caller: who called the operator, for the runtime whose exceptions it can catch.
 * A form that does not throw comes here also when the one that it is made of is the program's, which may throw: a runtime's catches that.
 */
void *new_no_memory(const struct new_form *form, size_t size, const void *caller);

/* What our operators try. NULL: no memory. */
void *new_try(size_t size, size_t align);

#endif
