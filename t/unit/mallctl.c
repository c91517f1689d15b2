/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The interface of jemalloc: the x-functions, and mallctl by names and by mibs.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/options.h"
#include "heap/claim.h"
#include "heap/heap.h"
#include "heap/huge.h"
#include "shim/init.h"
#include "shim/jemalloc.h"
#include "shim/mallctl.h"
#include "lib/core.h"
#include "lib/tap.h"

static size_t size_value(const char *name)
{
	size_t v = SIZE_MAX;
	size_t len = sizeof(v);

	if (mallctl(name, &v, &len, NULL, 0))
		tap_bail_out("mallctl %s fails", name);
	return v;
}

static void refresh(void)
{
	uint64_t epoch = 1;
	size_t len = sizeof(epoch);

	if (mallctl("epoch", &epoch, &len, &epoch, len))
		tap_bail_out("mallctl epoch fails");
}

static bool is_filled(const unsigned char *p, size_t from, size_t to, unsigned char c)
{
	for (size_t i = from; i < to; i++)
		if (p[i] != c)
			return false;
	return true;
}

/* The first large block of a process has a mapping of its own, in which it cannot be resized. */
static void test_rallocx_of_the_first(void)
{
	unsigned char *p = mallocx(100000, 0);
	bool first = huge_is_early(p);
	size_t now;
	bool zero;

	memset(p, 1, sallocx(p, 0));
	p = rallocx(p, 70000, MALLOCX_ZERO);
	now = sallocx(p, 0);
	ok(first && now == nallocx(70000, 0) && is_filled(p, 0, 70000, 1),
	   "rallocx gives the first large block the length that nallocx tells, too");
	p = rallocx(p, now + 1, MALLOCX_ZERO);
	zero = is_filled(p, now, sallocx(p, 0), 0);
	ok(zero, "what it grows by is zero");
	p = rallocx(p, 70000, 8 /* alignment of 256 */);
	is_int(sallocx(p, 0), nallocx(70000, 8),
	       "a large block has the length that nallocx tells after each rallocx, too");
	dallocx(p, 0);
}

/* Each size and alignment: nallocx tells what sallocx says, and zeroed memory is zero. */
static void test_sizes(void)
{
	unsigned lengths = 0;
	unsigned aligned = 0;
	unsigned zeroed = 0;
	unsigned n = 0;

	for (size_t size = 1; size < (size_t)5 << 20; size += size / 5 + 1) {
		for (int lg = 0; lg <= 21; lg++, n++) {
			size_t good = nallocx(size, lg);
			unsigned char *p = mallocx(size, lg | MALLOCX_ZERO);

			if (!p)
				tap_bail_out("mallocx(%zu, %d) is NULL", size, lg);
			lengths += sallocx(p, 0) == good && heap_usable(p) == good;
			aligned += ((uintptr_t)p & (((uintptr_t)1 << lg) - 1)) == 0;
			zeroed += is_filled(p, 0, good, 0);
			memset(p, 1, good);
			sdallocx(p, size, lg);
		}
	}
	is_int(lengths, n, "nallocx and sallocx agree, for all sizes and alignments");
	is_int(aligned, n, "mallocx aligns as asked");
	is_int(zeroed, n, "MALLOCX_ZERO gives zeros over the whole length");
	ok(!mallocx(SIZE_MAX, 0) && nallocx(SIZE_MAX, 0) == 0 && !mallocx(1, 63),
	   "what no memory can hold is NULL, and 0 for nallocx");
}

/* Each new block is filled by an earlier user, so that a zero in it was written. */
static void dirty(size_t size)
{
	void *many[64];

	for (unsigned i = 0; i < 64; i++) {
		many[i] = mallocx(size, 0);
		memset(many[i], 7, sallocx(many[i], 0));
	}
	for (unsigned i = 0; i < 64; i++)
		dallocx(many[i], 0);
}

static void test_rallocx_shrinks(void)
{
	bool exact = true;
	bool zeros = true;

	for (size_t size = 8192; size >= 16; size -= size / 8) {
		unsigned char *p = mallocx(size, MALLOCX_ZERO);
		size_t to = size - size / 6;

		dirty(to);
		p = rallocx(p, to, MALLOCX_ZERO);
		exact &= sallocx(p, 0) == nallocx(to, 0);
		zeros &= is_filled(p, 0, sallocx(p, 0), 0);
		p = rallocx(p, to, 8 /* alignment of 256 */ | MALLOCX_ZERO);
		exact &= sallocx(p, 0) == nallocx(to, 8);
		zeros &= is_filled(p, 0, sallocx(p, 0), 0);
		dallocx(p, 0);
	}
	ok(exact, "a small block has the length that nallocx tells after each rallocx");
	ok(zeros, "with MALLOCX_ZERO, what was zero stays zero when the block moves");
}

static void test_rallocx(void)
{
	bool kept = true;
	bool zeros = true;
	unsigned char *p = mallocx(10, 0);
	size_t old = sallocx(p, 0);

	memset(p, 1, old);
	for (size_t size = 100; size < (size_t)40 << 20; size *= 3) {
		p = rallocx(p, size, MALLOCX_ZERO);
		if (!p)
			tap_bail_out("rallocx(%zu) is NULL", size);
		kept &= is_filled(p, 0, old, 1);
		zeros &= is_filled(p, old, sallocx(p, 0), 0);
		old = sallocx(p, 0);
		memset(p, 1, old);
	}
	ok(kept, "rallocx keeps what the block held");
	ok(zeros, "with MALLOCX_ZERO, what is new is zero");
	p = rallocx(p, 5000, 16 /* alignment of 64 KiB */);
	ok(p && ((uintptr_t)p & 65535) == 0 && is_filled(p, 0, 5000, 1),
	   "rallocx to another alignment moves the block and keeps its contents");
	ok(!rallocx(p, SIZE_MAX, 0) && is_filled(p, 0, 5000, 1),
	   "a rallocx that fails leaves the block as it was");
	dallocx(p, 0);
	test_rallocx_shrinks();
}

static void test_xallocx(void)
{
	unsigned char *small = mallocx(100, 0);
	unsigned char *large = mallocx(100000, 0);
	size_t old = sallocx(large, 0);
	size_t now;

	is_int(xallocx(small, 10000, 0, 0), sallocx(small, 0),
	       "xallocx leaves a small object as it is");
	memset(large, 1, old);
	now = xallocx(large, 300000, 500000, MALLOCX_ZERO);
	is_int(now, sallocx(large, 0), "xallocx tells the length that the block has then");
	ok(now >= 300000 && is_filled(large, 0, old, 1) && is_filled(large, old, now, 0),
	   "a large block grows in place where there is room, and what is new is zero");
	now = xallocx(large, 100000, 0, 0);
	ok(now < 200000 && now >= 100000 && is_filled(large, 0, 100000, 1), "it shrinks in place");
	is_int(xallocx(large, SIZE_MAX - 10, 100, 0), sallocx(large, 0),
	       "a size that no memory can hold changes nothing");
	dallocx(small, 0);
	dallocx(large, 0);
}

/* Every row is found by its name and by its mib, and rows that begin alike stand together. */
static void test_table(void)
{
	unsigned found = 0;
	unsigned by_mib = 0;

	for (unsigned i = 0; i < ctl_rows_count; i++) {
		char name[128];
		size_t mib[CTL_PARTS];
		size_t len = CTL_PARTS;
		char text[16];
		size_t bytes = 1;

		snprintf(name, sizeof(name), "%s", ctl_rows[i].name);
		for (char *c = name; *c; c++)
			if (*c == '%')
				*c = '0';
		found += mallctlnametomib(name, mib, &len) == 0 && mib[len - 1] == i;
		if (ctl_rows[i].get && !ctl_rows[i].creates)
			by_mib += mallctlbymib(mib, len, text, &bytes, NULL, 0) ==
				  (ctl_rows[i].type == CTL_BOOL ? 0 : EINVAL);
		else
			by_mib++;
	}
	is_int(found, ctl_rows_count, "each name has a mib that ends with its row");
	is_int(by_mib, ctl_rows_count, "each value is read by its mib; a length of 1 is wrong");
}

static void test_errors(void)
{
	size_t v = 0;
	size_t len = sizeof(v);
	bool b = false;
	unsigned u = 0;

	ok(mallctl("no.such.name", &v, &len, NULL, 0) == ENOENT &&
		   mallctl("", &v, &len, NULL, 0) == ENOENT &&
		   mallctl("stats", &v, &len, NULL, 0) == ENOENT &&
		   mallctl("stats.allocated.more", &v, &len, NULL, 0) == ENOENT &&
		   mallctl("stats.allocate", &v, &len, NULL, 0) == ENOENT,
	   "a name that does not exist, or is no whole one, is ENOENT");
	ok(mallctl("arenas.bin.68.size", &v, &len, NULL, 0) == ENOENT &&
		   mallctl("arenas.bin.x.size", &v, &len, NULL, 0) == ENOENT &&
		   mallctl("arenas.bin..size", &v, &len, NULL, 0) == ENOENT &&
		   mallctl("arenas.bin.99999999999999999999.size", &v, &len, NULL, 0) == ENOENT,
	   "so is an index that does not exist");
	is_int(mallctl("stats.allocated", NULL, NULL, &v, len), EPERM,
	       "a write of what is read-only is EPERM");
	is_int(mallctl("thread.tcache.flush", &v, &len, NULL, 0), EPERM,
	       "so is a read of what only does something");
	len = 3;
	ok(mallctl("stats.allocated", &v, &len, NULL, 0) == EINVAL && len == 3,
	   "a length that does not fit is EINVAL");
	is_int(mallctl("background_thread", NULL, NULL, &u, sizeof(u)), EINVAL,
	       "so is that of a new value");
	len = sizeof(b);
	ok(mallctl("config.stats", &b, &len, NULL, 0) == 0 && b, "a bool is read as one");
	is_int(mallctl("arena.0.dss", NULL, NULL, &(const char *){ "nonsense" },
		       sizeof(const char *)),
	       EFAULT, "a word that is not valid is EFAULT");
}

/* What the review of this interface found. */
static void test_mibs(void)
{
	size_t mib[CTL_PARTS];
	size_t len = CTL_PARTS;
	size_t wrong[CTL_PARTS];
	size_t v = 0;
	size_t bytes = sizeof(v);
	unsigned made = 0;

	/* With 60 arenas an index may be the number of a row. */
	for (unsigned arena, i = 0; i < 60; i++) {
		size_t unsigned_len = sizeof(arena);

		made += mallctl("arenas.create", &arena, &unsigned_len, NULL, 0) == 0;
	}
	for (unsigned i = 0; i < 60; i++) {
		char name[32];

		bytes = 1;
		snprintf(name, sizeof(name), "arena.%u", i);
		made -= mallctl(name, NULL, NULL, NULL, 0) == ENOENT &&
			mallctl(name, &v, &bytes, NULL, 0) == ENOENT;
	}
	is_int(made, 0, "a name that ends with an index is ENOENT");
	if (mallctlnametomib("stats.arenas.0.small.allocated", mib, &len))
		tap_bail_out("no mib");
	bytes = sizeof(v);
	ok(mallctlbymib(mib, len, &v, &bytes, NULL, 0) == 0, "a mib reads its value");
	made = 0;
	for (size_t i = 0; i < len; i++) {
		if (i == 2)
			continue; /* the index */
		for (size_t w = 0; w < ctl_rows_count + 10; w++) {
			memcpy(wrong, mib, sizeof(mib));
			wrong[i] = w;
			made += i + 1 < len && w != mib[i] &&
				mallctlbymib(wrong, len, &v, &bytes, NULL, 0) != ENOENT;
		}
	}
	is_int(made, 0, "each word of a mib counts, not only the last");
	is_int(mallctlbymib((size_t[]){ ctl_rows_count - 1, ctl_rows_count - 1 }, 2, &v, &bytes,
			    NULL, 0),
	       ENOENT, "the first words of a name are no name");
}

static void test_order(void)
{
	uint64_t epoch = 0;
	uint64_t next = 0;
	size_t len = sizeof(epoch);
	ssize_t ms = 7;
	size_t ms_len = sizeof(ms);
	unsigned arena = 7;
	bool on = true;
	void *p = mallocx(10, 0);

	ok(mallctl("epoch", &epoch, &len, NULL, 0) == 0 &&
		   mallctl("epoch", &next, &len, &next, len) == 0 && next == epoch + 1,
	   "a call that writes epoch reads the new one");
	len = 3;
	ok(mallctl("arenas.dirty_decay_ms", &ms, &len, &(ssize_t){ 4321 }, ms_len) == EINVAL &&
		   options.decay_ms != 4321,
	   "a wrong length of the old value leaves the value as it is");
	len = sizeof(arena);
	ok(mallctl("arenas.lookup", &arena, &len, NULL, 0) == EINVAL &&
		   mallctl("arenas.lookup", &arena, &len, &(void *){ NULL }, sizeof(p)) == EINVAL &&
		   mallctl("arenas.lookup", &arena, &len, &p, 4) == EINVAL && arena == 7,
	   "arenas.lookup without a pointer of ours is EINVAL");
	ok(mallctl("arenas.lookup", &arena, &len, &p, sizeof(p)) == 0 && arena == 0,
	   "with one it gives the arena");
	ok(mallctl("arenas.create", &arena, &len, &p, sizeof(p)) == EAGAIN &&
		   mallctl("arenas.create", NULL, NULL, NULL, 0) == EINVAL,
	   "arenas.create makes none with hooks, nor where its number cannot be read");
	ok(mallctl("prof.dump", NULL, NULL, NULL, 0) == ENOENT &&
		   mallctl("prof.reset", NULL, NULL, NULL, 0) == ENOENT &&
		   mallctl("prof.dump", &arena, &len, NULL, 0) == EPERM &&
		   mallctl("tcache.flush", NULL, NULL, NULL, 0) == EPERM,
	   "prof.dump and prof.reset may be called without a value");
	len = sizeof(on);
	ok(mallctl("thread.prof.active", &on, &len, &(bool){ true }, len) == ENOENT && !on &&
		   mallctl("prof.thread_active_init", &on, &len, &(bool){ true }, len) == ENOENT &&
		   !on && mallctl("thread.prof.active", &on, &len, &(bool){ false }, len) == 0,
	   "without a profile no thread is in it");
	dallocx(p, 0);
}

static void test_statistics(void)
{
	void *small[1000];
	void *big = mallocx((size_t)3 << 20, 0);
	size_t bin = 0;
	char name[64];
	size_t before;

	while (nallocx(1000, 0) != class_size((unsigned)bin))
		bin++;
	snprintf(name, sizeof(name), "stats.arenas.0.bins.%zu.curregs", bin);
	refresh();
	before = size_value("stats.allocated");
	for (unsigned i = 0; i < 1000; i++)
		small[i] = mallocx(1000, 0);
	is_int(size_value("stats.allocated"), before, "statistics stay until epoch is written");
	refresh();
	is_int(size_value("stats.allocated") - before, 1000 * nallocx(1000, 0),
	       "stats.allocated counts live objects, and not those in caches");
	is_int(size_value(name), 1000, "so does curregs of their bin");
	ok(size_value("stats.arenas.0.large.allocated") >= (size_t)3 << 20,
	   "large.allocated counts large ones");
	ok(size_value("stats.active") >= size_value("stats.allocated") &&
		   size_value("stats.resident") >= size_value("stats.active") &&
		   size_value("stats.metadata") > 0,
	   "allocated <= active <= resident, and there is metadata");
	for (unsigned i = 0; i < 1000; i++)
		dallocx(small[i], 0);
	dallocx(big, 0);
	refresh();
	before = size_value("stats.arenas.0.pdirty");
	ok(mallctl("thread.tcache.flush", NULL, NULL, NULL, 0) == 0 &&
		   mallctl("arena.4096.purge", NULL, NULL, NULL, 0) == 0 &&
		   mallctl("arena.0.decay", NULL, NULL, NULL, 0) == 0,
	   "a flush, a purge and a decay succeed");
	refresh();
	ok(size_value("stats.arenas.0.pdirty") < before, "and leave fewer dirty pages");
	is_int(size_value("stats.arenas.0.tcache_bytes"), 0, "and nothing in caches");
}

static void test_settings(void)
{
	ssize_t ms = 0;
	size_t len = sizeof(ms);
	unsigned arena = 0;
	unsigned cache = 0;
	size_t unsigned_len = sizeof(arena);
	void *p;

	ok(mallctl("arenas.dirty_decay_ms", &ms, &len, &(ssize_t){ 5000 }, len) == 0 &&
		   ms == 1000 && options.decay_ms == 5000,
	   "dirty_decay_ms is the option decay_ms");
	ok(mallctl("arena.0.dirty_decay_ms", NULL, NULL, &(ssize_t){ -1 }, len) == 0 &&
		   mallctl("arena.0.dirty_decay_ms", &ms, &len, NULL, 0) == 0 && ms == -1 &&
		   options.decay_ms == 3600000,
	   "-1 is the longest time, and reads back as -1");
	is_int(mallctl("arena.0.dirty_decay_ms", NULL, NULL, &(ssize_t){ -2 }, len), EFAULT,
	       "-2 is EFAULT");
	ok(mallctl("opt.dirty_decay_ms", &ms, &len, NULL, 0) == 0 && ms == 1000,
	   "opt.dirty_decay_ms stays what it was at the start");
	ok(mallctl("arenas.create", &arena, &unsigned_len, NULL, 0) == 0 && arena == 1 &&
		   mallctl("thread.arena", NULL, NULL, &arena, sizeof(arena)) == 0 &&
		   mallctl("arena.1.purge", NULL, NULL, NULL, 0) == 0,
	   "an arena is a number that a thread may choose");
	is_int(mallctl("thread.arena", NULL, NULL, &(unsigned){ 2 }, sizeof(arena)), EFAULT,
	       "one that was not made is EFAULT");
	ok(mallctl("tcache.create", &cache, &unsigned_len, NULL, 0) == 0 &&
		   mallctl("tcache.flush", NULL, NULL, &cache, sizeof(cache)) == 0 &&
		   mallctl("tcache.destroy", NULL, NULL, &cache, sizeof(cache)) == 0,
	   "explicit caches can be made, flushed and destroyed");
	p = mallocx(100, (int)((arena + 1) << 20 | (cache + 2) << 8));
	ok(p != NULL, "mallocx takes an arena and a cache");
	dallocx(p, (int)((cache + 2) << 8));
}

static char text[1 << 20];

static void append(void *arg, const char *part)
{
	size_t *n = arg;
	size_t len = strlen(part);

	if (*n + len < sizeof(text))
		memcpy(text + *n, part, len + 1);
	*n += len;
}

/* Depth of braces at the end, or -1 if one closes that was not open. */
static int depth_at_end(void)
{
	int depth = 0;

	for (const char *c = text; *c; c++) {
		depth += *c == '{' || *c == '[';
		depth -= *c == '}' || *c == ']';
		if (depth < 0)
			return -1;
	}
	return depth;
}

static void test_print(void)
{
	size_t n = 0;

	malloc_stats_print(append, &n, "J");
	ok(strncmp(text, "{\"jemalloc\":{\"version\":\"5.", 25) == 0 && depth_at_end() == 0 &&
		   strstr(text, "\"stats.arenas\":{\"merged\":{\"nthreads\":"),
	   "J gives JSON in jemalloc's shape");
	ok(strstr(text, "\"bin\":[{\"size\":16,") && strstr(text, "{\"size\":32768,") &&
		   strstr(text, "\"uptime_ns\":") && !strstr(text, "%"),
	   "with one object for each bin");
	n = 0;
	malloc_stats_print(append, &n, "Jgabl");
	ok(depth_at_end() == 0 && !strstr(text, "\"opt\":") && !strstr(text, "\"bins\":") &&
		   !strstr(text, "\"lextents\":") && strstr(text, "\"merged\":"),
	   "letters leave parts of it out");
	n = 0;
	malloc_stats_print(append, &n, NULL);
	ok(strncmp(text, "___ Begin jemalloc statistics ___\n", 34) == 0 &&
		   strstr(text, "\nAllocated: ") && strstr(text, "stats.arenas.0.pactive: ") &&
		   strstr(text, "--- End jemalloc statistics ---\n"),
	   "without J there is text");
}

/* Threads that read and renew the statistics while others allocate. */
static void *reader(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 200; i++) {
		void *p = mallocx(1 + i * 100, 0);

		refresh();
		(void)size_value("stats.resident");
		dallocx(p, 0);
	}
	return NULL;
}

static void test_threads(void)
{
	pthread_t t[4];

#if defined(__SANITIZE_THREAD__)
	tap_skip(1, "the walk for statistics reads descriptors that others change, by design");
	return;
#endif
	for (unsigned i = 0; i < 4; i++)
		if (pthread_create(&t[i], NULL, reader, NULL))
			tap_bail_out("pthread_create fails");
	for (unsigned i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	ok(size_value("stats.active") >= size_value("stats.allocated"),
	   "four threads read and renew the statistics at once");
}

/* ---- what a thread allocates ---------------------------------------------------------------- */

static uint64_t *place(const char *name)
{
	return (uint64_t *)(uintptr_t)size_value(name);
}

struct counted {
	const uint64_t *allocated;
	const uint64_t *freed;
	uint64_t wants; /* of either */
	unsigned wrong;
};

/* One block of each kind is allocated, resized and freed, and the counters follow. */
static void count_block(struct counted *c, size_t size, size_t then, int flags)
{
	uint64_t before = *c->allocated;
	void *p = mallocx(size, flags);
	size_t had = p ? sallocx(p, 0) : 0;

	c->wrong += !p || *c->allocated - before != had || *c->freed != c->wants;
	c->wants += had;
	p = rallocx(p, then, 0);
	if (sallocx(p, 0) != had)
		c->wants += sallocx(p, 0);
	dallocx(p, 0);
	/* One that moved to a place of the same length counts again. */
	c->wrong += *c->allocated != *c->freed || *c->freed < c->wants;
	c->wants = *c->freed;
}

static void *counts_itself(void *arg)
{
	struct counted *c = arg;

	dallocx(mallocx(100, 0), 0);
	c->allocated = place("thread.allocatedp");
	c->freed = place("thread.deallocatedp");
	c->wants = 0;
	for (size_t size = 1; size < (size_t)50 << 20; size += size / 3 + 1) {
		count_block(c, size, size * 2, 0);
		count_block(c, size, size / 2 + 1, MALLOCX_ZERO);
		count_block(c, size, size + 100, 12);
	}
	c->wrong += size_value("thread.allocated") != *c->allocated ||
		    size_value("thread.deallocated") != *c->freed ||
		    place("thread.allocatedp") != c->allocated;
	return NULL;
}

static void *peaks(void *arg)
{
	unsigned *wrong = arg;
	void *p = NULL;

	mallctl("thread.peak.reset", NULL, NULL, NULL, 0);
	*wrong = size_value("thread.peak.read") != 0;
	p = mallocx(1000000, 0);
	dallocx(p, 0);
	*wrong += size_value("thread.peak.read") < 1000000 ||
		  size_value("thread.peak.read") > 1100000;
	p = mallocx(500000, 0);
	mallctl("thread.peak.reset", NULL, NULL, NULL, 0);
	*wrong += size_value("thread.peak.read") != 0;
	dallocx(mallocx(2000, 0), 0);
	*wrong += size_value("thread.peak.read") < 2000 || size_value("thread.peak.read") > 3000;
	dallocx(p, 0);
	*wrong += size_value("thread.peak.read") > 3000;
	return NULL;
}

/* Its heap is held as by a drainer during half of its calls. */
static void *stays_right(void *arg)
{
	struct counted *c = arg;
	struct heap *h;

	c->allocated = place("thread.allocatedp");
	c->freed = place("thread.deallocatedp");
	h = heap_own();
	for (unsigned i = 0; i < 20000; i++) {
		atomic_store(&h->claim, i % 2 ? CLAIM_STEP | CLAIM_HELD : CLAIM_FREE);
		count_block(c, 1 + i % 5000, 1 + i * 7 % 5000, 0);
	}
	atomic_store(&h->claim, CLAIM_FREE);
	return NULL;
}

/* Asks for nothing, which would begin to count again. Exits with what is wrong. */
static void counts_in_child(const uint64_t *allocated, const uint64_t *freed)
{
	uint64_t had = *allocated;
	uint64_t gone = *freed;

	dallocx(mallocx(5000, 0), 0);
	dallocx(mallocx(100000, 0), 0);
	had = *allocated - had;
	gone = *freed - gone;
	_exit(had == gone && had >= 105000 && had < 140000 ? 0 : 1);
}

static void *forks(void *arg)
{
	const uint64_t *allocated = place("thread.allocatedp");
	const uint64_t *freed = place("thread.deallocatedp");
	unsigned *wrong = arg;
	int status = 1;
	pid_t child;

	*wrong = *allocated || *freed;
	dallocx(mallocx(5000, 0), 0);
	child = fork();
	if (child == 0)
		counts_in_child(allocated, freed);
	if (child < 0 || waitpid(child, &status, 0) != child)
		tap_bail_out("fork fails");
	*wrong += status != 0;
	return NULL;
}

static void in_thread(void *(*work)(void *), void *arg)
{
	pthread_t t;

	if (pthread_create(&t, NULL, work, arg))
		tap_bail_out("pthread_create fails");
	pthread_join(t, NULL);
}

static void test_tally(void)
{
	struct counted c = { 0 };
	unsigned wrong = 9;
	uint64_t calls;

	in_thread(counts_itself, &c);
	is_int(c.wrong, 0, "a thread that asks counts what it allocates and frees, of each length");
	in_thread(peaks, &wrong);
	is_int(wrong, 0, "its peak is the most that it had since the last reset");
	wrong = 9;
	in_thread(forks, &wrong);
	is_int(wrong, 0, "a new thread begins at 0, and a child of fork goes on counting");
	c = (struct counted){ 0 };
	calls = value("fallback_calls");
	in_thread(stays_right, &c);
	is_int(c.wrong, 0, "nothing is missed while another thread holds its heap");
	ok(value("fallback_calls") - calls >= 20000, "its calls go to the fallback heap then");
}

int main(void)
{
	tap_plan(65);
	options.early_guards = 1;
	sluice_init();
	test_rallocx_of_the_first();
	test_sizes();
	test_rallocx();
	test_xallocx();
	test_table();
	test_errors();
	test_statistics();
	test_settings();
	test_mibs();
	test_order();
	test_print();
	test_threads();
	test_tally();
	return tap_done();
}
