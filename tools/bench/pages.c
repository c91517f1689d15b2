/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sluice-bench-pages: the cost of allocating and freeing a page in the page layer: singly and in
 * bulk through the public functions, and through the pcp against the buddy core. It is linked with
 * the core; its own malloc is that of the C library. `sluice-bench pages` runs it.
 *
 *	sluice-bench-pages [PASSES]
 *
 * Prints one line of JSON: ticks_per_ns, and rows of name, n (pages per call; 0 for one page by a
 * function that has no n), ticks and ns per page. On x86-64 a tick is one of the time stamp
 * counter, which kernel developers call a cycle; elsewhere a nanosecond. A pass measures every row
 * once, and a row is the median of its passes, so that a disturbance of the machine affects all
 * rows alike.
 *
 * The rows are those of three Linux series: the bulk allocator in array and list form ("Use
 * local_lock for pcp protection", Gorman, 2021), the pcp against the core ("Use per-cpu allocator
 * for !irq requests", Gorman, 2017), and the owner's ways into its pcp (rows pcp_lock=, see
 * pcp_variants.h; "Remote per-cpu lists drain support", Saenz Julienne, 2022).
 *
 * Exit status: 0; 1 if there is no memory, 2 for bad arguments.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/membarrier.h>
#include <sluice/sluice.h>

#include "base/atomics.h"
#include "page/buddy.h"
#include "heap/heap.h"
#include "shim/init.h"
#include "page/pcp.h"
#include "pcp_variants.h"
#include "../common/ticks.h"

#define PAGES 4096u /* of one measurement */
#define BULK_MAX 128u
#define ROWS 64u
#define PASSES_MAX 1000u

/* A page layer with one of the owner's ways into its pcp. */
struct way {
	const char *name;
	const char *cache_name; /* of the rows that measure the pcp alone */
	struct pcp *pcp;
	struct page *(*alloc)(struct pcp *p, unsigned run_class);
	void (*free)(struct pcp *p, struct page *pg);
	void *(*page_alloc)(unsigned order);
	void (*page_free)(void *block, unsigned order);
	size_t (*page_alloc_bulk)(unsigned order, size_t n, void **array);
	void (*page_free_bulk)(unsigned order, size_t n, void *const *array);
};

struct row {
	const char *name;
	unsigned n;
	const struct way *way;   /* or NULL */
	void (*run)(unsigned n); /* allocates and frees PAGES pages */
	double ticks[PASSES_MAX];
};

static struct row rows[ROWS];
static unsigned row_count;
static void *blocks[BULK_MAX];
static const struct way *way; /* of the row that runs */

static _Noreturn void no_memory(void)
{
	fputs("sluice-bench-pages: no memory\n", stderr);
	exit(1);
}

/* ---- the public functions ----------------------------------------------------------------- */

static void single(unsigned n)
{
	(void)n;
	for (unsigned i = 0; i < PAGES; i++) {
		void *block = sluice_page_alloc(0);

		if (!block)
			no_memory();
		sluice_page_free(block, 0);
	}
}

/* n pages by n calls: the base of the comparison for a bulk call of n. */
static void singles(unsigned n)
{
	for (unsigned i = 0; i < PAGES; i += n) {
		for (unsigned k = 0; k < n; k++) {
			blocks[k] = sluice_page_alloc(0);
			if (!blocks[k])
				no_memory();
		}
		for (unsigned k = 0; k < n; k++)
			sluice_page_free(blocks[k], 0);
	}
}

static void array(unsigned n)
{
	for (unsigned i = 0; i < PAGES; i += n) {
		if (sluice_page_alloc_bulk(0, n, blocks) != n)
			no_memory();
		sluice_page_free_bulk(0, n, blocks);
	}
}

static void list(unsigned n)
{
	for (unsigned i = 0; i < PAGES; i += n) {
		struct sluice_page_list l = { 0 };

		if (sluice_page_alloc_bulk_list(0, n, &l) != n)
			no_memory();
		sluice_page_free_bulk_list(0, &l);
	}
}

/* ---- the layers --------------------------------------------------------------------------- */

/* Hits only: each call finds in the pcp what the call before it freed. */
static void pcp_path(unsigned n)
{
	struct pcp *p = heap_pcp();

	(void)n;
	for (unsigned i = 0; i < PAGES; i++) {
		struct page *pg = pcp_alloc(p, 0);

		if (!pg)
			no_memory();
		pcp_free(p, pg);
	}
}

static void buddy_pages(void)
{
	for (unsigned i = 0; i < PAGES; i++) {
		struct page *pg = buddy_alloc(&zone_main, 1);

		if (!pg)
			no_memory();
		buddy_free(pg);
	}
}

/* The core's best case: the free single pages have busy buddies, so nothing splits or merges. */
static void buddy_path(unsigned n)
{
	struct page *pair = buddy_alloc(&zone_main, 2);

	(void)n;
	if (!pair)
		no_memory();
	buddy_shrink(pair, 1);
	buddy_pages();
	buddy_free(pair);
}

/* The core when it has no single page: each alloc splits a block, each free merges it again. */
static void buddy_split(unsigned n)
{
	struct page *held[64];
	unsigned count = 0;

	(void)n;
	while (((zone_main.orders[BACKING_CLEAN] | zone_main.orders[BACKING_DIRTY]) & 1) &&
	       count < 64) {
		held[count] = buddy_alloc(&zone_main, 1);
		if (!held[count++])
			no_memory();
	}
	buddy_pages();
	buddy_free_bulk(held, count);
}

/* ---- the owner's way into its pcp --------------------------------------------------------- */

static struct pcp spin_cache;
static struct pcp none_cache;
static struct handoff handoff_cache;

/* Reaches the pcp by as many steps as the library does. */
static inline struct pcp *instead(struct pcp *p)
{
	return heap_pcp() ? p : NULL;
}

struct pcp *spin_heap_pcp(void)
{
	return instead(&spin_cache);
}

struct pcp *none_heap_pcp(void)
{
	return instead(&none_cache);
}

struct pcp *handoff_heap_pcp(void)
{
	return instead(&handoff_cache.half[0]);
}

#define WAY(variant, cache)                                                                        \
	{                                                                                          \
		"pcp_lock=" #variant, "cache,pcp_lock=" #variant, cache, variant##_alloc,          \
			variant##_free, variant##_page_alloc, variant##_page_free,                 \
			variant##_page_alloc_bulk, variant##_page_free_bulk                        \
	}

static const struct way ways[] = { WAY(spin, &spin_cache), WAY(none, &none_cache),
				   WAY(handoff, &handoff_cache.half[0]) };
#define WAYS (sizeof(ways) / sizeof(ways[0]))

/* The pcp alone. */
static void way_cache(unsigned n)
{
	(void)n;
	for (unsigned i = 0; i < PAGES; i++) {
		struct page *pg = way->alloc(way->pcp, 0);

		if (!pg)
			no_memory();
		way->free(way->pcp, pg);
	}
}

/* By the public functions. */
static void way_single(unsigned n)
{
	(void)n;
	for (unsigned i = 0; i < PAGES; i++) {
		void *block = way->page_alloc(0);

		if (!block)
			no_memory();
		way->page_free(block, 0);
	}
}

static void way_bulk(unsigned n)
{
	for (unsigned i = 0; i < PAGES; i += n) {
		if (way->page_alloc_bulk(0, n, blocks) != n)
			no_memory();
		way->page_free_bulk(0, n, blocks);
	}
}

/* The pcp has room for all that a row allocates, so that every row has hits only. */
static void make_room(struct pcp *p)
{
	p->high_min = p->high_max = p->high = 2 * BULK_MAX;
}

static void ways_init(void)
{
	spin_init(&spin_cache, &zone_main);
	spin_open(&spin_cache);
	none_init(&none_cache, &zone_main);
	none_open(&none_cache);
	handoff_init(&handoff_cache.half[0], &zone_main);
	handoff_open(&handoff_cache.half[0]);
	handoff_init(&handoff_cache.half[1], &zone_main);
	handoff_open(&handoff_cache.half[1]);
	make_room(&spin_cache);
	make_room(&none_cache);
	make_room(&handoff_cache.half[0]);
	make_room(&handoff_cache.half[1]);
	atomic_store_explicit(&handoff_cache.current, &handoff_cache.half[0], memory_order_release);
	syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
}

/*
 * The drainer's part, for any thread, one at a time: the owner gets the empty half, and the pages
 * of the other half go to the buddy core. Does nothing without membarrier.
 */
static void handoff_switch(struct handoff *h)
{
	struct pcp *old = atomic_load_explicit(&h->current, memory_order_relaxed);
	struct pcp *spare = old == &h->half[0] ? &h->half[1] : &h->half[0];
	uint32_t section;

	/* Release pairs with the acquire load of pcp_enter. */
	atomic_store_explicit(&h->current, spare, memory_order_release);
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) != 0)
		return;
	/* From now on an owner that begins a section finds the spare half. */
	section = atomic_load_explicit(&h->section, memory_order_acquire);
	while ((section & 1) && atomic_load_explicit(&h->section, memory_order_acquire) == section)
		cpu_relax();
	handoff_drain(old);
}

/* Drains between the passes, so that the owner's path is one that a drainer can work with. */
static void ways_drain(void)
{
	spin_drain(&spin_cache);
	handoff_switch(&handoff_cache);
}

/* ---- measuring ---------------------------------------------------------------------------- */

static struct row *add(const char *name, unsigned n, void (*run)(unsigned n))
{
	struct row *r = &rows[row_count];

	if (row_count++ == ROWS)
		abort();
	r->name = name;
	r->n = n;
	r->run = run;
	return r;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x > y) - (x < y);
}

static void measure(unsigned passes)
{
	for (unsigned pass = 0; pass < passes; pass++) {
		ways_drain();
		for (unsigned i = 0; i < row_count; i++) {
			struct row *r = &rows[i];
			/* PAGES rounded up to whole calls. */
			unsigned n = r->n ? r->n : 1;
			unsigned pages = (PAGES + n - 1) / n * n;
			uint64_t begin;

			way = r->way;
			r->run(r->n);
			begin = ticks();
			r->run(r->n);
			r->ticks[pass] = (double)(ticks() - begin) / pages;
		}
	}
}

static void print(unsigned passes, double ticks_per_ns)
{
	printf("{\"ticks_per_ns\":%.4f,\"rows\":[", ticks_per_ns);
	for (unsigned i = 0; i < row_count; i++) {
		struct row *r = &rows[i];

		qsort(r->ticks, passes, sizeof(r->ticks[0]), compare);
		printf("%s{\"name\":\"%s\",\"n\":%u,\"ticks\":%.2f,\"ns\":%.3f}", i ? "," : "",
		       r->name, r->n, r->ticks[passes / 2], r->ticks[passes / 2] / ticks_per_ns);
	}
	puts("]}");
}

int main(int argc, char **argv)
{
	static const unsigned sizes[] = { 1, 2, 3, 4, 8, 16, 32, 64, 128 };
	unsigned long passes = 51;
	char *end = NULL;
	uint64_t tick0, ns0;

	if (argc > 1) {
		passes = strtoul(argv[1], &end, 10);
		if (argc > 2 || *end || passes < 1 || passes > PASSES_MAX) {
			fprintf(stderr, "sluice-bench-pages: one argument, passes, 1 to %u\n",
				PASSES_MAX);
			return 2;
		}
	}
	sluice_init();
	ways_init();
	add("single", 1, single);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		add("array", sizes[i], array);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		add("list", sizes[i], list);
	add("singles", BULK_MAX, singles);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (size_t k = 0; k < WAYS; k++)
			add(ways[k].name, sizes[i], way_bulk)->way = &ways[k];
	}
	for (size_t k = 0; k < WAYS; k++)
		add(ways[k].name, 0, way_single)->way = &ways[k];
	for (size_t k = 0; k < WAYS; k++)
		add(ways[k].cache_name, 0, way_cache)->way = &ways[k];
	add("pcp", 1, pcp_path);
	add("buddy", 1, buddy_path);
	add("buddy-split", 1, buddy_split);
	measure(1); /* warms up memory and code */
	tick0 = ticks();
	ns0 = clock_ns();
	measure((unsigned)passes);
	print((unsigned)passes, (double)(ticks() - tick0) / (double)(clock_ns() - ns0));
	return 0;
}
