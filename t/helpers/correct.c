/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * correct STEPS SEED - calls of the malloc family, of jemalloc's x-functions and of C++'s operators
 * at random, in four threads and in children of fork. None is wrong, so nothing may stop it. Writes
 * "good" if each block kept its contents.
 */
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 4, BLOCKS = 200, SHARED = 64, FORK_EVERY = 4000, CHILD_STEPS = 300 };
enum { ZERO = 0x40 }; /* MALLOCX_ZERO */

enum family { NONE, C, CXX, CXX_ALIGNED, CXX_ARRAY, X };

struct block {
	unsigned char *p;
	size_t size;
	unsigned lg; /* of the alignment that was asked for; 0: none */
	enum family family;
	unsigned char fill;
};

#define FUNCTION(ret, name, symbol, ...) static ret (*name)(__VA_ARGS__);
#define FUNCTIONS(F)                                                                               \
	F(void *, get, "malloc", size_t)                                                           \
	F(void, put, "free", void *)                                                               \
	F(void *, get_zero, "calloc", size_t, size_t)                                              \
	F(void *, resize, "realloc", void *, size_t)                                               \
	F(void *, get_aligned, "memalign", size_t, size_t)                                         \
	F(size_t, usable, "malloc_usable_size", void *)                                            \
	F(size_t, good, "malloc_good_size", size_t)                                                \
	F(void, put_sized, "free_sized", void *, size_t)                                           \
	F(void, put_aligned_sized, "free_aligned_sized", void *, size_t, size_t)                   \
	F(void *, x_get, "mallocx", size_t, int)                                                   \
	F(void *, x_resize, "rallocx", void *, size_t, int)                                        \
	F(size_t, x_resize_here, "xallocx", void *, size_t, size_t, int)                           \
	F(size_t, x_usable, "sallocx", const void *, int)                                          \
	F(void, x_put, "dallocx", void *, int)                                                     \
	F(void, x_put_sized, "sdallocx", void *, size_t, int)                                      \
	F(size_t, x_good, "nallocx", size_t, int)                                                  \
	F(int, ctl, "mallctl", const char *, void *, size_t *, void *, size_t)                     \
	F(void *, new_one, "_Znwm", size_t)                                                        \
	F(void *, new_array, "_Znam", size_t)                                                      \
	F(void *, new_aligned, "_ZnwmSt11align_val_t", size_t, size_t)                             \
	F(void, delete_sized, "_ZdlPvm", void *, size_t)                                           \
	F(void, delete_array_sized, "_ZdaPvm", void *, size_t)                                     \
	F(void, delete_aligned, "_ZdlPvSt11align_val_t", void *, size_t)                           \
	F(void, delete_aligned_sized, "_ZdlPvmSt11align_val_t", void *, size_t, size_t)
FUNCTIONS(FUNCTION)

static void look_up(void *fn, const char *symbol)
{
	void *at = dlsym(RTLD_DEFAULT, symbol);

	if (!at) {
		fprintf(stderr, "no %s\n", symbol);
		exit(5);
	}
	memcpy(fn, &at, sizeof(at));
}

static _Thread_local uint64_t state;

static size_t below(size_t n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (size_t)((state * UINT64_C(0x2545f4914f6cdd1d)) >> 20) % n;
}

static _Noreturn void wrong(const char *what, const struct block *b)
{
	fprintf(stderr, "wrong: %s: %p, size %zu, alignment 2^%u, family %d\n", what, (void *)b->p,
		b->size, b->lg, (int)b->family);
	_exit(6);
}

static size_t random_size(void)
{
	static const size_t most[] = { 20,    64,    200,    1000,    5000,   17000,
				       33000, 70000, 300000, 1200000, 3000000 };
	size_t n = below(600);

	if (n == 0)
		return ((size_t)32 << 20) - 4096 +
		       below(8192); /* where a mapping begins to be used */
	if (n == 1)
		return ((size_t)32 << 20) + below((size_t)20 << 20);
	return below(most[n < 580 ? n % 9 : n % 11] + 1);
}

static unsigned random_lg(void)
{
	return below(3) ? (unsigned)below(8) + 4 : (unsigned)below(23);
}

/* The first bytes, some of the others, and the last one. */
static size_t next(size_t i)
{
	return i + (i < 300 ? 1 : 509);
}

static unsigned char byte_at(const struct block *b, size_t i)
{
	return (unsigned char)(b->fill + i % 13);
}

static void fill(const struct block *b)
{
	for (size_t i = 0; i < b->size; i = next(i))
		b->p[i] = byte_at(b, i);
	if (b->size)
		b->p[b->size - 1] = byte_at(b, b->size - 1);
}

/* had: the size of the block when it was filled. */
static void check(const struct block *b, size_t had)
{
	for (size_t i = 0; i < b->size && i < had; i = next(i))
		if (b->p[i] != byte_at(b, i))
			wrong("its contents changed", b);
	if (had && had <= b->size && b->p[had - 1] != byte_at(b, had - 1))
		wrong("its last byte changed", b);
}

static void check_zero(const struct block *b, size_t from)
{
	size_t size = usable(b->p);

	for (size_t i = from; i < size; i = next(i))
		if (b->p[i])
			wrong("it is not zero", b);
}

static int flags(const struct block *b)
{
	return (int)b->lg;
}

static void fresh(struct block *b)
{
	size_t size = random_size();
	size_t align;
	bool zero = false;
	unsigned how = (unsigned)below(8);

	*b = (struct block){ .size = size, .fill = (unsigned char)below(256) };
	if (how == 2 || how == 4 || how == 6)
		b->lg = random_lg();
	align = (size_t)1 << b->lg;
	switch (how) {
	case 0:
		b->family = C;
		b->p = get(size);
		break;
	case 1:
		b->family = C;
		b->p = get_zero(size / 7 + 1, 7);
		b->size = (size / 7 + 1) * 7;
		zero = true;
		break;
	case 2:
		b->family = C;
		b->p = get_aligned(align, size);
		break;
	case 3:
		b->family = CXX;
		b->p = new_one(size);
		break;
	case 4:
		b->family = CXX_ALIGNED;
		b->p = new_aligned(size, align);
		break;
	case 5:
		b->family = CXX_ARRAY;
		b->p = new_array(size);
		break;
	default:
		b->family = X;
		zero = below(2);
		b->p = x_get(size, flags(b) | (zero ? ZERO : 0));
		break;
	}
	if (!b->p)
		wrong("no memory", b);
	if ((uintptr_t)b->p & (align - 1))
		wrong("it is not aligned", b);
	if (usable(b->p) < b->size)
		wrong("it is too short", b);
	if (zero)
		check_zero(b, 0);
	fill(b);
}

static void drop(struct block *b)
{
	size_t align = (size_t)1 << b->lg;
	unsigned how = (unsigned)below(4);

	check(b, b->size);
	if (b->family == CXX && how)
		delete_sized(b->p, b->size);
	else if (b->family == CXX_ARRAY && how)
		delete_array_sized(b->p, b->size);
	else if (b->family == CXX_ALIGNED && how)
		delete_aligned_sized(b->p, b->size, align);
	else if (b->family == CXX_ALIGNED)
		delete_aligned(b->p, align);
	else if (b->family == C && how == 1 && !b->lg)
		put_sized(b->p, b->size);
	else if (b->family == C && how == 1)
		put_aligned_sized(b->p, align, b->size);
	else if (b->family == X && how == 0)
		x_put(b->p, flags(b));
	else if (how == (b->family == C ? 2 : 1) && (b->family == C || b->family == X))
		x_put_sized(b->p, b->size, flags(b));
	else if (b->family == X && how == 2)
		x_put_sized(b->p, below(2) ? x_usable(b->p, 0) : b->size, flags(b));
	else
		put(b->p);
	b->family = NONE;
}

static void change(struct block *b)
{
	size_t old = b->size;
	size_t size = below(2) ? random_size() : old - old / 4 + below(old / 3 + 16);
	bool zero = below(4) == 0;
	size_t had = usable(b->p);
	unsigned char *p;

	if (b->family == C) {
		size += !size;
		p = resize(b->p, size);
		if (!p)
			wrong("realloc gives no memory", b);
		b->p = p;
		b->lg = 0;
		b->size = size;
	} else if (b->family == X && below(3)) {
		if (below(2))
			b->lg = random_lg();
		p = x_resize(b->p, size, flags(b) | (zero ? ZERO : 0));
		if (!p)
			wrong("rallocx gives no memory", b);
		b->p = p;
		b->size = size;
		if ((uintptr_t)p & (((uintptr_t)1 << b->lg) - 1))
			wrong("rallocx does not align", b);
		if (zero && size > had)
			check_zero(b, had);
	} else if (b->family == X) {
		size_t extra = below(size + 100);
		size_t now = x_resize_here(b->p, size, extra, flags(b) | (zero ? ZERO : 0));

		if (now != x_usable(b->p, 0))
			wrong("xallocx differs from sallocx", b);
		b->size = now < old ? now : now >= size && size > old ? size : old;
		if (now >= size && now <= size + extra)
			b->size = now;
		if (zero && now > had)
			check_zero(b, had);
	} else {
		return;
	}
	check(b, old);
	fill(b);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct block shared[SHARED];

/* Blocks that another thread allocated. */
static void swap(struct block *b)
{
	struct block *s = &shared[below(SHARED)];
	struct block taken;

	pthread_mutex_lock(&lock);
	taken = *s;
	*s = *b;
	*b = taken;
	pthread_mutex_unlock(&lock);
}

static void steps(struct block *blocks, unsigned long n)
{
	while (n--) {
		struct block *b = &blocks[below(BLOCKS)];
		size_t what = below(10);

		if (b->family != NONE && b->size > (size_t)1 << 20)
			what = 0; /* few large ones at a time */
		if (what == 1)
			swap(b);
		else if (b->family == NONE)
			fresh(b);
		else if (what < 5)
			drop(b);
		else
			change(b);
	}
}

static unsigned long count;
static uint64_t seed;

static void *run(void *arg)
{
	static struct block all[THREADS][BLOCKS];
	struct block *blocks = all[(uintptr_t)arg];
	unsigned long left = count;

	state = seed * 1000 + (uintptr_t)arg + 1;
	while (left) {
		unsigned long n = left < FORK_EVERY ? left : FORK_EVERY;
		int status = 0;
		pid_t pid;

		steps(blocks, n);
		left -= n;
		pid = fork();
		if (pid == 0) {
			pthread_mutex_init(&lock, NULL);
			steps(blocks, CHILD_STEPS);
			_exit(0);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status) {
			fprintf(stderr, "wrong: a child ends with status %d\n", status);
			_exit(7);
		}
	}
	for (unsigned i = 0; i < BLOCKS; i++)
		if (blocks[i].family != NONE)
			drop(&blocks[i]);
	return NULL;
}

static size_t allocated(void)
{
	uint64_t epoch = 1;
	size_t bytes = 0;
	size_t len = sizeof(bytes);

	if (ctl("epoch", NULL, NULL, &epoch, sizeof(epoch)) ||
	    ctl("stats.allocated", &bytes, &len, NULL, 0))
		exit(5);
	return bytes;
}

/* What a review found: each of these is correct. */
static void known(void)
{
	unsigned char *p = resize(get(128), 100);

	put_sized(p, 100);
	for (unsigned lg = 4; lg < 26; lg++) {
		size_t align = (size_t)1 << lg;

		for (size_t size = 0; size < (size_t)80 << 20; size += size / 2 + 1) {
			put_aligned_sized(get_aligned(align, size), align, size);
			delete_aligned_sized(new_aligned(size, align), size, align);
			p = x_get(size, (int)lg);
			if (x_usable(p, 0) != x_good(size, (int)lg))
				wrong("nallocx differs",
				      &(struct block){ .p = p, .size = size, .lg = lg });
			p = x_resize(p, size - size / 5, (int)lg);
			x_put_sized(p, size - size / 5, (int)lg);
		}
	}
	for (size_t size = 0; size < (size_t)80 << 20; size += size / 3 + 1) {
		p = get(size);
		if (usable(p) != good(size))
			wrong("malloc_good_size differs", &(struct block){ .p = p, .size = size });
		put_sized(p, size);
	}
	x_put_sized(x_get(0, 0), 0, 0);
	x_put_sized(get(0), 0, 0);
	x_put_sized(get_aligned(64, 0), 0, 6);
	delete_sized(new_one(0), 0);
	p = get(0);
	if (ctl("arenas.lookup", &(unsigned){ 0 }, &(size_t){ sizeof(unsigned) }, &p, sizeof(p)))
		wrong("arenas.lookup does not know it", &(struct block){ .p = p });
	put(p);
}

/* What is freed does not count as allocated, wherever it is kept. */
static void statistics(void)
{
	static void *p[1000];
	size_t bytes = 0;
	size_t before = allocated();
	size_t among;

	for (unsigned i = 0; i < 1000; i++) {
		size_t size = i % 50 ? i + 1 : (size_t)i * 300;

		p[i] = get(size);
		bytes += size;
	}
	among = allocated();
	if (among < before + bytes || among > before + bytes + bytes / 4)
		wrong("allocated does not count it", &(struct block){ .size = among - before });
	for (unsigned i = 0; i < 1000; i++)
		put(p[i]);
	if (allocated() != before)
		wrong("allocated counts it", &(struct block){ .size = allocated() - before });
}

int main(int argc, char **argv)
{
	pthread_t thread[THREADS];

#define LOOK_UP(ret, name, symbol, ...) look_up(&name, symbol);
	FUNCTIONS(LOOK_UP)
	if (argc != 3)
		return 2;
	count = strtoul(argv[1], NULL, 10);
	seed = strtoul(argv[2], NULL, 10);
	known();
	statistics();
	for (uintptr_t i = 0; i < THREADS; i++)
		if (pthread_create(&thread[i], NULL, run, (void *)i))
			return 5;
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	for (unsigned i = 0; i < SHARED; i++)
		if (shared[i].family != NONE)
			drop(&shared[i]);
	puts("good");
	return 0;
}
