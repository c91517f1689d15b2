/* SPDX-License-Identifier: BSD-2-Clause */
/* wish.c - see wish.h. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "top/wish.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ctl/ask.h"
#include "top/output.h"

#define LISTED 16u
#define HEAD_EVERY 20u
#define PLOT_COUNT 60u
#define PATH_BYTES (PATH_MAX + sizeof(".XXXXXX"))

const char *wish_me;

static const char common[] =
	"  -d, --delay SECONDS  time between samples, 0.1 to 3600 (default 1)\n"
	"  -n, --count N        end after N samples\n"
	"  --json               one JSON object for each sample\n"
	"  --prometheus         the text format of Prometheus, once\n"
	"  --plot               a script for gnuplot with its data, after -n samples (default 60)\n"
	"  -o, --output FILE    write there; with --prometheus the file is replaced as a whole\n"
	"  -h, --help           print this text\n"
	"  --version            print the version\n";

void (*wish_once)(const struct sample *now, const struct sample *before, struct wish *w);

void die(int status, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s: ", wish_me);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(status);
}

static void flush_output(const char *file, FILE *out)
{
	if (fflush(out) != 0 || ferror(out))
		die(EXIT_UNREAD, "%s: %s", file ? file : "standard output", strerror(errno));
}

/* ---- arguments ------------------------------------------------------------------------------- */

static double parse_delay(const char *text)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || *end || !isfinite(v) || v < 0.1 || v > 3600)
		die(EXIT_USAGE, "'%s' is not a delay, use 0.1 to 3600 seconds", text);
	return v;
}

static unsigned long parse_count(const char *text)
{
	char *end;
	unsigned long v;

	errno = 0;
	v = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || v == 0 || v > 1000000000)
		die(EXIT_USAGE, "'%s' is not a number of samples, use 1 to 1000000000", text);
	return v;
}

static enum sample_order parse_order(const char *text)
{
	for (unsigned i = 0; i < ORDERS; i++)
		if (strcmp(text, sample_orders[i]) == 0)
			return (enum sample_order)i;
	die(EXIT_USAGE, "'%s' is not an order, use cached, pcp, refills, flushes or tid", text);
}

/* The only process that can be looked at, if none is named. */
static pid_t find_process(void)
{
	pid_t pids[LISTED];
	unsigned n = source_list(pids, LISTED);
	char list[LISTED * 12] = "";
	size_t len = 0;

	if (n == 1)
		return pids[0];
	if (n == 0)
		die(EXIT_USAGE, "no process found, start one with SLUICE_CONF=export:1 or "
				"control:1 (with one thread: and background:always)");
	for (unsigned i = 0; i < n; i++)
		len += (size_t)snprintf(list + len, sizeof(list) - len, " %d", (int)pids[i]);
	die(EXIT_USAGE, "there are several processes, name one of%s", list);
}

/* sluice-stat has all but the first ones. */
#define OF_SCREEN 3
static const char letters[] = ":d:n:o:h";
static const char letters_of_screen[] = ":d:n:o:hs:";
enum { OPT_JSON = 256, OPT_PROMETHEUS, OPT_PLOT, OPT_ONCE, OPT_PLAIN, OPT_VERSION };
static const struct option longs[] = {
	{ "sort", required_argument, NULL, 's' },
	{ "once", no_argument, NULL, OPT_ONCE },
	{ "no-colour", no_argument, NULL, OPT_PLAIN },
	{ "delay", required_argument, NULL, 'd' },
	{ "count", required_argument, NULL, 'n' },
	{ "output", required_argument, NULL, 'o' },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "prometheus", no_argument, NULL, OPT_PROMETHEUS },
	{ "plot", no_argument, NULL, OPT_PLOT },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ NULL, 0, NULL, 0 },
};

static void bad_option(int opt, char **argv)
{
	const char *word = argv[optind - 1];

	if (opt == ':')
		die(EXIT_USAGE, "'%s' needs a value (--help shows the usage)", word);
	if (optopt > 0 && optopt < OPT_JSON)
		die(EXIT_USAGE, "'-%c' is not an option (--help lists them)", optopt);
	die(EXIT_USAGE, "'%s' is not an option (--help lists them)", word);
}

static void set_form(struct wish *w, enum form form)
{
	if (w->chosen && w->form != form)
		die(EXIT_USAGE, "use one of --json, --prometheus, --plot%s",
		    wish_once ? " and --once" : "");
	w->chosen = true;
	w->form = form;
}

static void apply(struct wish *w, int opt, const char *usage)
{
	switch (opt) {
	case 'd':
		w->delay = parse_delay(optarg);
		break;
	case 'n':
		w->count = parse_count(optarg);
		break;
	case 'o':
		if (!*optarg)
			die(EXIT_USAGE, "'' is not a file");
		w->file = optarg;
		break;
	case 's':
		w->order = parse_order(optarg);
		break;
	case OPT_JSON:
		set_form(w, FORM_JSON);
		break;
	case OPT_PROMETHEUS:
		set_form(w, FORM_PROMETHEUS);
		break;
	case OPT_PLOT:
		set_form(w, FORM_PLOT);
		break;
	case OPT_ONCE:
		set_form(w, FORM_ONCE);
		break;
	case OPT_PLAIN:
		w->plain = true;
		break;
	default:
		if (opt == 'h')
			printf("%s%s", usage, common);
		else
			printf("%s " PACKAGE_VERSION "\n", wish_me);
		flush_output(NULL, stdout);
		exit(0);
	}
}

void wish_parse(struct wish *w, int argc, char **argv, enum form form, const char *usage)
{
	bool screen = form == FORM_SCREEN;
	const char *known = screen ? letters_of_screen : letters;
	const struct option *known_longs = screen ? longs : longs + OF_SCREEN;
	int opt;

	*w = (struct wish){ .form = form, .delay = 1 };
	opterr = 0;
	while ((opt = getopt_long(argc, argv, known, known_longs, NULL)) != -1) {
		if (opt == ':' || opt == '?')
			bad_option(opt, argv);
		apply(w, opt, usage);
	}
	if (w->file && (w->form == FORM_SCREEN || w->form == FORM_ONCE))
		die(EXIT_USAGE, "--output needs --json, --prometheus or --plot");
	if (optind + 1 < argc)
		die(EXIT_USAGE, "'%s' is one argument too many (--help shows the usage)",
		    argv[optind + 1]);
	if (optind == argc) {
		w->pid = find_process();
		return;
	}
	w->pid = ask_pid(argv[optind]);
	if (!w->pid)
		die(EXIT_USAGE, "'%s' is not a process ID, use a number from 1 on", argv[optind]);
}

/* ---- output ---------------------------------------------------------------------------------- */

void wish_sleep(double seconds)
{
	struct timespec t = { .tv_sec = (time_t)seconds };

	t.tv_nsec = (long)((seconds - (double)t.tv_sec) * 1e9);
	nanosleep(&t, NULL);
}

static char temporary[PATH_BYTES]; /* a file that is to replace another; empty if none */

static void remove_temporary(void)
{
	if (*temporary)
		unlink(temporary);
}

/* A reader of metrics sees each sample whole: a new file replaces the one before. Not a device or a
 * pipe, which is written itself. */
static bool is_replaced(const struct wish *w)
{
	struct stat st;

	return w->form == FORM_PROMETHEUS && (stat(w->file, &st) != 0 || S_ISREG(st.st_mode));
}

/* A name that nothing has, beside the file, or beside what a link leads to. */
static int open_temporary(const struct wish *w)
{
	static bool known;
	char place[PATH_MAX];
	mode_t mask = umask(0);
	int fd;

	umask(mask);
	if (!known)
		atexit(remove_temporary);
	known = true;
	if (!realpath(w->file, place))
		snprintf(place, sizeof(place), "%s", w->file);
	if (snprintf(temporary, sizeof(temporary), "%s.XXXXXX", place) >= (int)sizeof(temporary)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	fd = mkostemp(temporary, O_CLOEXEC);
	if (fd < 0)
		*temporary = '\0';
	else
		fchmod(fd, 0666 & ~mask);
	return fd;
}

static FILE *open_output(const struct wish *w)
{
	FILE *out;
	int fd;

	if (!w->file)
		return stdout;
	fd = is_replaced(w)
		     ? open_temporary(w)
		     : open(w->file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
	out = fd < 0 ? NULL : fdopen(fd, "w");
	if (!out)
		die(EXIT_UNREAD, "%s: %s", w->file, strerror(errno));
	return out;
}

static void close_output(const struct wish *w, FILE *out)
{
	char place[PATH_MAX];

	flush_output(w->file, out);
	if (out == stdout)
		return;
	if (fclose(out) != 0 ||
	    (*temporary && rename(temporary, realpath(w->file, place) ? place : w->file) != 0))
		die(EXIT_UNREAD, "%s: %s", w->file, strerror(errno));
	*temporary = '\0';
}

static void print_one(const struct wish *w, FILE *out, struct sample *now,
		      const struct sample *before, unsigned long n)
{
	struct wish copy = *w;

	switch (w->form) {
	case FORM_JSON:
		output_json(out, now, w->pid);
		break;
	case FORM_PROMETHEUS:
		output_prometheus(out, now, w->pid);
		break;
	case FORM_PLOT:
		output_plot(out, now);
		break;
	case FORM_ONCE:
		sample_sort(now, before, w->order);
		wish_once(now, before, &copy);
		break;
	default:
		output_line(out, now, before, n % HEAD_EVERY == 0);
		break;
	}
	flush_output(w->file, out);
}

/* How many samples; 0: no end. */
static unsigned long samples_of(const struct wish *w)
{
	if (w->count)
		return w->count;
	if (w->form == FORM_PLOT)
		return PLOT_COUNT;
	return w->form == FORM_PROMETHEUS || w->form == FORM_ONCE ||
			       (w->form == FORM_JSON && w->file)
		       ? 1
		       : 0;
}

int wish_print(const struct wish *w, struct source *s)
{
	static struct sample sample[2];
	unsigned long count = samples_of(w);
	FILE *out = open_output(w);
	char why[ASK_WHY];
	unsigned long n;
	bool lost = false;

	if (w->form == FORM_PLOT)
		output_plot_begin(out, w->pid);
	for (n = 0; !count || n < count; n++) {
		char *text;

		if (n)
			wish_sleep(w->delay);
		if (n && w->form == FORM_PROMETHEUS && w->file)
			out = open_output(w);
		text = source_read(s, why);
		lost = !text;
		if (lost)
			break;
		sample_parse(&sample[n % 2], text, w->pid);
		print_one(w, out, &sample[n % 2], n ? &sample[(n + 1) % 2] : NULL, n);
		if (w->form == FORM_PROMETHEUS && w->file)
			close_output(w, out);
	}
	if (lost && !n)
		die(EXIT_UNREAD, "%s", why);
	if (w->form == FORM_PLOT)
		output_plot_end(out, &sample[(n + 1) % 2], w->pid);
	if (w->form != FORM_PROMETHEUS || !w->file)
		close_output(w, out);
	if (lost && !source_has_ended(s))
		die(EXIT_UNREAD, "%s", why);
	return 0;
}
