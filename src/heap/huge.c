/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * huge.c - objects with a mapping of their own, and the table of these objects.
 * Used by heap, info and limits; uses mapcache, growth, vm.
 *
 * (A) A live object has exactly one slot, whose addr is the start of the object. The slot is
 *     claimed before huge_alloc returns the mapping, and released before the mapping is undone,
 *     because the kernel may give the same address to another thread at once.
 * (B) The addr of a slot goes EMPTY -> CLAIMED -> address -> CLAIMED or GONE -> ... and never back
 *     to EMPTY. So a probe may stop at the first EMPTY slot. It also stops where no object ever was
 *     so far from the place of its hash, because there are no EMPTY slots left after some million
 *     addresses; that depends on how many objects lived at one time.
 * (C) At most SLOTS_USED_MAX slots are in use, so that probes end. Beyond that huge_alloc returns
 *     NULL. The kernel's own limit on mappings (vm.max_map_count, 65,530 by default, 1,048,576 on
 *     some systems) may be higher. Each object here has at least 1 MiB, or was too large for the
 *     arena when no lock was available.
 * (D) An object of GUARDED_MIN bytes or more lies between two pages without access, which belong to
 *     its mapping, unless there are more than GUARDED_MAX objects, or a guard was refused lately:
 *     each with guards is two mappings for the kernel, or three. So that guards never take the last
 *     mappings, vm holds spare ones while a guard is made. With an alignment above a page it has
 *     none. Up to AT_ONCE_MAX bytes are mapped without access first, then all but the guards gets
 *     it; a longer object is mapped with access, so that the kernel refuses at once what it will
 *     not give, and a user-mode emulator makes no table of so many pages. A slot's bytes are the
 *     object's; GUARDED is added to them. Guards become accessible before the mapping goes.
 * (E) The memory of a freed object goes to mapcache. That of a new one comes from there. If it is
 *     to read as zero it is purged, unless the kernel backs most of it: then calloc writes zeros.
 *
 * (F) An object of huge_alloc_early has HIDES in its slot's bytes. When it is freed its memory goes
 *     to the kernel, and its addresses stay without access, so that a late access faults.
 *
 * Bound: one probe for a pointer, two for an object that moves, of a few slots, or some hundred
 * once the table was nearly full; a few calls of mapcache and vm.
 * Progress: lock-free. Pairing: the release store of addr, after bytes was set, with the acquire
 * load in find. Allocates nothing from other layers. Blocks in the kernel only. May run in a signal
 * handler and in a fork child, since there is no lock.
 * Source: open addressing with tombstones (Knuth 6.4).
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/huge.h"

#include <errno.h>

#include "base/atomics.h"
#include "base/check.h"
#include "base/delay.h"
#include "base/options.h"
#include "base/probe.h"
#include "base/stats.h"
#include "os/vm.h"
#include "page/growth.h"
#include "page/mapcache.h"
#include "page/zone.h"

#define SLOT_BITS 17
#define SLOTS (UINT32_C(1) << SLOT_BITS)
#define SLOTS_USED_MAX (SLOTS / 4 * 3)
#define TAIL_MAX ((size_t)256 << 10)
#define GUARDED_MIN ((size_t)1 << 20)
#define GUARDED_MAX 4096u             /* objects; at most 12,288 of the 65,530 mappings */
#define AT_ONCE_MAX ((size_t)1 << 36) /* bytes (D) */
#define UNGUARDED_AFTER 256u          /* objects that are made without guards after a refusal */
/* In a slot's bytes, which are whole pages otherwise. */
#define GUARDED ((size_t)1)
#define HIDES ((size_t)2) /* (F) */
#define FLAGS (GUARDED | HIDES)

enum { SLOT_EMPTY = 0, SLOT_GONE = 1, SLOT_CLAIMED = 2 };

struct slot {
	_Atomic uintptr_t addr;
	_Atomic size_t bytes;
};

static struct slot slots[SLOTS]; /* in .bss, so the kernel backs only the pages that are used */

/* Which groups of slots were ever claimed, a bit each. A walk reads no others, because a kernel
 * without a page of zeros backs also what is only read. Set before the claim, never cleared; an
 * object that a walk must see was made before it. */
#define GROUP ((uint32_t)(4096 / sizeof(struct slot)))
static _Atomic uint64_t groups[SLOTS / GROUP / 64];

static _Atomic uint32_t used;
static _Atomic uint64_t mapped; /* bytes of live objects */

/* How many of the next objects get no guards. */
static _Atomic uint32_t unguarded_next;

/* The most steps from the place of its hash that an object ever was. Relaxed: it is raised before
 * the address is published, and a caller has the address from there. */
static _Atomic uint32_t reach;

static uint32_t hash(uintptr_t addr)
{
	return (uint32_t)(((uint64_t)addr >> 12) * UINT64_C(0x9e3779b97f4a7c15) >>
			  (64 - SLOT_BITS));
}

uint32_t huge_look_most(void)
{
	return atomic_load_explicit(&reach, memory_order_relaxed);
}

static struct slot *find(uintptr_t addr)
{
	uint32_t most = atomic_load_explicit(&reach, memory_order_relaxed);
	uint32_t i = hash(addr);

	for (uint32_t n = 0; n <= most; n++, i = (i + 1) & (SLOTS - 1)) {
		uintptr_t a = atomic_load_explicit(&slots[i].addr, memory_order_acquire);

		if (a == addr)
			return &slots[i];
		if (a == SLOT_EMPTY)
			return NULL;
	}
	return NULL;
}

static bool group_is_used(uint32_t i)
{
	return atomic_load_explicit(&groups[i / GROUP / 64], memory_order_relaxed) >>
		       i / GROUP % 64 &
	       1;
}

static void group_use(uint32_t i)
{
	if (!group_is_used(i))
		atomic_fetch_or_explicit(&groups[i / GROUP / 64], UINT64_C(1) << i / GROUP % 64,
					 memory_order_relaxed);
}

/* For walks over all slots, from i on: the next one that may hold an object; SLOTS if none. */
static uint32_t next_used(uint32_t i)
{
	while (i < SLOTS && !group_is_used(i))
		i += GROUP - i % GROUP;
	return i;
}

/* Count one more slot in use. Returns false if the table is full. */
static bool count_in(void)
{
	SHARE_COUNT(huge_used);
	if (atomic_fetch_add_explicit(&used, 1, memory_order_relaxed) < SLOTS_USED_MAX)
		return true;
	atomic_fetch_sub_explicit(&used, 1, memory_order_relaxed);
	return false;
}

static void note_reach(uint32_t steps)
{
	uint32_t most = atomic_load_explicit(&reach, memory_order_relaxed);

	while (unlikely(steps > most) &&
	       !atomic_compare_exchange_weak_explicit(&reach, &most, steps, memory_order_relaxed,
						      memory_order_relaxed))
		;
}

/* Claim a slot on the probe sequence of addr. The caller has counted it. */
static struct slot *claim(uintptr_t addr)
{
	uint32_t i = hash(addr);

	for (uint32_t n = 0;; n++, i = (i + 1) & (SLOTS - 1)) {
		uintptr_t a;

		group_use(i);
		a = atomic_load_explicit(&slots[i].addr, memory_order_relaxed);

		if (a <= SLOT_GONE &&
		    atomic_compare_exchange_strong_explicit(&slots[i].addr, &a, SLOT_CLAIMED,
							    memory_order_relaxed,
							    memory_order_relaxed)) {
			note_reach(n);
			return &slots[i];
		}
	}
}

static void fill(struct slot *s, uintptr_t addr, size_t bytes)
{
	atomic_store_explicit(&s->bytes, bytes, memory_order_relaxed);
	atomic_store_explicit(&s->addr, addr, memory_order_release);
}

static void give_up(struct slot *s)
{
	atomic_store_explicit(&s->addr, SLOT_GONE, memory_order_relaxed);
}

/* Claim the slot of a live object, so that no other thread finds the object. One caller
 * succeeds. */
static struct slot *seize(const void *p, size_t *bytes)
{
	uintptr_t addr = (uintptr_t)p;
	struct slot *s = addr > SLOT_CLAIMED ? find(addr) : NULL;

	if (!s)
		return NULL;
	*bytes = atomic_load_explicit(&s->bytes, memory_order_relaxed);
	return atomic_compare_exchange_strong_explicit(&s->addr, &addr, SLOT_CLAIMED,
						       memory_order_acquire, memory_order_relaxed)
		       ? s
		       : NULL;
}

/* The length of the mapping for an object; 0 if it is too long. */
static size_t length_of(size_t size)
{
	size_t bytes = align_up(size ? size : 1, vm_os_page);

	return bytes < size || bytes > PTRDIFF_MAX ? 0 : bytes;
}

/* ---- guards ------------------------------------------------------------------------------- */

/* The mapping of an object. */
struct span {
	char *at;
	size_t bytes;
	size_t guard; /* bytes without access at each end, or 0 */
	bool front;   /* whether the guard is accessible now */
	bool back;
	bool hides; /* (F) */
};

static struct span span_of(void *p, size_t slot_bytes)
{
	size_t guard = slot_bytes & GUARDED ? vm_os_page : 0;

	return (struct span){ .at = (char *)p - guard,
			      .bytes = (slot_bytes & ~FLAGS) + 2 * guard,
			      .guard = guard,
			      .hides = (slot_bytes & HIDES) != 0 };
}

static size_t usable_of(const struct span *m)
{
	return m->bytes - 2 * m->guard;
}

/* A guard was not made, or must not be: it would take the last mappings (vm.max_map_count). */
static void no_guards(void)
{
	refusal_note(&unguarded_next, UNGUARDED_AFTER);
}

/* Bytes of a guard for an object of that size, which count_in has counted. */
static size_t guard_for(size_t bytes, size_t align)
{
	if (bytes < GUARDED_MIN || align > vm_os_page ||
	    atomic_load_explicit(&used, memory_order_relaxed) > GUARDED_MAX ||
	    refusal_is_recent(&unguarded_next))
		return 0;
	return vm_os_page;
}

static void guard_ends(const struct span *m)
{
	char *end = m->at + m->bytes - m->guard;
	bool front;
	bool back;

	if (!m->guard || (!m->front && !m->back))
		return;
	front = vm_spare_hold() && (!m->front || vm_guard(m->at, m->guard));
	back = front && (!m->back || vm_guard(end, m->guard));
	if (back && vm_spare_is_held())
		return;
	if (front)
		(void)vm_commit(m->at, m->guard);
	if (back)
		(void)vm_commit(end, m->guard);
	no_guards();
}

static bool unguard_front(struct span *m)
{
	m->front = true;
	return !m->guard || vm_commit(m->at, m->guard);
}

static bool unguard_back(struct span *m)
{
	m->back = true;
	return !m->guard || vm_commit(m->at + m->bytes - m->guard, m->guard);
}

/* ---- objects ------------------------------------------------------------------------------ */

/* Makes a mapping an object, which count_in has counted. */
static void *begin(const struct span *m)
{
	char *p = m->at + m->guard;

	guard_ends(m);
	SHARE_COUNT(huge_mapped);
	atomic_fetch_add_explicit(&mapped, usable_of(m), memory_order_relaxed);
	SHARE_COUNT(huge_slot);
	DELAY_HERE(huge_claimed);
	fill(claim((uintptr_t)p), (uintptr_t)p,
	     usable_of(m) | (m->guard ? GUARDED : 0) | (m->hides ? HIDES : 0));
	stat_add(STAT_huge_allocs, 1);
	PROBE2(huge_map, p, usable_of(m));
	return p;
}

/* There is no memory for it. */
static void *none(void)
{
	atomic_fetch_sub_explicit(&used, 1, memory_order_relaxed);
	return NULL;
}

/* A new mapping for an object. Without its guards if they cannot be made. Returns false if there is
 * no memory. */
static bool fresh(struct span *m, size_t align)
{
	bool guarded;

	m->front = m->back = m->bytes > AT_ONCE_MAX;
	m->at = m->guard && !m->front ? vm_map_guarded(m->bytes, m->guard) : NULL;
	guarded = m->at || m->front;
	if (!m->at)
		m->at = vm_map(m->bytes, align);
	/* What is kept may be all that is missing, of address space or of mappings. */
	if (unlikely(!m->at) && mapcache_drain())
		m->at = vm_map(m->bytes, align);
	if (!m->at)
		return false;
	if (m->guard && !guarded)
		no_guards();
	vm_thp_as_set(m->at, m->bytes);
	return true;
}

void *huge_alloc(size_t size, size_t align)
{
	size_t bytes = length_of(size);
	struct span m = { .bytes = bytes };

	if (!bytes || !count_in())
		return NULL;
	m.guard = guard_for(bytes, align);
	m.bytes += 2 * m.guard;
	return fresh(&m, align) ? begin(&m) : none();
}

void *huge_alloc_early(size_t size)
{
	size_t bytes = length_of(size);
	struct span m = { .bytes = bytes + 2 * vm_os_page, .guard = vm_os_page, .hides = true };

	if (!bytes || refusal_is_recent(&unguarded_next) || !count_in())
		return NULL;
	growth_before_mapping(&zone_main, huge_bytes(), m.bytes);
	return fresh(&m, 1) ? begin(&m) : none();
}

/* A mapping that is kept and too short, made longer: its front causes no page faults. */
static void *lengthened(size_t bytes)
{
	size_t had;
	void *old = mapcache_take_longest(bytes / 2, &had);
	void *p = old && had < bytes ? vm_remap(old, had, bytes, &(int){ 0 }) : NULL;

	if (old && !p)
		mapcache_free(old, had, huge_bytes());
	return p;
}

/* Whether to write zeros costs less than page faults, and adds little memory that the kernel did
 * not back. */
static bool mostly_backed(const struct span *m)
{
	uint64_t backed = vm_resident(m->at, m->bytes);

	return backed != VM_UNKNOWN && backed >= m->bytes / 4 * 3;
}

void *huge_alloc_kept(size_t size, bool grows, bool *zero)
{
	size_t bytes = length_of(size);
	bool wants_zero = *zero;
	struct span m = { .bytes = bytes, .front = true, .back = true };

	*zero = false;
	if (!bytes || !count_in())
		return NULL;
	m.guard = guard_for(bytes, 1);
	m.bytes += 2 * m.guard;
	m.at = mapcache_take(&m.bytes, grows);
	if (m.at) {
		stat_add(STAT_huge_reused, 1);
		*zero = wants_zero && !mostly_backed(&m) && vm_purge(m.at, m.bytes);
		return begin(&m);
	}
	growth_before_mapping(&zone_main, huge_bytes(), m.bytes);
	mapcache_missed(m.bytes);
	if (!wants_zero)
		m.at = lengthened(m.bytes);
	if (m.at)
		return begin(&m);
	*zero = true;
	return fresh(&m, 1) ? begin(&m) : none();
}

static size_t bytes_in(struct slot *s)
{
	return atomic_load_explicit(&s->bytes, memory_order_relaxed) & ~FLAGS;
}

bool huge_is_early(const void *p)
{
	const struct slot *s = (uintptr_t)p > SLOT_CLAIMED ? find((uintptr_t)p) : NULL;

	return s && atomic_load_explicit(&s->bytes, memory_order_relaxed) & HIDES;
}

size_t huge_usable(const void *p)
{
	struct slot *s = (uintptr_t)p > SLOT_CLAIMED ? find((uintptr_t)p) : NULL;

	return s ? bytes_in(s) : 0;
}

bool huge_free(void *p)
{
	size_t bytes;
	struct slot *s = seize(p, &bytes);
	struct span m;
	uint64_t left;

	if (!s)
		return false;
	SHARE_COUNT(huge_slot);
	SHARE_COUNT(huge_used);
	SHARE_COUNT(huge_mapped);
	DELAY_HERE(huge_seized);
	give_up(s);
	atomic_fetch_sub_explicit(&used, 1, memory_order_relaxed);
	m = span_of(p, bytes);
	bytes = usable_of(&m);
	PROBE2(huge_unmap, p, bytes);
	left = atomic_fetch_sub_explicit(&mapped, bytes, memory_order_relaxed) - bytes;
	if (!m.hides || !vm_hide(p, bytes))
		mapcache_free(m.at, m.bytes, left); /* with its guards, which it makes accessible */
	return true;
}

/* Makes a mapping shorter, in place. */
static size_t shrink(char *at, size_t old, size_t bytes)
{
	mapcache_free(at + bytes, old - bytes, huge_bytes() - (old - bytes));
	return bytes;
}

/* Makes an object longer by what is kept behind it. */
static size_t grow(char *p, size_t old, size_t bytes)
{
	return old + mapcache_take_at(p + old, bytes - old);
}

/* Makes an object longer by the kernel, if need be with the address space of what is kept. */
static void *remapped(void *p, size_t old, size_t bytes, bool *scarce)
{
	int err;
	void *q;

	growth_before_mapping(&zone_main, huge_bytes(), bytes - old);
	mapcache_missed(bytes - old);
	q = vm_remap(p, old, bytes, &err);
	if (unlikely(!q) && err != EFAULT && mapcache_drain())
		q = vm_remap(p, old, bytes, &err);
	*scarce = !q && err != EFAULT;
	return q;
}

/* The kernel joins what the program or a fork treated differently no more: then an object loses its
 * guards, and is made longer without them. */
static void *unguarded(struct span *m, size_t *bytes, bool *scarce)
{
	vm_unmap(m->at, m->guard);
	vm_unmap(m->at + m->bytes - m->guard, m->guard);
	m->at += m->guard;
	m->bytes -= 2 * m->guard;
	*bytes -= 2 * m->guard;
	m->guard = 0;
	return remapped(m->at, m->bytes, *bytes, scarce);
}

/* How much longer than asked for an object of `bytes` may be. To cut it off would cost more than it
 * is worth. */
static size_t tail_of(size_t bytes)
{
	return align_down(min_size(bytes / 16, TAIL_MAX), vm_os_page);
}

/* The length that an object gets which becomes longer. If the step is shorter than a tail, more
 * such steps will follow: they need no system call while they fit into the tail. */
static size_t with_tail(size_t old, size_t bytes)
{
	size_t tail = tail_of(bytes);
	size_t limit;

	if (bytes - old > tail || options.zero_on_free || options.check == CHECK_FULL ||
	    vm_address_limited(&limit))
		return bytes;
	return bytes + tail;
}

/* Makes the mapping shorter or longer, and moves it if it has to. Its guards are accessible where
 * that is needed. Returns false if the kernel refused. */
static bool resize(struct span *m, size_t bytes, bool *scarce)
{
	size_t old = m->bytes;
	size_t wanted;
	char *q;

	if (bytes <= old && old - bytes <= tail_of(old))
		return true;
	if (bytes < old) {
		m->back = true; /* the old one goes with the tail */
		m->bytes = shrink(m->at, old, bytes);
		return true;
	}
	*scarce = !unguard_back(m);
	if (*scarce)
		return false;
	wanted = with_tail(old, bytes);
	m->bytes = grow(m->at, old, wanted);
	if (m->bytes >= bytes)
		return true;
	*scarce = !unguard_front(m);
	if (*scarce)
		return false;
	q = remapped(m->at, m->bytes, wanted, scarce);
	if (q)
		bytes = wanted;
	else if (*scarce && wanted > bytes)
		q = remapped(m->at, m->bytes, bytes, scarce);
	if (!q && !*scarce && m->guard)
		q = unguarded(m, &bytes, scarce);
	if (!q)
		return false;
	m->at = q;
	m->bytes = bytes;
	return true;
}

void *huge_realloc(void *p, size_t size, bool *scarce)
{
	size_t bytes = length_of(size);
	size_t old;
	struct slot *s = bytes ? seize(p, &old) : NULL;
	struct span m;
	uint64_t had;
	size_t now;
	bool good;
	char *q;

	*scarce = false;
	if (!s)
		return NULL;
	m = span_of(p, old);
	had = usable_of(&m);
	good = resize(&m, bytes + 2 * m.guard, scarce);
	guard_ends(&m);
	q = m.at + m.guard;
	now = usable_of(&m);
	SHARE_COUNT(huge_mapped);
	atomic_fetch_add_explicit(&mapped, (uint64_t)now - had, memory_order_relaxed);
	now |= m.guard ? GUARDED : 0;
	if (q == p) {
		fill(s, (uintptr_t)p, now);
		return good ? p : NULL;
	}
	give_up(s); /* the new slot takes over its count */
	fill(claim((uintptr_t)q), (uintptr_t)q, now);
	return q;
}

uint64_t huge_bytes(void)
{
	return atomic_load_explicit(&mapped, memory_order_relaxed);
}

void huge_count(uint64_t *objects, uint64_t *bytes)
{
	uint32_t left = atomic_load_explicit(&used, memory_order_relaxed);

	*objects = 0;
	*bytes = 0;
	for (uint32_t i = next_used(0); i < SLOTS && *objects < left; i = next_used(i + 1)) {
		if (atomic_load_explicit(&slots[i].addr, memory_order_acquire) > SLOT_CLAIMED) {
			(*objects)++;
			*bytes += bytes_in(&slots[i]);
		}
	}
}

void huge_each(void (*see)(void *arg, void *addr, size_t bytes), void *arg)
{
	for (uint32_t i = next_used(0); i < SLOTS; i = next_used(i + 1)) {
		uintptr_t addr = atomic_load_explicit(&slots[i].addr, memory_order_acquire);

		if (addr > SLOT_CLAIMED)
			see(arg, (void *)addr, bytes_in(&slots[i]));
	}
}

struct covering {
	uintptr_t at;
	void *block; /* NULL if none */
	size_t bytes;
};

static void see_covering(void *arg, void *addr, size_t bytes)
{
	struct covering *c = arg;

	if (c->at - (uintptr_t)addr < bytes) {
		c->block = addr;
		c->bytes = bytes;
	}
}

void huge_stop(const char *what, const char *otherwise, const void *p)
{
	struct covering c = { .at = (uintptr_t)p };

	huge_each(see_covering, &c);
	if (c.block)
		sluice_fatal("%s of the middle of a large block: address %p, block %p (%zu bytes)",
			     what, p, c.block, c.bytes);
	sluice_fatal("%s of memory that is not ours%s: address %p", what, otherwise, p);
}
