/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ourfd.c - see ourfd.h. Primitive; used by pressure and control.
 * No lock, one thread at a time; no allocation; may run in a fork child.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "ourfd.h"

#include <errno.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include "sys.h"

#define NUMBER_MIN 100
#define EVENT_MARK 61 /* the signal of an eventfd (F_SETSIG), which nobody is sent */

#ifndef CGROUP2_SUPER_MAGIC
#define CGROUP2_SUPER_MAGIC 0x63677270
#endif

struct ourfd ourfd_proc = OURFD_NONE;
static struct stat root;

void ourfd_init(void)
{
	int saved = errno;

	if (stat("/", &root) != 0)
		root.st_ino = 0;
	ourfd_set(&ourfd_proc, ourfd_directory("/proc", OURFD_PROC));
	errno = saved;
}

bool ourfd_same_root(void)
{
	struct stat now;

	return root.st_ino && stat("/", &now) == 0 && now.st_dev == root.st_dev &&
	       now.st_ino == root.st_ino;
}

static int checked(int fd, enum ourfd_fs fs)
{
	struct statfs sfs;
	bool good = fd >= 0 && (fs == OURFD_ANY || fstatfs(fd, &sfs) == 0);

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

void ourfd_set(struct ourfd *o, int fd)
{
	struct stat st;
	int high;

	o->fd = -1;
	if (fd < 0)
		return;
	high = sys_fcntl(fd, F_DUPFD_CLOEXEC, NUMBER_MIN);
	sys_close(fd);
	if (high < 0)
		return; /* the process may not have so many */
	if (fstat(high, &st) != 0) {
		sys_close(high);
		return;
	}
	*o = (struct ourfd){ high, st.st_dev, st.st_ino, false };
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

	if (o->fd >= 0 && (fstat(o->fd, &st) != 0 || st.st_dev != o->dev || st.st_ino != o->ino ||
			   (o->event && sys_fcntl(o->fd, F_GETSIG, 0) != EVENT_MARK)))
		o->fd = -1;
	return o->fd >= 0;
}

void ourfd_close(struct ourfd *o)
{
	if (ourfd_good(o))
		sys_close(o->fd);
	o->fd = -1;
}
