/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ourfd.h - a descriptor of the library's own in a program that does not know of it.
 *
 * It is above the low numbers, which programs count on, and closes on exec. A program that closes all
 * descriptors may give the number to a file of its own: so before it is used it is compared with what
 * was opened.
 *
 * All are made at the start, where no other thread can see the low number that a new one has for a moment; and where a path
 * means what it says: later the program may be in a chroot that belongs to somebody else. What lies in /proc and
 * in the cgroup file systems is opened below a directory that was checked to be one of those, and checked itself.
 */
#ifndef SLUICE_OURFD_H
#define SLUICE_OURFD_H

#include <sys/stat.h>

#include "types.h"

struct ourfd {
	int fd; /* -1: none */
	dev_t dev;
	ino_t ino;
	bool event; /* an eventfd, which share one inode: it has a mark as well */
};

#define OURFD_NONE                                                                                 \
	{                                                                                          \
		.fd = -1                                                                           \
	}

/* Take over a descriptor that was just opened (close on exec); -1: none. */
void ourfd_set(struct ourfd *o, int fd);

/* Where a file has to lie. */
enum ourfd_fs { OURFD_ANY, OURFD_PROC, OURFD_CGROUP };

/*
 * At the start of the process: opens /proc; ourfd_opened: all that the start opens is there, and no directory stays open. Who is
 * in a chroot must not have one that is outside: it is a way out.
 */
void ourfd_init(void);
void ourfd_opened(void);
extern int ourfd_proc; /* the directory, until then; -1: none */

/* How many threads the process has, also those that have ended while others go on (the first one); 0: it is not known. */
unsigned ourfd_threads(void);

/* Close what lies in the file system of that device: the program wants to unmount it. False: there was nothing. */
bool ourfd_close_on(dev_t dev);

/* In a child; copy: it may share the table of descriptors with its parent. */
void ourfd_fork_child(bool copy);

/* Whether the root directory is the one that it was at the start. */
bool ourfd_same_root(void);

/* A directory, to open what is in it; a file of it. At the start only. Neither waits, nor follows a link at the end. -1: it is
 * none, or not in such a file system. To be closed, or taken over by ourfd_set. */
int ourfd_directory(const char *path, enum ourfd_fs fs);
int ourfd_open(int dir, const char *name, int flags, enum ourfd_fs fs);

/* The same for an eventfd. */
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
