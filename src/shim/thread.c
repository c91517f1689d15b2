/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * thread.c - pthread_create and fork: calls for which our own threads matter (others:
 * attributes.c). Uses background, next; used by the program.
 *
 * The functions that are called in the end are looked up once, at the start: dlsym waits for the
 * loader's lock, and a thread that holds it in a constructor may wait for one that calls malloc,
 * which starts our thread.
 *
 * After the real pthread_create has returned, the process has several threads, and it is safe to
 * start the background thread. If a call fails because the limit of threads is reached, ours end
 * and the call is made again.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <threads.h>
#include <unistd.h>

#include "base/elfsym.h"
#include "base/export.h"
#include "base/sys.h"
#include "reclaim/background.h"
#include "shim/init.h"
#include "shim/next.h"

/*
 * In a statically linked program there is no next pthread_create. The same function has a second
 * name there, which no shared libc exports. It is linked in because thrd_create, which a shared
 * libc has too, needs it.
 */
background_create_fn __pthread_create __attribute__((weak));
__attribute__((used)) static int (*const brings)(thrd_t *, thrd_start_t, void *) = thrd_create;

/* With -flto the linker does not see that a program calls malloc before it has been through the
 * archives. Without this it took our fork from ours, and malloc from libc's. Not malloc itself: the
 * loader would bind it, and a program's malloc need not be this one. */
__attribute__((used)) static void (*const serves)(void) = malloc_start_ends;

static _Atomic(background_create_fn *) next_create; /* the one behind us */

/* symbol: of a function, or NULL. */
static background_create_fn *as_create(void *symbol)
{
	background_create_fn *fn = NULL;

	memcpy(&fn, &symbol, sizeof(fn));
	return fn;
}

static background_create_fn *find_next_create(void)
{
	background_create_fn *fn = __pthread_create ? __pthread_create
						    : as_create(dlsym(RTLD_NEXT, "pthread_create"));

	if (fn)
		atomic_store_explicit(&next_create, fn, memory_order_relaxed);
	return fn;
}

#if defined(__GLIBC__)
extern pid_t __fork(void);
#endif

#ifdef DLFO_STRUCT_HAS_EH_DBASE
/* libc's own pthread_create. Not by dlsym, which would find one that another library has in front
 * of it; nor by dlopen, which would run the constructors of libc now, without the arguments of
 * main. */
static background_create_fn *find_libcs_create(void)
{
	struct dl_find_object libc;
	struct elfsym t = { 0 };

	/* The object in which __fork is, which programs do not name. */
	if (_dl_find_object((void *)(uintptr_t)__fork, &libc) != 0 || !libc.dlfo_link_map)
		return NULL;
	t.bias = libc.dlfo_link_map->l_addr;
	if (!elfsym_read(&t, libc.dlfo_link_map->l_ld, 0))
		return NULL;
	return as_create(elfsym_find(&t, "pthread_create"));
}
#else
static background_create_fn *find_libcs_create(void)
{
	return NULL; /* before glibc 2.35 the next one is called */
}
#endif

void thread_init(void)
{
	background_create_fn *create = find_next_create();

	if (!__pthread_create) {
		background_create_fn *libcs = find_libcs_create();

		create = libcs ? libcs : create;
	}
	if (create)
		background_create = create;
#if defined(__GLIBC__)
	/* glibc takes static TLS out of the stack's size, so it tells how much that is. */
	void *minstack = dlsym(RTLD_NEXT, "__pthread_get_minstack");

	memcpy(&background_stack_more, &minstack, sizeof(minstack));
#endif
}

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *),
			  void *arg)
{
	background_create_fn *fn = atomic_load_explicit(&next_create, memory_order_relaxed);
	bool left;
	int err;

	if (!fn)
		fn = find_next_create();
	if (!fn)
		return EAGAIN;
	if (background_inside)
		return fn(thread, attr, start, arg);
	background_inside = true;
	err = fn(thread, attr, start, arg);
	/* Our thread may be the one too many. */
	left = err == EAGAIN && background_leave(false);
	if (left)
		err = fn(thread, attr, start, arg);
	if (!err || left)
		background_start(true);
	background_inside = false;
	return err;
}

#if defined(__GLIBC__)
static pid_t next_fork(void)
{
	return sluice_next.fork ? sluice_next.fork() : __fork();
}

/* No thread of ours is started while the program's fork handlers run. If ours take the place of a
 * process in the limit, they end. */
EXPORT pid_t fork(void)
{
	bool outer = !background_inside;
	pid_t pid;

	background_inside = true;
	if (outer)
		background_leave_alone(BACKGROUND_LEAVE_FORK_MS);
	pid = next_fork();
	if (pid < 0 && errno == EAGAIN && outer && background_leave(false)) {
		pid = next_fork();
		if (pid != 0) {
			int saved = errno;

			background_start(true);
			errno = saved;
		}
	}
	if (outer)
		background_inside = false;
	return pid;
}
#endif
