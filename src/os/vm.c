/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vm.c - see vm.h. The only file that calls mmap, munmap, mprotect, mremap and madvise.
 * Used by all layers that map, populate or purge memory; uses the primitives.
 *
 * (A) A purge is rounded inward to kernel pages. If kernel pages are larger than ours, a block that
 *     fills none is left alone and stays dirty.
 * (B) Sizes of mappings are multiples of the kernel's page. Callers ask in multiples of ours, and
 *     this file rounds up.
 *
 * Bound: one system call. An aligned mapping takes at most 20, none for more than the mapping and
 * its alignment; a mapping that grows at most 9 more.
 * No lock, no allocation; blocks in the kernel (mmap_lock); may run in a signal handler and in a
 * fork child.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "os/vm.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "base/check.h"
#include "base/delay.h"
#include "base/options.h"
#include "base/probe.h"
#include "base/sandbox.h"
#include "base/stats.h"
#include "base/sys.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#define MADV_KEEPONFORK 19
#endif

#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define TABLE_BYTES ((size_t)2 << 20) /* what the lowest page table maps */

size_t vm_os_page = 4096;

/* The smaller of RLIMIT_AS and RLIMIT_DATA when last read. */
static _Atomic size_t address_limit = SIZE_MAX;

void vm_init(void)
{
	unsigned long n = sys_auxval(AT_PAGESZ);

	if (n > vm_os_page)
		vm_os_page = n;
	vm_limits_read();
}

static size_t limit_of(const struct rlimit *rl)
{
	return rl->rlim_cur == RLIM_INFINITY ? SIZE_MAX : (size_t)rl->rlim_cur;
}

/* Keeps errno. */
void vm_limits_read(void)
{
	int saved = errno;
	struct rlimit rl;

	if (!sandbox_enter())
		return;
	/* Reserved space counts only for RLIMIT_AS, usable space for both. */
	if (sys_getrlimit(RLIMIT_AS, &rl) == 0) {
		size_t limit = limit_of(&rl);

		if (sys_getrlimit(RLIMIT_DATA, &rl) == 0)
			limit = min_size(limit, limit_of(&rl));
		atomic_store_explicit(&address_limit, limit, memory_order_relaxed);
	}
	sandbox_leave();
	errno = saved;
}

/* Counts a call. Returns whether fault injection makes it fail. */
static bool injected_fault(void)
{
	static _Atomic uint64_t calls;
	uint64_t n;

	stat_add(STAT_vm_calls, 1);
	if (likely(!options.vm_fail_at))
		return false;
	n = atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed) + 1;
	return n >= options.vm_fail_at && n - options.vm_fail_at < options.vm_fail_count;
}

/* The kernel refuses an address that is not the start of one of its pages. It rounds a length up by
 * itself. */
static void check_page(const void *addr)
{
	DCHECK(((uintptr_t)addr & (vm_os_page - 1)) == 0);
	(void)addr;
}

/* ---- spare mappings ------------------------------------------------------------------------ */

/*
 * A place of three pages that is three mappings for the kernel, held while optional mappings are
 * made (guards of huge objects): the process then has these three left for what it needs. 0 if none
 * is held. Who makes a guard loads the word afterwards; a call that the kernel refused exchanges
 * the word, unmaps the place and calls again. If the load came first, the guard existed before the
 * place was released, so it did not take what that released.
 */
static _Atomic uintptr_t spare;

/* The outer pages can be read, so that the kernel does not join them with guards or reserved space,
 * which would make them fewer mappings. */
bool vm_spare_hold(void)
{
	int saved = errno;
	uintptr_t none = 0;
	bool held = vm_spare_is_held();
	char *p = MAP_FAILED;

	if (!held && !injected_fault())
		p = sys_mmap(NULL, 3 * vm_os_page, PROT_READ,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
	if (p != MAP_FAILED) {
		held = sys_mprotect(p + vm_os_page, vm_os_page, PROT_NONE) == 0;
		if (!held || !atomic_compare_exchange_strong_explicit(&spare, &none, (uintptr_t)p,
								      memory_order_seq_cst,
								      memory_order_relaxed))
			sys_munmap(p, 3 * vm_os_page);
	}
	errno = saved;
	return held;
}

bool vm_spare_is_held(void)
{
	return atomic_load_explicit(&spare, memory_order_seq_cst) != 0;
}

/* Whether to make a call again: the kernel refused it for lack of memory or mappings, and there are
 * more mappings now. */
static bool again(bool refused)
{
	uintptr_t at = refused && errno == ENOMEM && vm_spare_is_held()
			       ? atomic_exchange_explicit(&spare, 0, memory_order_seq_cst)
			       : 0;

	return at && sys_munmap((void *)at, 3 * vm_os_page) == 0;
}

/* ---- calls --------------------------------------------------------------------------------- */

/* Returns NULL and sets *err if the kernel refuses. */
static void *try_map(void *hint, size_t bytes, int prot, int flags, int *err)
{
	int saved = errno;
	void *p;

	*err = ENOMEM;
	if (injected_fault())
		return NULL;
	do
		p = sys_mmap(hint, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags);
	while (again(p == MAP_FAILED));
	*err = p == MAP_FAILED ? errno : 0;
	/* The program may have set a limit since. */
	if (*err == ENOMEM)
		vm_limits_read();
	errno = saved;
	return p == MAP_FAILED ? NULL : p;
}

static bool unmap(void *addr, size_t bytes)
{
	int saved = errno;
	bool good;

	do
		good = sys_munmap(addr, bytes) == 0; /* the kernel rounds up */
	while (again(!good));
	errno = saved;
	return good;
}

static void *map(void *hint, size_t bytes, int prot, int flags)
{
	int err;

	return try_map(hint, bytes, prot, flags, &err);
}

/* As vm_try_map_at. Before Linux 4.17 the address of MAP_FIXED_NOREPLACE is only a hint. */
static int map_exactly(void *addr, size_t bytes, int prot, int flags)
{
	int err;
	void *p = try_map(addr, bytes, prot, flags | MAP_FIXED_NOREPLACE, &err);

	if (!p)
		return err == EEXIST || err == EINVAL ? -EEXIST : -ENOMEM;
	if (p != addr) {
		unmap(p, bytes);
		return -EEXIST;
	}
	return 0;
}

/*
 * Avoids asking for more than is needed, which a limit on address space might refuse: if the
 * kernel's choice is not aligned, tries the aligned places below it. Only the last resort maps too
 * much and unmaps the excess.
 */
static void *map_aligned(size_t bytes, size_t align, int prot, int flags)
{
	char *p = map(NULL, bytes, prot, flags);
	uintptr_t at;
	size_t front;

	if (!p || ((uintptr_t)p & (align - 1)) == 0)
		return p;
	unmap(p, bytes);
	at = align_down((uintptr_t)p, align);
	for (unsigned i = 0; i < 16 && at > align; i++, at -= align) {
		if (map_exactly((void *)at, bytes, prot, flags) == 0)
			return (void *)at;
	}
	if (bytes + align < bytes)
		return NULL;
	p = map(NULL, bytes + align, prot, flags);
	if (!p)
		return NULL;
	front = align_up((uintptr_t)p, align) - (uintptr_t)p;
	if (front)
		unmap(p, front);
	if (align - front)
		unmap(p + front + bytes, align - front);
	return p + front;
}

int vm_mappings_refused(void)
{
	int saved = errno;
	size_t limit;
	int err;
	char *p = try_map(NULL, 3 * vm_os_page, PROT_NONE, MAP_NORESERVE, &err);

	if (p) {
		/* The middle becomes a mapping of its own: two more. */
		err = sys_mprotect(p + vm_os_page, vm_os_page, PROT_READ) != 0 && errno == ENOMEM
			      ? ENOMEM
			      : 0;
		unmap(p, 3 * vm_os_page);
	}
	errno = saved;
	return vm_address_limited(&limit) ? 0 : -err;
}

void *vm_reserve(size_t bytes, size_t align)
{
	return map_aligned(bytes, align, PROT_NONE, MAP_NORESERVE);
}

int vm_try_map_at(void *addr, size_t bytes)
{
	return map_exactly(addr, bytes, PROT_READ | PROT_WRITE, 0);
}

void *vm_map(size_t bytes, size_t align)
{
	return map_aligned(align_up(bytes, vm_os_page), max_size(align, vm_os_page),
			   PROT_READ | PROT_WRITE, 0);
}

void *vm_map_guarded(size_t bytes, size_t guard)
{
	int saved = errno;
	char *p = vm_spare_hold() ? map_aligned(bytes, vm_os_page, PROT_NONE, 0) : NULL;

	/* Not vm_commit: a guard must not take the spare mappings. */
	if (p && (sys_mprotect(p + guard, bytes - 2 * guard, PROT_READ | PROT_WRITE) != 0 ||
		  !vm_spare_is_held())) {
		unmap(p, bytes);
		p = NULL;
	}
	errno = saved;
	return p;
}

void *vm_map_once(size_t bytes, size_t align)
{
	char *p = map(NULL, bytes + align, PROT_READ | PROT_WRITE, MAP_NORESERVE);
	char *at = (char *)align_up((uintptr_t)p, align);

	if (at != p)
		unmap(p, (size_t)(at - p));
	return at;
}

void *vm_map_wiped(void)
{
	int saved = errno;
	void *p = vm_map(vm_os_page, vm_os_page);

	if (p && sys_madvise(p, vm_os_page, MADV_WIPEONFORK) != 0) {
		vm_unmap(p, vm_os_page);
		p = NULL;
	}
	errno = saved;
	return p;
}

bool vm_commit(void *addr, size_t bytes)
{
	int saved = errno;
	bool good;

	check_page(addr);
	if (injected_fault())
		return false;
	do
		good = sys_mprotect(addr, bytes, PROT_READ | PROT_WRITE) == 0;
	while (again(!good));
	/* A sandbox that refuses mprotect may allow mmap. Only reserved space is replaced. */
	if (!good && errno != ENOMEM)
		good = sys_mmap(addr, bytes, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED) !=
		       MAP_FAILED;
	/* As in try_map. */
	else if (!good)
		vm_limits_read();
	errno = saved;
	return good;
}

void vm_read_only(void *addr, size_t bytes, bool only)
{
	int saved = errno;
	int err = sys_mprotect(addr, bytes, only ? PROT_READ : PROT_READ | PROT_WRITE);

	(void)err;
	errno = saved;
}

bool vm_guard(void *addr, size_t bytes)
{
	int saved = errno;
	bool good = sys_mprotect(addr, bytes, PROT_NONE) == 0;

	errno = saved;
	return good;
}

/* Lets the kernel back [addr, addr + bytes) with huge pages as they are touched, or forbids it. */
static void vm_thp(void *addr, size_t bytes, bool wanted)
{
	int saved = errno;

	check_page(addr);
	/* A kernel without huge pages refuses, which does no harm. */
	(void)sys_madvise(addr, bytes, wanted ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	errno = saved;
}

void vm_thp_as_set(void *addr, size_t bytes)
{
	if (options.thp == THP_NEVER || options.thp == THP_RESERVE)
		vm_thp(addr, bytes, false);
	else if (options.thp == THP_ALWAYS)
		vm_thp(addr, bytes, true);
}

void vm_thp_forbid(void *addr, size_t bytes)
{
	vm_thp(addr, bytes, false);
}

bool vm_thp_on_request;

void vm_thp_init(void)
{
	const char *path = "/sys/kernel/mm/transparent_hugepage/enabled";
	int saved = errno;
	char text[64];
	int fd;
	ssize_t n;

	if (vm_os_page != 4096 || !sandbox_enter())
		return; /* with larger pages, huge ones are larger, too */
	fd = sys_open(path, O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC, 0);
	n = fd < 0 ? 0 : sys_read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		sys_close(fd);
	sandbox_leave();
	text[n > 0 ? n : 0] = '\0';
	vm_thp_on_request = strstr(text, "[madvise]") != NULL;
	errno = saved;
}

/*
 * Touches the memory: a page fault takes only the lock of the mapping, which no other thread uses
 * while it is marked. MADV_POPULATE_WRITE would hold the lock of the address space while the kernel
 * clears a huge page.
 */
void vm_populate_thp(void *addr, size_t bytes)
{
	vm_thp(addr, bytes, true);
	atomic_fetch_or_explicit((_Atomic uint8_t *)addr, 0, memory_order_relaxed);
	vm_thp(addr, bytes, false);
}

bool vm_locked(void *addr)
{
	int saved = errno;
	/* Any other address would be refused as well as locked memory (EINVAL). */
	void *page = (void *)align_up((uintptr_t)addr, vm_os_page);
	bool locked = sys_madvise(page, vm_os_page, MADV_DONTNEED) != 0;

	errno = saved;
	return locked;
}

static void *remap(void *addr, size_t old_bytes, size_t bytes, int flags, void *to, int *err)
{
	int saved = errno;
	void *p;

	check_page(addr);
	*err = ENOMEM;
	if (injected_fault())
		return NULL;
	/* A place that is given (MREMAP_FIXED) may be another thread's by the second time. */
	do
		p = sys_mremap(addr, old_bytes, bytes, flags, to);
	while (again(p == MAP_FAILED && flags == MREMAP_MAYMOVE));
	*err = p == MAP_FAILED ? errno : 0;
	errno = saved;
	return p == MAP_FAILED ? NULL : p;
}

/* Whether a place was lost once: then mappings move without room, so that none is lost again. */
static _Atomic bool place_lost;

/*
 * The kernel refused to move a mapping to [at, at + bytes) in a place that was reserved for it. It
 * may have unmapped that part of the place before, and another thread may have a mapping there
 * since, so the part is unmapped only if it was free and is ours again. Otherwise it may still be
 * reserved, and is lost: address space, but no memory.
 */
static void leave_place(char *place, size_t room, char *at, size_t bytes)
{
	if (map_exactly(at, bytes, PROT_NONE, MAP_NORESERVE) == 0) {
		unmap(place, room);
		return;
	}
	atomic_store_explicit(&place_lost, true, memory_order_relaxed);
	if (at != place)
		unmap(place, (size_t)(at - place));
	unmap(at + bytes, room - bytes - (size_t)(at - place));
}

/*
 * Moves a mapping to a place with as much room behind it again, so that one that grows step by step
 * rarely moves. Keeps its distance from the start of a page table, so that the kernel moves tables
 * and not entries.
 */
static void *move_to_room(char *addr, size_t old_bytes, size_t bytes, int *err)
{
	size_t front = (uintptr_t)addr & (TABLE_BYTES - 1);
	size_t room = front + 2 * bytes;
	size_t limit;
	char *place;
	char *p;

	/* Where a limit is known the move may be refused, and room counts. */
	if (room <= bytes || vm_address_limited(&limit) ||
	    atomic_load_explicit(&place_lost, memory_order_relaxed))
		return NULL;
	place = vm_reserve(room, TABLE_BYTES);
	if (!place)
		return NULL;
	p = remap(addr, old_bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, place + front, err);
	if (!p) {
		leave_place(place, room, place + front, bytes);
		return NULL;
	}
	if (front)
		unmap(place, front);
	unmap(p + bytes, bytes);
	return p;
}

void *vm_remap(void *addr, size_t old_bytes, size_t bytes, int *err)
{
	void *p;

	old_bytes = align_up(old_bytes, vm_os_page);
	bytes = align_up(bytes, vm_os_page);
	p = remap(addr, old_bytes, bytes, 0, NULL, err);
	if (!p && *err != EFAULT)
		p = move_to_room(addr, old_bytes, bytes, err);
	if (!p && *err != EFAULT)
		p = remap(addr, old_bytes, bytes, MREMAP_MAYMOVE, NULL, err);
	/* As in try_map. */
	if (!p && *err == ENOMEM)
		vm_limits_read();
	return p;
}

bool vm_make_ordinary(void *addr, size_t bytes)
{
	int saved = errno;
	bool good;

	check_page(addr);
	good = sys_mprotect(addr, bytes, PROT_READ | PROT_WRITE) == 0;
	if (good) {
		/* A kernel without the second one (before Linux 4.14) has nothing to undo. */
		(void)sys_madvise(addr, bytes, MADV_DOFORK);
		(void)sys_madvise(addr, bytes, MADV_KEEPONFORK);
	}
	errno = saved;
	return good;
}

bool vm_unmap(void *addr, size_t bytes)
{
	check_page(addr);
	return unmap(addr, bytes);
}

bool vm_cold(void *addr, size_t bytes)
{
	int saved = errno;
	bool good;

	check_page(addr);
	good = sys_madvise(addr, bytes, MADV_COLD) == 0;
	errno = saved;
	return good;
}

bool vm_purge(void *addr, size_t bytes)
{
	int saved = errno;
	uintptr_t first = align_up((uintptr_t)addr, vm_os_page);
	uintptr_t last = align_down((uintptr_t)addr + bytes, vm_os_page);
	bool whole = first == (uintptr_t)addr && last == first + bytes;

	if (last <= first)
		return false;
	stat_add(STAT_purge_calls, 1);
	PROBE2(purge, first, last - first);
	DELAY_HERE(vm_purge);
	if (sys_madvise((void *)first, last - first, MADV_DONTNEED) != 0)
		whole = false; /* locked in memory (EINVAL): it stays dirty */
	errno = saved;
	return whole;
}

bool vm_hide(void *addr, size_t bytes)
{
	int saved = errno;
	bool good = vm_purge(addr, bytes);

	/* Of several mappings the kernel changes some before it refuses. If it does not change
	 * those back either, the range counts as hidden. */
	if (good && sys_mprotect(addr, bytes, PROT_NONE) != 0)
		good = sys_mprotect(addr, bytes, PROT_READ | PROT_WRITE) != 0;
	errno = saved;
	return good;
}

/* Before Linux 5.14 there is no such call; a write that changes nothing does the same. */
bool vm_populate(void *addr, size_t bytes)
{
	int saved = errno;
	uintptr_t first = align_down((uintptr_t)addr, vm_os_page);
	uintptr_t last = align_up((uintptr_t)addr + bytes, vm_os_page);
	bool good;

	if (injected_fault())
		return false;
	DELAY_HERE(vm_populate);
	good = sys_madvise((void *)first, last - first, MADV_POPULATE_WRITE) == 0;
	if (!good && errno == EINVAL) {
		for (uintptr_t at = first; at < last; at += vm_os_page)
			atomic_fetch_or_explicit((_Atomic uint8_t *)at, 0, memory_order_relaxed);
		good = true;
	}
	errno = saved;
	return good;
}

bool vm_address_limited(size_t *limit)
{
	*limit = atomic_load_explicit(&address_limit, memory_order_relaxed);
	return *limit != SIZE_MAX;
}

/* ---- what is backed ------------------------------------------------------------------------ */

#define PAGE_LEAST ((size_t)4096) /* bytes of the shortest page of any kernel */

/* The kernel fills in one byte for each of its pages. They may be shorter than it says: under an
 * emulator, or where a test has made the page larger. The first one of each page tells then. */
static bool ask_longer(uintptr_t at, size_t pages, unsigned char *backed)
{
	enum { UNTOUCHED = 0xff };
	unsigned char vec[256]; /* not more: the caller's stack may be short */
	size_t most = sizeof(vec) * PAGE_LEAST / vm_os_page;

	for (size_t i = 0; i < pages; i += most) {
		size_t n = min_size(most, pages - i);
		size_t step = vm_os_page / PAGE_LEAST;

		memset(vec, UNTOUCHED, n * step);
		if (sys_mincore((const void *)(at + i * vm_os_page), n * vm_os_page, vec) != 0)
			return false;
		while (step > 1 && vec[n * step - 1] == UNTOUCHED)
			step /= 2;
		for (size_t k = 0; k < n; k++)
			backed[i + k] = vec[k * step];
	}
	return true;
}

static bool ask_resident(uintptr_t at, size_t pages, unsigned char *backed)
{
	bool good = vm_os_page > PAGE_LEAST
			    ? ask_longer(at, pages, backed)
			    : sys_mincore((const void *)at, pages * PAGE_LEAST, backed) == 0;

	if (!good)
		memset(backed, 0, pages);
	return good;
}

/* For each of n pages whether it is backed, in bit 0; what is not mapped is not. */
static bool ask_pieces(uintptr_t at, size_t n, unsigned char *backed)
{
	size_t most = n;

	while (n) {
		size_t here = min_size(n, most);

		if (!ask_resident(at, here, backed)) {
			if (errno != ENOMEM)
				return false;
			if (here > 1) {
				most = here / 2; /* some of it is not mapped */
				continue;
			}
		} else {
			most *= 2;
		}
		at += here * vm_os_page;
		backed += here;
		n -= here;
	}
	return true;
}

static uint64_t count_resident(uintptr_t at, uintptr_t end)
{
	unsigned char backed[512]; /* as in ask_longer */
	uint64_t pages = 0;

	while (at < end) {
		size_t n = min_size((end - at + vm_os_page - 1) / vm_os_page, sizeof(backed));

		if (!ask_pieces(at, n, backed))
			return VM_UNKNOWN;
		for (size_t i = 0; i < n; i++)
			pages += backed[i] & 1;
		at += n * vm_os_page;
	}
	return pages * vm_os_page;
}

/* Asks by calls that the loader makes at each start: the filter may kill for prctl as well. Reads
 * short pieces, because the caller's stack may be that of a fiber. */
static bool says_unfiltered(void)
{
	static const char line[] = "\nSeccomp:\t0\n";
	char text[256];
	size_t had = 0;
	bool said = false;
	ssize_t n;
	int fd = sys_open("/proc/self/status", O_RDONLY | O_CLOEXEC, 0);

	if (fd < 0)
		return false;
	while (!said && (n = sys_read(fd, text + had, sizeof(text) - 1 - had)) > 0) {
		had += (size_t)n;
		text[had] = '\0';
		said = strstr(text, line) != NULL;
		/* What may be the line's first bytes. */
		n = (ssize_t)min_size(had, sizeof(line) - 2);
		memmove(text, text + had - n, (size_t)n);
		had = (size_t)n;
	}
	sys_close(fd);
	return said;
}

/* Whether the process began with a filter, which may kill for mincore: systemd's @system-service
 * does not list it. */
static bool is_filtered(void)
{
	enum { UNKNOWN, NO, YES };
	static _Atomic uint32_t known;
	uint32_t is = atomic_load_explicit(&known, memory_order_relaxed);

	if (is == UNKNOWN) {
		is = says_unfiltered() ? NO : YES;
		atomic_store_explicit(&known, is, memory_order_relaxed);
	}
	return is == YES;
}

uint64_t vm_resident(const void *addr, size_t bytes)
{
	uintptr_t at = align_down((uintptr_t)addr, vm_os_page);
	uint64_t n = VM_UNKNOWN;
	int saved = errno;

	if (sandbox_enter()) {
		if (!is_filtered())
			n = count_resident(at, (uintptr_t)addr + bytes);
		sandbox_leave();
	}
	errno = saved;
	return n;
}

bool vm_backed(const void *addr, size_t n, unsigned char *backed)
{
	bool known = false;
	int saved = errno;

	if (sandbox_enter()) {
		known = !is_filtered() && ask_pieces((uintptr_t)addr, n, backed);
		sandbox_leave();
	}
	errno = saved;
	return known;
}
