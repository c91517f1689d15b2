/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vm.h - the only way to the kernel's memory calls.
 *
 * Sizes are bytes. Every function keeps errno, may be called from any thread and from a signal
 * handler, and must not be called under a pcp or buddy lock. Calls that take memory can be made to
 * fail by the options vm_fail_at and vm_fail_count.
 */
#ifndef SLUICE_VM_H
#define SLUICE_VM_H

#include "types.h"

/* The kernel's page size. Tests may set it to a larger power of two before anything else runs. */
extern size_t vm_os_page;

void vm_init(void);

/* Address space without memory, aligned (a power of two). NULL: refused. */
void *vm_reserve(size_t bytes, size_t align);

/* Read-write memory at exactly addr, where nothing is mapped. 0; nothing changed: -EEXIST, something is there, or addr
 * is within a page of the kernel's; -ENOMEM, refused. */
int vm_try_map_at(void *addr, size_t bytes);

/* Read-write memory wherever the kernel likes, aligned (a power of two). Reads as zero. */
void *vm_map(size_t bytes, size_t align);

/* A page of memory that reads as zero in a process that is made as a copy of this one (MADV_WIPEONFORK). NULL: the
 * kernel has no such memory. */
void *vm_map_wiped(void);

/* Make reserved address space read-write. False: refused, nothing changed. */
bool vm_commit(void *addr, size_t bytes);

/* Take away access from memory that is not in use; where that is refused nothing changes. */
void vm_guard(void *addr, size_t bytes);

/* Let the kernel back [addr, addr + bytes) with huge pages as they are touched, or forbid it. */
void vm_thp(void *addr, size_t bytes, bool wanted);

/* What the option thp says of memory that is made usable; auto_wants: what thp:auto would. */
void vm_thp_as_set(void *addr, size_t bytes, bool auto_wants);

/*
 * Where the kernel has huge pages of bytes or less, have it back [addr, addr + bytes), which is aligned to
 * its size and not backed yet, with them. From then on it is forbidden to, so that what is given back
 * costs no more than what is touched of it.
 */
void vm_populate_thp(void *addr, size_t bytes);

/* Whether the first page of the kernel's at or behind addr, mapped and not in use yet, is locked in memory,
 * so that the kernel will back it as a whole (or, with MCL_ONFAULT, counts it as if it did). */
bool vm_locked(void *addr);

/* Resize a mapping made by vm_map, moving it where it has no room. NULL: refused, the old one is as
 * it was. */
void *vm_remap(void *addr, size_t old_bytes, size_t bytes);

/* False only when the kernel has no mappings left to split one; the memory is then kept. */
bool vm_unmap(void *addr, size_t bytes);

/* Have the kernel back [addr, addr + bytes) with memory to be written, whatever it holds, which stays
 * as it is. False: refused; part of it may be backed. */
bool vm_populate(void *addr, size_t bytes);

/* Give the memory back to the kernel; it stays mapped. True: all of it reads as zero now. */
bool vm_purge(void *addr, size_t bytes);

/* Whether RLIMIT_AS limits the address space, or RLIMIT_DATA what is usable of it, as it was when last read: at the start, when a mapping was refused, and
 * by the background thread (vm_limits_read). */
void vm_limits_read(void);
bool vm_address_limited(size_t *limit);

#endif
