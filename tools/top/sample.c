/* SPDX-License-Identifier: BSD-2-Clause */
/* sample.c - see sample.h. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "top/sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/ask.h"

const struct value_info value_info[VALUES] = {
#define LAYER(name, text) { "layer_" #name, text, KIND_LAYER },
#define GAUGE(name, text) { #name, text, KIND_GAUGE },
#define FOLDED(name, text) { #name, text, KIND_COUNTER },
#define STAT(name, text) { #name, text, KIND_COUNTER },
#include "base/stats.def"
};

const char *const sample_orders[ORDERS] = { "cached", "pcp", "refills", "flushes", "tid" };

/* The first line of a file of /proc, without control characters. */
static void read_name(const char *path, char *name, size_t room)
{
	FILE *f = fopen(path, "re");

	if (!f || !fgets(name, (int)room, f))
		snprintf(name, room, "?");
	if (f)
		fclose(f);
	name[strcspn(name, "\n")] = '\0';
	for (char *c = name; *c; c++)
		if ((unsigned char)*c < ' ' || (unsigned char)*c >= 0x7f)
			*c = '?';
}

static uint64_t read_rss(pid_t pid)
{
	char path[64];
	char line[256];
	unsigned long long kib = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "VmRSS: %llu", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib << 10;
}

static void parse_thread(struct sample *s, const char *line, pid_t pid)
{
	struct sample_thread *t = &s->thread[s->threads];
	unsigned long long v[4];
	char path[64];
	int tid;

	if (s->threads == SAMPLE_THREADS ||
	    sscanf(line, "%d %llu %llu %llu %llu", &tid, &v[0], &v[1], &v[2], &v[3]) != 5)
		return;
	*t = (struct sample_thread){
		.tid = tid, .cached = v[0], .pcp = v[1], .refills = v[2], .flushes = v[3]
	};
	snprintf(path, sizeof(path), "/proc/%d/task/%d/comm", (int)pid, tid);
	read_name(path, t->name, sizeof(t->name));
	s->threads++;
}

static void parse_value(struct sample *s, const char *name, const char *text)
{
	uint64_t v = strtoull(text, NULL, 10);

	if (strcmp(name, "time_ns") == 0)
		s->time_ns = v;
	for (unsigned i = 0; i < VALUES; i++)
		if (strcmp(name, value_info[i].name) == 0)
			s->value[i] = v;
}

void sample_parse(struct sample *s, char *text, pid_t pid)
{
	char *rest;
	char path[64];

	*s = (struct sample){ .rss = read_rss(pid) };
	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	read_name(path, s->program, sizeof(s->program));
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char *value = strchr(line, ' ');

		if (!value)
			continue;
		*value++ = '\0';
		if (strcmp(line, "thread") == 0)
			parse_thread(s, value, pid);
		else if (ask_is_pair(line, value))
			parse_value(s, line, value);
	}
}

static double per_second(const struct sample *now, const struct sample *before, uint64_t a,
			 uint64_t b)
{
	if (!before || now->time_ns <= before->time_ns || a <= b)
		return 0;
	return (double)(a - b) * 1e9 / (double)(now->time_ns - before->time_ns);
}

double sample_rate(const struct sample *now, const struct sample *before, enum value_id v)
{
	return per_second(now, before, now->value[v], before ? before->value[v] : 0);
}

double sample_thread_rate(const struct sample *now, const struct sample *before, unsigned i,
			  bool flushes)
{
	const struct sample_thread *t = &now->thread[i];

	for (unsigned k = 0; before && k < before->threads; k++) {
		const struct sample_thread *b = &before->thread[k];

		if (b->tid == t->tid)
			return per_second(now, before, flushes ? t->flushes : t->refills,
					  flushes ? b->flushes : b->refills);
	}
	return 0;
}

/* ---- order ----------------------------------------------------------------------------------- */

struct keyed {
	double key;
	struct sample_thread thread;
};

static int compare(const void *a, const void *b)
{
	const struct keyed *x = a;
	const struct keyed *y = b;

	if (x->key == y->key)
		return (x->thread.tid > y->thread.tid) - (x->thread.tid < y->thread.tid);
	return x->key < y->key ? 1 : -1;
}

void sample_sort(struct sample *s, const struct sample *before, enum sample_order order)
{
	static struct keyed all[SAMPLE_THREADS];

	for (unsigned i = 0; i < s->threads; i++) {
		const struct sample_thread *t = &s->thread[i];

		all[i].thread = *t;
		all[i].key = order == ORDER_CACHED    ? (double)(t->cached + t->pcp)
			     : order == ORDER_PCP     ? (double)t->pcp
			     : order == ORDER_REFILLS ? sample_thread_rate(s, before, i, false)
			     : order == ORDER_FLUSHES ? sample_thread_rate(s, before, i, true)
						      : -(double)t->tid;
	}
	qsort(all, s->threads, sizeof(all[0]), compare);
	for (unsigned i = 0; i < s->threads; i++)
		s->thread[i] = all[i].thread;
}

const char *sample_bytes(char *buf, uint64_t bytes)
{
	static const char units[] = "BKMGTP";
	double v = (double)bytes;
	unsigned u = 0;

	while (v >= 1000 && u < 5) {
		v /= 1024;
		u++;
	}
	snprintf(buf, BYTES_TEXT, u && v < 99.95 ? "%.1f%c" : "%.0f%c", v, units[u]);
	return buf;
}
