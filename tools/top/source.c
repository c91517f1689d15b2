/* SPDX-License-Identifier: BSD-2-Clause */
/* source.c - see source.h. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "top/source.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ctl/ask.h"
#include "reclaim/control.h"
#include "reclaim/export.h"

#define ANSWER_SECONDS 10
#define TRIES 50
#define AGAIN_TRIES 30
#define TRY_MS 10u
#define AGAIN_MS 100u
#define NEW_SECONDS 10 /* a file may be without its lock for a moment after it was made */

static const char *const dirs[] = { EXPORT_DIRS };
#define DIRS (sizeof(dirs) / sizeof(dirs[0]) + 2)

/* The i-th directory in which a process of the user may have its file; NULL: none. */
static const char *directory(unsigned i, uid_t uid, char *buf, size_t room)
{
	const char *own = getenv("XDG_RUNTIME_DIR");

	if (i == 0)
		return own && *own == '/' ? own : NULL;
	if (i == 1) {
		snprintf(buf, room, "/run/user/%u", (unsigned)uid);
		return buf;
	}
	return dirs[i - 2];
}

enum state { NOT_OURS, ALIVE, GONE };

/* What a file is. A file that others may write to, or that is of another user than the process, is
 * not believed. */
static enum state state_of(int fd, uid_t uid)
{
	char head[16];
	struct stat st;

	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_uid != uid ||
	    (st.st_mode & 077) != 0)
		return NOT_OURS;
	if (flock(fd, LOCK_SH | LOCK_NB) != 0)
		return errno == EWOULDBLOCK ? ALIVE : NOT_OURS;
	flock(fd, LOCK_UN);
	if (st.st_size && (pread(fd, head, sizeof(head), 0) != sizeof(head) ||
			   memcmp(head, "sluice-export 1 ", sizeof(head)) != 0))
		return NOT_OURS;
	return time(NULL) - st.st_mtime >= NEW_SECONDS ? GONE : NOT_OURS;
}

static int open_file(const char *dir, const char *name, char *path, size_t room)
{
	int n = snprintf(path, room, "%s/%s", dir, name);

	if (n < 0 || (size_t)n >= room)
		return -1;
	return open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
}

bool source_open(struct source *s, pid_t pid, char *why)
{
	char name[64];
	char proc[64];
	char buf[64];
	struct stat st;

	*s = (struct source){ .pid = pid, .fd = -1 };
	snprintf(name, sizeof(name), EXPORT_NAME "%d", (int)pid);
	snprintf(proc, sizeof(proc), "/proc/%d", (int)pid);
	for (unsigned i = 0; i < DIRS && stat(proc, &st) == 0; i++) {
		const char *dir = directory(i, st.st_uid, buf, sizeof(buf));
		int fd = dir ? open_file(dir, name, s->path, sizeof(s->path)) : -1;

		if (fd >= 0 && state_of(fd, st.st_uid) == ALIVE) {
			s->fd = fd;
			return true;
		}
		if (fd >= 0)
			close(fd);
	}
	s->path[0] = '\0';
	return ask(pid, "top", ANSWER_SECONDS, why) != NULL;
}

/* Reads the file once. Returns false if it was not whole. */
static bool read_whole(int fd, char *text)
{
	char head[EXPORT_HEAD + 1] = "";
	unsigned len;
	unsigned long long sum;

	if (pread(fd, head, EXPORT_HEAD, 0) != EXPORT_HEAD ||
	    sscanf(head, "sluice-export 1 %10u %16llx", &len, &sum) != 2 || len > EXPORT_TEXT_MAX ||
	    pread(fd, text, len, EXPORT_HEAD) != (ssize_t)len)
		return false;
	text[len] = '\0';
	return export_sum(text, len) == sum;
}

static bool sleep_ms(unsigned ms)
{
	const struct timespec t = { .tv_nsec = (long)ms * 1000000 };

	nanosleep(&t, NULL);
	return false;
}

bool (*source_wait)(unsigned ms) = sleep_ms;

/* After the process has called exec, or has closed the file. A new program needs a moment until it
 * can be read. */
static bool open_again(struct source *s, char *why)
{
	close(s->fd);
	for (unsigned i = 0; i < AGAIN_TRIES; i++) {
		if (i && source_wait(AGAIN_MS)) {
			why[0] = '\0';
			break;
		}
		if (source_open(s, s->pid, why))
			return true;
		if (source_has_ended(s))
			break;
	}
	return false;
}

char *source_read(struct source *s, char *why)
{
	static char text[EXPORT_TEXT_MAX + 1];

	if (s->fd >= 0 && flock(s->fd, LOCK_SH | LOCK_NB) == 0 && !open_again(s, why))
		return NULL;
	if (s->fd < 0)
		return ask(s->pid, "top", ANSWER_SECONDS, why);
	for (unsigned i = 0; i < TRIES; i++) {
		if (read_whole(s->fd, text))
			return text;
		if (source_wait(TRY_MS)) {
			why[0] = '\0';
			return NULL;
		}
	}
	snprintf(why, ASK_WHY,
		 "%d: %.100s has no figures: its background thread has not run (with one thread: "
		 "background:always)",
		 (int)s->pid, s->path);
	return NULL;
}

bool source_has_ended(const struct source *s)
{
	return !ask_has_memory(s->pid);
}

/* ---- all ------------------------------------------------------------------------------------- */

static unsigned add(pid_t *pids, unsigned have, unsigned n, pid_t pid)
{
	for (unsigned i = 0; i < have; i++)
		if (pids[i] == pid)
			return have;
	if (have < n)
		pids[have++] = pid;
	return have;
}

static unsigned list_directory(const char *dir, pid_t *pids, unsigned have, unsigned n)
{
	DIR *d = opendir(dir);
	char path[256];

	for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
		bool ours = strncmp(e->d_name, EXPORT_NAME, strlen(EXPORT_NAME)) == 0;
		pid_t pid = ours ? ask_pid(e->d_name + strlen(EXPORT_NAME)) : 0;
		int fd = pid ? open_file(dir, e->d_name, path, sizeof(path)) : -1;
		struct stat st;

		if (fd < 0)
			continue;
		if (fstat(fd, &st) == 0) {
			enum state is = state_of(fd, st.st_uid);

			if (is == ALIVE)
				have = add(pids, have, n, pid);
			else if (is == GONE && st.st_uid == geteuid())
				unlink(path);
		}
		close(fd);
	}
	if (d)
		closedir(d);
	return have;
}

static unsigned list_sockets(pid_t *pids, unsigned have, unsigned n)
{
	FILE *f = fopen("/proc/net/unix", "re");
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		char *at = strstr(line, " @" CONTROL_NAME);
		pid_t pid;

		line[strcspn(line, "\n")] = '\0';
		pid = at ? ask_pid(at + 2 + strlen(CONTROL_NAME)) : 0;
		if (pid)
			have = add(pids, have, n, pid);
	}
	if (f)
		fclose(f);
	return have;
}

unsigned source_list(pid_t *pids, unsigned n)
{
	unsigned have = 0;
	char buf[64];

	for (unsigned i = 0; i < DIRS; i++) {
		const char *dir = directory(i, geteuid(), buf, sizeof(buf));

		if (dir)
			have = list_directory(dir, pids, have, n);
	}
	return list_sockets(pids, have, n);
}
