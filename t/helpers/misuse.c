/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Each case misuses the allocator once, whichever allocator that is.
 *
 * usage: misuse CASE
 *        misuse --list        a line "NAME KIND TEXT" for each case
 *
 * The program fills each block that it still owns with the number of the block. After the misuse it
 * allocates many more blocks of the size, checks all of them, frees them, and says how it went:
 *
 *   contained CASE    no block shares memory with another one, none has changed, none lies in
 *                     memory that is no heap
 *   harm WHAT         something of that is not so
 *   fault at ...      a page without access stopped the case's own write or read
 *   crash at ...      any other fault, that is, one inside the allocator
 */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_BYTES ((size_t)64 << 20)
#define LARGE_BYTES ((size_t)200000)

/* glibc 2.36 lacks these; the cases then call free, which is told no size. */
__attribute__((weak)) void free_sized(void *p, size_t size);
__attribute__((weak)) void free_aligned_sized(void *p, size_t align, size_t size);

typedef unsigned char byte;

/* ---- what the program owns ------------------------------------------------------------------ */

enum { LIVE_MAX = 32768 };
static struct live {
	byte *p;
	size_t bytes;
} live[LIVE_MAX];
static unsigned lives;
static byte decoy[4096]; /* what an attacker would like malloc to return */

static _Noreturn void harm(const char *what)
{
	printf("harm %s\n", what);
	fflush(stdout);
	_exit(10);
}

/* Only the first and the last bytes of long blocks are looked at. */
static size_t next_index(size_t i, size_t bytes)
{
	if (i + 1 == 70000 && bytes > 140000)
		return bytes - 70000;
	return i + 1;
}

static void fill(const struct live *l)
{
	uint64_t number = (uint64_t)(l - live) * UINT64_C(0x9e3779b97f4a7c15) | 1;

	for (size_t i = 0; i < l->bytes; i = next_index(i, l->bytes))
		l->p[i] = (byte)(number >> (i % 8 * 8));
}

/* From now on the program owns the block, and nobody else may change it. */
static void *own(void *p, size_t bytes)
{
	struct live *l = &live[lives];

	if (!p || lives == LIVE_MAX) {
		fprintf(stderr, "misuse: no memory\n");
		exit(3);
	}
	if ((uintptr_t)p - (uintptr_t)decoy < sizeof(decoy))
		harm("malloc returned the address that was written");
	l->p = p;
	l->bytes = bytes;
	fill(l);
	lives++;
	return p;
}

static void *take(size_t bytes)
{
	return own(malloc(bytes), bytes);
}

/* The program no longer owns the block; the caller frees it. */
static byte *drop(void *p)
{
	for (unsigned i = 0; i < lives; i++) {
		if (live[i].p == p)
			live[i].bytes = 0;
	}
	return p;
}

static void check_all(void)
{
	for (unsigned i = 0; i < lives; i++) {
		struct live *l = &live[i];
		uint64_t number = (uint64_t)i * UINT64_C(0x9e3779b97f4a7c15) | 1;

		for (size_t k = 0; k < l->bytes; k = next_index(k, l->bytes))
			if (l->p[k] != (byte)(number >> (k % 8 * 8)))
				harm("a live block has changed");
	}
}

static size_t survey_bytes; /* the size that the case is about */

/* Allocates so many blocks of the size that malloc returns all that were freed, and checks them. */
static void survey(void)
{
	unsigned n = survey_bytes <= 100       ? 6000
		     : survey_bytes <= 4096    ? 3000
		     : survey_bytes < 100000   ? 300
		     : survey_bytes < 10 << 20 ? 30
					       : 3;

	for (unsigned i = 0; i < n; i++)
		take(survey_bytes);
	check_all();
	for (unsigned i = 0; i < lives; i++)
		if (live[i].bytes)
			free(live[i].p);
	lives = 0;
}

/* ---- faults --------------------------------------------------------------------------------- */

static volatile uintptr_t touch_low = 1, touch_high; /* what the case itself reads or writes */

static void faulted(int sig, siginfo_t *info, void *context)
{
	uintptr_t at = (uintptr_t)info->si_addr;
	static const char good[] = "fault at what the program touched\n";
	static const char bad[] = "crash in the allocator\n";

	(void)sig;
	(void)context;
	if (at >= touch_low && at < touch_high)
		_exit(write(STDOUT_FILENO, good, sizeof(good) - 1) < 0 ? 1 : 11);
	_exit(write(STDOUT_FILENO, bad, sizeof(bad) - 1) < 0 ? 1 : 12);
}

/* Volatile: the compiler must neither warn of these misuses nor make use of them. */
static byte *volatile victim;
static void *volatile ignored;

static volatile byte *touch(void *p, size_t bytes)
{
	touch_low = (uintptr_t)p;
	touch_high = (uintptr_t)p + bytes;
	return p;
}

static void write_at(void *p, const void *from, size_t bytes)
{
	volatile byte *to = touch(p, bytes);

	for (size_t i = 0; i < bytes; i++)
		to[i] = ((const byte *)from)[i];
}

static void write_many(void *p, size_t bytes)
{
	volatile byte *to = touch(p, bytes);

	for (size_t i = 0; i < bytes; i++)
		to[i] = 0x41;
}

/* ---- threads -------------------------------------------------------------------------------- */

static void in_thread(void *(*run)(void *), void *arg)
{
	pthread_t t;

	if (pthread_create(&t, NULL, run, arg) != 0 || pthread_join(t, NULL) != 0)
		exit(3);
}

static void *frees_it(void *p)
{
	free(p);
	return NULL;
}

static void *frees_twice(void *p)
{
	free(p);
	free(p);
	return NULL;
}

/* A block with neighbours that stay. */
static byte *block(size_t bytes)
{
	byte *p;

	survey_bytes = bytes;
	for (int i = 0; i < 8; i++)
		take(bytes);
	p = take(bytes);
	take(bytes);
	return p;
}

/* ---- double free ---------------------------------------------------------------------------- */

static void twice(size_t bytes, size_t unused)
{
	(void)unused;
	victim = drop(block(bytes));
	free(victim);
	free(victim);
}

static void twice_zero(size_t unused, size_t unused2)
{
	(void)unused;
	(void)unused2;
	survey_bytes = 16;
	victim = malloc(0);
	free(victim);
	free(victim);
}

static void twice_calloc(size_t bytes, size_t unused)
{
	(void)unused;
	survey_bytes = bytes;
	victim = calloc(1, bytes);
	free(victim);
	free(victim);
}

static void twice_aligned(size_t bytes, size_t align)
{
	void *p = NULL;

	survey_bytes = bytes;
	if (posix_memalign(&p, align, bytes) != 0)
		exit(3);
	victim = p;
	free(victim);
	free(victim);
}

static void twice_realloc_zero(size_t bytes, size_t unused)
{
	(void)unused;
	victim = drop(block(bytes));
	if (realloc(victim, 0) == NULL)
		free(victim);
}

static void twice_in_thread(size_t bytes, size_t unused)
{
	(void)unused;
	in_thread(frees_twice, drop(block(bytes)));
}

/* n others are freed in between. */
static void twice_after(size_t bytes, size_t n)
{
	static void *other[2000];

	survey_bytes = bytes;
	for (size_t i = 0; i < n; i++) {
		other[i] = malloc(bytes);
		if (i == n / 2)
			victim = malloc(bytes);
	}
	take(bytes);
	free(victim);
	for (size_t i = 0; i < n; i++)
		free(other[i]);
	free(victim);
}

/* free(a), free(b), free(a), then three mallocs. */
static void twice_around(size_t bytes, size_t unused)
{
	byte *other = drop(block(bytes));

	(void)unused;
	victim = drop(block(bytes));
	free(victim);
	free(other);
	free(victim);
	for (int i = 0; i < 3; i++)
		take(bytes);
}

enum who { OTHER_OWN, OWN_OTHER, OTHERS };

static void twice_by(size_t bytes, size_t who)
{
	victim = drop(block(bytes));
	if (who == OWN_OTHER)
		free(victim);
	else
		in_thread(frees_it, victim);
	if (who == OTHER_OWN)
		free(victim);
	else
		in_thread(frees_it, victim);
}

/* First another thread frees it, then its own thread, which has freed n others in between. */
static void twice_by_after(size_t bytes, size_t n)
{
	static void *other[2000];

	victim = drop(block(bytes));
	for (size_t i = 0; i < n; i++)
		other[i] = malloc(bytes);
	in_thread(frees_it, victim);
	for (size_t i = 0; i < n; i++)
		free(other[i]);
	free(victim);
}

static void twice_realloc(size_t bytes, size_t unused)
{
	byte *moved;

	(void)unused;
	victim = drop(block(bytes));
	moved = realloc(victim, bytes * 40);
	own(moved, bytes * 40);
	free(victim);
}

/* All of its slab was freed and, if trim is set, given back to the kernel. */
static void twice_emptied(size_t bytes, size_t trim)
{
	static void *all[20000];
	size_t n = (size_t)4 << 20;

	survey_bytes = bytes;
	n = n / bytes < 20000 ? n / bytes : 20000;
	for (size_t i = 0; i < n; i++)
		all[i] = malloc(bytes);
	victim = all[n / 2];
	for (size_t i = 0; i < n; i++)
		free(all[i]);
	if (trim)
		malloc_trim(0);
	free(victim);
}

static void twice_written(size_t bytes, size_t unused)
{
	(void)unused;
	victim = drop(block(bytes));
	free(victim);
	write_many(victim, bytes);
	free(victim);
}

/* Malloc has returned it again by then. */
static void twice_reused(size_t bytes, size_t unused)
{
	(void)unused;
	victim = drop(block(bytes));
	free(victim);
	take(bytes);
	free(victim);
}

/* ---- the middle of blocks ------------------------------------------------------------------- */

static void middle(size_t bytes, size_t at)
{
	victim = block(bytes) + at;
	free(victim);
}

static void middle_aligned(size_t align, size_t at)
{
	void *p = NULL;

	survey_bytes = align;
	if (posix_memalign(&p, align, align) != 0)
		exit(3);
	victim = (byte *)own(p, align) + at;
	free(victim);
}

static void middle_thread(size_t bytes, size_t at)
{
	in_thread(frees_it, block(bytes) + at);
}

static void middle_realloc(size_t bytes, size_t at)
{
	victim = block(bytes) + at;
	ignored = realloc(victim, bytes * 3);
}

static void middle_size(size_t bytes, size_t at)
{
	size_t got;

	victim = block(bytes) + at;
	got = malloc_usable_size(victim);
	if (got > bytes - at)
		harm("the size of the middle of a block reaches beyond its end");
}

/* ---- memory that malloc never gave ---------------------------------------------------------- */

enum place {
	STACK,
	STATIC,
	MAPPED,
	BRK,
	CODE,
	ODD,
	LOW,
	NONCANONICAL,
	ENVIRON,
	UNCARVED,
	FREE_PAGE
};

extern char **environ;

static byte *place_of(enum place place)
{
	static byte on_stack_like[256] __attribute__((aligned(64)));
	byte *p;

	switch (place) {
	case STATIC:
		return on_stack_like + 64;
	case MAPPED:
		p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		return p + 4096;
	case BRK:
		p = sbrk(1 << 16);
		return (byte *)(((uintptr_t)p + 4096) & ~(uintptr_t)63);
	case CODE:
		return (byte *)((uintptr_t)place_of & ~(uintptr_t)15);
	case ODD:
		return on_stack_like + 65;
	case LOW:
		return (byte *)0x10000;
	case NONCANONICAL:
		return (byte *)0xdeadbeefdeadbee0;
	case ENVIRON:
		return (byte *)(((uintptr_t)environ[0] + 15) & ~(uintptr_t)15);
	case UNCARVED:
		p = take(64);
		return (byte *)(((uintptr_t)p & ~(uintptr_t)16383) + 16384 - 64);
	case FREE_PAGE:
		p = malloc(3 << 20);
		free(p);
		return p + (1 << 20);
	case STACK:
		break;
	}
	return NULL;
}

enum call { FREE, REALLOC, USABLE };

static void foreign(size_t place, size_t call)
{
	byte on_stack[256] __attribute__((aligned(64)));

	survey_bytes = 64;
	take(64);
	victim = place == STACK ? on_stack + 64 : place_of((enum place)place);
	switch (call) {
	case FREE:
		free(victim);
		break;
	case REALLOC:
		ignored = realloc(victim, 200);
		break;
	default:
		ignored = (void *)malloc_usable_size(victim);
	}
} /* NOLINT(clang-analyzer-core.StackAddressEscape) */

/* Where metadata is for an allocator that keeps it at aligned addresses. */
static void foreign_metadata(size_t align, size_t at)
{
	survey_bytes = 64;
	victim = (byte *)(((uintptr_t)take(64) & ~(align - 1)) + at);
	free(victim);
}

/* ---- writes beyond a block ------------------------------------------------------------------ */

/* Bytes that the block has room for. Some allocators have a header behind them. */
static size_t room_of(byte *p)
{
	return malloc_usable_size(p);
}

/* Writes beyond the end of what was asked for; the neighbours are live. */
static void overflow(size_t bytes, size_t n)
{
	victim = block(bytes);
	write_many(victim + bytes, n);
	drop(victim);
	free(victim);
}

static void underflow(size_t bytes, size_t n)
{
	victim = block(bytes);
	write_many(victim - n, n);
	drop(victim);
	free(victim);
}

enum { ROW = 2048 };
static byte *row[ROW];

static int row_freed(int i)
{
	return i % 8 < 4;
}

static void *frees_row(void *unused)
{
	for (int i = 0; i < ROW; i++)
		if (row_freed(i))
			free(row[i]);
	return unused;
}

/* Half of many blocks are freed, by this thread or by another one. */
static void make_row(size_t bytes, int by_other)
{
	survey_bytes = bytes;
	for (int i = 0; i < ROW; i++) {
		row[i] = malloc(bytes);
		if (!row_freed(i))
			own(row[i], bytes);
	}
	if (by_other)
		in_thread(frees_row, NULL);
	else
		frees_row(NULL);
}

/* Writes from a live block into a free one behind it: `bytes` of the decoy's address, repeated. */
static void overflow_free(size_t size, size_t bytes)
{
	void *to[4] = { decoy, decoy, decoy, decoy };

	make_row(size, 1);
	for (int i = 1; i < ROW; i++)
		if (row_freed(i) && !row_freed(i - 1) && row[i] == row[i - 1] + size)
			write_at(row[i], to, bytes);
}

/* Writes beyond the usable size of a block. */
static void overflow_page(size_t bytes, size_t n)
{
	victim = block(bytes);
	write_many(victim + room_of(victim), n);
	drop(victim);
	free(victim);
}

static void overflow_zero(size_t n, size_t unused)
{
	(void)unused;
	survey_bytes = 16;
	for (int i = 0; i < 8; i++)
		take(16);
	victim = malloc(0);
	take(16);
	write_many(victim, n);
	free(victim);
}

static void read_zero(size_t unused, size_t unused2)
{
	(void)unused;
	(void)unused2;
	survey_bytes = 16;
	victim = malloc(0);
	if (*touch(victim, 1)) /* NOLINT(clang-analyzer-core.uninitialized.Branch) */
		harm("malloc(0) shows what was there before");
	free(victim);
}

/* Two neighbouring regions are full of long blocks: a linear write leaves the first one. */
static void leave_region(size_t bytes, size_t down)
{
	byte *low = (byte *)UINTPTR_MAX;
	byte *high = NULL;

	survey_bytes = 64;
	for (size_t i = 0; i < ((size_t)256 << 20) / bytes; i++) {
		byte *p = malloc(bytes);

		low = p < low ? p : low;
		high = p > high ? p : high;
	}
	if (down)
		write_many(low - (1 << 20), 1 << 20);
	else
		write_many(high + bytes, (size_t)64 << 20);
}

/* ---- use after free ------------------------------------------------------------------------- */

/* Writes the decoy's address where a link may lie. */
static void write_freed(size_t size, size_t by_other)
{
	void *to = decoy;

	make_row(size, (int)by_other);
	for (int i = 0; i < ROW; i++)
		if (row_freed(i))
			write_at(row[i], &to, sizeof(to));
}

static void write_freed_byte(size_t size, size_t by_other)
{
	make_row(size, (int)by_other);
	for (int i = 0; i < ROW; i++)
		if (row_freed(i))
			*touch(row[i], 1) ^= 0x10;
}

/* Writes where no link lies. */
static void write_freed_behind(size_t size, size_t at)
{
	make_row(size, 0);
	for (int i = 0; i < ROW; i++)
		if (row_freed(i))
			write_many(row[i] + at, 8);
}

static void copy_link(size_t size, size_t unused)
{
	(void)unused;
	make_row(size, 1);
	for (int i = 1; i < ROW; i++)
		if (row_freed(i))
			write_at(row[i], row[0], 8);
}

static void write_freed_one(size_t bytes, size_t at)
{
	victim = drop(block(bytes));
	free(victim);
	write_many(victim + at, 8);
}

/* Writes to a block that malloc has returned again by then. */
static void write_reused(size_t bytes, size_t unused)
{
	(void)unused;
	victim = drop(block(bytes));
	free(victim);
	take(bytes);
	write_many(victim, 8);
}

static void read_freed(size_t bytes, size_t at)
{
	byte *p = block(bytes);
	byte was[16];

	memcpy(was, p + at, sizeof(was));
	victim = drop(p);
	free(victim);
	touch(victim + at, sizeof(was));
	if (memcmp(victim + at, was, sizeof(was)) == 0)
		harm("a freed block shows what was in it");
}

/* Looks for old contents in blocks that malloc returns. */
static void uninitialized(size_t bytes, size_t unused)
{
	static const byte secret[16] = "secret of before";
	byte *p = block(bytes);

	(void)unused;
	for (size_t i = 0; i + 16 <= bytes; i += 16)
		memcpy(p + i, secret, 16);
	free(drop(p));
	for (int i = 0; i < 50; i++) {
		p = malloc(bytes);
		for (size_t k = 0; k + 16 <= bytes; k += 16)
			if (memcmp(p + k, secret, 16) == 0)
				harm("malloc gives what was there before");
		own(p, bytes);
	}
}

/* ---- freed blocks given to other functions -------------------------------------------------- */

static void realloc_freed(size_t bytes, size_t to)
{
	byte *p;

	victim = drop(block(bytes));
	free(victim);
	p = realloc(victim, to);
	if (p)
		own(p, to);
}

static void size_of_freed(size_t bytes, size_t unused)
{
	(void)unused;
	victim = drop(block(bytes));
	free(victim);
	ignored = (void *)malloc_usable_size(victim);
}

/* ---- wrong sizes ---------------------------------------------------------------------------- */

static void sized(size_t bytes, size_t told)
{
	victim = drop(block(bytes));
	if (free_sized)
		free_sized(victim, told);
	else
		free(victim);
}

static void sized_aligned(size_t bytes, size_t told)
{
	void *p = NULL;

	survey_bytes = bytes;
	if (posix_memalign(&p, 256, bytes) != 0)
		exit(3);
	if (free_aligned_sized)
		free_aligned_sized(p, 256, told);
	else
		free(p);
}

/* ---- threads that end ----------------------------------------------------------------------- */

static void *spoils(void *size)
{
	static byte *mine[64];
	size_t bytes = (size_t)size;

	for (int i = 0; i < 64; i++)
		mine[i] = malloc(bytes);
	for (int i = 0; i < 32; i++)
		free(mine[i]);
	free(mine[3]);
	return NULL;
}

static void ends_with_double(size_t bytes, size_t unused)
{
	(void)unused;
	survey_bytes = bytes;
	in_thread(spoils, (void *)bytes);
}

static void *spoils_memory(void *size)
{
	void *to = decoy;
	static byte *mine[600];
	size_t bytes = (size_t)size;

	for (int i = 0; i < 600; i++)
		mine[i] = malloc(bytes);
	for (int i = 0; i < 500; i++)
		free(mine[i]);
	for (int i = 0; i < 500; i++)
		write_at(mine[i], &to, sizeof(to));
	return NULL;
}

static void ends_with_written(size_t bytes, size_t unused)
{
	(void)unused;
	survey_bytes = bytes;
	in_thread(spoils_memory, (void *)bytes);
}

/* The owner has ended; its block is freed twice, with other blocks of the slab in between. */
static byte *left[64];

static void *leaves(void *size)
{
	for (int i = 0; i < 64; i++)
		left[i] = malloc((size_t)size);
	return NULL;
}

static void owner_ended(size_t bytes, size_t n)
{
	survey_bytes = bytes;
	in_thread(leaves, (void *)bytes);
	victim = left[n];
	free(victim);
	for (size_t i = 0; i < n; i++)
		free(left[i]);
	free(victim);
}

/* ---- all of them ---------------------------------------------------------------------------- */

static const struct misuse {
	const char *name;
	const char *kind;
	void (*run)(size_t a, size_t b);
	size_t a, b;
	const char *text;
} cases[] = {
#include "misuse.def"
};

#define CASES (sizeof(cases) / sizeof(*cases))

int main(int argc, char **argv)
{
	struct sigaction act = { .sa_sigaction = faulted, .sa_flags = SA_SIGINFO };

	if (argc == 2 && strcmp(argv[1], "--list") == 0) {
		for (size_t i = 0; i < CASES; i++)
			printf("%s %s %s\n", cases[i].name, cases[i].kind, cases[i].text);
		return 0;
	}
	for (size_t i = 0; argc == 2 && i < CASES; i++) {
		if (strcmp(cases[i].name, argv[1]) != 0)
			continue;
		sigaction(SIGSEGV, &act, NULL);
		sigaction(SIGBUS, &act, NULL);
		cases[i].run(cases[i].a, cases[i].b);
		touch(NULL, 0);
		survey();
		/* Once more, with what a trim has left. */
		malloc_trim(0);
		survey();
		printf("contained %s\n", argv[1]);
		return 0;
	}
	fprintf(stderr, "usage: misuse CASE, or misuse --list\n");
	return 2;
}
