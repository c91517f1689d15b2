/* SPDX-License-Identifier: BSD-2-Clause */
/* output.c - see output.h. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "top/output.h"

#include <string.h>

#define SKIP_LAYER (sizeof("layer_") - 1)

/* ---- one line a second ----------------------------------------------------------------------- */

static const struct {
	const char *head;
	enum value_id value;
} rates[] = {
	{ "refill/s", V_bin_refills },  { "flush/s", V_bin_flushes }, { "drain/s", V_pcp_drains },
	{ "bypass/s", V_pcp_bypassed }, { "wait/s", V_lock_waits },   { "purge/s", V_purge_calls },
	{ "press", V_pressure_events },
};

void output_line(FILE *out, const struct sample *now, const struct sample *before, bool head)
{
	static const char *const names[] = { "rss",   "live", "cached", "pcp", "dirty",
					     "ready", "pin",  "kept",   "meta" };
	char text[BYTES_TEXT];

	if (head) {
		for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			fprintf(out, "%7s", names[i]);
		for (unsigned i = 0; i < sizeof(rates) / sizeof(rates[0]); i++)
			fprintf(out, " %8s", rates[i].head);
		fputc('\n', out);
	}
	fprintf(out, "%7s", sample_bytes(text, now->rss));
	for (unsigned i = 0; i < LAYERS; i++)
		fprintf(out, "%7s", sample_bytes(text, now->value[i]));
	for (unsigned i = 0; i < sizeof(rates) / sizeof(rates[0]); i++)
		fprintf(out, " %8.0f", sample_rate(now, before, rates[i].value));
	fputc('\n', out);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

/* Names of programs have no control characters (sample.c). */
static void put_string(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			fputc('\\', out);
		fputc(*text, out);
	}
	fputc('"', out);
}

void output_json(FILE *out, const struct sample *now, pid_t pid)
{
	fprintf(out, "{\"pid\": %d, \"program\": ", (int)pid);
	put_string(out, now->program);
	fprintf(out, ", \"time_ns\": %llu, \"rss_bytes\": %llu", (unsigned long long)now->time_ns,
		(unsigned long long)now->rss);
	for (unsigned i = 0; i < VALUES; i++)
		if (i != V_resident_bytes && i != V_untouched_bytes)
			fprintf(out, ", \"%s\": %llu", value_info[i].name,
				(unsigned long long)now->value[i]);
	fputs(", \"top_threads\": [", out);
	for (unsigned i = 0; i < now->threads; i++) {
		const struct sample_thread *t = &now->thread[i];

		fprintf(out, "%s{\"tid\": %d, \"name\": ", i ? ", " : "", (int)t->tid);
		put_string(out, t->name);
		fprintf(out,
			", \"cached_bytes\": %llu, \"pcp_bytes\": %llu, \"refills\": %llu, "
			"\"flushes\": %llu}",
			(unsigned long long)t->cached, (unsigned long long)t->pcp,
			(unsigned long long)t->refills, (unsigned long long)t->flushes);
	}
	fputs("]}\n", out);
}

/* ---- Prometheus ------------------------------------------------------------------------------ */

static void put_labels(FILE *out, const struct sample *now, pid_t pid, const char *layer)
{
	fprintf(out, "{pid=\"%d\",program=", (int)pid);
	put_string(out, now->program);
	if (layer)
		fprintf(out, ",layer=\"%s\"", layer);
	fputc('}', out);
}

static void put_metric(FILE *out, const struct sample *now, pid_t pid, unsigned i)
{
	bool counter = value_info[i].kind == KIND_COUNTER;
	const char *end = counter ? "_total" : "";

	fprintf(out, "# HELP sluice_%s%s %s\n# TYPE sluice_%s%s %s\nsluice_%s%s",
		value_info[i].name, end, value_info[i].text, value_info[i].name, end,
		counter ? "counter" : "gauge", value_info[i].name, end);
	put_labels(out, now, pid, NULL);
	fprintf(out, " %llu\n", (unsigned long long)now->value[i]);
}

void output_prometheus(FILE *out, const struct sample *now, pid_t pid)
{
	fputs("# HELP sluice_layer_bytes memory of the allocator by layer\n"
	      "# TYPE sluice_layer_bytes gauge\n",
	      out);
	for (unsigned i = 0; i < LAYERS; i++) {
		fputs("sluice_layer_bytes", out);
		put_labels(out, now, pid, value_info[i].name + SKIP_LAYER);
		fprintf(out, " %llu\n", (unsigned long long)now->value[i]);
	}
	fputs("# HELP sluice_rss_bytes resident memory of the process\n"
	      "# TYPE sluice_rss_bytes gauge\nsluice_rss_bytes",
	      out);
	put_labels(out, now, pid, NULL);
	fprintf(out, " %llu\n", (unsigned long long)now->rss);
	for (unsigned i = LAYERS; i < VALUES; i++)
		if (i != V_resident_bytes && i != V_untouched_bytes)
			put_metric(out, now, pid, i);
}

/* ---- gnuplot --------------------------------------------------------------------------------- */

void output_plot_begin(FILE *out, pid_t pid)
{
	fprintf(out,
		"# sluice-stat --plot %d | gnuplot -p\n"
		"# columns: seconds, RSS, then the layers from metadata up, each with those below\n"
		"$data << END\n",
		(int)pid);
}

void output_plot(FILE *out, const struct sample *now)
{
	static uint64_t began;
	uint64_t sum = 0;

	if (!began)
		began = now->time_ns;
	fprintf(out, "%.3f %.3f", (double)(now->time_ns - began) / 1e9,
		(double)now->rss / (1 << 20));
	for (unsigned i = LAYERS; i-- > 0;) {
		sum += now->value[i];
		fprintf(out, " %.3f", (double)sum / (1 << 20));
	}
	fputc('\n', out);
}

void output_plot_end(FILE *out, const struct sample *last, pid_t pid)
{
	fprintf(out,
		"END\n"
		"set title \"%s (%d)\" noenhanced\n"
		"set xlabel 's'\n"
		"set ylabel 'MiB'\n"
		"set yrange [0:*]\n"
		"set key outside right\n"
		"set style fill solid noborder\n"
		"plot ",
		strpbrk(last->program, "\"\\`") ? "program" : last->program, (int)pid);
	for (unsigned i = 0; i < LAYERS; i++)
		fprintf(out, "$data using 1:%u with filledcurves x1 title '%s', ", 2 + LAYERS - i,
			value_info[i].name + SKIP_LAYER);
	fputs("$data using 1:2 with lines lc 'black' lw 2 title 'RSS'\n", out);
}
