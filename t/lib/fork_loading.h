/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fork_loading.h - forks while one thread allocates and another one loads a module again and again,
 * so that a fork meets both malloc's locks and the loader's. Included after check.h.
 */
#ifndef SLUICE_T_FORK_LOADING_H
#define SLUICE_T_FORK_LOADING_H

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/wait.h>

struct module_loads {
	const char *file;
	bool over; /* set by the thread that forks; atomic */
};

static void *load_module(void *arg)
{
	struct module_loads *loads = arg;
	unsigned n = 0;

	while (!__atomic_load_n(&loads->over, __ATOMIC_RELAXED)) {
		void *lib = dlopen(loads->file, RTLD_NOW);

		CHECK(lib, "dlopen: %s", dlerror());
		if (lib)
			dlclose(lib);
		n++;
	}
	CHECK(n > 3, "%u", n);
	return NULL;
}

/* Forks `forks` times beside a thread that runs allocate(NULL) once. Each child runs it, too. After
 * each fork parent and child call also(), unless it is NULL. */
static void fork_loading(const char *module, unsigned forks, void *(*allocate)(void *arg),
			 void (*also)(void))
{
	struct module_loads loads = { .file = module };
	pthread_t worker;
	pthread_t loader;

	CHECK(!pthread_create(&loader, NULL, load_module, &loads), "loader");
	CHECK(!pthread_create(&worker, NULL, allocate, NULL), "worker");
	for (unsigned i = 0; i < forks; i++) {
		pid_t pid = fork();
		int status = -1;

		if (pid == 0) {
			alarm(test_limit(60));
			allocate(NULL);
			if (also)
				also();
			_exit(helper_failed != 0);
		}
		if (also)
			also();
		CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "%d", status);
	}
	__atomic_store_n(&loads.over, true, __ATOMIC_RELAXED);
	pthread_join(worker, NULL);
	pthread_join(loader, NULL);
}

#endif
