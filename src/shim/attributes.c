/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * attributes.c - unshare, setns, capset, close_range, prctl and others change what the kernel keeps
 * for each thread: our threads leave before that. Uses background, differ, next; used by the shim
 * (seccomp) and the program.
 *
 * They come again with the next thread, made by one that has the new attributes, or when the call
 * has failed. They do not after a change of namespaces, directories or descriptors if the program
 * has other threads, which have the older ones.
 *
 * A child of vfork, which is another process in our memory, only makes the call. So does any thread
 * after one has installed a seccomp filter: that may forbid what the wait needs. A thread of ours
 * that is there then stays as it is.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "shim/attributes.h"

#include <errno.h>
#include <linux/prctl.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>

#include "base/export.h"
#include "base/sandbox.h"
#include "base/sys.h"
#include "heap/heap_thread.h"
#include "reclaim/background.h"
#include "reclaim/differ.h"
#include "shim/next.h"

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE 2u
#endif
/*
 * Beside other threads a change of privileges leaves these as they were, so ours may come again.
 * But one that has the older namespaces, root directory or descriptors keeps them alive when the
 * program's threads are gone from there.
 */
static bool pins(long n)
{
	return n == SYS_unshare || n == SYS_setns || n == SYS_close_range;
}

/* The kernel refuses these to a process of several threads. */
#define FOR_ONE_THREAD (CLONE_NEWUSER | CLONE_VM | CLONE_SIGHAND | CLONE_THREAD)

/* A change under way, and the signals that the thread had blocked before. */
struct change {
	enum { NOTHING, NOTED, LEFT } how;
	uint64_t mask;
};

#define BIT(sig) (UINT64_C(1) << ((sig)-1))
/* A handler that jumps away or forks would leave the change under way for good. Not those of faults
 * and of filters, nor libc's second one, by which it changes the user of each thread. */
#define BLOCKED                                                                                    \
	(~(BIT(SIGSEGV) | BIT(SIGBUS) | BIT(SIGFPE) | BIT(SIGILL) | BIT(SIGTRAP) | BIT(SIGSYS) |   \
	   BIT(33)))

/* Before the change: our threads leave, at most 2 s are waited for that. Keeps errno. */
static struct change begin(void)
{
	const uint64_t blocked = BLOCKED;
	struct change c = { NOTHING, 0 };
	int saved = errno;

	if (sandbox_own || sandbox_any())
		return c;
	heap_copy_check();
	if ((background_exists() || !differ_is_settled()) && heap_in_process()) {
		sys_sigmask(SIG_BLOCK, &blocked, &c.mask);
		differ_enter();
		c.how = background_exists() ? LEFT : NOTED;
		if (c.how == LEFT)
			background_leave_all(BACKGROUND_LEAVE_FILTER_MS);
	}
	errno = saved;
	return c;
}

/* After it. differ: threads have different attributes now, if there are others. Keeps errno. */
static void end(const struct change *c, bool differ)
{
	int saved = errno;
	bool others;

	if (c->how == NOTHING)
		return;
	others = (differ || c->how == LEFT) && !sandbox_any() && differ_others();
	differ_leave(differ && others);
	sys_sigmask(SIG_SETMASK, &c->mask, NULL);
	if (c->how == LEFT)
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
	struct change c;
	int saved = errno;
	long r;

	if (!changes(n, arg))
		return call(n, arg);
	/* If it succeeds, there was no thread of ours. If ours are not the only other threads, it
	 * fails without them as well. */
	if (is_for_one_thread(n, arg)) {
		r = call(n, arg);
		if (r == 0 || errno != EINVAL)
			return r;
		if (!background_is_alone()) {
			errno = EINVAL;
			return r;
		}
		errno = saved;
	}
	c = begin();
	r = call(n, arg);
	end(&c, r != -1 && pins(n));
	return r;
}

long attributes_raw(long n, const long *arg)
{
	return sluice_syscall(n, arg[0], arg[1], arg[2], arg[3], arg[4], 0L);
}

static long by_unshare(long n, const long *arg)
{
	return sluice_next.unshare ? sluice_next.unshare((int)arg[0]) : attributes_raw(n, arg);
}

static long by_setns(long n, const long *arg)
{
	return sluice_next.setns ? sluice_next.setns((int)arg[0], (int)arg[1])
				 : attributes_raw(n, arg);
}

static long by_capset(long n, const long *arg)
{
	return sluice_next.capset ? sluice_next.capset((void *)arg[0], (void *)arg[1])
				  : attributes_raw(n, arg);
}

static long by_close_range(long n, const long *arg)
{
	return sluice_next.close_range
		       ? sluice_next.close_range((unsigned)arg[0], (unsigned)arg[1], (int)arg[2])
		       : attributes_raw(n, arg);
}

EXPORT int unshare(int flags)
{
	const long arg[5] = { flags };

	return (int)attributes_call(SYS_unshare, arg, by_unshare);
}

EXPORT int setns(int fd, int type)
{
	const long arg[5] = { fd, type };

	return (int)attributes_call(SYS_setns, arg, by_setns);
}

EXPORT int capset(void *header, const void *data);

EXPORT int capset(void *header, const void *data)
{
	const long arg[5] = { (long)header, (long)data };

	return (int)attributes_call(SYS_capset, arg, by_capset);
}

EXPORT int close_range(unsigned first, unsigned last, int flags);

EXPORT int close_range(unsigned first, unsigned last, int flags)
{
	const long arg[5] = { first, last, flags };

	return (int)attributes_call(SYS_close_range, arg, by_close_range);
}
