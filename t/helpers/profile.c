/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A program whose heap profile is known, and loops that a sampler must survive.
 *
 * usage: profile known|stepped|shrunk|lives|idle|paged|threaded|pins FILE | loops MODULE |
 *        threads | cached | asks | ends
 *
 * known writes its profile to FILE: live are 48,000,000 bytes of site_small (objects of 96 bytes),
 * 81,920,000 of site_large (81,920) and 64 MiB of site_grown (by realloc, many steps); site_freed
 * has allocated and freed 256,000,000 in objects of 64 and 960 bytes, each at once. stepped: 1,000
 * objects of 256 KiB, which realloc grew by 16 KiB from 128 KiB on. shrunk: 1,000 of 64 KiB, which
 * realloc made of 512 KiB.
 *
 * lives prints how long the objects of site_small and site_large lived, the mean in ns. idle: three
 * quarters of what site_small has are of threads that sleep; site_large is of the first thread.
 * paged: two threads have mappings only, 160 MiB each; that of site_small sleeps, that of
 * site_large does not. threaded: what threads ask for by thread.prof.active. In the profile are
 * 1,000 objects of 10,240 bytes of site_small, and as many of site_large.
 * pins: one object in 16 of site_small stays, all of site_large do; prints pinned_bytes.
 * asks: a dump and a reset, as usual without a value. ends: allocates on
 * stacks that end at addresses where no code is, as those of coroutines may.
 */
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <sys/wait.h>

#include "../lib/check.h"
#include "../lib/fork_loading.h"

typedef int mallctl_function(const char *name, void *old, size_t *old_bytes, void *new,
			     size_t bytes);

#define SMALL 500000u
#define LARGE 1000u
#define FREED 250000u

static void *small[SMALL];
static void *large[LARGE];

/* With names, and not inlined, for the profile. */
void *site_small(size_t n);
void *site_large(size_t n);
void *site_freed(size_t n);
void *site_grown(void *p, size_t n);
void *site_stepped(void *p, size_t n);

#define SITE(call)                                                                                 \
	void *p_ = call;                                                                           \
	CHECK(p_, "no memory");                                                                    \
	__asm__ volatile("" : "+r"(p_)::"memory"); /* not a tail call */                           \
	return p_

__attribute__((noinline)) void *site_small(size_t n)
{
	SITE(malloc(n));
}

__attribute__((noinline)) void *site_large(size_t n)
{
	SITE(malloc(n));
}

__attribute__((noinline)) void *site_freed(size_t n)
{
	SITE(calloc(1, n));
}

__attribute__((noinline)) void *site_grown(void *p, size_t n)
{
	SITE(realloc(p, n));
}

__attribute__((noinline)) void *site_stepped(void *p, size_t n)
{
	SITE(realloc(p, n));
}

static int ctl(const char *name, void *new, size_t bytes)
{
	void *found = dlsym(RTLD_DEFAULT, "mallctl");
	mallctl_function *f;

	memcpy(&f, &found, sizeof(f));
	return f ? f(name, NULL, NULL, new, bytes) : -1;
}

static void known(const char *file)
{
	char *grown = NULL;
	bool off = false;
	bool on = true;

	for (unsigned i = 0; i < SMALL; i++)
		small[i] = site_small(96);
	for (unsigned i = 0; i < LARGE; i++)
		large[i] = site_large(81920);
	for (unsigned i = 0; i < FREED; i++) {
		free(site_freed(64));
		free(site_freed(960));
	}
	for (size_t n = 1024; n <= (size_t)64 << 20; n *= 2)
		grown = site_grown(grown, n);
	CHECK(ctl("prof.active", &off, sizeof(off)) == 0, "prof.active");
	for (unsigned i = 0; i < SMALL; i++)
		free(site_freed(4096));
	CHECK(ctl("prof.active", &on, sizeof(on)) == 0, "prof.active");
	CHECK(ctl("prof.dump", &file, sizeof(file)) == 0, "prof.dump");
	for (unsigned i = 0; i < SMALL; i++)
		free(small[i]);
	for (unsigned i = 0; i < LARGE; i++)
		free(large[i]);
	/* grown is not freed, for prof_leak. */
}

static void stepped(const char *file)
{
	for (unsigned i = 0; i < LARGE; i++) {
		large[i] = malloc((size_t)128 << 10);
		for (size_t n = 144; n <= 256; n += 16)
			large[i] = site_stepped(large[i], n << 10);
	}
	CHECK(ctl("prof.dump", &file, sizeof(file)) == 0, "prof.dump");
}

static void shrunk(const char *file)
{
	for (unsigned i = 0; i < LARGE; i++) {
		large[i] = site_stepped(site_large((size_t)512 << 10), (size_t)64 << 10);
		CHECK(malloc_usable_size(large[i]) == (size_t)64 << 10, "it did not shrink");
	}
	CHECK(ctl("prof.dump", &file, sizeof(file)) == 0, "prof.dump");
}

__attribute__((noinline)) static void allocate(void)
{
	for (unsigned i = 0; i < 64; i++) {
		void *p = site_small(100);
		void *q = site_large(100000);

		free(p);
		free(q);
	}
}

/* A stack that ends at a caller; its own return address stands behind the frame pointer. */
__attribute__((noinline)) static void end_at(uintptr_t caller)
{
	volatile uintptr_t *frame = __builtin_frame_address(0);
	uintptr_t saved = frame[1];

	frame[1] = caller;
	allocate();
	frame[1] = saved;
}

static void ends(void)
{
	end_at(UINT64_C(0xdeaddeaddeaddead));
	end_at(0x1000);
	end_at((uintptr_t)small); /* data */
	end_at(0);
}

static void *works(void *arg)
{
	void *mine[64] = { 0 };

	for (unsigned i = 0; i < 20000; i++) {
		unsigned at = i * 7 % 64;
		size_t n = i % 100 == 0 ? 100000 : i % 3000;

		mine[at] = i % 3 ? realloc(mine[at], n + 1) : (free(mine[at]), malloc(n + 1));
		CHECK(mine[at], "%zu bytes", n);
		((char *)mine[at])[n] = 1;
		CHECK(malloc_usable_size(mine[at]) > n, "%zu", n);
	}
	for (unsigned i = 0; i < 64; i++)
		free(mine[i]);
	return arg;
}

static void threads(void)
{
	for (int round = 0; round < 20; round++) {
		pthread_t t[8];

		for (int i = 0; i < 8; i++)
			CHECK(!pthread_create(&t[i], NULL, works, NULL), "thread %d", i);
		for (int i = 0; i < 8; i++)
			pthread_join(t[i], NULL);
	}
}

static uint64_t stat_of(const char *name)
{
	void *found = dlsym(RTLD_DEFAULT, "sluice_stat");
	int (*f)(const char *, uint64_t *);
	uint64_t value = 0;

	memcpy(&f, &found, sizeof(f));
	CHECK(f && f(name, &value) == 0, "sluice_stat %s", name);
	return value;
}

/* The tables of a profile are large and nearly empty: what is not in use must cost no memory, nor
 * count as if it did. */
static void asks(void)
{
	uint64_t before = stat_of("meta_bytes");
	uint64_t after;

	CHECK(ctl("prof.dump", NULL, 0) == 0, "prof.dump without a name");
	CHECK(ctl("prof.reset", NULL, 0) == 0, "prof.reset without a rate");
	after = stat_of("meta_bytes");
	CHECK(after < before + (1 << 20), "%lu bytes of metadata, and then %lu",
	      (unsigned long)before, (unsigned long)after);
}

/* What a thread frees and keeps counts as cached, not as live. */
static void cached(void)
{
	uint64_t held = 0;
	uint64_t freed = 0;

	for (int round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 30; i++)
			small[i] = site_small(3000);
		held = stat_of("layer_live");
		for (unsigned i = 0; i < 30; i++)
			free(small[i]);
		freed = stat_of("layer_live");
	}
	CHECK(held >= freed + 30 * 3000, "live: %lu, then %lu", (unsigned long)held,
	      (unsigned long)freed);
}

static void dump(const char *file)
{
	CHECK(ctl("prof.dump", &file, sizeof(file)) == 0, "prof.dump");
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

#define ROUNDS 10u
#define EACH 2000u

/* An object of site_large lives for two rounds, one of site_small for a random part of one. */
static void lives(const char *file)
{
	static uint64_t born[2][EACH];
	uint64_t sum[2] = { 0, 0 };
	uint64_t state = 1;

	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < EACH; i++) {
			born[0][i] = now_ns();
			small[i] = site_small(1000);
		}
		for (unsigned i = 0; round % 2 == 0 && i < LARGE; i++) {
			born[1][i] = now_ns();
			large[i] = site_large(40000);
		}
		for (unsigned n = EACH; n > 0; n--) {
			unsigned i = (unsigned)(helper_random(&state) % n);
			struct timespec moment = { .tv_nsec = 1000000 };

			if (n % 50 == 0)
				nanosleep(&moment, NULL);
			free(small[i]);
			sum[0] += now_ns() - born[0][i];
			small[i] = small[n - 1];
			born[0][i] = born[0][n - 1];
		}
		for (unsigned i = 0; round % 2 == 1 && i < LARGE; i++) {
			free(large[i]);
			sum[1] += now_ns() - born[1][i];
		}
	}
	dump(file);
	printf("%lu %lu\n", (unsigned long)(sum[0] / (ROUNDS * EACH)),
	       (unsigned long)(sum[1] / (ROUNDS / 2 * LARGE)));
	fflush(stdout);
}

static pthread_barrier_t rest;

static void *sleeps(void *arg)
{
	for (unsigned i = 0; i < SMALL / 4; i++)
		((void **)arg)[i] = site_small(96);
	pthread_barrier_wait(&rest);
	pthread_barrier_wait(&rest);
	return NULL;
}

static void idle(const char *file)
{
	void *found = dlsym(RTLD_DEFAULT, "sluice_drain");
	int (*drain)(unsigned, uint64_t, void *);
	pthread_t t[3];

	memcpy(&drain, &found, sizeof(drain));
	pthread_barrier_init(&rest, NULL, 4);
	for (unsigned i = 0; i < 3; i++)
		CHECK(!pthread_create(&t[i], NULL, sleeps, small + (i + 1) * (SMALL / 4)),
		      "thread %u", i);
	for (unsigned i = 0; i < SMALL / 4; i++)
		small[i] = site_small(96);
	pthread_barrier_wait(&rest);
	CHECK(drain && drain(0, 0, NULL) == 0, "sluice_drain");
	for (unsigned i = 0; i < LARGE; i++)
		large[i] = site_large(20000);
	dump(file);
	pthread_barrier_wait(&rest);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
}

#define PAGED 20u
#define PAGED_BYTES ((size_t)8 << 20)
static _Atomic bool paged_done;
static sem_t paged_end;

static void *sleeps_paged(void *arg)
{
	for (unsigned i = 0; i < PAGED; i++)
		small[i] = site_small(PAGED_BYTES);
	pthread_barrier_wait(&rest);
	sem_wait(&paged_end);
	return arg;
}

static void *works_paged(void *arg)
{
	struct timespec moment = { .tv_nsec = 1000000 };

	for (unsigned i = 0; i < PAGED; i++)
		large[i] = site_large(PAGED_BYTES);
	pthread_barrier_wait(&rest);
	while (!paged_done) {
		free(site_freed(PAGED_BYTES));
		nanosleep(&moment, NULL);
	}
	return arg;
}

/* Needs idle_ms:2000. */
static void paged(const char *file)
{
	struct timespec moment = { .tv_nsec = 1000000 };
	pthread_t t[2];
	uint64_t from;

	sem_init(&paged_end, 0, 0);
	pthread_barrier_init(&rest, NULL, 3);
	CHECK(!pthread_create(&t[0], NULL, sleeps_paged, NULL) &&
		      !pthread_create(&t[1], NULL, works_paged, NULL),
	      "threads");
	pthread_barrier_wait(&rest);
	for (from = now_ns(); now_ns() - from < UINT64_C(2200000000);)
		nanosleep(&moment, NULL);
	malloc_trim(0);
	dump(file);
	paged_done = true;
	sem_post(&paged_end);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
}

static bool thread_is_active(void)
{
	bool on = false;
	size_t len = sizeof(on);
	void *found = dlsym(RTLD_DEFAULT, "mallctl");
	mallctl_function *f;

	memcpy(&f, &found, sizeof(f));
	CHECK(f && f("thread.prof.active", &on, &len, NULL, 0) == 0, "thread.prof.active");
	return on;
}

#define THREADED 1000u

static void *in_profile(void *arg)
{
	bool on = true;

	CHECK(!thread_is_active(), "a thread that has not asked is in the profile");
	CHECK(ctl("thread.prof.active", &on, sizeof(on)) == 0 && thread_is_active(), "on");
	for (unsigned i = 0; i < THREADED; i++)
		small[i] = site_small(10000);
	return arg;
}

static void *not_in_profile(void *arg)
{
	for (unsigned i = 0; i < THREADED / 2; i++) {
		CHECK(site_freed(10000), "no memory");
		CHECK(site_freed(100000), "no memory");
	}
	return arg;
}

static void *by_init(void *arg)
{
	bool off = false;

	CHECK(thread_is_active(), "what is set counts for a thread that has not asked");
	for (unsigned i = 0; i < THREADED; i++)
		large[i] = site_large(10000);
	CHECK(ctl("thread.prof.active", &off, sizeof(off)) == 0 && !thread_is_active(), "off");
	return not_in_profile(arg);
}

static void in_thread(void *(*function)(void *))
{
	pthread_t t;

	CHECK(!pthread_create(&t, NULL, function, NULL) && !pthread_join(t, NULL), "thread");
}

/* Needs prof_thread_active_init:0. */
static void threaded(const char *file)
{
	bool on = true;

	in_thread(in_profile);
	in_thread(not_in_profile);
	CHECK(ctl("prof.thread_active_init", &on, sizeof(on)) == 0, "prof.thread_active_init");
	/* The first thread may have taken the setting as it was: libc allocates for new threads. */
	in_thread(by_init);
	dump(file);
}

static void pins(const char *file)
{
	for (unsigned i = 0; i < SMALL; i++)
		small[i] = site_small(96);
	for (unsigned i = 0; i < LARGE; i++)
		large[i] = site_large(3000);
	for (unsigned i = 0; i < SMALL; i++)
		if (i % 16)
			free(small[i]);
	dump(file);
	printf("%lu\n", (unsigned long)stat_of("pinned_bytes"));
	fflush(stdout);
}

static void dump_nowhere(void)
{
	dump("/dev/null");
}

int main(int argc, char **argv)
{
	if (argc > 2 && strcmp(argv[1], "known") == 0)
		known(argv[2]);
	else if (argc > 2 && strcmp(argv[1], "stepped") == 0)
		stepped(argv[2]);
	else if (argc > 2 && strcmp(argv[1], "shrunk") == 0)
		shrunk(argv[2]);
	else if (argc > 2 && strcmp(argv[1], "lives") == 0)
		lives(argv[2]);
	else if (argc > 2 && strcmp(argv[1], "idle") == 0)
		idle(argv[2]);
	else if (argc > 2 && strcmp(argv[1], "paged") == 0)
		paged(argv[2]);
	else if (argc > 2 && strcmp(argv[1], "threaded") == 0)
		threaded(argv[2]);
	else if (argc > 2 && strcmp(argv[1], "pins") == 0)
		pins(argv[2]);
	else if (argc > 2 && strcmp(argv[1], "loops") == 0)
		fork_loading(argv[2], 30, works, dump_nowhere);
	else if (argc > 1 && strcmp(argv[1], "threads") == 0)
		threads();
	else if (argc > 1 && strcmp(argv[1], "cached") == 0)
		cached();
	else if (argc > 1 && strcmp(argv[1], "asks") == 0)
		asks();
	else if (argc > 1 && strcmp(argv[1], "ends") == 0)
		ends();
	else
		return 2;
	return helper_end();
}
