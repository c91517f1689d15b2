/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sluice.h - what Sluice offers beyond the malloc family, which it provides under its usual names.
 *
 * Sizes are in bytes, times in nanoseconds. Unless its description says otherwise, a function:
 *   - may be called from any thread at any time, but not from a signal handler, nor in the child of
 *     a multi-threaded process before the fork handlers have run;
 *   - does not set errno;
 *   - is no cancellation point, does not throw, and does not call back into the program.
 *
 * Let each call return. If the program leaves one from a signal handler (siglongjmp, pthread_exit,
 * asynchronous cancellation; also from the handler of a SIGSEGV that a wrong argument caused), what
 * the call holds stays held. No other thread waits for it without end, but memory is lost, and
 * later drains may be refused. See doc/locking.md.
 */
#ifndef SLUICE_H
#define SLUICE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The version of the running library, such as "1.2.3". Never NULL; do not free it. Safe in a
 * signal handler. */
const char *sluice_version(void);

/* ---- giving memory back ------------------------------------------------------------------ */

/*
 * Each thread has two caches: a heap (free objects up to 256 KiB, and the slabs of the small ones)
 * and a pcp (its cache of free runs of pages). The buddy core has the free memory that all threads
 * share.
 */

enum sluice_drain_flags {
	/** Empty the pcps of all threads into the buddy core. */
	SLUICE_DRAIN_CACHES = 1,
	/** Give free memory that was written back to the kernel (madvise MADV_DONTNEED), also the
	 * parts without live objects of slabs that are abandoned or the calling thread's. */
	SLUICE_DRAIN_PURGE = 2,
	/** Unmap regions (64 MiB) in which no page is in use. */
	SLUICE_DRAIN_REGIONS = 4,
	/** As CACHES, and empty the whole heap of the caller and of every thread that is not inside
	 * a call of the malloc family. All threads of the process pass a memory barrier: each
	 * processor that runs one of them is interrupted for about 100 ns. */
	SLUICE_DRAIN_IDLE = 8,
	/** With IDLE: use a barrier that interrupts no processor. It takes 8 to 20 ms. */
	SLUICE_DRAIN_GLOBAL = 16,
	/** With IDLE: also the working sets of threads at work. Their pcps are emptied. A thread
	 * whose heap cannot be emptied just now is asked to do so at one of its next calls. */
	SLUICE_DRAIN_ALL = 32
};

/** What a drain did. */
struct sluice_drain_report {
	uint64_t caches_reached; /**< pcps that are empty now */
	uint64_t caches_skipped; /**< pcps whose lock was held at each try */
	uint64_t bytes_drained;  /**< moved from heaps and pcps to the buddy core */
	uint64_t bytes_purged;   /**< given back to the kernel */
	uint64_t bytes_unmapped; /**< address space that was unmapped */
	uint64_t time_ns;        /**< duration of the call */
	uint64_t heaps_emptied;  /**< heaps that are empty now; with IDLE */
	uint64_t heaps_skipped;  /**< heaps that were left alone; with IDLE */
	uint64_t barrier_ns;     /**< part of time_ns: marks, barrier, wait; with IDLE */
	uint64_t heaps_hot;      /**< of heaps_skipped: their threads are at work */
	uint64_t bytes_hot;      /**< what stayed for them in pcps and in the buddy core */
};

/**
 * Empty the caches of all threads and give free memory back to the kernel.
 *
 * The calling thread does all of it: the other threads are not signalled, not waited for, and make
 * no system call. While a thread's cache is being emptied, the thread allocates from the buddy core
 * and from a heap that all threads share. Pcps start small again.
 *
 * With IDLE a thread at work keeps its working set, unless flags have ALL. At work is each thread
 * except the caller that makes a call of the malloc family within 4 ms of the beginning of the
 * drain. It keeps its heap, and the 1 MiB of its pcp that it freed last. In the buddy core 4 MiB of
 * written memory stay for each such thread, at most a quarter of what is in use. Nothing stays of
 * all other threads and of the caller. The drain waits until each thread that caches something has
 * made a call, at most 4 ms.
 *
 * flags: a combination of enum sluice_drain_flags; 0 stands for CACHES, IDLE and PURGE, and ALL
 * alone for these and ALL.
 * report: filled in on success; may be NULL.
 * Returns 0, or -1 with errno EINVAL if flags has an unknown bit.
 *
 * Threads: drains may run at the same time; each heap is emptied by one of them. While a fork is
 * under way, a drain leaves the heaps of other threads alone. No lock that malloc waits for is held
 * over a system call, nor for more than 32 runs at a time.
 * Cost: about 50 ns for each run in a pcp and each object in a heap's lists, and the time of the
 * kernel for the memory (50 to 100 us per MiB); the barrier and the wait, with IDLE.
 * Source: Linux, "Drain remote per-cpu directly" (Gorman, 2022).
 */
int sluice_drain(unsigned flags, struct sluice_drain_report *report);

/** What a drain did with one thread. In every state except LOCKED its pcp was emptied; in CALLING
 * and INSIDE, without SLUICE_DRAIN_ALL, 1 MiB of it stayed. */
enum sluice_thread_state {
	SLUICE_THREAD_EMPTIED = 0, /**< it caches nothing now */
	SLUICE_THREAD_CALLING = 1, /**< its heap was left alone: it made a call during the drain */
	SLUICE_THREAD_INSIDE = 2,  /**< its heap was left alone: it is inside an older call */
	SLUICE_THREAD_HELD = 3,    /**< a fork or another drain holds its heap; or, for good, a fork
				      that was made in the middle of one of its calls */
	SLUICE_THREAD_CLOSED = 4,  /**< the kernel has no membarrier(2), or a sandbox forbids it */
	SLUICE_THREAD_UNASKED = 5, /**< without SLUICE_DRAIN_IDLE: heaps were not to be emptied */
	SLUICE_THREAD_LOCKED = 6   /**< its pcp was locked at each try */
};

struct sluice_thread_drain {
	uint32_t tid;           /**< as gettid returns it; 0: what ended threads left behind */
	uint32_t state;         /**< enum sluice_thread_state */
	uint64_t bytes_cached;  /**< free in its pcp before and, if it was emptied, its heap */
	uint64_t bytes_drained; /**< whole pages that went to the buddy core; the rest shares slabs
				   with live objects, where any thread may use it now */
};

/**
 * As sluice_drain, and list what it did with each thread that has ever called malloc or free.
 *
 * thread: an array of *n elements, filled in no particular order; may be NULL if *n is 0.
 * n: not NULL; on return, the number of threads. Those that did not fit into the array were drained
 * as well. Unchanged on failure, as is the array.
 * Returns 0, or -1 with errno EINVAL (an unknown flag, or thread is NULL and *n is not 0) or EAGAIN
 * (a fork is under way; nothing was done). Without CACHES and IDLE no thread is listed.
 * Threads, cost: as sluice_drain. Allocates nothing.
 */
int sluice_drain_threads(unsigned flags, struct sluice_drain_report *report,
			 struct sluice_thread_drain *thread, size_t *n);

/**
 * Turn the pcps of all threads off. After the return no page enters any of them, so that
 * after a drain all pages of a free region are in the buddy core and the region can be unmapped.
 * malloc continues to work, more slowly. Calls nest: each needs its sluice_pcp_enable.
 *
 * Returns 0, or -1 with errno EBUSY (a thread was stopped while it held its pcp's lock) or
 * EAGAIN (a fork is under way); pcps are then still on. May sleep for some milliseconds: it waits
 * for drains and growths that are under way, and for locked pcps up to 20 ms each.
 * Source: Linux mm/page_alloc.c, zone_pcp_disable for memory hot-remove.
 */
int sluice_pcp_disable(void);

/** Undo one successful sluice_pcp_disable; without one the program is stopped with a message. Waits
 * while a fork is under way, as well as for drains and growths. */
void sluice_pcp_enable(void);

/* ---- page blocks ------------------------------------------------------------------------- */

/** Size and alignment of a block of order 0: 16,384 bytes. Safe in a signal handler. */
size_t sluice_page_size(void);

/** The largest order. A block has sluice_page_size() << order bytes. Safe in a signal handler. */
unsigned sluice_page_order_max(void);

/**
 * Allocate a block of 2^order pages, aligned to its size within its region (64 MiB). Its contents
 * are undefined. Free it with sluice_page_free and the same order, not with free.
 * Returns NULL with errno ENOMEM, or with EINVAL if order is above the largest.
 * Cost: one spinlock and one list operation if the thread's pcp has such a block.
 */
void *sluice_page_alloc(unsigned order);

/** Free a block; block may be NULL. Any thread may free it. Stops the program with a message if
 * block is not a page block of this order. Cost: as sluice_page_alloc. */
void sluice_page_free(void *block, unsigned order);

/**
 * Allocate up to n blocks of one order into array[0] to array[n - 1].
 * Returns how many. If that is fewer than n, errno is ENOMEM, or EINVAL if order is above the
 * largest; the other elements of the array are unchanged.
 * Cost: one try of the pcp's lock for 128 blocks, bounded holds of the buddy core's lock.
 * Source: Linux, alloc_pages_bulk_array.
 */
size_t sluice_page_alloc_bulk(unsigned order, size_t n, void **array);

/** Free the blocks array[0] to array[n - 1] as sluice_page_free does; a NULL among them stops the
 * program. Cost: as sluice_page_alloc_bulk. */
void sluice_page_free_bulk(unsigned order, size_t n, void *const *array);

/** A list of blocks of one order. Its links are outside the blocks, which stay untouched. A zeroed
 * struct is an empty list. Only one thread at a time may use a list. */
struct sluice_page_list {
	void *first;
	size_t count;
};

/** As sluice_page_alloc_bulk; the blocks are added to the front of the list. */
size_t sluice_page_alloc_bulk_list(unsigned order, size_t n, struct sluice_page_list *list);

/** Take the block at the front off the list, by a load of its descriptor. Returns NULL if the list
 * is empty. */
void *sluice_page_list_pop(struct sluice_page_list *list);

/** Free all blocks of the list, which is empty then, as sluice_page_free does. */
void sluice_page_free_bulk_list(unsigned order, struct sluice_page_list *list);

/* ---- statistics -------------------------------------------------------------------------- */

/**
 * Read a counter or gauge by its name.
 *
 * name: a row of src/base/stats.def, which sluice(3) lists too. In bytes, if not said otherwise:
 *   - layer_live, layer_cached, layer_pcp, layer_dirty, layer_prefaulted, layer_pinned,
 *     layer_mapcache, layer_metadata: memory that the kernel backs; they add up to layer_sum;
 *   - resident_bytes, untouched_bytes: what the kernel says that it backs, and what of layer_sum it
 *     does not, because nobody touched it; 0 in a sandbox;
 *   - clean_bytes, hole_bytes: cost no memory;
 *   - gauges that overlap: pcp_bytes, free_bytes, dirty_bytes, reserve_bytes, region_bytes,
 *     slab_bytes, object_bytes, pinned_bytes, large_bytes, huge_bytes, huge_kept_bytes,
 *     arena_bytes, cached_bytes, cached_large_bytes, quarantine_bytes, quarantine_large_bytes,
 *     meta_bytes;
 *   - numbers: huge_objects, free_blocks, heaps, threads (that have a heap);
 *   - membarrier_errno: 0, or why membarrier(2) fails; then only the pcps of sleeping
 *     threads can be emptied;
 *   - counters, which never fall: bin_refills, bin_flushes, lock_waits, lock_wait_ns, and the
 *     names of a line of stats_file.
 * value: receives the statistic; unchanged if the name is unknown. Neither may be NULL.
 * Returns 0, or -1 with errno EINVAL if the name is unknown.
 *
 * Counters may lag while other threads run. Safe in a signal handler.
 * Cost: a gauge may take a walk over all page descriptors, about 50 us per GiB in use;
 * resident_bytes and untouched_bytes about 2 ms per GiB.
 */
int sluice_stat(const char *name, uint64_t *value);

/** The slabs of one size class. A slab is a run of pages cut into objects of one size. */
struct sluice_class {
	uint64_t object_size;  /**< of an object; malloc rounds requests up to such a size */
	uint64_t slabs;        /**< number of slabs, in heaps and abandoned */
	uint64_t slab_bytes;   /**< their memory: the next three, and free objects in slabs without
				  live ones */
	uint64_t object_bytes; /**< objects of the program, and those in cache bins of threads */
	uint64_t hole_bytes;   /**< costs no memory: not touched yet, or given back to the kernel */
	uint64_t pinned_bytes; /**< free, but stays because live objects are around it */
};

/**
 * Read by size class how much memory live objects keep from going back to the kernel.
 *
 * array: filled from array[0] to array[n - 1], in the order of sizes; may be NULL if n is 0.
 * Returns how many classes there are, whatever n is.
 *
 * Exact while no other thread allocates or frees, except that free objects in the cache bins of
 * threads (at most 128 KiB for each class and thread) count as the program's until a drain.
 * Cost: a walk over all page descriptors, about 50 us per GiB in use. No lock; safe in a signal
 * handler.
 */
size_t sluice_class_stats(struct sluice_class *array, size_t n);

#ifdef __cplusplus
}
#endif

#endif
