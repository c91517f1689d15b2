/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * backed.h - which pages the kernel backs with memory. The unit is the library's page size, which
 * SLUICE_TEST_PAGE may set larger than the real one.
 */
#ifndef T_BACKED_H
#define T_BACKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/tap.h"
#include "os/vm.h"

/* mincore with one byte for each vm_os_page: that of the first real page in it. */
static inline int backed_pages(const void *p, size_t bytes, unsigned char *vec)
{
	/* The emulator reports the page size it was told; the kernel below it has 4 KiB. */
	size_t real = tap_emulated() ? 4096 : (size_t)sysconf(_SC_PAGESIZE);
	char *at = (char *)(uintptr_t)p;

	if (vm_os_page <= real)
		return mincore(at, bytes, vec);
	for (size_t i = 0; i * vm_os_page < bytes; i++)
		if (mincore(at + i * vm_os_page, real, &vec[i]) != 0)
			return -1;
	return 0;
}

#endif
