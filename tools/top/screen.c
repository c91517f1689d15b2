/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * screen.c - see screen.h. The view is built line by line in memory, so that it is the same on a
 * terminal and as text; a line knows its attribute and, for a layer, where its bar is.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "top/screen.h"

#include <ncurses.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <term.h>
#include <time.h>
#include <unistd.h>

#include "ctl/ask.h"

#define WIDTH_MAX 512
#define LINES_MAX 96u
#define NAME_COLUMN 34 /* where a bar begins */
#define STALE_NS UINT64_C(3000000000)

enum look { LOOK_PLAIN, LOOK_HEAD, LOOK_TITLE, LOOK_BAR, LOOK_WARN };

struct line {
	char text[WIDTH_MAX];
	enum look look;
	unsigned layer;
	int bar; /* columns */
};

struct view {
	struct line line[LINES_MAX];
	unsigned n;
	int width;
	unsigned height;
};

static __attribute__((format(printf, 3, 4))) void add(struct view *v, enum look look,
						      const char *fmt, ...)
{
	struct line *l = &v->line[v->n];
	va_list ap;

	if (v->n == LINES_MAX || v->n >= v->height)
		return;
	*l = (struct line){ .look = look };
	va_start(ap, fmt);
	vsnprintf(l->text, sizeof(l->text), fmt, ap);
	va_end(ap);
	if (v->width < WIDTH_MAX)
		l->text[v->width] = '\0';
	v->n++;
}

/* ---- what is in it --------------------------------------------------------------------------- */

static uint64_t monotonic_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static void add_head(struct view *v, const struct sample *now, const struct wish *w)
{
	time_t t = time(NULL);
	struct tm tm;
	char clock[16] = "";
	char rss[BYTES_TEXT];
	char sum[BYTES_TEXT];
	char clean[BYTES_TEXT];
	char holes[BYTES_TEXT];
	uint64_t age = monotonic_ns() - now->time_ns;

	if (localtime_r(&t, &tm))
		strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
	add(v, LOOK_TITLE, "sluice-top  %d %s  %llu %s, %llu %s  every %.1f s  %s", (int)w->pid,
	    now->program, (unsigned long long)now->value[V_threads],
	    now->value[V_threads] == 1 ? "thread" : "threads",
	    (unsigned long long)now->value[V_heaps], now->value[V_heaps] == 1 ? "heap" : "heaps",
	    w->delay, clock);
	add(v, LOOK_PLAIN, "RSS %s; Sluice %s with untouched; costs nothing: clean %s, holes %s",
	    sample_bytes(rss, now->rss), sample_bytes(sum, now->value[V_layer_sum]),
	    sample_bytes(clean, now->value[V_clean_bytes]),
	    sample_bytes(holes, now->value[V_hole_bytes]));
	if (now->time_ns && age < UINT64_MAX / 2 && age > STALE_NS)
		add(v, LOOK_WARN, "no new figures for %.0f s: is the process stopped?",
		    (double)age / 1e9);
	else
		add(v, LOOK_PLAIN, "%s", "");
}

static void add_layers(struct view *v, const struct sample *now)
{
	uint64_t sum = now->value[V_layer_sum] ? now->value[V_layer_sum] : 1;
	int room = v->width - NAME_COLUMN - 1;

	add(v, LOOK_HEAD, "%-12s %8s %6s", "LAYER", "BYTES", "SHARE");
	for (unsigned i = 0; i < LAYERS; i++) {
		double share = (double)now->value[i] / (double)sum;
		char text[BYTES_TEXT];
		unsigned at = v->n;

		add(v, LOOK_BAR, "%-12s %8s %5.1f%%", value_info[i].name + 6,
		    sample_bytes(text, now->value[i]), share * 100);
		if (at == v->n)
			return;
		v->line[at].layer = i;
		v->line[at].bar = room > 0 ? (int)(share * room + 0.5) : 0;
	}
}

struct rate {
	const char *name;
	enum value_id value;
	bool bytes;
};

static void put_rate(char *to, size_t room, const struct sample *now, const struct sample *before,
		     const struct rate *r)
{
	double rate = sample_rate(now, before, r->value);
	char text[BYTES_TEXT];
	char all[BYTES_TEXT];

	if (r->bytes)
		snprintf(to, room, "%-14s %7s/s %8s", r->name, sample_bytes(text, (uint64_t)rate),
			 sample_bytes(all, now->value[r->value]));
	else
		snprintf(to, room, "%-14s %7.0f/s %8llu", r->name, rate,
			 (unsigned long long)now->value[r->value]);
}

static void add_rates(struct view *v, const struct sample *now, const struct sample *before)
{
	static const struct rate rates[][2] = {
		{ { "bin refill", V_bin_refills, false }, { "purge", V_purge_calls, false } },
		{ { "bin flush", V_bin_flushes, false }, { "purged", V_purged_bytes, true } },
		{ { "pcp refill", V_pcp_refills, false },
		  { "pressure", V_pressure_events, false } },
		{ { "pcp spill", V_pcp_spills, false }, { "reclaim", V_pressure_reclaims, false } },
		{ { "pcp bypass", V_pcp_bypassed, false },
		  { "heaps drained", V_heaps_drained, false } },
		{ { "lock wait", V_lock_waits, false }, { "pcps drained", V_pcp_drains, false } },
	};

	add(v, LOOK_HEAD, "%-14s %9s %8s    %-14s %9s %8s", "EVENT", "RATE", "TOTAL", "EVENT",
	    "RATE", "TOTAL");
	for (unsigned i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		char left[80];
		char right[80];

		put_rate(left, sizeof(left), now, before, &rates[i][0]);
		put_rate(right, sizeof(right), now, before, &rates[i][1]);
		add(v, LOOK_PLAIN, "%s    %s", left, right);
	}
}

static void add_threads(struct view *v, const struct sample *now, const struct sample *before,
			const struct wish *w)
{
	add(v, LOOK_HEAD, "%8s %-16s %9s %9s %10s %10s   by %s", "TID", "THREAD", "CACHED", "PCP",
	    "REFILL/s", "FLUSH/s", sample_orders[w->order]);
	for (unsigned i = 0; i < now->threads; i++) {
		const struct sample_thread *t = &now->thread[i];
		char cached[BYTES_TEXT];
		char pcp[BYTES_TEXT];

		add(v, LOOK_PLAIN, "%8d %-16s %9s %9s %10.0f %10.0f", (int)t->tid, t->name,
		    sample_bytes(cached, t->cached), sample_bytes(pcp, t->pcp),
		    sample_thread_rate(now, before, i, false),
		    sample_thread_rate(now, before, i, true));
	}
}

static void build(struct view *v, const struct sample *now, const struct sample *before,
		  const struct wish *w)
{
	v->n = 0;
	add_head(v, now, w);
	add_layers(v, now);
	add_rates(v, now, before);
	add_threads(v, now, before, w);
}

void screen_once(const struct sample *now, const struct sample *before, struct wish *w)
{
	static struct view v;

	v.width = 79;
	v.height = LINES_MAX;
	build(&v, now, before, w);
	for (unsigned i = 0; i < v.n; i++) {
		printf("%s", v.line[i].text);
		if (v.line[i].bar)
			printf("%*s", NAME_COLUMN - (int)strlen(v.line[i].text), "");
		for (int k = 0; k < v.line[i].bar; k++)
			putchar('#');
		putchar('\n');
	}
}

/* ---- the terminal ---------------------------------------------------------------------------- */

static const char *const help[] = {
	"Keys:",
	"  q        quit",
	"  h or ?   this text; any key ends it",
	"  s        sort threads by the next column",
	"  d        change the delay",
	"  p        pause",
	"  c        colours",
	"  space    show new figures now",
	"",
	"Layers add up to the memory that Sluice costs:",
	"  live        what the program has, with what size classes and pages add",
	"  cached      free blocks in caches of threads",
	"  pcp         free pages in caches of threads",
	"  dirty       free pages that were written and are not given back yet",
	"  prefaulted  free pages of the reserve",
	"  pinned      free memory in slabs that have live objects",
	"  mapcache    mappings of freed huge blocks",
	"  metadata    structures of the library",
	"Live memory that was never touched counts here and not in RSS.",
};

static const short colours[] = { COLOR_GREEN, COLOR_CYAN,    COLOR_BLUE, COLOR_RED,
				 COLOR_WHITE, COLOR_MAGENTA, COLOR_BLUE, COLOR_YELLOW };
#define PAIR_WARN 20

static _Noreturn void die_of_terminal(void)
{
	struct winsize size = { 0 };
	int known;

	if (setupterm(NULL, STDOUT_FILENO, &known) != OK)
		die(EXIT_USAGE,
		    "TERM is '%s', which ncurses does not know, use --once, --json or "
		    "sluice-stat",
		    getenv("TERM"));
	ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
	die(EXIT_USAGE,
	    "a terminal of %u columns and %u lines is too small or too large, use --once, "
	    "--json or sluice-stat",
	    size.ws_col, size.ws_row);
}

static void start_terminal(const struct wish *w)
{
	/* Not initscr(), which prints a line of its own if it fails. */
	if (!newterm(NULL, stdout, stdin))
		die_of_terminal();
	def_prog_mode();
	cbreak();
	noecho();
	keypad(stdscr, TRUE);
	curs_set(0);
	if (w->plain || !has_colors())
		return;
	start_color();
	use_default_colors();
	for (unsigned i = 0; i < LAYERS; i++)
		init_pair((short)(i + 1), COLOR_BLACK, colours[i % 8]);
	init_pair(PAIR_WARN, COLOR_RED, -1);
}

static int attribute_of(const struct line *l, bool coloured)
{
	switch (l->look) {
	case LOOK_TITLE:
		return A_BOLD;
	case LOOK_HEAD:
		return A_REVERSE;
	case LOOK_WARN:
		return coloured ? COLOR_PAIR(PAIR_WARN) | A_BOLD : A_BOLD;
	default:
		return A_NORMAL;
	}
}

static void draw_bar(int row, const struct line *l, bool coloured)
{
	for (int k = 0; k < l->bar; k++) {
		if (coloured)
			mvaddch(row, NAME_COLUMN + k,
				(chtype)' ' | (chtype)COLOR_PAIR((int)l->layer + 1));
		else
			mvaddch(row, NAME_COLUMN + k, '#');
	}
}

static void draw(const struct view *v, const struct wish *w, bool paused)
{
	bool coloured = !w->plain && has_colors();

	erase();
	for (unsigned i = 0; i < v->n && (int)i < LINES - 1; i++) {
		int attribute = attribute_of(&v->line[i], coloured);

		attron(attribute);
		mvprintw((int)i, 0, v->line[i].look == LOOK_HEAD ? "%-*s" : "%.*s",
			 v->line[i].look == LOOK_HEAD ? v->width : WIDTH_MAX, v->line[i].text);
		attroff(attribute);
		draw_bar((int)i, &v->line[i], coloured);
	}
	attron(A_DIM);
	mvprintw(LINES - 1, 0, "%.*s", COLS - 1,
		 paused ? "paused: p goes on, q quits"
			: "q quit  h help  s sort  d delay  p pause  c colours");
	attroff(A_DIM);
	refresh();
}

static void show_help(void)
{
	erase();
	for (int i = 0; i < (int)(sizeof(help) / sizeof(help[0])) && i < LINES; i++)
		mvprintw(i, 0, "%.*s", COLS - 1, help[i]);
	refresh();
	timeout(-1);
	getch();
}

static void ask_delay(struct wish *w)
{
	char text[16] = "";
	char *end;
	double v;

	timeout(-1);
	echo();
	curs_set(1);
	move(LINES - 1, 0);
	clrtoeol();
	mvprintw(LINES - 1, 0, "%.*s", COLS - 1, "seconds between samples (0.1 to 3600): ");
	getnstr(text, sizeof(text) - 1);
	noecho();
	curs_set(0);
	v = strtod(text, &end);
	if (end != text && !*end && v >= 0.1 && v <= 3600)
		w->delay = v;
	else if (*text)
		beep();
}

enum act { ACT_DRAW, ACT_READ, ACT_QUIT };

static enum act key(int c, struct wish *w, bool *paused)
{
	switch (c) {
	case 'q':
	case 'Q':
		return ACT_QUIT;
	case 'h':
	case '?':
		show_help();
		return ACT_DRAW;
	case 's':
		w->order = (enum sample_order)((w->order + 1) % ORDERS);
		return ACT_DRAW;
	case 'd':
		ask_delay(w);
		return ACT_DRAW;
	case 'p':
		*paused = !*paused;
		return ACT_DRAW;
	case 'c':
		w->plain = !w->plain;
		return ACT_DRAW;
	case ' ':
		return ACT_READ;
	default: /* a resize */
		return ACT_DRAW;
	}
}

/* Handles keys until the next sample is due. */
static enum act wait_keys(struct wish *w, struct sample *now, const struct sample *before,
			  bool *paused)
{
	static struct view v;
	uint64_t end = monotonic_ns() + (uint64_t)(w->delay * 1e9);

	for (;;) {
		uint64_t at = monotonic_ns();
		enum act act;
		int c;

		sample_sort(now, before, w->order);
		v.width = COLS < WIDTH_MAX ? COLS : WIDTH_MAX - 1;
		v.height = LINES > 1 ? (unsigned)LINES - 1 : 0;
		build(&v, now, before, w);
		draw(&v, w, *paused);
		if (at >= end && !*paused)
			return ACT_READ;
		timeout(*paused ? -1 : (int)((end - at) / 1000000) + 1);
		c = getch();
		if (c == ERR && !*paused)
			return ACT_READ;
		if (c == ERR)
			return ACT_QUIT; /* the terminal is gone */
		act = key(c, w, paused);
		if (act != ACT_DRAW)
			return act;
	}
}

/* While the process cannot be read: other keys are dropped. */
static bool wait_for_quit(unsigned ms)
{
	uint64_t end = monotonic_ns() + (uint64_t)ms * 1000000;
	uint64_t at;

	while ((at = monotonic_ns()) < end) {
		int c;

		timeout((int)((end - at) / 1000000) + 1);
		c = getch();
		if (c == 'q' || c == 'Q')
			return true;
	}
	return false;
}

int screen_run(struct wish *w, struct source *s, bool *ended)
{
	static struct sample sample[2];
	char why[ASK_WHY] = "";
	bool paused = false;

	start_terminal(w);
	source_wait = wait_for_quit;
	for (unsigned long n = 0; !w->count || n < w->count; n++) {
		char *text = source_read(s, why);

		if (!text) {
			*ended = n && source_has_ended(s);
			break;
		}
		sample_parse(&sample[n % 2], text, w->pid);
		why[0] = '\0';
		if (wait_keys(w, &sample[n % 2], n ? &sample[(n + 1) % 2] : NULL, &paused) ==
		    ACT_QUIT)
			break;
	}
	endwin();
	if (why[0] && !*ended)
		die(EXIT_UNREAD, "%s", why);
	return 0;
}
