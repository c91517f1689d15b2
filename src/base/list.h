/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * list.h - doubly linked lists of page descriptors. The lock or owner that guards the list guards
 * the links; page.list says which list a descriptor is on, and debug builds check it at each step.
 */
#ifndef SLUICE_LIST_H
#define SLUICE_LIST_H

#include "base/log.h"
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

#endif
