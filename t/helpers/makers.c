/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An object that makes threads at bad moments. Opened by dlopen it makes one in its constructor,
 * under the loader's lock, and waits for it. Preloaded it has a pthread_create that holds a lock
 * over malloc and the real call, as libraries do that keep a list of all threads.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>

typedef int create_fn(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

static int allocates(void *arg)
{
	(void)arg;
	free(malloc(100));
	return 0;
}

__attribute__((constructor)) static void opened(void)
{
	thrd_t t;

	if (getenv("MAKERS_OPENED") && thrd_create(&t, allocates, NULL) == thrd_success)
		thrd_join(t, NULL);
}

int pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*start)(void *), void *arg)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static void *listed;
	create_fn *real;
	void *symbol;
	int err;

	pthread_mutex_lock(&lock);
	listed = realloc(listed, 40000);
	symbol = dlsym(RTLD_NEXT, "pthread_create");
	memcpy(&real, &symbol, sizeof(real));
	err = real(t, attr, start, arg);
	pthread_mutex_unlock(&lock);
	return err;
}
