/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The only way to the kernel's memory calls: mapping, alignment, purging, and calls made to fail.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "lib/backed.h"
#include "lib/child.h"
#include "lib/statm.h"
#include "base/options.h"
#include "lib/refuse.h"
#include "base/stats.h"
#include "lib/tap.h"
#include "os/vm.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif
#define MIB ((size_t)1 << 20)

/* Whether the first byte of each kernel page is backed by memory, counted. */
static size_t resident(const void *p, size_t bytes)
{
	static unsigned char vec[65536];
	size_t n = 0;
	void *at;

	memcpy(&at, &p, sizeof(at)); /* mincore's pointer is not const */
	if (bytes / vm_os_page > sizeof(vec) || backed_pages(at, bytes, vec) != 0)
		return SIZE_MAX;
	for (size_t i = 0; i < bytes / vm_os_page; i++)
		n += vec[i] & 1;
	return n;
}

static bool mapped(const void *p)
{
	return resident(p, vm_os_page) != SIZE_MAX;
}

static bool all_bytes(const char *p, size_t n, char c)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != c)
			return false;
	return true;
}

/* Pages of address space the process has. */
static unsigned long address_pages(void)
{
	return (unsigned long)statm_pages(STATM_SIZE);
}

/* ---- mapping -------------------------------------------------------------------------------- */

static void test_map(void)
{
	char *p = vm_map(100000, 1);
	char *q;
	char *r;

	ok(p && all_bytes(p, 100000, 0), "a mapping reads as zero");
	memset(p, 'm', 100000);
	p[100352 - 1] = 'e'; /* the kernel's pages it has are all there */
	q = vm_remap(p, 100000, 4 * MIB);
	ok(q && all_bytes(q, 100000, 'm'), "it keeps its data when it grows");
	ok(all_bytes(q + 102400, 4 * MIB - 102400, 0), "and what is new reads as zero");
	p = vm_remap(q, 4 * MIB, 2 * vm_os_page);
	ok(p == q && !mapped(p + 2 * vm_os_page), "it can shrink where it is");
	ok(vm_unmap(p, 2 * vm_os_page) && !mapped(p), "and be unmapped");
	p = vm_map(MIB, 1);
	if (!p)
		tap_bail_out("no memory");
	q = mmap(p + MIB, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
		 0);
	memset(p, 'o', MIB);
	r = vm_remap(p, MIB, 2 * MIB);
	ok(r && r != p && !mapped(p) && all_bytes(r, MIB, 'o'),
	   "where others are in its way it moves with what is in it");
	ok(vm_remap(r, 2 * MIB, 4 * MIB) == r, "and has room to grow there");
	ok(((uintptr_t)p - (uintptr_t)r) % (2 * MIB) == 0, "it lies as before in its page table");
	vm_unmap(r, 4 * MIB);
	ok(!mapped(r) && !mapped(r + 4 * MIB - 4096) &&
		   !mapped((char *)align_down((uintptr_t)r, 2 * MIB)),
	   "and leaves none of it mapped");
	if (q != MAP_FAILED)
		munmap(q, 4096);
}

static void test_reserve(void)
{
	char *p = vm_reserve(256 * MIB, 64 * MIB);

	ok(p && (uintptr_t)p % (64 * MIB) == 0, "address space can be reserved at an alignment");
	if (tap_emulated())
		tap_skip(1, "no mincore");
	else
		is_int(resident(p, 64 * MIB), 0, "it costs no memory");
	ok(vm_commit(p + MIB, MIB), "a part of it can be made usable");
	memset(p + MIB, 'c', MIB);
	if (tap_emulated())
		tap_skip(1, "no mincore");
	else
		is_int(resident(p, 3 * MIB), MIB / vm_os_page,
		       "which then costs what is used of it");
	ok(vm_try_map_at(p, 4096) != 0, "nothing is mapped where something is");
	ok(vm_unmap(p + 2 * MIB, MIB), "a part can be given up");
	ok(vm_try_map_at(p + 2 * MIB, MIB) == 0 && all_bytes(p + 2 * MIB, MIB, 0),
	   "and mapped again, and reads as zero");
	ok(all_bytes(p + MIB, MIB, 'c'), "the part beside it keeps its data");
	vm_unmap(p, 256 * MIB);
}

static bool aligned_maps(size_t align)
{
	void *p[5];
	bool good = true;

	for (unsigned i = 0; i < 5; i++) {
		p[i] = vm_map(20480 + i * 4096, align);
		good &= p[i] && (uintptr_t)p[i] % align == 0;
	}
	for (unsigned i = 0; i < 5; i++)
		if (p[i])
			vm_unmap(p[i], 20480 + i * 4096);
	return good;
}

/* As much as the mapping and a little more is left of the address space. */
static void align_in_little(void *arg)
{
	struct rlimit rl;
	size_t limit;
	void *p;

	(void)arg;
	if (vm_address_limited(&limit))
		_exit(3);
	getrlimit(RLIMIT_AS, &rl);
	rl.rlim_cur = 400 * MIB;
	if (setrlimit(RLIMIT_AS, &rl) != 0)
		_exit(4);
	vm_limits_read();
	if (!vm_address_limited(&limit) || limit != 400 * MIB)
		_exit(5);
	/* 256 MiB and an alignment of 64 do not fit by asking for both. */
	p = vm_map(256 * MIB, 256 * MIB);
	if (!p || (uintptr_t)p % (256 * MIB))
		_exit(6);
	if (vm_map(256 * MIB, 64 * MIB))
		_exit(7);
}

static void test_align(void)
{
	bool good = true;

	for (size_t align = 1; align <= 1024 * MIB; align *= 2)
		good &= aligned_maps(align);
	ok(good, "mappings can be had at each alignment up to 1 GiB");
	if (SANITIZED || tap_emulated())
		tap_skip(1,
			 "a sanitizer or emulator takes more address space than the limit of this test");
	else
		ok(child_is_well(align_in_little, NULL),
		   "under a limit an alignment does not cost address space");
}

/* ---- purging -------------------------------------------------------------------------------- */

static void test_purge(void)
{
	char *p = vm_map(4 * MIB, 65536);
	uint64_t calls = stat_sum(STAT_purge_calls);

	memset(p, 'p', 4 * MIB);
	is_int(resident(p, 4 * MIB), 4 * MIB / vm_os_page, "memory that was written is there");
	ok(vm_purge(p + MIB, 2 * MIB), "it can be purged");
	is_int(resident(p, 4 * MIB), 2 * MIB / vm_os_page, "then it is not there any more");
	ok(all_bytes(p + MIB, 2 * MIB, 0), "and reads as zero");
	ok(all_bytes(p, MIB, 'p') && all_bytes(p + 3 * MIB, MIB, 'p'),
	   "what lies before and behind keeps its data");
	is_int(stat_sum(STAT_purge_calls) - calls, 1, "that is counted as one call");
	vm_unmap(p, 4 * MIB);
}

/* E5: a kernel with pages larger than ours. */
static void test_purge_large_pages(void)
{
	size_t os_page = vm_os_page;
	char *p = vm_map(MIB, 65536);

	memset(p, 'q', MIB);
	vm_os_page = 65536;
	ok(!vm_purge(p + 16384, 16384), "with pages of 64 KiB a block of 16 is not purged");
	ok(all_bytes(p, MIB, 'q'), "and keeps its data");
	ok(!vm_purge(p + 16384, 65536 + 32768), "nor one that has no whole page");
	ok(all_bytes(p, MIB, 'q'), "which does so, too");
	ok(!vm_purge(p + 16384, 3 * 65536),
	   "one that does not begin with a page is not zero after it");
	ok(all_bytes(p, 65536, 'q') && all_bytes(p + 65536, 2 * 65536, 0) &&
		   all_bytes(p + 3 * 65536, 65536, 'q'),
	   "but the whole pages in it are purged");
	ok(vm_purge(p, 65536) && all_bytes(p, 65536, 0), "whole pages are purged as ever");
	vm_os_page = os_page;
	vm_unmap(p, MIB);
}

static void test_purge_locked(void)
{
	char *p = vm_map(65536, 4096);

	memset(p, 'l', 65536);
	if (SANITIZED || mlock(p, 65536) != 0) {
		tap_skip(2, "memory cannot be locked by this user, or under a sanitizer");
	} else {
		ok(!vm_purge(p, 65536), "memory that is locked is not said to be purged");
		ok(all_bytes(p, 65536, 'l'), "and keeps its data");
	}
	vm_unmap(p, 65536);
}

static void test_locked_large_pages(void)
{
	size_t os_page = vm_os_page;
	char *p = vm_map(3 * (size_t)65536, 65536);

	if (SANITIZED || mlock(p + 16384, 16384) != 0) {
		tap_skip(2, "memory cannot be locked by this user, or under a sanitizer");
	} else {
		vm_os_page = 65536;
		ok(!vm_locked(p + 16384), "with pages of 64 KiB the first whole one is looked at");
		mlock(p + 65536, 65536);
		ok(vm_locked(p + 16384), "and is said to be locked if it is");
		vm_os_page = os_page;
	}
	vm_unmap(p, 3 * (size_t)65536);
}

/* ---- calls made to fail --------------------------------------------------------------------- */

/*
 * Calls are numbered while vm_fail_at is set; main sets it before the first one, so that the number
 * of the next is that of all so far and one.
 */
static void fail_next(uint64_t skip, uint64_t count)
{
	options.vm_fail_count = count;
	options.vm_fail_at = stat_sum(STAT_vm_calls) + 1 + skip;
}

static void test_faults(void)
{
	char *p;
	void *q[4];

	fail_next(0, 1);
	ok(vm_map(4096, 1) == NULL, "a mapping can be made to fail");
	p = vm_map(4096, 1);
	ok(p != NULL, "the one after it does not");
	fail_next(2, 2);
	for (unsigned i = 0; i < 4; i++)
		q[i] = vm_map(4096, 1);
	ok(q[0] && q[1] && !q[2] && !q[3], "exactly the calls that were named fail");
	vm_unmap(q[0], 4096);
	vm_unmap(q[1], 4096);
	*p = 'f';
	fail_next(0, 3 + 2);
	ok(vm_remap(p, 4096, MIB) == NULL && *p == 'f', "a resize fails, and nothing changes");
	ok(vm_reserve(MIB, MIB) == NULL, "a reservation fails");
	ok(!vm_commit(p, 4096) && *p == 'f', "a commit fails, and nothing changes");
	fail_next(0, 1);
	ok(vm_unmap(p, 4096) && !mapped(p), "calls that give memory back are not made to fail");
	ok(vm_try_map_at(p, 4096) != 0 && vm_try_map_at(p, 4096) == 0,
	   "a mapping at an address fails");
	vm_unmap(p, 4096);
}

/* All the places that are tried first are refused: too much is mapped and trimmed. */
static void test_align_trimmed(void)
{
	unsigned long before = address_pages();
	bool good = true;

	for (unsigned i = 0; i < 8; i++) {
		char *p;

		fail_next(1, 16);
		p = vm_map(3 * MIB, 16 * MIB);
		good &= p && (uintptr_t)p % (16 * MIB) == 0 && all_bytes(p, 3 * MIB, 0);
		vm_unmap(p, 3 * MIB);
	}
	ok(good, "where aligned places are refused more is mapped and trimmed");
	if (tap_emulated())
		tap_skip(1, "the emulator has mappings of its own");
	else
		is_int(address_pages(), before, "and no address space is left behind");
}

/* The kernel refuses each way, for the old mapping is two. */
static void test_remap_refused(void)
{
	char *p = vm_map(2 * MIB, 1);
	unsigned long before;

	if (!p || mprotect(p + MIB, MIB, PROT_NONE) != 0)
		tap_bail_out("no memory");
	*p = 'k';
	before = address_pages();
	ok(!vm_remap(p, 2 * MIB, 8 * MIB) && *p == 'k', "what cannot be moved stays");
	if (tap_emulated())
		tap_skip(1, "the emulator's own address space is in the figure");
	else
		is_int(address_pages(), before, "and no room that was made for it is left behind");
	vm_unmap(p, 2 * MIB);
}

/* ---- kernels that know less ----------------------------------------------------------------- */

static char *page_new(void)
{
	char *p = vm_map(vm_os_page, 1);

	if (!p)
		_exit(3);
	return p;
}

static void no_populate(void *arg)
{
	char *p = page_new();

	(void)arg;
	if (!refuse(SYS_madvise, 2, 23, EINVAL)) /* MADV_POPULATE_WRITE */
		_exit(0);
	errno = 77;
	if (!vm_populate(p, vm_os_page) || errno != 77 || resident(p, vm_os_page) != 1)
		_exit(4);
	p[5] = 'k';
	if (!vm_populate(p, vm_os_page) || p[5] != 'k')
		_exit(5);
}

static void no_memory_to_populate(void *arg)
{
	char *p = page_new();

	(void)arg;
	if (!refuse(SYS_madvise, 2, 23, ENOMEM))
		_exit(0);
	errno = 77;
	if (vm_populate(p, vm_os_page) || errno != 77)
		_exit(4);
}

static void no_wipe(void *arg)
{
	unsigned long before;

	(void)arg;
	if (!refuse(SYS_madvise, 2, 18, EINVAL)) /* MADV_WIPEONFORK */
		_exit(0);
	before = address_pages();
	errno = 77;
	if (vm_map_wiped() || errno != 77)
		_exit(4);
	if (address_pages() != before)
		_exit(5);
}

static void no_mprotect(void *arg)
{
	char *p = vm_reserve(MIB, 1);

	(void)arg;
	if (!refuse(SYS_mprotect, 2, PROT_READ | PROT_WRITE, EPERM))
		_exit(0);
	errno = 77;
	if (!p || !vm_commit(p, MIB) || errno != 77)
		_exit(4);
	memset(p, 'c', MIB);
}

static void no_memory_to_commit(void *arg)
{
	char *p = vm_reserve(MIB, 1);

	(void)arg;
	if (!refuse(SYS_mprotect, 2, PROT_READ | PROT_WRITE, ENOMEM))
		_exit(0);
	errno = 77;
	if (!p || vm_commit(p, MIB) || errno != 77)
		_exit(4);
}

static void test_less(void)
{
	ok(child_is_well(no_populate, NULL),
	   "a kernel that does not know how to populate is made to by a touch, which changes nothing");
	ok(child_is_well(no_memory_to_populate, NULL), "where memory is refused that is said");
	ok(child_is_well(no_wipe, NULL),
	   "where no page is wiped in a fork there is none, and none is left mapped");
	ok(child_is_well(no_mprotect, NULL), "where mprotect is refused memory is mapped instead");
	ok(child_is_well(no_memory_to_commit, NULL),
	   "but not where it was memory that was refused");
}

static void test_errno(void)
{
	void *p;

	errno = 77;
	p = vm_map(4096, 1);
	vm_remap(p, 4096, (size_t)1 << 46);
	vm_map((size_t)1 << 50, 1);
	vm_reserve((size_t)1 << 50, 1);
	vm_try_map_at(p, 4096);
	vm_commit((char *)vm_os_page, vm_os_page);
	vm_purge((char *)65536, 65536);
	vm_unmap(p, 4096);
	fail_next(0, 1);
	vm_map(4096, 1);
	is_int(errno, 77, "errno is kept by calls that succeed and by calls that fail");
	ok(vm_map(SIZE_MAX - 100, 1) == NULL, "a size that is too large is refused");
	ok(vm_map(SIZE_MAX / 2 + 5, MIB) == NULL, "also with an alignment");
}

int main(void)
{
	tap_plan(56);
	options.vm_fail_at = UINT64_C(1) << 30;
	vm_init();
	test_map();
	test_reserve();
	test_align();
	test_purge();
	test_purge_large_pages();
	test_purge_locked();
	test_locked_large_pages();
	test_faults();
	test_align_trimmed();
	test_remap_refused();
	test_less();
	test_errno();
	return tap_done();
}
