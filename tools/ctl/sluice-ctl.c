/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sluice-ctl: ask a running process that uses Sluice to give memory back, for its statistics, or to
 * change an option. See sluice-ctl(1); src/reclaim/control.h has the protocol.
 *
 * Uses libc only. Exit status: 0; 1 if the process could not be asked or refused; 2 for bad
 * arguments.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sluice/sluice.h>

#include "ctl/ask.h"
#include "reclaim/control.h"

#define ME "sluice-ctl"
#define ANSWER_SECONDS 30

enum { EXIT_REFUSED = 1, EXIT_USAGE = 2 };

static const char usage[] =
	"Usage: " ME " [--json] drain [--caches] [--heaps] [--all] [--purge] [--regions]\n"
	"                              PID\n"
	"       " ME " [--json] purge|stats PID\n"
	"       " ME " get NAME PID\n"
	"       " ME " set NAME VALUE PID\n"
	"       " ME " top PID\n"
	"       " ME " profile [start|stop] PID\n"
	"       " ME " profile dump FILE [--format heap_v2|pprof|folded] PID\n"
	"\n"
	"Asks the process PID, which uses Sluice as its malloc with the option control:1:\n"
	"\n"
	"  drain        give memory back now; prints how much. Without options: --heaps --purge\n"
	"    --caches     flush the pcps (page lists) of all threads to the page layer\n"
	"    --heaps      the same, and all caches of threads that are in no call of Sluice\n"
	"    --all        with --heaps: also the working sets of threads at work\n"
	"    --purge      give free memory back to the kernel\n"
	"    --regions    unmap regions that are wholly free\n"
	"  purge        give free memory back to the kernel: drain --purge\n"
	"  stats        print gauges (bytes, counts) and counters, one \"NAME VALUE\" per line\n"
	"  get          print an option's value\n"
	"  set          change an option, one that sluice.conf(5) says may change at any time\n"
	"  top          show the process's memory as it changes: sluice-top(1)\n"
	"  profile      let the process write its heap profile (option prof); the option\n"
	"               prof_prefix says where\n"
	"    start|stop   note new objects from now on, or no more; those known stay\n"
	"    dump FILE    write the profile to a file, which the process opens itself\n"
	"    --format     in jemalloc's form (heap_v2), or converted by sluice-prof(1)\n"
	"\n"
	"  --json       print one JSON object\n"
	"  -h, --help   print this text\n"
	"  --version    print the version\n"
	"\n"
	"Only root and the user of the process may ask. The process answers by its background\n"
	"thread; it has one if it has several threads or the option background:always.\n"
	"\n"
	"Exit status: 0; 1 if the process could not be asked or refused; 2 for bad arguments.\n";

static _Noreturn __attribute__((format(printf, 2, 3))) void die(int status, const char *fmt, ...)
{
	va_list ap;

	fputs(ME ": ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(status);
}

static void flush_output(void)
{
	if (fflush(stdout) != 0 || ferror(stdout))
		die(EXIT_REFUSED, "standard output: %s", strerror(errno));
}

static void print_json(char *lines)
{
	const char *comma = "";

	putchar('{');
	for (char *line = strtok(lines, "\n"); line; line = strtok(NULL, "\n")) {
		char *value = strchr(line, ' ');

		if (!value)
			continue;
		*value++ = '\0';
		if (!ask_is_pair(line, value))
			continue;
		printf("%s\n  \"%s\": %s", comma, line, value);
		comma = ",";
	}
	puts("\n}");
}

/* ---- arguments ------------------------------------------------------------------------------- */

#define WORDS_MAX 4u

struct wish {
	bool json;
	bool help;
	bool version;
	unsigned flags;
	const char *format;
	char *word[WORDS_MAX]; /* command, its arguments, process ID */
	unsigned words;
	char dump[CONTROL_REQUEST_MAX - sizeof("profile dump ")]; /* what the process writes */
};

enum { OPT_JSON = 256, OPT_VERSION, OPT_FORMAT, OPT_FLAG };

static const char *format_of(const char *text)
{
	if (strcmp(text, "heap_v2") != 0 && strcmp(text, "pprof") != 0 &&
	    strcmp(text, "folded") != 0)
		die(EXIT_USAGE, "'%s' is not a format, use heap_v2, pprof or folded", text);
	return text;
}

static void parse(int argc, char **argv, struct wish *w)
{
	static const struct option longs[] = {
		{ "json", no_argument, NULL, OPT_JSON },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, OPT_VERSION },
		{ "format", required_argument, NULL, OPT_FORMAT },
		{ "caches", no_argument, NULL, OPT_FLAG + SLUICE_DRAIN_CACHES },
		{ "heaps", no_argument, NULL, OPT_FLAG + SLUICE_DRAIN_IDLE },
		{ "all", no_argument, NULL, OPT_FLAG + SLUICE_DRAIN_ALL },
		{ "purge", no_argument, NULL, OPT_FLAG + SLUICE_DRAIN_PURGE },
		{ "regions", no_argument, NULL, OPT_FLAG + SLUICE_DRAIN_REGIONS },
		{ NULL, 0, NULL, 0 },
	};
	int opt;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":h", longs, NULL)) != -1) {
		switch (opt) {
		case OPT_JSON:
			w->json = true;
			break;
		case 'h':
			w->help = true;
			break;
		case OPT_VERSION:
			w->version = true;
			break;
		case OPT_FORMAT:
			w->format = format_of(optarg);
			break;
		case ':':
			die(EXIT_USAGE, "'%s' needs a value (--help shows the usage)",
			    argv[optind - 1]);
		case '?':
			/* A short option may be one of several in a word. */
			if (optopt > 0 && optopt < OPT_JSON)
				die(EXIT_USAGE, "'-%c' is not an option (--help lists them)",
				    optopt);
			die(EXIT_USAGE, "'%s' is not an option (--help lists them)",
			    argv[optind - 1]);
		default:
			w->flags |= (unsigned)(opt - OPT_FLAG);
			break;
		}
	}
	for (; optind < argc; optind++) {
		if (w->words == WORDS_MAX)
			die(EXIT_USAGE, "'%s' is one argument too many (--help shows the usage)",
			    argv[optind]);
		w->word[w->words++] = argv[optind];
	}
}

/* ---- commands ------------------------------------------------------------------------------- */

static const struct command {
	const char *name;
	unsigned words; /* with its name, without the process ID */
	const char *args;
} commands[] = {
	{ "drain", 1, "" },    { "purge", 1, "" },          { "stats", 1, "" },
	{ "get", 2, "NAME " }, { "set", 3, "NAME VALUE " }, { "top", 1, "" },
	{ "profile", 1, "" },
};
#define COMMANDS "drain, purge, stats, get, set, top or profile"

/* The second word of profile, if it is not the process ID. */
static const struct command profiles[] = {
	{ "start", 2, "" },
	{ "stop", 2, "" },
	{ "dump", 3, "a file " },
};

static const struct command *profile_of(const struct wish *w, const struct command *c)
{
	const char *word = w->words > 1 ? w->word[1] : "";
	const struct command *sub = NULL;

	for (size_t i = 0; i < sizeof(profiles) / sizeof(profiles[0]); i++)
		if (strcmp(word, profiles[i].name) == 0)
			sub = &profiles[i];
	if (!sub && w->words > 2)
		die(EXIT_USAGE, "'%s' is not a command of profile, use start, stop or dump", word);
	if (w->format && (!sub || sub->words != 3))
		die(EXIT_USAGE, "--format is for profile dump FILE only");
	return sub ? sub : c;
}

static const struct command *command_of(struct wish *w)
{
	const struct command *c = NULL;

	if (w->words == 0)
		die(EXIT_USAGE, "no command given, use " COMMANDS " (--help shows the usage)");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(w->word[0], commands[i].name) == 0)
			c = &commands[i];
	if (!c)
		die(EXIT_USAGE, "'%s' is not a command, use " COMMANDS, w->word[0]);
	if (w->flags && strcmp(c->name, "drain") != 0)
		die(EXIT_USAGE, "%s takes no option except --json (--help shows the usage)",
		    c->name);
	if (strcmp(c->name, "profile") == 0)
		c = profile_of(w, c);
	else if (w->format)
		die(EXIT_USAGE, "--format is for profile dump FILE only");
	if (w->words > c->words + 1)
		die(EXIT_USAGE, "'%s' is one argument too many (--help shows the usage)",
		    w->word[c->words + 1]);
	if (w->words <= c->words)
		die(EXIT_USAGE,
		    *c->args ? "%s needs %sand a process ID (--help shows the usage)"
			     : "%s needs %sa process ID (--help shows the usage)",
		    c->name, c->args);
	return c;
}

/* The other tools lie beside this program, or in PATH. */
static _Noreturn void run(char **args)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - NAME_MAX);
	char *slash;

	path[n > 0 ? n : 0] = '\0';
	slash = strrchr(path, '/');
	if (slash) {
		memcpy(slash + 1, args[0], strlen(args[0]) + 1);
		execv(path, args);
	}
	execvp(args[0], args);
	die(EXIT_REFUSED, "%s cannot be run: %s", args[0], strerror(errno));
}

static bool converts(const struct wish *w)
{
	return w->format && strcmp(w->format, "heap_v2") != 0;
}

/*
 * What the process is to write: the file itself, or what it is converted from. That has a name that
 * nothing has yet and nobody can guess. The process makes the file, with its own rights.
 */
static void name_dump(struct wish *w)
{
	char here[PATH_MAX] = "";
	char end[sizeof(".0123456789abcdef.heap")] = "";
	uint64_t random;
	struct stat st;
	int n;

	if (w->word[2][0] != '/' && !getcwd(here, sizeof(here)))
		die(EXIT_REFUSED, "the current directory: %s", strerror(errno));
	do {
		if (converts(w)) {
			if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
				die(EXIT_REFUSED, "getrandom: %s", strerror(errno));
			snprintf(end, sizeof(end), ".%016" PRIx64 ".heap", random);
		}
		n = snprintf(w->dump, sizeof(w->dump), "%s%s%s%s", here, *here ? "/" : "",
			     w->word[2], end);
		if (n < 0 || (size_t)n >= sizeof(w->dump))
			die(EXIT_USAGE, "'%s' is too long for a file here, use a shorter path",
			    w->word[2]);
	} while (converts(w) && lstat(w->dump, &st) == 0);
}

static void convert(struct wish *w)
{
	char to[CONTROL_REQUEST_MAX];
	int status = -1;
	pid_t child;

	/* Not an option, whatever the name begins with. */
	snprintf(to, sizeof(to), "%s%s", w->word[2][0] == '/' ? "" : "./", w->word[2]);
	child = fork();
	if (child == 0) {
		char *args[] = { (char[]){ "sluice-prof" },
				 (char[]){ "--format" },
				 (char *)(uintptr_t)w->format,
				 (char[]){ "-o" },
				 to,
				 (char[]){ "--" },
				 w->dump,
				 NULL };

		run(args);
	}
	while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (status != 0)
		die(EXIT_REFUSED, "%s is left as the process wrote it", w->dump);
	unlink(w->dump);
}

/* The answer to a dump that the process has named: where the file is. */
static void print_file(pid_t pid, const char *answer)
{
	char link[64];
	char folder[PATH_MAX];
	const char *name = answer + strlen("file ");
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/%d/cwd", (int)pid);
	n = *name == '/' ? 0 : readlink(link, folder, sizeof(folder) - 2);
	if (n > 0)
		folder[n++] = '/';
	folder[n > 0 ? n : 0] = '\0';
	ask_print(stdout, folder);
	ask_print(stdout, name);
}

static int request_of_profile(struct wish *w, char *request, size_t room)
{
	if (w->words == 4)
		name_dump(w);
	return snprintf(request, room, "profile %s%s%s", w->words > 2 ? w->word[1] : "dump",
			w->words == 4 ? " " : "", w->dump);
}

static void request_of(struct wish *w, const char *command, char *request, size_t room)
{
	int n;

	if (!(w->flags & ~(unsigned)SLUICE_DRAIN_ALL))
		w->flags |= SLUICE_DRAIN_IDLE | SLUICE_DRAIN_PURGE;
	if (strcmp(command, "drain") == 0)
		n = snprintf(request, room, "drain %u", w->flags);
	else if (strcmp(command, "purge") == 0)
		n = snprintf(request, room, "drain %u", (unsigned)SLUICE_DRAIN_PURGE);
	else if (strcmp(command, "get") == 0)
		n = snprintf(request, room, "get %s", w->word[1]);
	else if (strcmp(command, "set") == 0)
		n = snprintf(request, room, "set %s %s", w->word[1], w->word[2]);
	else if (strcmp(command, "profile") == 0)
		n = request_of_profile(w, request, room);
	else
		n = snprintf(request, room, "%s", command);
	if (n < 0 || (size_t)n >= room)
		die(EXIT_USAGE, "'%s' is too long for an option", w->word[1]);
}

int main(int argc, char **argv)
{
	struct wish w = { 0 };
	char request[CONTROL_REQUEST_MAX];
	char why[ASK_WHY];
	const struct command *c;
	char *answer;
	pid_t pid;

	parse(argc, argv, &w);
	if (w.help || w.version) {
		fputs(w.help ? usage : ME " " PACKAGE_VERSION "\n", stdout);
		flush_output();
		return 0;
	}
	c = command_of(&w);
	pid = ask_pid(w.word[c->words]);
	if (!pid)
		die(EXIT_USAGE, "'%s' is not a process ID, use a number from 1 on",
		    w.word[c->words]);
	if (strcmp(c->name, "top") == 0)
		run((char *[]){ (char[]){ "sluice-top" }, w.word[1], NULL });
	request_of(&w, w.word[0], request, sizeof(request));
	answer = ask(pid, request, ANSWER_SECONDS, why);
	if (!answer)
		die(EXIT_REFUSED, "%s", why);
	if (converts(&w))
		convert(&w);
	if (w.json)
		print_json(answer);
	else if (strncmp(answer, "file ", 5) == 0 && w.words == 2)
		print_file(pid, answer);
	else if (strncmp(answer, "file ", 5) != 0)
		ask_print(stdout, answer);
	flush_output();
	return 0;
}
