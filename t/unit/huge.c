/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Objects with a mapping of their own, and the table that knows them.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/backed.h"
#include "lib/barrier.h"
#include "lib/child.h"
#include "lib/free_once.h"
#include "heap/huge.h"
#include "base/options.h"
#include "base/stats.h"
#include "lib/pace.h"
#include "lib/tap.h"
#include "os/vm.h"
#include "page/mapcache.h"

#define MIB ((size_t)1 << 20)
#define THREADS 4u
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define CYCLES 10000u
#else
#define CYCLES 40000u /* each needs three places; the table has 98,304 */
#endif
#define SANITIZED (CYCLES < 40000u)
#define TURNS 4000u
#define REFUSALS 140000u /* more than the table has places */

static uint64_t objects(void)
{
	uint64_t n;
	uint64_t bytes;

	huge_count(&n, &bytes);
	return n;
}

static uint64_t bytes_now(void)
{
	uint64_t n;
	uint64_t bytes;

	huge_count(&n, &bytes);
	return bytes;
}

static bool mapped(void *p)
{
	unsigned char vec[1];

	return backed_pages(p, vm_os_page, vec) == 0;
}

static bool all_bytes(const char *p, size_t n, char c)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != c)
			return false;
	return true;
}

static void *resized(void *p, size_t size)
{
	bool scarce;

	return huge_realloc(p, size, &scarce);
}

/* From now on until refuse_none the kernel refuses the n calls from the one with number `at` on. */
static struct {
	uint64_t counted; /* by the fault injection so far */
	uint64_t calls;
} refusals;

static void refuse_calls(uint32_t at, uint32_t n)
{
	refusals.calls = stat_sum(STAT_vm_calls);
	options.vm_fail_count = n;
	options.vm_fail_at = refusals.counted + at;
}

static void refuse_none(void)
{
	options.vm_fail_at = 0;
	refusals.counted += stat_sum(STAT_vm_calls) - refusals.calls;
}

static void *resized_refused(void *p, size_t size, uint32_t at, uint32_t n)
{
	void *q;

	refuse_calls(at, n);
	q = resized(p, size);
	refuse_none();
	return q;
}

static void test_one(void)
{
	char *p = huge_alloc(100000, 1);
	size_t whole = align_up(100000, vm_os_page);

	ok(p && all_bytes(p, 100000, 0), "a mapping can be allocated and reads as zero");
	is_int(huge_usable(p), whole, "the length of a mapping is in whole pages of the kernel");
	is_int(objects(), 1, "the table has one object");
	is_int(bytes_now(), whole, "the table has the object's length");
	is_int(huge_usable(p + 16), 0, "a pointer into the middle of an object is not its start");
	ok(!huge_free(p + 4096), "a free of such a pointer frees nothing");
	is_int(huge_usable(NULL), 0, "NULL is no object");
	ok(!huge_free(NULL) && !resized(NULL, 4096), "NULL can be neither freed nor resized");
	ok(huge_free(p) && !mapped(p), "an object can be freed, and is unmapped");
	ok(!huge_free(p), "an object cannot be freed twice");
	is_int(huge_usable(p), 0, "a freed object is not known any more");
	ok(resized(p, 4096) == NULL, "a freed object cannot be resized");
	is_int(objects() + bytes_now(), 0, "the table is empty when all objects are freed");
}

static void test_sizes(void)
{
	void *p = huge_alloc(0, 1);

	ok(p && huge_usable(p) > 0, "an allocation of no bytes gives an object");
	huge_free(p);
	ok(!huge_alloc(SIZE_MAX, 1) && !huge_alloc((size_t)PTRDIFF_MAX + 1, 1) &&
		   !huge_alloc(SIZE_MAX - 5000, 4096),
	   "impossible sizes are refused");
	ok(!huge_alloc((size_t)1 << 46, 1), "sizes that the kernel refuses are refused");
	refuse_calls(1, 1 << 30);
	ok(!huge_alloc(4096, 1), "an allocation fails when the kernel is made to refuse it");
	for (unsigned i = 0; i < REFUSALS; i++)
		huge_alloc(4096, 1);
	refuse_none();
	is_int(objects(), 0, "a refused allocation leaves nothing in the table");
	p = huge_alloc(4096, 1);
	ok(p && huge_free(p),
	   "refused allocations take no place in the table, however many there are");
}

static void test_align(void)
{
	bool good = true;

	for (size_t align = 1; align <= 1024 * MIB; align *= 2) {
		char *p = huge_alloc(MIB + 5, align);

		good &= p && (uintptr_t)p % align == 0;
		if (!p)
			continue;
		p[0] = p[MIB + 4] = 'a';
		good &= huge_free(p);
	}
	ok(good, "objects of each alignment up to 1 GiB can be allocated");
}

static void test_realloc(void)
{
	char *p = huge_alloc(MIB, 1);
	char *q;
	char *wall;

	memset(p, 'r', MIB);
	q = resized(p, 64 * MIB);
	ok(q && all_bytes(q, MIB, 'r') && all_bytes(q + MIB, MIB, 0),
	   "an object that grows keeps its data, and the rest reads as zero");
	is_int(huge_usable(q), 64 * MIB, "the new length of an object is known");
	is_int(objects(), 1, "an object that grew is one object");
	p = resized(q, 2 * MIB);
	ok(p && all_bytes(p, MIB, 'r') && huge_usable(p) == 2 * MIB, "an object can shrink");
	is_int(bytes_now(), 2 * MIB, "the rest of an object that shrank goes back");
	is_int(huge_bytes(), 2 * MIB, "the new length is known without a search of the table");
	ok(resized(p, 2 * MIB) == p, "an object that is resized to its own size stays where it is");
	wall = mmap(p + 2 * MIB + vm_os_page, 4096, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	q = resized(p, 3 * MIB);
	ok(q && q != p && all_bytes(q, MIB, 'r'),
	   "an object that cannot grow in place moves and keeps its data");
	ok(huge_usable(p) == 0 && !huge_free(p),
	   "the old place of an object that moved is not known any more");
	if (wall != MAP_FAILED)
		munmap(wall, 4096);
	ok(!resized(q, SIZE_MAX - 10) && !resized(q, (size_t)1 << 46),
	   "an object whose new size is refused stays as it was");
	ok(!resized_refused(q, 8 * MIB, 1, 1 << 30),
	   "an object that the kernel refuses to resize stays where it is");
	ok(huge_usable(q) == 3 * MIB && all_bytes(q, MIB, 'r'),
	   "an object that was not resized keeps its length and data");
	ok(huge_free(q), "an object that was not resized can be freed");
	is_int(objects() + huge_bytes(), 0, "the table is empty after resizes");
}

/* ---- guards --------------------------------------------------------------------------------- */

static char *victim;

static void write_behind(void *arg)
{
	victim[huge_usable(victim)] = *(char *)arg;
}

static void write_before(void *arg)
{
	victim[-1] = *(char *)arg;
}

static bool is_guarded(char *p)
{
	struct child behind;
	struct child before;

	victim = p;
	memset(p, 'g', MIB);
	p[huge_usable(p) - 1] = 'g';
	child_run(&behind, write_behind, &(char){ 'x' });
	child_run(&before, write_before, &(char){ 'x' });
	/* By a signal, or by the handler of a sanitizer. */
	return behind.status != 0 && before.status != 0;
}

static unsigned mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned n = 0;

	for (int c; f && (c = getc(f)) != EOF;)
		n += c == '\n';
	if (f)
		fclose(f);
	return n;
}

static void test_guards(void)
{
	enum { N = 20000 };
	static void *many[N];
	bool zero = false;
	bool good;
	const unsigned n = UNDER_TSAN ? 200 : N; /* TSan maps memory for each mapping */
	unsigned before;
	unsigned half = 0;
	char *p = huge_alloc_kept(40 * MIB, false, &zero);

	ok(is_guarded(p), "a write before or behind an object faults");
	p = resized(p, 90 * MIB);
	ok(p && is_guarded(p), "so it does when the object has grown");
	p = resized(p, 34 * MIB);
	ok(p && is_guarded(p), "and when it has shrunk");
	huge_free(p);
	p = huge_alloc_kept(36 * MIB, false, &zero);
	ok(p && is_guarded(p), "and in memory that was used before");
	huge_free(p);
	mapcache_drain();
	before = mappings();
	for (unsigned i = 0; i < n; i++) {
		if (i == n / 2)
			half = mappings() - before;
		if (!(many[i] = huge_alloc(MIB, 1)))
			tap_bail_out("no memory");
	}
	tap_diag("mappings: %u, %u", half, mappings() - before);
	if (n == N) {
		ok(half <= 3 * 4096 + 10,
		   "10,000 objects are not many more mappings than 4,096 guarded ones");
		ok(mappings() - before <= half + 10, "20,000 are no more");
	} else {
		tap_skip(2, "too few objects to reach the most that have guards");
	}
	good = true;
	for (unsigned i = 0; i < n; i++)
		good &= huge_free(many[(i * 7919u) % n]);
	mapcache_drain();
	ok(good && mappings() <= before + 4, "all of them go back");
}

static void test_calls(void)
{
	uint64_t calls = stat_sum(STAT_vm_calls);

	for (unsigned i = 0; i < 100; i++)
		huge_free(huge_alloc((33 + i) * MIB, 1));
	/* A page that is taken for larger than the kernel's is cut out of a longer mapping. */
	calls = stat_sum(STAT_vm_calls) - calls;
	ok(calls == 100 || (vm_os_page > 4096 && calls < 400),
	   "an object with guards is mapped by one call");
}

static long mappings_most(void)
{
	FILE *f = fopen("/proc/sys/vm/max_map_count", "r");
	long most = 0;

	if (f && fscanf(f, "%ld", &most) != 1)
		most = 0;
	if (f)
		fclose(f);
	return most;
}

/* The program takes all the mappings that the kernel allows (each second page differs) while there
 * are objects with guards. */
static void use_up_mappings(void *arg)
{
	size_t bytes = 2 * vm_os_page * *(size_t *)arg;
	char *first = huge_alloc(40 * MIB, 1);
	char *area = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			  0);
	char *at = area;
	char *p;

	if (!first || area == MAP_FAILED)
		_exit(1);
	while (at < area + bytes && mprotect(at, vm_os_page, PROT_READ) == 0)
		at += 2 * vm_os_page;
	if (at >= area + bytes)
		_exit(2);
	for (unsigned i = 0; i < 8; i++) {
		p = huge_alloc(40 * MIB, 1);
		if (!p)
			_exit(3);
		p[40 * MIB - 1] = 'm';
	}
	_exit(huge_free(first) && huge_free(p) ? 0 : 4);
}

static void test_no_mappings(void)
{
	size_t most = (size_t)mappings_most();
	struct child c;

	if (UNDER_TSAN || !most || most > 300000) {
		tap_skip(1, "the kernel allows too many mappings, or TSan makes some");
		return;
	}
	child_run(&c, use_up_mappings, &most);
	is_int(c.status, 0, "guards leave mappings for objects when the program uses up its own");
}

/* In a child of fork the kernel does not join an object with its guards. */
static void grow_in_child(void *arg)
{
	char *p = arg;
	bool scarce;

	p = huge_realloc(p, 80 * MIB, &scarce);
	_exit(!p ? 1 : p[0] != 'a' || p[40 * MIB - 1] != 'z' ? 2 : 0);
}

static void test_realloc_again(void)
{
	char *p = huge_alloc(40 * MIB, 1);
	struct child c;
	bool scarce;
	uint64_t calls;

	p[0] = 'a';
	p[40 * MIB - 1] = 'z';
	child_run(&c, grow_in_child, p);
	is_int(c.status, 0, "a child of fork moves an object that grows, and keeps its data");
	calls = stat_sum(STAT_vm_calls);
	ok(huge_realloc(p, 40 * MIB - 100, &scarce) == p &&
		   huge_realloc(p, 40 * MIB - 50, &scarce) == p,
	   "realloc within the last page keeps the object");
	is_int(stat_sum(STAT_vm_calls) - calls, 0, "and calls the kernel for nothing");
	huge_free(p);
}

/* One object that grows by short steps. */
static void test_steps(void)
{
	size_t step = align_up(64 << 10, vm_os_page);
	size_t size = 8 * MIB;
	char *p = huge_alloc(size, 1);
	bool good = true;
	uint64_t calls;
	unsigned steps = 0;

	p[0] = 'a';
	calls = stat_sum(STAT_vm_calls);
	for (; size < 16 * MIB; steps++) {
		p[size - 1] = 'e';
		size += step;
		p = resized(p, size);
		if (!p)
			tap_bail_out("no memory");
		good &= p[0] == 'a' && p[size - step - 1] == 'e' && p[size - 1] == 0 &&
			huge_usable(p) >= size && huge_usable(p) <= size + size / 16 &&
			huge_usable(p) <= size + (256 << 10);
	}
	calls = stat_sum(STAT_vm_calls) - calls;
	ok(good && huge_bytes() == huge_usable(p),
	   "an object that grows by short steps gets up to a sixteenth or 256 KiB more");
	tap_diag("%u steps, %u calls", steps, (unsigned)calls);
	ok(calls < steps, "so most of its steps call the kernel for nothing");
	ok(is_guarded(p), "the page behind that has no access");
	p = resized(p, size - step);
	ok(huge_usable(p) >= size - step && resized(p, MIB) == p && huge_usable(p) == MIB,
	   "what it has more goes when it shrinks by much");
	huge_free(p);
	mapcache_drain();
}

/* The same where the kernel refuses some of the calls that a step makes. In a child, because a
 * process that lost a place for a mapping that moves looks for none any more. */
static void refuse_steps(void *arg)
{
	size_t step = align_up(64 << 10, vm_os_page);
	unsigned grew = 0;
	unsigned without = 0;
	bool good = true;

	(void)arg;
	for (uint32_t i = 0; i < 60; i++) {
		char *p = huge_alloc(8 * MIB, 1);
		char *q;

		p[0] = p[8 * MIB - 1] = 'r';
		q = resized_refused(p, 8 * MIB + step, i / 6 + 1, i % 6 + 1);
		good &= !q || huge_usable(q) >= 8 * MIB + step;
		grew += q != NULL;
		without += q && huge_usable(q) == 8 * MIB + step;
		q = q ? q : p;
		good &= q[0] == 'r' && q[8 * MIB - 1] == 'r' && huge_free(q);
		mapcache_drain();
	}
	/* It gets no more than the step where the kernel refuses more. */
	_exit(good && grew && grew < 60 && without && !objects() && !huge_bytes() ? 0 : 1);
}

static void test_steps_refused(void)
{
	struct child c;

	if ((size_t)sysconf(_SC_PAGESIZE) != vm_os_page) {
		tap_skip(1, "the kernel knows nothing of the page size");
		return;
	}
	child_run(&c, refuse_steps, NULL);
	is_int(c.status, 0, "an object keeps its data if calls of a step are refused");
}

/* So many objects, at such distances, that some collide in the table. */
static void test_many(void)
{
	enum { N = 20000 };
	static void *p[N];
	unsigned seed = 3;
	bool good = true;

	for (unsigned i = 0; i < N; i++) {
		p[i] = huge_alloc(4096 * (1 + (size_t)rand_r(&seed) % 16), 1);
		if (!p[i])
			tap_bail_out("no memory");
		*(unsigned *)p[i] = i;
	}
	is_int(objects(), N, "the table holds thousands of objects");
	for (unsigned i = 0; i < N; i += 2)
		good &= huge_free(p[i]);
	for (unsigned i = 1; i < N; i += 2)
		good &= huge_usable(p[i]) >= 4096 && *(unsigned *)p[i] == i;
	for (unsigned i = 0; i < N; i += 2)
		good &= huge_usable(p[i]) == 0;
	ok(good, "each of thousands of objects is known as long as it lives");
	for (unsigned i = 1; i < N; i += 2)
		good &= huge_free(p[i]);
	ok(good, "each of thousands of objects can be freed once");
	is_int(objects(), 0, "the table is empty after thousands of objects");
}

/* More objects than the table has places, one after the other, beside a second one that has to
 * move. */
static void test_reuse(void)
{
	unsigned bad = 0;

	alarm(test_limit(110));
	for (unsigned i = 0; i < CYCLES && !bad; i++) {
		void *p = huge_alloc(4096, 1);
		void *q = huge_alloc(4096, 1);

		q = q ? resized(q, 8192) : NULL;
		bad += !p || !q || !huge_free(p) || !huge_free(q);
	}
	alarm(0);
	is_int(bad, 0, "places in the table are used again");
}

/* The table's places have been used by so many addresses that hardly one is left that never was. */
static void test_gone(void)
{
	const size_t bytes = 800000 * vm_os_page;
	void *p = SANITIZED ? NULL : vm_map_once(bytes, vm_os_page);
	unsigned n = 0;

	if (!p) {
		tap_skip(1, "no address space for 800,000 objects, or a sanitizer watches each");
		return;
	}
	trim_inline = false; /* as with a background thread */
	options.dirty_max = bytes;
	mapcache_free(p, bytes, 0);
	options.dirty_max = 0;
	while (mapcache_bytes() > MIB && (p = huge_alloc_kept(vm_os_page, false, &(bool){ false })))
		n += huge_free(p);
	mapcache_drain();
	trim_inline = true;
	tap_diag("%u addresses, look-ups pass %u places at most", n, huge_look_most());
	ok(n > 700000 && huge_look_most() < 1000 && huge_usable((void *)(PG_BYTES * 7919)) == 0,
	   "to look for what is no object passes few places when addresses have used up the table");
}

/* ---- threads -------------------------------------------------------------------------------- */

#define PLACES 64u

/* TSan does not see that mremap moves memory to where another thread's was. */
#define MOVED __attribute__((no_sanitize("thread")))

static _Atomic(size_t *) places[PLACES];
static atomic_uint wrong;

MOVED static size_t *stamped(size_t size, size_t *p)
{
	if (p) {
		p[0] = size;
		p[size / 8 - 1] = size;
	} else {
		atomic_fetch_add(&wrong, 1);
	}
	return p;
}

MOVED static void check(size_t *p)
{
	if (p[p[0] / 8 - 1] != p[0] || huge_usable(p) < p[0])
		atomic_fetch_add(&wrong, 1);
}

MOVED static void *stress(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	struct pace pace = { 0 };

	while (pace_goes_on(&pace, TURNS)) {
		_Atomic(size_t *) *at = &places[(unsigned)rand_r(&seed) % PLACES];
		size_t size = 4096 * (1 + (size_t)rand_r(&seed) % 16);
		size_t *p = atomic_exchange(at, NULL);

		if (!p) {
			p = stamped(size, huge_alloc(size, 1));
		} else if (pace.done % 3 == 0) {
			size_t old = p[0];

			check(p);
			p = resized(p, size);
			if (p && (p[0] != old || (size >= old && p[old / 8 - 1] != old)))
				atomic_fetch_add(&wrong, 1);
			stamped(size, p);
		} else {
			check(p);
			if (!huge_free(p))
				atomic_fetch_add(&wrong, 1);
			continue;
		}
		p = atomic_exchange(at, p);
		if (p && !huge_free(p))
			atomic_fetch_add(&wrong, 1);
	}
	return NULL;
}

/* Several threads free one object at the same time; exactly one succeeds. */
static void *make_one(void)
{
	return huge_alloc(4096, 1);
}

static void *free_same(void *arg)
{
	return (void *)(uintptr_t)huge_free(arg);
}

static void test_threads(void)
{
	pthread_t t[THREADS];

	for (unsigned i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, stress, (void *)(uintptr_t)(i + 1));
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	is_int(atomic_load(&wrong), 0, "threads allocate, resize and free each other's objects");
	for (unsigned i = 0; i < PLACES; i++)
		if (places[i])
			huge_free(places[i]);
	is_int(objects(), 0, "the table is empty when all threads are done");
	is_int(freed_not_once(make_one, free_same), 0,
	       "exactly one of several threads that free an object succeeds");
}

int main(void)
{
	tap_plan(60);
	vm_init();
	options.dirty_max = 0; /* what is freed is unmapped at once; mapcache.c has the rest */
	test_one();
	test_sizes();
	test_align();
	test_realloc();
	test_guards();
	test_calls();
	test_no_mappings();
	test_realloc_again();
	test_steps();
	test_steps_refused();
	test_many();
	test_reuse();
	test_gone();
	test_threads();
	return tap_done();
}
