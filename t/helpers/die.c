/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Each case misuses the allocator once, and the allocator must stop it.
 *
 * usage: die CASE
 *
 * Prints the address in question on stdout first ("address 0x..."), then does
 * it. "survived" on stdout means that nothing stopped it.
 */
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/cases.h"

/* Volatile: the compiler must neither warn of these misuses nor make use of them. */
static void *volatile victim;
static void *volatile keeps;
static void *volatile before[8];
static char static_data[256];

/* A block whose slab is well in use: neighbours before and behind it stay allocated. */
static void *block(size_t n)
{
	for (int i = 0; i < 8; i++)
		before[i] = malloc(n);
	void *p = malloc(n);
	keeps = malloc(n);
	if (p == NULL)
		exit(3);
	memset(p, 'x', n);
	return p;
}

static void aim(void *p)
{
	victim = p;
	printf("address %#lx\n", (unsigned long)(uintptr_t)p);
	fflush(stdout);
}

static void *offset(void *p, size_t by)
{
	return (void *)((uintptr_t)p + by);
}

static void twice(size_t n)
{
	aim(block(n));
	free(victim);
	free(victim);
}

static void double_small(void)
{
	twice(100);
}

static void double_16(void)
{
	twice(16);
}

static void double_medium(void)
{
	twice(20000);
}

static void double_large(void)
{
	twice(100000);
}

/* Another free comes in between, so that the second one looks like any other: the next
 * allocation sees it. */
static void double_large_around(void)
{
	void *other = block(100000);

	aim(block(100000));
	free(victim);
	free(other);
	free(victim);
	keeps = malloc(100000);
}

static void double_huge(void)
{
	twice(100 << 20);
}

static void double_zero(void)
{
	aim(malloc(0));
	free(victim);
	free(victim);
}

static void double_realloc_zero(void)
{
	aim(block(100));
	if (realloc(victim, 0) == NULL)
		free(victim);
}

static void realloc_freed_large(void)
{
	aim(block(100000));
	free(victim);
	keeps = realloc(victim, 200000);
}

static void *frees_it(void *p)
{
	free(p);
	return NULL;
}

/* First freed by a thread that does not own it, and then by the owner. */
static void double_large_thread(void)
{
	pthread_t t;

	aim(block(200000));
	if (pthread_create(&t, NULL, frees_it, victim) != 0)
		exit(3);
	pthread_join(t, NULL);
	free(victim);
}

/* ---- others are freed in between ------------------------------------------------------------- */

static void *others[2000];

static void *frees_victim(void *unused)
{
	(void)unused;
	free(victim);
	return NULL;
}

static void by_thread(void)
{
	pthread_t t;

	if (pthread_create(&t, NULL, frees_victim, NULL) != 0 || pthread_join(t, NULL) != 0)
		exit(3);
}

/* Frees the victim, then n others, then the victim again; noticed at the latest when the program
 * ends. */
static void late(size_t size, int n)
{
	void *p = NULL;

	for (int i = 0; i < n; i++) {
		others[i] = malloc(size);
		if (i == n / 2)
			p = malloc(size);
	}
	keeps = malloc(size);
	aim(p);
	free(victim);
	for (int i = 0; i < n; i++)
		free(others[i]);
	free(victim);
}

#define LATE_CASE(name, size, n)                                                                   \
	static void name(void)                                                                     \
	{                                                                                          \
		late(size, n);                                                                     \
	}
LATE_CASE(late_1, 64, 1)
LATE_CASE(late_16, 16, 1)
LATE_CASE(late_20, 64, 20)
LATE_CASE(late_200, 64, 200)
LATE_CASE(late_2000, 64, 2000)
LATE_CASE(late_2000_16, 16, 2000)
LATE_CASE(late_1000_4k, 4096, 1000)
LATE_CASE(late_30_20k, 20000, 30)
LATE_CASE(late_3_64k, 65536, 3)

/* The same, and nothing comes after the second free, which has to notice it. */
#define NOW_CASE(name, size, n)                                                                    \
	static void name(void)                                                                     \
	{                                                                                          \
		late(size, n);                                                                     \
		_exit(0);                                                                          \
	}
NOW_CASE(now_2, 24, 2)
NOW_CASE(now_20, 64, 20)
NOW_CASE(now_200, 1000, 200)
NOW_CASE(now_10_9k, 9000, 10)

/* By another thread, by its own after 20 others of the same size. */
static void now_thread(void)
{
	for (int i = 0; i < 20; i++)
		others[i] = malloc(100);
	aim(block(100));
	by_thread();
	for (int i = 0; i < 20; i++)
		free(others[i]);
	free(victim);
	_exit(0);
}

/* Its own thread or another one frees it, then others of the size; another is the second. */
static void now_by_thread(size_t size, void (*first)(void))
{
	for (int i = 0; i < 20; i++)
		others[i] = malloc(size);
	aim(block(size));
	first();
	for (int i = 0; i < 20; i++)
		free(others[i]);
	by_thread();
	_exit(0);
}

static void by_own(void)
{
	free(victim);
}

static void now_own_thread(void)
{
	now_by_thread(100, by_own);
}

static void now_own_thread_16(void)
{
	now_by_thread(16, by_own);
}

static void now_own_thread_9k(void)
{
	now_by_thread(9000, by_own);
}

static void now_threads(void)
{
	now_by_thread(100, by_thread);
}

static void late_thread_own(void)
{
	aim(block(100));
	by_thread();
	free(victim);
}

static void late_own_thread(void)
{
	aim(block(100));
	free(victim);
	by_thread();
}

static void late_threads(void)
{
	aim(block(100));
	by_thread();
	by_thread();
}

static void late_thread_many(void)
{
	for (int i = 0; i < 2000; i++)
		others[i] = malloc(200);
	aim(others[1000]);
	by_thread();
	for (int i = 0; i < 2000; i++)
		if (i != 1000)
			free(others[i]);
	free(victim);
}

/* What realloc has left behind. */
static void late_realloc_moved(void)
{
	aim(block(100));
	keeps = realloc(victim, 5000);
	free(before[0]);
	free(victim);
}

/* The mark of a free object is overwritten, so that only a repeat of the last free is seen. */
static void double_written(void)
{
	aim(block(100));
	free(victim);
	memset(victim, 'y', 100);
	free(victim);
}

static void foreign_stack(void)
{
	char buf[256];

	free(malloc(100));
	aim(offset(buf, (16 - ((uintptr_t)buf & 15)) & 15));
	free(victim);
}

static void foreign_static(void)
{
	free(malloc(100));
	aim(offset(static_data, (16 - ((uintptr_t)static_data & 15)) & 15));
	free(victim);
}

static void foreign_mmap(void)
{
	free(malloc(100));
	aim(mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	free(victim);
}

static void foreign_unmapped(void)
{
	free(malloc(100));
	aim((void *)0x10000);
	free(victim);
}

static void foreign_noncanonical(void)
{
	free(malloc(100));
	aim((void *)0xdeadbeefdeadbee0);
	free(victim);
}

static void foreign_odd(void)
{
	free(malloc(100));
	aim((void *)0xdeadbeefdeadbeef);
	free(victim);
}

/* Runs before anything was allocated, so it uses no stdio. */
static void foreign_first(void)
{
	static const char text[] = "address 0x7000deadbee0\n";

	if (write(STDOUT_FILENO, text, sizeof text - 1) < 0)
		exit(3);
	victim = (void *)0x7000deadbee0;
	free(victim);
}

static void foreign_realloc(void)
{
	aim(mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	keeps = realloc(victim, 100);
}

static void foreign_usable_size(void)
{
	aim(mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	keeps = (void *)malloc_usable_size(victim);
}

static void free_middle(size_t size, size_t at)
{
	aim(offset(block(size), at));
	free(victim);
}

static void interior_small(void)
{
	free_middle(100, 8);
}

static void interior_small_16(void)
{
	free_middle(200, 16);
}

static void interior_small_32(void)
{
	free_middle(64, 32);
}

static void interior_small_512(void)
{
	free_middle(1000, 512);
}

/* The last 16 bytes. */
static void interior_small_end(void)
{
	free_middle(30000, 32768 - 16);
}

static void interior_32(void)
{
	aim(offset(block(32), 16));
	free(victim);
}

static void interior_aligned(void)
{
	void *p = aligned_alloc(1024, 1024);

	memset(p, 'x', 1024);
	aim(offset(p, 64));
	free(victim);
}

static void interior_realloc_small(void)
{
	aim(offset(block(400), 16));
	keeps = realloc(victim, 2000);
}

static void interior_thread(void)
{
	pthread_t t;

	aim(offset(block(500), 128));
	if (pthread_create(&t, NULL, frees_it, victim) != 0)
		exit(3);
	pthread_join(t, NULL);
}

/* An object far inside the slab, of a class whose size is no power of two. */
static void interior_far(void)
{
	for (int i = 0; i < 200; i++)
		keeps = malloc(48);
	aim(offset(keeps, 16));
	free(victim);
}

static void interior_large(void)
{
	aim(offset(block(100000), 16384));
	free(victim);
}

static void interior_large_16(void)
{
	aim(offset(block(100000), 16));
	free(victim);
}

static void interior_huge(void)
{
	aim(offset(block(100 << 20), 1 << 20));
	free(victim);
}

static void interior_huge_16(void)
{
	aim(offset(block(100 << 20), 16));
	free(victim);
}

static void interior_realloc(void)
{
	aim(offset(block(100000), 32768));
	keeps = realloc(victim, 300000);
}

/* The part of a slab that no malloc has reached yet. */
static void never_handed_out(void)
{
	void *p = malloc(16);

	aim((void *)(((uintptr_t)p & ~(uintptr_t)16383) + 16384 - 64));
	free(victim);
}

/* ---- free objects that are written to -------------------------------------------------------- */

enum { MANY = 2048 };
static unsigned char *many[MANY];

/* Four of eight that follow each other are free. */
static int many_freed(int i)
{
	return i % 8 < 4;
}

static void *frees_half(void *unused)
{
	(void)unused;
	for (int i = 0; i < MANY; i++)
		if (many_freed(i))
			free(many[i]);
	return NULL;
}

enum who { OWN, OTHER };
enum what { POINTER, COPIED, LOW_BYTE, ZERO_BYTE, OVERFLOW_8 };

static void harm(unsigned char *p, enum what what)
{
	void *to = static_data;

	switch (what) {
	case POINTER:
	case OVERFLOW_8:
		memcpy(p, &to, sizeof(to));
		break;
	case COPIED:
		memcpy(p, many[0], sizeof(to));
		break;
	case LOW_BYTE:
		p[0] ^= 0x10;
		break;
	case ZERO_BYTE:
		p[0] = p[0] ? 0 : 1;
		break;
	}
}

/* The thread that freed them varies, and which are harmed: all of them or those directly behind a
 * live one. Then they are allocated again. Which one is noticed first is not known. */
static void link_harmed(size_t size, enum who who, enum what what)
{
	pthread_t t;

	for (int i = 0; i < MANY; i++)
		many[i] = malloc(size);
	if (who == OWN)
		frees_half(NULL);
	else if (pthread_create(&t, NULL, frees_half, NULL) != 0 || pthread_join(t, NULL) != 0)
		exit(3);
	puts("address 0x[0-9a-f]+");
	fflush(stdout);
	for (int i = 1; i < MANY; i++)
		if (many_freed(i) && (what <= COPIED || many[i] == many[i - 1] + size))
			harm(many[i], what);
	for (int i = 0; i < 100000; i++) {
		unsigned char *p = malloc(size);

		if (p >= (unsigned char *)static_data &&
		    p < (unsigned char *)static_data + sizeof(static_data)) {
			puts("malloc was led astray");
			exit(4);
		}
	}
}

#define LINK_CASE(name, size, who, what)                                                           \
	static void name(void)                                                                     \
	{                                                                                          \
		link_harmed(size, who, what);                                                      \
	}
LINK_CASE(link_16, 16, OWN, POINTER)
LINK_CASE(link_64, 64, OWN, POINTER)
LINK_CASE(link_1024, 1024, OWN, POINTER)
LINK_CASE(link_4096, 4096, OWN, POINTER)
LINK_CASE(link_thread_16, 16, OTHER, POINTER)
LINK_CASE(link_thread_64, 64, OTHER, POINTER)
LINK_CASE(link_thread_1024, 1024, OTHER, POINTER)
LINK_CASE(link_copied, 64, OTHER, COPIED)
LINK_CASE(link_low_byte, 64, OTHER, LOW_BYTE)
LINK_CASE(link_low_byte_16, 16, OTHER, LOW_BYTE)
LINK_CASE(link_zero_byte, 128, OTHER, ZERO_BYTE)
LINK_CASE(link_overflow, 64, OTHER, OVERFLOW_8)
LINK_CASE(link_overflow_large, 2048, OTHER, OVERFLOW_8)

/* ---- guards ---------------------------------------------------------------------------------- */

enum { REGION = 64 << 20, KERNEL_PAGE = 4096 };
static volatile uintptr_t guard_low, guard_high; /* read by faulted */

static void faulted(int sig, siginfo_t *info, void *context)
{
	uintptr_t at = (uintptr_t)info->si_addr;
	static const char good[] = "guarded\n";
	static const char bad[] = "fault elsewhere\n";

	(void)sig;
	(void)context;
	if (at >= guard_low && at < guard_high)
		_exit(write(STDOUT_FILENO, good, sizeof(good) - 1) < 0);
	_exit(write(STDOUT_FILENO, bad, sizeof(bad) - 1) < 0 ? 1 : 3);
}

static void expect_fault(uintptr_t low, uintptr_t high)
{
	struct sigaction act = { .sa_sigaction = faulted, .sa_flags = SA_SIGINFO };

	guard_low = low;
	guard_high = high;
	sigaction(SIGSEGV, &act, NULL);
}

/* A region is full of long blocks, and so is the next one: a write beyond the last block of the
 * first reaches the metadata of the second. */
static void guard_end(void)
{
	static uintptr_t seen[1200];
	uintptr_t first = 0;

	for (int i = 0; i < 1200; i++) {
		void *p = malloc(512 << 10);

		memset(p, 'x', 100);
		seen[i] = (uintptr_t)p / REGION;
		for (int k = 0; k < i && !first; k++) {
			if (seen[k] + 1 == seen[i])
				first = seen[k];
			if (seen[i] + 1 == seen[k])
				first = seen[i];
		}
	}
	if (!first)
		exit(5);
	expect_fault((first + 1) * REGION, (first + 1) * REGION + KERNEL_PAGE);
	for (volatile char *at = (char *)((first + 1) * REGION - KERNEL_PAGE);; at += 16)
		*at = 'y';
}

/* Where the first memory with access lies in a region: its metadata. Exits if there is none. */
static uintptr_t metadata_of(uintptr_t base)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];
	uintptr_t at = 0;

	while (maps && !at && fgets(line, sizeof(line), maps)) {
		char *rest;
		uintptr_t from = strtoul(line, &rest, 16);
		bool access = strstr(rest, " rw-p ") != NULL;

		if (access && from >= base && from < base + REGION)
			at = from;
	}
	if (maps)
		fclose(maps);
	if (!at)
		exit(6);
	return at;
}

/* Down from an object: behind a region's metadata, or between objects, before those are reached. In
 * front of the metadata there is no access either. */
static void guard_front(void)
{
	uintptr_t p = (uintptr_t)malloc(100);
	uintptr_t base = p / REGION * REGION;

	expect_fault(metadata_of(base), p);
	for (volatile char *at = (char *)p; at > (char *)base; at -= KERNEL_PAGE)
		*at = 'y';
}

/* How far metadata lie from blocks: in front of a small one, and in front of and behind one of
 * 32 MiB, which reaches to the end of its region. */
static void distances(void)
{
	uintptr_t object = (uintptr_t)malloc(100);
	uintptr_t block[8];
	uintptr_t end = 0;

	for (int i = 0; i < 8; i++)
		block[i] = (uintptr_t)malloc(REGION / 2);
	for (int i = 0; i < 8; i++) {
		for (int k = 0; k < 8 && !end; k++) {
			if (block[k] / REGION == block[i] / REGION + 1)
				end = block[i] / REGION * REGION + REGION;
		}
	}
	if (!end)
		exit(5);
	printf("%#lx %#lx %#lx\n", object - metadata_of(object / REGION * REGION),
	       end - REGION / 2 - metadata_of(end - REGION), metadata_of(end) - end);
	fflush(stdout);
	_exit(0);
}

static const struct die_case cases[] = {
	{ "double-16", double_16 },
	{ "double-small", double_small },
	{ "double-medium", double_medium },
	{ "double-large", double_large },
	{ "double-large-around", double_large_around },
	{ "double-huge", double_huge },
	{ "double-zero", double_zero },
	{ "double-realloc-zero", double_realloc_zero },
	{ "late-1", late_1 },
	{ "late-16", late_16 },
	{ "late-20", late_20 },
	{ "late-200", late_200 },
	{ "late-2000", late_2000 },
	{ "late-2000-16", late_2000_16 },
	{ "late-1000-4k", late_1000_4k },
	{ "late-30-20k", late_30_20k },
	{ "late-3-64k", late_3_64k },
	{ "now-2", now_2 },
	{ "now-20", now_20 },
	{ "now-200", now_200 },
	{ "now-10-9k", now_10_9k },
	{ "now-thread", now_thread },
	{ "now-own-thread", now_own_thread },
	{ "now-own-thread-16", now_own_thread_16 },
	{ "now-own-thread-9k", now_own_thread_9k },
	{ "now-threads", now_threads },
	{ "late-thread-own", late_thread_own },
	{ "late-own-thread", late_own_thread },
	{ "late-threads", late_threads },
	{ "late-thread-many", late_thread_many },
	{ "late-realloc-moved", late_realloc_moved },
	{ "double-written", double_written },
	{ "double-large-thread", double_large_thread },
	{ "realloc-freed-large", realloc_freed_large },
	{ "foreign-stack", foreign_stack },
	{ "foreign-static", foreign_static },
	{ "foreign-mmap", foreign_mmap },
	{ "foreign-unmapped", foreign_unmapped },
	{ "foreign-noncanonical", foreign_noncanonical },
	{ "foreign-odd", foreign_odd },
	{ "foreign-first", foreign_first },
	{ "foreign-realloc", foreign_realloc },
	{ "foreign-usable-size", foreign_usable_size },
	{ "interior-small", interior_small },
	{ "interior-small-16", interior_small_16 },
	{ "interior-small-32", interior_small_32 },
	{ "interior-small-512", interior_small_512 },
	{ "interior-small-end", interior_small_end },
	{ "interior-32", interior_32 },
	{ "interior-aligned", interior_aligned },
	{ "interior-realloc-small", interior_realloc_small },
	{ "interior-thread", interior_thread },
	{ "interior-far", interior_far },
	{ "interior-large", interior_large },
	{ "interior-large-16", interior_large_16 },
	{ "interior-huge", interior_huge },
	{ "interior-huge-16", interior_huge_16 },
	{ "interior-realloc", interior_realloc },
	{ "guard-end", guard_end },
	{ "guard-front", guard_front },
	{ "distances", distances },
	{ "never-handed-out", never_handed_out },
	{ "link-16", link_16 },
	{ "link-64", link_64 },
	{ "link-1024", link_1024 },
	{ "link-4096", link_4096 },
	{ "link-thread-16", link_thread_16 },
	{ "link-thread-64", link_thread_64 },
	{ "link-thread-1024", link_thread_1024 },
	{ "link-copied", link_copied },
	{ "link-low-byte", link_low_byte },
	{ "link-low-byte-16", link_low_byte_16 },
	{ "link-zero-byte", link_zero_byte },
	{ "link-overflow", link_overflow },
	{ "link-overflow-large", link_overflow_large },
};

int main(int argc, char **argv)
{
	return die_main("die", cases, sizeof cases / sizeof *cases, argc, argv);
}
