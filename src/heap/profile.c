/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * profile.c - see profile.h. Used by sampler, heap, mallctl and init; uses stack, meta, log.
 *
 * (A) A site is a stack with its counts. It is made by CAS from SITE_NONE to SITE_BUSY, then stored
 *     as SITE_READY with its frames, and never removed. Two threads may make two sites of one
 *     stack: readers of profiles add them up.
 * (B) A sample is a noted object, in a table by its address. Its place is taken by CAS from 0 to
 *     its address, and left by a store of 0. It is looked for in all PROBES places of its address,
 *     so no place has to say that another was there.
 * (C) live of a site is the sum over the samples that name it, except while a call changes both.
 *
 * The tables have fixed lengths, and cost memory as they fill. What finds no site counts for the
 * first one, which has no frames; what finds no place is counted as lost. A dump says so.
 *
 * No lock: any thread, signal handlers. A child of fork has the profile of its parent; a site that
 * another thread was making stays busy there. Allocates nothing after profile_init.
 * Bound: PROBES places of each table, and one stack.
 * Source: gperftools, jemalloc (prof.c).
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/profile.h"

#include <errno.h>
#include <string.h>

#include "base/links.h"
#include "base/log.h"
#include "base/options.h"
#include "base/sandbox.h"
#include "base/stack.h"
#include "base/stats.h"
#include "base/sys.h"
#include "page/meta.h"

#define SITES (1u << 14)
#define SAMPLES (1u << 17)
#define PROBES 64u
#define COPY_BYTES 1024
#define PATH_BYTES 400
#define DUMP_MODE 0600
#define DUMP_FLAGS (O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY)

enum { SITE_NONE, SITE_BUSY, SITE_READY };

struct counts {
	_Atomic uint64_t objects;
	_Atomic uint64_t bytes;
};

struct site {
	_Atomic uint32_t state;
	uint32_t hash;
	struct counts live;
	struct counts ever;
	struct stack stack;
};

struct sample {
	_Atomic uintptr_t address;
	_Atomic uint32_t site;
	_Atomic uint32_t epoch; /* of profile_reset */
	_Atomic uint64_t bytes;
};

bool profile_on;
_Atomic uint32_t profile_active;
static struct site *sites; /* SITES of them; the first stands for stacks that found no place */
static struct sample *samples;
static _Atomic uint64_t lost;
static _Atomic uint64_t homeless; /* counted for the first site */
static _Atomic uint32_t epoch;
static _Atomic uint32_t dumps;
static _Atomic uint32_t dumping;
static _Atomic uint64_t ever_bytes; /* as estimated from the samples, */
static _Atomic uint64_t next_dump;  /* and where prof_interval dumps next */

/* ---- large allocations ---------------------------------------------------------------------- */

static uint64_t mix(uint64_t v)
{
	v = (v ^ (v >> 32)) * UINT64_C(0x9e3779b97f4a7c15);
	return v ^ (v >> 29);
}

/* -log2 of a number in (0, 2^64], in 2^-16. */
static uint64_t minus_log2(uint64_t v)
{
	unsigned zeros = (unsigned)__builtin_clzll(v | 1);
	uint64_t m = (v | 1) << zeros >> 32;
	uint64_t fraction = 0;

	for (unsigned i = 0; i < 16; i++) {
		m = m * m >> 31;
		fraction = fraction << 1 | m >> 32;
		m >>= m >> 32;
	}
	return ((uint64_t)(zeros + 1) << 16) - fraction;
}

static int64_t distance(uint64_t random)
{
	const uint64_t ln2 = 45426; /* in 2^-16 */

	return (int64_t)((minus_log2(random) * ln2 >> 16) * options.prof_sample >> 16);
}

/* Exponential, as dealt.c does it for small ones, by a count of each thread. */
bool profile_large_due(size_t bytes)
{
	static _Thread_local uint64_t random TLS_FAST;
	static _Thread_local int64_t left TLS_FAST;

	if (unlikely(!random)) {
		link_random(&random, sizeof(random));
		random |= 1;
		left = distance(mix(random));
	}
	left -= (int64_t)bytes;
	if (likely(left >= 0))
		return false;
	random += UINT64_C(0x9e3779b97f4a7c16);
	left = distance(mix(random));
	return true;
}

/* ---- the tables ----------------------------------------------------------------------------- */

static uint32_t hash_of(const struct stack *s)
{
	uint64_t h = s->n;

	for (uint32_t i = 0; i < s->n; i++)
		h = mix(h ^ s->pc[i]);
	return (uint32_t)(h >> 32);
}

static bool is_site(const struct site *t, uint32_t hash, const struct stack *s)
{
	return t->hash == hash && t->stack.n == s->n &&
	       memcmp(t->stack.pc, s->pc, s->n * sizeof(s->pc[0])) == 0;
}

static struct site *site_of(const struct stack *s)
{
	uint32_t hash = hash_of(s);

	for (uint32_t i = 0; i < PROBES && s->n; i++) {
		struct site *t = &sites[(hash + i) % (SITES - 1) + 1];
		uint32_t state = atomic_load_explicit(&t->state, memory_order_acquire);

		if (state == SITE_NONE &&
		    atomic_compare_exchange_strong_explicit(&t->state, &state, SITE_BUSY,
							    memory_order_acquire,
							    memory_order_acquire)) {
			t->hash = hash;
			t->stack = *s;
			atomic_store_explicit(&t->state, SITE_READY, memory_order_release);
			return t;
		}
		if (state == SITE_READY && is_site(t, hash, s))
			return t;
	}
	atomic_fetch_add_explicit(&homeless, 1, memory_order_relaxed);
	return &sites[0];
}

static void count(struct counts *c, uint64_t objects, uint64_t bytes)
{
	atomic_fetch_add_explicit(&c->objects, objects, memory_order_relaxed);
	atomic_fetch_add_explicit(&c->bytes, bytes, memory_order_relaxed);
}

static struct sample *place(uintptr_t address, uint32_t probe)
{
	return &samples[(mix(address >> 4) + probe) % SAMPLES];
}

static struct sample *find(const void *p)
{
	for (uint32_t i = 0; i < PROBES; i++) {
		struct sample *s = place((uintptr_t)p, i);

		if (atomic_load_explicit(&s->address, memory_order_acquire) == (uintptr_t)p)
			return s;
	}
	return NULL;
}

static void dump_if_due(uint64_t bytes)
{
	uint64_t ever = atomic_fetch_add_explicit(&ever_bytes, bytes, memory_order_relaxed) + bytes;
	uint64_t next = atomic_load_explicit(&next_dump, memory_order_relaxed);

	if (options.prof_interval && ever >= next &&
	    atomic_compare_exchange_strong_explicit(&next_dump, &next, ever + options.prof_interval,
						    memory_order_relaxed, memory_order_relaxed))
		(void)profile_dump(NULL, 'i');
}

/* Returns false if the object finds no place. */
static bool note(const void *p, const struct profile_note *n)
{
	for (uint32_t i = 0; i < PROBES; i++) {
		struct sample *s = place((uintptr_t)p, i);
		uintptr_t none = 0;

		/* Busy until the fields are there: no address is 1. */
		if (!atomic_compare_exchange_strong_explicit(&s->address, &none, 1,
							     memory_order_acquire,
							     memory_order_relaxed))
			continue;
		atomic_store_explicit(&s->site, n->site, memory_order_relaxed);
		atomic_store_explicit(&s->bytes, n->bytes, memory_order_relaxed);
		atomic_store_explicit(&s->epoch, n->epoch, memory_order_relaxed);
		if (n->epoch == atomic_load_explicit(&epoch, memory_order_relaxed))
			count(&sites[n->site].live, 1, n->bytes);
		atomic_store_explicit(&s->address, (uintptr_t)p, memory_order_release);
		return true;
	}
	atomic_fetch_add_explicit(&lost, 1, memory_order_relaxed);
	return false;
}

void profile_add(const void *p, size_t bytes)
{
	int saved = errno;
	struct profile_note n = { .bytes = bytes };
	struct stack stack;
	struct site *site;

	if (!atomic_load_explicit(&profile_active, memory_order_relaxed))
		return;
	stack_take(&stack);
	site = site_of(&stack);
	count(&site->ever, 1, bytes);
	n.site = (uint32_t)(site - sites);
	n.epoch = atomic_load_explicit(&epoch, memory_order_relaxed);
	if (note(p, &n)) {
		stat_add(STAT_prof_samples, 1);
		dump_if_due(bytes > options.prof_sample ? bytes : options.prof_sample);
	}
	errno = saved;
}

size_t profile_bytes(const void *p)
{
	struct sample *s = find(p);

	return s ? atomic_load_explicit(&s->bytes, memory_order_relaxed) : 0;
}

struct profile_note profile_remove(const void *p)
{
	struct sample *s = find(p);
	struct profile_note n = { 0 };

	if (!s)
		return n;
	n.bytes = atomic_load_explicit(&s->bytes, memory_order_relaxed);
	n.site = atomic_load_explicit(&s->site, memory_order_relaxed);
	n.epoch = atomic_load_explicit(&s->epoch, memory_order_relaxed);
	if (n.epoch == atomic_load_explicit(&epoch, memory_order_relaxed))
		count(&sites[n.site].live, UINT64_MAX, 0 - n.bytes);
	atomic_store_explicit(&s->address, 0, memory_order_release);
	return n;
}

void profile_restore(const void *p, const struct profile_note *n)
{
	if (n->bytes)
		(void)note(p, n);
}

static void clear(struct counts *c)
{
	atomic_store_explicit(&c->objects, 0, memory_order_relaxed);
	atomic_store_explicit(&c->bytes, 0, memory_order_relaxed);
}

/* What other threads note at this moment may count in part. */
void profile_reset(void)
{
	atomic_fetch_add_explicit(&epoch, 1, memory_order_relaxed);
	for (uint32_t i = 0; i < SITES; i++) {
		if (atomic_load_explicit(&sites[i].state, memory_order_acquire) != SITE_READY)
			continue;
		clear(&sites[i].live);
		clear(&sites[i].ever);
	}
	atomic_store_explicit(&lost, 0, memory_order_relaxed);
	atomic_store_explicit(&homeless, 0, memory_order_relaxed);
}

/* ---- dumps ---------------------------------------------------------------------------------- */

struct figures {
	uint64_t live_objects, live_bytes, ever_objects, ever_bytes;
};

/* A figure that a race has brought below zero is 0. */
static uint64_t load(const _Atomic uint64_t *v)
{
	uint64_t n = atomic_load_explicit(v, memory_order_relaxed);

	return n >> 63 ? 0 : n;
}

static struct figures figures_of(const struct site *t)
{
	return (struct figures){ load(&t->live.objects), load(&t->live.bytes),
				 load(&t->ever.objects), load(&t->ever.bytes) };
}

struct out {
	struct log_text text;
	int fd;
	int err;
};

static void write_all(struct out *o, const char *text, size_t len)
{
	while (len && !o->err) {
		ssize_t n = sys_write(o->fd, text, len);

		if (n < 0 && errno != EINTR)
			o->err = errno;
		if (n > 0) {
			text += n;
			len -= (size_t)n;
		}
	}
}

static void write_text(void *arg, const char *text)
{
	write_all(arg, text, strlen(text));
}

static void put_figures(struct out *o, const struct figures *f)
{
	for (int i = 0; i < 2; i++)
		log_text_add(&o->text, "  t%s: %lu: %lu [%lu: %lu]\n", i ? "0" : "*",
			     (unsigned long)f->live_objects, (unsigned long)f->live_bytes,
			     (unsigned long)f->ever_objects, (unsigned long)f->ever_bytes);
}

static void put_sites(struct out *o)
{
	struct figures sum = { 0, 0, 0, 0 };

	for (uint32_t i = 0; i < SITES; i++) {
		struct figures f = figures_of(&sites[i]);

		sum.live_objects += f.live_objects;
		sum.live_bytes += f.live_bytes;
		sum.ever_objects += f.ever_objects;
		sum.ever_bytes += f.ever_bytes;
	}
	log_text_add(&o->text, "heap_v2/%lu\n", (unsigned long)options.prof_sample);
	put_figures(o, &sum);
	for (uint32_t i = 0; i < SITES; i++) {
		struct figures f = figures_of(&sites[i]);

		if (!f.ever_objects)
			continue;
		log_text_add(&o->text, "@");
		for (uint32_t k = 0; k < sites[i].stack.n; k++)
			log_text_add(&o->text, " %p", (void *)sites[i].stack.pc[k]);
		log_text_add(&o->text, sites[i].stack.n ? "\n" : " 0x1\n");
		put_figures(o, &f);
	}
}

static void put_maps(struct out *o)
{
	int fd = sys_open("/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
	char copy[COPY_BYTES];
	ssize_t n;

	log_text_add(&o->text, "\nMAPPED_LIBRARIES:\n");
	log_text_flush(&o->text);
	while (fd >= 0 && ((n = sys_read(fd, copy, sizeof(copy))) > 0 || (n < 0 && errno == EINTR)))
		write_all(o, copy, n > 0 ? (size_t)n : 0);
	if (fd >= 0)
		sys_close(fd);
}

static int dump_to(const char *path)
{
	struct out o;

	memset(&o, 0, sizeof(o));
	o.fd = sys_open(path, DUMP_FLAGS, DUMP_MODE);
	if (o.fd < 0)
		return errno;
	o.text.write = write_text;
	o.text.arg = &o;
	put_sites(&o);
	put_maps(&o);
	sys_close(o.fd);
	return o.err;
}

static void say_what_is_missing(void)
{
	uint64_t none = atomic_load_explicit(&homeless, memory_order_relaxed);
	uint64_t gone = atomic_load_explicit(&lost, memory_order_relaxed);

	if (none)
		log_warn("heap profile: %lu samples without a stack, because it could not be taken "
			 "or the table of %u is full",
			 (unsigned long)none, SITES);
	if (gone)
		log_warn("heap profile: %lu samples lost, because the table of %u is full",
			 (unsigned long)gone, SAMPLES);
}

int profile_dump(const char *path, char why)
{
	int saved = errno;
	char name[PATH_BYTES];
	uint32_t no = 0;
	int err;

	if (!profile_on)
		return ENOENT;
	/* Two at once would be files of one name; a child of fork may find it set. */
	if (!atomic_compare_exchange_strong_explicit(&dumping, &no, (uint32_t)sys_getpid(),
						     memory_order_acquire, memory_order_relaxed) &&
	    no == (uint32_t)sys_getpid())
		return EAGAIN;
	if (!sandbox_enter()) {
		err = EPERM;
	} else {
		if (!path) {
			log_format(name, sizeof(name), "%s.%u.%u.%s.heap", options.prof_prefix,
				   (unsigned)sys_getpid(),
				   atomic_fetch_add_explicit(&dumps, 1, memory_order_relaxed),
				   (char[]){ why, 0 });
			path = name;
		}
		err = dump_to(path);
		sandbox_leave();
	}
	atomic_store_explicit(&dumping, 0, memory_order_release);
	if (err)
		log_warn("heap profile: '%s' cannot be written: %s", path ? path : "",
			 log_error(err));
	say_what_is_missing();
	errno = saved;
	return err;
}

/* ---- the start and the end ------------------------------------------------------------------ */

bool profile_init(void)
{
	sites = meta_alloc(SITES * sizeof(*sites));
	samples = meta_alloc(SAMPLES * sizeof(*samples));
	if (!sites || !samples) {
		options_say("option prof: no memory for its tables");
		return false;
	}
	atomic_store_explicit(&sites[0].state, SITE_READY, memory_order_relaxed);
	atomic_store_explicit(&next_dump, options.prof_interval, memory_order_relaxed);
	atomic_store_explicit(&profile_active, options.prof_active != 0, memory_order_relaxed);
	stack_init();
	profile_on = true;
	return true;
}

static void say_leaks(void)
{
	struct figures sum = { 0, 0, 0, 0 };

	for (uint32_t i = 0; i < SITES; i++) {
		struct figures f = figures_of(&sites[i]);

		sum.live_objects += f.live_objects;
		sum.live_bytes += f.live_bytes;
	}
	if (sum.live_objects)
		log_warn("leaks at exit: some %lu bytes in objects of %lu samples, one in %lu "
			 "bytes",
			 (unsigned long)(sum.live_bytes > sum.live_objects * options.prof_sample
						 ? sum.live_bytes
						 : sum.live_objects * options.prof_sample),
			 (unsigned long)sum.live_objects, (unsigned long)options.prof_sample);
}

void profile_end(void)
{
	if (!profile_on)
		return;
	if (options.prof_leak)
		say_leaks();
	if (options.prof_final || options.prof_leak)
		(void)profile_dump(NULL, 'f');
}
