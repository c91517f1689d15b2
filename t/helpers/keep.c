/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How much freed memory a program with one thread keeps, with dirty_max:16M.
 *
 *   once SIZE PERCENT     150 MiB of blocks of SIZE; all except PERCENT of them are freed
 *   shrink SIZE TO        150 MiB of blocks of SIZE shrink to TO bytes
 *   child SIZE            as once, in a fork child whose parent allocated the blocks
 *   again SIZE            builds and frees the same repeatedly: from the third time on nothing is
 *                         given back to the kernel
 *   turns                 big blocks are allocated and freed at random: nothing is given back
 *   replaced              150 MiB of blocks of 32 KiB to 8 MiB; many are replaced by others, one at
 *                         a time, then all are freed
 */
#include "lib/check.h"
#include "lib/statm.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define TOTAL ((size_t)150 << 20)
#define DIRTY_MAX ((size_t)16 << 20)
#define SLACK ((size_t)12 << 20) /* caches, metadata, partly used pages, and the program itself */
#define LIVE 32u

static unsigned char **blocks;
static size_t count;

static size_t rss_bytes(void)
{
	return (size_t)statm_rss_kib() << 10;
}

static unsigned long purges(void)
{
	int (*stat)(const char *, uint64_t *);
	void *sym = dlsym(RTLD_DEFAULT, "sluice_stat");
	uint64_t n = 0;

	memcpy(&stat, &sym, sizeof stat);
	if (!stat || stat("purge_calls", &n) != 0)
		_exit(97);
	return n;
}

static void build(size_t size)
{
	if (!blocks) {
		count = TOTAL / size;
		blocks = mmap(NULL, count * sizeof *blocks, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (blocks == MAP_FAILED)
			_exit(96);
	}
	for (size_t i = 0; i < count; i++) {
		blocks[i] = malloc(size);
		if (!blocks[i])
			_exit(95);
		memset(blocks[i], 1, size);
	}
}

/* Frees all except the first `percent`, in order. */
static void tear_down(unsigned percent)
{
	for (size_t i = count * percent / 100; i < count; i++)
		free(blocks[i]);
}

static void kept(size_t live, size_t before)
{
	size_t now = rss_bytes();

	CHECK(now <= before + live + live / 4 + DIRTY_MAX + SLACK,
	      "%zu KiB are kept of %zu in use, %zu before", now >> 10, live >> 10, before >> 10);
}

static void once(size_t size, unsigned percent)
{
	size_t before = rss_bytes();

	build(size);
	tear_down(percent);
	kept(TOTAL / 100 * percent, before);
}

static void shrink(size_t size, size_t to)
{
	size_t before = rss_bytes();

	build(size);
	for (size_t i = 0; i < count; i++) {
		blocks[i] = realloc(blocks[i], to);
		CHECK(blocks[i] && blocks[i][to - 1] == 1, "what is left is not what it was");
	}
	kept(count * to, before);
}

static void child(size_t size)
{
	size_t before = rss_bytes();
	int status = -1;

	build(size);
	pid_t pid = fork();

	if (pid == 0) {
		tear_down(0);
		kept(0, before);
		_exit(helper_end());
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0, "the child ended with %#x",
	      (unsigned)status);
}

static void again(size_t size)
{
	unsigned long before = 0;

	for (unsigned round = 0; round < 6; round++) {
		if (round == 2)
			before = purges();
		build(size);
		tear_down(0);
	}
	CHECK(before > 0, "nothing went back at first");
	CHECK(purges() == before, "%lu purges", purges() - before);
}

static void turns(void)
{
	static void *live[LIVE];
	uint64_t seed = 7;
	unsigned long before = 0;

	for (unsigned i = 0; i < 6000; i++) {
		uint64_t r = helper_random(&seed);

		if (i == 2000)
			before = purges();
		free(live[r % LIVE]);
		live[r % LIVE] = malloc(4096 + (r >> 8) % (4 << 20));
		if (!live[r % LIVE])
			_exit(95);
	}
	CHECK(purges() - before <= 20, "%lu purges in 4,000 turns", purges() - before);
}

/* What one block after the other takes again does not add up. */
static void replaced(void)
{
	static struct {
		unsigned char *p;
		size_t size;
	} slot[4096];
	uint64_t seed = 11;
	size_t before = rss_bytes();
	size_t live = 0;
	size_t now;
	unsigned n = 0;

	for (unsigned i = 0; i < 4000; i++) {
		while (live < TOTAL) {
			size_t size = (size_t)32768 << helper_random(&seed) % 9;

			slot[n].p = malloc(size);
			if (!slot[n].p)
				_exit(95);
			memset(slot[n].p, 1, size);
			slot[n++].size = size;
			live += size;
		}
		unsigned k = (unsigned)(helper_random(&seed) % n);

		free(slot[k].p);
		live -= slot[k].size;
		slot[k] = slot[--n];
	}
	while (n)
		free(slot[--n].p);
	now = rss_bytes();
	CHECK(now <= before + TOTAL / 2, "%zu KiB are kept, %zu before", now >> 10, before >> 10);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	size_t size = argc > 2 ? strtoul(argv[2], NULL, 0) : 1;
	size_t more = argc > 3 ? strtoul(argv[3], NULL, 0) : 1;

	if (strcmp(what, "once") == 0)
		once(size, (unsigned)more);
	else if (strcmp(what, "shrink") == 0)
		shrink(size, more);
	else if (strcmp(what, "child") == 0)
		child(size);
	else if (strcmp(what, "again") == 0)
		again(size);
	else if (strcmp(what, "turns") == 0)
		turns();
	else if (strcmp(what, "replaced") == 0)
		replaced();
	return helper_end();
}
