/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ourfd.c - see ourfd.h. Primitive; used by cgroup, psi, control, pressure, background
 * (ourfd_threads), backtrace, mount (ourfd_close_on) and profile (ourfd_take).
 * No lock; one thread at a time; no allocation; may run in a fork child. Except for ourfd_take and
 * ourfd_drop, which use no state of this file, and for ourfd_close_on, which runs beside the
 * background thread. That thread may then find a descriptor closed, or with another file, as in a
 * program that closes all descriptors.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "base/ourfd.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

#include "base/sandbox.h"
#include "base/sys.h"

#define NUMBER_MIN 100
#define NUMBER_TOP 1024u /* from here on, select has no bit, and fork copies a longer table */
#define EVENT_MARK 61    /* signal of an eventfd (F_SETSIG), never sent */

#ifndef CGROUP2_SUPER_MAGIC
#define CGROUP2_SUPER_MAGIC 0x63677270
#endif

#define KNOWN_MAX 64 /* how many descriptors ourfd_close_on knows at a time */

int ourfd_proc = -1;
static struct ourfd status = OURFD_NONE; /* /proc/self/status */
static struct ourfd known[KNOWN_MAX];    /* copies of all open ones; event: the entry is in use */
static struct stat root;

void ourfd_init(void)
{
	int saved = errno;

	if (sys_fstatat(AT_FDCWD, "/", &root, 0) != 0)
		root.st_ino = 0;
	ourfd_proc = ourfd_directory("/proc", OURFD_PROC);
	errno = saved;
}

void ourfd_opened(void)
{
	int saved = errno;

	if (ourfd_proc >= 0) {
		ourfd_set(&status, ourfd_open(ourfd_proc, "self/status", O_RDONLY, OURFD_PROC));
		sys_close(ourfd_proc);
	}
	ourfd_proc = -1;
	errno = saved;
}

unsigned ourfd_threads(void)
{
	char text[4096];
	const char *line;
	ssize_t n;

	if (!ourfd_good(&status))
		return 0;
	n = sys_pread(status.fd, text, sizeof(text) - 1, 0);
	text[n > 0 ? n : 0] = '\0';
	line = strstr(text, "\nThreads:\t");
	return line ? (unsigned)strtoul(line + 10, NULL, 10) : 0;
}

static void know(const struct ourfd *o)
{
	for (unsigned i = 0; i < KNOWN_MAX; i++) {
		if (!known[i].event) {
			known[i] = *o;
			known[i].event = true;
			return;
		}
	}
}

static bool is_it(const struct ourfd *k, const struct ourfd *o)
{
	return k->event && k->fd == o->fd && k->dev == o->dev && k->ino == o->ino;
}

static void know_no_more(const struct ourfd *o)
{
	for (unsigned i = 0; i < KNOWN_MAX; i++) {
		if (is_it(&known[i], o))
			known[i].event = false;
	}
}

bool ourfd_close_on(dev_t dev)
{
	bool any = false;
	struct stat st;

	for (unsigned i = 0; i < KNOWN_MAX; i++) {
		if (!known[i].event || known[i].dev != dev)
			continue;
		known[i].event = false;
		if (sys_fstat(known[i].fd, &st) == 0 && st.st_dev == dev &&
		    st.st_ino == known[i].ino)
			any = sys_close(known[i].fd) == 0 || any;
	}
	return any;
}

void ourfd_fork_child(bool copy)
{
	if (copy) {
		memset(known, 0, sizeof(known));
		ourfd_forget(&status);
	} else if (status.fd >= 0 && sandbox_enter()) {
		ourfd_close(&status); /* the parent's */
		sandbox_leave();
	}
	status.fd = -1;
}

bool ourfd_same_root(void)
{
	struct stat now;

	return root.st_ino && sys_fstatat(AT_FDCWD, "/", &now, 0) == 0 &&
	       now.st_dev == root.st_dev && now.st_ino == root.st_ino;
}

static int checked(int fd, enum ourfd_fs fs)
{
	struct statfs sfs;
	bool good = fd >= 0 && (fs == OURFD_ANY || sys_fstatfs(fd, &sfs) == 0);

	if (good && fs == OURFD_PROC)
		good = sfs.f_type == PROC_SUPER_MAGIC;
	else if (good && fs == OURFD_CGROUP)
		good = sfs.f_type == CGROUP_SUPER_MAGIC || sfs.f_type == CGROUP2_SUPER_MAGIC;
	if (!good && fd >= 0)
		sys_close(fd);
	return good ? fd : -1;
}

int ourfd_directory(const char *path, enum ourfd_fs fs)
{
	return checked(sys_openat(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
		       fs);
}

int ourfd_open(int dir, const char *name, int flags, enum ourfd_fs fs)
{
	return checked(sys_openat(dir, name,
				  flags | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY),
		       fs);
}

/* A copy with the number below the lowest that is ours, if that is free, or -1: most often the one
 * that a search would find. */
static int next_copy(int fd)
{
	int lowest = 0;
	int copy;

	for (unsigned i = 0; i < KNOWN_MAX; i++) {
		if (known[i].event && (!lowest || known[i].fd < lowest))
			lowest = known[i].fd;
	}
	/* Programs close descriptors that are not theirs; from there on the numbers would sink. */
	if (lowest <= NUMBER_MIN || sys_fcntl(lowest, F_GETFD, 0) < 0)
		return -1;
	copy = sys_fcntl(fd, F_DUPFD_CLOEXEC, lowest - 1);
	if (copy < lowest)
		return copy;
	sys_close(copy);
	return -1;
}

/*
 * A copy of the descriptor with the highest free number below the soft limit and NUMBER_TOP, or -1.
 * Programs and scripts choose the numbers above 100 by hand (exec 200>lock), and bash takes one
 * from 10 on that closes on exec for its own: it puts it back after the script's exec. A limit that
 * the program lowers later leaves what is open above it in use.
 */
static int high_copy(int fd)
{
	struct rlimit limit;
	int high = next_copy(fd);

	if (high >= 0)
		return high;
	if (sys_getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return -1;
	if (limit.rlim_cur > NUMBER_TOP)
		limit.rlim_cur = NUMBER_TOP;
	for (int n = (int)limit.rlim_cur - 1; n >= NUMBER_MIN && high < 0; n--) {
		if (sys_fcntl(n, F_GETFD, 0) < 0)
			high = sys_fcntl(fd, F_DUPFD_CLOEXEC, n);
	}
	return high;
}

void ourfd_set(struct ourfd *o, int fd)
{
	struct stat st;
	int high;

	o->fd = -1;
	if (fd < 0)
		return;
	high = high_copy(fd);
	sys_close(fd);
	if (high < 0)
		return; /* the limit of descriptors is too low */
	if (sys_fstat(high, &st) != 0) {
		sys_close(high);
		return;
	}
	*o = (struct ourfd){ high, st.st_dev, st.st_ino, false };
	know(o);
}

void ourfd_take(struct ourfd *o, int fd)
{
	struct stat st;
	int high = fd < 0 ? -1 : high_copy(fd);

	o->fd = -1;
	if (high >= 0) {
		sys_close(fd);
		fd = high;
	}
	if (fd >= 0 && sys_fstat(fd, &st) == 0)
		*o = (struct ourfd){ fd, st.st_dev, st.st_ino, false };
	else if (fd >= 0)
		sys_close(fd);
}

void ourfd_drop(struct ourfd *o)
{
	if (ourfd_good(o))
		sys_close(o->fd);
	o->fd = -1;
}

void ourfd_set_event(struct ourfd *o, int fd)
{
	ourfd_set(o, fd);
	if (o->fd < 0)
		return;
	o->event = sys_fcntl(o->fd, F_SETSIG, EVENT_MARK) == 0;
	if (!o->event)
		ourfd_close(o);
}

bool ourfd_good(struct ourfd *o)
{
	struct stat st;

	if (o->fd >= 0 &&
	    (sys_fstat(o->fd, &st) != 0 || st.st_dev != o->dev || st.st_ino != o->ino ||
	     (o->event && sys_fcntl(o->fd, F_GETSIG, 0) != EVENT_MARK)))
		o->fd = -1;
	return o->fd >= 0;
}

void ourfd_close(struct ourfd *o)
{
	if (ourfd_good(o)) {
		know_no_more(o);
		sys_close(o->fd);
	}
	o->fd = -1;
}
