/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pagemap.c - the table of address-space slots that hold a region, and where their metadata lie;
 * see pagemap.h.
 *
 * It lies in .bss: pages of it that no region touches cost address space only (2 MiB on x86-64).
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "page/pagemap.h"

#include "base/links.h"
#include "base/options.h"
#include "os/vm.h"

#define META_ROOM ((size_t)1 << 20)

_Atomic uint8_t pagemap_slots[REGION_SLOTS];
struct region_place region_place SEALED = { 0, REGION_META_PAGES };

void pagemap_init(void)
{
	size_t limit;
	bool random = options.random_base && !vm_address_limited(&limit);

	region_place.meta = random ? link_random() % (META_ROOM / vm_os_page) * vm_os_page : 0;
	region_place.first = REGION_META_PAGES + (random ? META_ROOM >> PG_SHIFT : 0);
}
