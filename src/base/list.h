/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * list.h - lists and lock-free stacks of page descriptors.
 *
 * A list is doubly linked. Whatever lock or owner guards the list guards the links. page.list says
 * which list a descriptor is on; debug builds check that at each step.
 */
#ifndef SLUICE_LIST_H
#define SLUICE_LIST_H

#include "base/check.h"
#include "base/delay.h"
#include "types.h"

struct page_list_head {
	struct page *first;
	struct page *last;
};

static inline void page_list_add(struct page_list_head *l, struct page *pg, enum page_list tag)
{
	DCHECK(pg->list == LIST_NONE);
	pg->list = (uint8_t)tag;
	pg->prev = NULL;
	pg->next = l->first;
	if (l->first)
		l->first->prev = pg;
	else
		l->last = pg;
	l->first = pg;
}

static inline void page_list_add_tail(struct page_list_head *l, struct page *pg, enum page_list tag)
{
	DCHECK(pg->list == LIST_NONE);
	pg->list = (uint8_t)tag;
	pg->next = NULL;
	pg->prev = l->last;
	if (l->last)
		l->last->next = pg;
	else
		l->first = pg;
	l->last = pg;
}

static inline void page_list_del(struct page_list_head *l, struct page *pg, enum page_list tag)
{
	DCHECK(pg->list == tag);
	(void)tag;
	if (pg->prev)
		pg->prev->next = pg->next;
	else
		l->first = pg->next;
	if (pg->next)
		pg->next->prev = pg->prev;
	else
		l->last = pg->prev;
	pg->list = LIST_NONE;
	pg->next = NULL;
	pg->prev = NULL;
}

/*
 * A lock-free stack of page descriptors: any thread pushes one page, and a taker takes all. There
 * is no pop of a single page, and so no ABA problem.
 *
 * point: where delay builds wait, after the top was read; DELAY_NONE for nowhere. The release
 * pairs with the acquire in page_stack_take_all.
 */
static always_inline void page_stack_push(_Atomic(struct page *) *top, struct page *pg,
					  enum delay_point point)
{
	struct page *head = atomic_load_explicit(top, memory_order_relaxed);

	do {
		pg->stack_next = head;
		DELAY_AT(point);
	} while (!atomic_compare_exchange_weak_explicit(top, &head, pg, memory_order_release,
							memory_order_relaxed));
}

/* Returns the last page that was pushed, which leads to the others. NULL if there is none. */
static inline struct page *page_stack_take_all(_Atomic(struct page *) *top)
{
	return atomic_exchange_explicit(top, NULL, memory_order_acquire);
}

#endif
