/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * malloc_info.c - the functions by which glibc shows and tunes the state of malloc: mallinfo,
 * mallinfo2, malloc_info, malloc_stats, mallopt. Uses info; used by the program.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/export.h"
#include "base/log.h"
#include "base/stats.h"
#include "heap/sizeclass.h"
#include "os/membarrier.h"
#include "reclaim/info.h"
#include "shim/glibc_malloc.h"

EXPORT struct mallinfo2 mallinfo2(void)
{
	struct mallinfo2 m;
	struct info in;

	info_collect(&in, NULL);
	memset(&m, 0, sizeof(m));
	m.arena = in.region_bytes;
	m.ordblks = in.free_blocks;
	m.hblks = in.huge_objects;
	m.hblkhd = in.huge_bytes;
	m.uordblks = in.layer_live > in.huge_bytes ? in.layer_live - in.huge_bytes : 0;
	m.fordblks = in.region_bytes > m.uordblks ? in.region_bytes - m.uordblks : 0;
	m.keepcost = in.layer_dirty + in.layer_pcp + in.layer_mapcache;
	return m;
}

/* A program may have a mallinfo2 of its own, with another meaning. */
OWN_ALIAS(mallinfo2) static struct mallinfo2 own_mallinfo2(void);

static int clamp(size_t v)
{
	return v > INT_MAX ? INT_MAX : (int)v;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
EXPORT struct mallinfo mallinfo(void)
{
	struct mallinfo2 m = own_mallinfo2();
	struct mallinfo r;

	memset(&r, 0, sizeof(r));
	r.arena = clamp(m.arena);
	r.ordblks = clamp(m.ordblks);
	r.hblks = clamp(m.hblks);
	r.hblkhd = clamp(m.hblkhd);
	r.uordblks = clamp(m.uordblks);
	r.fordblks = clamp(m.fordblks);
	r.keepcost = clamp(m.keepcost);
	return r;
}

/* The second names of glibc, see malloc.c. */
struct mallinfo __libc_mallinfo(void);
ALIAS(mallinfo) struct mallinfo __libc_mallinfo(void);
#pragma GCC diagnostic pop

/* malloc_info is no cancellation point, but fwrite is one, the only one in the library. We hold no
 * lock here. */
static bool info_write(FILE *out, const char *text, size_t len)
{
	bool good;
	int cancel;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	good = fwrite(text, 1, len, out) == len;
	pthread_setcancelstate(cancel, NULL);
	return good;
}

#define INFO_BYTES 320
#define PUT(...)                                                                                   \
	do {                                                                                       \
		char line[INFO_BYTES] = { 0 };                                                     \
                                                                                                   \
		good &= info_write(out, line, log_format(line, sizeof(line), __VA_ARGS__));        \
	} while (0)

/* Writes XML in our own form, as the manual of glibc allows. Returns 0, or -1 with errno EINVAL or
 * an errno of stdio. */
EXPORT int malloc_info(int options, FILE *out)
{
	struct info_class c[CLASSES];
	struct info in;
	bool good = true;

	if (options != 0) {
		errno = EINVAL;
		return -1;
	}
	info_collect(&in, c);
	info_measure(&in);
	PUT("<malloc version=\"sluice-1\">\n");
#define WORD(name, field) PUT("<gauge name=\"" name "\" value=\"%lu\"/>\n", in.field);
#define LAYER(name, text) WORD("layer_" #name, layer_##name)
#define GAUGE(name, text) WORD(#name, name)
#define FOLDED(name, text) PUT("<counter name=\"" #name "\" value=\"%lu\"/>\n", in.name);
#include "base/stats.def"
#undef WORD
	for (unsigned i = 0; i < STATS; i++)
		PUT("<counter name=\"%s\" value=\"%lu\"/>\n", stat_name((enum stat_id)i),
		    stat_sum((enum stat_id)i));
	for (unsigned i = 0; i < CLASSES; i++)
		if (c[i].slabs)
			PUT("<class size=\"%zu\" slabs=\"%lu\" slab_bytes=\"%lu\" "
			    "object_bytes=\"%lu\" hole_bytes=\"%lu\" pinned_bytes=\"%lu\"/>\n",
			    class_size(i), c[i].slabs, c[i].slab_bytes, c[i].object_bytes,
			    c[i].hole_bytes, c[i].pinned_bytes);
	PUT("</malloc>\n");
	return good ? 0 : -1;
#undef PUT
}

/* Whether heaps of sleeping threads can be claimed. */
static void membarrier_line(struct log_text *t)
{
	int err = membarrier_error();

	if (!err)
		log_text_add(t, "membarrier      = on\n");
	else
		log_text_add(t, "membarrier      = off (%s)\n", log_error(err));
}

/* The size classes with pinned memory. */
static void class_lines(struct log_text *t, const struct info_class *c)
{
	for (unsigned i = 0; i < CLASSES; i++)
		if (c[i].pinned_bytes)
			log_text_add(t,
				     "class %lu: slabs %lu, bytes %lu, in use %lu, holes %lu, "
				     "pinned %lu\n",
				     (unsigned long)class_size(i), (unsigned long)c[i].slabs,
				     (unsigned long)c[i].slab_bytes,
				     (unsigned long)c[i].object_bytes,
				     (unsigned long)c[i].hole_bytes,
				     (unsigned long)c[i].pinned_bytes);
}

/* Writes to standard error, without stdio. No cancellation point, as in glibc. */
EXPORT void malloc_stats(void)
{
	struct info_class c[CLASSES];
	struct log_text t = { .n = 0 };
	struct info in;

	info_collect(&in, c);
	info_measure(&in);
#define WORD(name, field) log_text_add(&t, "%s = %lu\n", name, (unsigned long)in.field);
#define LAYER(name, text) WORD("layer_" #name, layer_##name)
#define GAUGE(name, text) WORD(#name, name)
#define FOLDED(name, text) WORD(#name, name)
#include "base/stats.def"
#undef WORD
	class_lines(&t, c);
	membarrier_line(&t);
	for (unsigned i = 0; i < STATS; i++)
		log_text_add(&t, "%s = %lu\n", stat_name((enum stat_id)i),
			     (unsigned long)stat_sum((enum stat_id)i));
	log_text_flush(&t);
}

/*
 * Accepts the parameters of glibc that only tune (returns 1); they have no effect here. Returns 0
 * for a parameter that glibc does not know, and for one that would change what the program sees,
 * which we do not do.
 */
EXPORT int mallopt(int param, int value)
{
	switch (param) {
	case M_MXFAST:
	case M_TRIM_THRESHOLD:
	case M_TOP_PAD:
	case M_MMAP_THRESHOLD:
	case M_MMAP_MAX:
	case M_CHECK_ACTION:
	case M_ARENA_TEST:
	case M_ARENA_MAX:
		return 1;
	case M_PERTURB: /* we do not fill memory that is allocated or freed */
		return (value & 0xff) == 0;
	default:
		return 0;
	}
}

int __libc_mallopt(int param, int value);
ALIAS(mallopt) int __libc_mallopt(int param, int value);
