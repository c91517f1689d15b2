/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A randomized model of a program's memory: threads that start and end allocate, resize, free their
 * own blocks and each other's, drain and fork, for 30 s (SLUICE_MODEL_SECONDS changes it).
 *
 * The model knows the size, the alignment, the owner and the fill pattern of each block. A bitmap
 * with a bit for each 16 bytes of the address space says what is in use: an allocation that
 * overlaps another one is seen when it is made. Lost data is seen when any thread resizes or frees
 * the block.
 *
 * What a thread does follows from the seed and the thread's number alone. The seed is printed;
 * SLUICE_MODEL_SEED runs the same sequences again (with SLUICE_MODEL_THREADS=1 also in the same
 * order; with more threads the machine decides the order between them).
 *
 * Long runs: with SLUICE_MODEL_SPARSE=K one block in K has the whole pattern and the others have
 * it at both ends only, and forks, drains and blocks of more than 16 KiB come K times as rarely.
 * They take most of the time: with K = 64 an operation costs a fifteenth (0.5 us).
 *
 * Built twice: as t/unit/model.t, on the core's heap_* functions, while the test's own malloc is
 * the C library's; and with MODEL_PRELOAD as an ordinary program, which t/preload/model.sh runs
 * under the library.
 *
 * TIMEOUT: 300
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/limit.h"
#include "lib/tap.h"

#ifndef MODEL_PRELOAD
#include "page/block.h"
#include "page/buddy.h"
#include "heap/heap.h"
#include "heap/heap_slabs.h"
#include "heap/heap_thread.h"
#include "heap/huge.h"
#include "reclaim/info.h"
#include "shim/init.h"
#include "heap/large.h"
#include "reclaim/reclaim.h"
#include "sluice/sluice.h"
#endif

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#else
#define UNDER_TSAN 0
#endif

/* TSan does not see that mremap moves memory to where another thread's was. */
#define MOVED __attribute__((no_sanitize("thread")))

#define THREADS_MAX 32
#define SHARED 2048u
#define OWN 192u
#define LIVE_MAX ((size_t)96 << 20)
#define GRANULE_SHIFT 4
#define CHUNK_SHIFT 26
#define CHUNKS ((size_t)1 << (48 - CHUNK_SHIFT))

/* ---- the allocator under test --------------------------------------------------------------- */

#ifdef MODEL_PRELOAD

static int (*drain_all)(unsigned flags, void *report);

static void backend_start(void)
{
	void *sym = dlsym(RTLD_DEFAULT, "sluice_drain");

	memcpy(&drain_all, &sym, sizeof(sym));
}

static void *model_alloc(size_t size)
{
	return malloc(size);
}

/* Sets *zero when the memory is promised to read as zero. */
static void *model_calloc(size_t size, bool *zero)
{
	*zero = true;
	return calloc(1, size);
}

static void *model_aligned(size_t size, size_t align)
{
	void *p = NULL;

	return posix_memalign(&p, align, size) == 0 ? p : NULL;
}

static void *model_realloc(void *p, size_t size)
{
	return realloc(p, size);
}

static void model_free(void *p)
{
	free(p);
}

static size_t model_usable(void *p)
{
	return malloc_usable_size(p);
}

static void model_drain(unsigned r)
{
	if (drain_all && (r & 1))
		drain_all((r >> 1) & 7, NULL);
	else
		malloc_trim((r & 2) ? 1 << 20 : 0);
}

static void model_check(void)
{
}

static bool model_left_clean(void)
{
	return true;
}

#else

static void backend_start(void)
{
	sluice_init();
}

static void *model_alloc(size_t size)
{
	return heap_alloc(size);
}

static void *model_calloc(size_t size, bool *zero)
{
	*zero = false;
	if (size <= SMALL_MAX)
		return heap_alloc_small(size);
	return heap_alloc_large_zero(size, zero);
}

static void *model_aligned(size_t size, size_t align)
{
	return heap_alloc_aligned(size, align);
}

static void *model_realloc(void *p, size_t size)
{
	return heap_realloc(p, size ? size : 1);
}

static void model_free(void *p)
{
	heap_free(p);
}

static size_t model_usable(void *p)
{
	return heap_usable(p);
}

static void model_drain(unsigned r)
{
	struct reclaim_report report;

	reclaim_drain(r & 7, (r & 8) ? 1 << 20 : 0, &report);
	if ((r & 0x30) == 0 && reclaim_pcp_disable() == 0) {
		reclaim_drain(RECLAIM_CACHES | RECLAIM_REGIONS, 0, &report);
		reclaim_pcp_enable();
	}
}

static void model_check(void)
{
	heap_check();
	zone_check(&zone_main);
}

#define LATE_BYTES ((uint64_t)8 << 20)

/* A slab that was on its way into the inbox of a heap when the heap's thread ended waits there for
 * the next thread, or for a drain that claims heaps, as this one. Without membarrier none does:
 * then some may stay. */
static bool left_clean_now(struct info *in)
{
	struct reclaim_report report;
	uint64_t most;

	reclaim_drain(RECLAIM_FLAGS, 0, &report);
	zone_check(&zone_main);
	info_collect(in, NULL);
	most = in->membarrier_errno ? LATE_BYTES : 0;
	return in->slab_bytes <= most && in->large_bytes == 0 && in->huge_objects == 0 &&
	       in->pcp_bytes == 0 && in->free_bytes + in->slab_bytes == in->region_bytes;
}

#define SLABS_SAID 40u

static void say_slab(struct page *pg)
{
	uint64_t s = atomic_load(&pg->state);
	struct heap *h = atomic_load(&pg->owner);

	tap_diag("slab of %u bytes: flags %u, list %u, %d used, %u of them on its remote list, "
		 "%u carved, %u in holes",
		 (unsigned)class_size(pg->cls), (unsigned)(s & STATE_FLAGS), pg->list,
		 slab_held(pg)->used, state_count(s), slab_held(pg)->carved,
		 (unsigned)slab_in_holes(pg));
	if (h)
		tap_diag("  heap %p%s: busy %u, claim 0x%jx, drained %u, inbox %d, todo %d, "
			 "unattached %u, tid %u",
			 (void *)h, h == heap_fallback.heap ? " (fallback)" : "",
			 atomic_load(&h->busy), (uintmax_t)atomic_load(&h->claim),
			 atomic_load(&h->drained), heap_has_inbox(h), h->inbox_todo != NULL,
			 atomic_load(&h->unattached), atomic_load(&h->tid));
}

static void say_slabs(void)
{
	unsigned n = 0;

	for (struct region *r = zone_first_region(&zone_main); r; r = r->next) {
		for (uint32_t i = region_first(); i < r->pages; i++) {
			struct page *pg = &r->page[i];

			if (page_kind(pg) == PAGE_SLAB && n++ < SLABS_SAID)
				say_slab(pg);
		}
	}
}

/* A block that the background thread purges just now is in no list, and is not counted as free. */
static bool model_left_clean(void)
{
	struct info in;
	bool clean = left_clean_now(&in);

	for (unsigned i = 0; i < 600 && !clean; i++) {
		usleep(100000);
		clean = left_clean_now(&in);
	}
	tap_diag("left: %ju bytes of slabs, %ju of large blocks, %ju of mappings, %ju in page "
		 "caches; %ju free, %ju of them dirty",
		 (uintmax_t)in.slab_bytes, (uintmax_t)in.large_bytes, (uintmax_t)in.huge_bytes,
		 (uintmax_t)in.pcp_bytes, (uintmax_t)in.free_bytes, (uintmax_t)in.dirty_bytes);
	if (in.slab_bytes)
		say_slabs();
	return clean;
}

#endif

/* ---- what the model knows ------------------------------------------------------------------- */

struct block {
	char *p;
	size_t size;
	size_t usable;
	size_t align;
	uint64_t pattern;
	unsigned owner; /* number of the thread that made it */
};

struct shared_slot {
	atomic_flag busy;
	struct block b;
};

enum fault { FAULT_OVERLAP, FAULT_ALIGN, FAULT_LOST, FAULT_ZERO, FAULT_SHORT, FAULT_NOMEM, FAULTS };

static atomic_uint faults[FAULTS];
static struct shared_slot shared[SHARED];
static _Atomic(atomic_ulong *) chunk[CHUNKS];
static atomic_size_t live;
static atomic_ulong operations;
static atomic_ulong passed_on; /* blocks resized or freed by a thread that did not make them */
static atomic_uint ended;
static atomic_bool stop;
static uint64_t seed;
static unsigned sparse = 1;

/* xorshift64*, after a step of splitmix64 for the seed. */
struct rng {
	uint64_t s;
};

static uint64_t rng_next(struct rng *r)
{
	r->s ^= r->s >> 12;
	r->s ^= r->s << 25;
	r->s ^= r->s >> 27;
	return r->s * UINT64_C(0x2545F4914F6CDD1D);
}

static unsigned rng_below(struct rng *r, unsigned n)
{
	return (unsigned)((rng_next(r) >> 32) * n >> 32);
}

static struct rng rng_for(uint64_t number)
{
	uint64_t z = seed + (number + 1) * UINT64_C(0x9E3779B97F4A7C15);

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return (struct rng){ (z ^ (z >> 31)) | 1 };
}

static void fault(enum fault f, const struct block *b, const char *what)
{
	if (atomic_fetch_add(&faults[f], 1) < 5)
		tap_diag("%s: block %p of %zu bytes (usable %zu, alignment %zu) of thread %u", what,
			 (void *)b->p, b->size, b->usable, b->align, b->owner);
}

/* ---- the bitmap of what is in use ----------------------------------------------------------- */

static atomic_ulong *chunk_bits(uintptr_t addr)
{
	_Atomic(atomic_ulong *) *at = &chunk[addr >> CHUNK_SHIFT];
	atomic_ulong *bits = atomic_load(at);
	size_t bytes = (size_t)1 << (CHUNK_SHIFT - GRANULE_SHIFT - 3);
	atomic_ulong *fresh;

	if (bits)
		return bits;
	fresh = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (fresh == MAP_FAILED)
		tap_bail_out("no memory for the model");
	if (atomic_compare_exchange_strong(at, &bits, fresh))
		return fresh;
	munmap(fresh, bytes);
	return bits;
}

/* Sets or clears the bits of [p, p + n). Returns whether all of them had the other value. */
static bool mark(const char *p, size_t n, bool set)
{
	uintptr_t g = (uintptr_t)p >> GRANULE_SHIFT;
	uintptr_t end = ((uintptr_t)p + n + (1 << GRANULE_SHIFT) - 1) >> GRANULE_SHIFT;
	bool good = true;

	while (g < end) {
		atomic_ulong *bits = chunk_bits(g << GRANULE_SHIFT);
		size_t at = g & (((size_t)1 << (CHUNK_SHIFT - GRANULE_SHIFT)) - 1);
		unsigned low = (unsigned)(at & 63);
		unsigned k = end - g < 64 - low ? (unsigned)(end - g) : 64 - low;
		unsigned long mask = (k == 64 ? ~0ul : (1ul << k) - 1) << low;
		unsigned long old = set ? atomic_fetch_or(&bits[at / 64], mask)
					: atomic_fetch_and(&bits[at / 64], ~mask);

		good &= (old & mask) == (set ? 0 : mask);
		g += k;
	}
	return good;
}

/* ---- patterns ------------------------------------------------------------------------------- */

/* All of a short block; of a long one both ends and a word in every 4 KiB. */
static size_t whole_step(size_t at, size_t size)
{
	return at < 512 || at + 512 >= size ? 8 : at + 4096 + 512 < size ? 4096 - at % 4096 : 8;
}

/* The same; or, of most blocks of a sparse run, the first and the last word. */
static size_t step_at(const struct block *b, size_t at, size_t size)
{
	if (sparse == 1 || (b->pattern >> 32) % sparse == 0)
		return whole_step(at, size);
	return at == 0 && size >= 16 ? (size & ~(size_t)7) - 8 : 8;
}

MOVED static void pattern_write(const struct block *b, size_t size)
{
	for (size_t at = 0; at + 8 <= size; at += step_at(b, at, size)) {
		uint64_t v = b->pattern ^ at;

		memcpy(b->p + at, &v, 8);
	}
	for (size_t at = size & ~(size_t)7; at < size; at++)
		b->p[at] = (char)(b->pattern >> (at & 7));
}

/* size: what was written; upto: how much of it must still be there. */
MOVED static bool pattern_holds(const struct block *b, size_t size, size_t upto)
{
	for (size_t at = 0; at + 8 <= upto && at + 8 <= size; at += step_at(b, at, size)) {
		uint64_t v;

		memcpy(&v, b->p + at, 8);
		if (v != (b->pattern ^ at))
			return false;
	}
	for (size_t at = size & ~(size_t)7; at < upto; at++)
		if (b->p[at] != (char)(b->pattern >> (at & 7)))
			return false;
	return true;
}

MOVED static bool reads_zero(const char *p, size_t n)
{
	for (size_t at = 0; at < n; at += whole_step(at, n))
		if (p[at])
			return false;
	return true;
}

/* ---- steps ---------------------------------------------------------------------------------- */

struct worker {
	struct rng rng;
	unsigned number;
	unsigned profile;
	unsigned ops;
	atomic_bool over;
	struct block own[OWN];
};
static sem_t any_over; /* posted by each worker at its end */

/* A block was just made or resized: records, checks and fills it. */
static void block_new(struct block *b)
{
	b->usable = model_usable(b->p);
	atomic_fetch_add(&live, b->usable);
	if (b->usable < b->size)
		fault(FAULT_SHORT, b, "shorter than asked for");
	if ((uintptr_t)b->p & (b->align - 1))
		fault(FAULT_ALIGN, b, "misaligned");
	if (!mark(b->p, b->usable, true))
		fault(FAULT_OVERLAP, b, "overlaps another block");
	pattern_write(b, b->usable);
}

/* A block is about to be freed or resized: no thread may have written to it. */
static void block_old(struct block *b, unsigned by)
{
	if (by != b->owner)
		atomic_fetch_add(&passed_on, 1);
	if (!pattern_holds(b, b->usable, b->usable))
		fault(FAULT_LOST, b, "lost its data");
	if (!mark(b->p, b->usable, false))
		fault(FAULT_OVERLAP, b, "was partly unmarked");
	atomic_fetch_sub(&live, b->usable);
}

static size_t random_size(struct worker *w)
{
	static const unsigned top_bit[][4] = {
		{ 6, 7, 8, 10 },   /* small objects */
		{ 8, 10, 12, 15 }, /* all slabs */
		{ 9, 13, 16, 20 }, /* objects and runs */
		{ 4, 11, 18, 25 }, /* everything, mappings too */
	};
	unsigned bits = top_bit[w->profile % 4][rng_below(&w->rng, 4)];
	uint64_t r = rng_next(&w->rng);

	/* Few very large ones; often just at a border. */
	if (bits > 20 && (r & 15))
		bits = 9;
	if (bits > 14 && sparse > 1 && (r >> 40) % sparse)
		bits = 9;
	r >>= 8;
	if ((r & 7) == 0)
		return ((size_t)1 << (bits - 1)) + (size_t)((r >> 3) % 3) - 1;
	return (size_t)((r >> 3) & (((uint64_t)1 << bits) - 1));
}

static void do_alloc(struct worker *w, struct block *b)
{
	unsigned way = rng_below(&w->rng, 16);
	unsigned align_bits = rng_below(&w->rng, 14);
	bool zero = false;

	b->size = random_size(w);
	b->pattern = rng_next(&w->rng);
	b->owner = w->number;
	b->align = 16;
	if (atomic_load(&live) + b->size > LIVE_MAX)
		return;
	if (way == 0 && align_bits == 13)
		align_bits = 12 + rng_below(&w->rng, 10);
	if (way == 0) {
		b->align = (size_t)8 << align_bits;
		b->p = model_aligned(b->size, b->align);
	} else if (way < 4) {
		b->p = model_calloc(b->size, &zero);
	} else {
		b->p = model_alloc(b->size);
	}
	if (!b->p) {
		fault(FAULT_NOMEM, b, "could not be allocated");
		return;
	}
	if (zero && !reads_zero(b->p, b->size))
		fault(FAULT_ZERO, b, "does not read as zero");
	block_new(b);
}

static void do_free(struct worker *w, struct block *b)
{
	block_old(b, w->number);
	model_free(b->p);
	b->p = NULL;
}

static void do_realloc(struct worker *w, struct block *b)
{
	struct block old = *b;
	size_t size = random_size(w);
	char *p;

	/* Grows step by step, as a buffer does, or to any size. */
	if (rng_below(&w->rng, 4))
		size = b->size + b->size / 4 + size % 256;
	if (!size || atomic_load(&live) + size > LIVE_MAX)
		return;
	block_old(b, w->number);
	p = model_realloc(b->p, size);
	if (!p) {
		fault(FAULT_NOMEM, b, "could not be made larger");
		block_new(b);
		return;
	}
	b->p = p;
	b->size = size;
	b->align = 16;
	if (!pattern_holds(b, old.usable, old.size < size ? old.size : size))
		fault(FAULT_LOST, b, "lost its data when it was resized");
	b->pattern = rng_next(&w->rng);
	b->owner = w->number;
	block_new(b);
}

static void block_step(struct worker *w, struct block *b, unsigned what)
{
	if (!b->p)
		do_alloc(w, b);
	else if (what < 3)
		do_realloc(w, b);
	else
		do_free(w, b);
}

static void step(struct worker *w)
{
	unsigned what = rng_below(&w->rng, 16);
	unsigned rare = rng_below(&w->rng, 4096 * sparse);
	unsigned at = rng_below(&w->rng, SHARED);
	unsigned mine = rng_below(&w->rng, OWN);

	if (rare == 0) {
		model_drain((unsigned)rng_next(&w->rng));
	} else if (rare == 1) {
		model_check();
	} else if ((w->profile & 4) ? what < 12 : what < 4) {
		struct shared_slot *s = &shared[at];

		if (atomic_flag_test_and_set_explicit(&s->busy, memory_order_acquire))
			return;
		block_step(w, &s->b, what);
		atomic_flag_clear_explicit(&s->busy, memory_order_release);
	} else {
		block_step(w, &w->own[mine], what);
	}
}

/* Leaves some blocks to other threads, as a thread does that passes its results on. */
static void leave(struct worker *w)
{
	for (unsigned i = 0; i < OWN; i++) {
		struct shared_slot *s = &shared[rng_below(&w->rng, SHARED)];
		bool pass = w->profile & 8;

		if (!w->own[i].p)
			continue;
		if (pass && !atomic_flag_test_and_set_explicit(&s->busy, memory_order_acquire)) {
			struct block b = s->b;

			s->b = w->own[i];
			atomic_flag_clear_explicit(&s->busy, memory_order_release);
			w->own[i] = b;
		}
		if (w->own[i].p)
			do_free(w, &w->own[i]);
	}
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	unsigned done = 0;

	for (; done < w->ops && !atomic_load_explicit(&stop, memory_order_relaxed); done++)
		step(w);
	atomic_fetch_add(&operations, done);
	leave(w);
	atomic_fetch_add(&ended, 1);
	atomic_store(&w->over, true);
	sem_post(&any_over);
	return NULL;
}

/* ---- the run -------------------------------------------------------------------------------- */

static struct worker workers[THREADS_MAX];
static pthread_t threads[THREADS_MAX];
static unsigned next_number;
static unsigned forks;
static unsigned forks_bad;

static void worker_start(unsigned slot)
{
	struct worker *w = &workers[slot];

	memset(w, 0, sizeof(*w));
	w->number = next_number++;
	w->rng = rng_for(w->number);
	w->profile = (unsigned)rng_next(&w->rng);
	/* Most threads are short-lived. */
	w->ops = 50u << rng_below(&w->rng, 11);
	if (pthread_create(&threads[slot], NULL, worker_main, w) != 0)
		tap_bail_out("cannot start a thread");
}

/* In the child: the blocks are unchanged, and may be freed; new ones can be allocated. */
static _Noreturn void child_main(void)
{
	struct worker *w = &workers[0];

	alarm(test_limit(110));
	memset(w, 0, sizeof(*w));
	w->number = ~0u;
	w->rng = rng_for(next_number);
	for (unsigned i = 0; i < FAULTS; i++)
		atomic_store(&faults[i], 0);
	for (unsigned i = 0; i < SHARED; i++) {
		struct shared_slot *s = &shared[i];

		if (atomic_flag_test_and_set_explicit(&s->busy, memory_order_acquire))
			continue; /* a thread that the child does not have was using it */
		if (s->b.p)
			do_free(w, &s->b);
		atomic_flag_clear_explicit(&s->busy, memory_order_release);
	}
	for (unsigned i = 0; i < 2000; i++)
		step(w);
	for (unsigned i = 0; i < FAULTS; i++)
		if (atomic_load(&faults[i]))
			_exit(2);
	_exit(0);
}

/* A child that hangs ends by SIGALRM. */
static void fork_once(void)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0)
		child_main();
	if (pid < 0)
		return;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	forks++;
	if (status != 0) {
		forks_bad++;
		tap_diag("a fork's child ended with status 0x%x", (unsigned)status);
	}
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void run(unsigned n, double seconds)
{
	double end = now() + seconds;
	double next_fork = now() + 0.1;

	sem_init(&any_over, 0, 0);
	for (unsigned i = 0; i < n; i++)
		worker_start(i);
	while (now() < end) {
		while (sem_wait(&any_over) != 0)
			;
		/* Whichever has ended, so that a long one does not keep others from starting. */
		for (unsigned i = 0; i < n; i++) {
			if (!atomic_load(&workers[i].over))
				continue;
			pthread_join(threads[i], NULL);
			worker_start(i);
		}
		if (!UNDER_TSAN && now() >= next_fork) {
			fork_once();
			next_fork = now() + 0.3 * sparse;
		}
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
}

/* In a thread of its own, so that the initial thread's heap stays unused. */
static void *free_all(void *arg)
{
	struct worker *w = &workers[0];

	(void)arg;
	w->number = ~0u;
	for (unsigned i = 0; i < SHARED; i++)
		if (shared[i].b.p)
			do_free(w, &shared[i].b);
	return NULL;
}

static uint64_t number_from(const char *variable, uint64_t otherwise)
{
	const char *s = getenv(variable);

	return s && *s ? strtoull(s, NULL, 0) : otherwise;
}

static bool none(enum fault f)
{
	return atomic_load(&faults[f]) == 0;
}

int main(void)
{
	double seconds = (double)number_from("SLUICE_MODEL_SECONDS", 30);
	unsigned n = (unsigned)number_from("SLUICE_MODEL_THREADS", 8);
	uint64_t k = number_from("SLUICE_MODEL_SPARSE", 1);
	struct timespec ts;
	pthread_t t;

	clock_gettime(CLOCK_REALTIME, &ts);
	seed = number_from("SLUICE_MODEL_SEED",
			   (uint64_t)ts.tv_sec * 1000003u ^ (uint64_t)ts.tv_nsec);
	sparse = k < 1 ? 1 : k < 4096 ? (unsigned)k : 4096;
	tap_plan(10);
	tap_diag("SLUICE_MODEL_SEED=0x%jx", (uintmax_t)seed);
	backend_start();
	run(n < 1 ? 1 : n < THREADS_MAX ? n : THREADS_MAX, seconds);
	pthread_create(&t, NULL, free_all, NULL);
	pthread_join(t, NULL);
	tap_diag("%lu operations by %u threads, %lu on blocks of other threads, %u forks",
		 atomic_load(&operations), next_number, atomic_load(&passed_on), forks);
	ok(none(FAULT_OVERLAP), "no block overlaps another one");
	ok(none(FAULT_ALIGN), "each block is aligned as asked for");
	ok(none(FAULT_SHORT), "each block is at least as long as asked for");
	ok(none(FAULT_LOST), "each block keeps its data until it is freed");
	ok(none(FAULT_ZERO), "memory that is said to be zero is zero");
	ok(none(FAULT_NOMEM), "no allocation fails");
	is_int(atomic_load(&ended), next_number, "all threads end");
	ok(UNDER_TSAN || (forks && !forks_bad), "the children of forks work, and find no fault");
	is_int(atomic_load(&live), 0, "all blocks are accounted for");
	ok(model_left_clean(), "when all blocks are freed, all memory is free");
	return tap_done();
}
