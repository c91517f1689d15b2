/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sluice.h - what Sluice offers beyond the malloc family, which it provides under its usual names.
 *
 * Unless a function says otherwise it may be called from any thread at any time, but not from a
 * signal handler or from a fork child of a multi-threaded process before the fork handlers ran.
 * Sizes are bytes, times nanoseconds. No function here sets errno unless it says so.
 *
 * None is a cancellation point, none throws, and none calls back into the program. A call must be let come to its
 * end: to leave it from a signal handler (siglongjmp, pthread_exit, asynchronous cancellation; also from the handler
 * of the SIGSEGV that an argument causes) leaves what it holds as it is. No other thread waits for that without
 * end, but memory is lost, and drains may be refused from then on. See doc/locking.md.
 */
#ifndef SLUICE_H
#define SLUICE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Version of the library that is running, such as "0.1.0". Never NULL, never freed. */
const char *sluice_version(void);

/* ---- giving memory back ------------------------------------------------------------------ */

enum sluice_drain_flags {
	/** Empty every thread's page cache into the buddy core. */
	SLUICE_DRAIN_CACHES = 1,
	/** Give free memory that was written back to the kernel (madvise MADV_DONTNEED), also what holds
	 * no live object inside slabs: those of the calling thread and those without an owner. */
	SLUICE_DRAIN_PURGE = 2,
	/** Unmap regions (64 MiB) of which no page is in use. */
	SLUICE_DRAIN_REGIONS = 4,
	/** As CACHES, and empty the whole heap (free objects and the slabs behind them) of every
	 * thread that is in no call of malloc and its kin just now, and the caller's own. It makes
	 * all threads pass a memory barrier: an interrupt, of some 100 ns, to each processor that
	 * runs the process. */
	SLUICE_DRAIN_IDLE = 8,
	/** With IDLE: a barrier that interrupts nobody, for which the caller waits 8 to 20 ms. */
	SLUICE_DRAIN_QUIET = 16,
};

/** What a drain did. */
struct sluice_drain_report {
	uint64_t caches_reached; /**< page caches that were emptied (or were empty) */
	uint64_t caches_skipped; /**< page caches whose lock was held at each of the tries */
	uint64_t bytes_drained;  /**< moved from heaps and caches to the buddy core */
	uint64_t bytes_purged;   /**< given back to the kernel */
	uint64_t bytes_unmapped; /**< of address space */
	uint64_t time_ns;        /**< that the call took */
	uint64_t heaps_emptied;  /**< heaps that were emptied (or were empty); with IDLE */
	uint64_t heaps_skipped;  /**< heaps that were not: see sluice_drain_threads */
	uint64_t barrier_ns;     /**< of the time, for the memory barrier; with IDLE */
};

/**
 * Empty what all threads cache and give free memory back to the kernel, from the calling thread
 * alone: the threads that own the caches are not signalled, not waited for, and make no system
 * call for it; while its cache is drained a thread goes past it to the buddy core, and to a heap
 * that all threads share. Their caches start small again.
 *
 * flags: a combination of enum sluice_drain_flags; 0 stands for CACHES, IDLE and PURGE.
 * report: may be NULL.
 * Returns 0, or -1 with errno EINVAL for a flag that does not exist.
 * Cost: about 50 ns for each run in a cache and each object in a heap's lists, and the kernel's
 * time for the memory (some 50 to 100 us a MiB). One drain at a time: a second waits for it. No
 * lock that malloc waits for is held over a system call, nor for more than 32 runs at a time.
 * Source: Linux, "Drain remote per-cpu directly" (Gorman, 2022).
 */
int sluice_drain(unsigned flags, struct sluice_drain_report *report);

/** What came of a thread in a drain. In each state but LOCKED its page cache was emptied. */
enum sluice_thread_state {
	SLUICE_THREAD_EMPTIED = 0, /**< it caches nothing any more, or did not before */
	SLUICE_THREAD_CALLING = 1, /**< its heap was left alone: it made a call meanwhile */
	SLUICE_THREAD_INSIDE = 2,  /**< likewise: it is in a call, and was before the drain began */
	SLUICE_THREAD_HELD = 3,    /**< a fork or another drain has its heap; or, for good, a fork
				      that was made in the middle of a call of it */
	SLUICE_THREAD_CLOSED = 4,  /**< the kernel has no membarrier(2), or a sandbox forbids it */
	SLUICE_THREAD_UNASKED =
		5, /**< no SLUICE_DRAIN_IDLE: only its page cache was to be drained */
	SLUICE_THREAD_LOCKED = 6, /**< its page cache was locked at each of the tries */
};

struct sluice_thread_drain {
	uint32_t tid;           /**< as gettid gives it; 0: what ended threads left behind */
	uint32_t state;         /**< enum sluice_thread_state */
	uint64_t bytes_cached;  /**< free in its page cache and, if that was emptied, in its heap */
	uint64_t bytes_drained; /**< of whole pages that came free; the rest shares a slab with live
				   objects, where any thread may use it now */
};

/**
 * sluice_drain, and what it came to for each thread that has ever called malloc or free.
 *
 * thread: an array of *n elements, in no order; NULL if *n is 0. On return *n is how many threads
 * there were; what did not fit into the array was drained as well.
 * Returns 0, or -1 with errno EINVAL as sluice_drain, or EAGAIN: a fork is under way, nothing was
 * done. Without CACHES and IDLE it lists no threads. Allocates nothing.
 */
int sluice_drain_threads(unsigned flags, struct sluice_drain_report *report,
			 struct sluice_thread_drain *thread, size_t *n);

/**
 * Turn all threads' page caches off: from the return on no page enters any of them, so that after
 * a drain free regions are wholly free and can be unmapped. Calls nest; each needs its
 * sluice_pcp_enable. malloc goes on working, slower.
 *
 * Returns 0, or -1 with errno EBUSY (a thread was stopped inside its cache's lock) or EAGAIN (a
 * fork is under way); nothing has changed then. May sleep for some milliseconds.
 * Source: Linux mm/page_alloc.c, zone_pcp_disable for memory hot-remove.
 */
int sluice_pcp_disable(void);
void sluice_pcp_enable(void);

/* ---- page blocks ------------------------------------------------------------------------- */

/** Size and alignment of a block of order 0: 16,384 bytes. */
size_t sluice_page_size(void);

/** The largest order that can be asked for; a block has sluice_page_size() << order bytes. */
unsigned sluice_page_order_max(void);

/**
 * A block of 2^order pages, aligned to its size within its region (64 MiB). Its contents are
 * undefined. NULL with errno ENOMEM, or EINVAL for an order above the largest. It is freed by
 * sluice_page_free with the same order, not by free. Cost: a spinlock and a list operation when
 * the thread's page cache has one.
 */
void *sluice_page_alloc(unsigned order);
void sluice_page_free(void *block, unsigned order);

/**
 * Up to n blocks of an order into array[0] to array[n - 1], for one try of the page cache's lock
 * a 128 blocks and bounded holds of the buddy core's lock. Returns how many there were; fewer
 * than n when there is no more memory (errno ENOMEM, or EINVAL for the order); the array's other
 * elements are left alone. Source: Linux, alloc_pages_bulk_array.
 */
size_t sluice_page_alloc_bulk(unsigned order, size_t n, void **array);
void sluice_page_free_bulk(unsigned order, size_t n, void *const *array);

/** A list of blocks of one order, linked outside of the blocks, which stay untouched. Zeroed: an
 * empty list. To be used by one thread at a time. */
struct sluice_page_list {
	void *first;
	size_t count;
};

/** The same by way of a list: the blocks are added to it. Returns how many were. */
size_t sluice_page_alloc_bulk_list(unsigned order, size_t n, struct sluice_page_list *list);

/** Take a block off the list. NULL: it is empty. */
void *sluice_page_list_pop(struct sluice_page_list *list);

/** Free all blocks of the list, which is empty then. */
void sluice_page_free_bulk_list(unsigned order, struct sluice_page_list *list);

/* ---- statistics -------------------------------------------------------------------------- */

/**
 * A counter or gauge by name, as in src/base/stats.def, and pcp_bytes, free_bytes, dirty_bytes,
 * reserve_bytes, region_bytes, slab_bytes, object_bytes, hole_bytes, pinned_bytes (of all classes, see struct
 * sluice_class), large_bytes, huge_bytes, arena_bytes (mapped for calls that met a lock which could not be
 * had), heaps, lock_wait_ns, membarrier_errno (0, or why membarrier(2) fails, so that only page caches of sleeping
 * threads come back). 0, or -1 with errno EINVAL for a name that does
 * not exist. Counters may lag while other threads run. Safe in a signal handler.
 */
int sluice_stat(const char *name, uint64_t *value);

/** The slabs of a size class: runs of pages cut into objects of one size. */
struct sluice_class {
	uint64_t object_size;  /**< bytes of an object; malloc rounds requests up to such sizes */
	uint64_t slabs;        /**< how many there are, in heaps and without an owner */
	uint64_t slab_bytes;   /**< their memory; the sum of the next three, and of free objects in
				  slabs without live ones */
	uint64_t object_bytes; /**< objects the program has, and those in threads' bins */
	uint64_t hole_bytes;   /**< in slabs, and costs no memory: not touched yet, or given back */
	uint64_t pinned_bytes; /**< free, but stays because live objects lie around it */
};

/**
 * What live objects keep from going back, by size class: the classes in the order of their sizes into
 * array[0] to array[n - 1]. Returns how many classes there are; array may be NULL if n is 0.
 *
 * Exact while no other thread allocates or frees, but for objects that are free in threads' bins (32
 * KiB a class and thread at the most), which count as the program's until a drain empties the bins.
 * Cost: a walk over all page descriptors, about 50 us a GiB in use. No lock; safe in a signal handler.
 */
size_t sluice_class_stats(struct sluice_class *array, size_t n);

#ifdef __cplusplus
}
#endif

#endif
