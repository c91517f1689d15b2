/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * api_pages.c - the functions of sluice.h for page blocks: they check arguments, call the page
 * layers and set errno. Uses heap (for the thread's pcp), pcp, pagemap.
 *
 * (A) A block that the program holds is PAGE_RAW. A free first checks the block: if it is not such
 *     a block of that order, the program is stopped.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <errno.h>
#include <sluice/sluice.h>

#include "base/check.h"
#include "base/export.h"
#include "heap/heap.h"
#include "page/pagemap.h"
#include "page/pcp.h"

#define BULK 128u /* blocks for one try of the pcp's lock */

EXPORT size_t sluice_page_size(void)
{
	return PG_BYTES;
}

EXPORT unsigned sluice_page_order_max(void)
{
	return ORDER_MAX;
}

/* The run becomes a block of the program. */
static void hand_out(struct page *pg)
{
	pg->backing = BACKING_DIRTY;
	page_set_kind(pg, PAGE_RAW);
	page_set_heads(pg, pg->npages, 0);
}

/* The block becomes a run again. Stops the program if it is not a block of this order. */
static struct page *take_back(void *block, unsigned order)
{
	struct page *pg = pagemap_ours(block) ? page_of(block) : NULL;

	if (!pg || page_kind(pg) != PAGE_RAW || block != (void *)page_address(pg))
		sluice_fatal("sluice_page_free of memory that is not a page block, or was freed: "
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
	uint32_t forks = heap_forks();
	unsigned got = pcp_alloc_bulk(heap_pcp(), order, want, run);

	if (got < want && heap_reclaimed(forks))
		got += pcp_alloc_bulk(heap_pcp(), order, want - got, run + got);
	for (unsigned i = 0; i < got; i++)
		hand_out(run[i]);
	return got;
}

/* Puts n blocks into the array or, if array is NULL, onto the list. Returns how many. */
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
