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
 *     ours gives up after LOCK_FORK_WAIT_MS while a fork is under way, and later ones at once; the
 *     call is then served by the arena, the thread gets on, and so does the fork.
 *     glibc exports the lock of stdio's list of files, the one that is fought for: we take it before
 *     our own, as glibc's fork takes it before those of its own malloc; it is recursive, and the
 *     child's is made anew by glibc.
 * (B) fork in a signal handler that interrupted malloc: locks of the interrupted call stay its own
 *     in the child.
 *
 * (C) _Fork and raw clone run no handlers. The first slow call of the child finds that it is one
 *     (heap_copy_mark), and does what the child's handler does, with what the words say: a lock or a heap that nobody
 *     was in is whole, because the kernel lets nobody write while it copies; what another thread was in is left
 *     alone for good, and each call does without it.
 *
 * A child of vfork or posix_spawn runs in the parent's memory, as its calling thread.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "shim/fork.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>
#if defined(__GLIBC__)
#include <sys/single_threaded.h>
#endif

#include "heap/arena.h"
#include "reclaim/background.h"
#include "page/buddy.h"
#include "reclaim/control.h"
#include "base/delay.h"
#include "heap/heap.h"
#include "base/lock.h"
#include "page/longrun.h"
#include "page/pcp.h"
#include "reclaim/pressure.h"
#include "reclaim/reclaim.h"
#include "base/sandbox.h"
#include "base/stats.h"

#if defined(__GLIBC__)
extern void _IO_list_lock(void) __attribute__((weak));
extern void _IO_list_unlock(void) __attribute__((weak));

static bool others_run(void)
{
	return !__libc_single_threaded;
}

/* glibc's fork leaves stdio alone while there is one thread, so must we. */
static void stdio_lock(bool *locked)
{
	*locked = others_run() && _IO_list_lock && _IO_list_unlock;
	if (*locked)
		_IO_list_lock();
}

static void stdio_unlock(bool locked)
{
	if (locked)
		_IO_list_unlock();
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
static bool stdio_locked;   /* guarded by: reclaim_control */
static unsigned zones_held; /* likewise */

/*
 * While a fork is under way its thread takes no signals but those that an instruction of its own raises (a
 * blocked one would end the process; SIGSYS is what a seccomp filter answers a system call with): a handler
 * that forks would find the locks to be its own, and one that jumps away would leave them all held, stdio's as
 * well. The program's own fork handlers run without this, before prepare and after parent or child.
 */
static _Thread_local uint64_t signals_before TLS_FAST;

static void signals_block(void)
{
	static const int own[] = { SIGSYS, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
	uint64_t all = UINT64_MAX;

	for (unsigned i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		all &= ~(UINT64_C(1) << (own[i] - 1));
	syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, &signals_before, sizeof(all));
}

static void signals_restore(void)
{
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &signals_before, NULL, sizeof(signals_before));
}

static void prepare(void)
{
	bool locked;

	signals_block();
	heap_copy_check();
	stdio_lock(&locked);
	lock_fork_prepare(&reclaim_control);
	stdio_locked = locked;
	lock_fork_begin();
	if (others_run())
		arena_fork_prepare();
	parent_tid = self_tid();
	stat_add(STAT_forks, 1);
	zones_held = zones_count(); /* none comes into use while a fork is under way */
	heap_fork_prepare();
	for (unsigned i = 0; i < zones_held; i++)
		lock_fork_prepare(&zone_all[i].grow);
	pcp_fork_prepare();
	for (unsigned i = 0; i < zones_held; i++)
		lock_fork_prepare(&zone_all[i].lock);
	DELAY_HERE(fork_locked);
}

static void parent(void)
{
	bool locked;

	for (unsigned i = 0; i < zones_held; i++)
		lock_fork_parent(&zone_all[i].lock);
	pcp_fork_parent();
	for (unsigned i = 0; i < zones_held; i++)
		lock_fork_parent(&zone_all[i].grow);
	heap_fork_parent();
	lock_fork_end();
	arena_sweep();
	locked = stdio_locked;
	lock_fork_parent(&reclaim_control);
	stdio_unlock(locked);
	signals_restore();
}

/* copy: of _Fork or clone; holder: the calling thread's TID in its parent. */
static void new_process(bool copy, uint32_t holder)
{
	bool draining = lock_holder(&reclaim_control) == holder &&
			!atomic_load_explicit(&reclaim_control.fork_tid, memory_order_relaxed);

	atomic_store_explicit(heap_copy_word(), 1, memory_order_relaxed);
	sandbox_fork_child();
	lock_fork_new_process();
	background_fork_child(copy);
	pressure_fork_child(copy);
	control_fork_child(copy);
	for (unsigned i = 0; i < ZONES_ALL; i++)
		lock_fork_child(&zone_all[i].lock);
	pcp_fork_child(holder);
	for (unsigned i = 0; i < ZONES_ALL; i++)
		lock_fork_child(&zone_all[i].grow);
	longrun_fork_child();
	heap_fork_child(copy, draining);
	lock_fork_child(&reclaim_control);
}

static void child(void)
{
	new_process(false, parent_tid);
	lock_fork_end();
	arena_fork_child(parent_tid);
	background_fork_mask(signals_before);
	signals_restore();
}

/* Another thread may have been in a fork of its own: what it held is whole. Its depth is not ours. */
static void copy_begins(void)
{
	uint32_t depth = lock_depth;
	uint32_t holder = self_tid();

	new_process(true, holder);
	lock_depth = depth;
	if (lock_fork_under_way())
		lock_fork_end();
	arena_fork_child(holder);
	stat_add(STAT_copies, 1);
}

void fork_init(void)
{
	heap_copy_begins = copy_begins;
	pthread_atfork(prepare, parent, child);
}
