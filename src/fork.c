/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fork.c - the fork handlers.
 * Used by init; uses every layer that has a lock.
 *
 * prepare takes all locks in the order of lockrank.def and gates all heaps but the caller's own
 * (with an expedited membarrier and a bounded wait); the child writes the lock words anew, takes
 * over the heaps whose threads were outside, and leaves those alone whose threads were inside.
 *
 * (A) Nobody waits long for a forking thread. libc's fork takes stdio's and other locks after our
 *     prepare handler; a thread that holds one of those may be in malloc. So a wait for a lock of
 *     ours gives up after LOCK_FORK_WAIT_MS while lock_forking is set, and later ones at once; the
 *     call is then served by the arena, the thread gets on, and so does the fork.
 *     glibc exports the lock of stdio's list of files, the one that is fought for: we take it before
 *     our own, as glibc's fork takes it before those of its own malloc; it is recursive, and the
 *     child's is made anew by glibc.
 * (B) fork in a signal handler that interrupted malloc: locks of the interrupted call stay its own
 *     in the child.
 *
 * _Fork, vfork and raw clone run no handlers: a child of _Fork or clone may use malloc only if the
 * process had one thread, as POSIX says; a child of vfork or posix_spawn runs in the parent's
 * memory, as its calling thread.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "fork.h"

#include <pthread.h>
#if defined(__GLIBC__)
#include <sys/single_threaded.h>
#endif

#include "arena.h"
#include "background.h"
#include "buddy.h"
#include "control.h"
#include "delay.h"
#include "heap.h"
#include "lock.h"
#include "pcp.h"
#include "pressure.h"
#include "reclaim.h"
#include "stats.h"

#if defined(__GLIBC__)
extern void _IO_list_lock(void) __attribute__((weak));
extern void _IO_list_unlock(void) __attribute__((weak));

/* glibc's fork leaves stdio alone while there is one thread, so must we. */
static void stdio_lock(bool *locked)
{
	*locked = !__libc_single_threaded && _IO_list_lock && _IO_list_unlock;
	if (*locked)
		_IO_list_lock();
}

static void stdio_unlock(bool locked)
{
	if (locked)
		_IO_list_unlock();
}

static bool others_run(void)
{
	return !__libc_single_threaded;
}
#else
static void stdio_lock(bool *locked)
{
	*locked = false;
}

static void stdio_unlock(bool locked)
{
	(void)locked;
}

static bool others_run(void)
{
	return true;
}
#endif

static uint32_t parent_tid;
static bool stdio_locked; /* guarded by: reclaim_control */

static void prepare(void)
{
	bool locked;

	stdio_lock(&locked);
	lock_fork_prepare(&reclaim_control);
	stdio_locked = locked;
	lock_fork_begin();
	if (others_run())
		arena_fork_prepare();
	parent_tid = self_tid();
	stat_add(STAT_forks, 1);
	heap_fork_prepare();
	lock_fork_prepare(&zone_main.grow);
	pcp_fork_prepare();
	lock_fork_prepare(&zone_main.lock);
	DELAY_HERE(fork_locked);
}

static void parent(void)
{
	bool locked;

	lock_fork_parent(&zone_main.lock);
	pcp_fork_parent();
	lock_fork_parent(&zone_main.grow);
	heap_fork_parent();
	lock_fork_end();
	arena_sweep();
	locked = stdio_locked;
	lock_fork_parent(&reclaim_control);
	stdio_unlock(locked);
}

static void child(void)
{
	lock_tid = 0;
	background_fork_child();
	pressure_fork_child();
	control_fork_child();
	lock_fork_child(&zone_main.lock);
	pcp_fork_child(parent_tid);
	lock_fork_child(&zone_main.grow);
	heap_fork_child();
	lock_fork_end();
	arena_fork_child(parent_tid);
	lock_fork_child(&reclaim_control);
}

void fork_init(void)
{
	pthread_atfork(prepare, parent, child);
}
