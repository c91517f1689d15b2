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

/* Address space without memory, aligned (a power of two). Returns NULL if the kernel refuses. */
void *vm_reserve(size_t bytes, size_t align);

/* Asks the kernel for two more mappings of address space without memory: three calls at most.
 * Returns 0 if the process may have them, or has a limit on its address space; -ENOMEM if it may
 * not (vm.max_map_count); another negated errno if something else refuses, such as a filter. */
int vm_mappings_refused(void);

/*
 * Holds three mappings for the next call that the kernel refuses for lack of some: a call of this
 * file that takes memory releases them, and asks again. A caller that makes mappings it can do
 * without (guards) holds them before, and undoes them unless they are still held afterwards.
 * vm_spare_hold: two calls if they are not held yet; returns false if the process may not have
 * three more (vm.max_map_count).
 */
bool vm_spare_hold(void);
bool vm_spare_is_held(void);

/* Maps read-write memory at exactly addr, where nothing may be mapped. Returns 0; -EEXIST if
 * something is there, or addr is not the start of a kernel page; -ENOMEM if the kernel refuses. On
 * an error nothing changes. */
int vm_try_map_at(void *addr, size_t bytes);

/* Read-write memory at any place, aligned (a power of two), that reads as zero. Returns NULL if the
 * kernel refuses. */
void *vm_map(size_t bytes, size_t align);

/* The same with `guard` bytes without access at each end, which count in bytes, by two calls.
 * Returns NULL also if that would take the process's last mappings. */
void *vm_map_guarded(size_t bytes, size_t guard);

/*
 * The same by one call that maps, for a process that may have no more mappings (vm.max_map_count):
 * the kernel refuses them all from then on, also those that it would join to others. The kernel
 * keeps no memory for it (MAP_NORESERVE). Up to `align` bytes behind it stay mapped and unused.
 */
void *vm_map_once(size_t bytes, size_t align);

/* A page of memory that reads as zero in a copy of this process (MADV_WIPEONFORK). Returns NULL if
 * the kernel has no such memory. */
void *vm_map_wiped(void);

/* Makes reserved address space read-write. Returns false if refused; nothing changes then. */
bool vm_commit(void *addr, size_t bytes);

/* Makes data of the library read-only, or read-write again. If the kernel refuses, nothing
 * changes. */
void vm_read_only(void *addr, size_t bytes, bool only);

/* Gives memory back to the kernel and takes away access to its addresses, until vm_commit. Returns
 * false if it may still cost memory or can be accessed. */
bool vm_hide(void *addr, size_t bytes);

/* Takes away access to memory that is not in use. Returns false if refused; nothing changes. */
bool vm_guard(void *addr, size_t bytes);

/* Applies the option thp to memory that was made usable. */
void vm_thp_as_set(void *addr, size_t bytes);

/* Forbids the kernel to back memory by huge pages unless vm_populate_thp asks for one. */
void vm_thp_forbid(void *addr, size_t bytes);

/* Whether the kernel is configured to give huge pages to those who ask for them, and only to those.
 * Written at the start, by vm_thp_init, which opens a file. */
extern bool vm_thp_on_request;
void vm_thp_init(void);

/*
 * Backs [addr, addr + bytes), which is aligned to its size and not backed yet, with a huge page, if
 * the kernel has huge pages of at most that size. Then forbids huge pages there, so that memory
 * that is given back and touched again costs only what is touched.
 */
void vm_populate_thp(void *addr, size_t bytes);

/* Whether the first kernel page at or behind addr, mapped and not in use yet, is locked in memory.
 * The kernel backs locked memory at once (or, with MCL_ONFAULT, counts it as if it did). */
bool vm_locked(void *addr);

/* Resizes a mapping made by vm_map, and moves it if it has no room. Returns NULL if the kernel
 * refuses; nothing changes then. *err: EFAULT if the kernel knows it as several mappings, which it
 * does not resize. */
void *vm_remap(void *addr, size_t old_bytes, size_t bytes, int *err);

/* Makes memory of vm_map, which the program may have changed by mprotect or madvise, readable and
 * writable, and part of a fork child with its contents. Returns false if the kernel refuses. */
bool vm_make_ordinary(void *addr, size_t bytes);

/* Returns false only if the process may have no more mappings, to split this one; the memory then
 * stays mapped. */
bool vm_unmap(void *addr, size_t bytes);

/* Makes the kernel back [addr, addr + bytes) with writable memory. The contents stay. Returns false
 * if the kernel refuses; a part may be backed then. */
bool vm_populate(void *addr, size_t bytes);

/* Tells the kernel that the memory is not used soon (MADV_COLD, since Linux 5.4). Its contents
 * stay. Where it is a part of a huge page, the kernel splits that. Returns false if it refuses, as
 * of locked memory. */
bool vm_cold(void *addr, size_t bytes);

/* Gives the memory back to the kernel; it stays mapped. Returns whether all of it reads as zero
 * now. */
bool vm_purge(void *addr, size_t bytes);

/* Bytes of [addr, addr + bytes) that the kernel backs; what is not mapped counts as not backed.
 * Returns VM_UNKNOWN if the kernel cannot be asked: in a sandbox, also one that the process began
 * with. Some 10 us for each 4 MiB. */
#define VM_UNKNOWN UINT64_MAX
uint64_t vm_resident(const void *addr, size_t bytes);

/* For each of n pages of the kernel from addr on, where one begins, whether the kernel backs it, in
 * bit 0 of a byte. n: up to VM_BACKED_PAGES. Returns false where vm_resident returns VM_UNKNOWN. */
#define VM_BACKED_PAGES ((size_t)1024)
bool vm_backed(const void *addr, size_t n, unsigned char *backed);

/* vm_address_limited: whether RLIMIT_AS limits the address space, or RLIMIT_DATA its usable part,
 * and the smaller of the two. vm_limits_read reads them: at the start, when a mapping was refused,
 * and in the background thread. */
void vm_limits_read(void);
bool vm_address_limited(size_t *limit);

#endif
