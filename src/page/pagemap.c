/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pagemap.c - the table of address-space slots that hold a region; see pagemap.h.
 *
 * It lies in .bss: pages of it that no region touches cost address space only (2 MiB on x86-64).
 */
#include "page/pagemap.h"

_Atomic uint8_t pagemap_slots[REGION_SLOTS];
