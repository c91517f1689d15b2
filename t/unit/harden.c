/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A process is hardened after it has allocated: without memory it is not, and says so; otherwise
 * the blocks that there are remain valid.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/options.h"
#include "heap/claim.h"
#include "heap/harden.h"
#include "heap/heap.h"
#include "heap/livebits.h"
#include "heap/trim.h"
#include "lib/child.h"
#include "lib/core.h"
#include "lib/refuse.h"
#include "lib/tap.h"
#include "os/vm.h"
#include "page/zone.h"

#define BLOCKS 200u

static void *block[BLOCKS];

static size_t size_of(unsigned i)
{
	return 1 + (size_t)i * i * 3;
}

static void begin(const char *settings)
{
	if (options_parse(settings, "test"))
		tap_bail_out("settings are refused");
	for (unsigned i = 0; i < BLOCKS; i++)
		if (!(block[i] = heap_alloc(size_of(i))))
			tap_bail_out("no memory");
}

static void without_memory(void *arg)
{
	begin("check:full,canary:1");
	options.vm_fail_count = 1 << 30;
	options.vm_fail_at = 1;
	harden_init();
	options.vm_fail_at = 0;
	if (heap_hooks)
		_exit(1);
	for (unsigned i = 0; i < BLOCKS; i++)
		heap_free(block[i]);
	(void)arg;
}

static void test_start(void)
{
	struct child c;

	child_run(&c, without_memory, NULL);
	ok(c.status == 0 && strstr(c.stderr, "have no effect: no memory for the bits"),
	   "hardening that finds no memory says that it has no effect, and the program goes on");
}

static void with_blocks(void *arg)
{
	begin("profile:hardened");
	harden_init();
	if (!heap_hooks)
		_exit(1);
	for (unsigned i = 0; i < BLOCKS; i++) {
		if (heap_usable(block[i]) < size_of(i))
			_exit(2);
		if (i % 4 == 1)
			block[i] = heap_realloc(block[i], size_of(i) - size_of(i) / 5);
		else if (i % 4 == 2)
			block[i] = heap_realloc(block[i], size_of(i) * 2);
		if (i % 4 != 3)
			heap_check_size(block[i],
					i % 4 == 1   ? size_of(i) - size_of(i) / 5
					: i % 4 == 2 ? size_of(i) * 2
						     : size_of(i),
					1, false);
		heap_free(block[i]);
	}
	(void)arg;
}

static void freed_twice(void *arg)
{
	begin("check:full");
	harden_init();
	heap_free(block[100]);
	for (unsigned i = 0; i < 1000; i++)
		heap_free(heap_alloc(size_of(100)));
	heap_free(block[100]);
	(void)arg;
}

static void test_blocks_before(void)
{
	struct child c;

	child_run(&c, with_blocks, NULL);
	ok(c.status == 0 && !c.stderr[0], "blocks from before the start can be used and freed");
	ok(child_is_stopped(freed_twice, NULL, "object freed twice"),
	   "a second free of one is noticed");
}

#define TRIES 2600u
#define BITS_BYTES sizeof(struct live_bits)

/* Blocks of many sizes, beyond one region, whose live bits the kernel refuses. */
static void without_bits(void *arg)
{
	static const size_t sizes[] = { 480, 70000, 100, 114000, 3000, 20000 };
	static char *p[TRIES];

	begin("profile:hardened,guard_sample:0,zones:1");
	harden_init();
	if (!refuse(SYS_mmap, 1, BITS_BYTES, ENOMEM))
		_exit(77);
	for (unsigned i = 0; i < TRIES; i++) {
		size_t n = sizes[i % 6];

		p[i] = heap_alloc(n);
		if (p[i])
			memset(p[i], 'a', n);
	}
	for (unsigned i = 0; i < TRIES; i++)
		heap_free(p[i]);
	for (unsigned i = 0; i < TRIES; i++)
		heap_free(heap_alloc(sizes[i % 6]));
	(void)arg;
}

static uint64_t used_after(unsigned frees)
{
	for (unsigned i = 0; i < frees; i++) {
		heap_free(heap_alloc(128 << 10));
		heap_free(heap_alloc(100)); /* a call that releases no run tries again */
	}
	pcp_drain(heap_pcp());
	return zone_used_pages(&zone_main);
}

/* Blocks without access leave the quarantine while the kernel gives no access to any. */
static void without_access(void *arg)
{
	uint64_t before;

	begin("profile:hardened,guard_sample:0,quarantine:1m,zones:1");
	harden_init();
	before = used_after(2000);
	options.vm_fail_count = 1 << 30;
	options.vm_fail_at = 1;
	used_after(2000);
	options.vm_fail_at = 0;
	if (used_after(20000) > before + 64)
		_exit(1);
	(void)arg;
}

/* One test: fn ends well in a child, or with 77 if it cannot run here. */
static void runs_well(void (*fn)(void *), const char *needs, const char *label)
{
	struct child c;

	child_run(&c, fn, NULL);
	if (WIFEXITED(c.status) && WEXITSTATUS(c.status) == 77) {
		tap_skip(1, "%s", needs);
		return;
	}
	ok(c.status == 0, "%s", label);
	if (c.status)
		tap_diag("status 0x%x, standard error: %s", (unsigned)c.status, c.stderr);
}

static void test_refused(void)
{
	ok(child_is_well(without_access, NULL),
	   "a block that gets no access when it leaves the quarantine is not lost");
	runs_well(without_bits, "no seccomp",
		  "without memory for its bits a region is not made, and no block is stopped "
		  "for bytes that nobody wrote");
}

#define PAIRS (50 * DIRECT_CALLS)

/* Most calls are done in the fast path's critical section; one in DIRECT_CALLS of the mallocs, and
 * few of the frees, do what others asked of the heap. */
static void counts_slow(void *arg)
{
	uint32_t mallocs = 0;
	uint32_t frees = 0;

	begin("profile:hardened,guard_sample:0");
	harden_init();
	for (unsigned i = 0; i < 2000; i++) /* the quarantine is full then */
		heap_free(heap_alloc(64));
	for (unsigned i = 0; i < PAIRS; i++) {
		uint32_t before = heap_self->slow_calls;
		void *p = heap_alloc(64);
		uint32_t between = heap_self->slow_calls;

		heap_free(p);
		mallocs += between - before;
		frees += heap_self->slow_calls - between;
	}
	/* One of DIRECT_CALLS mallocs, and one of 32 to 128 frees. A malloc that finds few objects
	 * ready counts as two calls, and costs two more if the slabs lack one, so the shares
	 * vary. */
	if (mallocs < 20 || frees < 20)
		_exit(1);
	if (mallocs > 100 || frees > 100)
		_exit(2);
	(void)arg;
}

static void test_slow(void)
{
	ok(child_is_well(counts_slow, NULL),
	   "few mallocs and frees take the general way, and some of both do");
}

#define LONG_BLOCK ((size_t)20 << 20)

/* A long block of which little was written: what zero_on_free does with it costs no memory. */
static void clears_long(void *arg)
{
	char *p;
	uint64_t backed;

	begin("zero_on_free:1");
	harden_init();
	p = heap_alloc(LONG_BLOCK);
	p[0] = p[LONG_BLOCK / 2] = p[LONG_BLOCK - 1] = 1;
	heap_free(p);
	backed = vm_resident(p, LONG_BLOCK);
	if (backed != VM_UNKNOWN && backed > LONG_BLOCK / 4)
		_exit(1);
	p = heap_alloc(LONG_BLOCK);
	if (p[0] || p[LONG_BLOCK / 2] || p[LONG_BLOCK - 1])
		_exit(2);
	heap_free(p);
	(void)arg;
}

/* Many objects of many classes lie ready only as far as a limit on the bins allows. */
static void counts_ready(void *arg)
{
	static void *p[HIDDEN_MAX * 4];
	unsigned n = sizeof(p) / sizeof(*p);
	uint64_t more = 0;

	begin("check:full,guard_sample:0");
	harden_init();
	heap_bins_count_from(0);
	heap_bins_most = 16384;
	for (size_t size = 16; size <= 256; size += 16) {
		for (unsigned i = 0; i < n; i++)
			p[i] = heap_alloc(size);
		for (unsigned i = 0; i < n; i++)
			heap_free(p[i]);
	}
	for (unsigned cls = 0; cls < CLASSES; cls++)
		if (heap_self->hidden[cls] > HIDDEN_FIRST)
			more += (heap_self->hidden[cls] - HIDDEN_FIRST) * class_size(cls);
	if (!more || more > heap_bins_most || heap_bins_bytes < more)
		_exit(1);
	if (heap_enter_slow(heap_self)) {
		heap_trim(heap_self);
		heap_exit_free(heap_self);
	}
	_exit(heap_bins_bytes ? 2 : 0);
	(void)arg;
}

#if defined(__x86_64__) && defined(__GLIBC__)
static int allocates(void *arg)
{
	heap_free(heap_alloc(100));
	return arg != NULL;
}

/* A thread that libc does not know: made by clone, with a TLS of its own (t/helpers/clone.c). */
static void raw_thread(void *arg)
{
	static char stack[1 << 18] __attribute__((aligned(16)));
	void *sym = dlsym(RTLD_DEFAULT, "_dl_allocate_tls");
	void *(*allocate_tls)(void *);
	char *self = (char *)pthread_self();
	char *tls;
	int status = -1;
	pid_t pid;

	begin("check:full");
	harden_init();
	if (!sym || !*live_one_thread)
		_exit(77);
	memcpy(&allocate_tls, &sym, sizeof(sym));
	tls = allocate_tls(NULL);
	((char **)(void *)tls)[0] = tls;
	((char **)(void *)tls)[2] = tls;
	memcpy(tls + 40, self + 40, 16); /* the guards of the stack protector and of pointers */
	pid = clone(allocates, stack + sizeof(stack), CLONE_VM | CLONE_SETTLS | SIGCHLD, NULL, NULL,
		    tls, NULL);
	if (pid < 0)
		_exit(77);
	if (waitpid(pid, &status, 0) != pid || status)
		_exit(1);
	_exit(*live_one_thread ? 2 : 0);
	(void)arg;
}
#else
static void raw_thread(void *arg)
{
	_exit(77);
	(void)arg;
}
#endif

static void test_threads(void)
{
	runs_well(raw_thread, "needs glibc 2.32 or later, x86-64",
		  "from the first call of a thread that libc does not know on, all frees are "
		  "atomic operations");
}

static void test_long(void)
{
	ok(child_is_well(clears_long, NULL),
	   "a long block that was freed reads as zero and costs no memory");
}

int main(void)
{
	tap_plan(9);
	options.early_checks = 1; /* the default, which tap.c takes away */
	heap_init();
	test_start();
	test_blocks_before();
	test_refused();
	test_slow();
	test_long();
	test_threads();
	ok(child_is_well(counts_ready, NULL),
	   "a limit on what the bins hold counts the objects that lie ready");
	return tap_done();
}
