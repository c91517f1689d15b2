/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * thread.c - pthread_create, fork, unshare and setns: the calls for which our own threads matter.
 * Uses background; used by the program.
 *
 * After the real pthread_create has returned, the process has several threads, and it is safe to
 * start the background thread. If a call fails because our threads exist (the limit of threads is
 * reached, or the process must have one thread), they end and the call is made again.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <threads.h>
#include <unistd.h>

#include "base/export.h"
#include "reclaim/background.h"
#include "shim/init.h"

typedef int create_fn(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

/*
 * In a statically linked program there is no next pthread_create. The same function has a second
 * name there, which no shared libc exports. It is linked in because thrd_create, which a shared
 * libc has too, needs it.
 */
create_fn __pthread_create __attribute__((weak));
__attribute__((used)) static int (*const brings)(thrd_t *, thrd_start_t, void *) = thrd_create;

/* With -flto the linker does not see that a program calls malloc before it has been through the
 * archives. Without this it took our fork from ours, and malloc from libc's. Not malloc itself: the
 * loader would bind it, and a program's malloc need not be this one. */
__attribute__((used)) static void (*const serves)(void) = malloc_start_ends;

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *),
			  void *arg)
{
	static _Atomic(create_fn *) real;
	create_fn *fn = atomic_load_explicit(&real, memory_order_relaxed);
	bool left;
	int err;

	if (!fn) {
		void *sym = __pthread_create ? (void *)(uintptr_t)__pthread_create
					     : dlsym(RTLD_NEXT, "pthread_create");

		if (!sym)
			return EAGAIN;
		memcpy(&fn, &sym, sizeof(fn));
		atomic_store_explicit(&real, fn, memory_order_relaxed);
	}
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

/*
 * A call that only a process of one thread may make. If ours are the only other threads, they end
 * first; a moment later they would have ended anyway.
 */
static int by_one_thread(long n, long a, long b)
{
	long r = syscall(n, a, b);

	if (r != 0 && errno == EINVAL && background_leave(true)) {
		r = syscall(n, a, b);
		background_start(false);
	}
	return (int)r;
}

EXPORT int unshare(int flags)
{
	return by_one_thread(SYS_unshare, flags, 0);
}

EXPORT int setns(int fd, int type)
{
	return by_one_thread(SYS_setns, fd, type);
}

#if defined(__GLIBC__)
extern pid_t __fork(void);

/* No thread of ours is started while the program's fork handlers run. If ours take the place of a
 * process in the limit, they end. */
EXPORT pid_t fork(void)
{
	bool outer = !background_inside;
	pid_t pid;

	background_inside = true;
	if (outer)
		background_leave_alone(BACKGROUND_LEAVE_FORK_MS);
	pid = __fork();
	if (pid < 0 && errno == EAGAIN && outer && background_leave(false)) {
		pid = __fork();
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
