/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The only way to the kernel's memory calls: mapping, alignment, purging, and calls made to fail.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <ucontext.h>

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

/* Counts the kernel pages whose first byte is backed by memory. */
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

/* Pages of address space that the process has. */
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
	int err;

	ok(p && all_bytes(p, 100000, 0), "a mapping reads as zero");
	memset(p, 'm', 100000);
	p[100352 - 1] = 'e'; /* all the kernel's pages under it are there */
	q = vm_remap(p, 100000, 4 * MIB, &err);
	ok(q && all_bytes(q, 100000, 'm'), "a mapping keeps its data when it grows");
	ok(all_bytes(q + 102400, 4 * MIB - 102400, 0),
	   "new memory of a mapping that grew reads as zero");
	p = vm_remap(q, 4 * MIB, 2 * vm_os_page, &err);
	ok(p == q && !mapped(p + 2 * vm_os_page), "a mapping can shrink where it is");
	ok(vm_unmap(p, 2 * vm_os_page) && !mapped(p), "a mapping can be unmapped");
	p = vm_map(MIB, 1);
	if (!p)
		tap_bail_out("no memory");
	q = mmap(p + MIB, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
		 0);
	memset(p, 'o', MIB);
	r = vm_remap(p, MIB, 2 * MIB, &err);
	ok(r && r != p && !mapped(p) && all_bytes(r, MIB, 'o'),
	   "a mapping that cannot grow in place moves with its data");
	ok(vm_remap(r, 2 * MIB, 4 * MIB, &err) == r, "a mapping that moved has room to grow");
	ok(((uintptr_t)p - (uintptr_t)r) % (2 * MIB) == 0,
	   "a mapping that moved has the same place in its page table");
	vm_unmap(r, 4 * MIB);
	ok(!mapped(r) && !mapped(r + 4 * MIB - 4096) &&
		   !mapped((char *)align_down((uintptr_t)r, 2 * MIB)),
	   "a mapping that moved leaves nothing mapped");
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
		is_int(resident(p, 64 * MIB), 0, "reserved address space costs no memory");
	ok(vm_commit(p + MIB, MIB), "a part of reserved address space can be made usable");
	memset(p + MIB, 'c', MIB);
	if (tap_emulated())
		tap_skip(1, "no mincore");
	else
		is_int(resident(p, 3 * MIB), MIB / vm_os_page,
		       "usable memory costs only what is used of it");
	ok(vm_try_map_at(p, 4096) != 0, "nothing is mapped where something is");
	ok(vm_unmap(p + 2 * MIB, MIB), "a part of reserved address space can be given up");
	ok(vm_try_map_at(p + 2 * MIB, MIB) == 0 && all_bytes(p + 2 * MIB, MIB, 0),
	   "a part that was given up can be mapped again, and reads as zero");
	ok(all_bytes(p + MIB, MIB, 'c'), "memory beside a part that was given up keeps its data");
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

/* Little more address space is left than the mapping takes. */
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
	ok(good, "mappings of each alignment up to 1 GiB can be made");
	if (SANITIZED || tap_emulated())
		tap_skip(1, "a sanitizer or emulator takes more address space than this limit");
	else
		ok(child_is_well(align_in_little, NULL),
		   "under a limit an alignment costs no address space");
}

/* ---- purging -------------------------------------------------------------------------------- */

static void test_purge(void)
{
	char *p = vm_map(4 * MIB, 65536);
	uint64_t calls = stat_sum(STAT_purge_calls);

	memset(p, 'p', 4 * MIB);
	is_int(resident(p, 4 * MIB), 4 * MIB / vm_os_page,
	       "memory that was written to is in memory");
	ok(vm_purge(p + MIB, 2 * MIB), "memory can be purged");
	is_int(resident(p, 4 * MIB), 2 * MIB / vm_os_page, "purged memory costs nothing");
	ok(all_bytes(p + MIB, 2 * MIB, 0), "purged memory reads as zero");
	ok(all_bytes(p, MIB, 'p') && all_bytes(p + 3 * MIB, MIB, 'p'),
	   "memory before and behind a purged part keeps its data");
	is_int(stat_sum(STAT_purge_calls) - calls, 1, "a purge counts as one call");
	vm_unmap(p, 4 * MIB);
}

/* A kernel with pages larger than ours. */
static void test_purge_large_pages(void)
{
	size_t os_page = vm_os_page;
	char *p = vm_map(MIB, 65536);

	memset(p, 'q', MIB);
	vm_os_page = 65536;
	ok(!vm_purge(p + 16384, 16384), "with pages of 64 KiB a block of 16 is not purged");
	ok(all_bytes(p, MIB, 'q'), "a block that is not purged keeps its data");
	ok(!vm_purge(p + 16384, 65536 + 32768),
	   "with pages of 64 KiB memory without a whole page is not purged");
	ok(all_bytes(p, MIB, 'q'), "memory without a whole page keeps its data");
	ok(!vm_purge(p + 16384, 3 * 65536),
	   "memory that does not begin with a page is not zero after a purge");
	ok(all_bytes(p, 65536, 'q') && all_bytes(p + 65536, 2 * 65536, 0) &&
		   all_bytes(p + 3 * 65536, 65536, 'q'),
	   "the whole pages in such memory are purged");
	ok(vm_purge(p, 65536) && all_bytes(p, 65536, 0), "memory of whole pages is purged");
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
		ok(!vm_purge(p, 65536), "locked memory is not said to be purged");
		ok(all_bytes(p, 65536, 'l'), "locked memory keeps its data");
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
		ok(!vm_locked(p + 16384), "with pages of 64 KiB the first whole one is checked");
		mlock(p + 65536, 65536);
		ok(vm_locked(p + 16384), "with pages of 64 KiB a locked first page is noticed");
		vm_os_page = os_page;
	}
	vm_unmap(p, 3 * (size_t)65536);
}

/* ---- calls made to fail --------------------------------------------------------------------- */

/*
 * Calls are numbered while vm_fail_at is set. main sets it before the first one, so that the next
 * call's number is the count so far plus one.
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
	ok(p != NULL, "the mapping after a failed one works");
	fail_next(2, 2);
	for (unsigned i = 0; i < 4; i++)
		q[i] = vm_map(4096, 1);
	ok(q[0] && q[1] && !q[2] && !q[3], "exactly the calls that were named fail");
	vm_unmap(q[0], 4096);
	vm_unmap(q[1], 4096);
	*p = 'f';
	fail_next(0, 3 + 2);
	ok(vm_remap(p, 4096, MIB, &(int){ 0 }) == NULL && *p == 'f',
	   "a resize can be made to fail, and changes nothing");
	ok(vm_reserve(MIB, MIB) == NULL, "a reservation can be made to fail");
	ok(!vm_commit(p, 4096) && *p == 'f', "a commit can be made to fail, and changes nothing");
	fail_next(0, 1);
	ok(vm_unmap(p, 4096) && !mapped(p), "calls that give memory back cannot be made to fail");
	ok(vm_try_map_at(p, 4096) != 0 && vm_try_map_at(p, 4096) == 0,
	   "a mapping at an address can be made to fail");
	vm_unmap(p, 4096);
}

/* All places that are tried first are refused, so that too much is mapped and trimmed. */
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
		is_int(address_pages(), before, "a trimmed mapping leaves no address space behind");
}

/* The kernel refuses each way because the old mapping is really two. */
static void test_remap_refused(void)
{
	char *p = vm_map(2 * MIB, 1);
	unsigned long before;
	int err;

	if (!p || mprotect(p + MIB, MIB, PROT_NONE) != 0)
		tap_bail_out("no memory");
	*p = 'k';
	before = address_pages();
	ok(!vm_remap(p, 2 * MIB, 8 * MIB, &err) && *p == 'k' && err == EFAULT,
	   "a mapping that cannot be moved stays, and the caller learns why");
	if (tap_emulated())
		tap_skip(1, "the emulator's own address space is in the figure");
	else
		is_int(address_pages(), before, "a failed move leaves no room mapped");
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

/* mremap that finds the place it was given, and fails after it has unmapped it, as the kernel may;
 * before it returns another thread maps a page there. */
static char *volatile other;

static void fail_late(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
#if defined(__x86_64__)
	greg_t *result = &uc->uc_mcontext.gregs[REG_RAX];
	char *to = (char *)uc->uc_mcontext.gregs[REG_R8];
	size_t bytes = (size_t)uc->uc_mcontext.gregs[REG_RDX];
#else
	__typeof__(uc->uc_mcontext.regs[0]) *result = &uc->uc_mcontext.regs[0];
	char *to = (char *)uc->uc_mcontext.regs[4];
	size_t bytes = (size_t)uc->uc_mcontext.regs[2];
#endif

	(void)sig;
	(void)info;
	munmap(to, bytes);
	other = mmap(to + vm_os_page, vm_os_page, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	*other = 'o';
	*result = (__typeof__(*result))-ENOMEM;
}

/* 2 MiB that cannot grow in place. */
static char *walled(void)
{
	char *p = vm_map(3 * MIB, 1);

	if (!p || mprotect(p + 2 * MIB, MIB, PROT_NONE) != 0)
		_exit(3);
	memset(p, 'k', 2 * MIB);
	return p;
}

static void move_fails_late(void *arg)
{
	struct sigaction sa = { .sa_sigaction = fail_late, .sa_flags = SA_SIGINFO };
	char *p = walled();
	char *q;

	(void)arg;
	sigaction(SIGSYS, &sa, NULL);
	if (!filter_call(SYS_mremap, 3, MREMAP_MAYMOVE | MREMAP_FIXED, SECCOMP_RET_TRAP))
		_exit(0);
	errno = 77;
	q = vm_remap(p, 2 * MIB, 8 * MIB, &(int){ 0 });
	if (!q || errno != 77 || !all_bytes(q, 2 * MIB, 'k'))
		_exit(4);
	if (!other || !mapped(other) || *other != 'o')
		_exit(5);
}

/* The place is still reserved then, which nobody can tell; it is lost, but only once. */
static void move_refused(void *arg)
{
	unsigned long before;

	(void)arg;
	if (!refuse(SYS_mremap, 3, MREMAP_MAYMOVE | MREMAP_FIXED, ENOMEM))
		_exit(0);
	before = address_pages();
	for (unsigned i = 0; i < 5; i++) {
		char *p = walled();

		p = vm_remap(p, 2 * MIB, 8 * MIB, &(int){ 0 });
		if (!p || !all_bytes(p, 2 * MIB, 'k'))
			_exit(4);
		vm_unmap(p, 8 * MIB);
	}
	if (!SANITIZED && address_pages() - before > (8 + 5 * 1) * MIB / vm_os_page)
		_exit(5);
}

/* Where a limit is known no place is looked for, so none is lost. */
static void move_over_limit(void *arg)
{
	const struct rlimit limit = { MIB, MIB }; /* less than it has */
	char *p = walled();
	unsigned long before = address_pages();

	(void)arg;
	setrlimit(RLIMIT_DATA, &limit);
	vm_limits_read();
	if (vm_remap(p, 2 * MIB, 8 * MIB, &(int){ 0 }) || !all_bytes(p, 2 * MIB, 'k'))
		_exit(4);
	if (address_pages() != before)
		_exit(5);
}

static void test_move_refused(void)
{
	ok(child_is_well(move_fails_late, NULL),
	   "where a move fails, what another thread mapped in its place meanwhile stays");
	ok(child_is_well(move_refused, NULL), "moves that are refused cost one place at most");
	if (tap_emulated() || SANITIZED)
		tap_skip(1, "address space of the emulator or sanitizer is in the figure");
	else
		ok(child_is_well(move_over_limit, NULL),
		   "a move that a limit refuses leaves no place mapped");
}

static void test_less(void)
{
	ok(child_is_well(no_populate, NULL),
	   "where the kernel cannot populate, a touch does, and changes nothing");
	ok(child_is_well(no_memory_to_populate, NULL), "populate reports that memory is refused");
	ok(child_is_well(no_wipe, NULL),
	   "a kernel that cannot wipe a page in a fork gives no such page and leaves none mapped");
	ok(child_is_well(no_mprotect, NULL), "memory is mapped where mprotect is refused");
	ok(child_is_well(no_memory_to_commit, NULL),
	   "memory is not mapped where mprotect fails for want of memory");
}

static void test_errno(void)
{
	void *p;

	errno = 77;
	p = vm_map(4096, 1);
	vm_remap(p, 4096, (size_t)1 << 46, &(int){ 0 });
	vm_map((size_t)1 << 50, 1);
	vm_reserve((size_t)1 << 50, 1);
	vm_try_map_at(p, 4096);
	vm_commit((char *)vm_os_page, vm_os_page);
	vm_purge((char *)65536, 65536);
	vm_unmap(p, 4096);
	fail_next(0, 1);
	vm_map(4096, 1);
	is_int(errno, 77, "calls keep errno, whether they succeed or fail");
	ok(vm_map(SIZE_MAX - 100, 1) == NULL, "a size that is too large is refused");
	ok(vm_map(SIZE_MAX / 2 + 5, MIB) == NULL,
	   "a size that is too large is refused with an alignment as well");
}

/* As SLUICE_TEST_PAGE does, but at run time. */
static void test_backed(void)
{
	size_t os_page = vm_os_page;
	unsigned char backed[5] = { 9, 9, 9, 9, 9 };
	char *p = vm_map(MIB, MIB);
	bool known;

	if (!p)
		tap_bail_out("no memory");
	vm_os_page = 65536;
	p[0] = 'x';
	p[2 * vm_os_page] = 'x';
	known = vm_backed(p, 4, backed);
	if (known)
		ok((backed[0] & backed[2] & 1) && !((backed[1] | backed[3]) & 1) && backed[4] == 9,
		   "what is backed is told in one byte for each page, also of larger pages");
	else
		tap_skip(1, "no mincore");
	vm_os_page = os_page;
	vm_unmap(p, MIB);
}

int main(void)
{
	tap_plan(60);
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
	test_move_refused();
	test_less();
	test_errno();
	test_backed();
	return tap_done();
}
