/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * seal.c - see seal.h. Used by the malloc family, control and mallctl; uses vm.
 *
 * A process whose options are changed while it runs does without from then on: a second change in
 * another thread might find the data read-only again.
 *
 * No lock, allocates nothing. One system call. Signal handlers and fork: a child has its parent's.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "os/seal.h"

#include <stdint.h>

#include "base/sealed.h"
#include "os/vm.h"

/* The linker defines them for a section with such a name. */
extern char __start_sluice_sealed[] __attribute__((visibility("hidden")));
extern char __stop_sluice_sealed[] __attribute__((visibility("hidden")));

static void set_read_only(bool only)
{
	size_t bytes = (uintptr_t)__stop_sluice_sealed - (uintptr_t)__start_sluice_sealed;

	/* An older dynamic linker does not align a segment by more than the kernel's page. */
	if (((uintptr_t)__start_sluice_sealed | bytes) % vm_os_page == 0)
		vm_read_only(__start_sluice_sealed, bytes, only);
}

void seal_close(void)
{
	set_read_only(true);
}

void seal_open(void)
{
	set_read_only(false);
}
