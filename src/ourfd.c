/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ourfd.c - see ourfd.h. Primitive; used by pressure and control.
 * No lock, one thread at a time; no allocation; may run in a fork child.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "ourfd.h"

#include <fcntl.h>
#include <unistd.h>

#define NUMBER_MIN 100

void ourfd_set(struct ourfd *o, int fd)
{
	struct stat st;
	int high;

	o->fd = -1;
	if (fd < 0)
		return;
	high = fcntl(fd, F_DUPFD_CLOEXEC, NUMBER_MIN);
	if (high >= 0) {
		close(fd);
		fd = high;
	}
	if (fstat(fd, &st) != 0) {
		close(fd);
		return;
	}
	*o = (struct ourfd){ fd, st.st_dev, st.st_ino };
}

bool ourfd_good(struct ourfd *o)
{
	struct stat st;

	if (o->fd >= 0 && (fstat(o->fd, &st) != 0 || st.st_dev != o->dev || st.st_ino != o->ino))
		o->fd = -1;
	return o->fd >= 0;
}

void ourfd_close(struct ourfd *o)
{
	if (ourfd_good(o))
		close(o->fd);
	o->fd = -1;
}
