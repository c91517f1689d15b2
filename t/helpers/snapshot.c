/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * snapshot FLAG: a program that forks snapshots (redis/redis#7381): small objects, blocks, an
 * object with a mapping of its own, and one that got its mapping as it grew.
 *
 * FLAG: the flag that all their mappings must have in /proc/PID/smaps. nh: no huge pages may be
 * used, and a write after the fork copies one small page. hg: huge pages must be used.
 */
#include "lib/check.h"

#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>

#define MIB ((size_t)1 << 20)
#define SMALL 512u
#define SMALLS (16 * MIB / SMALL)
#define BLOCKS 16u
#define OWN (48 * MIB)
#define SLACK_KIB 2048 /* tables, the C library's own, this program's stack */
#define SKIP 77

static char *small[SMALLS];
static char *block[BLOCKS];
static char *own;
static char *grown;

static char *filled(void *p, size_t n)
{
	if (p == NULL)
		abort();
	memset(p, 1, n);
	return p;
}

struct mapping {
	long huge_kib;
	bool flag;
};

static struct mapping mapping_of(const void *p, const char *flag)
{
	struct mapping m = { 0, false };
	FILE *f = fopen("/proc/self/smaps", "r");
	bool inside = false;
	unsigned long from;
	unsigned long to;
	char line[512];

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			inside = from <= (uintptr_t)p && (uintptr_t)p < to;
		else if (inside && strncmp(line, "VmFlags:", 8) == 0)
			m.flag = strstr(line, flag) != NULL;
		else if (inside)
			sscanf(line, "AnonHugePages: %ld", &m.huge_kib);
	}
	if (f != NULL)
		fclose(f);
	return m;
}

static long field_kib(const char *file, const char *field)
{
	FILE *f = fopen(file, "r");
	size_t n = strlen(field);
	char line[512];
	long kib = 0;

	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, field, n) == 0)
			kib = strtol(line + n, NULL, 10);
	if (f != NULL)
		fclose(f);
	return kib;
}

static long huge_kib(void)
{
	return field_kib("/proc/self/smaps_rollup", "AnonHugePages:");
}

static void look(const char *what, const void *p, const char *flag)
{
	struct mapping m = mapping_of(p, flag);

	CHECK(m.flag, "%s: the mapping has not %s", what, flag);
	if (strcmp(flag, " nh") == 0)
		CHECK(m.huge_kib == 0, "%s: %ld KiB of huge pages", what, m.huge_kib);
}

/* One byte for each MiB of everything; returns how many. */
static unsigned write_some(void)
{
	unsigned n = 0;

	for (size_t i = 0; i < SMALLS; i += MIB / SMALL, n++)
		small[i][0] = 2;
	for (unsigned i = 0; i < BLOCKS; i++, n++)
		block[i][MIB / 2] = 2;
	for (size_t at = 0; at < OWN; at += MIB, n += 2)
		own[at] = grown[at] = 2;
	return n;
}

static void snapshot(void)
{
	long before;
	long copied;
	unsigned n;
	pid_t pid = fork();

	if (pid == 0) {
		pause();
		_exit(0);
	}
	before = field_kib("/proc/self/smaps_rollup", "Private_Dirty:");
	n = write_some();
	copied = field_kib("/proc/self/smaps_rollup", "Private_Dirty:") - before;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	CHECK(copied <= (long)n * (sysconf(_SC_PAGESIZE) / 1024) + SLACK_KIB,
	      "%ld KiB were copied by %u writes", copied, n);
	fprintf(stderr, "%ld KiB were copied by %u writes\n", copied, n);
}

int main(int argc, char **argv)
{
	const char *flag = argc == 2 && strcmp(argv[1], "hg") == 0   ? " hg"
			   : argc == 2 && strcmp(argv[1], "nh") == 0 ? " nh"
								     : NULL;

	if (flag == NULL) {
		fprintf(stderr, "usage: snapshot nh|hg\n");
		return 2;
	}
	for (size_t i = 0; i < SMALLS; i++)
		small[i] = filled(malloc(SMALL), SMALL);
	for (unsigned i = 0; i < BLOCKS; i++)
		block[i] = filled(malloc(MIB), MIB);
	own = filled(malloc(OWN), OWN);
	grown = filled(malloc(MIB), MIB);
	for (size_t n = MIB; n <= OWN; n += MIB) {
		char *p = realloc(grown, n);

		if (p == NULL)
			abort();
		grown = p;
	}
	filled(grown, OWN);
	if (access("/proc/self/smaps_rollup", R_OK) != 0)
		return SKIP;
	look("small objects", small[SMALLS / 2], flag);
	look("blocks", block[BLOCKS / 2], flag);
	look("a mapping of its own", own, flag);
	look("what grew", grown, flag);
	fprintf(stderr, "%ld KiB of huge pages\n", huge_kib());
	if (strcmp(flag, " nh") == 0)
		snapshot();
	return helper_end();
}
