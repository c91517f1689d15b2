/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sluice-ctl: ask a running process that uses Sluice to give memory back, or for its statistics.
 * See sluice-ctl(1); src/reclaim/control.h has the protocol.
 *
 * Uses libc only. Exit status: 0; 1 if the process could not be asked or refused; 2 for bad
 * arguments.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <sluice/sluice.h>

#include "reclaim/control.h"

#define ME "sluice-ctl"
#define ANSWER_SECONDS 30

enum { EXIT_REFUSED = 1, EXIT_USAGE = 2 };

static const char usage[] =
	"Usage: " ME " [--json] drain [--caches] [--heaps] [--all] [--purge] [--regions]\n"
	"                              PID\n"
	"       " ME " [--json] stats PID\n"
	"\n"
	"Asks the process PID, which uses Sluice as its malloc with the option control:1:\n"
	"\n"
	"  drain        give memory back now; prints how much. Without options: --heaps --purge\n"
	"    --caches     flush the pcps (page lists) of all threads to the page layer\n"
	"    --heaps      the same, and all caches of threads that are in no call of Sluice\n"
	"    --all        with --heaps: also the working sets of threads at work\n"
	"    --purge      give free memory back to the kernel\n"
	"    --regions    unmap regions that are wholly free\n"
	"  stats        print gauges (bytes, counts) and counters, one \"NAME VALUE\" per line\n"
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

/* ---- the process --------------------------------------------------------------------------- */

static pid_t parse_pid(const char *text)
{
	char *end;
	long pid;

	errno = 0;
	pid = strtol(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || pid <= 0 || pid > 0x3fffffff)
		die(EXIT_USAGE, "'%s' is not a process ID, use a number from 1 on", text);
	return (pid_t)pid;
}

/* Says why no process listens. */
static _Noreturn void die_unheard(pid_t pid)
{
	char path[64];
	char *line = NULL;
	size_t len = 0;
	bool loaded = false;
	FILE *f;

	if (kill(pid, 0) != 0 && errno == ESRCH)
		die(EXIT_REFUSED, "%d: there is no such process", (int)pid);
	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	f = fopen(path, "re");
	if (!f || getline(&line, &len, f) < 0)
		die(EXIT_REFUSED, "%d: permission denied, only its user and root may ask",
		    (int)pid);
	do {
		loaded |= strstr(line, "/libsluice.so") != NULL;
	} while (getline(&line, &len, f) > 0);
	free(line);
	fclose(f);
	if (!loaded)
		die(EXIT_REFUSED, "%d: does not use Sluice, libsluice.so is not loaded", (int)pid);
	die(EXIT_REFUSED,
	    "%d: does not listen, start it with SLUICE_CONF=control:1 (and with one thread, or "
	    "background:never, it cannot: background:always)",
	    (int)pid);
}

static int reach(pid_t pid)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct timeval patience = { .tv_sec = ANSWER_SECONDS };
	const int on = 1;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int len = snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1, CONTROL_NAME "%d",
			   (int)pid);

	if (fd < 0)
		die(EXIT_REFUSED, "cannot create a socket: %s", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
	/* The kernel chooses a name for the answer to come to. */
	if (bind(fd, (struct sockaddr *)&(struct sockaddr_un){ .sun_family = AF_UNIX },
		 sizeof(addr.sun_family)) != 0)
		die(EXIT_REFUSED, "cannot name a socket: %s", strerror(errno));
	if (connect(fd, (struct sockaddr *)&addr,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len)) != 0)
		die_unheard(pid);
	return fd;
}

/* Any process can take the name, so the sender's ID is taken from the kernel. */
static ssize_t receive(int fd, pid_t pid, char *answer, size_t len)
{
	union {
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr align;
	} room;
	struct iovec text = { answer, len };
	struct msghdr m = {
		.msg_iov = &text,
		.msg_iovlen = 1,
		.msg_control = &room,
		.msg_controllen = sizeof(room.bytes),
	};
	ssize_t n = recvmsg(fd, &m, 0);
	const struct cmsghdr *c = n >= 0 ? CMSG_FIRSTHDR(&m) : NULL;
	struct ucred peer = { 0 };

	if (n < 0)
		return n;
	if (c && c->cmsg_type == SCM_CREDENTIALS && c->cmsg_len >= CMSG_LEN(sizeof(peer)))
		memcpy(&peer, CMSG_DATA(c), sizeof(peer));
	if (peer.pid != pid)
		die(EXIT_REFUSED, "%d: process %d listens in its name, its answer is ignored",
		    (int)pid, (int)peer.pid);
	return n;
}

/* The text of another process may go to a terminal: prints all but printable ASCII escaped. */
static void put_line(FILE *out, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if ((c >= 0x20 && c < 0x7f && c != '\\') || c == '\n')
			fputc(c, out);
		else
			fprintf(out, "\\x%02x", c);
	}
}

/* Returns the lines after "ok". */
static char *ask(pid_t pid, const char *request)
{
	static char answer[CONTROL_ANSWER_MAX + 1];
	int fd = reach(pid);
	ssize_t n;

	if (send(fd, request, strlen(request), MSG_NOSIGNAL) < 0)
		die(EXIT_REFUSED, "%d: cannot be asked: %s", (int)pid, strerror(errno));
	n = receive(fd, pid, answer, sizeof(answer) - 1);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		die(EXIT_REFUSED, "%d: no answer within %d s", (int)pid, ANSWER_SECONDS);
	if (n <= 0)
		die(EXIT_REFUSED, "%d: ended without an answer", (int)pid);
	answer[n] = '\0';
	close(fd);
	if (strncmp(answer, "error permission denied", 23) == 0)
		die(EXIT_REFUSED, "%d: permission denied, only its user and root may ask",
		    (int)pid);
	if (strncmp(answer, "ok\n", 3) != 0) {
		answer[strcspn(answer, "\n")] = '\0';
		fprintf(stderr, ME ": %d: refused: ", (int)pid);
		put_line(stderr, answer);
		fputc('\n', stderr);
		exit(EXIT_REFUSED);
	}
	return answer + 3;
}

/* Whether a line is a name, which is a word, and a value, which is a number. */
static bool is_pair(const char *line, const char *value)
{
	return line[strspn(line, "abcdefghijklmnopqrstuvwxyz0123456789_")] == '\0' && *line &&
	       value[strspn(value, "0123456789")] == '\0' && *value;
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
		if (!is_pair(line, value))
			continue;
		printf("%s\n  \"%s\": %s", comma, line, value);
		comma = ",";
	}
	puts("\n}");
}

/* ---- arguments ------------------------------------------------------------------------------- */

struct wish {
	bool json;
	bool help;
	bool version;
	unsigned flags;
	const char *word[2]; /* command, process ID */
	unsigned words;
};

enum { OPT_JSON = 256, OPT_VERSION, OPT_FLAG };

static void parse(int argc, char **argv, struct wish *w)
{
	static const struct option longs[] = {
		{ "json", no_argument, NULL, OPT_JSON },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, OPT_VERSION },
		{ "caches", no_argument, NULL, OPT_FLAG + SLUICE_DRAIN_CACHES },
		{ "heaps", no_argument, NULL, OPT_FLAG + SLUICE_DRAIN_IDLE },
		{ "all", no_argument, NULL, OPT_FLAG + SLUICE_DRAIN_ALL },
		{ "purge", no_argument, NULL, OPT_FLAG + SLUICE_DRAIN_PURGE },
		{ "regions", no_argument, NULL, OPT_FLAG + SLUICE_DRAIN_REGIONS },
		{ NULL, 0, NULL, 0 },
	};
	int opt;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
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
		if (w->words == 2)
			die(EXIT_USAGE, "'%s' is one argument too many (--help shows the usage)",
			    argv[optind]);
		w->word[w->words++] = argv[optind];
	}
}

int main(int argc, char **argv)
{
	struct wish w = { 0 };
	char request[CONTROL_REQUEST_MAX] = "stats";
	char *answer;

	parse(argc, argv, &w);
	if (w.help || w.version) {
		fputs(w.help ? usage : ME " " PACKAGE_VERSION "\n", stdout);
		return 0;
	}
	if (w.words == 0)
		die(EXIT_USAGE, "no command given, use drain or stats (--help shows the usage)");
	if (strcmp(w.word[0], "drain") == 0) {
		if (!(w.flags & ~(unsigned)SLUICE_DRAIN_ALL))
			w.flags |= SLUICE_DRAIN_IDLE | SLUICE_DRAIN_PURGE;
		snprintf(request, sizeof(request), "drain %u", w.flags);
	} else if (strcmp(w.word[0], "stats") != 0) {
		die(EXIT_USAGE, "'%s' is not a command, use drain or stats", w.word[0]);
	} else if (w.flags) {
		die(EXIT_USAGE, "stats takes no option except --json (--help shows the usage)");
	}
	if (w.words == 1)
		die(EXIT_USAGE, "%s needs a process ID (--help shows the usage)", w.word[0]);
	answer = ask(parse_pid(w.word[1]), request);
	if (w.json)
		print_json(answer);
	else
		put_line(stdout, answer);
	if (fflush(stdout) != 0 || ferror(stdout))
		die(EXIT_REFUSED, "standard output: %s", strerror(errno));
	return 0;
}
