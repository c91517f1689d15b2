/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * attributes.c - unshare, setns, capset, close_range, prctl and others change what the kernel keeps
 * for each thread: our threads leave before that. Uses background, differ; used by the shim
 * (seccomp, thread) and the program.
 *
 * They come again with the next thread, made by one that has the new attributes, or when the call
 * has failed. They do not if the program has other threads, which have the older attributes.
 *
 * A child of vfork, which is another process in our memory, only makes the call. So does a thread
 * after a filter was installed: ours do not exist then, or cannot end (background.c).
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "shim/attributes.h"

#include <errno.h>
#include <linux/prctl.h>
#include <sched.h>
#include <sys/syscall.h>

#include "base/export.h"
#include "base/sandbox.h"
#include "heap/heap_thread.h"
#include "reclaim/background.h"
#include "reclaim/differ.h"

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE 2u
#endif
/* The kernel refuses these to a process of several threads. */
#define FOR_ONE_THREAD (CLONE_NEWUSER | CLONE_VM | CLONE_SIGHAND | CLONE_THREAD)

enum attributes attributes_begin(void)
{
	if (sandbox_own || sandbox_any())
		return ATTRIBUTES_NOTHING;
	heap_copy_check();
	if (!background_exists() && differ_is_settled())
		return ATTRIBUTES_NOTHING;
	if (!heap_in_process())
		return ATTRIBUTES_NOTHING;
	differ_enter();
	if (!background_exists())
		return ATTRIBUTES_NOTED;
	background_leave_all(BACKGROUND_LEAVE_FILTER_MS);
	return ATTRIBUTES_LEFT;
}

void attributes_end(enum attributes how, bool changed)
{
	int saved = errno;
	bool others;

	if (how == ATTRIBUTES_NOTHING)
		return;
	/* With a filter that was just installed nothing is started either. */
	others = (changed || how == ATTRIBUTES_LEFT) && !sandbox_any() && differ_others();
	differ_leave(changed && others);
	if (how == ATTRIBUTES_LEFT)
		background_comes_again(others);
	errno = saved;
}

static bool changes_by_prctl(long op, long arg)
{
	switch (op) {
	case PR_CAPBSET_DROP:
	case PR_SET_NO_NEW_PRIVS:
	case PR_SET_SECUREBITS:
		return true;
	case PR_CAP_AMBIENT:
		return arg != PR_CAP_AMBIENT_IS_SET;
	default:
		return false;
	}
}

static bool changes(long n, const long *arg)
{
	switch (n) {
	case SYS_prctl:
		return changes_by_prctl(arg[0], arg[1]);
	case SYS_seccomp:
		return false; /* see seccomp.c */
	case SYS_close_range:
		return (arg[2] & CLOSE_RANGE_UNSHARE) != 0;
	case SYS_unshare:
		return (int)arg[0] != 0;
	default:
		return true;
	}
}

static bool is_for_one_thread(long n, const long *arg)
{
	return (n == SYS_unshare && arg[0] & FOR_ONE_THREAD) ||
	       (n == SYS_setns && arg[1] == CLONE_NEWUSER);
}

long attributes_call(long n, const long *arg, attributes_fn *call)
{
	enum attributes how;
	long r;

	if (!changes(n, arg))
		return call(n, arg);
	/* If it succeeds, there was no thread of ours. If ours are not the only other threads, it
	 * fails without them as well. */
	if (is_for_one_thread(n, arg)) {
		r = call(n, arg);
		if (r == 0 || errno != EINVAL || !background_is_alone())
			return r;
	}
	how = attributes_begin();
	r = call(n, arg);
	attributes_end(how, r != -1);
	return r;
}

EXPORT int unshare(int flags)
{
	const long arg[5] = { flags };

	return (int)attributes_call(SYS_unshare, arg, attributes_raw);
}

EXPORT int setns(int fd, int type)
{
	const long arg[5] = { fd, type };

	return (int)attributes_call(SYS_setns, arg, attributes_raw);
}

EXPORT int capset(void *header, const void *data);

EXPORT int capset(void *header, const void *data)
{
	const long arg[5] = { (long)header, (long)data };

	return (int)attributes_call(SYS_capset, arg, attributes_raw);
}

EXPORT int close_range(unsigned first, unsigned last, int flags);

EXPORT int close_range(unsigned first, unsigned last, int flags)
{
	const long arg[5] = { first, last, flags };

	return (int)attributes_call(SYS_close_range, arg, attributes_raw);
}
