/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * locked CASE: programs whose memory is locked.
 *
 *   future   mlockall(MCL_CURRENT | MCL_FUTURE): the kernel populates what is mapped, so little may
 *            be mapped
 *   onfault  the same with MCL_ONFAULT: the kernel locks only what is touched
 *   unlock   munlockall after that: memory is given back again
 *   begin    mlockall(MCL_CURRENT | MCL_FUTURE) in a small program locks little unused memory
 *   growth   memory allocated after mlockall is touched without a page fault
 *   refused  a refused purge is not repeated endlessly: malloc_trim ends after a few calls
 *   reserve  with a reserve of 8 MiB no more unused memory than that is locked
 *   limit    RLIMIT_MEMLOCK of 8 MiB without privileges, and MCL_FUTURE: requests succeed, then
 *            fail, and succeed again after munlockall
 *   current  the same with MCL_CURRENT and 24 MiB: address space that is only reserved does not
 *            make the kernel refuse it
 *   space    little of the address space that the kernel counts as locked (VmLck) is only reserved,
 *            at the start and with 150 MiB in use; MCL_FUTURE alone locks memory that is made
 *            usable later
 */
#include "lib/check.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <sluice/sluice.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/resource.h>

enum { BLOCKS = 2400, BYTES = 65536, SLACK_KIB = 6144, SKIP = 77 };

#define SMALL_KIB 6144 /* the library's tables, and the first step by which memory becomes usable */
#define SPACE_KIB 16384  /* of address space that may be locked in a small program */
#define RESERVE_KIB 8192 /* preload/locked.sh sets it */

static int (*stat_by_name)(const char *, uint64_t *);
static unsigned char *p[BLOCKS];

static uint64_t stat_of(const char *name)
{
	uint64_t v = 0;

	CHECK(stat_by_name(name, &v) == 0, "sluice_stat(%s)", name);
	return v;
}

static long free_kib(void)
{
	return (long)(stat_of("free_bytes") >> 10);
}

static void take_all(void)
{
	for (unsigned i = 0; i < BLOCKS; i++) {
		p[i] = malloc(BYTES);
		CHECK(p[i] != NULL, "block %u", i);
		if (p[i] != NULL)
			memset(p[i], 1, BYTES);
	}
}

static void free_all(void)
{
	for (unsigned i = 0; i < BLOCKS; i++)
		free(p[i]);
}

static long locked_kib(void)
{
	char text[4096];
	ssize_t n;
	char *at;
	int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	n = read(fd, text, sizeof text - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	at = strstr(text, "VmLck:");
	return at != NULL ? strtol(at + 6, NULL, 10) : -1;
}

/* From the first growth on, less than two steps are free at any time. */
static void grow_little(void)
{
	long before = free_kib();
	long most = 0;

	for (unsigned i = 0; i < BLOCKS; i++) {
		p[i] = malloc(BYTES);
		CHECK(p[i] != NULL, "block %u", i);
		if ((long)i * (BYTES / 1024) > before + 65536 && free_kib() > most)
			most = free_kib();
	}
	CHECK(most < SLACK_KIB, "%ld KiB were free, and filled", most);
	fprintf(stderr, "%ld KiB were free before, at most %ld later\n", before, most);
}

static int lock_all(int flags)
{
	return mlockall(MCL_CURRENT | MCL_FUTURE | flags);
}

static long faults(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return u.ru_minflt;
}

static void begin(long before)
{
	long kib = helper_rss_kib() - before;

	CHECK(kib < 2 * SMALL_KIB, "%ld KiB were locked", kib);
	CHECK(locked_kib() >= 0 && locked_kib() < SPACE_KIB, "%ld KiB count as locked",
	      locked_kib());
	fprintf(stderr, "%ld KiB were locked\n", kib);
}

static void growth(void)
{
	long faulted = 0;

	for (unsigned i = 0; i < BLOCKS; i++) {
		long before;

		p[i] = malloc(BYTES);
		before = faults();
		if (p[i] != NULL)
			memset(p[i], 1, BYTES);
		faulted += faults() - before;
	}
	CHECK(faulted == 0, "%ld page faults", faulted);
}

static void refused(void)
{
	uint64_t before;

	take_all();
	for (unsigned i = 0; i < BLOCKS; i += 2)
		free(p[i]);
	before = stat_of("purge_calls");
	malloc_trim(0);
	malloc_trim(0);
	CHECK(stat_of("purge_calls") - before < BLOCKS / 8, "%lu calls",
	      (unsigned long)(stat_of("purge_calls") - before));
	fprintf(stderr, "%lu calls\n", (unsigned long)(stat_of("purge_calls") - before));
}

static void reserve(long before)
{
	long kib;

	for (unsigned i = 0; i < BLOCKS; i++) {
		p[i] = malloc(BYTES);
		CHECK(p[i] != NULL, "block %u", i);
		if (i % 16 == 0)
			usleep(1000);
	}
	for (unsigned ms = 0; ms < 20000 && stat_of("reserve_bytes") >> 10 < RESERVE_KIB / 2; ms++)
		usleep(1000);
	kib = (long)(stat_of("reserve_bytes") >> 10);
	CHECK(kib >= RESERVE_KIB / 2 && kib <= RESERVE_KIB + RESERVE_KIB / 8, "%ld KiB are ready",
	      kib);
	/* On a busy machine the reserve may be filled beyond its mark for a while. */
	for (unsigned ms = 0; ms < 20000; ms++) {
		kib = helper_rss_kib() - before - BLOCKS * (BYTES / 1024);
		if (kib < RESERVE_KIB + 2 * SMALL_KIB + SLACK_KIB)
			break;
		usleep(1000);
	}
	CHECK(kib < RESERVE_KIB + 2 * SMALL_KIB + SLACK_KIB, "%ld KiB beside what is in use", kib);
	fprintf(stderr, "%ld KiB beside what is in use\n", kib);
}

/* Becomes a user that may lock at most so many bytes. Returns false if that is impossible. */
static bool become_limited(size_t bytes)
{
	struct rlimit limit = { bytes, bytes };

	return setrlimit(RLIMIT_MEMLOCK, &limit) == 0 && setresuid(65534, 65534, 65534) == 0;
}

static unsigned take_until_refused(void)
{
	unsigned n = 0;

	errno = 0;
	while (n < BLOCKS && (p[n] = malloc(BYTES)) != NULL)
		n++;
	return n;
}

static int limit(void)
{
	unsigned n;

	if (!become_limited((size_t)8 << 20) || mlockall(MCL_FUTURE) != 0)
		return SKIP;
	n = take_until_refused();
	CHECK(n > 8 && n < BLOCKS, "%u blocks", n);
	CHECK(errno == ENOMEM, "errno %d", errno);
	free(malloc(16));
	munlockall();
	CHECK(malloc(BYTES) != NULL, "there is no memory when it is not locked any more");
	while (n--)
		free(p[n]);
	return helper_end();
}

static int current(void)
{
	if (!become_limited((size_t)24 << 20))
		return SKIP;
	CHECK(mlockall(MCL_CURRENT | MCL_FUTURE) == 0, "errno %d", errno);
	CHECK(take_until_refused() > 64, "there is too little");
	return helper_end();
}

static int space(void)
{
	long used = BLOCKS * (BYTES / 1024);
	long begin;
	long most;

	if (mlockall(MCL_FUTURE) != 0)
		return SKIP;
	begin = locked_kib();
	take_all();
	CHECK(locked_kib() - begin > used - SPACE_KIB, "%ld KiB were locked of %ld",
	      locked_kib() - begin, used);
	free_all();
	munlockall();
	malloc_trim(0);
	CHECK(lock_all(0) == 0, "errno %d", errno);
	most = locked_kib();
	take_all();
	most = locked_kib() > most ? locked_kib() : most;
	CHECK(most < used + used / 16 + SPACE_KIB, "%ld KiB are locked of %ld", most, used);
	return helper_end();
}

int main(int argc, char **argv)
{
	const char *name = argc == 2 ? argv[1] : "";
	long before;

	*(void **)&stat_by_name = dlsym(RTLD_DEFAULT, "sluice_stat");
	if (stat_by_name == NULL) {
		helper_say("not the library");
		return 97;
	}
	free(malloc(1));
	if (strcmp(name, "limit") == 0)
		return limit();
	if (strcmp(name, "current") == 0)
		return current();
	if (strcmp(name, "space") == 0)
		return space();
	before = helper_rss_kib();
	if (lock_all(strcmp(name, "onfault") == 0 ? MCL_ONFAULT : 0) != 0)
		return SKIP;
	if (strcmp(name, "future") == 0) {
		grow_little();
		free_all();
		take_all();
		free_all();
	} else if (strcmp(name, "begin") == 0) {
		begin(before);
	} else if (strcmp(name, "growth") == 0) {
		growth();
	} else if (strcmp(name, "refused") == 0) {
		refused();
	} else if (strcmp(name, "reserve") == 0) {
		reserve(before);
	} else if (strcmp(name, "onfault") == 0) {
		before = helper_rss_kib();
		take_all();
		CHECK(helper_rss_kib() - before < BLOCKS * (BYTES / 1024) + 2 * SLACK_KIB,
		      "%ld KiB for %d", helper_rss_kib() - before, BLOCKS * (BYTES / 1024));
		free_all();
	} else if (strcmp(name, "unlock") == 0) {
		take_all();
		free_all();
		munlockall();
		malloc_trim(0);
		CHECK(helper_rss_kib() < 8 * SLACK_KIB, "%ld KiB are left", helper_rss_kib());
	} else {
		fprintf(stderr,
			"usage: locked future|onfault|unlock|begin|growth|refused|reserve|limit|"
			"current|space\n");
		return 2;
	}
	return helper_end();
}
