/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fork.c - the fork handlers.
 * Used by init; uses every layer that has a lock.
 *
 * prepare takes all locks in the order of lockrank.def, and marks the heaps that may hold
 * something, except the caller's own (with an expedited membarrier and a bounded wait): while the
 * fork is under way their threads stay outside (claim.c). The child resets the lock words. It takes
 * over the heaps whose threads were outside a critical section when it needs them, and never
 * touches the others.
 *
 * (A) No thread waits long for a forking thread. The fork of libc takes locks of stdio and others
 *     after our prepare handler, and a thread that holds one of them may be in malloc. While a fork
 *     is under way, a wait for one of our locks therefore gives up after LOCK_FORK_WAIT_MS, and
 *     later waits at once. The arena serves these calls, so the thread goes on and the fork too.
 *     The contended lock is that of stdio's list of files, which glibc exports. We take it before
 *     our own locks, as the fork of glibc takes it before those of its own malloc. It is recursive,
 *     and glibc resets it in the child.
 * (B) fork in a signal handler that interrupted malloc: in the child the interrupted call still
 *     holds its locks.
 * (C) _Fork and a raw clone run no handlers. The first slow call of the child notices what it is
 *     (heap_copy_mark) and does the work of the child's handler, from what the words say. A lock or
 *     heap that no thread was in is consistent, because the kernel stops all writes while it
 *     copies. What another thread was in is never touched again; each call does without it.
 *
 * A child of vfork or posix_spawn runs in the memory of its parent, as the thread that called.
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

#include "base/delay.h"
#include "base/links.h"
#include "base/lock.h"
#include "base/sandbox.h"
#include "base/stats.h"
#include "base/sys.h"
#include "heap/arena.h"
#include "heap/heap_pcps.h"
#include "heap/hidden.h"
#include "heap/heap_thread.h"
#include "heap/quarantine.h"
#include "page/longrun.h"
#include "page/mapcache.h"
#include "page/pcp.h"
#include "page/purge.h"
#include "page/zone.h"
#include "reclaim/background.h"
#include "reclaim/control.h"
#include "reclaim/export.h"
#include "reclaim/pressure.h"
#include "reclaim/reclaim.h"

#if defined(__GLIBC__)
extern void _IO_list_lock(void) __attribute__((weak));
extern void _IO_list_unlock(void) __attribute__((weak));

static bool others_run(void)
{
	return !__libc_single_threaded;
}

/* While there is one thread, the fork of glibc does not reset stdio's locks, so we must not take
 * one. */
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
/* Guarded by: reclaim_control. */
static bool stdio_locked;
static unsigned zones_held;

/*
 * While a fork is under way, its thread blocks all signals, except those that its own instructions
 * raise: to block one of these would end the process. SIGSYS is one, a seccomp filter raises it for
 * a system call. A handler that forks would find that its thread holds the locks already; a handler
 * that jumps away would leave all of them held, that of stdio included. The program's own fork
 * handlers run with its signals, before prepare and after parent or child.
 */
static _Thread_local uint64_t signals_before TLS_FAST;

static void signals_block(void)
{
	static const int own[] = { SIGSYS, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
	uint64_t all = UINT64_MAX;

	for (unsigned i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		all &= ~(UINT64_C(1) << (own[i] - 1));
	sys_sigmask(SIG_BLOCK, &all, &signals_before);
}

static void signals_restore(void)
{
	sys_sigmask(SIG_SETMASK, &signals_before, NULL);
}

static void prepare(void)
{
	bool locked;

	signals_block();
	heap_copy_check();
	stdio_lock(&locked);
	lock_fork_prepare(&reclaim_control);
	stdio_locked = locked;
	heap_fork_begin();
	lock_fork_begin();
	if (others_run())
		arena_fork_prepare();
	parent_tid = self_tid();
	stat_add(STAT_forks, 1);
	zones_held = zones_count(); /* no further zone comes into use during a fork */
	heap_fork_prepare(lock_holder(&reclaim_control) == self_tid());
	for (unsigned i = 0; i < zones_held; i++)
		lock_fork_prepare(&zone_all[i].grow);
	heap_fork_pcps();
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

/* copy: made by _Fork or clone. holder: the TID that the calling thread had in the parent. */
static void new_process(bool copy, uint32_t holder)
{
	bool draining = lock_holder(&reclaim_control) == holder &&
			!atomic_load_explicit(&reclaim_control.fork_tid, memory_order_relaxed);

	atomic_store_explicit(heap_copy_word(), 1, memory_order_relaxed);
	sandbox_fork_child();
	lock_fork_new_process(holder);
	background_fork_child(copy);
	pressure_fork_child(copy);
	control_fork_child(copy);
	export_fork_child(copy);
	for (unsigned i = 0; i < zones_count(); i++)
		lock_fork_child(&zone_all[i].lock);
	heap_pcps_fork_child(holder);
	for (unsigned i = 0; i < zones_count(); i++)
		lock_fork_child(&zone_all[i].grow);
	longrun_fork_child();
	purges_fork_child();
	mapcache_fork_child(longrun_pages() != 0);
	heap_fork_child(copy, draining);
	link_fork_child(self_tid());
	heap_random_fork_child();
	quarantine_fork_child();
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

/* Another thread may have been inside a fork: what it held is consistent. Releasing its locks must
 * not lower the calling thread's lock_holds. */
static void copy_begins(void)
{
	uint64_t holds = lock_holds;
	uint32_t holder = self_tid();

	new_process(true, holder);
	lock_holds = holds;
	if (lock_fork_under_way())
		lock_fork_end();
	arena_fork_child(holder);
	stat_add(STAT_unhandled_forks, 1);
}

void fork_init(void)
{
	heap_copy_begins = copy_begins;
	pthread_atfork(prepare, parent, child);
}
