/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ourfd.h - a descriptor of the library's own in a program that does not know of it.
 *
 * It is above the low numbers, which programs count on, and closes on exec. A program that closes all
 * descriptors may give the number to a file of its own: so before it is used it is compared with what
 * was opened.
 */
#ifndef SLUICE_OURFD_H
#define SLUICE_OURFD_H

#include <sys/stat.h>

#include "types.h"

struct ourfd {
	int fd; /* -1: none */
	dev_t dev;
	ino_t ino;
	uint64_t event; /* an eventfd's number, for those share one inode; 0: no eventfd */
};

#define OURFD_NONE                                                                                 \
	{                                                                                          \
		.fd = -1                                                                           \
	}

/* Take over a descriptor that was just opened (close on exec); -1: none. */
void ourfd_set(struct ourfd *o, int fd);

/* The same for an eventfd; not kept where the kernel does not number them (before 5.2). */
void ourfd_set_event(struct ourfd *o, int fd);

/* Whether it is there and the file that it was; else it is forgotten. */
bool ourfd_good(struct ourfd *o);

/* It is not ours: a copy of the process may share the table of descriptors with its parent (CLONE_FILES). */
static inline void ourfd_forget(struct ourfd *o)
{
	o->fd = -1;
}

/* Close it, if it is still ours. */
void ourfd_close(struct ourfd *o);

#endif
