/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * locked CASE: programs whose memory is locked.
 *
 *   future   mlockall(MCL_CURRENT | MCL_FUTURE): the kernel fills what is mapped, so little may be
 *   onfault  the same with MCL_ONFAULT: it fills what is touched
 *   unlock   munlockall after that: memory comes back again
 */
#include "check.h"

#include <dlfcn.h>
#include <malloc.h>
#include <sluice/sluice.h>
#include <sys/mman.h>

enum { BLOCKS = 2400, BYTES = 65536, SLACK_KIB = 6144, SKIP = 77 };

static int (*stat_by_name)(const char *, uint64_t *);
static unsigned char *p[BLOCKS];

static long free_kib(void)
{
	uint64_t v = 0;

	CHECK(stat_by_name("free_bytes", &v) == 0, "sluice_stat");
	return (long)(v >> 10);
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

/* From the first growth on what is free is less than two steps, all the time. */
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

int main(int argc, char **argv)
{
	const char *name = argc == 2 ? argv[1] : "";

	*(void **)&stat_by_name = dlsym(RTLD_DEFAULT, "sluice_stat");
	if (stat_by_name == NULL) {
		helper_say("not the library");
		return 97;
	}
	free(malloc(1));
	if (lock_all(strcmp(name, "onfault") == 0 ? MCL_ONFAULT : 0) != 0)
		return SKIP;
	if (strcmp(name, "future") == 0) {
		grow_little();
		free_all();
		take_all();
		free_all();
	} else if (strcmp(name, "onfault") == 0) {
		long before = helper_rss_kib();

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
		fprintf(stderr, "usage: locked future|onfault|unlock\n");
		return 2;
	}
	return helper_end();
}
