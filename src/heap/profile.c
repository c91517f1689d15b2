/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * profile.c - see profile.h. Used by sampler, heap, mallctl, control and init; uses sites, stack,
 * heap_thread, log, ourfd, clock.
 *
 * One dump at a time (dumping), which fills `extra`: what its walk over the live objects finds
 * besides the counts of the sites.
 *
 * No lock: any thread, signal handlers. Allocates nothing after profile_init.
 * Bound: of a sample, a stack and PROBES places (sites.c); of a dump, the tables, and a walk over
 * the regions.
 * Source: jemalloc (prof.c); the formats of gperftools.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "heap/profile.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/links.h"
#include "base/log.h"
#include "base/options.h"
#include "base/ourfd.h"
#include "base/sandbox.h"
#include "base/stack.h"
#include "base/stats.h"
#include "base/sys.h"
#include "heap/heap_thread.h"
#include "heap/sites.h"
#include "page/meta.h"

#define COPY_BYTES 1024
#define DUMP_MODE 0600
#define DUMP_FLAGS (O_WRONLY | O_CREAT | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)
#define NAMES_MAX 10000u /* tried if files of these names are there */
#define WRITE_MS 10000   /* a terminal may be stopped */
#define END_MS 1000      /* what a dump under way may keep the process from its end */
#define STEP_MS 5
#define LEAK_SITES 5u /* that prof_leak names, with their stacks, */
#define LEAKS_MS 8000 /* and begins no further one after */
#define LEAK_TEXT 128
#define PEAK_SHIFT 3 /* a new peak is an eighth above the last one, */
#define PEAK_LEAST ((uint64_t)1 << 20)

bool profile_on;
_Atomic uint32_t profile_active;
_Atomic uint32_t profile_thread_init;
_Atomic uint32_t profile_gdump;
void (*profile_by_class)(uint64_t *live, uint64_t *pinned);
static _Atomic uint32_t dumps;
static _Atomic uint32_t dumping; /* the process whose thread does */
static _Atomic bool ending;
static _Atomic uint64_t said[4];    /* by errno: that files cannot be written */
static _Atomic uint64_t ever_bytes; /* as estimated from the samples, */
static _Atomic uint64_t next_dump;  /* and where prof_interval dumps next */
static _Atomic uint64_t next_peak;  /* live bytes at which prof_gdump does */

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
		random = link_random();
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

/* ---- samples -------------------------------------------------------------------------------- */

/* Whether a bound was passed. Of several threads one is told, and sets the next. */
static bool passes(_Atomic uint64_t *bound, uint64_t have, uint64_t next)
{
	uint64_t old = atomic_load_explicit(bound, memory_order_relaxed);

	return have >= old &&
	       atomic_compare_exchange_strong_explicit(bound, &old, next, memory_order_relaxed,
						       memory_order_relaxed);
}

static void dump_if_due(uint64_t weight)
{
	uint64_t live = sites_live_bytes();
	uint64_t ever = atomic_fetch_add_explicit(&ever_bytes, weight, memory_order_relaxed) +
			weight;

	if (options.prof_interval && passes(&next_dump, ever, ever + options.prof_interval))
		(void)profile_dump(NULL, 'i');
	if (atomic_load_explicit(&profile_gdump, memory_order_relaxed) &&
	    passes(&next_peak, live, live + (live >> PEAK_SHIFT)))
		(void)profile_dump(NULL, 'u');
}

/* A thread takes the setting for threads when it first asks. */
static _Thread_local enum { UNKNOWN, ON, OFF } of_thread TLS_FAST;

bool profile_of_thread(void)
{
	if (unlikely(of_thread == UNKNOWN))
		profile_set_thread(
			atomic_load_explicit(&profile_thread_init, memory_order_relaxed));
	return of_thread == ON;
}

void profile_set_thread(bool on)
{
	of_thread = on ? ON : OFF;
}

bool profile_is_noting(void)
{
	return atomic_load_explicit(&profile_active, memory_order_relaxed) && profile_of_thread();
}

void profile_add(const void *p, size_t bytes)
{
	int saved = errno;
	struct stack stack;

	if (!profile_is_noting())
		return;
	stack_take(&stack);
	if (sites_add(&stack, p, bytes)) {
		stat_add(STAT_prof_samples, 1);
		dump_if_due(sites_weight(bytes));
	}
	errno = saved;
}

size_t profile_bytes(const void *p)
{
	return sites_bytes(p);
}

struct profile_note profile_remove(const void *p)
{
	return sites_remove(p);
}

void profile_restore(const void *p, const struct profile_note *n)
{
	if (n->bytes)
		sites_restore(p, n);
}

void profile_reset(void)
{
	sites_reset();
	atomic_store_explicit(&next_peak, PEAK_LEAST, memory_order_relaxed);
}

/* ---- what a dump finds of live objects ------------------------------------------------------- */

/* Threads that are at work: their heaps were not emptied since their last calls, or they allocated
 * or freed large blocks lately. */
#define AWAKE_MAX 4096u
#define AWAKE_PLACES (2 * AWAKE_MAX)

/* By site, and for the walk. The caller of a dump only. */
struct extra {
	uint64_t live_objects;
	uint64_t live_ns;
	uint64_t idle_objects;
	uint64_t idle_bytes;
	uint64_t pinned;
};
static struct extra *extra;
static uint64_t class_live[CLASSES];
static uint64_t class_pinned[CLASSES];
static uint32_t awake[AWAKE_PLACES];
static bool awake_is_full;

static uint32_t *awake_place(uint32_t tid)
{
	uint32_t i = tid * 0x9e3779b1u;

	while (awake[i % AWAKE_PLACES] && awake[i % AWAKE_PLACES] != tid)
		i++;
	return &awake[i % AWAKE_PLACES];
}

static bool is_at_work(struct heap *h, uint64_t now)
{
	uint64_t paged = atomic_load_explicit(&h->paged_ms, memory_order_relaxed);

	return !heap_is_empty(h) || (paged && paged + options.idle_ms > now);
}

static void find_awake(void)
{
	uint64_t now = clock_ms_coarse();
	unsigned n = 0;

	memset(awake, 0, sizeof(awake));
	for (struct heap *h = heap_first(); h && n < AWAKE_MAX; h = heap_next(h)) {
		uint32_t tid = atomic_load_explicit(&h->tid, memory_order_relaxed);

		if (!tid || !is_at_work(h, now))
			continue;
		*awake_place(tid) = tid;
		n++;
	}
	awake_is_full = n == AWAKE_MAX;
}

/* The share of a live object of what its class pins, by bytes. */
static uint64_t pinned_by(uint64_t bytes)
{
	unsigned cls = bytes <= SMALL_MAX ? class_of(bytes) : CLASSES;

	if (cls >= CLASSES || !class_live[cls])
		return 0;
	return (uint64_t)((double)sites_weight(bytes) * (double)class_pinned[cls] /
			  (double)class_live[cls]);
}

static void see_live(void *arg, uint32_t i, uint32_t tid, uint64_t bytes, uint64_t age_ns)
{
	struct extra *e = &extra[i];

	(void)arg;
	e->live_objects++;
	e->live_ns += age_ns;
	e->pinned += pinned_by(bytes);
	if (awake_is_full || *awake_place(tid))
		return;
	e->idle_objects++;
	e->idle_bytes += bytes;
}

/* Those of sites that are not there are zero, and were never written. */
static void clear_extra(void)
{
	struct site_figures f;

	for (uint32_t i = 0; i < sites_count(); i++)
		if (sites_get(i, &f))
			extra[i] = (struct extra){ 0 };
}

static void find_extra(void)
{
	memset(class_live, 0, sizeof(class_live));
	clear_extra();
	if (profile_by_class)
		profile_by_class(class_live, class_pinned);
	find_awake();
	sites_each_live(see_live, NULL);
}

/* ---- dumps ---------------------------------------------------------------------------------- */

struct out {
	struct log_text text;
	struct ourfd file;
	int err;
};

/* One write, which may write less. The program may have closed the descriptor with all others, also
 * while the terminal was waited for. */
static long write_some(struct out *o, const char *text, size_t len)
{
	struct pollfd out = { .fd = o->file.fd, .events = POLLOUT };

	if (sys_poll(&out, 1, WRITE_MS) == 0) {
		errno = ETIMEDOUT;
		return -1;
	}
	if (!ourfd_good(&o->file)) {
		errno = EBADF;
		return -1;
	}
	return log_write(o->file.fd, text, len, 0);
}

static void write_all(struct out *o, const char *text, size_t len)
{
	while (len && !o->err) {
		long n = write_some(o, text, len);

		if (n < 0 && errno != EINTR && errno != EAGAIN)
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

static void put_figures(struct out *o, const struct site_figures *f)
{
	for (int i = 0; i < 2; i++)
		log_text_add(&o->text, "  t%s: %lu: %lu [%lu: %lu]\n", i ? "0" : "*",
			     (unsigned long)f->live_objects, (unsigned long)f->live_bytes,
			     (unsigned long)f->ever_objects, (unsigned long)f->ever_bytes);
}

/* Lines of our own, which jeprof goes past; doc/profile.md says what they mean. */
static void put_extra(struct out *o, uint32_t i, const struct site_figures *f)
{
	const struct extra *e = &extra[i];

	if (f->freed_objects) {
		log_text_add(&o->text, "  life: %lu %lu", (unsigned long)f->freed_objects,
			     (unsigned long)f->freed_ns);
		for (unsigned k = 0; k < LIFE_STEPS; k++)
			if (sites_lifetimes(i, k))
				log_text_add(&o->text, " %u:%u", k, sites_lifetimes(i, k));
		log_text_add(&o->text, "\n");
	}
	if (e->live_objects)
		log_text_add(&o->text, "  age: %lu %lu\n", (unsigned long)e->live_objects,
			     (unsigned long)e->live_ns);
	if (e->idle_objects)
		log_text_add(&o->text, "  idle: %lu %lu\n", (unsigned long)e->idle_objects,
			     (unsigned long)e->idle_bytes);
	if (e->pinned)
		log_text_add(&o->text, "  pins: %lu\n", (unsigned long)e->pinned);
}

static struct site_figures sum_of_sites(void)
{
	struct site_figures sum = { 0 };
	struct site_figures f;

	for (uint32_t i = 0; i < sites_count(); i++) {
		if (!sites_get(i, &f))
			continue;
		sum.live_objects += f.live_objects;
		sum.live_bytes += f.live_bytes;
		sum.ever_objects += f.ever_objects;
		sum.ever_bytes += f.ever_bytes;
	}
	return sum;
}

static void put_sites(struct out *o)
{
	struct site_figures f = sum_of_sites();

	log_text_add(&o->text, "heap_v2/%lu\n", (unsigned long)options.prof_sample);
	put_figures(o, &f);
	for (uint32_t i = 0; i < sites_count(); i++) {
		const struct stack *s = sites_get(i, &f);

		if (!s || !f.ever_objects)
			continue;
		log_text_add(&o->text, "@");
		for (uint32_t k = 0; k < s->n; k++)
			log_text_add(&o->text, " %p", (void *)s->pc[k]);
		log_text_add(&o->text, s->n ? "\n" : " 0x1\n");
		put_figures(o, &f);
		put_extra(o, i, &f);
	}
}

static void put_maps(struct out *o)
{
	char copy[COPY_BYTES];
	struct ourfd maps;
	ssize_t n;

	log_text_add(&o->text, "\nMAPPED_LIBRARIES:\n");
	log_text_flush(&o->text);
	ourfd_take(&maps, sys_open("/proc/self/maps", O_RDONLY | O_CLOEXEC, 0));
	while (ourfd_good(&maps) &&
	       ((n = sys_read(maps.fd, copy, sizeof(copy))) > 0 || (n < 0 && errno == EINTR)))
		write_all(o, copy, n > 0 ? (size_t)n : 0);
	ourfd_drop(&maps);
}

/* A name that no file has: what is there may be another's, or a link to it. */
static int open_new(char why, char *name)
{
	int fd = -1;

	for (unsigned i = 0; i < NAMES_MAX; i++) {
		log_format(name, PROFILE_NAME_MAX, "%s.%u.%u.%s.heap", options.prof_prefix,
			   (unsigned)sys_getpid(),
			   atomic_fetch_add_explicit(&dumps, 1, memory_order_relaxed),
			   (char[]){ why, 0 });
		fd = sys_open(name, DUMP_FLAGS | O_EXCL | O_NOFOLLOW, DUMP_MODE);
		if (fd >= 0 || errno != EEXIST)
			break;
	}
	return fd;
}

/* A file or a terminal. A pipe may have no reader, and a disk is no file. */
static int open_out(struct ourfd *o, const char *path, char why, char *name)
{
	int fd = path ? sys_open(path, DUMP_FLAGS | O_TRUNC, DUMP_MODE) : open_new(why, name);
	struct stat st;

	if (fd < 0)
		return errno;
	if (sys_fstat(fd, &st) != 0 || !(S_ISREG(st.st_mode) || S_ISCHR(st.st_mode))) {
		sys_close(fd);
		return ENXIO;
	}
	ourfd_take(o, fd);
	return o->fd < 0 ? EBADF : 0;
}

static int dump_to(const char *path, char why, char *name)
{
	struct out o;
	int err;

	memset(&o, 0, sizeof(o));
	err = open_out(&o.file, path, why, name);
	if (err)
		return err;
	o.text.write = write_text;
	o.text.arg = &o;
	find_extra();
	put_sites(&o);
	put_maps(&o);
	ourfd_drop(&o.file);
	return o.err;
}

const char *profile_error(int err)
{
	if (err == EAGAIN)
		return "another profile is being written";
	return err == ENXIO ? "it is neither a file nor a terminal" : log_error(err);
}

/* Of names that the program does not choose, once for each errno: a dump may be due often. */
static void say_failed(const char *path, int err)
{
	uint64_t bit = UINT64_C(1) << err % 64;
	char shown[PROFILE_NAME_MAX];

	if (!path &&
	    atomic_fetch_or_explicit(&said[(unsigned)err / 64 % 4], bit, memory_order_relaxed) &
		    bit)
		return;
	log_format(shown, sizeof(shown), path ? "%s" : "%s.PID.NUMBER.WHY.heap",
		   path ? path : options.prof_prefix);
	log_clean(shown);
	log_warn("heap profile: '%s' cannot be written: %s", shown, profile_error(err));
}

/* Two dumps at once would be files of one name, and share `extra`. In a child of fork the process
 * that it names may be the parent: its thread is not here, and of two that see this one takes it.
 * The acquire pairs with the release in give. */
static bool take(void)
{
	uint32_t own = (uint32_t)sys_getpid();
	uint32_t who = 0;

	return atomic_compare_exchange_strong_explicit(&dumping, &who, own, memory_order_acquire,
						       memory_order_relaxed) ||
	       (who != own &&
		atomic_compare_exchange_strong_explicit(&dumping, &who, own, memory_order_acquire,
							memory_order_relaxed));
}

static void give(void)
{
	atomic_store_explicit(&dumping, 0, memory_order_release);
}

/* After take. */
static int dump_taken(const char *path, char why, char *name)
{
	int err = EPERM;

	if (sandbox_enter()) {
		err = dump_to(path, why, name);
		sandbox_leave();
	}
	give();
	if (err)
		say_failed(path, err);
	sites_say_missing();
	return err;
}

int profile_dump_named(const char *path, char why, char *name)
{
	int saved = errno;
	int err;

	log_format(name, PROFILE_NAME_MAX, "%s", path ? path : "");
	if (!profile_on)
		return ENOENT;
	if (!path && !options.prof_prefix[0])
		return why == 'm' ? ENOENT : 0;
	if (!take())
		return EAGAIN;
	/* Whoever takes it after profile_end sees this, and is not cut off by the end. */
	if (why != 'm' && atomic_load_explicit(&ending, memory_order_relaxed)) {
		give();
		return 0;
	}
	err = dump_taken(path, why, name);
	errno = saved;
	return err;
}

int profile_dump(const char *path, char why)
{
	char name[PROFILE_NAME_MAX];

	return profile_dump_named(path, why, name);
}

/* ---- the start and the end ------------------------------------------------------------------ */

bool profile_init(void)
{
	extra = meta_alloc(sites_count() * sizeof(*extra));
	if (!extra || !sites_init()) {
		options_say("option prof: no memory for its tables");
		return false;
	}
	atomic_store_explicit(&next_dump, options.prof_interval, memory_order_relaxed);
	atomic_store_explicit(&next_peak, PEAK_LEAST, memory_order_relaxed);
	atomic_store_explicit(&profile_active, options.prof_active != 0, memory_order_relaxed);
	atomic_store_explicit(&profile_thread_init, options.prof_thread_active_init != 0,
			      memory_order_relaxed);
	atomic_store_explicit(&profile_gdump, options.prof_gdump != 0, memory_order_relaxed);
	stack_init();
	profile_on = true;
	return true;
}

/* What the live samples of a site stand for, if they are of one size. */
static uint64_t live_estimate(const struct site_figures *f)
{
	return f->live_objects ? f->live_objects * sites_weight(f->live_bytes / f->live_objects)
			       : 0;
}

/* The site with the most live bytes of those after *i and *bytes, in that order. Returns false if
 * none has any. */
static bool next_leak(uint32_t *i, uint64_t *bytes)
{
	uint32_t from = *i;
	uint64_t most = *bytes;
	struct site_figures f;

	*bytes = 0;
	for (uint32_t k = 0; k < sites_count(); k++) {
		uint64_t n = sites_get(k, &f) ? live_estimate(&f) : 0;

		if (n > *bytes && (n < most || (n == most && k > from))) {
			*i = k;
			*bytes = n;
		}
	}
	return *bytes != 0;
}

static void say_leaks(void)
{
	struct site_figures sum = sum_of_sites();
	uint64_t until = clock_ms() + LEAKS_MS;
	uint64_t bytes = UINT64_MAX;
	uint32_t i = 0;
	struct site_figures f;
	char what[LEAK_TEXT];

	if (!sum.live_objects)
		return;
	log_warn("leaks at exit: some %lu bytes in objects of %lu samples, one in %lu bytes",
		 (unsigned long)sites_live_bytes(), (unsigned long)sum.live_objects,
		 (unsigned long)options.prof_sample);
	for (unsigned n = 0; n < LEAK_SITES && clock_ms() < until && next_leak(&i, &bytes); n++) {
		const struct stack *s = sites_get(i, &f);

		log_format(what, sizeof(what),
			   "leak %u: some %lu bytes, samples: %lu, allocated here, first by", n + 1,
			   (unsigned long)bytes, (unsigned long)f.live_objects);
		stack_write(what, s);
	}
}

/* Waits for a dump under way, which the end of the process would cut off. */
static bool take_in_time(void)
{
	uint64_t until = clock_ms() + END_MS;

	while (!take()) {
		if (clock_ms() >= until || !sandbox_enter())
			return false;
		sys_poll(NULL, 0, STEP_MS);
		sandbox_leave();
	}
	return true;
}

void profile_end(void)
{
	bool final = (options.prof_final || options.prof_leak) && options.prof_prefix[0];
	char name[PROFILE_NAME_MAX];
	int saved = errno;

	if (!profile_on)
		return;
	if (options.prof_leak)
		say_leaks();
	atomic_store_explicit(&ending, true, memory_order_relaxed);
	if (!take_in_time()) {
		if (final)
			log_warn("heap profile: none is written at exit: another dump takes over "
				 "%d ms",
				 END_MS);
	} else if (final) {
		(void)dump_taken(NULL, 'f', name);
	} else {
		give();
	}
	errno = saved;
}
