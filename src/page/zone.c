/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zone.c - how many zones there are, and which of them a thread uses.
 * Used by heap_thread and the other files of the folder; uses cpulist, options and vm.
 *
 * (A) Each processor that the process may run on at its start has one zone. If the option says
 *     auto, the processors of a zone are of one NUMA node. There are at most ZONES_MAX zones.
 * (B) zones_used never falls: a zone that was in use stays in every sum and every walk.
 *
 * No lock: zones_init comes before the second thread, and the tables are only read later. Allocates
 * nothing and does not wait. If there is more than one processor, reads a few files of /sys at
 * start, by raw calls (no cancellation points). zone_pick may be called in a signal handler and in
 * a fork child.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "page/zone.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cpulist.h"
#include "base/options.h"
#include "base/sandbox.h"
#include "base/stats.h"
#include "base/sys.h"
#include "os/vm.h"

#define PROCESSORS 1024u
#define NODES 64u
#define GROUP 4u /* processors of a zone */
#define TEXT 1024u

/* The first one lies in as few pages as it can, because a fork writes them. */
__attribute__((aligned(4096))) struct zone zone_all[ZONES_ALL];
_Atomic uint32_t zones_used = 1;

static uint8_t zone_table[PROCESSORS]; /* the zone of each processor */
static unsigned chosen = 1;
static bool round_robin; /* not by processor */
static _Atomic uint32_t next_thread;

/* What is known while zones_init runs. */
struct topology {
	unsigned processors;      /* that the process may run on */
	unsigned end;             /* one more than the highest of these */
	uint8_t node[PROCESSORS]; /* the node of each, + 1; 0: the process may not run on it */
	unsigned size[NODES];     /* processors of each node */
};

/* Reads the first bytes of a file as a text, which is empty if the file cannot be read. */
static void read_text(const char *path, char *text)
{
	int fd = sys_open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
	ssize_t n = 0;

	if (fd >= 0) {
		n = sys_read(fd, text, TEXT - 1);
		sys_close(fd);
	}
	text[n > 0 ? n : 0] = 0;
}

static void allowed_processors(struct topology *t)
{
	unsigned char mask[PROCESSORS / 8] = { 0 };
	long bytes = sluice_syscall(SYS_sched_getaffinity, 0, sizeof(mask), mask);

	for (unsigned i = 0; bytes > 0 && i < (unsigned)bytes * 8; i++) {
		if (mask[i / 8] >> (i % 8) & 1) {
			t->node[i] = 1;
			t->processors++;
			t->end = i + 1;
		}
	}
}

static void node_read(struct topology *t, unsigned node)
{
	char path[64] = "/sys/devices/system/node/node";
	char text[TEXT];
	const char *at = text;
	unsigned first;
	unsigned last;
	size_t n = strlen(path);

	if (node >= 10)
		path[n++] = (char)('0' + node / 10);
	path[n++] = (char)('0' + node % 10);
	memcpy(path + n, "/cpulist", sizeof("/cpulist"));
	read_text(path, text);
	while (cpulist_next(&at, ',', &first, &last))
		for (unsigned i = first; i <= last && i < PROCESSORS; i++)
			if (t->node[i])
				t->node[i] = (uint8_t)(node + 1);
}

static void nodes_of_processors(struct topology *t)
{
	char text[TEXT];
	const char *at = text;
	unsigned first;
	unsigned last;

	if (t->processors < 2)
		return;
	read_text("/sys/devices/system/node/online", text);
	if (!strpbrk(text, "-,"))
		return; /* there is only one */
	while (cpulist_next(&at, ',', &first, &last))
		for (unsigned i = first; i <= last && i < NODES; i++)
			node_read(t, i);
}

/* Reads the option zones_topology: processors by node, "4+4". */
static void faked(struct topology *t)
{
	const char *at = options.zones_topology;
	unsigned n;

	for (unsigned node = 0; node < NODES && cpulist_number(&at, &n); node++) {
		for (; n && t->processors < PROCESSORS; n--)
			t->node[t->processors++] = (uint8_t)(node + 1);
		if (*at != '+')
			break;
		at++;
	}
	t->end = t->processors;
	if (*at || !t->processors)
		options_say("option zones_topology: '%s' is not a list of numbers, as 4+4",
			    options.zones_topology);
}

static void count_by_node(struct topology *t)
{
	for (unsigned i = 0; i < t->end; i++)
		if (t->node[i])
			t->size[t->node[i] - 1]++;
}

static unsigned zones_for(const struct topology *t, unsigned group)
{
	unsigned n = 0;

	for (unsigned node = 0; node < NODES; node++)
		n += (t->size[node] + group - 1) / group;
	return n;
}

/* One zone for each group of processors of one node. The groups are larger if there would be too
 * many. */
static void by_group(const struct topology *t)
{
	unsigned group = GROUP;
	unsigned zone = 0;

	while (zones_for(t, group) > ZONES_MAX && group < PROCESSORS)
		group *= 2;
	for (unsigned node = 0; node < NODES; node++) {
		unsigned n = 0;

		for (unsigned i = 0; n < t->size[node]; i++)
			if (t->node[i] == node + 1)
				zone_table[i] = (uint8_t)((zone + n++ / group) % ZONES_MAX);
		zone += (n + group - 1) / group;
	}
	chosen = zone < ZONES_MAX ? zone : ZONES_MAX;
}

/* n zones for n processors or more; those of a node are adjacent. */
static void by_number(const struct topology *t, unsigned n)
{
	unsigned k = 0;

	for (unsigned node = 0, end = 0; node < NODES; node++) {
		end += t->size[node];
		for (unsigned i = 0; k < end; i++)
			if (t->node[i] == node + 1)
				zone_table[i] = (uint8_t)(k++ * n / t->processors);
	}
	chosen = n;
}

static void choose(void)
{
	struct topology t = { 0 };
	size_t limit;

	chosen = 1;
	round_robin = false;
	memset(zone_table, 0, sizeof(zone_table));
	/* Only one zone has a reserve. If address space is limited, none of it may lie idle. */
	if (options.reserve || options.zones == 1 ||
	    (options.zones == OPTION_AUTO && vm_address_limited(&limit)))
		return;
	if (*options.zones_topology) {
		faked(&t);
	} else {
		allowed_processors(&t);
		nodes_of_processors(&t);
	}
	count_by_node(&t);
	if (options.zones != OPTION_AUTO && options.zones > t.processors) {
		chosen = (unsigned)options.zones;
		round_robin = true;
	} else if (options.zones != OPTION_AUTO) {
		by_number(&t, (unsigned)options.zones);
	} else if (t.processors) {
		by_group(&t);
	}
	/* Processors that the process may be moved to later. */
	for (unsigned i = 0; chosen > 1 && i < PROCESSORS; i++)
		if (!t.node[i])
			zone_table[i] = (uint8_t)(i % chosen);
}

void zone_init(struct zone *z)
{
	bool segregated = options.reserve != 0;

	lock_init(&z->lock, LOCK_BUDDY);
	lock_init(&z->grow, LOCK_GROW);
	if (z->segregated != segregated)
		z->segregated = segregated;
}

void zones_init(void)
{
	int saved = errno;

	choose();
	if (chosen > zones_count())
		atomic_store_explicit(&zones_used, chosen, memory_order_relaxed);
	/* What is not written takes no memory. With a reserve, zone_add may not change a zone that
	 * another thread uses by now. */
	for (unsigned i = 0; i < (options.reserve ? ZONES_ALL : zones_count()); i++)
		zone_init(&zone_all[i]);
	errno = saved;
}

struct zone *zone_add(uint32_t seen)
{
	uint32_t n = seen;

	if (seen == ZONES_ALL || lock_fork_under_way())
		return NULL;
	zone_init(&zone_all[seen]); /* as another thread may be doing that adds it too */
	/* If this fails, another thread has added it. */
	if (atomic_compare_exchange_strong_explicit(&zones_used, &n, n + 1, memory_order_relaxed,
						    memory_order_relaxed))
		stat_add(STAT_zones_added, 1);
	return &zone_all[seen];
}

unsigned zones_chosen(void)
{
	return chosen;
}

struct zone *zone_of_processor(unsigned n)
{
	return &zone_all[round_robin ? n % chosen : n < PROCESSORS ? zone_table[n] : n % chosen];
}

/* As the kernel has it (struct rseq). */
struct rseq_words {
	uint32_t cpu_start;
	int32_t cpu; /* negative: not registered */
};

#ifdef __GLIBC__
/* Where libc has told the kernel to write the processor's number (from glibc 2.35 on). */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned __rseq_size __attribute__((weak));

static int processor_by_libc(void)
{
	char *thread;

	if (!&__rseq_size || !&__rseq_offset || !__rseq_size)
		return -1;
#ifdef __x86_64__
	__asm__("movq %%fs:0, %0" : "=r"(thread));
#else
	thread = __builtin_thread_pointer();
#endif
	return ((const volatile struct rseq_words *)(thread + __rseq_offset))->cpu;
}
#else
static int processor_by_libc(void)
{
	return -1;
}
#endif

/* -1: not known. sched_getcpu may be a name of the program's own. */
static int processor(void)
{
	int n = processor_by_libc();
	unsigned said;

	if (n >= 0 || !sandbox_enter())
		return n;
	n = sluice_syscall(SYS_getcpu, &said, NULL, NULL) == 0 ? (int)said : -1;
	sandbox_leave();
	return n;
}

struct zone *zone_pick(void)
{
	int saved = errno;
	int n;

	if (likely(chosen == 1))
		return zone_all;
	n = round_robin || *options.zones_topology ? -1 : processor();
	errno = saved;
	if (n < 0)
		n = (int)(atomic_fetch_add_explicit(&next_thread, 1, memory_order_relaxed) %
			  PROCESSORS);
	return zone_of_processor((unsigned)n);
}
