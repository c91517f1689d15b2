/* SPDX-License-Identifier: BSD-2-Clause */
/* ask.c - see ask.h. Used by sluice-ctl, sluice-top and sluice-stat. Uses libc only. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "ctl/ask.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "reclaim/control.h"

#define DENIED "permission denied, only its user and root may ask"

static __attribute__((format(printf, 3, 4))) void say(char *why, pid_t pid, const char *fmt, ...)
{
	int n = snprintf(why, ASK_WHY, "%d: ", (int)pid);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why + n, ASK_WHY - (size_t)n, fmt, ap);
	va_end(ap);
}

pid_t ask_pid(const char *text)
{
	char *end;
	long pid;

	errno = 0;
	pid = strtol(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || pid <= 0 || pid > 0x3fffffff)
		return 0;
	return (pid_t)pid;
}

static FILE *open_proc(pid_t pid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	return fopen(path, "re");
}

bool ask_has_memory(pid_t pid)
{
	FILE *f = open_proc(pid, "statm");
	unsigned long pages = 0;
	bool has = f && fscanf(f, "%lu", &pages) == 1 && pages;

	if (f)
		fclose(f);
	return has;
}

/* The ID of the process in its own PID namespace. */
static pid_t inner_pid(pid_t pid)
{
	FILE *f = open_proc(pid, "status");
	char line[512];
	pid_t inner = pid;

	while (f && fgets(line, sizeof(line), f)) {
		const char *last = strrchr(line, '\t');

		if (strncmp(line, "NSpid:", 6) == 0 && last)
			inner = (pid_t)atoi(last + 1);
	}
	if (f)
		fclose(f);
	return inner;
}

static bool is_in_other_network(pid_t pid)
{
	char path[64];
	char ours[64] = "";
	char its[64] = "";

	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	return readlink("/proc/self/ns/net", ours, sizeof(ours) - 1) > 0 &&
	       readlink(path, its, sizeof(its) - 1) > 0 && strcmp(ours, its) != 0;
}

/* Says why a process that uses Sluice is not heard. */
static void say_deaf(char *why, pid_t pid)
{
	pid_t inner = inner_pid(pid);
	bool network = is_in_other_network(pid);

	if (inner != pid)
		say(why, pid,
		    "is process %d of another PID namespace, ask it from there: nsenter -t %d "
		    "-p%s",
		    (int)inner, (int)pid, network ? " -n" : "");
	else if (network)
		say(why, pid,
		    "is in another network namespace, ask it from there: nsenter -t %d -n",
		    (int)pid);
	else
		say(why, pid,
		    "does not listen: start it with SLUICE_CONF=control:1 (and with one thread, or "
		    "background:never, it cannot: background:always); if it was, it has closed the "
		    "socket with all its descriptors, as daemons do");
}

/* Says why no process listens. */
static void say_unheard(char *why, pid_t pid)
{
	char *line = NULL;
	size_t len = 0;
	bool loaded = false;
	FILE *f;

	if (kill(pid, 0) != 0 && errno == ESRCH) {
		say(why, pid, "there is no such process");
		return;
	}
	f = open_proc(pid, "maps");
	if (!f && geteuid() != 0)
		say(why, pid, DENIED);
	else if (!f)
		say(why, pid, "does not listen, and its memory maps cannot be read: %s",
		    strerror(errno));
	while (f && getline(&line, &len, f) > 0)
		loaded |= strstr(line, "/libsluice.so") != NULL;
	if (loaded)
		say_deaf(why, pid);
	else if (f && !ask_has_memory(pid))
		say(why, pid,
		    "does not listen, and has no memory: it has ended, or its first thread has, or "
		    "it is a thread of the kernel");
	else if (f)
		say(why, pid, "does not use Sluice, libsluice.so is not loaded");
	free(line);
	if (f)
		fclose(f);
}

/* Returns a socket whose peer is the process and whose calls wait for a second, or -1. */
static int reach(pid_t pid, char *why)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	const struct timeval second = { .tv_sec = 1 };
	const int on = 1;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int len = snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1, CONTROL_NAME "%d",
			   (int)pid);

	if (fd < 0) {
		say(why, pid, "cannot create a socket: %s", strerror(errno));
		return -1;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof(second));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &second, sizeof(second));
	setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
	/* The kernel chooses a name for the answer to come to. */
	if (bind(fd, (struct sockaddr *)&(struct sockaddr_un){ .sun_family = AF_UNIX },
		 sizeof(addr.sun_family)) != 0)
		say(why, pid, "cannot name a socket: %s", strerror(errno));
	else if (connect(fd, (struct sockaddr *)&addr,
			 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len)) ==
		 0)
		return fd;
	else
		say_unheard(why, pid);
	close(fd);
	return -1;
}

/* Any process can take the name, so the sender's ID is taken from the kernel: *peer. */
static ssize_t receive(int fd, char *answer, size_t len, pid_t *peer)
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
	struct ucred from = { 0 };

	if (c && c->cmsg_type == SCM_CREDENTIALS && c->cmsg_len >= CMSG_LEN(sizeof(from)))
		memcpy(&from, CMSG_DATA(c), sizeof(from));
	*peer = from.pid;
	return n;
}

/* Whether it is stopped by a signal or a debugger, and so does not answer. */
static bool is_stopped(pid_t pid)
{
	char line[512] = "";
	const char *state;
	FILE *f = open_proc(pid, "stat");

	if (f && !fgets(line, sizeof(line), f))
		line[0] = '\0';
	if (f)
		fclose(f);
	state = strrchr(line, ')');
	return state && (state[2] == 'T' || state[2] == 't');
}

/* Whether a call that the process has not answered for a second is made again. */
static bool is_awaited(pid_t pid, unsigned *seconds)
{
	return (errno == EAGAIN || errno == EWOULDBLOCK) && --*seconds && !is_stopped(pid);
}

static char *understood(char *answer, pid_t pid, char *why)
{
	char *to = why;
	int n;

	if (strncmp(answer, "ok\n", 3) == 0)
		return answer + 3;
	answer[strcspn(answer, "\n")] = '\0';
	if (strcmp(answer, "error permission denied") == 0) {
		say(why, pid, DENIED);
		return NULL;
	}
	if (strncmp(answer, "error ", 6) == 0)
		answer += 6;
	n = snprintf(why, ASK_WHY, "%d: refused: ", (int)pid);
	for (to += n; *answer && to - why < ASK_WHY - 5; answer++) {
		unsigned char c = (unsigned char)*answer;

		to += c >= 0x20 && c < 0x7f && c != '\\' ? sprintf(to, "%c", c)
							 : sprintf(to, "\\x%02x", c);
	}
	return NULL;
}

/* Says why there is no answer. */
static void say_silent(char *why, pid_t pid, unsigned seconds, bool sent)
{
	int err = errno;

	if (err != EAGAIN && err != EWOULDBLOCK && !sent)
		say(why, pid, "cannot be asked: %s", strerror(err));
	else if (err != EAGAIN && err != EWOULDBLOCK)
		say(why, pid, "ended without an answer");
	else if (is_stopped(pid))
		say(why, pid, "does not answer because it is stopped (kill -CONT continues it)");
	else
		say(why, pid, "no answer within %u s", seconds);
}

char *ask(pid_t pid, const char *request, unsigned seconds, char *why)
{
	static char answer[CONTROL_ANSWER_MAX + 1];
	int fd = reach(pid, why);
	unsigned left = seconds;
	pid_t peer = 0;
	bool sent;
	ssize_t n;

	if (fd < 0)
		return NULL;
	/* Waits if the process has many requests to answer. */
	do
		n = send(fd, request, strlen(request), MSG_NOSIGNAL);
	while (n < 0 && is_awaited(pid, &left));
	sent = n >= 0;
	if (sent)
		do
			n = receive(fd, answer, sizeof(answer) - 1, &peer);
		while (n < 0 && is_awaited(pid, &left));
	if (n < 0)
		say_silent(why, pid, seconds, sent);
	else if (n == 0)
		say(why, pid, "ended without an answer");
	else if (peer != pid)
		say(why, pid, "process %d listens in its name, its answer is ignored", (int)peer);
	close(fd);
	if (n <= 0 || peer != pid)
		return NULL;
	answer[n] = '\0';
	return understood(answer, pid, why);
}

void ask_print(FILE *out, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if ((c >= 0x20 && c < 0x7f && c != '\\') || c == '\n')
			fputc(c, out);
		else
			fprintf(out, "\\x%02x", c);
	}
}

bool ask_is_pair(const char *name, const char *value)
{
	return name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_")] == '\0' && *name &&
	       value[strspn(value, "0123456789")] == '\0' && *value;
}
