/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scale.c - the workloads of `sluice-bench scale`, with 1 to some thousand threads. Each does a
 * fixed amount of work, but at least a certain amount per thread.
 *
 * In addition to time and memory a run reports `switches`, the context switches of the process
 * during the work without those of the workload's own waits, and `worst_ns`, the largest CPU time
 * that a timed call took in the calling thread.
 *
 * A parameter bounds the memory in use of all threads together, and their stacks are small, so that
 * thousands of threads fit.
 */
#include "../common/work.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STACK_BYTES 65536u

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t own_cpu_ns(void)
{
	return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

static uint64_t switches(int who)
{
	struct rusage u;

	getrusage(who, &u);
	return (uint64_t)u.ru_nvcsw + (uint64_t)u.ru_nivcsw;
}

/* ---- a crew: threads that are let go at one moment ------------------------------------------ */

struct member {
	_Alignas(64) unsigned index;
	unsigned waits; /* switches that the workload's own waits made */
	uint64_t seed;
	uint64_t worst_ns;
	uint64_t done; /* operations */
	pthread_t thread;
};

static struct {
	unsigned threads;
	struct member *members;
	void (*before)(struct member *m); /* or NULL */
	void (*work)(struct member *m);
	pthread_barrier_t go;
	_Atomic unsigned ready;
	/* Sums over all rounds. */
	uint64_t wall_ns;
	uint64_t cpu_ns;
	uint64_t switches;
} crew;

static void *crew_thread(void *arg)
{
	struct member *m = arg;

	if (crew.before)
		crew.before(m);
	atomic_fetch_add_explicit(&crew.ready, 1, memory_order_release);
	pthread_barrier_wait(&crew.go);
	crew.work(m);
	return NULL;
}

static void crew_make(void (*before)(struct member *m), void (*work)(struct member *m))
{
	crew.threads = (unsigned)param("threads");
	crew.members = bench_map(crew.threads * sizeof(*crew.members));
	crew.before = before;
	crew.work = work;
	for (unsigned i = 0; i < crew.threads; i++) {
		crew.members[i].index = i;
		crew.members[i].seed = i + 1;
	}
}

/*
 * The threads are created, wait for each other, do their work and end. Counting begins when they
 * are released and ends when the last one has ended. If beside is not NULL, the calling thread runs
 * it meanwhile.
 */
static void crew_round(void (*beside)(void))
{
	uint64_t wall, cpu, all, mine;
	pthread_attr_t attr;

	atomic_store_explicit(&crew.ready, 0, memory_order_relaxed);
	pthread_barrier_init(&crew.go, NULL, crew.threads + 1);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	for (unsigned i = 0; i < crew.threads; i++) {
		struct member *m = &crew.members[i];

		if (pthread_create(&m->thread, &attr, crew_thread, m) != 0)
			bench_fail("cannot create thread %u of %u", i + 1, crew.threads);
	}
	pthread_attr_destroy(&attr);
	while (atomic_load_explicit(&crew.ready, memory_order_acquire) != crew.threads)
		usleep(200);
	usleep(1000 + crew.threads * 5); /* until the last ones sleep */
	wall = clock_ns(CLOCK_MONOTONIC);
	cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	all = switches(RUSAGE_SELF);
	mine = switches(RUSAGE_THREAD);
	pthread_barrier_wait(&crew.go);
	if (beside)
		beside();
	for (unsigned i = 0; i < crew.threads; i++)
		pthread_join(crew.members[i].thread, NULL);
	crew.wall_ns += clock_ns(CLOCK_MONOTONIC) - wall;
	crew.cpu_ns += clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	crew.switches += (switches(RUSAGE_SELF) - all) - (switches(RUSAGE_THREAD) - mine);
	pthread_barrier_destroy(&crew.go);
}

static uint64_t crew_worst(void)
{
	uint64_t worst = 0;

	for (unsigned i = 0; i < crew.threads; i++)
		worst = max_u64(worst, crew.members[i].worst_ns);
	return worst;
}

static void crew_report(uint64_t worst_ns)
{
	uint64_t ops = 0;
	uint64_t waits = 0;

	for (unsigned i = 0; i < crew.threads; i++) {
		ops += crew.members[i].done;
		waits += crew.members[i].waits;
	}
	bench_measured(ops, crew.wall_ns, crew.cpu_ns);
	bench_extra("threads", crew.threads);
	bench_extra("switches", (double)(crew.switches > waits ? crew.switches - waits : 0));
	bench_extra("worst_ns", (double)worst_ns);
}

/* The work of one thread: its part of ops, but at least `least`. */
static uint64_t each(uint64_t least)
{
	return max_u64(param("ops") / crew.threads, least);
}

/* ---- calls, some of them timed ------------------------------------------------------------ */

static void *timed_take(struct member *m, size_t size)
{
	uint64_t begin = own_cpu_ns();
	void *p = malloc(size);

	m->worst_ns = max_u64(m->worst_ns, own_cpu_ns() - begin);
	if (!p)
		bench_fail("malloc(%zu): no memory", size);
	touch_ends(p, size);
	return p;
}

static void timed_free(struct member *m, void *p)
{
	uint64_t begin = own_cpu_ns();

	free(p);
	m->worst_ns = max_u64(m->worst_ns, own_cpu_ns() - begin);
}

/* One call in `every` is timed, the first included. */
static void *take_at(struct member *m, size_t size, uint64_t i, uint64_t every)
{
	return i % every == 0 ? timed_take(m, size) : take(size);
}

static void free_at(struct member *m, void *p, uint64_t i, uint64_t every)
{
	if (i % every == 0)
		timed_free(m, p);
	else
		free(p);
}

static const uint32_t *sizes;
static uint64_t per_thread;

static void make_sizes(void)
{
	sizes = sizes_make((uint32_t)param("min"), (uint32_t)param("max"), 12);
}

/* ---- start -------------------------------------------------------------------------------- */

#define START_OBJECTS 100u

static void start_work(struct member *m)
{
	void *slots[START_OBJECTS];
	uint64_t from = rng_next(&m->seed);
	void *page = timed_take(m, 65536);

	for (unsigned i = 0; i < START_OBJECTS; i++)
		slots[i] = take_at(m, size_at(sizes, from + i), i, 10);
	for (unsigned i = 0; i < START_OBJECTS; i++)
		free_at(m, slots[i], i, 10);
	timed_free(m, page);
	m->done += START_OBJECTS + 1;
}

/* All threads make their first call at one moment, work briefly, and end. */
static void start(void)
{
	uint64_t rounds;

	crew_make(NULL, start_work);
	make_sizes();
	rounds = param("ops") / START_OBJECTS / crew.threads;
	rounds = rounds < 1 ? 1 : rounds > 32 ? 32 : rounds;
	for (uint64_t i = 0; i < rounds; i++)
		crew_round(NULL);
	crew_report(crew_worst());
}

/* ---- churn -------------------------------------------------------------------------------- */

#define CHURN_LIVE 128u

static void churn_work(struct member *m)
{
	void *slots[CHURN_LIVE] = { NULL };

	for (uint64_t i = 0; i < per_thread; i++) {
		uint32_t slot = rng_below(&m->seed, CHURN_LIVE);

		free_at(m, slots[slot], i, 256);
		slots[slot] = take_at(m, size_at(sizes, m->seed >> 40), i, 256);
	}
	for (unsigned i = 0; i < CHURN_LIVE; i++)
		free(slots[i]);
	m->done += per_thread;
}

static void churn(void)
{
	crew_make(NULL, churn_work);
	make_sizes();
	per_thread = each(2000);
	crew_round(NULL);
	crew_report(crew_worst());
}

/* ---- big ---------------------------------------------------------------------------------- */

static size_t big_size;

static void big_work(struct member *m)
{
	for (uint64_t i = 0; i < per_thread; i++)
		free_at(m, take_at(m, big_size, i, 16), i, 16);
	m->done += per_thread;
}

/* Blocks too large for a pcp. */
static void big(void)
{
	crew_make(NULL, big_work);
	big_size = param("size");
	per_thread = each(50);
	crew_round(NULL);
	crew_report(crew_worst());
}

/* ---- pages -------------------------------------------------------------------------------- */

#define PAGES_LIVE 64u

static uint64_t pages_live;

static void pages_work(struct member *m)
{
	void *slots[PAGES_LIVE];

	for (uint64_t done = 0; done < per_thread; done += pages_live) {
		for (uint64_t i = 0; i < pages_live; i++)
			slots[i] = take_at(m, size_at(sizes, rng_next(&m->seed)), i, 16);
		for (uint64_t i = 0; i < pages_live; i++)
			free_at(m, slots[i], i, 16);
		m->done += pages_live;
	}
}

/* Each allocates and frees more page runs than a pcp keeps. */
static void pages(void)
{
	crew_make(NULL, pages_work);
	make_sizes();
	pages_live = (param("mib") << 20) / param("max") / crew.threads;
	pages_live = pages_live < 2 ? 2 : pages_live > PAGES_LIVE ? PAGES_LIVE : pages_live;
	per_thread = each(4 * pages_live);
	crew_round(NULL);
	crew_report(crew_worst());
}

/* ---- handoff ------------------------------------------------------------------------------ */

#define PARCEL 256u
#define PARCELS 4u

static struct pair {
	_Alignas(64) sem_t room;
	_Alignas(64) sem_t filled;
	_Alignas(64) void *objects[PARCELS][PARCEL];
} * pairs;

/* These waits are the workload's own, not the allocator's. */
static void wait_for(struct member *m, sem_t *sem)
{
	struct rusage a, b;

	if (sem_trywait(sem) == 0)
		return;
	getrusage(RUSAGE_THREAD, &a);
	while (sem_wait(sem) != 0)
		;
	getrusage(RUSAGE_THREAD, &b);
	m->waits += (unsigned)(b.ru_nvcsw - a.ru_nvcsw);
}

static void produce(struct member *m, struct pair *p, uint64_t parcel)
{
	void **to = p->objects[parcel % PARCELS];

	wait_for(m, &p->room);
	for (unsigned i = 0; i < PARCEL; i++)
		to[i] = take_at(m, size_at(sizes, rng_next(&m->seed)), i, 128);
	sem_post(&p->filled);
}

static void consume(struct member *m, struct pair *p, uint64_t parcel)
{
	void **from = p->objects[parcel % PARCELS];

	wait_for(m, &p->filled);
	for (unsigned i = 0; i < PARCEL; i++)
		free_at(m, from[i], i, 128);
	sem_post(&p->room);
}

static void handoff_work(struct member *m)
{
	struct pair *p = &pairs[m->index / 2];
	bool alone = (m->index ^ 1) >= crew.threads;

	for (uint64_t k = 0; k < per_thread / PARCEL; k++) {
		if (alone || m->index % 2 == 0) {
			produce(m, p, k);
			m->done += PARCEL;
		}
		if (alone || m->index % 2 == 1)
			consume(m, p, k);
	}
}

/* In each pair one allocates and the other frees; a thread without a partner does both. */
static void handoff(void)
{
	crew_make(NULL, handoff_work);
	make_sizes();
	pairs = bench_map((crew.threads + 1) / 2 * sizeof(*pairs));
	for (unsigned i = 0; i < (crew.threads + 1) / 2; i++) {
		sem_init(&pairs[i].room, 0, PARCELS);
		sem_init(&pairs[i].filled, 0, 0);
	}
	per_thread = each(8 * PARCEL) * 2;
	crew_round(NULL);
	crew_report(crew_worst());
}

/* ---- growth ------------------------------------------------------------------------------- */

static sem_t bed;
static _Atomic unsigned asleep;
static struct {
	uint64_t wall_ns;
	uint64_t cpu_ns;
	uint64_t switches;
} growth_sum;

/* Leaves something in each kind of cache. */
static void fill_caches(struct member *m)
{
	void *slots[32];

	for (unsigned i = 0; i < 32; i++)
		slots[i] = take(i % 8 == 0 ? 65536 : size_at(sizes, rng_next(&m->seed)));
	for (unsigned i = 0; i < 32; i++)
		free(slots[i]);
}

static void grow(struct member *m)
{
	uint64_t bytes = param("mib") << 20;
	uint64_t most = bytes / param("min");
	void **all = bench_map(most / 8 * sizeof(*all));
	uint64_t n = 0;

	for (uint64_t have = 0; have < bytes && n < most / 8; n++) {
		size_t size = size_at(sizes, rng_next(&m->seed));

		all[n] = timed_take(m, size);
		have += size;
	}
	m->done += n;
	while (n)
		free(all[--n]);
}

/* Counts the growth only, not how the others fall asleep, wake up and end. */
static void grow_beside(void)
{
	uint64_t wall, cpu, all;

	while (atomic_load_explicit(&asleep, memory_order_acquire) != crew.threads - 1)
		usleep(200);
	usleep(1000 + crew.threads * 5);
	wall = clock_ns(CLOCK_MONOTONIC);
	cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	all = switches(RUSAGE_SELF);
	for (uint64_t i = param("rounds"); i; i--)
		grow(&crew.members[0]);
	growth_sum.switches = switches(RUSAGE_SELF) - all;
	growth_sum.cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	growth_sum.wall_ns = clock_ns(CLOCK_MONOTONIC) - wall;
	for (unsigned i = 1; i < crew.threads; i++)
		sem_post(&bed);
}

static void growth_work(struct member *m)
{
	if (m->index == 0)
		return;
	atomic_fetch_add_explicit(&asleep, 1, memory_order_release);
	while (sem_wait(&bed) != 0)
		;
}

/* One thread grows while all others sleep, each with something in its caches. */
static void growth(void)
{
	sem_init(&bed, 0, 0);
	crew_make(fill_caches, growth_work);
	make_sizes();
	crew_round(grow_beside);
	crew.wall_ns = growth_sum.wall_ns;
	crew.cpu_ns = growth_sum.cpu_ns;
	crew.switches = growth_sum.switches;
	crew_report(crew.members[0].worst_ns);
}

/* ---- fork --------------------------------------------------------------------------------- */

static uint64_t *fork_ns;
static unsigned forks;
static uint64_t forker_ns; /* all CPU time of the thread that forks */

static void fork_work(struct member *m)
{
	if (m->index != 0)
		churn_work(m);
}

static void child_life(void)
{
	void *slots[16];

	for (unsigned i = 0; i < 16; i++)
		slots[i] = take(size_at(sizes, i));
	for (unsigned i = 0; i < 16; i++)
		free(slots[i]);
	_exit(0);
}

static void fork_once(void)
{
	uint64_t begin = own_cpu_ns();
	pid_t pid = fork();
	int status = 0;

	if (pid == 0)
		child_life();
	if (pid < 0)
		bench_fail("cannot fork");
	fork_ns[forks++] = own_cpu_ns() - begin;
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		bench_fail("a child of fork did not end well");
}

static void fork_beside(void)
{
	uint64_t begin = own_cpu_ns();

	for (uint64_t n = param("forks"); n; n--)
		fork_once();
	forker_ns = own_cpu_ns() - begin;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/*
 * One thread forks repeatedly while the others churn. The time is that of the others, which wait
 * and copy pages because of the forks; the time of fork itself is reported separately. With one
 * thread there is only the fork.
 */
static void forking(void)
{
	uint64_t median;

	crew_make(NULL, fork_work);
	make_sizes();
	fork_ns = bench_map(param("forks") * sizeof(*fork_ns));
	per_thread = each(2000);
	crew_round(fork_beside);
	if (crew.threads == 1)
		crew.members[0].done = forks;
	else
		crew.cpu_ns -= forker_ns;
	qsort(fork_ns, forks, sizeof(fork_ns[0]), by_value);
	median = fork_ns[forks / 2];
	crew_report(fork_ns[forks - 1]);
	bench_extra("forks", forks);
	bench_extra("fork_ns", (double)median);
	bench_extra("worst_call_ns", (double)crew_worst());
}

const struct workload scale_workloads[] = {
	{ "scale-start",
	  start,
	  "malloc and free in a thread that starts with all others and ends soon",
	  { { "threads", 2 }, { "min", 16 }, { "max", 1024 }, { "ops", 200000 } } },
	{ "scale-churn",
	  churn,
	  "free and malloc of a random object of the thread's own",
	  { { "threads", 2 }, { "min", 16 }, { "max", 1024 }, { "ops", 4000000 } } },
	{ "scale-big",
	  big,
	  "malloc and free of a block above 2 MiB",
	  { { "threads", 2 }, { "size", 3000000 }, { "ops", 200000 } } },
	{ "scale-pages",
	  pages,
	  "malloc and free of a block of pages, many at a time",
	  { { "threads", 2 },
	    { "min", 65536 },
	    { "max", 300000 },
	    { "mib", 768 },
	    { "ops", 100000 } } },
	{ "scale-handoff",
	  handoff,
	  "malloc by one thread, free by another",
	  { { "threads", 2 }, { "min", 16 }, { "max", 256 }, { "ops", 2000000 } } },
	{ "scale-growth",
	  growth,
	  "malloc in one thread that grows while the others sleep",
	  { { "threads", 2 }, { "min", 16 }, { "max", 65536 }, { "mib", 256 }, { "rounds", 2 } } },
	{ "scale-fork",
	  forking,
	  "free and malloc of a random object while one thread forks",
	  { { "threads", 2 },
	    { "min", 16 },
	    { "max", 1024 },
	    { "forks", 100 },
	    { "ops", 8000000 } } },
	{ 0 },
};
