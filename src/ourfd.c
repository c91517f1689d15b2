/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ourfd.c - see ourfd.h. Primitive; used by pressure and control.
 * No lock, one thread at a time; no allocation; may run in a fork child.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "ourfd.h"

#include <string.h>

#include "log.h"
#include "sys.h"

#define NUMBER_MIN 100
#define ID_NAME "eventfd-id:"

/* 0: it is none, or cannot be told from others. */
static uint64_t event_number(int fd)
{
	char text[512];
	uint64_t number = 0;
	const char *at;
	ssize_t n = -1;
	int info;

	log_format(text, sizeof(text), "/proc/self/fdinfo/%d", fd);
	info = sys_open(text, O_RDONLY | O_CLOEXEC | O_NOCTTY, 0);
	if (info >= 0) {
		n = sys_read(info, text, sizeof(text) - 1);
		sys_close(info);
	}
	text[n > 0 ? n : 0] = '\0';
	at = strstr(text, ID_NAME);
	for (at = at ? at + strlen(ID_NAME) : ""; *at == ' ' || *at == '\t'; at++)
		;
	for (; *at >= '0' && *at <= '9'; at++)
		number = number * 10 + (uint64_t)(*at - '0');
	return at[0] == '\n' ? number + 1 : 0; /* they begin with 0 */
}

void ourfd_set(struct ourfd *o, int fd)
{
	struct stat st;
	int high;

	o->fd = -1;
	if (fd < 0)
		return;
	high = sys_dup_above(fd, NUMBER_MIN);
	if (high >= 0) {
		sys_close(fd);
		fd = high;
	}
	if (fstat(fd, &st) != 0) {
		sys_close(fd);
		return;
	}
	*o = (struct ourfd){ fd, st.st_dev, st.st_ino, 0 };
}

void ourfd_set_event(struct ourfd *o, int fd)
{
	ourfd_set(o, fd);
	if (o->fd < 0)
		return;
	o->event = event_number(o->fd);
	if (!o->event)
		ourfd_close(o);
}

bool ourfd_good(struct ourfd *o)
{
	struct stat st;

	if (o->fd >= 0 && (fstat(o->fd, &st) != 0 || st.st_dev != o->dev || st.st_ino != o->ino ||
			   (o->event && event_number(o->fd) != o->event)))
		o->fd = -1;
	return o->fd >= 0;
}

void ourfd_close(struct ourfd *o)
{
	if (ourfd_good(o))
		sys_close(o->fd);
	o->fd = -1;
}
