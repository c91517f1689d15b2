/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A program that loads the library itself, late, and for itself only.
 *
 * usage: late LIBRARY    dlopen it after a life without it; the C library stays malloc
 *        late dlsym      (preloaded) the first call of all is by dlsym's error message
 */
#include "lib/check.h"

#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>

static void *(*their_malloc)(size_t);
static void *(*their_calloc)(size_t, size_t);
static void *(*their_realloc)(void *, size_t);
static void (*their_free)(void *);
static size_t (*their_usable)(void *);

static _Atomic int loaded, phase_done;

/* Allocates blocks of both allocators, and frees each by its own. */
static void both(uint64_t seed)
{
	unsigned char *ours[50], *theirs[50];

	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 50; i++) {
			size_t n = helper_random(&seed) % (i == 0 ? 500000 : 5000) + 1;

			ours[i] = malloc(n);
			theirs[i] = their_malloc(n);
			CHECK(ours[i] != NULL && theirs[i] != NULL && ours[i] != theirs[i], "%zu",
			      n);
			theirs[i] = their_realloc(theirs[i], n + 100);
			CHECK(their_usable(theirs[i]) >= n + 100, "usable size");
			memset(ours[i], i, n);
			memset(theirs[i], i + 100, n);
		}
		for (int i = 0; i < 50; i++) {
			CHECK(ours[i][0] == i && theirs[i][0] == i + 100, "block %d changed", i);
			free(ours[i]);
			their_free(theirs[i]);
		}
		their_free(their_calloc(100, 100));
	}
}

/* A thread that existed, and had allocated, before the library was loaded. */
static void *early_thread(void *arg)
{
	void *p = malloc(1000);

	memset(p, 0x31, 1000);
	phase_done = 1;
	while (!loaded)
		usleep(1000);
	CHECK(*(unsigned char *)p == 0x31, "a block of before changed");
	both((uint64_t)(intptr_t)arg);
	free(p);
	return NULL;
}

static void *late_thread(void *arg)
{
	both((uint64_t)(intptr_t)arg);
	return NULL;
}

static int by_dlopen(const char *lib)
{
	pthread_t early, late[4];
	void *before[100];
	Dl_info info;

	for (size_t i = 0; i < 100; i++) {
		before[i] = malloc(i * 500 + 1);
		memset(before[i], 0x41, i * 500 + 1);
	}
	if (pthread_create(&early, NULL, early_thread, (void *)9) != 0)
		return 98;
	while (!phase_done)
		usleep(1000);
	void *h = dlopen(lib, RTLD_NOW | RTLD_LOCAL);
	if (h == NULL) {
		helper_say("dlopen: %s", dlerror());
		return 97;
	}
	*(void **)&their_malloc = dlsym(h, "malloc");
	*(void **)&their_calloc = dlsym(h, "calloc");
	*(void **)&their_realloc = dlsym(h, "realloc");
	*(void **)&their_free = dlsym(h, "free");
	*(void **)&their_usable = dlsym(h, "malloc_usable_size");
	CHECK(dladdr(*(void **)&their_malloc, &info) != 0 && strcmp(info.dli_fname, lib) == 0,
	      "malloc of the handle comes from elsewhere");
	void *(*visible)(size_t) = malloc;
	CHECK(dladdr(*(void **)&visible, &info) != 0 && strstr(info.dli_fname, "libc.so") != NULL,
	      "malloc of the program comes from %s", info.dli_fname);
	loaded = 1;
	both(1);
	for (intptr_t i = 0; i < 4; i++)
		if (pthread_create(&late[i], NULL, late_thread, (void *)(i + 2)) != 0)
			return 98;
	for (int i = 0; i < 4; i++)
		pthread_join(late[i], NULL);
	pthread_join(early, NULL);
	dlclose(h);
	for (size_t i = 0; i < 100; i++) {
		CHECK(*(unsigned char *)before[i] == 0x41, "a block of before changed");
		before[i] = realloc(before[i], i * 1000 + 10);
	}
	for (int i = 0; i < 100; i++)
		free(before[i]);
	return helper_end();
}

/* ---- the first call comes from dlsym --------------------------------------------------------- */

static const char *first_error;

static void before_constructors(int argc, char **argv, char **envp)
{
	(void)argc;
	(void)argv;
	(void)envp;
	if (dlsym(RTLD_NEXT, "a_name_that_nothing_defines") == NULL)
		first_error = dlerror(); /* the message is allocated */
}

__attribute__((section(".preinit_array"),
	       used)) static void (*const preinit)(int, char **, char **) = before_constructors;

static void *asks(void *arg)
{
	for (int i = 0; i < 100; i++) {
		CHECK(dlsym(RTLD_DEFAULT, "another_name") == NULL, "dlsym");
		const char *e = dlerror();
		CHECK(e != NULL && strstr(e, "another_name") != NULL, "dlerror: %s", e);
		CHECK(dlopen("/nonexistent/object.so", RTLD_NOW) == NULL && dlerror() != NULL,
		      "dlopen");
	}
	return arg;
}

static int by_dlsym(void)
{
	pthread_t t;

	CHECK(first_error != NULL && strstr(first_error, "a_name_that_nothing_defines") != NULL,
	      "the first error: %s", first_error == NULL ? "none" : first_error);
	asks(NULL);
	for (int i = 0; i < 20; i++) {
		if (pthread_create(&t, NULL, asks, NULL) != 0)
			return 98;
		pthread_join(t, NULL);
	}
	return helper_end();
}

int main(int argc, char **argv)
{
	if (argc == 2)
		return strcmp(argv[1], "dlsym") == 0 ? by_dlsym() : by_dlopen(argv[1]);
	fprintf(stderr, "usage: late LIBRARY|dlsym\n");
	return 2;
}
