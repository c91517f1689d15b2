/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * api.c - the functions of sluice.h, except page blocks (api_pages.c): they check arguments, call
 * the layers and set errno. Uses reclaim, heap, info.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <errno.h>
#include <sluice/sluice.h>

#include "base/export.h"
#include "reclaim/info.h"
#include "reclaim/reclaim.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "0"
#endif

EXPORT const char *sluice_version(void)
{
	return PACKAGE_VERSION;
}

_Static_assert((int)SLUICE_DRAIN_CACHES == (int)RECLAIM_CACHES &&
		       (int)SLUICE_DRAIN_PURGE == (int)RECLAIM_PURGE &&
		       (int)SLUICE_DRAIN_REGIONS == (int)RECLAIM_REGIONS &&
		       (int)SLUICE_DRAIN_IDLE == (int)RECLAIM_IDLE &&
		       (int)SLUICE_DRAIN_GLOBAL == (int)RECLAIM_GLOBAL &&
		       (int)SLUICE_DRAIN_ALL == (int)RECLAIM_ALL,
	       "the public flags are the internal ones");
_Static_assert((int)SLUICE_THREAD_EMPTIED == (int)HEAP_EMPTIED &&
		       (int)SLUICE_THREAD_CALLING == (int)HEAP_CALLING &&
		       (int)SLUICE_THREAD_INSIDE == (int)HEAP_INSIDE &&
		       (int)SLUICE_THREAD_HELD == (int)HEAP_HELD &&
		       (int)SLUICE_THREAD_CLOSED == (int)HEAP_CLOSED &&
		       (int)SLUICE_THREAD_UNASKED == (int)HEAP_UNASKED,
	       "the public states are the internal ones");

#define DRAIN_FLAGS RECLAIM_FLAGS
#define DRAIN_DEFAULT (unsigned)(RECLAIM_CACHES | RECLAIM_IDLE | RECLAIM_PURGE)

static unsigned drain_flags(unsigned flags)
{
	return flags & ~(unsigned)RECLAIM_ALL ? flags : flags | DRAIN_DEFAULT;
}

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
		.heaps_hot = r->heaps_hot,
		.bytes_hot = r->bytes_hot,
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
	reclaim_drain(drain_flags(flags), 0, &r);
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
	if (!reclaim_drain_each(drain_flags(flags), 0, &r, list_thread, &l)) {
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

/* ---- statistics -------------------------------------------------------------------------- */

EXPORT size_t sluice_class_stats(struct sluice_class *array, size_t n)
{
	struct info_class c[CLASSES];
	struct info in;

	info_collect(&in, c);
	for (unsigned i = 0; i < CLASSES && i < n; i++)
		array[i] = (struct sluice_class){
			.object_size = class_size(i),
			.slabs = c[i].slabs,
			.slab_bytes = c[i].slab_bytes,
			.object_bytes = c[i].object_bytes,
			.hole_bytes = c[i].hole_bytes,
			.pinned_bytes = c[i].pinned_bytes,
		};
	return CLASSES;
}

EXPORT int sluice_stat(const char *name, uint64_t *value)
{
	if (info_lookup(name, value))
		return 0;
	errno = EINVAL;
	return -1;
}
