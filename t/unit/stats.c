/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The line that a process appends to the file of statistics.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/stats.h"
#include "lib/tap.h"
#include "page/buddy.h"
#include "page/pagemap.h"
#include "page/region.h"
#include "reclaim/info.h"
#include "shim/init.h"

#define NUMBERS 100

static char dir[] = "/tmp/sluice-stats.XXXXXX";

static const char *path(const char *name)
{
	static char text[128];

	snprintf(text, sizeof(text), "%s/%s", dir, name);
	return text;
}

static unsigned open_numbers(void)
{
	unsigned n = 0;

	for (int i = 0; i < NUMBERS; i++)
		n += fcntl(i, F_GETFD) >= 0;
	return n;
}

/* Returns how many lines the file has, and the last one in line. */
static unsigned lines_of(const char *name, char *line, int room)
{
	FILE *f = fopen(path(name), "r");
	unsigned n = 0;

	while (f && fgets(line, room, f))
		n += strchr(line, '\n') != NULL;
	if (f)
		fclose(f);
	return n;
}

/* Returns the value in a line, or UINT64_MAX if it is not there. */
static uint64_t value_in(const char *line, const char *name)
{
	char key[80];
	const char *at;

	snprintf(key, sizeof(key), " %s=", name);
	at = strstr(line, key);
	return at ? strtoull(at + strlen(key), NULL, 10) : UINT64_MAX;
}

static void test_line(void)
{
	char line[4096] = "";
	char begins[64];
	bool all = true;
	struct stat st;

	stat_add(STAT_forks, 41);
	is_int(stats_append(path("a")), 0, "a line is written to a file that was not there");
	is_int(lines_of("a", line, sizeof(line)), 1, "and ends");
	snprintf(begins, sizeof(begins), "sluice pid=%ld program=", (long)getpid());
	ok(strncmp(line, begins, strlen(begins)) == 0,
	   "the line says which process and program it is of");
	for (unsigned i = 0; i < STATS; i++)
		all &= value_in(line, stat_name((enum stat_id)i)) == stat_sum((enum stat_id)i);
	ok(all && value_in(line, "forks") == 41, "the line has each counter and its value");
	ok(stat(path("a"), &st) == 0 && (st.st_mode & 0777) == 0600,
	   "no other user may read the file");
	stat_add(STAT_forks, 1);
	is_int(stats_append(path("a")), 0, "a second line");
	ok(lines_of("a", line, sizeof(line)) == 2 && value_in(line, "forks") == 42,
	   "a second line comes after the first");
}

static void test_refused(void)
{
	unsigned before = open_numbers();
	char line[64];

	errno = 77;
	is_int(stats_append("/dev/full"), ENOSPC, "a failed write gives the reason");
	is_int(stats_append(path("nowhere/a")), 0, "a file that cannot be opened changes nothing");
	is_int(errno, 77, "writing keeps errno");
	if (symlink("b", path("link")) != 0 || mkfifo(path("fifo"), 0600) != 0)
		tap_bail_out("cannot make a file in %s", dir);
	stats_append(path("link"));
	is_int(lines_of("b", line, sizeof(line)), 0, "a link is not followed");
	is_int(stats_append(path("fifo")), 0, "opening a pipe without a reader does not wait");
	is_int(open_numbers(), before, "no descriptor is left open");
}

static uint64_t resident(void)
{
	struct info in;

	info_collect(&in, NULL);
	info_measure(&in);
	return in.resident_bytes;
}

static int by_address(const void *a, const void *b)
{
	const char *p = page_address(*(struct page *const *)a);
	const char *q = page_address(*(struct page *const *)b);

	return (p > q) - (p < q);
}

/* Address space that a region has given back may belong to others. Adjacent blocks of it are one
 * run. */
static void test_away(void)
{
	enum { RUNS = 16, RUN_PAGES = 64 };
	struct page *run[RUNS];
	uint64_t before;
	size_t bytes = (size_t)3 * RUN_PAGES << PG_SHIFT;
	unsigned at = 0; /* of four that are adjacent */
	char *p;
	char *q;

	sluice_init();
	if (buddy_alloc_blocks(&zone_main, 6, RUNS, run) != RUNS)
		tap_bail_out("no memory");
	for (unsigned i = 0; i < RUNS; i++)
		*page_address(run[i]) = 'r';
	qsort(run, RUNS, sizeof(void *), by_address);
	while (at + 3 < RUNS && page_address(run[at + 3]) - page_address(run[at]) != (long)bytes)
		at++;
	if (at + 3 == RUNS)
		tap_bail_out("no four blocks are adjacent");
	p = page_address(run[at]);
	for (unsigned i = at; i < at + 4; i++)
		buddy_free(run[i]);
	zone_release_space(&zone_main, UINT64_MAX, true);
	before = resident();
	q = mmap(p, bytes, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (q != p)
		tap_bail_out("the address space was not given back");
	memset(q, 'q', bytes);
	if (!before)
		tap_skip(1, "the kernel cannot be asked what it backs");
	else
		ok(resident() < before + bytes / 4,
		   "memory that others have in address space of a region is not counted");
	munmap(q, bytes);
}

int main(void)
{
	char command[128];

	tap_plan(14);
	umask(022);
	if (!mkdtemp(dir))
		tap_bail_out("cannot make a directory in /tmp");
	test_line();
	test_refused();
	test_away();
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	if (system(command) != 0)
		tap_diag("%s is left over", dir);
	return tap_done();
}
