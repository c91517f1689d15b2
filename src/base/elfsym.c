/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * elfsym.c - see elfsym.h. Used by clock and the shim (thread). No lock; allocates nothing.
 *
 * Source: the ELF specification, and for DT_GNU_HASH that of the GNU linker. sanitizer.c has its
 * own, which runs before the library is relocated.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "base/elfsym.h"

#include <stddef.h>
#include <string.h>

static bool is_it(const struct elfsym *t, uint32_t i, const char *name)
{
	return t->symbols[i].st_shndx != SHN_UNDEF &&
	       strcmp(t->names + t->symbols[i].st_name, name) == 0;
}

/* Returns the number of the symbol, or 0 if none. */
static uint32_t by_sysv(const struct elfsym *t, const char *name)
{
	for (uint32_t i = 1; i < t->sysv[1]; i++) {
		if (is_it(t, i, name))
			return i;
	}
	return 0;
}

/* Buckets, first symbol, words of the filter and its shift; the filter, the buckets, the chains. */
static uint32_t by_gnu(const struct elfsym *t, const char *name)
{
	uint32_t hash = 5381;
	uint32_t buckets = t->gnu[0];
	const uint32_t *bucket = t->gnu + 4 +
				 (size_t)t->gnu[2] * (sizeof(ElfW(Addr)) / sizeof(*t->gnu));
	const uint32_t *chain = bucket + buckets;
	uint32_t i;

	for (const char *c = name; *c; c++)
		hash = hash * 33 + (unsigned char)*c;
	i = buckets ? bucket[hash % buckets] : 0;
	if (i < t->gnu[1])
		return 0;
	for (;; i++) {
		uint32_t has = chain[i - t->gnu[1]];

		if ((has | 1) == (hash | 1) && is_it(t, i, name))
			return i;
		if (has & 1)
			return 0;
	}
}

bool elfsym_read(struct elfsym *t, const ElfW(Dyn) * d, uintptr_t added)
{
	for (; d->d_tag != DT_NULL; d++) {
		uintptr_t at = added + d->d_un.d_ptr;

		if (d->d_tag == DT_SYMTAB)
			t->symbols = (const void *)at;
		else if (d->d_tag == DT_STRTAB)
			t->names = (const void *)at;
		else if (d->d_tag == DT_HASH)
			t->sysv = (const void *)at;
		else if (d->d_tag == DT_GNU_HASH)
			t->gnu = (const void *)at;
	}
	return t->symbols && t->names && (t->gnu || t->sysv);
}

void *elfsym_find(const struct elfsym *t, const char *name)
{
	uint32_t i = t->gnu ? by_gnu(t, name) : by_sysv(t, name);

	return i ? (void *)(t->bias + t->symbols[i].st_value) : NULL;
}
