/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stats_print.c - malloc_stats_print of jemalloc: the table of mallctl as text, or as JSON in the
 * shape that jemalloc gives it. Uses mallctl_rows; used by the program.
 *
 * The JSON follows from the names: a part is an object, an index an array. Two things are as in
 * jemalloc and not as in the names: what is below stats.arenas is an object of its own, and uptime
 * is called uptime_ns.
 * Allocates nothing; no lock.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <string.h>

#include "base/export.h"
#include "base/log.h"
#include "shim/jemalloc.h"
#include "shim/mallctl.h"

struct out {
	bool first;      /* of the members of an object */
	bool skips[128]; /* by letter */
	struct log_text text;
};

#define put(o, ...) log_text_add(&(o)->text, __VA_ARGS__)

static void put_value(struct out *o, const struct ctl_row *row, const struct ctl_at *at,
		      const char *quote)
{
	uint64_t v = row->get(at);

	if (row->type == CTL_STRING)
		put(o, "%s%s%s", quote, (const char *)(uintptr_t)v, quote);
	else if (row->type == CTL_BOOL)
		put(o, v ? "true" : "false");
	else if ((row->type == CTL_SSIZE || row->type == CTL_S64) && (int64_t)v < 0)
		put(o, "-%lu", (unsigned long)(0 - v));
	else
		put(o, "%lu", (unsigned long)v);
}

/* ---- JSON --------------------------------------------------------------------------------- */

static void put_key(struct out *o, const char *key, size_t len)
{
	char name[64];

	len = min_size(len, sizeof(name) - 1);
	memcpy(name, key, len);
	name[len] = '\0';
	put(o, o->first ? "\"%s%s\":" : ",\"%s%s\":", name,
	    strcmp(name, "uptime") == 0 ? "_ns" : "");
	o->first = false;
}

static bool is_left_out(const struct out *o, const char *part, size_t len)
{
	static const struct {
		char letter;
		const char *part;
	} parts[] = { { 'b', "bins" }, { 'l', "lextents" }, { 'x', "mutexes" } };

	for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (strlen(parts[i].part) == len && memcmp(part, parts[i].part, len) == 0)
			return o->skips[(unsigned char)parts[i].letter];
	return false;
}

static void put_rows(struct out *o, unsigned row, unsigned end, unsigned depth, struct ctl_at *at,
		     unsigned indices);

/* The rows of an index, as an array of objects. */
static void put_array(struct out *o, unsigned row, unsigned end, unsigned depth, struct ctl_at *at,
		      unsigned indices)
{
	size_t len;
	const char *part = ctl_part(ctl_rows[row].name, depth - 1, &len);
	size_t count = ctl_index_count(part, len);

	put(o, "[");
	for (size_t i = 0; i < count; i++) {
		at->index[indices] = i;
		put(o, i ? ",{" : "{");
		o->first = true;
		put_rows(o, row, end, depth + 1, at, indices + 1);
		put(o, "}");
	}
	put(o, "]");
	o->first = false;
}

/* The members that part `depth` of the names has. */
static void put_rows(struct out *o, unsigned row, unsigned end, unsigned depth, struct ctl_at *at,
		     unsigned indices)
{
	unsigned next;

	for (; row < end; row = next) {
		size_t len;
		size_t below_len;
		const char *part = ctl_part(ctl_rows[row].name, depth, &len);
		const char *below = ctl_part(ctl_rows[row].name, depth + 1, &below_len);

		next = ctl_rows_end(row, depth + 1);
		if (is_left_out(o, part, len) ||
		    (!below && (!ctl_rows[row].get || ctl_rows[row].creates)) ||
		    (depth == 1 && strncmp(ctl_rows[row].name, "stats.arenas.", 13) == 0))
			continue;
		put_key(o, part, len);
		if (!below) {
			put_value(o, &ctl_rows[row], at, "\"");
		} else if (*below == '%') {
			put_array(o, row, next, depth + 1, at, indices);
		} else {
			put(o, "{");
			o->first = true;
			put_rows(o, row, next, depth + 1, at, indices);
			put(o, "}");
			o->first = false;
		}
	}
}

static unsigned row_of(const char *name)
{
	unsigned row = 0;

	while (row < ctl_rows_count && strncmp(ctl_rows[row].name, name, strlen(name)) != 0)
		row++;
	return row;
}

/* All names that begin with prefix, which has depth parts, as an object. arena: the index in it. */
static void put_object(struct out *o, const char *key, const char *prefix, unsigned depth,
		       size_t arena)
{
	struct ctl_at at = { { arena, 0 } };
	unsigned row = row_of(prefix);

	put_key(o, key, strlen(key));
	put(o, "{");
	o->first = true;
	put_rows(o, row, ctl_rows_end(row, depth), depth, &at, strchr(prefix, '%') != NULL);
	put(o, "}");
	o->first = false;
}

static void print_json(struct out *o)
{
	o->first = true;
	put(o, "{\"jemalloc\":{");
	put_key(o, "version", 7);
	put(o, "\"%s\"", JEMALLOC_VERSION);
	if (!o->skips['g']) {
		put_object(o, "config", "config.", 1, 0);
		put_object(o, "opt", "opt.", 1, 0);
		put_object(o, "arenas", "arenas.", 1, 0);
	}
	put_object(o, "stats", "stats.", 1, 0);
	put_key(o, "stats.arenas", 12);
	put(o, "{");
	o->first = true;
	if (!o->skips['m'])
		put_object(o, "merged", "stats.arenas.%.", 3, MALLCTL_ARENAS_ALL);
	if (!o->skips['a'])
		put_object(o, "0", "stats.arenas.%.", 3, 0);
	put(o, "}}}\n");
}

/* ---- text --------------------------------------------------------------------------------- */

static uint64_t value_of(const char *name)
{
	struct ctl_at at = { { 0, 0 } };

	return ctl_rows[row_of(name)].get(&at);
}

/* The arena is 0. */
static void put_name(struct out *o, const char *name)
{
	char text[LOG_PIECE];

	log_format(text, sizeof(text), "%s", name);
	for (char *c = text; *c; c++)
		if (*c == '%')
			*c = '0';
	put(o, "%s", text);
}

/* One line for each name without an index in it but that of the arena. */
static void print_names(struct out *o, const char *prefix)
{
	struct ctl_at at = { { 0, 0 } };

	for (unsigned row = row_of(prefix); row < ctl_rows_count; row++) {
		const char *name = ctl_rows[row].name;
		const char *index = strchr(name, '%');

		if (strncmp(name, prefix, strlen(prefix)) != 0)
			break;
		if (!ctl_rows[row].get || ctl_rows[row].creates ||
		    (index && strchr(index + 1, '%')) || strncmp(name, "arenas.bin.", 11) == 0 ||
		    strncmp(name, "arenas.lextent.", 15) == 0 ||
		    (o->skips['x'] && strstr(name, ".mutexes.")))
			continue;
		put(o, "  ");
		put_name(o, name);
		put(o, ": ");
		put_value(o, &ctl_rows[row], &at, "\"");
		put(o, "\n");
	}
}

static void print_bins(struct out *o)
{
	put(o, "bins: size, live objects, slabs\n");
	for (size_t i = 0; i < CLASSES; i++) {
		struct ctl_at bin = { { i, 0 } };
		struct ctl_at live = { { 0, i } };
		uint64_t slabs = ctl_rows[row_of("stats.arenas.%.bins.%.curslabs")].get(&live);

		if (slabs)
			put(o, "  %lu %lu %lu\n",
			    (unsigned long)ctl_rows[row_of("arenas.bin.%.size")].get(&bin),
			    (unsigned long)ctl_rows[row_of("stats.arenas.%.bins.%.curregs")].get(
				    &live),
			    (unsigned long)slabs);
	}
}

static void print_text(struct out *o)
{
	put(o, "___ Begin jemalloc statistics ___\n");
	put(o, "Version: \"%s\"\n", JEMALLOC_VERSION);
	if (!o->skips['g']) {
		print_names(o, "config.");
		print_names(o, "opt.");
		print_names(o, "arenas.");
	}
	put(o, "Allocated: %lu, active: %lu, metadata: %lu (n_thp 0), ",
	    (unsigned long)value_of("stats.allocated"), (unsigned long)value_of("stats.active"),
	    (unsigned long)value_of("stats.metadata"));
	put(o, "resident: %lu, mapped: %lu, retained: %lu\n",
	    (unsigned long)value_of("stats.resident"), (unsigned long)value_of("stats.mapped"),
	    (unsigned long)value_of("stats.retained"));
	if (!o->skips['m'] || !o->skips['a'])
		print_names(o, "stats.arenas.");
	if (!o->skips['b'])
		print_bins(o);
	put(o, "--- End jemalloc statistics ---\n");
}

void stats_print(void (*write)(void *arg, const char *text), void *arg, const char *opts)
{
	struct out o;

	memset(&o, 0, sizeof(o));
	o.text.write = write;
	o.text.arg = arg;
	for (; opts && *opts; opts++)
		o.skips[*opts & 127] = true;
	ctl_refresh();
	if (o.skips['J'])
		print_json(&o);
	else
		print_text(&o);
	log_text_flush(&o.text);
}

EXPORT void malloc_stats_print(void (*write)(void *arg, const char *text), void *arg,
			       const char *opts)
{
	stats_print(write, arg, opts);
}

SAME(void, je_malloc_stats_print, malloc_stats_print, void (*)(void *arg, const char *text), void *,
     const char *);
