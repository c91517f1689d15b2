/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * clock.c - see clock.h. Primitive; used by all layers. Allocates nothing, no lock.
 *
 * The kernel maps a small shared object into each process (vDSO). It has one segment, a symbol
 * table, and a GNU hash table or, in older kernels, one of System V.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "base/clock.h"

#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "base/sys.h"

#if defined(__aarch64__)
#define NAME "__kernel_clock_gettime"
#else
#define NAME "__vdso_clock_gettime"
#endif

_Atomic(clock_read_fn *) clock_read = clock_gettime;

struct tables {
	uintptr_t bias; /* added to its addresses */
	const ElfW(Sym) * symbols;
	const char *names;
	const uint32_t *sysv;
	const uint32_t *gnu;
};

static bool is_it(const struct tables *t, uint32_t i)
{
	return t->symbols[i].st_shndx != SHN_UNDEF &&
	       strcmp(t->names + t->symbols[i].st_name, NAME) == 0;
}

/* Returns the number of the symbol, or 0 if none. */
static uint32_t by_sysv(const struct tables *t)
{
	for (uint32_t i = 1; i < t->sysv[1]; i++) {
		if (is_it(t, i))
			return i;
	}
	return 0;
}

static uint32_t by_gnu(const struct tables *t)
{
	uint32_t hash = 5381;
	uint32_t buckets = t->gnu[0];
	const uint32_t *bucket = t->gnu + 4 +
				 (size_t)t->gnu[2] * (sizeof(ElfW(Addr)) / sizeof(*t->gnu));
	const uint32_t *chain = bucket + buckets;
	uint32_t i;

	for (const char *c = NAME; *c; c++)
		hash = hash * 33 + (unsigned char)*c;
	i = buckets ? bucket[hash % buckets] : 0;
	if (i < t->gnu[1])
		return 0;
	for (;; i++) {
		if (is_it(t, i))
			return i;
		if (chain[i - t->gnu[1]] & 1)
			return 0;
	}
}

static void read_dynamic(struct tables *t, const ElfW(Dyn) * d)
{
	for (; d->d_tag != DT_NULL; d++) {
		uintptr_t at = t->bias + d->d_un.d_ptr;

		if (d->d_tag == DT_SYMTAB)
			t->symbols = (const void *)at;
		else if (d->d_tag == DT_STRTAB)
			t->names = (const void *)at;
		else if (d->d_tag == DT_HASH)
			t->sysv = (const void *)at;
		else if (d->d_tag == DT_GNU_HASH)
			t->gnu = (const void *)at;
	}
}

void clock_init(void)
{
	uintptr_t base = sys_auxval(AT_SYSINFO_EHDR);
	const ElfW(Ehdr) *header = (const void *)base;
	const ElfW(Phdr) *p = base ? (const void *)(base + header->e_phoff) : NULL;
	const ElfW(Dyn) *dynamic = NULL;
	struct tables t = { .bias = base };
	uint32_t i = 0;

	for (unsigned n = 0; base && n < header->e_phnum; n++) {
		if (p[n].p_type == PT_LOAD)
			t.bias = base + p[n].p_offset - p[n].p_vaddr;
		else if (p[n].p_type == PT_DYNAMIC)
			dynamic = (const void *)(base + p[n].p_offset);
	}
	if (dynamic)
		read_dynamic(&t, dynamic);
	if (t.symbols && t.names && (t.gnu || t.sysv))
		i = t.gnu ? by_gnu(&t) : by_sysv(&t);
	if (i)
		atomic_store_explicit(&clock_read,
				      (clock_read_fn *)(t.bias + t.symbols[i].st_value),
				      memory_order_relaxed);
}
