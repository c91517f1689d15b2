/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * threads.c - many threads: independent, short-lived, inheriting objects, exchanging objects.
 */
#include "../common/work.h"

#include <pthread.h>
#include <stdatomic.h>

static void start(pthread_t *thread, void *(*work)(void *), void *arg)
{
	if (pthread_create(thread, NULL, work, arg) != 0)
		bench_fail("cannot create a thread");
}

static void replace_ops(void **slots, uint32_t live, const uint32_t *sizes, uint64_t ops,
			uint64_t *seed)
{
	for (uint64_t i = 0; i < ops; i++) {
		uint32_t slot = rng_below(seed, live);

		free(slots[slot]);
		slots[slot] = take(size_at(sizes, *seed >> 40));
	}
}

/* ---- each for itself ---------------------------------------------------------------------- */

struct local {
	uint32_t live;
	uint64_t each;
	const uint32_t *sizes;
};

static void local_thread(unsigned index, void *arg)
{
	struct local *w = arg;
	void **slots = bench_map(w->live * sizeof(*slots));
	uint64_t seed = index + 1;

	replace_ops(slots, w->live, w->sizes, w->each / 10 + w->live, &seed);
	team_ready();
	replace_ops(slots, w->live, w->sizes, w->each, &seed);
	team_done();
	for (uint32_t i = 0; i < w->live; i++)
		free(slots[i]);
}

/* Nothing is shared, so that any cost of more threads is the allocator's. */
static void local(void)
{
	unsigned threads = (unsigned)param("threads");
	struct local w = { .live = (uint32_t)param("live"), .each = param("ops") / threads + 1 };

	w.sizes = sizes_make((uint32_t)param("min"), (uint32_t)param("max"), 7);
	team_run(threads, local_thread, &w, w.each * threads);
}

/* ---- short-lived threads ------------------------------------------------------------------ */

struct brief {
	uint64_t objects;
	uint64_t each;
	const uint32_t *sizes;
};

static void *brief_life(void *arg)
{
	struct brief *w = arg;
	void *slots[1024];

	for (uint64_t i = 0; i < w->objects; i++)
		slots[i] = take(size_at(w->sizes, i));
	for (uint64_t i = 0; i < w->objects; i++)
		free(slots[i]);
	return NULL;
}

static void brief_thread(unsigned index, void *arg)
{
	struct brief *w = arg;
	pthread_t thread;

	(void)index;
	for (uint64_t i = 0; i < w->each / 10 + 1; i++) {
		start(&thread, brief_life, w);
		pthread_join(thread, NULL);
	}
	team_ready();
	for (uint64_t i = 0; i < w->each; i++) {
		start(&thread, brief_life, w);
		pthread_join(thread, NULL);
	}
	team_done();
}

static void brief(void)
{
	unsigned threads = (unsigned)param("threads");
	struct brief w = { .objects = param("objects"), .each = param("ops") / threads + 1 };

	if (w.objects > 1024)
		bench_usage("brief: objects=%lu is above 1024", (unsigned long)w.objects);
	w.sizes = sizes_make((uint32_t)param("min"), (uint32_t)param("max"), 8);
	team_run(threads, brief_thread, &w, w.each * threads);
}

/* ---- heirs -------------------------------------------------------------------------------- */

struct heirs {
	uint32_t live;
	uint64_t generations;
	uint64_t each; /* replacements of one generation */
	const uint32_t *sizes;
};

struct estate {
	struct heirs *w;
	void **slots;
	uint64_t seed;
};

static void *heir_life(void *arg)
{
	struct estate *e = arg;

	replace_ops(e->slots, e->w->live, e->w->sizes, e->w->each, &e->seed);
	return NULL;
}

static void heirs_thread(unsigned index, void *arg)
{
	struct heirs *w = arg;
	struct estate e = { .w = w, .seed = index + 1 };
	pthread_t thread;

	e.slots = bench_map(w->live * sizeof(void *));
	for (uint32_t i = 0; i < w->live; i++)
		e.slots[i] = take(size_at(w->sizes, i));
	team_ready();
	for (uint64_t g = 0; g < w->generations; g++) {
		start(&thread, heir_life, &e);
		pthread_join(thread, NULL);
	}
	team_done();
	for (uint32_t i = 0; i < w->live; i++)
		free(e.slots[i]);
}

/*
 * Larson and Krishnan, "Memory allocation for long-running server applications" (1998): a thread
 * replaces random objects of its set and leaves the set to its successor.
 */
static void larson(void)
{
	unsigned threads = (unsigned)param("threads");
	struct heirs w = { .live = (uint32_t)param("live"), .each = param("each") };

	w.generations = param("ops") / (threads * w.each) + 1;
	w.sizes = sizes_make((uint32_t)param("min"), (uint32_t)param("max"), 9);
	team_run(threads, heirs_thread, &w, w.generations * w.each * threads);
}

/* ---- exchange ----------------------------------------------------------------------------- */

#define SHARED 1024u
#define EXCHANGE_LIVE 4096u

struct exchange {
	uint32_t live;
	uint64_t rounds;
	uint64_t each;
	uint64_t share; /* percent of objects that are swapped with a shared slot */
	const uint32_t *sizes;
	_Atomic(void *) shared[SHARED];
};

struct trader {
	struct exchange *w;
	uint64_t seed;
};

/* Sizes are mixed; one in 100 is 100 times as large. Half of the steps only free. */
static void *exchange_life(void *arg)
{
	struct trader *t = arg;
	struct exchange *w = t->w;
	void *slots[EXCHANGE_LIVE] = { NULL };

	for (uint64_t i = 0; i < w->each; i++) {
		uint32_t slot = rng_below(&t->seed, w->live);
		uint64_t r = rng_next(&t->seed);
		size_t size = size_at(w->sizes, r >> 32);

		free(slots[slot]);
		slots[slot] = NULL;
		if (r & 1)
			slots[slot] = take((r >> 1 & 0xffff) % 100 ? size : size * 100);
		if ((r >> 17 & 0x3fff) % 100 < w->share)
			slots[slot] =
				atomic_exchange_explicit(&w->shared[rng_below(&t->seed, SHARED)],
							 slots[slot], memory_order_acq_rel);
	}
	for (uint32_t i = 0; i < w->live; i++)
		free(slots[i]);
	/* exchange() frees what is in w->shared. */
	return NULL; /* NOLINT(clang-analyzer-unix.Malloc) */
}

static void exchange_thread(unsigned index, void *arg)
{
	struct trader t = { .w = arg, .seed = index + 1 };
	pthread_t thread;

	start(&thread, exchange_life, &t);
	pthread_join(thread, NULL);
	team_ready();
	for (uint64_t r = 0; r < t.w->rounds; r++) {
		start(&thread, exchange_life, &t);
		pthread_join(thread, NULL);
	}
	team_done();
}

/* Threads start and end, each with its own objects, which they swap through a shared pool. */
static void exchange(void)
{
	unsigned threads = (unsigned)param("threads");
	struct exchange *w = bench_map(sizeof(*w));

	w->live = (uint32_t)param("live");
	if (w->live > EXCHANGE_LIVE)
		bench_usage("exchange: live=%u is above %u", w->live, EXCHANGE_LIVE);
	w->rounds = param("rounds");
	w->each = param("ops") / threads / w->rounds + 1;
	w->share = param("share");
	w->sizes = sizes_make((uint32_t)param("min"), (uint32_t)param("max"), 10);
	team_run(threads, exchange_thread, w, w->each * w->rounds * threads);
	for (unsigned i = 0; i < SHARED; i++)
		free(w->shared[i]);
}

/* ---- parcels ------------------------------------------------------------------------------ */

#define PARCEL 64u
#define PARCELS_WAITING 64u

struct parcel {
	struct parcel *next;
	void *objects[PARCEL];
};

struct parcels {
	unsigned threads;
	uint64_t each; /* parcels per thread */
	const uint32_t *sizes;
	struct inbox {
		_Alignas(64) _Atomic(struct parcel *) first;
		_Atomic uint32_t parcels;
	} * inboxes;
};

static void parcel_send(struct inbox *in, struct parcel *p)
{
	struct parcel *first = atomic_load_explicit(&in->first, memory_order_relaxed);

	atomic_fetch_add_explicit(&in->parcels, 1, memory_order_relaxed);
	do
		p->next = first;
	while (!atomic_compare_exchange_weak_explicit(&in->first, &first, p, memory_order_release,
						      memory_order_relaxed));
}

static void parcels_open(struct inbox *in)
{
	struct parcel *p = atomic_exchange_explicit(&in->first, NULL, memory_order_acquire);

	while (p) {
		struct parcel *next = p->next;

		for (unsigned i = 0; i < PARCEL; i++)
			free(p->objects[i]);
		free(p);
		atomic_fetch_sub_explicit(&in->parcels, 1, memory_order_relaxed);
		p = next;
	}
}

/* The sender frees half of the objects of a parcel, the receiver the rest. If the receiver lags
 * behind, the sender frees all, so that the memory in use does not depend on the scheduler. */
static void parcels_work(struct parcels *w, unsigned index, uint64_t n, uint64_t *seed)
{
	for (uint64_t k = 0; k < n; k++) {
		struct parcel *p = take(sizeof(*p));
		struct inbox *to;

		for (unsigned i = 0; i < PARCEL; i++)
			p->objects[i] = take(size_at(w->sizes, rng_next(seed)));
		for (unsigned i = 0; i < PARCEL; i += 2) {
			free(p->objects[i]);
			p->objects[i] = NULL;
		}
		to = &w->inboxes[rng_below(seed, w->threads)];
		if (atomic_load_explicit(&to->parcels, memory_order_relaxed) >= PARCELS_WAITING)
			to = &w->inboxes[index];
		parcel_send(to, p);
		parcels_open(&w->inboxes[index]);
	}
}

static void parcels_thread(unsigned index, void *arg)
{
	struct parcels *w = arg;
	uint64_t seed = index + 1;

	parcels_work(w, index, w->each / 10 + 1, &seed);
	team_ready();
	parcels_work(w, index, w->each, &seed);
	team_done();
	parcels_open(&w->inboxes[index]);
}

/* Long-lived threads send batches of mixed sizes to each other. */
static void parcels(void)
{
	struct parcels w = { .threads = (unsigned)param("threads") };

	w.each = param("ops") / PARCEL / w.threads + 1;
	w.sizes = sizes_make((uint32_t)param("min"), (uint32_t)param("max"), 11);
	w.inboxes = bench_map(w.threads * sizeof(*w.inboxes));
	team_run(w.threads, parcels_thread, &w, w.each * w.threads * PARCEL);
}

const struct workload thread_workloads[] = {
	{ "local",
	  local,
	  "free and malloc of a random object of the thread's own",
	  { { "threads", 2 },
	    { "live", 1000 },
	    { "min", 16 },
	    { "max", 1024 },
	    { "ops", 10000000 } } },
	{ "brief",
	  brief,
	  "a thread that allocates some objects, frees them and ends",
	  { { "threads", 2 },
	    { "objects", 100 },
	    { "min", 16 },
	    { "max", 1024 },
	    { "ops", 10000 } } },
	{ "larson",
	  larson,
	  "free and malloc of a random object, perhaps of a thread that has ended",
	  { { "threads", 2 },
	    { "live", 1000 },
	    { "each", 20000 },
	    { "min", 16 },
	    { "max", 1024 },
	    { "ops", 5000000 } } },
	{ "exchange",
	  exchange,
	  "malloc or free in a slot, or swap with another thread",
	  { { "threads", 2 },
	    { "live", 2000 },
	    { "rounds", 10 },
	    { "share", 10 },
	    { "min", 16 },
	    { "max", 1024 },
	    { "ops", 5000000 } } },
	{ "parcels",
	  parcels,
	  "malloc of one object of a batch, half freed by another thread",
	  { { "threads", 2 }, { "min", 16 }, { "max", 16384 }, { "ops", 3000000 } } },
	{ 0 },
};
