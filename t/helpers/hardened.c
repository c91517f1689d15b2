/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hardened CASE - makes one error that only a hardened process notices; for t/die/hardened.sh. The
 * address that a message should name is written first. "survived": nothing was noticed.
 */
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/cases.h"

enum { OTHERS = 5000 };

/* The compiler may know what malloc and free do. */
static void *(*volatile get)(size_t) = malloc;
static void (*volatile put)(void *) = free;
static void *(*volatile get_zeroed)(size_t, size_t) = calloc;
static void *(*volatile resize)(void *, size_t) = realloc;
static size_t (*volatile usable)(void *) = malloc_usable_size;

static char *shown(void *p)
{
	printf("address %p\n", p);
	fflush(stdout);
	return p;
}

static char *block(size_t size)
{
	return shown(get(size));
}

static void overflow(size_t size, size_t by)
{
	char *p = block(size);

	for (size_t i = 0; i < by; i++)
		p[size + i] = 0;
	put(p);
}

static void overflow_1(void)
{
	overflow(24, 1);
}

static void overflow_1_odd(void)
{
	overflow(101, 1);
}

static void overflow_8(void)
{
	overflow(64, 8);
}

static void overflow_16(void)
{
	overflow(1000, 16);
}

static void overflow_realloc(void)
{
	char *p = shown(resize(get(50), 60));

	p[60] = 'x';
	put(p);
}

static void overflow_calloc(void)
{
	char *p = shown(get_zeroed(5, 5));

	p[25] = 'x';
	put(p);
}

static void overflow_usable(void)
{
	char *p = block(40);

	memset(p, 'x', usable(p));
	p[usable(p)] = 'x';
	put(p);
}

static void overflow_carved(void)
{
	char *p = block(900);

	p[usable(p)] = 'x';
	put(p);
	_exit(5);
}

static void overflow_large(void)
{
	char *p = block(300000);

	*(volatile char *)(p + usable(p)) = 'x';
}

static void underflow_large(void)
{
	*(volatile char *)(block(70000) - 1) = 'x';
}

/* A write after free, which is noticed when the block is used again. */
static void written(size_t size, size_t at)
{
	char *p = block(size);

	put(p);
	p[at] = 'x';
	for (int i = 0; i < 8 * OTHERS; i++)
		put(get(size));
}

static void written_first(void)
{
	written(64, 0);
}

static void written_later(void)
{
	written(500, 400);
}

/* Nothing uses it again. */
static void written_last(void)
{
	char *p = block(500);

	put(p);
	p[400] = 'x';
}

/* Those that were freed first are on the lists of slabs at the end, beside objects in use. */
static void written_listed(void)
{
	enum { N = 2000 };
	static char *p[N];

	for (int i = 0; i < N; i++)
		p[i] = get(500);
	shown(p[0]);
	for (int i = 0; i < N; i += 2)
		put(p[i]);
	p[0][400] = 'x';
}

/* A large block that lies ready is used again. */
static void written_ready(void)
{
	char *p = block(40000);

	put(p);
	p[30000] = 'x';
	for (int i = 0; i < 100; i++)
		put(get(40000));
	_exit(5);
}

static void written_drained(void)
{
	written_last();
	malloc_trim(0);
	_exit(5);
}

/* Nothing uses it again, and its slab ends. */
static void written_released(void)
{
	static char *p[3000];

	for (int i = 0; i < 3000; i++)
		p[i] = get(900);
	shown(p[100]);
	put(p[100]);
	for (int i = 300; i < 3000; i++)
		put(p[i]);
	p[100][400] = 'x';
	for (int i = 0; i < 300; i++)
		if (i != 100)
			put(p[i]);
	for (int i = 0; i < 2000; i++)
		p[i] = get(300);
	for (int i = 0; i < 2000; i++)
		put(p[i]);
	_exit(5);
}

/* The same when the thread has spent what clear_rate gives it. */
static void spend(void)
{
	for (int i = 0; i < OTHERS; i++)
		put(get(500));
	for (int i = 0; i < 40; i++)
		put(get(300000));
}

static void spent_head(void)
{
	spend();
	written(500, 40);
}

/* When it has left the quarantine already, and lies ready or in its slab. */
static void spent_late(void)
{
	static char *others[OTHERS];
	char *p;

	spend();
	for (int i = 0; i < OTHERS; i++)
		others[i] = get(500);
	p = block(500);
	put(p);
	for (int i = 0; i < OTHERS; i++)
		put(others[i]);
	p[40] = 'x';
	for (int i = 0; i < 2 * OTHERS; i++)
		(void)get(500);
	puts("survived");
	_exit(0);
}

static void spent_middle(void)
{
	spend();
	written(500, 400);
	puts("survived");
	_exit(0);
}

static void read_freed(void)
{
	char *p = block(200);

	memset(p, 's', 200);
	put(p);
	/* A link and a mark, which are random, lie in front. */
	for (int i = 16; i < 200; i++) {
		if (p[i] != 0)
			exit(5);
	}
	exit(0);
}

static void *put_it(void *p)
{
	put(p);
	return NULL;
}

/* The same from its first byte on, in a process that is not hardened. */
static void read_freed_all(void)
{
	char *p = block(16);

	memset(p, 's', 16);
	put(p);
	for (int i = 0; i < 16; i++) {
		if (p[i] != 0)
			exit(5);
	}
	exit(0);
}

/* While other blocks are used again and again. */
static char *freed_large(void)
{
	char *p = block(300000);

	memset(p, 's', 300000);
	put(p);
	for (int i = 0; i < 5; i++)
		free(malloc(300000));
	return p;
}

/* What was not filled when it was freed is still zero for calloc. */
static void spent_calloc(void)
{
	spend();
	for (int i = 0; i < 3000; i++) {
		size_t n = 300 + (size_t)i * 977 % 200000;
		char *p = get(n);

		memset(p, 's', n);
		put(p);
		p = get_zeroed(1, n);
		for (size_t k = 0; k < n; k++)
			if (p[k])
				exit(5);
		put(p);
	}
	exit(0);
}

static void large_read(void)
{
	exit(*(volatile char *)(freed_large() + 100000));
}

static void spent_large(void)
{
	spend();
	large_read();
}

static void large_write(void)
{
	*(volatile char *)(freed_large() + 299999) = 'x';
}

/* More than the quarantine keeps, of blocks that read as zero or not, but can be used. */
static void large_again(void)
{
	for (int i = 0; i < 2000; i++) {
		size_t n = 20000 + (size_t)i * 977 % 3000000;
		char *p = malloc(n);

		if (!p)
			exit(6);
		p[0] = p[n / 2] = p[n - 1] = 'x';
		free(p);
	}
	exit(0);
}

static void double_far(void)
{
	char *p = block(64);

	put(p);
	for (int i = 0; i < OTHERS; i++)
		put(get(64));
	put(p);
	puts("survived");
	exit(0);
}

static void double_thread(void)
{
	char *p = block(64);
	pthread_t t;

	if (pthread_create(&t, NULL, put_it, p) || pthread_join(t, NULL))
		exit(5);
	put(p);
	puts("survived");
	exit(0);
}

static void double_large(void)
{
	char *p = block(300000);

	put(p);
	put(get(200000));
	put(p);
}

static void double_zero(void)
{
	char *p = block(0);

	put(p);
	put(p);
}

static void usable_freed(void)
{
	char *p = block(100);

	put(p);
	exit(usable(p) == 0 ? 5 : 6);
}

static void realloc_freed(void)
{
	char *p = block(100);

	put(p);
	put(resize(p, 110));
}

static void free_by(const char *name, size_t size, size_t said)
{
	void *symbol = dlsym(RTLD_DEFAULT, name);
	void (*fn)(void *, size_t);

	if (!symbol)
		exit(5);
	memcpy(&fn, &symbol, sizeof(fn));
	fn(block(size), said);
}

static void sized_c(void)
{
	free_by("free_sized", 16, 32);
}

static void sized_cxx(void)
{
	free_by("_ZdlPvm", 16, 32);
}

static void sized_jemalloc(void)
{
	void *symbol = dlsym(RTLD_DEFAULT, "sdallocx");
	void (*fn)(void *, size_t, int);

	if (!symbol)
		exit(5);
	memcpy(&fn, &symbol, sizeof(fn));
	fn(block(16), 32, 0);
}

static void sized_cxx_array(void)
{
	free_by("_ZdaPvm", 100, 99);
}

static void sized_right(void)
{
	free_by("free_sized", 16, 16);
	free_by("_ZdlPvm", 100, 100);
	free_by("_ZdaPvm", 70000, 70000);
	exit(0);
}

/* What a realloc has left where it was may be told as either size. */
static void sized_realloc(void)
{
	void *symbol = dlsym(RTLD_DEFAULT, "free_sized");
	void (*fn)(void *, size_t);

	if (!symbol)
		exit(5);
	memcpy(&fn, &symbol, sizeof(fn));
	fn(resize(get(1000), 600), 600);
	fn(resize(get(100000), 70000), 70000);
	fn(resize(get(40000), 20000), 20000);
	fn(resize(get(0), 1), 1);
	fn(get(0), 0);
	exit(0);
}

/* When no region has room, a small object has a mapping of its own, and a block that is to shrink
 * stays as it is. */
static void sized_scarce(void)
{
	struct rlimit limit = { (rlim_t)150 << 20, (rlim_t)150 << 20 };
	void *sized = dlsym(RTLD_DEFAULT, "free_sized");
	void *exact = dlsym(RTLD_DEFAULT, "rallocx");
	void (*fn)(void *, size_t);
	void *(*rallocx)(void *, size_t, int);
	void **all = NULL;
	void **p;
	void *large;

	if (!sized || !exact)
		exit(5);
	memcpy(&fn, &sized, sizeof(fn));
	memcpy(&rallocx, &exact, sizeof(rallocx));
	large = get(1000);
	setrlimit(RLIMIT_AS, &limit);
	while ((p = malloc(64)) != NULL) {
		*p = all;
		all = p;
	}
	p = rallocx(large, 100, 0);
	fn(p ? p : large, p ? 100 : 1000);
	while (all) {
		p = all;
		all = *p;
		fn(p, 64);
	}
	exit(0);
}

/* Many are in use at a time, all distinct; then they are used again. */
static void zero_many(void)
{
	enum { N = 3000 };
	static char *p[N];

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < N; i++) {
			p[i] = get(0);
			if (!p[i] || usable(p[i]) != 0)
				exit(5);
			for (int k = i & 7; k < i; k += 500)
				if (p[k] == p[i])
					exit(6);
		}
		for (int i = 0; i < N; i += 2)
			p[i] = resize(p[i], 10);
		for (int i = 0; i < N; i++)
			put(p[i]);
	}
	exit(0);
}

static void zero_read(void)
{
	exit(*(volatile char *)block(0));
}

static void zero_write(void)
{
	*(volatile char *)block(0) = 'x';
}

/* Slabs whose ends, and parts between objects in use, are given to the kernel and used again. */
static void holes_right(void)
{
	enum { N = 20000 };
	static const size_t sizes[] = { 24, 72, 136, 200, 232, 400 };
	static char *p[N];

	for (unsigned s = 0; s < sizeof sizes / sizeof *sizes; s++) {
		for (unsigned round = 0; round < 4; round++) {
			for (unsigned i = 0; i < N; i++)
				if (!p[i])
					memset(p[i] = get(sizes[s]), 7, sizes[s]);
			for (unsigned i = 0; i < N; i++) {
				if (i % 256 || round == 3) {
					put(p[i]);
					p[i] = NULL;
				}
			}
			malloc_trim(0);
		}
	}
	exit(0);
}

/* Parent and child make the same calls; at how many do they get the same address? */
static void fork_slots(void)
{
	static uintptr_t own[64];
	static uintptr_t child[64];
	unsigned same = 0;
	int fds[2];
	pid_t pid;

	put(get(64));
	if (pipe(fds) || (pid = fork()) < 0)
		exit(5);
	for (int i = 0; i < 64; i++)
		own[i] = (uintptr_t)get(64);
	if (pid == 0)
		_exit(write(fds[1], own, sizeof(own)) != sizeof(own));
	if (read(fds[0], child, sizeof(child)) != sizeof(child))
		exit(5);
	for (int i = 0; i < 64; i++)
		same += own[i] == child[i];
	exit(same > 32 ? 6 : 0);
}

static const struct die_case cases[] = {
	{ "overflow-1", overflow_1 },
	{ "overflow-1-odd", overflow_1_odd },
	{ "overflow-8", overflow_8 },
	{ "overflow-16", overflow_16 },
	{ "overflow-realloc", overflow_realloc },
	{ "overflow-calloc", overflow_calloc },
	{ "overflow-usable", overflow_usable },
	{ "written-first", written_first },
	{ "written-later", written_later },
	{ "written-released", written_released },
	{ "written-last", written_last },
	{ "written-listed", written_listed },
	{ "written-ready", written_ready },
	{ "written-drained", written_drained },
	{ "read-freed", read_freed },
	{ "large-read", large_read },
	{ "large-write", large_write },
	{ "large-again", large_again },
	{ "spent-calloc", spent_calloc },
	{ "spent-head", spent_head },
	{ "spent-late", spent_late },
	{ "spent-large", spent_large },
	{ "spent-middle", spent_middle },
	{ "double-far", double_far },
	{ "double-thread", double_thread },
	{ "double-large", double_large },
	{ "double-zero", double_zero },
	{ "usable-freed", usable_freed },
	{ "realloc-freed", realloc_freed },
	{ "read-freed-all", read_freed_all },
	{ "overflow-carved", overflow_carved },
	{ "overflow-large", overflow_large },
	{ "underflow-large", underflow_large },
	{ "sized-realloc", sized_realloc },
	{ "zero-many", zero_many },
	{ "sized-c", sized_c },
	{ "sized-cxx", sized_cxx },
	{ "sized-jemalloc", sized_jemalloc },
	{ "sized-cxx-array", sized_cxx_array },
	{ "sized-right", sized_right },
	{ "sized-scarce", sized_scarce },
	{ "zero-read", zero_read },
	{ "zero-write", zero_write },
	{ "holes-right", holes_right },
	{ "fork-slots", fork_slots },
};

int main(int argc, char **argv)
{
	return die_main("hardened", cases, sizeof cases / sizeof *cases, argc, argv);
}
