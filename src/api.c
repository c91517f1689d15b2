/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * api.c - the functions of sluice.h: they check arguments, call the layers and set errno.
 * Uses reclaim, heap, pcp, info.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <errno.h>
#include <sluice/sluice.h>

#include "buddy.h"
#include "export.h"
#include "heap.h"
#include "info.h"
#include "pagemap.h"
#include "pcp.h"
#include "reclaim.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "0"
#endif

#define BULK 128u /* blocks a try of the pcp's lock */

EXPORT const char *sluice_version(void)
{
	return PACKAGE_VERSION;
}

_Static_assert((int)SLUICE_DRAIN_CACHES == (int)RECLAIM_CACHES &&
		       (int)SLUICE_DRAIN_PURGE == (int)RECLAIM_PURGE &&
		       (int)SLUICE_DRAIN_REGIONS == (int)RECLAIM_REGIONS &&
		       (int)SLUICE_DRAIN_IDLE == (int)RECLAIM_IDLE &&
		       (int)SLUICE_DRAIN_QUIET == (int)RECLAIM_QUIET,
	       "the public flags are the internal ones");
_Static_assert((int)SLUICE_THREAD_EMPTIED == (int)HEAP_EMPTIED &&
		       (int)SLUICE_THREAD_CALLING == (int)HEAP_CALLING &&
		       (int)SLUICE_THREAD_INSIDE == (int)HEAP_INSIDE &&
		       (int)SLUICE_THREAD_HELD == (int)HEAP_HELD &&
		       (int)SLUICE_THREAD_CLOSED == (int)HEAP_CLOSED &&
		       (int)SLUICE_THREAD_UNASKED == (int)HEAP_UNASKED,
	       "the public states are the internal ones");

#define DRAIN_FLAGS                                                                                \
	(unsigned)(RECLAIM_CACHES | RECLAIM_PURGE | RECLAIM_REGIONS | RECLAIM_IDLE | RECLAIM_QUIET)
#define DRAIN_DEFAULT (unsigned)(RECLAIM_CACHES | RECLAIM_IDLE | RECLAIM_PURGE)

static void public_report(const struct reclaim_report *r, struct sluice_drain_report *report)
{
	*report = (struct sluice_drain_report){
		.caches_reached = r->caches_reached,
		.caches_skipped = r->caches_skipped,
		.bytes_drained = r->bytes_drained,
		.bytes_purged = r->bytes_purged,
		.bytes_unmapped = r->bytes_unmapped,
		.time_ns = r->time_ns,
		.heaps_emptied = r->heaps_emptied,
		.heaps_skipped = r->heaps_skipped,
		.barrier_ns = r->barrier_ns,
	};
}

EXPORT int sluice_drain(unsigned flags, struct sluice_drain_report *report)
{
	struct reclaim_report r;

	if (flags & ~DRAIN_FLAGS) {
		errno = EINVAL;
		return -1;
	}
	heap_init();
	reclaim_drain(flags ? flags : DRAIN_DEFAULT, 0, &r);
	if (report)
		public_report(&r, report);
	return 0;
}

struct listing {
	struct sluice_thread_drain *thread;
	size_t room;
	size_t n;
};

static void list_thread(void *arg, const struct heap_drain *d)
{
	struct listing *l = arg;

	if (!d->tid && !d->cached && !d->drained)
		return;
	if (l->n++ < l->room)
		l->thread[l->n - 1] = (struct sluice_thread_drain){
			.tid = d->tid,
			.state = d->locked ? SLUICE_THREAD_LOCKED : (uint32_t)d->outcome,
			.bytes_cached = d->cached,
			.bytes_drained = d->drained,
		};
}

EXPORT int sluice_drain_threads(unsigned flags, struct sluice_drain_report *report,
				struct sluice_thread_drain *thread, size_t *n)
{
	struct listing l = { thread, *n, 0 };
	struct reclaim_report r;

	if ((flags & ~DRAIN_FLAGS) || (*n && !thread)) {
		errno = EINVAL;
		return -1;
	}
	heap_init();
	if (!reclaim_drain_each(flags ? flags : DRAIN_DEFAULT, 0, &r, list_thread, &l)) {
		errno = EAGAIN;
		return -1;
	}
	*n = l.n;
	if (report)
		public_report(&r, report);
	return 0;
}

EXPORT int sluice_pcp_disable(void)
{
	int err;

	heap_init();
	err = reclaim_pcp_disable();
	if (err) {
		errno = -err;
		return -1;
	}
	return 0;
}

EXPORT void sluice_pcp_enable(void)
{
	reclaim_pcp_enable();
}

/* ---- page blocks ------------------------------------------------------------------------- */

EXPORT size_t sluice_page_size(void)
{
	return PG_BYTES;
}

EXPORT unsigned sluice_page_order_max(void)
{
	return ORDER_MAX;
}

/* A run becomes the program's. */
static void hand_out(struct page *pg)
{
	pg->zero = 0;
	page_set_kind(pg, PAGE_RAW);
	page_set_heads(pg, pg->npages);
}

/* The program's block becomes a run again; stops the program if it is none. */
static struct page *take_back(void *block, unsigned order)
{
	struct page *pg = pagemap_ours(block) ? page_of(block) : NULL;

	if (!pg || page_kind(pg) != PAGE_RAW || block != (void *)page_address(pg))
		sluice_fatal("sluice_page_free of what is not a page block, or freed twice: "
			     "address %p",
			     block);
	if (order > ORDER_MAX || pg->npages != 1u << order)
		sluice_fatal("sluice_page_free with order %u of a block of %u pages: address %p",
			     order, (unsigned)pg->npages, block);
	page_set_kind(pg, PAGE_LIMBO);
	return pg;
}

static size_t alloc_bulk(unsigned order, size_t n, struct page **run)
{
	unsigned want = n < BULK ? (unsigned)n : BULK;
	unsigned got = pcp_alloc_bulk(heap_pcp(), order, want, run);

	if (got < want && heap_reclaim && heap_reclaim())
		got += pcp_alloc_bulk(heap_pcp(), order, want - got, run + got);
	for (unsigned i = 0; i < got; i++)
		hand_out(run[i]);
	return got;
}

/* n blocks into the array, or where there is none onto the list. */
static size_t alloc_into(unsigned order, size_t n, void **array, struct sluice_page_list *list)
{
	struct page *run[BULK];
	size_t done = 0;

	if (order > ORDER_MAX) {
		errno = EINVAL;
		return 0;
	}
	while (done < n) {
		size_t want = min_size(n - done, BULK);
		size_t got = alloc_bulk(order, want, run);

		for (size_t i = 0; i < got; i++) {
			if (array) {
				array[done + i] = page_address(run[i]);
			} else {
				run[i]->next = list->first;
				list->first = run[i];
				list->count++;
			}
		}
		done += got;
		if (got < want) {
			errno = ENOMEM;
			break;
		}
	}
	return done;
}

EXPORT size_t sluice_page_alloc_bulk(unsigned order, size_t n, void **array)
{
	return alloc_into(order, n, array, NULL);
}

EXPORT void sluice_page_free_bulk(unsigned order, size_t n, void *const *array)
{
	struct page *run[BULK];

	for (size_t done = 0; done < n;) {
		unsigned k = 0;

		while (k < BULK && done < n)
			run[k++] = take_back(array[done++], order);
		pcp_free_bulk(heap_pcp(), run, k);
	}
}

EXPORT void *sluice_page_alloc(unsigned order)
{
	void *block = NULL;

	sluice_page_alloc_bulk(order, 1, &block);
	return block;
}

EXPORT void sluice_page_free(void *block, unsigned order)
{
	if (block)
		pcp_free(heap_pcp(), take_back(block, order));
}

EXPORT size_t sluice_page_alloc_bulk_list(unsigned order, size_t n, struct sluice_page_list *list)
{
	return alloc_into(order, n, NULL, list);
}

EXPORT void *sluice_page_list_pop(struct sluice_page_list *list)
{
	struct page *pg = list->first;

	if (!pg)
		return NULL;
	list->first = pg->next;
	list->count--;
	pg->next = NULL;
	return page_address(pg);
}

EXPORT void sluice_page_free_bulk_list(unsigned order, struct sluice_page_list *list)
{
	struct page *run[BULK];

	while (list->first) {
		unsigned k = 0;

		while (k < BULK && list->first)
			run[k++] = take_back(sluice_page_list_pop(list), order);
		pcp_free_bulk(heap_pcp(), run, k);
	}
}

/* ---- statistics -------------------------------------------------------------------------- */

EXPORT int sluice_stat(const char *name, uint64_t *value)
{
	if (info_lookup(name, value))
		return 0;
	errno = EINVAL;
	return -1;
}
