/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * shim_thread.c - pthread_create: after the real one has returned is a safe point to start the
 * background thread, and the moment when the process has several threads. Uses background.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <threads.h>

#include "background.h"
#include "export.h"

typedef int create_fn(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

/*
 * In a program that is linked statically there is no next one: it is the same function under a name that no shared
 * libc has. What defines it is linked for the sake of something that needs it and that a shared one has, too.
 */
create_fn __pthread_create __attribute__((weak));
__attribute__((used)) static int (*const brings)(thrd_t *, thrd_start_t, void *) = thrd_create;

static _Thread_local int inside; /* our own thread is being made */

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *),
			  void *arg)
{
	static _Atomic(create_fn *) real;
	create_fn *fn = atomic_load_explicit(&real, memory_order_relaxed);
	int err;

	if (!fn) {
		void *sym = __pthread_create ? (void *)(uintptr_t)__pthread_create
					     : dlsym(RTLD_NEXT, "pthread_create");

		if (!sym)
			return EAGAIN;
		memcpy(&fn, &sym, sizeof(fn));
		atomic_store_explicit(&real, fn, memory_order_relaxed);
	}
	err = fn(thread, attr, start, arg);
	if (!err && !inside) {
		inside = 1;
		background_start(true);
		inside = 0;
	}
	return err;
}
