/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ourfd.h - file descriptors of the library in a program that does not know of them.
 *
 * They have the highest numbers below 1024 and the limit (RLIMIT_NOFILE), and close on exec: the
 * program counts on the low numbers, and chooses higher ones by hand. A program that closes all
 * descriptors may give the number to a file of its own, so each use first compares the file with
 * the one that was opened.
 *
 * All but those of ourfd_take are opened at the start. There no other thread can see the low number
 * that a new descriptor has for a moment, and paths have their meaning: later the program may be in
 * a chroot that belongs to another user. Files in /proc and in the cgroup file systems are opened
 * relative to a directory that was checked to be in such a file system, and are checked themselves.
 */
#ifndef SLUICE_OURFD_H
#define SLUICE_OURFD_H

#include <sys/stat.h>

#include "types.h"

struct ourfd {
	int fd; /* -1 if none */
	dev_t dev;
	ino_t ino;
	bool event; /* an eventfd; all share one inode, so it has a mark besides */
};

#define OURFD_NONE                                                                                 \
	{                                                                                          \
		.fd = -1                                                                           \
	}

/* Takes over a descriptor that was just opened, close on exec. fd: -1 if that failed. */
void ourfd_set(struct ourfd *o, int fd);

/* The same for any thread, and for a file that is open for a moment only. Without a free high
 * number it keeps the low one. Closed by ourfd_drop. */
void ourfd_take(struct ourfd *o, int fd);
void ourfd_drop(struct ourfd *o);

/* File system in which a file must lie. */
enum ourfd_fs { OURFD_ANY, OURFD_PROC, OURFD_CGROUP };

/*
 * At the start of the process. init opens /proc. opened follows when the start has opened all
 * files: it leaves no directory open, because in a chroot a directory outside is a way out.
 */
void ourfd_init(void);
void ourfd_opened(void);
extern int ourfd_proc; /* the directory until ourfd_opened; -1 if none */

/* Number of threads of the process, including a first thread that has ended. Returns 0 if
 * unknown. */
unsigned ourfd_threads(void);

/* Closes the files on that device, because the program wants to unmount it. Returns false if
 * none. */
bool ourfd_close_on(dev_t dev);

/* In a child. copy: it may share the table of descriptors with its parent. */
void ourfd_fork_child(bool copy);

/* Whether the root directory is the same as at the start. */
bool ourfd_same_root(void);

/* Open a directory, and a file in it. At the start only; later in the same root, with ourfd_take.
 * They do not wait, and do not follow a link at the end of the path. They return a descriptor to
 * close or to pass to ourfd_set, or -1 if there is no such file, or not in that file system. */
int ourfd_directory(const char *path, enum ourfd_fs fs);
int ourfd_open(int dir, const char *name, int flags, enum ourfd_fs fs);

/* Like ourfd_set, for an eventfd. */
void ourfd_set_event(struct ourfd *o, int fd);

/* Whether the descriptor is open and has the same file. If not, forgets it. */
bool ourfd_good(struct ourfd *o);

/* Drops it without closing: a copy of the process may share its table of descriptors
 * (CLONE_FILES). */
static inline void ourfd_forget(struct ourfd *o)
{
	o->fd = -1;
}

/* Closes it if it is still ours. */
void ourfd_close(struct ourfd *o);

#endif
