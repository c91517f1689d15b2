/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Signs that memory is short: limits of cgroups, in trees of files that look like the kernel's, and
 * the two limits of our own.
 */
#define WANTS_BACKGROUND
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "page/block.h"
#include "page/buddy.h"
#include "os/cgroup.h"
#include "lib/child.h"
#include "base/clock.h"
#include "lib/core.h"
#include "lib/fd.h"
#include "heap/heap.h"
#include "heap/cache_bin.h"
#include "heap/heap_call.h"
#include "heap/heap_slabs.h"
#include "shim/init.h"
#include "base/options.h"
#include "page/pcp.h"
#include "reclaim/limits.h"
#include "reclaim/pressure.h"
#include "reclaim/psi.h"
#include "reclaim/reclaim.h"
#include "lib/refuse.h"
#include "lib/tap.h"
#include "os/vm.h"

#define MIB (UINT64_C(1) << 20)
#define NONE UINT64_MAX

/* ---- a tree --------------------------------------------------------------------------------- */

static char root[64];

/* Writes a file of the tree, and makes the directories above it. */
static void put(const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", root, name);
	for (char *at = path + strlen(root) + 1; (at = strchr(at, '/')) != NULL; at++) {
		*at = '\0';
		if (mkdir(path, 0755) != 0 && errno != EEXIST)
			tap_bail_out("cannot make %s", path);
		*at = '/';
	}
	f = fopen(path, "w");
	if (!f || fputs(text, f) < 0 || fclose(f) != 0)
		tap_bail_out("cannot write %s", path);
}

static void put_bytes(const char *name, uint64_t bytes)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64 "\n", bytes);
	put(name, text);
}

static void tree_new(void)
{
	char command[128];

	if (root[0]) {
		snprintf(command, sizeof(command), "rm -rf '%s'", root);
		if (system(command) != 0)
			tap_diag("%s is left over", root);
	}
	strcpy(root, "/tmp/sluice-cgroup.XXXXXX");
	if (!mkdtemp(root))
		tap_bail_out("cannot make a directory in /tmp");
}

static struct cgroup group;

static uint64_t limit_of(const char *membership)
{
	return cgroup_find_in(&group, root, membership, OURFD_ANY) ? cgroup_limit(&group) : 1;
}

/* ---- which group, which limits -------------------------------------------------------------- */

#define V1 "12:pids:/a\n4:memory:/a/b\n1:name=systemd:/c\n0::/d\n"

static void test_v1(void)
{
	tree_new();
	put("memory/a/b/memory.limit_in_bytes", "104857600\n");
	put("memory/a/memory.limit_in_bytes", "9223372036854771712\n");
	put("memory/memory.limit_in_bytes", "9223372036854771712\n");
	is_int(limit_of(V1), 100 * MIB, "version 1: the limit of the process's own group");
	is_int(group.version, 1, "version 1: the process's own group is known");
	is_int(group.levels, 1, "version 1: a group without a limit has a very large number");
	put_bytes("memory/a/memory.limit_in_bytes", 50 * MIB);
	put_bytes("memory/a/b/memory.usage_in_bytes", 10 * MIB);
	put_bytes("memory/a/memory.usage_in_bytes", 45 * MIB);
	put("memory/a/memory.stat", "");
	put("memory/a/b/memory.failcnt", "");
	is_int(limit_of(V1), 50 * MIB,
	       "version 1: the least limit of the group and all groups above it counts");
	is_int(cgroup_headroom(&group, 0), 5 * MIB,
	       "version 1: the least of what all these groups have left counts");
	put("memory/a/memory.stat", "cache 1\ntotal_inactive_file 1048576\n"
				    "total_active_file 2097152\ninactive_file 99\n");
	is_int(cgroup_headroom(&group, 0), 5 * MIB,
	       "version 1: pages of files are not read at first");
	is_int(cgroup_headroom(&group, 6 * MIB), 8 * MIB,
	       "version 1: pages of files count as free when the rest is not enough");
	put("memory/a/b/memory.failcnt", "7\n");
	is_int(cgroup_events(&group), 7, "version 1: failcnt says how often the limit was met");
	is_int(limit_of("4:cpu,memory:/a/b\n"), 50 * MIB,
	       "version 1: the controller may share a hierarchy");
	is_int(limit_of("4:cpumemory:/a/b\n"), 1,
	       "version 1: a controller of another name does not count");
}

#define V2 "0::/a/b\n"

static void test_v2(void)
{
	tree_new();
	put("a/b/memory.max", "max\n");
	put("a/b/memory.high", "max\n");
	put("a/memory.max", "max\n");
	is_int(limit_of(V2), NONE, "version 2: \"max\" is no limit");
	is_int(cgroup_headroom(&group, MIB), NONE,
	       "version 2: without a limit there is always enough left");
	put_bytes("a/b/memory.max", 80 * MIB);
	is_int(limit_of(V2), 80 * MIB, "version 2: memory.max is a limit");
	put_bytes("a/b/memory.high", 60 * MIB);
	is_int(limit_of(V2), 60 * MIB, "version 2: memory.high below memory.max wins");
	put("a/b/memory.current", "");
	put("a/memory.current", "");
	put("a/b/memory.stat", "");
	put("a/memory.stat", "");
	put("a/b/memory.events", "");
	put_bytes("a/memory.high", 40 * MIB);
	is_int(limit_of(V2), 40 * MIB, "version 2: the limit of a group above counts");
	put_bytes("a/b/memory.current", 59 * MIB);
	put_bytes("a/memory.current", 35 * MIB);
	is_int(cgroup_headroom(&group, 0), 1 * MIB,
	       "version 2: the least of what all groups have left counts");
	put("a/b/memory.stat", "anon 5\ninactive_file 1048576\nactive_file 1048576\n");
	is_int(cgroup_headroom(&group, 2 * MIB), 3 * MIB,
	       "version 2: pages of files count as free");
	put_bytes("a/memory.current", 90 * MIB);
	is_int(cgroup_headroom(&group, 0), 0, "version 2: above a limit nothing is left");
	put("a/b/memory.events",
	    "low 100\nhighest 9\nhigh 3\nmaximum 20\nmax 2\noom 1\noom_kill 1\n");
	is_int(cgroup_events(&group), 5,
	       "version 2: memory.events says how often the group was held back");
	put_bytes("a/memory.high", 90 * MIB);
	put_bytes("a/b/memory.max", 30 * MIB);
	cgroup_refresh(&group);
	is_int(cgroup_limit(&group), 30 * MIB,
	       "version 2: a lowered limit is seen when the limits are read again");
	put_bytes("a/memory.max", 20 * MIB);
	cgroup_refresh(&group);
	is_int(cgroup_limit(&group), 20 * MIB,
	       "version 2: the lowered limit of a group above is seen, the least of its two");
	is_int(limit_of("0::/\n"), NONE, "version 2: the root group has no limit");
}

/* In a container the membership may name groups that are not visible. */
static void test_containers(void)
{
	tree_new();
	put_bytes("memory.max", 70 * MIB);
	is_int(limit_of("0::/docker/0123abcd\n"), 70 * MIB,
	       "a mount may begin at the process's own group");
	put_bytes("sub/memory.max", 30 * MIB);
	is_int(limit_of("0::/docker/0123abcd/sub\n"), 30 * MIB,
	       "a mount may begin at a group above the process's own");
	is_int(group.levels, 2, "all visible groups of a mount count");
	put_bytes("unified/a/memory.max", 20 * MIB);
	is_int(limit_of("0::/a\n"), 20 * MIB,
	       "a system with both versions may have the second in a directory of its own");
}

static void test_garbage(void)
{
	static const char *const membership[] = {
		"", "\n", ":", "::", "0:", "0::", "0::\n", "memory", "x:memory:a\n", "4:memory\n",
	};
	static const char *const number[] = {
		"", "\n", "-1\n", "x\n", "12x\n", "0x10\n", "99999999999999999999999\n", " 12\n",
	};
	char text[CGROUP_PATH_MAX * 2];
	unsigned bad = 0;

	tree_new();
	put_bytes("memory/memory.limit_in_bytes", MIB);
	for (size_t i = 0; i < sizeof(membership) / sizeof(membership[0]); i++)
		bad += limit_of(membership[i]) != 1;
	is_int(bad, 0, "a membership that cannot be read gives no group");
	for (size_t i = 0; i < sizeof(number) / sizeof(number[0]); i++) {
		put("memory/memory.limit_in_bytes", number[i]);
		bad += limit_of("4:memory:/\n") != NONE;
	}
	is_int(bad, 0, "a limit that cannot be read is no limit");
	put_bytes("memory/memory.limit_in_bytes", MIB);
	put("memory/memory.usage_in_bytes", "much\n");
	is_int(limit_of("4:memory:/\n"), MIB, "a limit without a usage is no limit");
	is_int(cgroup_headroom(&group, 0), NONE, "says nothing");
	memset(text, 'x', sizeof(text));
	memcpy(text, "4:memory:/", 10);
	text[sizeof(text) - 1] = '\0';
	is_int(limit_of(text), 1, "a path that is too long is not followed");
	is_int(cgroup_find_in(&group, "/nowhere", "4:memory:/a\n", OURFD_ANY), 0,
	       "a path that does not exist gives no group");
}

/* ---- growth --------------------------------------------------------------------------------- */

static void *block[512];

/* n blocks of 1 MiB, written to. */
static void blocks_make(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		block[i] = alloc(MIB);
		memset(block[i], 'b', MIB);
	}
}

static void blocks_free(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		heap_free(block[i]);
		block[i] = NULL;
	}
}

static bool came_back;

static void *cancelled(void *arg)
{
	(void)arg;
	pthread_cancel(pthread_self());
	blocks_make(80);
	came_back = true;
	pthread_testcancel();
	return NULL;
}

/* Little is left, so malloc checks the limits. */
static void test_cancel(void)
{
	uint64_t before = value("pressure_near_limit");
	pthread_t t;

	if (pthread_create(&t, NULL, cancelled, NULL) != 0)
		tap_bail_out("cannot start a thread");
	pthread_join(t, NULL);
	ok(came_back && value("pressure_near_limit") > before,
	   "a thread is not cancelled while malloc checks the limits");
	blocks_free(80);
}

/* The machine's own groups are not in the tree; what is at the tree's root replaces them. */
static void test_growth(void)
{
	uint64_t purged;

	tree_new();
	put_bytes("memory/memory.limit_in_bytes", 400 * MIB);
	put_bytes("memory/memory.usage_in_bytes", 100 * MIB);
	put_bytes("memory.max", 400 * MIB);
	put_bytes("memory.current", 100 * MIB);
	memcpy(options.cgroup_root, root, sizeof(root));
	put("memory/memory.failcnt", "0\n");
	put("memory.events", "high 0\nmax 0\n");
	pressure_init(); /* finds the group again */
	limits_check(0);
	blocks_make(64);
	blocks_free(64);
	is_int(value("pressure_near_limit"), 0, "a growth far below the limit does nothing");
	put_bytes("memory/memory.usage_in_bytes", 370 * MIB);
	put_bytes("memory.current", 370 * MIB);
	limits_check(0);
	is_int(value("pressure_near_limit"), 0, "a growth a little below the limit does nothing");
	blocks_make(80);
	ok(value("pressure_near_limit") > 0,
	   "a growth near the limit notices by what was taken since");
	blocks_free(80);
	put_bytes("memory/memory.usage_in_bytes", 399 * MIB);
	put_bytes("memory.current", 399 * MIB);
	purged = value("purged_bytes");
	limits_check(0);
	ok(value("purged_bytes") > purged, "a growth near the limit gives free memory back");
	ok(value("dirty_bytes") > 4 * MIB,
	   "a growth near the limit gives back as much as there is to be room");
	put("memory/memory.failcnt", "1\n");
	put("memory.events", "high 1\nmax 0\n");
	limits_check(0);
	is_int(value("dirty_bytes") + value("pcp_bytes"), 0,
	       "all free memory is given back when the group was held back meanwhile");
	is_int(value("pressure_events"), 1, "the group's being held back is counted");
	test_cancel();
	put_bytes("memory/memory.usage_in_bytes", 100 * MIB);
	put_bytes("memory.current", 100 * MIB);
}

/* A running thread gives up its bins itself when memory is short, on its next slow path. */
static void test_asked(void)
{
	enum { MANY = 2000 };
	unsigned other = class_of(1000);
	unsigned calls = 0;
	uint64_t done;
	static void *p[MANY];

	for (unsigned i = 0; i < 2 * BINS; i++)
		heap_free_slow(heap_alloc_slow(2000)); /* does what was asked before */
	/* Fills many bins, and slabs; debug builds count what a call does with them. */
	for (size_t size = 1000; size; size -= 50) {
		for (unsigned i = 0; i < MANY; i++)
			p[i] = alloc(size);
		for (unsigned i = 0; i < MANY; i++)
			heap_free(p[i]);
	}
	done = value("trims_done");
	heap_ask_trim();
	heap_free(alloc(1000));
	ok(*heap_self->bin[other].top != NULL && value("trims_done") == done,
	   "a thread that is asked to trim itself does nothing on its fast path");
	for (; calls < BINS && value("trims_done") == done; calls++)
		heap_free_slow(heap_alloc_slow(2000));
	ok(*heap_self->bin[other].top == NULL,
	   "a thread that is asked to trim empties its bins on the slow path");
	ok(calls > 4 && calls < BINS,
	   "a thread that is asked to trim empties a few bins in each call (%u)", calls);
	for (unsigned i = 0; i < 2 * calls; i++)
		heap_free_slow(heap_alloc_slow(2000));
	is_int(value("trims_done"), done + 1, "once");
	heap_check();
}

/* With holes:0 no slab is abandoned for its holes; an empty one is given back all the same. */
static void test_asked_without_holes(void)
{
	unsigned cls = class_of(1000);
	uint64_t done = value("trims_done");
	uint64_t made = value("holes_purged_bytes");

	options.holes = 0;
	heap_free(alloc(1000));
	if (!heap_self->current[cls])
		tap_bail_out("a class with an object has no current slab");
	heap_ask_trim();
	for (unsigned calls = 0; calls < 2 * BINS && value("trims_done") == done; calls++)
		heap_free_slow(heap_alloc_slow(2000));
	ok(*heap_self->bin[cls].top == NULL && !heap_self->current[cls] &&
		   value("holes_purged_bytes") == made,
	   "with holes:0 a trim empties the bins and gives empty slabs back");
	heap_check();
	options.holes = 1;
}

/* ---- soft_limit and cache_limit ------------------------------------------------------------- */

/* By the counters, because the gauges read what other threads change. */
static uint64_t kept(void)
{
	return (zone_main.dirty_pages + pcp_pages_all()) << PG_SHIFT;
}

#define SLOTS 4096u

/* Allocates and frees blocks and objects of many sizes. Returns the largest excess over the
 * limit. */
static uint64_t excess(unsigned rounds, uint64_t (*limit)(void))
{
	void **p = calloc(SLOTS, sizeof(*p));
	uint64_t most = 0;
	uint32_t seed = 1;

	if (!p)
		tap_bail_out("no memory");
	for (unsigned i = 0; i < rounds; i++) {
		unsigned k = (seed = seed * 1664525 + 1013904223) >> 20;

		if (p[k]) {
			heap_free(p[k]);
			p[k] = NULL;
		} else {
			size_t size = 16 + (seed >> 8) % (i % 64 ? 40000 : 2000000);

			p[k] = alloc(size);
			memset(p[k], 'e', size);
		}
		if (i % 16 == 0 && kept() > limit() + most)
			most = kept() - limit();
	}
	for (unsigned k = 0; k < SLOTS; k++) {
		heap_free(p[k]);
		p[k] = NULL;
		if (k % 16 == 0 && kept() > limit() + most)
			most = kept() - limit();
	}
	free(p);
	return most;
}

static uint64_t four_mib(void)
{
	return 4 * MIB;
}

static uint64_t live_bytes(void)
{
	return value("region_bytes") - value("free_bytes") - value("pcp_bytes") +
	       value("huge_bytes");
}

/* The room of bins counts as well. */
static uint64_t beside_bins(void)
{
	return four_mib() - heap_bins_bytes;
}

/* The rows that bins always have. */
static uint64_t first_places(void)
{
	uint64_t bytes = 0;

	for (unsigned cls = 0; cls < CLASSES; cls++)
		bytes += 2 * class_size(cls);
	for (unsigned bin = CLASSES; bin < BINS; bin++)
		bytes += min_size(large_bin_capacity(bin), 2) *
			 ((size_t)run_class_pages[bin - CLASSES] << PG_SHIFT);
	return bytes;
}

static uint64_t tenth(void)
{
	return live_bytes() / 10;
}

static uint64_t nothing(void)
{
	return 0;
}

static void *churn(void *arg)
{
	(void)arg;
	excess(20000, four_mib);
	return NULL;
}

/* When all bins together hold too much, a full one loses room, but keeps the place for the object
 * that comes. */
static void test_bins_shrink(void)
{
	static void *object[600];
	const struct cache_bin *b = &heap_self->bin[class_of(64)];
	ptrdiff_t above = 0;
	uint64_t bytes;

	for (unsigned i = 0; i < 600; i++)
		object[i] = alloc(64);
	for (unsigned i = 0; i < 300; i++)
		heap_free(object[i]);
	heap_bins_count_all();
	bytes = heap_bins_bytes;
	for (unsigned i = 300; i < 600; i++) {
		heap_bins_most = 0;
		heap_free(object[i]);
		if ((int32_t)((uint32_t)(uintptr_t)b->top - b->limit) > above)
			above = (int32_t)((uint32_t)(uintptr_t)b->top - b->limit);
	}
	heap_bins_most = UINT64_MAX;
	ok(heap_bins_bytes < bytes, "a full bin loses room when all bins hold too much");
	is_int(above, 0, "a bin holds no more than it has room for");
}

#define COARSE "free pages of 16 KiB with others on the kernel's page stay"

static void test_cache_limit(void)
{
	pthread_t t[4];
	struct reclaim_report r;
	uint64_t most = 0;

	options.cache_limit = 4 * MIB;
	pressure_init();
	heap_free(alloc(100000)); /* what was kept before goes with the first free of pages */
	is_int(excess(40000, four_mib), 0, "cache_limit in bytes is never exceeded");
	ok(heap_bins_bytes > 0 && heap_bins_bytes <= MIB + first_places(),
	   "bins do not grow above a quarter of cache_limit, except for their first rows");
	if (vm_os_page > PG_BYTES)
		tap_skip(1, COARSE);
	else
		is_int(excess(40000, beside_bins), 0, "purges for cache_limit are counted");
	for (unsigned i = 0; i < 4; i++)
		if (pthread_create(&t[i], NULL, churn, NULL) != 0)
			tap_bail_out("cannot start a thread");
	for (unsigned i = 0; i < 4; i++) {
		while (pthread_tryjoin_np(t[i], NULL) != 0) {
			uint64_t now = kept();

			most = now > most ? now : most;
		}
	}
	tap_diag("most seen: %" PRIu64 " KiB", most >> 10);
	/* At most what a pcp spills at once, so what it may hold. */
	ok(most <= 4 * MIB + 4 * options.pcp_high_max,
	   "the excess while four threads free is at most what they are about to give back");
	ok(kept() <= 4 * MIB,
	   "cache_limit is not exceeded when four threads that freed at once are done");
	is_int(value("pcp_bytes"), pcp_pages_all() << PG_SHIFT,
	       "the count of all pcps is their sum");
	options.cache_limit = OPTION_PERCENT | 10;
	heap_free(alloc(100000));
	if (vm_os_page > PG_BYTES)
		tap_skip(1, COARSE);
	else
		is_int(excess(40000, tenth), 0,
		       "cache_limit in percent of what is in use is never exceeded");
	options.cache_limit = OPTION_PERCENT;
	heap_free(alloc(100000));
	if (vm_os_page > PG_BYTES)
		tap_skip(1, COARSE);
	else
		is_int(excess(20000, nothing), 0, "with cache_limit:0%% no free page is kept");
	options.cache_limit = 0;
	reclaim_drain(RECLAIM_CACHES | RECLAIM_PURGE, 0, &r);
	zone_check(&zone_main);
}

static void test_soft_limit(void)
{
	uint64_t base = live_bytes();

	options.soft_limit = base + 64 * MIB;
	blocks_make(60);
	blocks_free(30);
	ok(kept() >= 20 * MIB, "free memory stays below soft_limit");
	for (unsigned i = 0; i < 30; i++) {
		block[i] = alloc(40000);
		memset(block[i], 's', 40000);
	}
	blocks_free(60);
	blocks_make(62);
	ok(live_bytes() + kept() <= options.soft_limit, "no free memory stays above soft_limit");
	blocks_make(100);
	is_int(kept(), 0, "no free memory stays when more is in use than soft_limit allows");
	ok(block[99] != NULL, "allocations above soft_limit are not refused");
	options.soft_limit = 0;
	blocks_free(100);
}

/* ---- PSI ------------------------------------------------------------------------------------ */

static int psi_begin(void)
{
	int number;

	options.psi = 1;
	options.cgroup = 0;
	options.background = BACKGROUND_AUTO;
	pressure_init();
	number = fd_of("/proc/pressure/memory", FD_LIBRARY_MIN);
	if (number < 0)
		_exit(3);
	return number;
}

/* Triggers are written at a wait that comes a second after the first one. */
static void psi_waits(void)
{
	uint64_t begin = clock_ms();

	while (clock_ms() - begin < 1200)
		psi_wait(50, false, 0, -1);
	psi_wait(1, false, 0, -1);
}

/* As a parent leaves it to its children. */
static void psi_shared(void *arg)
{
	static const char trigger[] = "some 150000 2000000";
	int number = psi_begin();

	(void)arg;
	if (write(number, trigger, sizeof(trigger)) < 0)
		_exit(0); /* not permitted for this user */
	psi_waits();
	if (fcntl(number, F_GETFD) < 0)
		_exit(4);
}

static void psi_refused(void *arg)
{
	int number = psi_begin();

	(void)arg;
	if (!refuse(SYS_write, 0, (uint32_t)number, EINVAL))
		_exit(0);
	psi_waits();
	if (fcntl(number, F_GETFD) >= 0)
		_exit(4);
}

static void test_psi(void)
{
	int fd = open("/proc/pressure/memory", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		tap_skip(2, "there is no PSI here");
		return;
	}
	close(fd);
	ok(child_is_well(psi_shared, NULL), "a trigger that is there already is used");
	ok(child_is_well(psi_refused, NULL), "the file is closed where no trigger may be written");
}

int main(void)
{
	options.background = BACKGROUND_NEVER;
	options.decay_ms = 3600000; /* what is free stays, however slow the machine is */
	sluice_init();
	tap_plan(0);
	test_v1();
	test_v2();
	test_containers();
	test_garbage();
	test_growth();
	test_asked();
	test_asked_without_holes();
	test_bins_shrink();
	test_cache_limit();
	test_soft_limit();
	tree_new();
	rmdir(root);
	test_psi();
	return tap_done();
}
