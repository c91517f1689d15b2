/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reserve CASE [MIB]: the page faults of a growing thread when memory is populated in advance. The
 * first four cases assume a reserve of MIB (default 32).
 *
 *   small    grows by 4 MiB of objects of 16 to 2,048 bytes at a time, and waits each time until
 *            the reserve is full again
 *   blocks   the same with blocks of 64 KiB to 4 MiB
 *   mixed    objects and blocks, a third of which is freed again
 *   zero     as blocks, by calloc, which must find zeros without clearing the memory itself
 *   huge MIB
 *            at most a reserve of MIB is populated, by huge pages; memory taken from it is backed
 *            by huge pages, too
 *   nohuge MIB
 *            the same without huge pages
 *   faults   as small, but without a reserve: there are faults
 *   back MIB LIMIT
 *            grows to MIB, where less than 1 MiB of the reserve may be left; until then its RSS may
 *            exceed the live memory by SLACK_MIB, or reach LIMIT
 *   idle     prints how much of the reserve is left a minute after the growth has ended, or that
 *            nothing is left
 *   child    a fork child uses up its reserve, and gets a new one with its first thread
 */
#include "lib/check.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define MIB ((size_t)1 << 20)
#define WARM 6u
#define STEPS 24u
#define STEP_BYTES (4 * MIB)
#define WAIT_MS 60000u
#define SKIP 77
#define SLACK_MIB 28 /* pcps of profile:latency, metadata, the program and its list */

static int (*stat_by_name)(const char *, uint64_t *);

static uint64_t stat_of(const char *name)
{
	uint64_t v = 0;

	CHECK(stat_by_name(name, &v) == 0, "sluice_stat(%s)", name);
	return v;
}

static long mib_of(const char *name)
{
	return (long)(stat_of(name) / MIB);
}

static long faults(void)
{
	struct rusage u;

	getrusage(RUSAGE_THREAD, &u);
	return u.ru_minflt;
}

/* Waits until the reserve has at least, or at most, so many bytes. */
static bool wait_for(uint64_t least, uint64_t most)
{
	for (unsigned ms = 0; ms < WAIT_MS; ms++) {
		uint64_t now = stat_of("reserve_bytes");

		if (now >= least && now <= most)
			return true;
		usleep(1000);
	}
	return false;
}

/* ---- growth ---------------------------------------------------------------------------------- */

struct growth {
	size_t min;
	size_t max;
	bool frees;
	bool zero;
};

#define PLACES (1u << 20)

static void *place[PLACES];
static unsigned places;
static size_t live;
static uint64_t seed = 7;

static size_t size_of_next(const struct growth *g)
{
	uint64_t r = helper_random(&seed) >> 8;
	size_t most = g->max;

	/* Sizes whose logarithms are spread evenly. */
	while (most / 2 > g->min && (r & 1)) {
		most /= 2;
		r >>= 1;
	}
	return g->min + r % (most - g->min + 1);
}

static bool all_zero(const unsigned char *p, size_t n)
{
	return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

static size_t grow(const struct growth *g, size_t bytes)
{
	size_t taken = 0;
	bool zero = true;

	while (taken < bytes && places < PLACES) {
		size_t n = size_of_next(g);
		unsigned char *p = g->zero ? calloc(1, n) : malloc(n);

		if (p == NULL)
			abort();
		if (g->zero)
			zero &= all_zero(p, n);
		memset(p, 1, n);
		taken += n;
		if (g->frees && places % 3 == 0) {
			free(p);
			p = NULL;
		} else {
			live += n;
		}
		place[places++] = p;
	}
	CHECK(zero, "calloc gave what is not zero");
	return taken;
}

/*
 * Uses up the slabs from before there was a reserve, and touches what the thread keeps of each size
 * up to 2 MiB.
 */
static void warm(uint64_t reserve)
{
	for (size_t size = 16; size <= 2 * MIB;
	     size += size / 8 > 16 ? size / 8 & ~(size_t)15 : 16) {
		struct growth g = { size, size, false, false };
		void *p[64];
		unsigned n = size <= 32768 ? 64 : 4;

		if (size <= 32768)
			grow(&g, MIB / 4);
		for (unsigned i = 0; i < n; i++) {
			p[i] = malloc(size);
			if (p[i] == NULL)
				abort();
			memset(p[i], 1, size);
		}
		for (unsigned i = 0; i < n; i++)
			free(p[i]);
		wait_for(reserve / 3 * 2, UINT64_MAX);
	}
}

/* After the warm-up, no page fault in malloc or on the memory it returns. */
static void grow_steps(const struct growth *g, uint64_t reserve, long *faulted)
{
	*faulted = 0;
	for (unsigned i = 0; i < WARM + STEPS; i++) {
		long before = faults();

		grow(g, STEP_BYTES);
		if (i >= WARM)
			*faulted += faults() - before;
		CHECK(wait_for(reserve / 3 * 2, UINT64_MAX),
		      "the reserve is not filled again: %lu bytes", stat_of("reserve_bytes"));
	}
}

static const struct growth small = { 16, 2048, false, false };
static const struct growth blocks = { 65536, 4 * MIB, false, false };
static const struct growth mixed = { 16, 2 * MIB, true, false };
static const struct growth zeroes = { 65536, 4 * MIB, false, true };

/* Takes a little, so that there is a reserve, and waits until it has `least` bytes. */
static void settle(uint64_t least)
{
	uint64_t now = 0;
	uint64_t last;

	grow(&small, 3 * MIB / 2);
	CHECK(wait_for(least, UINT64_MAX), "there is no reserve, or not as much");
	do {
		last = now;
		usleep(100000);
		now = stat_of("reserve_bytes");
	} while (now != last);
}

static int growth(const struct growth *g, size_t mib)
{
	uint64_t reserve = mib * MIB;
	long faulted;
	long rss;

	settle(reserve / 4 * 3); /* below that it is filled */
	warm(reserve);
	grow_steps(g, reserve, &faulted);
	/* The kernel may take away or move a page at any time, but hardly in every try. */
	if (faulted) {
		fprintf(stderr, "%ld page faults, once more: ", faulted);
		grow_steps(g, reserve, &faulted);
	}
	CHECK(places < PLACES, "there is no place for more");
	rss = helper_rss_kib() / 1024;
	CHECK(faulted == 0, "%ld page faults", faulted);
	CHECK(rss <= (long)((live + live / 4 + reserve) / MIB) + SLACK_MIB,
	      "RSS %ld MiB, live %zu, reserve %ld", rss, live / MIB, (long)(reserve / MIB));
	fprintf(stderr,
		"%ld page faults, RSS %ld MiB, live %zu, reserve %ld, of it used %ld, missed %ld\n",
		faulted, rss, live / MIB, (long)(reserve / MIB), mib_of("reserve_used_bytes"),
		mib_of("reserve_missed_bytes"));
	return helper_end();
}

static long huge_kib(void)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	char line[512];
	long sum = 0;
	long kib;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "AnonHugePages: %ld", &kib) == 1)
			sum += kib;
	if (f)
		fclose(f);
	return sum;
}

/* Whether a mapping that asks for a huge page gets one on this machine at present. */
static bool has_huge_pages(void)
{
	char *p = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	long before = huge_kib();
	bool has;

	if (p == MAP_FAILED || madvise(p, 4 * MIB, MADV_HUGEPAGE) != 0)
		return false;
	memset(p, 1, 4 * MIB);
	has = huge_kib() > before;
	munmap(p, 4 * MIB);
	return has;
}

/* How often the machine had no huge page for a process. */
static unsigned long huge_refused(void)
{
	char line[128];
	unsigned long n = 0;
	FILE *f = fopen("/proc/vmstat", "re");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "thp_fault_fallback %lu", &n) == 1)
			break;
	if (f)
		fclose(f);
	return n;
}

/* Pages that pcps give back unused are prefaulted again. */
static bool filled(size_t reserve)
{
	return wait_for(reserve / 3 * 2, reserve + reserve / 8);
}

static int huge(bool wanted, size_t reserve)
{
	unsigned long refused = huge_refused();
	long kib;

	if (wanted && !has_huge_pages())
		return SKIP;
	grow(&small, 3 * MIB / 2);
	for (unsigned i = 0; i < STEPS; i++) {
		CHECK(filled(reserve), "%lu bytes are ready", stat_of("reserve_bytes"));
		grow(&blocks, STEP_BYTES);
	}
	CHECK(filled(reserve), "%lu bytes are ready", stat_of("reserve_bytes"));
	kib = huge_kib();
	if (wanted)
		CHECK(kib > (long)((live + reserve) / 1024 / 4 * 3) || huge_refused() != refused,
		      "%ld KiB of huge pages, live %zu", kib, live);
	else
		CHECK(kib == 0, "%ld KiB of huge pages", kib);
	fprintf(stderr, "%ld KiB of huge pages, live %zu MiB\n", kib, live / MIB);
	return helper_end();
}

static int without(const struct growth *g)
{
	long before = faults();

	grow(g, 16 * STEP_BYTES);
	CHECK(faults() - before > 8000, "only %ld page faults", faults() - before);
	CHECK(stat_of("reserve_bytes") == 0, "there is a reserve");
	return helper_end();
}

/* ---- and what becomes of it ------------------------------------------------------------------ */

static int back(size_t mib, size_t limit)
{
	settle(8 * MIB);
	while (live / MIB < mib) {
		long rss;

		grow(&blocks, 1);
		usleep(2000);
		rss = helper_rss_kib() / 1024;
		CHECK(rss < (long)(live / MIB + SLACK_MIB) || rss <= (long)limit,
		      "RSS %ld, live %zu", rss, live / MIB);
	}
	CHECK(wait_for(0, MIB), "it stays: %lu bytes", stat_of("reserve_bytes"));
	usleep(500000);
	CHECK(wait_for(0, MIB), "it is filled again: %lu bytes", stat_of("reserve_bytes"));
	fprintf(stderr, "RSS %ld MiB, live %zu, given back %ld\n", helper_rss_kib() / 1024,
		live / MIB, mib_of("reserve_returned_bytes"));
	return helper_end();
}

static int idle(void)
{
	grow(&small, 4 * STEP_BYTES);
	CHECK(wait_for(MIB, UINT64_MAX), "there is no reserve");
	if (wait_for(0, MIB))
		fprintf(stderr, "nothing is left\n");
	else
		fprintf(stderr, "%lu bytes are left\n", stat_of("reserve_bytes"));
	return helper_end();
}

static int child(void)
{
	int status = -1;
	uint64_t used;
	pid_t pid;

	settle(4 * MIB);
	used = stat_of("reserve_used_bytes");
	pid = fork();
	if (pid == 0) {
		grow(&zeroes, 16 * STEP_BYTES);
		CHECK(stat_of("reserve_used_bytes") > used, "the child's reserve was not used");
		CHECK(wait_for(4 * MIB, UINT64_MAX), "the child has no reserve");
		_exit(helper_end());
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0, "the child's status 0x%x", status);
	return helper_end();
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	size_t mib = argc == 3 ? strtoul(argv[2], NULL, 10) : 32;

	*(void **)&stat_by_name = dlsym(RTLD_DEFAULT, "sluice_stat");
	if (stat_by_name == NULL) {
		helper_say("not the library");
		return 97;
	}
	memset(place, 0xff, sizeof(place));
	if (strcmp(what, "small") == 0)
		return growth(&small, mib);
	if (strcmp(what, "blocks") == 0)
		return growth(&blocks, mib);
	if (strcmp(what, "mixed") == 0)
		return growth(&mixed, mib);
	if (strcmp(what, "zero") == 0)
		return growth(&zeroes, mib);
	if (strcmp(what, "huge") == 0 && argc == 3)
		return huge(true, strtoul(argv[2], NULL, 10) * MIB);
	if (strcmp(what, "nohuge") == 0 && argc == 3)
		return huge(false, strtoul(argv[2], NULL, 10) * MIB);
	if (strcmp(what, "faults") == 0)
		return without(&small);
	if (strcmp(what, "back") == 0 && argc == 4)
		return back(strtoul(argv[2], NULL, 10), strtoul(argv[3], NULL, 10));
	if (strcmp(what, "idle") == 0)
		return idle();
	if (strcmp(what, "child") == 0)
		return child();
	fprintf(stderr,
		"usage: reserve small|blocks|mixed|zero [MIB]|huge MIB|nohuge MIB|faults|back MIB "
		"LIMIT|idle|child\n");
	return 2;
}
