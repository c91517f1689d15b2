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
#include <stddef.h>

#include "base/elfsym.h"
#include "base/sys.h"

#if defined(__aarch64__)
#define NAME "__kernel_clock_gettime"
#else
#define NAME "__vdso_clock_gettime"
#endif

_Atomic(clock_read_fn *) clock_read = clock_gettime;

void clock_init(void)
{
	uintptr_t base = sys_auxval(AT_SYSINFO_EHDR);
	const ElfW(Ehdr) *header = (const void *)base;
	const ElfW(Phdr) *p = base ? (const void *)(base + header->e_phoff) : NULL;
	const ElfW(Dyn) *dynamic = NULL;
	struct elfsym t = { .bias = base };
	void *found = NULL;

	for (unsigned n = 0; base && n < header->e_phnum; n++) {
		if (p[n].p_type == PT_LOAD)
			t.bias = base + p[n].p_offset - p[n].p_vaddr;
		else if (p[n].p_type == PT_DYNAMIC)
			dynamic = (const void *)(base + p[n].p_offset);
	}
	if (dynamic && elfsym_read(&t, dynamic, t.bias))
		found = elfsym_find(&t, NAME);
	if (found)
		atomic_store_explicit(&clock_read, (clock_read_fn *)(uintptr_t)found,
				      memory_order_relaxed);
}
