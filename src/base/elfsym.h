/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * elfsym.h - looks up a symbol in one ELF object in memory, without the loader, whose functions may
 * wait for its lock, call malloc, or find another object's symbol.
 */
#ifndef SLUICE_ELFSYM_H
#define SLUICE_ELFSYM_H

#include <link.h>
#include <stdbool.h>
#include <stdint.h>

struct elfsym {
	uintptr_t bias; /* added to the addresses of its symbols */
	const ElfW(Sym) * symbols;
	const char *names;
	const uint32_t *sysv; /* the hash tables; NULL: it does not have that one */
	const uint32_t *gnu;
};

/* Reads where its tables are. added: to the addresses in d; 0 where the loader has done so. Returns
 * false if it has no table of symbols with a hash table. */
bool elfsym_read(struct elfsym *t, const ElfW(Dyn) * d, uintptr_t added);

/* The address of a symbol that it defines, or NULL. */
void *elfsym_find(const struct elfsym *t, const char *name);

#endif
