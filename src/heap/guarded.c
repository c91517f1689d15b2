/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * guarded.c - objects that have a page of their own between pages without access.
 * Used by heap and sampler; uses vm, meta, stack, check.
 *
 * (A) Page 0 of the pool, and each second page after it, never has access. The pages between belong
 *     to the slots. A slot's page has access while its object is in use.
 * (B) A slot's state is changed by CAS from SLOT_NEW or SLOT_FREED to SLOT_BUSY, then a store to
 *     SLOT_USED, and back by way of SLOT_BUSY. Who made it busy owns the slot's fields.
 * (C) The slot that was freed the longest ago is used first, so that a freed object keeps its page
 *     as long as possible.
 *
 * No lock: any thread, signal handlers. A child of fork has the slots of its parent; a slot that
 * another thread was changing stays busy there. A call that makes no progress takes none.
 * Bound: a look at each slot, one or two system calls, and one stack.
 * Source: GWP-ASan (Serebryany et al. 2023), electric fence.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/guarded.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/backtrace.h"
#include "base/check.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/options.h"
#include "base/park.h"
#include "base/probe.h"
#include "base/stack.h"
#include "base/stats.h"
#include "base/sys.h"
#include "os/vm.h"
#include "page/meta.h"

#define PAD_BYTES ((size_t)64) /* looked at on each side of the object when it is freed */
#define PAD 0xa5
#define LINE_MS 1000
#define REPORT_MS (3 * BACKTRACE_MS) /* three stacks */
#define PAUSE_MS 10

enum { SLOT_NEW, SLOT_BUSY, SLOT_USED, SLOT_FREED };

struct slot {
	_Atomic uint32_t state;
	_Atomic uint64_t freed_at; /* number of the free that freed it; 0 if it is new */
	char *object;              /* its start, */
	size_t size;               /* and what was asked for */
	struct stack allocated;
	struct stack freed;
};

uintptr_t guarded_start;
size_t guarded_bytes;
static struct slot *slots;
static uint32_t slots_n;
static _Atomic uint64_t frees;
static struct sigaction before; /* what the program did on SIGSEGV at its start */

static char *slot_page(const struct slot *s)
{
	return (char *)guarded_start + (size_t)(2 * (s - slots) + 1) * vm_os_page;
}

/* The slot whose page p lies in. Returns NULL if in none. */
static struct slot *slot_of(const void *p)
{
	size_t page = ((uintptr_t)p - guarded_start) / vm_os_page;

	return page % 2 ? &slots[page / 2] : NULL;
}

static uint32_t slot_state(const struct slot *s)
{
	return atomic_load_explicit(&s->state, memory_order_acquire);
}

static bool slot_own(struct slot *s, uint32_t state)
{
	return atomic_compare_exchange_strong_explicit(&s->state, &state, SLOT_BUSY,
						       memory_order_acquire, memory_order_relaxed);
}

/* Pairs with slot_state. */
static void slot_set(struct slot *s, uint32_t state)
{
	atomic_store_explicit(&s->state, state, memory_order_release);
}

/* ---- reports -------------------------------------------------------------------------------- */

static void write_stacks(const struct slot *s)
{
	stack_write("the object was allocated by", &s->allocated);
	if (s->freed.tid)
		stack_write("the object was freed by", &s->freed);
}

static void write_call(void *arg)
{
	struct stack now;

	stack_take(&now);
	stack_write("the call was made by", &now);
	write_stacks(arg);
}

/* For a wrong call. what: says the address; the object follows. */
static _Noreturn void stop(const char *what, const void *p, struct slot *s)
{
	PROBE3(guard_report, p, s->object, s->size);
	sluice_fatal_more(write_call, s, "%s: address %p, object %p (%zu bytes)", what, p,
			  (void *)s->object, s->size);
}

static __attribute__((format(printf, 1, 2))) void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_vline("sluice: fatal: ", LINE_MS, fmt, ap);
	va_end(ap);
}

/* The slot that an access to this address was meant for: the page's own, or the nearer neighbour of
 * a guard that was ever used. */
static struct slot *slot_near(uintptr_t address)
{
	size_t page = (address - guarded_start) / vm_os_page;
	size_t left = page / 2 ? page / 2 - 1 : 0;
	size_t right = page / 2 < slots_n ? page / 2 : slots_n - 1;
	bool low = address % vm_os_page < vm_os_page / 2;

	if (page % 2)
		return &slots[page / 2];
	if (slot_state(&slots[low ? left : right]) == SLOT_NEW)
		low = !low;
	return &slots[low ? left : right];
}

static const char *access_of(const ucontext_t *u)
{
#if defined(__x86_64__) && defined(REG_ERR)
	return u->uc_mcontext.gregs[REG_ERR] & 2 ? "write" : "read";
#else
	(void)u;
	return "access";
#endif
}

static uintptr_t pc_of(const ucontext_t *u)
{
#if defined(__x86_64__) && defined(REG_RIP)
	return (uintptr_t)u->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
	return (uintptr_t)u->uc_mcontext.pc;
#else
	(void)u;
	return 0;
#endif
}

static void report(uintptr_t address, const ucontext_t *context)
{
	const struct slot *s = slot_near(address);
	uintptr_t object = (uintptr_t)s->object;
	bool freed = slot_state(s) == SLOT_FREED;
	const char *kind = "use";
	const char *where = "inside";
	size_t by = address - object;
	struct stack now;

	PROBE3(guard_report, address, s->object, s->size);
	if (slot_state(s) == SLOT_NEW) {
		say("access to memory that was never handed out: address %p", (void *)address);
		return;
	}
	if (address < object) {
		kind = "underflow";
		where = "before";
		by = object - address;
	} else if (address >= object + s->size) {
		kind = "overflow";
		where = "behind the end of";
		by = address - object - s->size;
	}
	say("%s%s: address %p, %s, %zu bytes %s object %p (%zu bytes)", kind,
	    freed ? " after free" : "", (void *)address, access_of(context), by, where,
	    (void *)object, s->size);
	stack_take_from(&now, pc_of(context));
	stack_write("the access was made by", &now);
	write_stacks(s);
}

/* What the program did before. A default action comes with the access that is tried again; or, if
 * this is a signal that was sent, by sending it again. */
static void pass_on(int sig, siginfo_t *info, void *context)
{
	struct sigaction usual;
	bool sent = info->si_code <= 0;

	if (before.sa_flags & SA_SIGINFO) {
		before.sa_sigaction(sig, info, context);
	} else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
		before.sa_handler(sig);
	} else if (!sent || before.sa_handler == SIG_DFL) {
		memset(&usual, 0, sizeof(usual));
		usual.sa_handler = SIG_DFL;
		sigaction(sig, &usual, NULL);
		if (sent)
			sys_raise(sig);
	}
}

/* Writes the report once, and lets a second thread with such a fault wait for it: the program ends
 * with the first that goes on. */
static void report_once(uintptr_t address, const void *context)
{
	static _Atomic uint32_t reporter;
	static _Atomic uint32_t done;
	uint32_t me = self_tid();
	uint32_t other = 0;

	if (atomic_compare_exchange_strong_explicit(&reporter, &other, me, memory_order_relaxed,
						    memory_order_relaxed)) {
		report(address, context);
		atomic_store_explicit(&done, 1, memory_order_relaxed);
		return;
	}
	for (unsigned ms = 0; other != me && ms < REPORT_MS; ms += PAUSE_MS) {
		if (atomic_load_explicit(&done, memory_order_relaxed))
			break;
		park_sleep_ms(PAUSE_MS);
	}
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
	int saved = errno;

	if (info->si_code > 0 && guarded_owns(info->si_addr))
		report_once((uintptr_t)info->si_addr, context);
	errno = saved;
	pass_on(sig, info, context);
}

bool guarded_init(void)
{
	uint32_t n = (uint32_t)options.guard_slots;
	size_t bytes = (2 * (size_t)n + 1) * vm_os_page;
	struct sigaction ours;
	char *start;

	slots = meta_alloc(n * sizeof(*slots));
	start = slots ? vm_reserve(bytes, vm_os_page) : NULL;
	if (!start) {
		options_say("option guard_sample: no address space for %u pages", n);
		return false;
	}
	slots_n = n;
	guarded_start = (uintptr_t)start;
	guarded_bytes = bytes;
	stack_init();
	memset(&ours, 0, sizeof(ours));
	ours.sa_sigaction = on_fault;
	ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
	sigaction(SIGSEGV, NULL, &before);
	ours.sa_mask = before.sa_mask;
	ours.sa_flags |= before.sa_flags & SA_NODEFER;
	sigaction(SIGSEGV, &ours, NULL);
	return true;
}

/* ---- objects -------------------------------------------------------------------------------- */

/* A slot for a new object, new or freed the longest ago. Returns NULL if all are in use. */
static struct slot *slot_take(uint32_t *was)
{
	for (unsigned tries = 0; tries < 2; tries++) {
		struct slot *best = NULL;
		uint64_t oldest = UINT64_MAX;

		for (struct slot *s = slots; s < slots + slots_n; s++) {
			uint32_t state = slot_state(s);
			uint64_t at = atomic_load_explicit(&s->freed_at, memory_order_relaxed);

			if ((state == SLOT_NEW || state == SLOT_FREED) && at < oldest) {
				best = s;
				oldest = at;
				*was = state;
			}
		}
		if (!best || slot_own(best, *was))
			return best;
	}
	return NULL;
}

/* Where the bytes that must not change begin and end, on both sides of the object. */
static void pads(const struct slot *s, char **low, char **high)
{
	char *page = slot_page(s);

	*low = s->object - min_size((size_t)(s->object - page), PAD_BYTES);
	*high = s->object + s->size;
	*high += min_size((size_t)(page + vm_os_page - *high), PAD_BYTES);
}

static void pads_fill(const struct slot *s)
{
	char *low;
	char *high;

	pads(s, &low, &high);
	memset(low, PAD, (size_t)(s->object - low));
	memset(s->object + s->size, PAD, (size_t)(high - s->object) - s->size);
}

static void pads_check(struct slot *s)
{
	char *low;
	char *high;

	pads(s, &low, &high);
	for (char *c = low; c < high; c++) {
		if (c == s->object)
			c += s->size;
		if (c < high && unlikely((unsigned char)*c != PAD))
			stop(c < s->object ? "object written to before its start"
					   : "object written to beyond its end",
			     c, s);
	}
}

void *guarded_alloc(size_t size)
{
	static _Atomic uint32_t calls;
	size_t align = max_size(size & (0 - size), ALIGN_MIN);
	struct slot *s;
	uint32_t was;
	char *page;

	if (size > vm_os_page)
		return NULL;
	s = slot_take(&was);
	if (!s) {
		stat_add(STAT_guard_full, 1);
		return NULL;
	}
	page = slot_page(s);
	if (unlikely(!vm_commit(page, vm_os_page))) {
		slot_set(s, was);
		return NULL;
	}
	s->size = max_size(size, 1);
	s->object = atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed) % 2
			    ? page + vm_os_page - align_up(s->size, align)
			    : page;
	pads_fill(s);
	s->freed.tid = 0;
	stack_take(&s->allocated);
	slot_set(s, SLOT_USED);
	stat_add(STAT_guard_samples, 1);
	return s->object;
}

/* Stop the program unless p is an object that is in use. */
static struct slot *slot_used(const void *p, const char *what_if_freed)
{
	struct slot *s = slot_of(p);

	if (unlikely(!s))
		sluice_fatal("free of memory that is not ours: address %p", p);
	if (unlikely(slot_state(s) == SLOT_NEW))
		sluice_fatal("block freed twice or never handed out: address %p", p);
	if (unlikely(slot_state(s) == SLOT_FREED))
		stop(what_if_freed, p, s);
	if (unlikely(p != s->object))
		stop("free of the middle of an object", p, s);
	return s;
}

void guarded_free(void *p)
{
	struct slot *s = slot_used(p, "object freed twice");

	if (unlikely(!slot_own(s, SLOT_USED)))
		stop("object freed twice", p, s);
	pads_check(s);
	stack_take(&s->freed);
	(void)vm_guard(slot_page(s), vm_os_page);
	(void)vm_purge(slot_page(s), vm_os_page);
	atomic_store_explicit(&s->freed_at,
			      atomic_fetch_add_explicit(&frees, 1, memory_order_relaxed) + 1,
			      memory_order_relaxed);
	slot_set(s, SLOT_FREED);
}

bool guarded_in_use(const void *p)
{
	struct slot *s = slot_of(p);

	return s && slot_state(s) == SLOT_USED && p == s->object;
}

size_t guarded_usable(const void *p)
{
	return slot_used(p, "size asked of an object that was freed")->size;
}
