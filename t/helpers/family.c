/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The semantics of every function of the malloc family.
 *
 * usage: family GROUP main|thread
 *
 * The functions are looked up by name, so that the C library need not have
 * them all (free_sized, cfree) and the compiler knows nothing about them. With
 * FAMILY_LIB set each must come from that object; without, a function that the
 * C library lacks is passed over, and the program then states what glibc 2.36
 * does. "thread" runs the group as the first calls of a new thread.
 */
#include "lib/check.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>

static struct {
	void *(*malloc)(size_t);
	void *(*calloc)(size_t, size_t);
	void *(*realloc)(void *, size_t);
	void *(*reallocarray)(void *, size_t, size_t);
	void (*free)(void *);
	void (*cfree)(void *);
	void *(*aligned_alloc)(size_t, size_t);
	void *(*memalign)(size_t, size_t);
	int (*posix_memalign)(void **, size_t, size_t);
	void *(*valloc)(size_t);
	void *(*pvalloc)(size_t);
	size_t (*usable)(void *);
	void (*free_sized)(void *, size_t);
	void (*free_aligned_sized)(void *, size_t, size_t);
	int (*trim)(size_t);
	struct mallinfo (*mallinfo)(void);
	struct mallinfo2 (*mallinfo2)(void);
	int (*malloc_info)(int, FILE *);
	void (*malloc_stats)(void);
	int (*mallopt)(int, int);
	size_t (*size)(const void *);
	size_t (*good_size)(size_t);
	/* The other names, L: those of glibc. */
	void *(*Lmalloc)(size_t);
	void *(*Lcalloc)(size_t, size_t);
	void *(*Lrealloc)(void *, size_t);
	void (*Lfree)(void *);
	void *(*Lmemalign)(size_t, size_t);
	void *(*Lvalloc)(size_t);
	void *(*Lpvalloc)(size_t);
	struct mallinfo (*Lmallinfo)(void);
	int (*Lmallopt)(int, int);
	int (*Pmemalign)(void **, size_t, size_t);
} M;

static const struct {
	const char *name;
	void *slot;
} names[] = {
	{ "malloc", &M.malloc },
	{ "calloc", &M.calloc },
	{ "realloc", &M.realloc },
	{ "reallocarray", &M.reallocarray },
	{ "free", &M.free },
	{ "cfree", &M.cfree },
	{ "aligned_alloc", &M.aligned_alloc },
	{ "memalign", &M.memalign },
	{ "posix_memalign", &M.posix_memalign },
	{ "valloc", &M.valloc },
	{ "pvalloc", &M.pvalloc },
	{ "malloc_usable_size", &M.usable },
	{ "free_sized", &M.free_sized },
	{ "free_aligned_sized", &M.free_aligned_sized },
	{ "malloc_trim", &M.trim },
	{ "mallinfo", &M.mallinfo },
	{ "mallinfo2", &M.mallinfo2 },
	{ "malloc_info", &M.malloc_info },
	{ "malloc_stats", &M.malloc_stats },
	{ "mallopt", &M.mallopt },
	{ "malloc_size", &M.size },
	{ "malloc_good_size", &M.good_size },
	{ "__libc_malloc", &M.Lmalloc },
	{ "__libc_calloc", &M.Lcalloc },
	{ "__libc_realloc", &M.Lrealloc },
	{ "__libc_free", &M.Lfree },
	{ "__libc_memalign", &M.Lmemalign },
	{ "__libc_valloc", &M.Lvalloc },
	{ "__libc_pvalloc", &M.Lpvalloc },
	{ "__libc_mallinfo", &M.Lmallinfo },
	{ "__libc_mallopt", &M.Lmallopt },
	{ "__posix_memalign", &M.Pmemalign },
};

static size_t page;
static const size_t top = SIZE_MAX / 2 + 1; /* the largest power of two */

/* Block sizes around every boundary that a size-class allocator has. */
static const size_t sizes[] = {
	0,       1,       2,       7,       8,      9,      15,     16,     17,      24,
	31,      32,      33,      48,      63,     64,     65,     100,    127,     128,
	129,     255,     256,     257,     500,    511,    512,    513,    1000,    1023,
	1024,    1025,    2000,    2048,    3000,   4095,   4096,   4097,   8000,    8192,
	12000,   16383,   16384,   16385,   20000,  32767,  32768,  32769,  40000,   65535,
	65536,   65537,   100000,  131072,  200000, 262144, 300001, 524288, 1000000, 1048576,
	1048577, 2097152, 3000000, 4194304, 5000001
};
#define NSIZES (sizeof sizes / sizeof *sizes)

static uintptr_t misaligned(const void *p, size_t alignment)
{
	return (uintptr_t)p & (alignment - 1);
}

/* ---- what a successful request returns ------------------------------------------------------- */

static void sizes_group(void)
{
	for (size_t n = 0; n <= 2048; n++) {
		void *p[3];

		for (int i = 0; i < 3; i++) {
			p[i] = M.malloc(n);
			CHECK(p[i] != NULL, "malloc(%zu)", n);
			CHECK(misaligned(p[i], 16) == 0, "malloc(%zu) = %p", n, p[i]);
			CHECK(M.usable(p[i]) >= n, "malloc(%zu): usable %zu", n, M.usable(p[i]));
			helper_fill(p[i], M.usable(p[i]), (uintptr_t)p[i]);
		}
		CHECK(p[0] != p[1] && p[1] != p[2] && p[0] != p[2],
		      "malloc(%zu) gave a block twice", n);
		for (int i = 0; i < 3; i++) {
			size_t u = M.usable(p[i]);

			CHECK(helper_verify(p[i], u, (uintptr_t)p[i]) == u,
			      "malloc(%zu): blocks overlap", n);
			M.free(p[i]);
		}
	}
	for (size_t s = 0; s < NSIZES; s++) {
		size_t n = sizes[s];
		void *p[4];

		p[0] = M.malloc(n);
		p[1] = M.calloc(1, n);
		p[2] = M.realloc(NULL, n);
		p[3] = M.reallocarray(NULL, n, 1);
		for (int i = 0; i < 4; i++) {
			CHECK(p[i] != NULL, "%zu bytes, member %d", n, i);
			CHECK(misaligned(p[i], 16) == 0, "%zu bytes, member %d: %p", n, i, p[i]);
			CHECK(M.usable(p[i]) >= n, "%zu bytes, member %d: usable %zu", n, i,
			      M.usable(p[i]));
			helper_fill(p[i], M.usable(p[i]), (uintptr_t)p[i]);
		}
		for (int i = 0; i < 4; i++) {
			size_t u = M.usable(p[i]);

			CHECK(helper_verify(p[i], u, (uintptr_t)p[i]) == u,
			      "%zu bytes: blocks overlap", n);
			M.free(p[i]);
		}
	}
	CHECK(M.usable(NULL) == 0, "malloc_usable_size(NULL) = %zu", M.usable(NULL));
}

static void zero_group(void)
{
	void *a = M.malloc(0), *b = M.malloc(0);

	CHECK(a != NULL && b != NULL && a != b, "malloc(0): %p, %p", a, b);
	M.free(a);
	M.free(b);
	for (int i = 0; i < 2; i++) {
		a = i ? M.calloc(0, 8) : M.calloc(8, 0);
		CHECK(a != NULL, "calloc with a zero");
		M.free(a);
	}
	a = M.realloc(NULL, 0);
	CHECK(a != NULL, "realloc(NULL, 0) is malloc(0)");
	errno = 0;
	b = M.realloc(a, 0);
	CHECK(b == NULL && errno == 0, "realloc(p, 0) frees: %p, errno %d", b, errno);
	a = M.malloc(300000);
	errno = 0;
	b = M.realloc(a, 0);
	CHECK(b == NULL && errno == 0, "realloc(large, 0) frees: %p, errno %d", b, errno);
	a = M.malloc(100);
	b = M.reallocarray(a, 0, 16);
	CHECK(b == NULL, "reallocarray(p, 0, 16) frees: %p", b);
	a = M.reallocarray(NULL, 16, 0);
	CHECK(a != NULL, "reallocarray(NULL, 16, 0) is malloc(0)");
	M.free(a);
	a = M.aligned_alloc(64, 0);
	CHECK(a != NULL && misaligned(a, 64) == 0, "aligned_alloc(64, 0) = %p", a);
	M.free(a);
	a = M.memalign(4096, 0);
	CHECK(a != NULL && misaligned(a, 4096) == 0, "memalign(4096, 0) = %p", a);
	M.free(a);
	a = NULL;
	CHECK(M.posix_memalign(&a, 128, 0) == 0 && a != NULL && misaligned(a, 128) == 0,
	      "posix_memalign(128, 0) = %p", a);
	M.free(a);
	a = M.valloc(0);
	CHECK(a != NULL && misaligned(a, page) == 0, "valloc(0) = %p", a);
	M.free(a);
	a = M.pvalloc(0);
	CHECK(a != NULL && misaligned(a, page) == 0, "pvalloc(0) = %p", a);
	M.free(a);
	/* realloc(p, 0) must have freed the block: a million blocks of 64 KiB do not fit
	 * otherwise. */
	for (int i = 0; i < 1000000; i++) {
		a = M.malloc(65536);
		if (a == NULL)
			break;
		a = M.realloc(a, 0);
	}
	CHECK(a == NULL, "realloc(p, 0) leaks");
	CHECK(helper_rss_kib() < 200 * 1024, "realloc(p, 0) leaks: %ld KiB resident",
	      helper_rss_kib());
}

/* ---- requests that cannot succeed ------------------------------------------------------------ */

enum { HUGE_MEMBERS = 22 };

/* The i-th impossible request. Returns what came back (NULL is right). */
static void *huge_request(int i, size_t n, void *old, char *what, size_t size)
{
	void *out = NULL;
	int r;

	switch (i) {
#define REQUEST(number, expr)                                                                      \
	case number:                                                                               \
		snprintf(what, size, "%s, n = %#zx", #expr, n);                                    \
		return M.expr
		REQUEST(0, malloc(n));
		REQUEST(1, calloc(1, n));
		REQUEST(2, calloc(n, 1));
		REQUEST(3, calloc(n, 2));
		REQUEST(4, calloc(SIZE_MAX / 2, 3));
		REQUEST(5, calloc((size_t)1 << 33, (size_t)1 << 31));
		REQUEST(6, calloc((size_t)1 << 32, (size_t)1 << 31));
		REQUEST(7, realloc(NULL, n));
		REQUEST(8, realloc(old, n));
		REQUEST(9, reallocarray(NULL, n, 1));
		REQUEST(10, reallocarray(old, n, 1));
		REQUEST(11, reallocarray(old, SIZE_MAX / 2, 3));
		REQUEST(12, reallocarray(old, (size_t)1 << 33, (size_t)1 << 31));
		REQUEST(13, aligned_alloc(8, n));
		REQUEST(14, aligned_alloc(4096, n));
		REQUEST(15, memalign(64, n));
		REQUEST(16, memalign((size_t)1 << 22, n));
		REQUEST(17, memalign(top, 16));
		REQUEST(18, valloc(n));
		REQUEST(19, pvalloc(n));
#undef REQUEST
	case 20:
	case 21:
		snprintf(what, size, "posix_memalign(%s, %#zx)", i == 20 ? "16" : "2 MiB", n);
		out = old;
		r = M.posix_memalign(&out, i == 20 ? 16 : (size_t)1 << 21, n);
		if (r == ENOMEM && out == old)
			return NULL;
		snprintf(what, size, "posix_memalign(%#zx) = %d, pointer %s", n, r,
			 out == old ? "kept" : "changed");
		return out == NULL ? old : out;
	default:
		return NULL;
	}
}

static void huge_one(int i, size_t n, size_t old_size)
{
	char what[128] = "";
	unsigned char *old = old_size ? M.malloc(old_size) : NULL;

	if (old != NULL)
		helper_fill(old, old_size, 77);
	errno = 0;
	void *p = huge_request(i, n, old, what, sizeof what);
	int e = errno;

	CHECK(p == NULL, "%s gave %p", what, p);
	CHECK(e == ENOMEM, "%s left errno at %d", what, e);
	if (old != NULL) {
		CHECK(helper_verify(old, old_size, 77) == old_size, "%s changed the old block",
		      what);
		M.free(old);
	}
}

static const size_t huge_sizes[] = { SIZE_MAX,         SIZE_MAX - 1,
				     SIZE_MAX - 15,    SIZE_MAX - 4095,
				     SIZE_MAX - 16384, (size_t)PTRDIFF_MAX + 1,
				     PTRDIFF_MAX,      (size_t)PTRDIFF_MAX - 4096,
				     (size_t)1 << 62,  (size_t)1 << 48 };

static void huge_group(void)
{
	for (int i = 0; i < HUGE_MEMBERS; i++)
		for (size_t s = 0; s < sizeof huge_sizes / sizeof *huge_sizes; s++) {
			huge_one(i, huge_sizes[s], 100);
			huge_one(i, huge_sizes[s], 100000);
		}
}

static void *huge_first(void *arg)
{
	huge_one((int)(intptr_t)arg, PTRDIFF_MAX, 0);
	huge_one((int)(intptr_t)arg, (size_t)PTRDIFF_MAX + 1, 0);
	void *p = M.malloc(40);
	CHECK(p != NULL, "a thread whose first request failed cannot allocate");
	M.free(p);
	return NULL;
}

static void first_fails_group(void)
{
	for (int i = 0; i < HUGE_MEMBERS; i++) {
		pthread_t t;

		if (pthread_create(&t, NULL, huge_first, (void *)(intptr_t)i) != 0)
			abort();
		pthread_join(t, NULL);
	}
}

/* ---- alignment ------------------------------------------------------------------------------- */

static void aligned_group(void)
{
	for (size_t a = 1; a <= (size_t)1 << 23; a *= 2)
		for (size_t s = 0; s<NSIZES; s += a> 65536 ? 5 : 1) {
			size_t n = sizes[s];
			void *p[3] = { NULL, NULL, NULL };

			errno = 0;
			p[0] = M.aligned_alloc(a, n);
			p[1] = M.memalign(a, n);
			if (a >= sizeof(void *))
				CHECK(M.posix_memalign(&p[2], a, n) == 0,
				      "posix_memalign(%zu, %zu)", a, n);
			CHECK(errno == 0, "aligned requests of %zu, %zu set errno to %d", a, n,
			      errno);
			for (int i = 0; i < 3; i++) {
				if (i == 2 && a < sizeof(void *))
					continue;
				CHECK(p[i] != NULL, "alignment %zu, size %zu, member %d", a, n, i);
				CHECK(misaligned(p[i], a < 16 ? 16 : a) == 0,
				      "alignment %zu, size %zu: %p", a, n, p[i]);
				CHECK(M.usable(p[i]) >= n, "alignment %zu, size %zu: usable %zu", a,
				      n, M.usable(p[i]));
				helper_fill(p[i], n, (uintptr_t)p[i]);
			}
			for (int i = 0; i < 3; i++) {
				if (p[i] == NULL)
					continue;
				CHECK(helper_verify(p[i], n, (uintptr_t)p[i]) == n,
				      "alignment %zu, size %zu: overlap", a, n);
				if (i == 0) {
					/* an aligned block may be reallocated, and keeps what it
					 * holds */
					unsigned char *q = M.realloc(p[i], n + 5000);
					CHECK(q != NULL &&
						      helper_verify(q, n, (uintptr_t)p[i]) == n,
					      "realloc of an aligned block lost data");
					M.free(q);
				} else {
					M.free(p[i]);
				}
			}
		}
	for (size_t s = 0; s < NSIZES; s++) {
		size_t n = sizes[s];
		void *p = M.valloc(n), *q = M.pvalloc(n);

		CHECK(p != NULL && misaligned(p, page) == 0, "valloc(%zu) = %p", n, p);
		CHECK(q != NULL && misaligned(q, page) == 0, "pvalloc(%zu) = %p", n, q);
		CHECK(M.usable(p) >= n, "valloc(%zu): usable %zu", n, M.usable(p));
		CHECK(M.usable(q) >= (n + page - 1) / page * page, "pvalloc(%zu): usable %zu", n,
		      M.usable(q));
		memset(q, 0x11, (n + page - 1) / page * page);
		helper_fill(p, n, 5);
		CHECK(helper_verify(p, n, 5) == n, "valloc and pvalloc overlap at %zu", n);
		M.free(p);
		M.free(q);
	}
}

static void bad_alignment_group(void)
{
	static const size_t bad[] = {
		0,  1,  2,  3,  4,   5,    7,    9,     12,       15,
		17, 24, 40, 48, 100, 4095, 4097, 12288, SIZE_MAX, SIZE_MAX / 2
	};

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		char mark;
		void *p = &mark;

		errno = 0;
		int r = M.posix_memalign(&p, bad[i], 64);
		CHECK(r == EINVAL, "posix_memalign with alignment %zu = %d", bad[i], r);
		CHECK(p == &mark, "posix_memalign with alignment %zu changed the pointer", bad[i]);
		CHECK(errno == 0, "posix_memalign with alignment %zu set errno", bad[i]);
	}
	/* memalign rounds a bad alignment up. aligned_alloc of glibc before 2.38 does so too; C17
	 * wants it to fail. */
	bool ours = dlsym(RTLD_DEFAULT, "sluice_drain") != NULL;
	static const struct {
		size_t alignment, rounded;
	} up[] = { { 0, 16 },      { 1, 16 },        { 3, 16 },         { 12, 16 },
		   { 17, 32 },     { 24, 32 },       { 40, 64 },        { 100, 128 },
		   { 4097, 8192 }, { 12288, 16384 }, { 100000, 131072 } };
	for (size_t i = 0; i < sizeof up / sizeof *up; i++) {
		errno = 0;
		void *p = M.memalign(up[i].alignment, 200);

		CHECK(p != NULL && misaligned(p, up[i].rounded) == 0, "memalign(%zu, 200) = %p",
		      up[i].alignment, p);
		CHECK(errno == 0, "alignment %zu set errno to %d", up[i].alignment, errno);
		M.free(p);
		p = M.aligned_alloc(up[i].alignment, 200);
		if (ours && up[i].alignment != 1)
			CHECK(p == NULL && errno == EINVAL,
			      "aligned_alloc(%zu, 200) = %p, errno %d", up[i].alignment, p, errno);
		else
			CHECK(p != NULL && misaligned(p, up[i].rounded) == 0,
			      "aligned_alloc(%zu, 200) = %p", up[i].alignment, p);
		M.free(p);
	}
	static const size_t over[] = { SIZE_MAX / 2 + 2, SIZE_MAX - 15, SIZE_MAX };
	for (size_t i = 0; i < 3; i++) {
		errno = 0;
		void *p = M.memalign(over[i], 16);
		CHECK(p == NULL && errno == EINVAL, "memalign(%#zx, 16) = %p, errno %d", over[i], p,
		      errno);
		errno = 0;
		p = M.aligned_alloc(over[i], 16);
		CHECK(p == NULL && errno == EINVAL, "aligned_alloc(%#zx, 16) = %p, errno %d",
		      over[i], p, errno);
	}
}

/* ---- errno ----------------------------------------------------------------------------------- */

static void errno_group(void)
{
	static const size_t n[] = { 1, 1000, 40000, 1 << 20, 40 << 20 };

	for (size_t i = 0; i < sizeof n / sizeof *n; i++) {
		void *p = NULL;

		errno = 4321;
#define KEEPS(expr)                                                                                \
	do {                                                                                       \
		expr;                                                                              \
		CHECK(errno == 4321, "%s with %zu bytes: errno %d", #expr, n[i], errno);           \
		errno = 4321;                                                                      \
	} while (0)
		KEEPS(p = M.malloc(n[i]));
		KEEPS(p = M.realloc(p, n[i] * 2));
		KEEPS(p = M.realloc(p, n[i] / 2 + 1));
		KEEPS(p = M.reallocarray(p, n[i], 3));
		KEEPS((void)M.usable(p));
		KEEPS(M.free(p));
		KEEPS(p = M.calloc(n[i], 1));
		KEEPS(M.free(p));
		KEEPS(p = M.memalign(64, n[i]));
		KEEPS(M.free(p));
		KEEPS(p = M.aligned_alloc(4096, n[i]));
		KEEPS(M.free(p));
		KEEPS((void)M.posix_memalign(&p, 256, n[i]));
		KEEPS(M.free(p));
		KEEPS(p = M.valloc(n[i]));
		KEEPS(M.free(p));
		KEEPS(p = M.pvalloc(n[i]));
		KEEPS(M.free(p));
		KEEPS((void)M.realloc(M.malloc(n[i]), 0));
		KEEPS(M.free(NULL));
		if (M.cfree != NULL)
			KEEPS(M.cfree(M.malloc(n[i])));
		if (M.free_sized != NULL)
			KEEPS(M.free_sized(M.malloc(n[i]), n[i]));
		if (M.free_aligned_sized != NULL)
			KEEPS(M.free_aligned_sized(M.aligned_alloc(64, n[i]), 64, n[i]));
#undef KEEPS
	}
}

/* ---- realloc --------------------------------------------------------------------------------- */

/* A block that shrinks gives back what it no longer needs. Before the other checks, because a
 * program that reuses much may keep more. */
static void shrunk_blocks(void)
{
	void *kept[64];
	long before = helper_rss_kib();

	for (int i = 0; i < 64; i++) {
		kept[i] = M.malloc(4 << 20);
		memset(kept[i], 1, 4 << 20);
		kept[i] = M.realloc(kept[i], 20000);
	}
	CHECK(helper_rss_kib() - before < 128 * 1024,
	      "64 blocks cut from 4 MiB to 20 kB hold %ld KiB", helper_rss_kib() - before);
	for (int i = 0; i < 64; i++)
		M.free(kept[i]);
}

static void realloc_group(void)
{
	/* Up to 64 MiB with a neighbour allocated at each step, and down again. */
	const size_t limit = (size_t)64 << 20;
	void *neighbour[128];
	int k = 0;
	size_t n = 1;
	unsigned char *p;

	shrunk_blocks();
	p = M.malloc(n);
	helper_fill(p, n, 9);
	while (n < limit) {
		size_t more = n + n / 2 + 1 < limit ? n + n / 2 + 1 : limit;

		neighbour[k] = M.malloc(n < 100000 ? n : 100000);
		memset(neighbour[k], 0xEE, n < 100000 ? n : 100000);
		p = M.realloc(p, more);
		CHECK(p != NULL && misaligned(p, 16) == 0, "realloc from %zu to %zu = %p", n, more,
		      (void *)p);
		size_t at = helper_verify(p, n, 9);
		CHECK(at == n, "realloc from %zu to %zu lost byte %zu", n, more, at);
		CHECK(M.usable(p) >= more, "realloc to %zu: usable %zu", more, M.usable(p));
		for (size_t i = n; i < more; i++)
			p[i] = helper_byte(9, i);
		n = more;
		k++;
	}
	while (n > 1) {
		size_t less = n - n / 3 - 1 > 0 ? n - n / 3 - 1 : 1;

		p = M.realloc(p, less);
		CHECK(p != NULL && misaligned(p, 16) == 0, "realloc from %zu to %zu = %p", n, less,
		      (void *)p);
		size_t at = helper_verify(p, less, 9);
		CHECK(at == less, "realloc from %zu to %zu lost byte %zu", n, less, at);
		n = less;
	}
	M.free(p);
	while (k > 0)
		M.free(neighbour[--k]);

	/* From every size to every other one. */
	for (size_t a = 0; a < NSIZES; a++)
		for (size_t b = a % 3; b < NSIZES; b += 3) {
			size_t keep = sizes[a] < sizes[b] ? sizes[a] : sizes[b];

			if (keep > 2000000 || sizes[b] == 0)
				continue;
			p = M.malloc(sizes[a]);
			helper_fill(p, keep, (uintptr_t)(a * 100 + b));
			p = b & 1 ? M.realloc(p, sizes[b]) : M.reallocarray(p, 1, sizes[b]);
			CHECK(p != NULL && helper_verify(p, keep, (uintptr_t)(a * 100 + b)) == keep,
			      "from %zu to %zu bytes lost data", sizes[a], sizes[b]);
			CHECK(M.usable(p) >= sizes[b], "from %zu to %zu: usable %zu", sizes[a],
			      sizes[b], M.usable(p));
			M.free(p);
		}
}

/* ---- calloc ---------------------------------------------------------------------------------- */

static void calloc_group(void)
{
	for (int round = 0; round < 3; round++)
		for (size_t s = 0; s < NSIZES; s++) {
			size_t n = sizes[s];
			unsigned char *p[8];

			for (int i = 0; i < 8; i++) {
				p[i] = M.malloc(n);
				memset(p[i], 0xA5, M.usable(p[i]));
			}
			for (int i = 0; i < 8; i++)
				M.free(p[i]);
			for (int i = 0; i < 8; i++) {
				p[i] = round & 1 ? M.calloc(n, 1) : M.calloc(1, n);
				size_t at = 0, u = M.usable(p[i]);
				while (at < u && p[i][at] == 0)
					at++;
				CHECK(at == u, "calloc of %zu bytes: byte %zu is set", n, at);
				memset(p[i], 0x5A, u);
			}
			for (int i = 0; i < 8; i++)
				M.free(p[i]);
			if (round == 1 && (s & 7) == 7)
				M.trim(0);
		}
	/* Memory that was written as one large block is allocated again in other sizes. */
	static const size_t parts[] = { 64, 1000, 16384, 65536, 300000 };
	for (size_t k = 0; k < 5; k++) {
		unsigned char *all[64];
		unsigned char *big = M.malloc(8 << 20);

		memset(big, 0xFF, 8 << 20);
		M.free(big);
		for (int i = 0; i < 64; i++) {
			all[i] = M.calloc(parts[k] / 8, 8);
			size_t at = 0, n = parts[k] / 8 * 8, u = M.usable(all[i]);
			while (at < u && all[i][at] == 0)
				at++;
			CHECK(at == u, "calloc of %zu bytes out of a dirty 8 MiB: byte %zu is set",
			      n, at);
		}
		for (int i = 0; i < 64; i++)
			M.free(all[i]);
	}
}

/* ---- the ways to free, and calls that do nothing --------------------------------------------- */

static void free_group(void)
{
	M.free(NULL);
	CHECK(M.usable(NULL) == 0, "malloc_usable_size(NULL)");
	if (M.cfree != NULL)
		M.cfree(NULL);
	if (M.free_sized != NULL) {
		M.free_sized(NULL, 0);
		M.free_sized(NULL, 1000);
	}
	if (M.free_aligned_sized != NULL) {
		M.free_aligned_sized(NULL, 0, 0);
		M.free_aligned_sized(NULL, 64, 1000);
	}
	for (int round = 0; round < 300; round++)
		for (size_t s = 0; s < NSIZES; s += 1 + (size_t)round % 5) {
			size_t n = sizes[s] < 400000 ? sizes[s] : 400000;

			if (M.free_sized != NULL)
				M.free_sized(M.malloc(n), n);
			if (M.free_aligned_sized != NULL)
				M.free_aligned_sized(M.aligned_alloc(128, n), 128, n);
			if (M.cfree != NULL)
				M.cfree(M.malloc(n));
		}
	CHECK(helper_rss_kib() < 100 * 1024, "one of the ways to free does not: %ld KiB resident",
	      helper_rss_kib());
}

/* ---- the other names: each frees what any other has allocated -------------------------------- */

/* Allocates n bytes by the i-th of them. Returns NULL if the C library has no such name. */
static void *other_names(int i, size_t n)
{
	void *out = NULL;

	switch (i) {
	case 0:
		return M.Lmalloc(n);
	case 1:
		return M.Lcalloc(1, n);
	case 2:
		return M.Lrealloc(NULL, n);
	case 3:
		return M.Lrealloc(M.malloc(10), n);
	case 4:
		return M.realloc(M.Lmalloc(10), n);
	case 5:
		return M.Lmemalign(256, n);
	case 6:
		return M.Lvalloc(n);
	case 7:
		return M.Lpvalloc(n);
	case 8:
		if (M.Pmemalign != NULL)
			CHECK(M.Pmemalign(&out, 64, n) == 0, "__posix_memalign(%zu)", n);
		return out;
	default:
		return M.malloc(n);
	}
}

static void names_group(void)
{
	void *kept;

	for (size_t s = 0; s < NSIZES; s++)
		for (int i = 0; i < 10; i++)
			for (int how = 0; how < 3; how++) {
				size_t n = sizes[s] ? sizes[s] : 1;
				void *p = other_names(i, n);

				if (p == NULL)
					continue;
				CHECK(M.usable(p) >= n, "name %d: %zu of %zu bytes", i, M.usable(p),
				      n);
				CHECK(M.size == NULL || M.size(p) == M.usable(p),
				      "malloc_size: %zu", M.size(p));
				helper_fill(p, n, n);
				if (how == 2) {
					p = M.realloc(p, 2 * n);
					CHECK(helper_verify(p, n, n) == n, "name %d: %zu bytes", i,
					      n);
				}
				(how == 1 ? M.free : M.Lfree)(p);
			}
	for (size_t s = 0; M.good_size != NULL && s < NSIZES; s++) {
		void *p = M.malloc(sizes[s]);

		CHECK(M.good_size(sizes[s]) == M.usable(p), "malloc_good_size(%zu) is %zu, not %zu",
		      sizes[s], M.good_size(sizes[s]), M.usable(p));
		M.free(p);
	}
	if (M.size != NULL) {
		CHECK(M.size(NULL) == 0, "malloc_size(NULL)");
		CHECK(M.good_size(SIZE_MAX) == SIZE_MAX, "malloc_good_size(SIZE_MAX)");
	}
	kept = M.malloc(100000);
	CHECK(M.Lmallinfo().uordblks >= 100000, "__libc_mallinfo: %d bytes",
	      M.Lmallinfo().uordblks);
	M.free(kept);
	CHECK(M.Lmallopt(M_ARENA_MAX, 1) == 1, "__libc_mallopt");
}

/* ---- statistics and tuning ------------------------------------------------------------------- */

/* A thread with a pending cancel calls malloc_stats. */
static void *cancelled(void *came_back)
{
	pthread_cancel(pthread_self());
	M.malloc_stats();
	*(bool *)came_back = true;
	pthread_testcancel();
	return NULL;
}

static void info_group(void)
{
	enum { N = 2000, EACH = 4000 };
	void *p[N];
	char buf[65536];

	void *first = M.malloc(1);
	struct mallinfo2 a = M.mallinfo2();
	struct mallinfo a1 = M.mallinfo();
	for (int i = 0; i < N; i++)
		p[i] = M.malloc(EACH);
	void *big = M.malloc(50 << 20);
	struct mallinfo2 b = M.mallinfo2();
	struct mallinfo b1 = M.mallinfo();
	size_t grown = b.uordblks + b.hblkhd - a.uordblks - a.hblkhd;
	size_t grown1 = (size_t)(b1.uordblks + b1.hblkhd - a1.uordblks - a1.hblkhd);
	CHECK(grown >= (size_t)N * EACH + (50 << 20) && grown < (size_t)N * EACH * 2 + (52 << 20),
	      "mallinfo2: %zu bytes more in use after 8 MB and 50 MiB", grown);
	CHECK(grown1 == grown, "mallinfo says %zu, mallinfo2 %zu", grown1, grown);
	for (int i = 0; i < N; i++)
		M.free(p[i]);
	M.free(big);
	b = M.mallinfo2();
	CHECK(b.uordblks + b.hblkhd <= a.uordblks + a.hblkhd + 1000000,
	      "mallinfo2 still counts %zu bytes after free",
	      b.uordblks + b.hblkhd - a.uordblks - a.hblkhd);
	M.free(first);

	memset(buf, 0, sizeof buf);
	FILE *f = fmemopen(buf, sizeof buf - 1, "w");
	int r = M.malloc_info(0, f);
	fclose(f);
	CHECK(r == 0, "malloc_info(0) = %d", r);
	CHECK(strncmp(buf, "<malloc version=", 16) == 0, "malloc_info writes: %.60s", buf);
	CHECK(strstr(buf, "</malloc>") != NULL, "malloc_info writes no </malloc>");
	f = fmemopen(buf, sizeof buf - 1, "w");
	r = M.malloc_info(1, f);
	fclose(f);
	/* glibc returns EINVAL itself, its manual says -1 and errno */
	CHECK(r == EINVAL || (r == -1 && errno == EINVAL), "malloc_info(1) = %d", r);

	r = M.trim(0);
	CHECK(r == 0 || r == 1, "malloc_trim(0) = %d", r);
	r = M.trim(SIZE_MAX);
	CHECK(r == 0 || r == 1, "malloc_trim(SIZE_MAX) = %d", r);
	CHECK(M.mallopt(M_ARENA_MAX, 1) == 1, "mallopt(M_ARENA_MAX, 1)");
	CHECK(M.mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1, "mallopt(M_MMAP_THRESHOLD, 1 MiB)");
	CHECK(M.mallopt(M_TRIM_THRESHOLD, 1 << 20) == 1, "mallopt(M_TRIM_THRESHOLD, 1 MiB)");
	CHECK(M.mallopt(M_PERTURB, 0) == 1, "mallopt(M_PERTURB, 0)");
	r = M.mallopt(M_PERTURB, 0xA5);
	unsigned char *filled = M.malloc(1000);
	CHECK(r == 0 || filled[500] == 0x5A, "mallopt(M_PERTURB) = %d, and malloc gives %#x", r,
	      filled[500]);
	M.free(filled);
	M.mallopt(M_PERTURB, 0);
	r = M.mallopt(987654, 1);
	CHECK(r == 0 || r == 1, "mallopt of an unknown parameter = %d", r);
	M.malloc_stats(); /* to stderr, which the script checks */
	pthread_t t;
	bool came_back = false;
	if (pthread_create(&t, NULL, cancelled, &came_back) != 0)
		abort();
	pthread_join(t, NULL);
	CHECK(came_back, "malloc_stats is a cancellation point");
	void *q = M.malloc(100);
	CHECK(q != NULL, "malloc after them all");
	M.free(q);
}

/* A large peak that has ended is given back by malloc_trim(0). */
static void trim_group(void)
{
	enum { N = 4000 };
	static void *p[N];
	uint64_t seed = 42;

	M.free(M.malloc(1));
	long before = helper_rss_kib();
	for (int i = 0; i < N; i++) {
		size_t n = 16384 + helper_random(&seed) % 65536;
		p[i] = M.malloc(n);
		memset(p[i], 1, n);
	}
	long peak = helper_rss_kib();
	for (int i = 0; i < N; i++)
		M.free(p[i]);
	int r = M.trim(0);
	long after = helper_rss_kib();
	CHECK(peak - before > 150000, "the peak of %ld KiB is none", peak - before);
	CHECK(r == 0 || r == 1, "malloc_trim(0) = %d", r);
	CHECK(after - before < 8192, "of %ld KiB %ld are left after malloc_trim(0)", peak - before,
	      after - before);
}

/* Every function is there, and comes from the library. */
static void symbols_group(void)
{
	const char *lib = getenv("FAMILY_LIB");

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		void *f = *(void **)names[i].slot;
		Dl_info info;

		if (lib == NULL)
			continue;
		CHECK(f != NULL, "%s is missing", names[i].name);
		CHECK(f != NULL && dladdr(f, &info) != 0 && strcmp(info.dli_fname, lib) == 0,
		      "%s comes from %s", names[i].name, f != NULL ? info.dli_fname : "nowhere");
	}
	CHECK(M.malloc != NULL, "malloc is missing");
}

static const struct {
	const char *name;
	void (*run)(void);
} groups[] = {
	{ "symbols", symbols_group },
	{ "sizes", sizes_group },
	{ "zero", zero_group },
	{ "huge", huge_group },
	{ "first-fails", first_fails_group },
	{ "aligned", aligned_group },
	{ "bad-alignment", bad_alignment_group },
	{ "errno", errno_group },
	{ "realloc", realloc_group },
	{ "calloc", calloc_group },
	{ "free", free_group },
	{ "names", names_group },
	{ "info", info_group },
	{ "trim", trim_group },
};

static void *run(void *arg)
{
	(*(void (**)(void))arg)();
	return NULL;
}

int main(int argc, char **argv)
{
	page = (size_t)sysconf(_SC_PAGESIZE);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		*(void **)names[i].slot = dlsym(RTLD_DEFAULT, names[i].name);
	for (size_t i = 0; argc == 3 && i < sizeof groups / sizeof *groups; i++) {
		pthread_t t;
		void (*group)(void) = groups[i].run;

		if (strcmp(groups[i].name, argv[1]) != 0)
			continue;
		if (strcmp(argv[2], "thread") != 0)
			group();
		else if (pthread_create(&t, NULL, run, (void *)&group) != 0 ||
			 pthread_join(t, NULL) != 0)
			abort();
		return helper_end();
	}
	fprintf(stderr, "usage: family GROUP main|thread\n");
	return 2;
}
