/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A program whose heap profile is known, and loops that a sampler must survive.
 *
 * usage: profile known FILE | stepped FILE | loops MODULE | threads
 *
 * known writes its profile to FILE: live are 48,000,000 bytes of site_small (objects of 96 bytes),
 * 81,920,000 of site_large (81,920) and 64 MiB of site_grown (by realloc, many steps); site_freed
 * has allocated and freed 256,000,000 in objects of 64 and 960 bytes, each at once. stepped: 1,000
 * objects of 256 KiB, which realloc grew by 16 KiB from 128 KiB on.
 */
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
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

static void dump(void)
{
	const char *nowhere = "/dev/null";

	CHECK(ctl("prof.dump", &nowhere, sizeof(nowhere)) == 0, "prof.dump");
}

int main(int argc, char **argv)
{
	if (argc > 2 && strcmp(argv[1], "known") == 0)
		known(argv[2]);
	else if (argc > 2 && strcmp(argv[1], "stepped") == 0)
		stepped(argv[2]);
	else if (argc > 2 && strcmp(argv[1], "loops") == 0)
		fork_loading(argv[2], 30, works, dump);
	else if (argc > 1 && strcmp(argv[1], "threads") == 0)
		threads();
	else
		return 2;
	return helper_end();
}
